//! (E) `bursar audit verify` and `bursar audit query`: the log, on files alone.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Subcommand;
use clap::builder::PossibleValuesParser;
use serde_json::{Value, json};

use super::{Exit, Globals, Outcome, Trouble, show};
use crate::audit::form::{KINDS, Line};
use crate::audit::query::{self, Filter, Follow};
use crate::audit::told::told;
use crate::audit::verify::{self, Verified};
use crate::audit::{AuditError, DecisionId};
use crate::fault::counted;
use crate::time::Wall;

/// How long between two looks for new records.
const LOOK: Duration = Duration::from_millis(200);

/// Read and verify the audit log; no agent is needed
#[derive(Debug, clap::Args)]
pub(super) struct Audit {
    /// Where the log is [default: `audit.dir` of the configuration]
    #[arg(long, global = true, value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Verify that no record is malformed, missing or out of place
    Verify,
    /// Print records, one a line: told for people, with --json as they stand in the log
    Query(Query),
}

#[derive(Debug, clap::Args)]
struct Query {
    /// The decision, as a reply named it
    #[arg(conflicts_with_all = ["kind", "workload", "provider", "code", "since", "until", "last", "follow"])]
    decision: Option<DecisionId>,
    /// Only records of this kind
    #[arg(long, value_parser = PossibleValuesParser::new(KINDS.map(|(kind, _)| kind)))]
    kind: Option<String>,
    /// Only those of this workload or operator
    #[arg(long, value_name = "NAME")]
    workload: Option<String>,
    /// Only those about this provider
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// Only those with this error code
    #[arg(long)]
    code: Option<String>,
    /// Not before this time, as in `2026-11-21T06:00:00Z`
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Wall>,
    /// Before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<Wall>,
    /// Only the last N of them
    #[arg(short = 'n', long, value_name = "N")]
    last: Option<usize>,
    /// Go on with records as they are written; with -n after the last N that are there
    #[arg(short, long)]
    follow: bool,
}

impl Audit {
    pub(super) fn run(&self, globals: &Globals) -> Outcome {
        let dir = globals.audit_dir(self.dir.as_deref())?;
        if !dir.is_dir() {
            let help = "name the log's folder with `--dir`, or the configuration of its agent with `--config`";
            return Err(Trouble::failed(format!("there is no log in `{}`", dir.display())).help(help));
        }
        match &self.verb {
            Verb::Verify => verify(globals, &dir),
            Verb::Query(Query { decision: Some(id), .. }) => one(globals, &dir, *id),
            Verb::Query(query) if query.follow => follow(globals, &dir, query),
            Verb::Query(query) => many(globals, &dir, query),
        }
    }
}

impl Query {
    fn filter(&self) -> Filter {
        let Self { kind, workload, provider, code, since, until, .. } = self;
        Filter {
            kind: kind.clone(),
            workload: workload.clone(),
            provider: provider.clone(),
            code: code.clone(),
            since: *since,
            until: *until,
        }
    }
}

fn one(globals: &Globals, dir: &Path, id: DecisionId) -> Outcome {
    match query::find(dir, id).map_err(unread)? {
        Some(line) if globals.json => show::line(line.as_str())?,
        Some(line) => {
            let record: Value = serde_json::from_str(line.as_str()).unwrap_or_default();
            show::line(in_ascii(&serde_json::to_string_pretty(&record).unwrap_or_default()))?;
        }
        None => {
            let help = "see that the log is the one of the agent that named it (`--dir`)";
            return Err(Trouble::failed(format!("the log in `{}` has no record `{id}`", dir.display())).help(help));
        }
    }
    Ok(Exit::Done)
}

/// JSON as the log itself writes it, printable ASCII only: text of a log that is not trusted must not steer the terminal.
fn in_ascii(json: &str) -> String {
    let mut units = [0; 2];
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if matches!(c, '\n' | ' '..='~') {
            out.push(c);
        } else {
            out.extend(c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    out
}

fn many(globals: &Globals, dir: &Path, query: &Query) -> Outcome {
    let mut lines = query::query(dir, query.filter()).map_err(unread)?;
    match query.last {
        None => lines.try_for_each(|line| print(globals, &line.map_err(unread)?))?,
        Some(most) => last(globals, lines, most)?,
    }
    Ok(Exit::Done)
}

fn last(globals: &Globals, lines: query::Query, most: usize) -> Result<(), Trouble> {
    let mut last = VecDeque::new();
    for line in lines {
        last.push_back(line.map_err(unread)?);
        if last.len() > most {
            last.pop_front();
        }
    }
    last.iter().try_for_each(|line| print(globals, line))
}

fn follow(globals: &Globals, dir: &Path, query: &Query) -> Outcome {
    let mut follow = Follow::new(dir, query.filter()).map_err(unread)?;
    if let Some(most) = query.last {
        last(globals, follow.before().map_err(unread)?, most)?;
    }
    loop {
        let lines = follow.look().map_err(unread)?;
        lines.iter().try_for_each(|line| print(globals, line))?;
        if lines.is_empty() {
            #[expect(clippy::disallowed_methods, reason = "a command that waits for files has nothing else to do")]
            std::thread::sleep(LOOK);
        }
    }
}

fn print(globals: &Globals, line: &Line) -> Result<(), Trouble> {
    if globals.json { show::line(line.as_str()) } else { show::line(told(line)) }
}

fn verify(globals: &Globals, dir: &Path) -> Outcome {
    let verified = verify::verify(dir).map_err(unread)?;
    if verified.log.is_none() && verified.holds() {
        return Err(Trouble::failed(format!("there is no log in `{}`", dir.display())));
    }
    let exit = if verified.holds() { Exit::Done } else { Exit::Tampering };
    if globals.json {
        show::json(&report(&verified))?;
        return Ok(exit);
    }
    for note in &verified.notes {
        show::line(format!("note: {note}"))?;
    }
    for fault in &verified.faults {
        show::line(format!("fault: {fault}"))?;
    }
    show::line(summary(dir, &verified))?;
    Ok(exit)
}

fn summary(dir: &Path, verified: &Verified) -> String {
    let Verified { segments, first, records, faults, more, .. } = verified;
    let shown = dir.display();
    if verified.holds() {
        let log = verified.log.map_or_else(|| "no log".to_owned(), |log| format!("log {log}"));
        let (records, segments) = (counted(*records, "record"), counted(*segments, "segment"));
        format!("ok: {shown}: {log}, {records} from {first} in {segments}, none missing or out of place")
    } else {
        let (faults, records) = (counted(faults.len() as u64 + more, "fault"), counted(*records, "record"));
        format!("FAILED: {shown}: {faults} among {records}")
    }
}

fn report(verified: &Verified) -> Value {
    let finding = |finding: &verify::Finding| json!({ "file": finding.file, "line": finding.line, "byte": finding.byte, "what": finding.what });
    json!({
        "holds": verified.holds(),
        "log": verified.log.map(|log| log.to_string()),
        "segments": verified.segments,
        "first": verified.first,
        "records": verified.records,
        "bytes": verified.bytes,
        "notes": verified.notes.iter().map(finding).collect::<Vec<_>>(),
        "faults": verified.faults.iter().map(finding).collect::<Vec<_>>(),
        "more": verified.more,
    })
}

fn unread(error: AuditError) -> Trouble {
    let exit = if matches!(error, AuditError::Damaged { .. }) { Exit::Tampering } else { Exit::Failed };
    Trouble::new(exit, error.to_string())
}

/// A time by RFC 3339.
fn time(text: &str) -> Result<Wall, String> {
    let parsed: Result<jiff::Timestamp, _> = text.parse();
    parsed
        .map(|at| Wall::from_micros(at.as_microsecond()))
        .map_err(|_| "write it like `2026-11-21T06:00:00Z`".to_owned())
}
