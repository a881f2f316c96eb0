//! (E) Asking the agent, and what its refusal means for the exit code.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use axum::http::HeaderMap;
use serde::de::DeserializeOwned;

use super::offline::runtime;
use super::{Exit, Globals, Trouble};
use crate::api::client::{Answer, Call, Complaint, NoAnswer};

/// What may help whom the applications' socket keeps out.
const SHUT_OUT: &str =
    "the modes of the socket (`agent.socket_mode`, a listener's `mode`) and of its folder say who may";
/// What helps whom the admin socket keeps out.
const NO_OPERATOR: &str = "run it as root, or as a member of the group that `agent.admin_group` names (`bursar-admin`, where \
                           none is configured)";

/// Asks the agent what an application asks.
pub(super) fn as_application(globals: &Globals, call: Call) -> Result<Answer, Trouble> {
    ask(globals, &globals.socket(), call, SHUT_OUT)
}

/// Asks the agent what an operator asks.
pub(super) fn as_operator(globals: &Globals, call: Call) -> Result<Answer, Trouble> {
    ask(globals, &globals.admin_socket(), call, NO_OPERATOR)
}

/// Whether an agent answers on the admin socket, so that its state is its own to change.
///
/// An agent may run behind a socket that keeps this user out: then it is not said that none does.
pub(super) fn agent_answers(globals: &Globals) -> Result<bool, Trouble> {
    let socket = globals.admin_socket();
    match UnixStream::connect(&socket) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(shut_out(&socket, NO_OPERATOR)),
        Err(_) => Ok(false),
    }
}

/// Asks what an operator asks for a body that goes into `file`; the headers of the answer.
pub(super) fn into_file(globals: &Globals, call: Call, file: &mut File) -> Result<HeaderMap, Trouble> {
    let socket = globals.admin_socket();
    let answered = runtime()?.block_on(call.send_into(&socket, |bytes| file.write_all(bytes)));
    let answer = answered.map_err(|why| unanswered(globals, &socket, &why, NO_OPERATOR))?;
    let headers = answer.headers.clone();
    answer.granted().map_err(|why| refused(&why))?;
    Ok(headers)
}

fn ask(globals: &Globals, socket: &Path, call: Call, shut_out_help: &str) -> Result<Answer, Trouble> {
    runtime()?.block_on(asked(globals, socket, call, shut_out_help))
}

/// The same as [`as_application`], where there is a runtime already.
pub(super) async fn asked_as_application(globals: &Globals, call: Call) -> Result<Answer, Trouble> {
    asked(globals, &globals.socket(), call, SHUT_OUT).await
}

async fn asked(globals: &Globals, socket: &Path, call: Call, shut_out_help: &str) -> Result<Answer, Trouble> {
    call.send(socket).await.map_err(|why| unanswered(globals, socket, &why, shut_out_help))
}

fn unanswered(globals: &Globals, socket: &Path, why: &NoAnswer, shut_out_help: &str) -> Trouble {
    match why {
        NoAnswer::Connect { error, .. } if error.kind() == io::ErrorKind::PermissionDenied => {
            shut_out(socket, shut_out_help)
        }
        NoAnswer::Connect { .. } => globals.guess().into_iter().fold(unavailable(why), Trouble::help),
        NoAnswer::Broken { .. } | NoAnswer::Late(_) => unavailable(why),
    }
}

fn unavailable(why: &NoAnswer) -> Trouble {
    Trouble::new(Exit::Unavailable, why.to_string())
}

fn shut_out(socket: &Path, help: &str) -> Trouble {
    Trouble::failed(format!("this user may not connect to `{}`", socket.display())).help(help)
}

/// The body of a granted answer as a `T`; a refusal as trouble.
pub(super) fn granted<T: DeserializeOwned>(answer: Answer) -> Result<T, Trouble> {
    let body = answer.granted().map_err(|why| refused(&why))?;
    serde_json::from_slice(&body)
        .map_err(|error| Trouble::failed(format!("the agent's answer cannot be read: {error}; is it another version?")))
}

/// What a refusal means: policy's is 3, what may work later is 4, all else is 1.
pub(super) fn refused(why: &Complaint) -> Trouble {
    let exit = match why.error.as_str() {
        "access_denied" | "unidentified" => Exit::Refused,
        "temporarily_unavailable" | "audit_unavailable" | "draining" | "slow_down" | "store_unavailable" => {
            Exit::Unavailable
        }
        "store_damaged" => Exit::Tampering,
        _ => Exit::Failed,
    };
    let provider = why.provider_error.as_ref().map(|error| format!(" (`{error}`)")).unwrap_or_default();
    let trouble = Trouble::new(exit, format!("`{}`{provider}: {}", why.error, why.error_description));
    let remedy = remedy(&why.remedy, why.retry_after);
    let trouble = if remedy.is_empty() { trouble } else { trouble.help(remedy) };
    trouble.decision(why.decision.clone()).retry_after(why.retry_after)
}

/// The remedy, with the seconds where it speaks of the header that nobody sees here.
fn remedy(said: &str, retry_after: Option<u64>) -> String {
    const HEADER: &str = "as `Retry-After` says";
    match retry_after {
        None => said.to_owned(),
        Some(seconds) if said.contains(HEADER) => said.replace(HEADER, &format!("in {seconds} s")),
        Some(seconds) => format!("{said}; try again in {seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_seconds_stand_in_the_remedy() {
        let told = |remedy: &str, wait| super::remedy(remedy, wait);
        assert_eq!(
            told("try again as `Retry-After` says, and less often", Some(5)),
            "try again in 5 s, and less often"
        );
        assert_eq!(told("tell the operator", Some(1)), "tell the operator; try again in 1 s");
        assert_eq!(told("correct the path", None), "correct the path");
    }
}
