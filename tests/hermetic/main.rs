//! Tests that need nothing but this machine.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod policy;
mod policy_hostile;
mod policy_oracle;
