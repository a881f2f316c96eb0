//! Tests that need nothing but this machine and its loopback.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

mod config;
mod document;
mod jwt;
mod oauth;
mod policy;
