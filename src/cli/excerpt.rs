//! (E) A fault with the line that it stands on, for people before a terminal.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError, MietteSpanContents, Severity,
    SourceCode, SourceSpan, SpanContents,
};

use super::show::Weight;
use crate::config::load;
use crate::fault::{Fault, misleads, shown};

/// The texts of the files that faults speak of, each read once.
#[derive(Default)]
pub(super) struct Excerpts(BTreeMap<PathBuf, Option<String>>);

impl Excerpts {
    /// The fault with its line; none where the line cannot be shown, or had better not be.
    pub(super) fn render(&mut self, fault: &Fault, weight: Weight) -> Option<String> {
        let file = &fault.place.file;
        let text = self.0.entry(file.clone()).or_insert_with(|| load::text_of(file).ok()).as_deref()?;
        let line = text.lines().nth(fault.place.line.checked_sub(1)?)?;
        if is_delicate(line) || line.contains(|c| c != '\t' && misleads(c)) {
            return None;
        }
        let at = word_at(line, fault.place.column)?;
        let line = Line { name: file.display().to_string(), text: line.to_owned(), number: fault.place.line };
        let seen = Seen { fault, weight, line, at };
        let mut page = String::new();
        handler().render_report(&mut page, &seen).ok()?;
        Some(page)
    }
}

fn handler() -> GraphicalReportHandler {
    #[expect(clippy::disallowed_methods, reason = "the environment says whether colours are wanted (no-color.org)")]
    let colourless = std::env::var("NO_COLOR").is_ok_and(|value| !value.is_empty());
    let theme = if colourless { GraphicalTheme::unicode_nocolor() } else { GraphicalTheme::unicode() };
    GraphicalReportHandler::new_themed(theme)
}

/// Whether somebody may have written a secret on this line, where only a reference belongs.
fn is_delicate(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    ["secret", "passw", "private", "credential", "api_key", "apikey"].iter().any(|word| line.contains(word))
}

/// The bytes of the word at `column` of `line`.
fn word_at(line: &str, column: usize) -> Option<SourceSpan> {
    let start: usize = line.chars().take(column.saturating_sub(1)).map(char::len_utf8).sum();
    let word = line.get(start..)?;
    let length = word.find([' ', '=', ',', '#']).unwrap_or(word.len()).max(1).min(word.len());
    Some((start, length).into())
}

/// One line of a file. The lines beside it are not shown: somebody may have written a secret there.
struct Line {
    name: String,
    text: String,
    number: usize,
}

impl SourceCode for Line {
    fn read_span<'a>(
        &'a self,
        _: &SourceSpan,
        _: usize,
        _: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let (name, bytes) = (self.name.clone(), self.text.as_bytes());
        let whole = (0, bytes.len()).into();
        Ok(Box::new(MietteSpanContents::new_named(name, bytes, whole, self.number.saturating_sub(1), 0, 1)))
    }
}

struct Seen<'a> {
    fault: &'a Fault,
    weight: Weight,
    line: Line,
    at: SourceSpan,
}

impl fmt::Debug for Seen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.fault, f)
    }
}

impl fmt::Display for Seen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.fault.what))
    }
}

impl std::error::Error for Seen<'_> {}

impl Diagnostic for Seen<'_> {
    fn severity(&self) -> Option<Severity> {
        Some(match self.weight {
            Weight::Error => Severity::Error,
            Weight::Warning => Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.fault.help.as_ref().map(|help| Box::new(shown(help)) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.line)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(std::iter::once(LabeledSpan::underline(self.at))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Place;

    fn render(text: &str, line: usize, column: usize) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("bursar.toml");
        std::fs::write(&file, text).unwrap();
        let place = Place { file, line, column, key: String::new() };
        Excerpts::default()
            .render(&Fault::new(place, "unknown key `tiemout`").help("did you mean `timeout`?"), Weight::Error)
    }

    #[test]
    fn the_line_in_question_is_shown() {
        let page = render("[provider.é]\ntiemout = \"5s\"\n", 2, 1).unwrap();
        assert!(page.contains("tiemout = \"5s\"") && page.contains("did you mean") && page.contains(":2:1"), "{page}");
    }

    #[test]
    fn a_line_that_may_hold_a_secret_is_not_shown() {
        assert_eq!(render("client_secret = \"hunter2\"\n", 1, 17), None);
        assert_eq!(render("Passwort = \"hunter2\"\n", 1, 1), None);
    }

    #[test]
    fn a_place_that_is_not_there_shows_no_line() {
        for (line, column) in [(0, 0), (9, 1), (1, 99)] {
            let _ = render("a = 1\n", line, column);
        }
        assert_eq!(render("a = 1\n", 9, 1), None);
    }
}
