//! (E) The stage: what the tour prints, with colour on a terminal and plain elsewhere.

use std::io::{IsTerminal, Write};

/// Where the tour is told, and whether every step of it held.
pub struct Stage {
    colour: bool,
    steps: usize,
    failed: Vec<String>,
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
    /// A stage on standard output.
    #[must_use]
    pub fn open(plain: bool) -> Self {
        Self { colour: !plain && std::io::stdout().is_terminal(), steps: 0, failed: Vec::new() }
    }

    /// A line of its own.
    pub fn say(&self, text: &str) {
        self.line(Look::Plain, text);
    }

    /// The heading of the next step.
    pub fn step(&mut self, title: &str) {
        self.steps += 1;
        self.line(Look::Plain, "");
        self.line(Look::Title, &format!("{}. {title}", self.steps));
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
        if held {
            self.line(Look::Good, &format!("   ✓ {what}"));
        } else {
            self.line(Look::Bad, &format!("   ✗ {what}"));
            self.failed.push(what.to_owned());
        }
    }

    /// What did not hold.
    #[must_use]
    pub fn failed(&self) -> &[String] {
        &self.failed
    }

    fn line(&self, look: Look, text: &str) {
        let mut out = std::io::stdout().lock();
        // Nobody listens any more: the tour goes on for its exit code.
        let _ = if self.colour && !text.is_empty() {
            writeln!(out, "\x1b[{}m{text}\x1b[0m", look.sgr())
        } else {
            writeln!(out, "{text}")
        };
    }
}
