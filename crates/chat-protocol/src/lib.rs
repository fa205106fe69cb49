#![doc = include_str!("../README.md")]

pub mod chatkit;
mod cursor;
mod errors_doc;
mod json;
pub mod native;
mod page_size;
mod problem;
mod sse;
mod time;

pub use errors_doc::explanation;
pub use problem::{Code, Members, Problem, ProblemBody, Row};
pub use sse::KEEP_ALIVE;
