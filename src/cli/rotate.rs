//! `bursar rotate NAME`, and `bursar rotations`.

use serde::Deserialize;
use serde_json::Value;

use super::ask::{as_operator, granted};
use super::{Exit, Globals, Outcome, Trouble, show};
use crate::api::client::Call;
use crate::broker::How;
use crate::fault::shown;
use crate::name::Name;
use crate::rotation::Status;

/// Start a rotation of a secret
#[derive(Debug, clap::Args)]
pub(super) struct Rotate {
    /// The secret, as `[secret.NAME]` calls it
    name: Name,
    /// Say each act that it would do, and do none
    #[arg(long, conflicts_with = "now")]
    dry_run: bool,
    /// Go past its window, and end the former version without grace
    #[arg(long, requires = "reason")]
    now: bool,
    /// Why: it stands in the record
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// Show the rotations: what is due, running, waiting and for whom, overdue
#[derive(Debug, clap::Args)]
pub(super) struct Rotations {}

/// What the agent answers.
#[derive(Debug, Deserialize)]
pub(super) struct Turned {
    #[serde(default)]
    pub(super) steps: Vec<String>,
    #[serde(default)]
    pub(super) held_by: Vec<String>,
    pub(super) status: Option<Status>,
    failed: Option<String>,
    why: Option<String>,
}

impl Rotate {
    pub(super) fn run(&self, globals: &Globals) -> Outcome {
        let how = match (self.dry_run, self.now) {
            (true, _) => How::Rehearsed,
            (false, true) => How::Now,
            (false, false) => How::Ordinary,
        };
        let turned = turn(globals, &self.name, how, self.reason.as_deref())?;
        if let Some(turned) = turned {
            for (nth, step) in turned.steps.iter().enumerate() {
                show::line(format!("{:>2}. {}", nth + 1, shown(step)))?;
            }
            turned.status.iter().try_for_each(|status| show::line(told(status)))?;
        }
        Ok(Exit::Done)
    }
}

/// Asks for it; the answer, where people read it, or nothing where it has been shown to a program.
pub(super) fn turn(globals: &Globals, name: &Name, how: How, reason: Option<&str>) -> Result<Option<Turned>, Trouble> {
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("how", how.word())
        .append_pair("reason", reason.unwrap_or_default())
        .finish();
    let answer: Value = granted(as_operator(globals, Call::post(format!("/rotations/{name}?{query}")))?)?;
    let unread = |error| Trouble::failed(format!("the agent's answer cannot be read: {error}"));
    let turned = Turned::deserialize(&answer).map_err(unread)?;
    if globals.json {
        show::json(&answer)?;
    }
    if let Some(failed) = &turned.failed {
        let exit = if failed == "unavailable" { Exit::Unavailable } else { Exit::Failed };
        let why = turned.why.as_deref().unwrap_or_default();
        return Err(Trouble::new(exit, format!("`{failed}`: {why}")).help("`bursar rotations` shows how it stands"));
    }
    Ok((!globals.json).then_some(turned))
}

/// How a rotation stands, in a line or two.
pub(super) fn told(status: &Status) -> String {
    let version = |id: &Option<String>| id.as_deref().map_or_else(|| "none".to_owned(), |id| shown(id).into_owned());
    let mut told = format!("{}: version {} is Current", status.secret, version(&status.current));
    if let Some(previous) = &status.previous {
        told += &format!("; {} still works", shown(previous));
    }
    if let Some(waiting) = &status.waiting_for {
        let until = status.next_at.as_deref().map(|at| format!(", until {at} at the latest")).unwrap_or_default();
        told += &format!("; it waits for {waiting}{until}");
    }
    status.holders.iter().fold(told, |told, holder| told + "\n  still held by " + &shown(holder))
}

#[derive(Debug, Deserialize, serde::Serialize)]
struct All {
    rotations: Vec<Status>,
}

impl Rotations {
    #[expect(clippy::unused_self, reason = "every verb runs alike")]
    pub(super) fn run(&self, globals: &Globals) -> Outcome {
        let all: All = granted(as_operator(globals, Call::get("/rotations"))?)?;
        if globals.json {
            show::json(&all)?;
            return Ok(Exit::Done);
        }
        show::line(table(&all.rotations).trim_end())?;
        Ok(Exit::Done)
    }
}

/// A table of all, and below it who is waited for and what failed.
fn table(all: &[Status]) -> String {
    let heads = ["SECRET", "ROTATOR", "STATE", "DUE", "FAILURES", "WAITS FOR"];
    let rows = all.iter().map(|one| {
        let or_dash =
            |text: &Option<String>| text.as_deref().map_or_else(|| "-".to_owned(), |it| shown(it).into_owned());
        let state =
            if one.overdue { format!("{}, overdue", one.state.as_str()) } else { one.state.as_str().to_owned() };
        let failures = one.failures.to_string();
        vec![one.secret.clone(), one.rotator.clone(), state, or_dash(&one.due_at), failures, or_dash(&one.waiting_for)]
    });
    let mut told = show::table(&heads.map(str::to_owned), rows);
    for one in all.iter().filter(|one| one.last_error.is_some() || !one.holders.is_empty()) {
        told += &format!("\n{}\n", one.secret);
        one.last_error.iter().for_each(|why| told += &format!("  failed: {}\n", shown(why)));
        one.holders.iter().for_each(|holder| told += &format!("  still held by {}\n", shown(holder)));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rotation::State;

    fn status() -> Status {
        Status {
            secret: "stripe-api-key".into(),
            rotator: "http".into(),
            state: State::Waiting,
            waiting_for: Some("readers that hold the former version".into()),
            holders: vec!["checkout (process 812)".into()],
            next_at: Some("2026-11-22T06:00:00.000000Z".into()),
            due_at: None,
            overdue: false,
            current: Some("v2".into()),
            current_since: None,
            previous: Some("v1".into()),
            pending: None,
            failures: 0,
            last_error: None,
        }
    }

    #[test]
    fn a_laggard_is_named_below_what_waits_for_it() {
        let told = told(&status());
        assert!(
            told.starts_with("stripe-api-key: version v2 is Current; v1 still works; it waits for readers"),
            "{told}"
        );
        assert!(told.ends_with("\n  still held by checkout (process 812)"), "{told}");
        assert!(table(&[status()]).contains("  still held by checkout (process 812)\n"));
    }
}
