//! ChatKit front ends with the real program.

mod client;
mod threads;
mod types;
