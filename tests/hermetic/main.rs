//! Tests that need nothing but this machine and its loopback.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]
//! Tests that need nothing but this machine.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod jwt;
mod oauth;
mod policy;
//! Tests that need nothing but this machine.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stdout,
    missing_docs,
    reason = "a test may panic, print, and read the environment"
)]

mod secret;
mod store;
mod store_conformance;
mod policy_hostile;
mod policy_oracle;
