#![doc = include_str!("../README.md")]

pub mod chatkit;
pub mod cursor;
pub mod errors_doc;
pub mod json;
pub mod native;
pub mod page_size;
pub mod problem;
pub mod sse;
pub mod time;
