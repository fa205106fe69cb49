//! All that is PostgreSQL's alone.
//!
//! No statement needs a session: what is set is set for one transaction, so that a pooler between
//! us and the database may give each transaction another connection.

mod connections;
pub(crate) mod errors;
mod open;
mod pool;
mod session;
mod writer;

pub(crate) use open::open;
