//! Asking for the values of `bursar exec`: once before the program starts, and then for as long as it runs.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use tokio::sync::mpsc;

use crate::access::Audience;
use crate::api::client::Call;
use crate::broker::Want;
use crate::cli::ask::{asked_as_application, granted};
use crate::cli::{Exit, Globals, Trouble, show};
use crate::retry::Backoff;
use crate::secret::Secret;

/// How often a value is asked for anew at most, and at least.
const SOONEST: Duration = Duration::from_secs(1);
const LATEST: Duration = Duration::from_secs(900);
/// How long the agent is asked to wait: less than the client waits for an answer.
const WAIT_SECONDS: u64 = 45;
/// The status of a reply without a body, to who has the version.
const NOT_MODIFIED: u16 = 304;
/// When it is asked for again that could not be had while the program runs.
const BACKOFF: Backoff = Backoff { first: Duration::from_secs(1), most: Duration::from_secs(60) };

/// The values that were had.
pub(super) type Values = BTreeMap<Want, Secret>;

/// A value, and when it is to be asked for again.
pub(super) struct Got {
    pub(super) value: Secret,
    pub(super) next: Next,
}

/// When a value is to be asked for again.
#[derive(Clone, Debug)]
pub(super) struct Next {
    after: Duration,
    /// The version of a secret: the agent can be asked to wait for another.
    held: Option<String>,
}

#[derive(Deserialize)]
struct SecretAnswer {
    version: String,
    value: String,
    #[serde(default)]
    encoding: Option<String>,
    reread_after: u64,
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    #[serde(default)]
    expires_in: Option<u64>,
}

/// Asks for `want`.
pub(super) async fn ask(globals: &Globals, want: &Want) -> Result<Got, Trouble> {
    match want {
        Want::Secret(name) => {
            let answer = asked_as_application(globals, Call::get(format!("/secret/{name}"))).await?;
            secret_of(granted(answer)?)
        }
        Want::Token { provider, scopes, audience } => {
            let scope = scopes.to_string();
            let mut fields = vec![("grant_type", "client_credentials")];
            if !scope.is_empty() {
                fields.push(("scope", &scope));
            }
            fields.extend(audience.iter().map(Audience::as_str).map(|audience| ("resource", audience)));
            let answer = asked_as_application(globals, Call::form(format!("/token/{provider}"), fields)).await?;
            let TokenAnswer { access_token, expires_in } = granted(answer)?;
            // Three quarters on, it has been refreshed; what has not been is asked for sooner and sooner.
            let after = Duration::from_secs(expires_in.unwrap_or(LATEST.as_secs())).mul_f64(0.75);
            Ok(Got { value: Secret::new(access_token.into_bytes()), next: Next { after, held: None } })
        }
    }
}

/// Waits at the agent until `want` has another version than `held`; none: it had none for as long as the agent waits.
async fn wait(globals: &Globals, want: &Want, held: &str) -> Result<Option<Got>, Trouble> {
    let Want::Secret(name) = want else { return ask(globals, want).await.map(Some) };
    let call = Call::get(format!("/secret/{name}?wait={WAIT_SECONDS}&version={held}"));
    let answer = asked_as_application(globals, call).await?;
    if answer.status.as_u16() == NOT_MODIFIED { Ok(None) } else { secret_of(granted(answer)?).map(Some) }
}

fn secret_of(answer: SecretAnswer) -> Result<Got, Trouble> {
    let SecretAnswer { version, value, encoding, reread_after } = answer;
    let unread = || Trouble::failed("the agent's answer holds a value in an encoding that this version does not know");
    let bytes = match encoding.as_deref() {
        None => value.into_bytes(),
        Some("base64") => STANDARD.decode(value).map_err(|_| unread())?,
        Some(_) => return Err(unread()),
    };
    let next = Next { after: Duration::from_secs(reread_after), held: Some(version) };
    Ok(Got { value: Secret::new(bytes), next })
}

/// Asks for each of `wants` for as long as the program runs, and tells of those that changed.
pub(super) fn watch(globals: &Globals, wants: Vec<(Want, Next)>) -> mpsc::Receiver<(Want, Secret)> {
    let (changed, told) = mpsc::channel(16);
    for (want, next) in wants {
        tokio::spawn(follow(globals.clone(), want, next, changed.clone()));
    }
    told
}

async fn follow(globals: Globals, want: Want, mut next: Next, changed: mpsc::Sender<(Want, Secret)>) {
    let (mut failures, mut waits) = (0, true);
    loop {
        let held = next.held.clone().filter(|_| waits && failures == 0);
        let got = match &held {
            Some(held) => wait(&globals, &want, held).await,
            None => {
                tokio::time::sleep(next.after.clamp(SOONEST, LATEST)).await;
                ask(&globals, &want).await.map(Some)
            }
        };
        match got {
            Ok(None) => {}
            Ok(Some(got)) => {
                // An agent that does not wait answers at once with what is known.
                waits &= held.is_none() || held != got.next.held;
                (next, failures) = (got.next, 0);
                if changed.send((want.clone(), got.value)).await.is_err() {
                    return;
                }
            }
            // An agent of another version, which cannot wait.
            Err(trouble) if held.is_some() && trouble.exit() == Exit::Failed => waits = false,
            Err(trouble) => {
                failures += 1;
                next.after = BACKOFF.after(failures, u16::MAX);
                if failures == 1 {
                    tell(&globals, &want, trouble);
                }
            }
        }
    }
}

/// Says once that a value cannot be had any more: the program keeps what it has.
fn tell(globals: &Globals, want: &Want, trouble: Trouble) {
    let what = match want {
        Want::Secret(name) => format!("the secret `{name}`"),
        Want::Token { provider, .. } => format!("a token of `{provider}`"),
    };
    let kept = format!("{what} could not be asked for anew, so the program keeps what it has; it is tried again");
    show::trouble(globals, &trouble.help(kept));
}
