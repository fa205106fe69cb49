//! Connections that fail, and what becomes of them.
