//! A server that speaks the OpenAI chat completions protocol as a test tells it to.
//!
//! It listens on a free port of 127.0.0.1, runs in threads of its own and stops when it is dropped.
//! Each request is recorded. One that a real endpoint would refuse is answered with 400 and the
//! reason, whatever the script says (see [`check_request`]).
//!
//! ```
//! use chat_test_support::stub_agent::{Answer, StubAgent};
//!
//! let agent = StubAgent::with_answers([Answer::error(503, "", "Loading"), Answer::text(["Hel", "lo"])]);
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
