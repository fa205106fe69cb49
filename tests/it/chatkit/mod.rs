//! ChatKit front ends against the program.

mod client;
mod threads;
mod types;
