//! Tests that need nothing but this machine and its loopback.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod cli;
mod config;
mod document;
mod jwt;
mod keys;
mod oauth;
mod peer;
mod policy;
mod policy_hostile;
mod policy_oracle;
mod secret;
mod store;
mod store_conformance;
