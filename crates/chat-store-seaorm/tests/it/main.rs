//! The store, seen from outside.

mod contract;
