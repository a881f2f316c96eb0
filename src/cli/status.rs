//! `bursar status`: how the agent is.

use serde_json::Value;

use super::ask::{as_operator, granted};
use super::{Exit, Globals, Outcome, providers, show};
use crate::api::client::Call;
use crate::fault::shown;

/// Show how the agent is: providers, secrets, stores, log
#[derive(Debug, clap::Args)]
pub(super) struct Status {}

impl Status {
    #[expect(clippy::unused_self, reason = "every verb runs alike")]
    pub(super) fn run(&self, globals: &Globals) -> Outcome {
        let mut status: Value = granted(as_operator(globals, Call::get("/status"))?)?;
        if globals.json {
            show::json(&status)?;
            return Ok(Exit::Done);
        }
        let taken = status.as_object_mut().and_then(|members| members.remove("providers"));
        let entries = providers::read(taken.and_then(|all| all.as_array().cloned()).unwrap_or_default())?;
        let table = if entries.is_empty() { String::new() } else { "\n".to_owned() + &providers::told(&entries) };
        let taken = status.as_object_mut().and_then(|members| members.remove("secrets")).unwrap_or_default();
        show::line((outline(&status, 0) + &table + &secrets(&taken)).trim_end())?;
        Ok(Exit::Done)
    }
}

/// A table of the secrets, and how those fail that cannot be read.
fn secrets(all: &Value) -> String {
    let all: Vec<_> = all.as_array().into_iter().flatten().collect();
    let cell = |one: &Value, key: &str| match one.get(key) {
        Some(Value::String(text)) => shown(text).into_owned(),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) | None => "-".to_owned(),
    };
    let heads = ["SECRET", "STATUS", "VERSION", "AGE", "FAILURES", "WAITING", "STORE"];
    let keys = ["name", "status", "version", "age", "failures", "waiting", "store"];
    let rows = all.iter().map(|one| keys.map(|key| cell(one, key)).to_vec());
    let failing = all.iter().filter(|one| one.get("last_failure").is_some_and(Value::is_string));
    let failures = failing.map(|one| format!("{}: {}\n", cell(one, "name"), cell(one, "last_failure")));
    if all.is_empty() {
        String::new()
    } else {
        format!("\n{}{}", show::table(&heads.map(str::to_owned), rows), failures.collect::<String>())
    }
}

/// The value as indented lines of `key  value`: what is not a provider has no form of its own that would have to be kept up.
fn outline(value: &Value, depth: usize) -> String {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(members) => members.iter().map(|(key, member)| keyed(&indent, key, member, depth)).collect(),
        Value::Array(items) => items.iter().map(|item| outline(item, depth) + "\n").collect(),
        Value::String(text) => format!("{indent}{text}\n"),
        Value::Null | Value::Bool(_) | Value::Number(_) => format!("{indent}{value}\n"),
    }
}

fn keyed(indent: &str, key: &str, member: &Value, depth: usize) -> String {
    match member {
        Value::Object(_) | Value::Array(_) => format!("{indent}{key}\n{}", outline(member, depth + 1)),
        Value::String(text) => format!("{indent}{key:<14} {text}\n"),
        // What is not so is not told.
        Value::Null => String::new(),
        Value::Bool(_) | Value::Number(_) => format!("{indent}{key:<14} {member}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_so_is_not_told() {
        let told = outline(&serde_json::json!({ "log": { "failing_errno": null, "records": 3 }, "ready": true }), 0);
        assert_eq!(told, "log\n  records        3\nready          true\n");
    }
}
