//! What an owner thinks of what was said.

use crate::values::codes;

codes! {
    /// What an owner thinks of a message.
    Feedback {
        /// It helped.
        Positive = "positive",
        /// It did not.
        Negative = "negative",
    }
}
