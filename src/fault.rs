//! A fault in what a person wrote: what is wrong, where, and what to do next.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One thing that is wrong in a file that a person wrote.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Fault {
    /// Where it stands.
    pub place: Place,
    /// What is wrong: lowercase, names in backticks, no full stop.
    pub what: String,
    /// What to do next, where there is one thing to do.
    pub help: Option<String>,
}

/// A place in a file. Lines and columns count from 1, columns in characters; 0 where only the file is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1.
    pub column: usize,
    /// The dotted key, e.g. `provider.stripe.timeout`; empty where none applies.
    pub key: String,
}

impl Place {
    /// The file as a whole.
    #[must_use]
    pub fn file(file: impl Into<PathBuf>) -> Self {
        Self { file: file.into(), ..Self::default() }
    }

    /// The place of byte `offset` of `text`, which is the whole of `file`.
    #[must_use]
    pub fn of_offset(file: impl Into<PathBuf>, text: &str, offset: usize) -> Self {
        let before = text.get(..offset.min(text.len())).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Self {
            file: file.into(),
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).map_or(0, |rest| rest.chars().count()) + 1,
            key: String::new(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        Ok(())
    }
}

impl Fault {
    /// A fault at `place`.
    pub fn new(place: Place, what: impl Into<String>) -> Self {
        Self { place, what: what.into(), help: None }
    }

    /// The same fault, with what to do next.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.place != Place::default() {
            write!(f, "{}: ", self.place)?;
        }
        f.write_str(&shown(&self.what))?;
        if let Some(help) = &self.help {
            write!(f, "\n  help: {}", shown(help))?;
        }
        Ok(())
    }
}

/// `text` as a terminal may have it: control characters and bidirectional marks stand as `\u{202e}`, so that what
/// somebody wrote moves no cursor, begins no line and turns no word around.
#[must_use]
pub fn shown(text: &str) -> Cow<'_, str> {
    if !text.contains(misleads) {
        return Cow::Borrowed(text);
    }
    let escaped = |c: char| if misleads(c) { c.escape_unicode().to_string() } else { c.to_string() };
    Cow::Owned(text.chars().map(escaped).collect())
}

/// Whether `c` shows as something else than a character at its place (Unicode UAX 9 and its line separators).
#[must_use]
pub fn misleads(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What helps where a file may not be read: whoever checks is seldom the agent's user.
pub const AS_THE_AGENT: &str =
    "the agent's user has to be able to read it; to check as that user: `sudo -u bursar bursar check`";

/// `number` of `what`, which is written in the singular: `1 record`, `2 records`.
#[must_use]
pub fn counted(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Every fault that was found, in the order of their places. Never empty when returned as an error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// One fault that stands in no file: the process itself could not do it.
    #[must_use]
    pub fn of_process(what: impl Into<String>) -> Self {
        Fault::new(Place::default(), what).into()
    }

    /// Adds one.
    pub fn push(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    /// Adds all of `more`.
    pub fn append(&mut self, more: Self) {
        self.0.extend(more.0);
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The faults, in the order in which they were found.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.0.iter()
    }

    /// `value` if nothing is wrong, else the faults sorted by place.
    ///
    /// # Errors
    /// The faults, when there is at least one.
    pub fn or<T>(mut self, value: T) -> Result<T, Self> {
        if self.0.is_empty() {
            return Ok(value);
        }
        self.0.sort();
        Err(self)
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Self(vec![fault])
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, fault) in self.0.iter().enumerate() {
            if nth > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_many() {
        assert_eq!([0, 1, 2].map(|n| counted(n, "fault")), ["0 faults", "1 fault", "2 faults"]);
    }

    #[test]
    fn what_somebody_wrote_fools_no_terminal() {
        let fault = Fault::new(Place::file("a"), "`\u{1b}[31m\u{202e}é`").help("b\nc");
        assert_eq!(fault.to_string(), "a: `\\u{1b}[31m\\u{202e}é`\n  help: b\\u{a}c");
    }
}
