//! `bursar revoke NAME`: end what has leaked.

use serde::Deserialize;
use serde_json::Value;

use super::ask::{as_operator, refused};
use super::rotate::{self, Turned, turn};
use super::{Exit, Globals, Outcome, Trouble, show};
use crate::access::SecretId;
use crate::api::client::Call;
use crate::broker::How;
use crate::fault::shown;
use crate::name::Name;

/// End the tokens of a provider, or the version of a rotated secret that has leaked
///
/// Of a provider none is served again, and each is ended there (RFC 7009). Of a secret the former version is ended at
/// once, if it is not over yet, else the current one when another has taken its place; nobody is waited for, and those who
/// held it are named.
#[derive(Debug, clap::Args)]
pub(super) struct Revoke {
    /// The provider, as `[provider.NAME]` calls it; where there is none, the secret, as `[secret.NAME]` calls it
    name: SecretId,
    /// It is the secret, though there is a provider of that name
    #[arg(long, requires = "reason")]
    secret: bool,
    /// Why: it stands in the record
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Ended {
    tokens: usize,
    ended: usize,
    failed: Option<String>,
    why: Option<String>,
}

impl Revoke {
    pub(super) fn run(&self, globals: &Globals) -> Outcome {
        let SecretId::Entry(name) = &self.name else {
            let what = format!("`{}` is in a store: what is rotated, and ended, has an entry", self.name);
            return Err(Trouble::failed(what).help("name it as `[secret.NAME]` of the configuration does"));
        };
        if self.secret {
            return self.of_secret(globals, name);
        }
        let answer = as_operator(globals, Call::post(format!("/providers/{name}/revoke")))?;
        let body = match answer.granted() {
            Ok(body) => body,
            // There is no provider of that name.
            Err(why) if why.error == "invalid_request" => return self.of_secret(globals, name),
            Err(why) => return Err(refused(&why)),
        };
        let answer: Value = serde_json::from_slice(&body)
            .map_err(|error| Trouble::failed(format!("the agent's answer cannot be read: {error}")))?;
        let unread = |error| Trouble::failed(format!("the agent's answer cannot be read: {error}"));
        let ended = Ended::deserialize(&answer).map_err(unread)?;
        if globals.json {
            show::json(&answer)?;
        } else {
            show::line(told(name, &ended))?;
        }
        Ok(exit(&ended))
    }
}

impl Revoke {
    fn of_secret(&self, globals: &Globals, name: &Name) -> Outcome {
        if let Some(Turned { held_by, status, .. }) = turn(globals, name, How::Leaked, self.reason.as_deref())? {
            status.iter().try_for_each(|status| show::line(rotate::told(status)))?;
            held_by.iter().try_for_each(|holder| show::line(format!("  it was held by {}", shown(holder))))?;
        }
        Ok(Exit::Done)
    }
}

fn told(name: &Name, Ended { tokens, ended, why, .. }: &Ended) -> String {
    let taken = format!("tokens of `{name}`: {tokens} taken out of service, {ended} ended at the provider");
    match tokens - ended.min(tokens) {
        0 => taken,
        left => {
            let why = why.as_deref().unwrap_or("there was not enough time for all");
            format!("{taken}; {left} live on there until they expire, or `bursar revoke {name}` ends them: {why}")
        }
    }
}

/// What lives on at the provider was not ended, though it is served no more.
fn exit(Ended { tokens, ended, failed, .. }: &Ended) -> Exit {
    match (ended >= tokens, failed.as_deref()) {
        (true, _) => Exit::Done,
        (false, Some("unavailable" | "credential") | None) => Exit::Unavailable,
        (false, Some(_)) => Exit::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(tokens: usize, ended: usize, failed: Option<&str>) -> Ended {
        Ended { tokens, ended, failed: failed.map(str::to_owned), why: failed.map(str::to_owned) }
    }

    #[test]
    fn what_lives_on_at_the_provider_is_no_success() {
        for (what, code) in [
            (ended(0, 0, None), Exit::Done),
            (ended(3, 3, None), Exit::Done),
            (ended(3, 2, Some("unavailable")), Exit::Unavailable),
            (ended(3, 2, None), Exit::Unavailable),
            (ended(3, 0, Some("unsupported")), Exit::Failed),
            (ended(3, 0, Some("invalid_client")), Exit::Failed),
        ] {
            assert_eq!(exit(&what), code, "{what:?}");
            assert_eq!(told(&"stripe".parse().unwrap(), &what).contains("live on"), code != Exit::Done);
        }
    }
}
