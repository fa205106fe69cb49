//! Agent adapters over HTTP
