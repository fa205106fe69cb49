//! The chat server: wiring and actix-web handlers
