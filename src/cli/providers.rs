//! `bursar providers`: the catalogue of what this host depends on, and how it does.

use std::fmt::Write;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ask::{as_operator, granted};
use super::{Exit, Globals, Outcome, Trouble, show};
use crate::api::client::Call;
use crate::fault::{counted, shown};
use crate::name::Name;

/// Show the providers: who answers for them, how they do, how long their tokens would serve if they died now
#[derive(Debug, clap::Args)]
pub(super) struct Providers {
    /// Show all of this one
    name: Option<Name>,
}

/// What the agent answers; what is not named here is passed on to programs as it is.
#[derive(Debug, Deserialize, Serialize)]
struct Catalogue {
    providers: Vec<Value>,
}

/// What people read of a provider.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Entry {
    name: String,
    status: String,
    owner: Option<String>,
    data_class: Option<String>,
    runbook: Option<String>,
    tags: Vec<String>,
    share: String,
    endpoints: Vec<Endpoint>,
    last_success: Option<String>,
    failures: u32,
    last_failure: Option<String>,
    asked_again_in: u64,
    tokens: u64,
    soonest_expiry: Option<String>,
    outage_budget: Option<u64>,
    budget: Option<Budget>,
}

#[derive(Debug, Deserialize)]
struct Endpoint {
    place: String,
    breaker: String,
}

#[derive(Debug, Deserialize)]
struct Budget {
    left: u32,
    of: u32,
    every: u64,
}

impl Providers {
    pub(super) fn run(&self, globals: &Globals) -> Outcome {
        let mut all: Catalogue = granted(as_operator(globals, Call::get("/providers"))?)?;
        if let Some(name) = &self.name {
            all.providers.retain(|one| one.get("name").and_then(Value::as_str) == Some(name.as_str()));
            if all.providers.is_empty() {
                return Err(Trouble::failed(format!("no provider `{name}` is configured")));
            }
        }
        if globals.json {
            show::json(&all)?;
            return Ok(Exit::Done);
        }
        let entries = read(all.providers)?;
        let told = if self.name.is_some() { entries.iter().map(details).collect() } else { told(&entries) };
        show::line(told.trim_end())?;
        Ok(Exit::Done)
    }
}

/// The entries of an answer.
pub(super) fn read(providers: Vec<Value>) -> Result<Vec<Entry>, Trouble> {
    let unread = |error| Trouble::failed(format!("the agent's answer cannot be read: {error}; is it another version?"));
    providers.into_iter().map(serde_json::from_value).collect::<Result<_, _>>().map_err(unread)
}

/// A table of all, and below it what there is to know of those that fail.
pub(super) fn told(entries: &[Entry]) -> String {
    let heads = ["PROVIDER", "STATUS", "TOKENS", "SERVE FOR", "FAILURES", "LAST SUCCESS", "OWNER", "DATA CLASS"];
    let rows = entries.iter().map(row);
    let table = show::table(&heads.map(str::to_owned), rows);
    let failing = entries.iter().filter(|entry| entry.failures > 0 || entry.status != "ready");
    failing.fold(table, |told, entry| told + "\n" + &details(entry))
}

fn row(entry: &Entry) -> Vec<String> {
    let or_dash =
        |text: &Option<String>| text.as_deref().map_or_else(|| "-".to_owned(), |text| shown(text).into_owned());
    vec![
        entry.name.clone(),
        entry.status.clone(),
        entry.tokens.to_string(),
        entry.outage_budget.map_or_else(|| "-".to_owned(), span),
        entry.failures.to_string(),
        to_the_second(entry.last_success.as_deref()),
        or_dash(&entry.owner),
        or_dash(&entry.data_class),
    ]
}

/// Everything of one provider, a fact a line.
fn details(entry: &Entry) -> String {
    let mut told = format!("{}\n", entry.name);
    let mut line = |key: &str, value: Option<String>| {
        // Writing to a text does not fail.
        let _ = value.map(|value| writeln!(told, "  {key:<14} {}", shown(&value)));
    };
    line("status", Some(entry.status.clone()));
    line("owner", entry.owner.clone());
    line("data class", entry.data_class.clone());
    line("runbook", entry.runbook.clone());
    line("tags", (!entry.tags.is_empty()).then(|| entry.tags.join(" ")));
    line("share", Some(entry.share.clone()));
    for Endpoint { place, breaker } in &entry.endpoints {
        line("endpoint", Some(format!("{place} ({breaker})")));
    }
    line("last success", Some(to_the_second(entry.last_success.as_deref())));
    let failures = entry.last_failure.as_ref().map(|what| format!("{} in a row, the last: {what}", entry.failures));
    line("failures", failures);
    line("asked again", (entry.asked_again_in > 0).then(|| format!("in {}", span(entry.asked_again_in))));
    line("tokens", Some(tokens(entry)));
    line("if it died now", entry.outage_budget.map(|left| format!("the tokens in use would serve for {}", span(left))));
    let budget = entry.budget.as_ref();
    line(
        "budget",
        budget.map(|it| format!("{} left of {} in {}", it.left, counted(it.of.into(), "request"), span(it.every))),
    );
    told
}

fn tokens(entry: &Entry) -> String {
    match entry.soonest_expiry.as_deref() {
        Some(ends) if entry.tokens > 0 => format!("{}, the first ends at {}", entry.tokens, to_the_second(Some(ends))),
        Some(_) | None => entry.tokens.to_string(),
    }
}

/// RFC 3339 without its fraction of a second.
fn to_the_second(at: Option<&str>) -> String {
    at.map_or_else(|| "never".to_owned(), |at| at.split_once('.').map_or(at, |(whole, _)| whole).to_owned() + "Z")
}

/// `45 s`, `27 m`, `3 h 20 m`: as exact as an operator needs it.
fn span(seconds: u64) -> String {
    match (seconds / 3_600, seconds / 60 % 60) {
        (0, 0..=1) => format!("{seconds} s"),
        (0, minutes) => format!("{minutes} m"),
        (hours, 0) => format!("{hours} h"),
        (hours, minutes) => format!("{hours} h {minutes} m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_as_exact_as_an_operator_needs_it() {
        assert_eq!([45, 90, 1_620, 7_200, 12_000].map(span), ["45 s", "90 s", "27 m", "2 h", "3 h 20 m"]);
    }

    #[test]
    fn below_the_table_stands_who_fails_and_why() {
        let entry = |name: &str, failures, status: &str| Entry {
            name: name.into(),
            status: status.into(),
            failures,
            outage_budget: Some(1_620),
            owner: Some("payments".into()),
            runbook: Some("https://wiki.example/stripe".into()),
            last_failure: (failures > 0).then(|| "refused\nwith 401".into()),
            last_success: Some("2026-11-21T06:00:00.123456Z".into()),
            ..Entry::default()
        };
        let told = told(&[entry("crm", 0, "ready"), entry("stripe", 2, "stale")]);
        let lines: Vec<_> = told.lines().collect();
        assert_eq!(
            lines[..3],
            [
                "PROVIDER  STATUS  TOKENS  SERVE FOR  FAILURES  LAST SUCCESS          OWNER     DATA CLASS",
                "crm       ready   0       27 m       0         2026-11-21T06:00:00Z  payments  -",
                "stripe    stale   0       27 m       2         2026-11-21T06:00:00Z  payments  -",
            ]
        );
        assert!(told.contains("runbook        https://wiki.example/stripe\n"), "{told}");
        assert!(told.contains("2 in a row, the last: refused\\u{a}with 401\n"), "{told}");
        assert_eq!(told.matches("if it died now").count(), 1, "who is well is told of in the table alone");
    }
}
