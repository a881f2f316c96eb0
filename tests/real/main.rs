//! Tests against real servers: `tests/run` installs them. Each test starts its own and ends it by its own pid.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test may panic, and print"
)]

mod agent;
mod aws;
mod clients;
mod clocks;
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
#[path = "../hermetic/store_conformance.rs"]
mod store_conformance;
