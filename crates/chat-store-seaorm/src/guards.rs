//! The guards that the fault campaign switches off, one at a time, to show that it notices their
//! absence (`docs/TORTURE.md`). Every other build has all of them.

/// A repeated request is recognised by its idempotency key.
pub(crate) const RECOGNISES_KEYS: bool = !cfg!(sabotage = "idempotency");

/// A claim counts as an attempt.
pub(crate) const COUNTS_ATTEMPTS: bool = !cfg!(sabotage = "refusals");
