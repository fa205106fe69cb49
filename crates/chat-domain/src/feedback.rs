//! An owner's feedback on messages.

use crate::values::codes;

codes! {
    /// An owner's feedback on a message.
    Feedback {
        /// It helped.
        Positive = "positive",
        /// It did not.
        Negative = "negative",
    }
}
