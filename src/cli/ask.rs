//! (E) Asking the agent, and what its refusal means for the exit code.

use std::path::Path;

use serde::de::DeserializeOwned;

use super::{Exit, Trouble};
use crate::api::client::{Answer, Call, Complaint, NoAnswer};

/// Sends `call` to the agent at `socket`.
pub(super) fn ask(socket: &Path, call: Call) -> Result<Answer, Trouble> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Trouble::failed(format!("the runtime cannot be started: {error}")))?;
    runtime.block_on(call.send(socket)).map_err(|why| match why {
        NoAnswer::Connect { .. } | NoAnswer::Broken { .. } | NoAnswer::Late(_) => {
            Trouble::new(Exit::Unavailable, why.to_string())
        }
    })
}

/// The body of a granted answer as a `T`; a refusal as trouble.
pub(super) fn granted<T: DeserializeOwned>(answer: Answer) -> Result<T, Trouble> {
    let body = answer.granted().map_err(refused)?;
    serde_json::from_slice(&body)
        .map_err(|error| Trouble::failed(format!("the agent's answer cannot be read: {error}; is it another version?")))
}

/// What a refusal means: policy's is 3, what may work later is 4, all else is 1.
pub(super) fn refused(why: Complaint) -> Trouble {
    let exit = match why.error.as_str() {
        "access_denied" | "unidentified" => Exit::Refused,
        "temporarily_unavailable" | "audit_unavailable" | "draining" | "slow_down" | "store_unavailable" => {
            Exit::Unavailable
        }
        _ => Exit::Failed,
    };
    let provider = why.provider_error.map(|error| format!(" (`{error}`)")).unwrap_or_default();
    let trouble = Trouble::new(exit, format!("`{}`{provider}: {}", why.error, why.error_description));
    let trouble = if why.remedy.is_empty() { trouble } else { trouble.help(why.remedy) };
    match why.decision {
        Some(decision) => trouble.decision(decision),
        None => trouble,
    }
}
