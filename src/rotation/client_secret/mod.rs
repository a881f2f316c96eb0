//! The rotator `oauth-client-secret`: the client secret by which a provider entry authenticates.
//!
//! Servers differ in what they allow. One that holds two secrets of a client at once is told of the new one beside the
//! old ([`TwoSecrets`]). At any other, a new client is registered, and the old one is deleted ([`NewClients`]).

mod register;
mod two;

pub use register::NewClients;
pub use two::{Body, Call, NotABody, TwoSecrets};

use std::time::Duration;

use super::{Admin, Trouble};
use crate::secret::Secret;
use crate::wire::{Answer, Times, Wire};

/// How long a call may take: less than an act may.
pub const TIMES: Times = Times { connect: Duration::from_secs(5), whole: Duration::from_secs(15), configured: false };
/// How much of an answer is read.
pub const MOST_ANSWER_BYTES: usize = 64 * 1024;

async fn token_of(admin: Option<&Admin>) -> Result<Option<Secret>, Trouble> {
    match admin {
        Some(admin) => admin.read().await.map(Some),
        None => Ok(None),
    }
}

/// Sends a request; the answer, if it is a success.
async fn send(wire: &Wire, request: http::Request<Vec<u8>>) -> Result<Answer, Trouble> {
    let answer = wire.send(request).await.map_err(|why| Trouble::Unavailable(why.0))?;
    let says = || crate::oauth::registration::refusal(&answer);
    match answer.status {
        200..=299 => Ok(answer),
        408 | 425 | 429 | 500..=599 => Err(Trouble::Unavailable(says())),
        _ => Err(Trouble::Refused(says())),
    }
}

fn unsendable() -> Trouble {
    Trouble::Setup("the admin token cannot stand in a header: put it again, without a line break".into())
}
