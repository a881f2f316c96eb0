//! The embedded issuer: a real token endpoint on loopback, for the tour and for tests of applications, which can be
//! told to have a bad day.
//!
//! It speaks RFC 6749 §4.4 with `client_secret_basic` and `client_secret_post`, publishes its metadata
//! (RFC 8414 and OpenID discovery) and its keys (RFC 7517), and signs access tokens as RFC 9068 says. What can go
//! wrong is in [`fault`]; `docs/simulator.md` tells how to use it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::access::Scopes;
use crate::crypto::Random;
use crate::time::Clock;

mod day;
mod desk;
pub mod fault;
mod keys;
mod ledger;
mod listener;
mod routes;

pub use day::{BadDay, Course, NotADay};
pub use keys::NoKey;
pub use ledger::Requests;
pub use listener::Issuer;

/// A client that the issuer knows.
#[derive(Clone)]
pub struct Client {
    /// Its secret. It protects nothing: it is made for this run, or stands in a test.
    pub secret: String,
    /// What it may have.
    pub scopes: Scopes,
    /// How long its tokens live, in whole seconds.
    pub lifetime: Duration,
}

/// What the issuer needs.
pub struct Settings {
    /// Its clients by id.
    pub clients: BTreeMap<String, Client>,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where keys and token ids come from.
    pub random: Arc<dyn Random>,
}
