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
use crate::oauth::registration::refusal;
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

/// Sends a request; the answer, if it is a success. No error repeats one of the secrets that the server is `told`.
async fn send(wire: &Wire, request: http::Request<Vec<u8>>, told: &[&Secret]) -> Result<Answer, Trouble> {
    let answer = wire.send(request).await.map_err(|why| Trouble::Unavailable(why.0))?;
    judged(answer, told)
}

/// The answer, if it is a success; else whether it can have happened.
fn judged(answer: Answer, told: &[&Secret]) -> Result<Answer, Trouble> {
    let says = || refusal(&answer, told);
    match answer.status {
        200..=299 => Ok(answer),
        408 | 425 | 429 | 500..=599 => Err(Trouble::Unavailable(says())),
        401 | 403 => Err(Trouble::Refused(format!("{}: is the token that allows it still valid?", says()))),
        400..=499 => Err(Trouble::Refused(says())),
        300..=399 => Err(Trouble::Nonsense(format!("{}: redirects are not followed, correct the address", says()))),
        _ => Err(Trouble::Nonsense(says())),
    }
}

fn unsendable() -> Trouble {
    Trouble::Setup("the admin token cannot stand in a header: put it again, without a line break".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_no_says_that_nothing_has_happened() {
        let said = |status| {
            let (headers, body) = (http::HeaderMap::new(), Vec::new());
            judged(Answer { status, headers, body, whole: true }, &[]).map(drop)
        };
        assert_eq!(said(204), Ok(()));
        for (status, code) in [
            (101, "nonsense"),
            (302, "nonsense"),
            (401, "refused"),
            (422, "refused"),
            (429, "unavailable"),
            (503, "unavailable"),
        ] {
            assert_eq!(said(status).unwrap_err().code(), code, "{status}");
        }
        assert!(said(403).unwrap_err().to_string().contains("the token that allows it"));
    }
}
