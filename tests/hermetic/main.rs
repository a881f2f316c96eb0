//! Tests that need nothing but this machine and its loopback.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test may panic, print, and read the environment"
)]

mod agent;
mod audit;
mod broker;
mod canary;
mod cli;
mod clocks;
mod config;
mod corpus;
mod document;
mod jwt;
mod keys;
#[path = "../matrix/mod.rs"]
mod matrix;
mod migrating;
mod oauth;
mod peer;
mod policy;
mod policy_hostile;
mod policy_oracle;
mod rollback;
mod rotation;
mod secret;
mod simulator;
mod store;
mod store_conformance;
mod upkeep;

/// A folder that nobody else gets into, whatever the umask: an agent refuses a configuration that others may write.
fn private_folder() -> tempfile::TempDir {
    let owners: std::fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    tempfile::Builder::new().permissions(owners).tempdir().unwrap()
}
