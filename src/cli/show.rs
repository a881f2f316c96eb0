//! (E) What is printed: for people, with the line in question where they sit before it; for programs, as JSON.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;
use serde_json::json;

use super::excerpt::Excerpts;
use super::exit::{Exit, Said, Trouble};
use super::globals::Globals;
use crate::fault::Fault;

/// How bad a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// It stops what was asked.
    Error,
    /// It is allowed and probably not meant.
    Warning,
}

impl Weight {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// Prints `text` and a newline on standard output.
pub(super) fn line(text: impl AsRef<str>) -> Result<(), Trouble> {
    let mut out = io::stdout().lock();
    written(writeln!(out, "{}", text.as_ref()).and_then(|()| out.flush()))
}

/// Prints `bytes` as they are on standard output.
pub(super) fn bytes(bytes: &[u8]) -> Result<(), Trouble> {
    let mut out = io::stdout().lock();
    written(out.write_all(bytes).and_then(|()| out.flush()))
}

/// Prints `value` on standard output: indented on a terminal, on one line else.
pub(super) fn json(value: &impl Serialize) -> Result<(), Trouble> {
    line(json_text(value)?)
}

/// `value` as [`json()`] prints it, without the newline.
pub(super) fn json_text(value: &impl Serialize) -> Result<String, Trouble> {
    let text =
        if io::stdout().is_terminal() { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
    text.map_err(|error| Trouble::failed(format!("the answer cannot be written as JSON: {error}")))
}

/// `rows` below their `heads`, in columns. Plain, so that it can be cut and compared.
pub(super) fn table(heads: &[String], rows: impl Iterator<Item = Vec<String>>) -> String {
    let lines: Vec<_> = std::iter::once(heads.to_vec()).chain(rows).collect();
    let width = |column: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(|cell: &String| cell.chars().count()).max()
    };
    let widths: Vec<_> = (0..heads.len()).map(|column| width(column).unwrap_or_default()).collect();
    let padded = |line: &Vec<String>| {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect::<Vec<_>>();
        cells.join("  ").trim_end().to_owned() + "\n"
    };
    lines.iter().map(padded).collect()
}

/// Prints faults on standard output, with their lines on a terminal.
pub(super) fn faults<'a>(faults: impl Iterator<Item = &'a Fault>, weight: Weight) -> Result<(), Trouble> {
    line(text_of(faults, weight, io::stdout().is_terminal()).trim_end())
}

/// Tells of trouble on standard error, and how it ends.
pub(super) fn trouble(globals: &Globals, trouble: &Trouble) -> Exit {
    let text = if globals.json { json_of(trouble) } else { plain(trouble) };
    if !text.is_empty() {
        // Where standard error is gone too there is nobody left to tell.
        let _ = writeln!(io::stderr().lock(), "{}", text.trim_end());
    }
    trouble.exit()
}

fn written(result: io::Result<()>) -> Result<(), Trouble> {
    result.map_err(|error| {
        let unheard = error.kind() == io::ErrorKind::BrokenPipe;
        if unheard { Trouble::Unheard } else { Trouble::failed(format!("standard output cannot be written: {error}")) }
    })
}

fn json_of(trouble: &Trouble) -> String {
    let value = match trouble {
        Trouble::Faults(faults) => json!({ "faults": faults }),
        Trouble::Said(Said { exit, what, help, decision, retry_after }) => {
            let exit = exit.code();
            json!({ "exit": exit, "error": what, "help": help, "decision": decision, "retry_after": retry_after })
        }
        Trouble::Unheard => return String::new(),
    };
    value.to_string()
}

fn plain(trouble: &Trouble) -> String {
    match trouble {
        Trouble::Faults(faults) => text_of(faults.iter(), Weight::Error, io::stderr().is_terminal()),
        Trouble::Said(Said { what, help, decision, .. }) => {
            let help = help.as_ref().map(|help| format!("\n  help: {help}")).unwrap_or_default();
            let decision = decision.as_ref().map(|id| format!("\n  decision: {id}")).unwrap_or_default();
            format!("error: {what}{help}{decision}")
        }
        Trouble::Unheard => String::new(),
    }
}

fn text_of<'a>(faults: impl Iterator<Item = &'a Fault>, weight: Weight, on_terminal: bool) -> String {
    let mut excerpts = Excerpts::default();
    let one = |fault: &Fault| match excerpts.render(fault, weight).filter(|_| on_terminal) {
        Some(excerpt) => excerpt,
        None => format!("{}: {fault}\n", weight.as_str()),
    };
    faults.map(one).collect()
}
