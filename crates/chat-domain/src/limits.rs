//! Limits of turns, and times of workers.

use std::time::Duration;

/// How much a turn may take, and how workers keep time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnLimits {
    /// The longest user message, in Unicode scalar values.
    pub message_chars: usize,
    /// How many turns may wait in one conversation.
    pub queue: u32,
    /// How many requests to the agent one turn may need.
    pub steps: usize,
    /// How many tool calls one step may make.
    pub calls_per_step: usize,
    /// How many tools of one step run at the same time.
    pub calls_at_once: usize,
    /// The longest text of one step, in bytes.
    pub answer_bytes: usize,
    /// The largest answer of a tool, in bytes of JSON.
    pub tool_output_bytes: usize,
    /// The number of interrupted attempts, usually by the death of a worker, after which a turn
    /// ends as failed.
    pub attempts: u32,
    /// How long a turn may run, over all its attempts. An attempt has what the attempts before have
    /// left.
    pub turn: Duration,
    /// How many tokens of transcript the agent is sent at most, by
    /// [`estimate_tokens`](crate::transcript::estimate_tokens); whole turns are left out, the
    /// oldest first. `None`: all of them, unless the agent refuses to read so much.
    pub context_tokens: Option<usize>,
    /// How long a worker keeps its turns after its last heartbeat.
    pub lease: Duration,
    /// How often a worker renews its lease, saves drafts and learns of cancellations.
    pub heartbeat: Duration,
    /// How often a worker looks for abandoned turns.
    pub sweep: Duration,
    /// How often a worker looks at the store for the readers of turns that do not run here.
    pub poll: Duration,
}

impl Default for TurnLimits {
    fn default() -> Self {
        Self {
            message_chars: 5_000,
            queue: 256,
            steps: 16,
            calls_per_step: 32,
            calls_at_once: 8,
            answer_bytes: 1 << 20,
            tool_output_bytes: 256 << 10,
            attempts: 3,
            turn: Duration::from_secs(15 * 60),
            context_tokens: None,
            lease: Duration::from_secs(10),
            heartbeat: Duration::from_secs(1),
            sweep: Duration::from_secs(2),
            poll: Duration::from_millis(250),
        }
    }
}
