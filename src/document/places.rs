//! Where each key of a document stands.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Source;
use crate::fault::{Fault, Faults, Place};

/// A byte of a file: which file, which byte.
pub(super) type At = (usize, usize);

/// What the walk notes while it passes.
#[derive(Debug, Default)]
pub(super) struct Marks {
    keys: BTreeMap<String, At>,
    lengths: BTreeMap<String, usize>,
    duplicates: Vec<(String, At, At)>,
}

impl Marks {
    /// Notes that `key` stands at `at`, unless another file has said it; `merged`: several files may say a part of it.
    ///
    /// Whether it may stand there.
    pub(super) fn note(&mut self, key: &str, at: At, merged: bool) -> bool {
        match self.keys.get(key) {
            None => drop(self.keys.insert(key.to_owned(), at)),
            Some(first) if !merged && first.0 != at.0 => {
                self.duplicates.push((key.to_owned(), *first, at));
                return false;
            }
            Some(_) => {}
        }
        true
    }

    /// The index of the first of `count` more entries of the array `key`.
    pub(super) fn extend(&mut self, key: &str, count: usize) -> usize {
        let length = self.lengths.entry(key.to_owned()).or_default();
        let first = *length;
        *length += count;
        first
    }

    /// The places, with the texts that the marks speak of.
    pub(super) fn places(self, sources: &[Source]) -> Places {
        Places { sources: sources.to_vec(), keys: self.keys, duplicates: self.duplicates }
    }
}

/// Where each key of a document stands. A key is dotted, an entry of an array has its index: `agent.listener[0].socket`.
#[derive(Clone, Debug, Default)]
pub struct Places {
    sources: Vec<Source>,
    keys: BTreeMap<String, At>,
    duplicates: Vec<(String, At, At)>,
}

impl Places {
    /// Where the value of `key` stands; where it was left out, the place of the table that lacks it.
    #[must_use]
    pub fn of(&self, key: &str) -> Place {
        let found = ancestors(key).find_map(|ancestor| self.keys.get(ancestor));
        let place = match found {
            Some(&at) => self.at(at),
            None => Place::file(self.sources.first().map(|source| source.file.clone()).unwrap_or_default()),
        };
        Place { key: key.to_owned(), ..place }
    }

    /// Whether `key` was said.
    #[must_use]
    pub fn said(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }

    /// The file that says `key`, or else the one that says the table it belongs to: relative paths are relative to it.
    #[must_use]
    pub fn file_of(&self, key: &str) -> PathBuf {
        self.of(key).file
    }

    /// The files that were read, in their order.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.sources.iter().map(|source| source.file.as_path())
    }

    fn at(&self, (file, offset): At) -> Place {
        match self.sources.get(file) {
            Some(source) => Place::of_offset(&source.file, &source.text, offset),
            None => Place::default(),
        }
    }

    /// A fault for each key that two files define.
    pub(super) fn duplicates(&self) -> Faults {
        let mut faults = Faults::default();
        for (key, first, second) in &self.duplicates {
            let place = Place { key: key.clone(), ..self.at(*second) };
            let what = format!("`{key}` is defined twice");
            faults.push(Fault::new(place, what).help(format!("it also stands at {}; keep one", self.at(*first))));
        }
        faults
    }
}

/// `a.b[0].c`, `a.b[0]`, `a.b`, `a`, and the document itself.
fn ancestors(key: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(key), |key| {
        if key.is_empty() {
            return None;
        }
        let end = if key.ends_with(']') { key.rfind('[') } else { key.rfind('.') };
        key.get(..end.unwrap_or(0))
    })
}

/// The dotted key of `key` in `table`, as TOML writes it: quoted where it is no bare key. The top level is `""`.
#[must_use]
pub fn below(table: &str, key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    let key = if bare { key.to_owned() } else { format!("{key:?}") };
    if table.is_empty() { key } else { format!("{table}.{key}") }
}

/// What people call the table at `key`.
pub(super) fn table_name(key: &str) -> String {
    match key.strip_suffix(']').and_then(|key| key.rsplit_once('[')) {
        _ if key.is_empty() => "the top level".to_owned(),
        Some((array, _)) => format!("`[[{array}]]`"),
        None => format!("`[{key}]`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_was_left_out_stands_where_its_table_does() {
        let ancestors: Vec<_> = ancestors("agent.listener[0].socket").collect();
        assert_eq!(ancestors, ["agent.listener[0].socket", "agent.listener[0]", "agent.listener", "agent", ""]);
    }

    #[test]
    fn keys_are_written_as_toml_does() {
        assert_eq!(below("", "agent"), "agent");
        assert_eq!(below("provider", "a.b"), "provider.\"a.b\"");
        assert_eq!(table_name("agent.listener[0]"), "`[[agent.listener]]`");
    }
}
