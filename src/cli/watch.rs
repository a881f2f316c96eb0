//! (E) `bursar secret get NAME --watch`: each version as it becomes current, for as long as somebody reads what is printed.

use std::time::Duration;

use serde_json::Value;

use super::ask::{as_application, granted};
use super::offline::runtime;
use super::{Exit, Globals, Outcome, Trouble, show};
use crate::api::client::{Answer, Call};
use crate::name::Name;

/// How long one question waits: less than the client waits for an answer.
const WAIT_SECONDS: u64 = 45;
/// How long until an agent is asked again that did not answer, where it does not say when.
const REST_SECONDS: u64 = 1;
/// The longest rest, whatever it says.
const LONGEST_REST_SECONDS: u64 = 30;

/// Prints each version of `name`, followed by `end`. An agent that goes is waited for, once it has given one.
pub(super) fn watch(globals: &Globals, name: &Name, end: &[u8]) -> Outcome {
    let (mut held, mut told) = (None::<String>, false);
    loop {
        let query = held.as_ref().map(|id| format!("?wait={WAIT_SECONDS}&version={id}")).unwrap_or_default();
        match as_application(globals, Call::get(format!("/secret/{name}{query}"))).and_then(another) {
            Ok(None) => told = false,
            Ok(Some(answer)) => {
                print(globals, &answer, end)?;
                held = Some(text(&answer, "version")?.to_owned());
                told = false;
            }
            Err(trouble) if held.is_some() && trouble.exit() == Exit::Unavailable => {
                if !std::mem::replace(&mut told, true) {
                    show::trouble(globals, &trouble);
                }
                rest(&trouble)?;
            }
            Err(trouble) => return Err(trouble),
        }
    }
}

/// The version that has become current; none where it is still the one that is held.
fn another(answer: Answer) -> Result<Option<Value>, Trouble> {
    if answer.status.as_u16() == 304 { Ok(None) } else { granted(answer).map(Some) }
}

fn rest(trouble: &Trouble) -> Result<(), Trouble> {
    let seconds = if let Trouble::Said(said) = trouble { said.retry_after } else { None };
    let seconds = seconds.unwrap_or(REST_SECONDS).clamp(REST_SECONDS, LONGEST_REST_SECONDS);
    runtime()?.block_on(async { tokio::time::sleep(Duration::from_secs(seconds)).await });
    Ok(())
}

/// Prints an answer: the value alone, or with `--json` the whole.
pub(super) fn print(globals: &Globals, answer: &Value, end: &[u8]) -> Result<(), Trouble> {
    let mut out = if globals.json { show::json_text(answer)? } else { text(answer, "value")?.to_owned() }.into_bytes();
    out.extend_from_slice(end);
    show::bytes(&out)
}

fn text<'a>(answer: &'a Value, member: &str) -> Result<&'a str, Trouble> {
    let text = answer.get(member).and_then(Value::as_str);
    text.ok_or_else(|| Trouble::failed(format!("the agent's answer holds no `{member}`")))
}
