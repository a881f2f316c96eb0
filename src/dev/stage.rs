//! (E) The stage: what the tour prints, with colour on a terminal and plain elsewhere.

use std::io::{IsTerminal, Write};

use serde::Serialize;

/// Where the tour is told, and whether every step of it held.
pub struct Stage {
    quiet: bool,
    colour: bool,
    steps: Vec<Step>,
}

/// A step of the tour, and what it was there to show.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// Its heading.
    pub title: String,
    /// What was shown, in order.
    pub claims: Vec<Claim>,
}

/// Something that was shown, or was not so.
#[derive(Clone, Debug, Serialize)]
pub struct Claim {
    /// What.
    pub what: String,
    /// Whether it is so.
    pub held: bool,
}

/// How a line looks on a terminal.
#[derive(Clone, Copy)]
enum Look {
    Plain,
    Title,
    Command,
    Good,
    Bad,
    Faint,
}

impl Look {
    const fn sgr(self) -> &'static str {
        match self {
            Self::Plain => "0",
            Self::Title => "1",
            Self::Command => "36",
            Self::Good => "32",
            Self::Bad => "31;1",
            Self::Faint => "2",
        }
    }
}

impl Stage {
    /// A stage on standard output; a quiet one prints nothing, and has its steps to tell at the end.
    #[must_use]
    pub fn open(quiet: bool) -> Self {
        Self { quiet, colour: std::io::stdout().is_terminal(), steps: Vec::new() }
    }

    /// A line of its own.
    pub fn say(&self, text: &str) {
        self.line(Look::Plain, text);
    }

    /// The heading of the next step.
    pub fn step(&mut self, title: &str) {
        self.steps.push(Step { title: title.to_owned(), claims: Vec::new() });
        self.line(Look::Plain, "");
        self.line(Look::Title, &format!("{}. {title}", self.steps.len()));
    }

    /// What a person would type for it.
    pub fn command(&self, text: &str) {
        self.line(Look::Command, &format!("   $ {text}"));
    }

    /// What came of it.
    pub fn shown(&self, text: &str) {
        for line in text.lines() {
            self.line(Look::Plain, &format!("   {line}"));
        }
    }

    /// What to notice.
    pub fn note(&self, text: &str) {
        self.line(Look::Faint, &format!("   {text}"));
    }

    /// What this step is there to show, and whether it is so.
    pub fn holds(&mut self, what: &str, held: bool) {
        let (look, mark) = if held { (Look::Good, '✓') } else { (Look::Bad, '✗') };
        self.line(look, &format!("   {mark} {what}"));
        if let Some(step) = self.steps.last_mut() {
            step.claims.push(Claim { what: what.to_owned(), held });
        }
    }

    /// What was told so far.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// What did not hold.
    #[must_use]
    pub fn failed(&self) -> Vec<&str> {
        let claims = self.steps.iter().flat_map(|step| &step.claims);
        claims.filter(|claim| !claim.held).map(|claim| claim.what.as_str()).collect()
    }

    fn line(&self, look: Look, text: &str) {
        if self.quiet {
            return;
        }
        let mut out = std::io::stdout().lock();
        // Nobody listens any more: the tour goes on for its exit code.
        let _ = if self.colour && !text.is_empty() {
            writeln!(out, "\x1b[{}m{text}\x1b[0m", look.sgr())
        } else {
            writeln!(out, "{text}")
        };
    }
}
