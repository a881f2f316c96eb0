//! Tests that need nothing but this machine.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test may panic, print, and read the environment"
)]

mod secret;
mod store;
mod store_conformance;
