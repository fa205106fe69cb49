//! The program as its users meet it: real processes, real databases, crashes
