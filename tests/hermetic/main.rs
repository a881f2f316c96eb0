//! Tests that need nothing but this machine and its loopback.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

mod cli;
mod config;
mod document;
mod jwt;
mod keys;
mod oauth;
mod policy;
