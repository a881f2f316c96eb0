//! Tests against real servers: `tests/run` installs them. Each test starts its own and ends it by its own pid.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::explicit_write,
    clippy::disallowed_methods,
    clippy::wildcard_enum_match_arm,
    reason = "a test may panic, print, look at the clock and read the environment"
)]

mod agent;
mod aws;
mod bao;
mod clients;
mod clocks;
mod counted;
mod fleet;
mod hub;
mod iam;
mod jose;
#[path = "../matrix/mod.rs"]
mod matrix;
mod oauth;
mod openbao;
mod outage;
mod peers;
mod postgres;
mod proofs;
mod proofs_agent;
mod redis;
mod rig;
mod rotated;
mod rotated_clients;
mod rotators;
mod steady;
mod store_agent;
#[path = "../hermetic/store_conformance.rs"]
mod store_conformance;
mod store_outage;
mod uptake;
