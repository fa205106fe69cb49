//! The guards that the fault campaign switches off, one at a time, to show that it notices their
//! absence (`docs/TORTURE.md`). Every other build has all of them.

/// A write of a turn must name the current epoch of its lease.
pub(crate) const CHECKS_EPOCH: bool = !cfg!(sabotage = "epoch");

/// Tool calls are stored before they run.
pub(crate) const STORES_CALLS_FIRST: bool = !cfg!(sabotage = "write-before-run");

/// A turn that the store refuses permanently is ended.
pub(crate) const ENDS_REFUSED_TURNS: bool = !cfg!(sabotage = "refusals");
