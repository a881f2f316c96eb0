//! Syntax errors, and what may still be believed of a document that has some.

use super::Source;
use super::walk::Found;
use crate::fault::{Fault, Faults, Place};

/// The syntax errors of one file.
pub(super) struct Errors<'a> {
    source: &'a Source,
    errors: Vec<toml::de::Error>,
}

impl<'a> Errors<'a> {
    pub(super) fn of(source: &'a Source, errors: Vec<toml::de::Error>) -> Self {
        Self { source, errors }
    }

    /// These errors, and what the walk found outside the sections that they stand in.
    ///
    /// The parser goes on after an error, and what it makes of the rest of that section is a guess.
    pub(super) fn and(&self, found: Vec<Found>) -> Faults {
        let mut faults = Faults::default();
        let broken: Vec<_> = self.errors.iter().map(|error| self.section(offset(error))).collect();
        for error in self.errors.iter().take(super::walk::MOST_FAULTS) {
            faults.push(Fault::new(self.place(offset(error)), self.message(error)));
        }
        for found in found.into_iter().filter(|found| !broken.iter().any(|section| section.contains(&found.offset))) {
            faults.push(found.fault);
        }
        faults
    }

    fn place(&self, offset: usize) -> Place {
        Place::of_offset(&self.source.file, &self.source.text, offset)
    }

    /// What the parser says, with the key that it says it of.
    fn message(&self, error: &toml::de::Error) -> String {
        let message = error.message().replace('\n', ", ");
        match error.span().filter(|_| message == "duplicate key").and_then(|span| self.source.text.get(span)) {
            Some(key) => format!("`{key}` is said twice in one table"),
            None => format!("this is not TOML: {message}"),
        }
    }

    /// The bytes from the table header before `offset` to the next one.
    fn section(&self, offset: usize) -> std::ops::Range<usize> {
        let text = &self.source.text;
        let (mut start, mut at) = (0, 0);
        for line in text.split_inclusive('\n') {
            if line.trim_start().starts_with('[') {
                if at > offset {
                    return start..at;
                }
                start = at;
            }
            at += line.len();
        }
        start..text.len() + 1
    }
}

fn offset(error: &toml::de::Error) -> usize {
    error.span().map_or(0, |span| span.start)
}
