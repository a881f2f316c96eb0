//! Where the statements of a policy file begin and end, and how deeply they nest: read from the tokens
//! alone, in one pass without recursion, before Cedar's recursive parser sees a byte.
//!
//! The tokens are those of Cedar's grammar as far as it matters here: a `;` outside strings and comments
//! ends a statement and stands nowhere else. A text that Cedar's lexer refuses is refused by Cedar.

use std::collections::HashMap;
use std::path::Path;

use crate::fault::Place;

/// One statement of a policy file: a policy, from its first token to its `;`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statement<'a> {
    /// The text, without the white space and comments before it.
    pub text: &'a str,
    /// The line on which it begins, from 1.
    pub line: usize,
    /// The column in which it begins, in characters, from 1.
    pub column: usize,
    /// How deeply brackets and `if`s stand in one another, at most.
    pub nesting: usize,
    /// How many operators and clauses that nest without a bracket: a chain of them nests to the left.
    pub operators: usize,
}

impl Statement<'_> {
    /// The place in `file` of byte `offset` of the statement.
    pub(super) fn place(&self, file: &Path, offset: usize) -> Place {
        let inner = Place::of_offset(file, self.text, offset);
        let column = if inner.line == 1 { self.column + inner.column - 1 } else { inner.column };
        Place { line: self.line + inner.line - 1, column, ..inner }
    }

    /// The offsets at which entities `kind::"id"` are first written, by kind and id, where these are written without
    /// escapes.
    pub(super) fn entities(&self) -> HashMap<(&str, &str), usize> {
        let words: Vec<_> = tokens(self.text).collect();
        let mut found = HashMap::new();
        for words in words.windows(3) {
            let [kind, colons, id] = words else { continue };
            let id = id.text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
            if let (Some(id), "::") = (id, colons.text) {
                found.entry((kind.text, id)).or_insert(kind.offset);
            }
        }
        found
    }
}

/// The statements of `text`. What follows the last `;` is a statement too, if it has a token.
pub(super) fn statements(text: &str) -> Vec<Statement<'_>> {
    let mut found = Vec::new();
    let mut at = Position { offset: 0, line: 1, column: 1 };
    let mut open: Option<Measure> = None;
    for token in tokens(text) {
        let measure = open.get_or_insert_with(|| Measure::from(token.offset));
        measure.take(token.text);
        if token.text == ";" {
            found.extend(open.take().and_then(|done| done.statement(text, token.end(), &mut at)));
        }
    }
    found.extend(open.and_then(|rest| rest.statement(text, text.len(), &mut at)));
    found
}

/// How far into a file one is.
struct Position {
    offset: usize,
    line: usize,
    column: usize,
}

impl Position {
    fn advance(&mut self, text: &str, to: usize) {
        let passed = text.get(self.offset..to).unwrap_or_default();
        self.column = match passed.rsplit_once('\n') {
            Some((_, line)) => line.chars().count() + 1,
            None => self.column + passed.chars().count(),
        };
        self.line += passed.matches('\n').count();
        self.offset = to;
    }
}

/// What is counted while a statement is read.
struct Measure {
    begins: usize,
    depth: usize,
    ifs: usize,
    nesting: usize,
    operators: usize,
}

impl Measure {
    fn from(begins: usize) -> Self {
        Self { begins, depth: 0, ifs: 0, nesting: 0, operators: 0 }
    }

    fn take(&mut self, token: &str) {
        match token {
            "(" | "[" | "{" => self.depth += 1,
            ")" | "]" | "}" => self.depth = self.depth.saturating_sub(1),
            // `else if` chains nest without a bracket, and nothing tells where one ends.
            "if" => self.ifs += 1,
            "&&" | "||" | "." | "!" | "-" | "+" | "*" | "when" | "unless" => self.operators += 1,
            _ => {}
        }
        self.nesting = self.nesting.max(self.depth + self.ifs);
    }

    fn statement<'a>(self, text: &'a str, end: usize, at: &mut Position) -> Option<Statement<'a>> {
        at.advance(text, self.begins);
        let Self { begins, nesting, operators, .. } = self;
        Some(Statement { text: text.get(begins..end)?, line: at.line, column: at.column, nesting, operators })
    }
}

#[derive(Clone, Copy)]
struct Token<'a> {
    offset: usize,
    text: &'a str,
}

impl Token<'_> {
    fn end(&self) -> usize {
        self.offset + self.text.len()
    }
}

fn tokens(text: &str) -> impl Iterator<Item = Token<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let rest = text.get(at..)?;
            let first = rest.chars().next()?;
            let length = length(rest, first);
            let offset = at;
            at += length;
            if !first.is_whitespace() && !rest.starts_with("//") {
                return Some(Token { offset, text: rest.get(..length)? });
            }
        }
    })
}

/// The length in bytes of the token, comment or white-space character with which `rest` begins.
fn length(rest: &str, first: char) -> usize {
    let until = |found: Option<usize>| found.unwrap_or(rest.len());
    let is_word = |c: char| c == '_' || c.is_ascii_alphanumeric();
    if rest.starts_with("//") {
        until(rest.find(['\n', '\r']))
    } else if ["::", "&&", "||", "==", "!=", "<=", ">="].iter().any(|sign| rest.starts_with(sign)) {
        2
    } else if first == '"' {
        until(string_end(rest))
    } else if is_word(first) {
        until(rest.find(|c| !is_word(c)))
    } else {
        first.len_utf8()
    }
}

/// Where the string with which `rest` begins ends, by `"(\\.|[^"\\])*"`.
fn string_end(rest: &str) -> Option<usize> {
    let mut escaped = false;
    rest.bytes().enumerate().skip(1).find_map(|(at, byte)| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends.then_some(at + 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<&str> {
        statements(text).iter().map(|statement| statement.text).collect()
    }

    #[test]
    fn a_semicolon_in_a_string_or_a_comment_ends_nothing() {
        assert_eq!(texts("a \"x;\\\";\" b; // c;\n d;\n e"), ["a \"x;\\\";\" b;", "d;", "e"]);
        assert_eq!(texts(" // nothing\n\n"), [""; 0]);
        assert_eq!(texts("\"never closed;"), ["\"never closed;"]);
    }

    #[test]
    fn places_count_lines_and_characters() {
        let text = "// é\na; é b\n c;";
        let second = &statements(text)[1];
        assert_eq!((second.line, second.column), (2, 4));
        let place = second.place(Path::new("x.cedar"), second.text.find('c').unwrap());
        assert_eq!((place.line, place.column), (3, 2));
        let place = second.place(Path::new("x.cedar"), second.text.find('b').unwrap());
        assert_eq!((place.line, place.column), (2, 6));
    }

    #[test]
    fn nesting_counts_brackets_and_ifs_and_operators_chains() {
        let measured = &statements("p (([x])) when { if a then b else if c && d.e then f else g };")[0];
        assert_eq!((measured.nesting, measured.operators), (3, 3));
    }

    #[test]
    fn an_entity_is_found_where_it_is_written() {
        let statement = &statements("permit (principal == // Provider::\"x\"\n Provider :: \"x\");")[0];
        let found: Vec<_> = statement.entities().into_iter().collect();
        assert_eq!(found, [(("Provider", "x"), statement.text.rfind("Provider").unwrap())]);
    }
}
