//! A scripted server for the OpenAI chat completions protocol.
//!
//! It listens on a free port of 127.0.0.1, runs in its own threads and stops when it is dropped.
//! Each request is recorded. A request that a real endpoint would reject gets status 400 and the
//! reason, regardless of the script (see [`check_request`]).
//!
//! ```
//! use chat_test_support::stub_agent::{Answer, StubAgent};
//!
//! let agent =
//! StubAgent::with_answers([Answer::error(503, "", "Loading"), Answer::text(["Hel", "lo"])]);
//! let base_url = agent.base_url(); // for the adapter's settings or a server's CHAT_AGENT_URL
//! assert!(base_url.starts_with("http://127.0.0.1:"));
//! assert_eq!(agent.requests().len(), 0);
//! ```

mod answer;
pub mod chunk;
mod recorded;
mod rules;
mod server;

pub use answer::Answer;
pub use chat_domain::testing::Gate;
pub use recorded::{Delivery, Recorded};
pub use rules::{Rejection, check_request};
pub use server::StubAgent;
