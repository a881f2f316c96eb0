//! The book of one secret, which stands in `<prefix>.bursar/<name>`: its versions, what of them is not yet at the
//! secret's path, and what there has to be destroyed. Pure.
//!
//! The book alone decides: each verb is one check-and-set on it. A Current version whose value still stands in the
//! book is promoted and not yet written to the path; a Retired one with a number is over and not yet destroyed there.
//! Whoever comes next pays what is owed, before anything else.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::answer::{self, Face};
use super::mark;
use crate::crypto::Digest;
use crate::name::StoredName;
use crate::secret::Secret;
use crate::store::{Attempt, Notes, Stage, Stages, StoreError, Version, VersionId, Versions};
use crate::time::Wall;

/// The form of the book that is written and read.
const FORM: u32 = 1;

/// The versions of one secret, newest first, with where their values are.
pub struct Book {
    name: StoredName,
    entries: Vec<Entry>,
}

struct Entry {
    version: Version,
    /// Its number at the secret's path.
    kv: Option<u64>,
    value: Option<Secret>,
}

/// What the path shows, held against the book.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// The book knows of it, or knows of it from now on.
    Known,
    /// A version of ours that the book does not know: it was read too early.
    Newer,
}

/// The book as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    bursar: u32,
    versions: Vec<Line>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: String,
    stages: String,
    attempt: String,
    notes: BTreeMap<String, String>,
    created: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kv: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
}

impl Book {
    /// The book of a secret that has none yet.
    #[must_use]
    pub const fn none(name: StoredName) -> Self {
        Self { name, entries: Vec::new() }
    }

    /// The book that was written.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] for what this program does not write.
    pub fn read(name: StoredName, written: Written) -> Result<Self, StoreError> {
        if written.bursar != FORM {
            return Err(StoreError::Damaged(format!(
                "the book of `{name}` has form {}, and this version reads {FORM}: use the version that wrote it",
                written.bursar
            )));
        }
        let damaged =
            || StoreError::Damaged(format!("the book of `{name}` was changed by hand: put back its last version"));
        let entries = written.versions.into_iter().map(entry).collect::<Option<Vec<_>>>().ok_or_else(damaged)?;
        let book = Self { name, entries };
        book.versions()?;
        Ok(book)
    }

    /// The book as it is written.
    #[must_use]
    pub fn written(&self) -> Written {
        Written { bursar: FORM, versions: self.entries.iter().map(line).collect() }
    }

    /// Its versions.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when they break a rule.
    pub fn versions(&self) -> Result<Versions, StoreError> {
        Versions::new(self.name.clone(), self.entries.iter().map(|entry| entry.version.clone()).collect())
    }

    /// Holds the book against what its path shows: what somebody else wrote there is Current from now on.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when the path shows a version that is over.
    pub(super) fn see(&mut self, face: Option<&Face>) -> Result<Seen, StoreError> {
        let Some(face) = face.filter(|face| face.value.is_some()) else { return Ok(Seen::Known) };
        let current = self.entries.iter().find(|entry| entry.version.stages.has(Stage::Current));
        // What is promoted and not yet written there goes over whatever is.
        if current.is_some_and(|current| current.value.is_some() || current.version.id == face.id) {
            return Ok(Seen::Known);
        }
        if face.ours {
            return Ok(Seen::Newer);
        }
        self.adopt(face)?;
        Ok(Seen::Known)
    }

    fn adopt(&mut self, face: &Face) -> Result<(), StoreError> {
        for entry in &mut self.entries {
            if entry.version.stages.has(Stage::Current) {
                entry.version.stages = Stages::of(Stage::Previous);
            } else if entry.version.stages.has(Stage::Previous) {
                entry.version.stages = Stages::of(Stage::Retired);
                entry.version.filled = false;
            }
        }
        let mut attempt = [0; 16];
        attempt
            .copy_from_slice(Digest::of(face.id.as_str().as_bytes()).bytes().first_chunk::<16>().unwrap_or(&[0; 16]));
        let version = Version {
            id: face.id.clone(),
            stages: Stages::of(Stage::Current),
            attempt: Attempt::from_bytes(attempt),
            notes: Notes::default().with(Notes::BY, "another")?.with_time(Notes::PROMOTED, face.created)?,
            created: face.created,
            filled: true,
        };
        self.entries.insert(0, Entry { version, kv: Some(face.version), value: None });
        Ok(())
    }

    /// The book after a verb has made `after` of its versions; `value` is for the version that is Pending.
    pub(super) fn follow(mut self, after: &Versions, value: Option<&Secret>) -> Self {
        let follow = |version: &Version| {
            let at = self.entries.iter().position(|entry| entry.version.id == version.id);
            let before = at.map(|at| self.entries.swap_remove(at));
            let (kv, kept) = before.map_or((None, None), |entry| (entry.kv, entry.value));
            let given =
                value.filter(|_| version.stages.has(Stage::Pending)).map(|value| Secret::copy_of(value.expose()));
            Entry { version: version.clone(), kv, value: given.or(kept).filter(|_| version.filled) }
        };
        let entries = after.iter().map(follow).collect();
        Self { name: self.name, entries }
    }

    /// Takes the value of a version out, where it stands in the book.
    pub(super) fn take_value(&mut self, id: &VersionId) -> Option<Secret> {
        self.entries.iter_mut().find(|entry| entry.version.id == *id)?.value.take()
    }

    /// The number of a version at the path.
    pub(super) fn kv(&self, id: &VersionId) -> Option<u64> {
        self.entries.iter().find(|entry| entry.version.id == *id)?.kv
    }

    /// Whether something promoted is not yet at the path, or something retired still is.
    pub(super) fn owes(&self) -> bool {
        self.unwritten().is_some() || self.doomed().next().is_some()
    }

    /// What is promoted and not yet at the path.
    pub(super) fn unwritten(&self) -> Option<(&VersionId, &Secret)> {
        let current = self.entries.iter().find(|entry| entry.version.stages.has(Stage::Current))?;
        Some((&current.version.id, current.value.as_ref()?))
    }

    /// What is retired and not yet destroyed at the path.
    pub(super) fn doomed(&self) -> impl Iterator<Item = (&VersionId, u64)> {
        let over = self.entries.iter().filter(|entry| entry.version.stages.has(Stage::Retired));
        over.filter_map(|entry| Some((&entry.version.id, entry.kv?)))
    }

    /// Nothing is owed any more: what was promoted is number `kv` at the path, and what was retired is destroyed.
    pub(super) fn paid(&mut self, kv: Option<u64>) {
        for entry in &mut self.entries {
            if entry.version.stages.has(Stage::Retired) {
                entry.kv = None;
            } else if let (true, Some(kv)) = (entry.version.stages.has(Stage::Current), kv) {
                entry.kv = Some(kv);
                entry.value = None;
            }
        }
    }
}

/// The data of a secret's path: `value` for text, `value_base64` for other bytes, and our mark.
pub(super) fn data(id: &VersionId, value: &Secret, version: u64) -> Value {
    let mark = mark::text(id, version);
    match said(value) {
        (Some(text), _) => json!({ "value": text, mark::MEMBER: mark }),
        (None, encoded) => json!({ "value_base64": encoded, mark::MEMBER: mark }),
    }
}

fn said(value: &Secret) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(value.expose()) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(STANDARD.encode(value.expose()))),
    }
}

fn line(entry: &Entry) -> Line {
    let Version { id, stages, attempt, notes, created, filled: _ } = &entry.version;
    let (value, value_base64) = entry.value.as_ref().map_or((None, None), said);
    Line {
        id: id.to_string(),
        stages: stages.to_string(),
        attempt: attempt.to_string(),
        notes: notes.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        created: created.rfc3339().to_string(),
        kv: entry.kv,
        value,
        value_base64,
    }
}

fn entry(line: Line) -> Option<Entry> {
    let stages: Stages = line.stages.parse().ok()?;
    let value = match (line.value, line.value_base64) {
        (Some(text), None) => Some(Secret::new(text.into_bytes())),
        (None, Some(text)) => Some(answer::decode(&text).ok()?),
        (None, None) => None,
        (Some(_), Some(_)) => return None,
    };
    let is_over = stages.has(Stage::Retired);
    let notes = line.notes.iter().try_fold(Notes::default(), |notes, (key, value)| notes.with_stored(key, value));
    let version = Version {
        id: line.id.parse().ok()?,
        stages,
        attempt: line.attempt.parse().ok()?,
        notes: notes.ok()?,
        created: Wall::from_rfc3339(line.created.as_bytes())?,
        filled: !is_over && (value.is_some() || line.kv.is_some()),
    };
    (!is_over || value.is_none()).then_some(Entry { version, kv: line.kv, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> StoredName {
        "n".parse().unwrap()
    }

    fn face(version: u64, data: &str) -> Face {
        let body = format!(
            r#"{{"data":{{"data":{data},"metadata":{{"version":{version},"created_time":"2026-11-21T06:00:00Z"}}}}}}"#
        );
        answer::face(body.as_bytes(), true).unwrap().unwrap()
    }

    /// A book whose Current is promoted and not yet written.
    fn promoted(book: Book, nth: u8, value: &[u8]) -> Book {
        let (attempt, id) = (Attempt::from_bytes([nth; 16]), format!("id-{nth}").parse::<VersionId>().unwrap());
        let mut versions = book.versions().unwrap();
        versions.reserve(Wall::default(), id, &attempt, Wall::default(), &Notes::default()).unwrap();
        versions.fill(&attempt, &Notes::default()).unwrap();
        let mut book = book.follow(&versions, Some(&Secret::copy_of(value)));
        versions.promote(Wall::default(), &attempt).unwrap();
        book = book.follow(&versions, None);
        book
    }

    fn reread(book: &Book) -> Book {
        let text = serde_json::to_vec(&book.written()).unwrap();
        Book::read(name(), serde_json::from_slice(&text).unwrap()).unwrap()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut book = reread(&promoted(Book::none(name()), 1, b"\xff\x00"));
        let (id, value) = book.unwritten().unwrap();
        assert!(id.as_str() == "id-1" && value.matches(b"\xff\x00"));
        book.paid(Some(1));
        let book = reread(&promoted(reread(&book), 2, b"text"));
        assert!(book.unwritten().unwrap().1.matches(b"text"));
        assert_eq!(book.versions().unwrap().at(Stage::Previous).unwrap().id.as_str(), "id-1");
    }

    #[test]
    fn what_another_wrote_is_current_and_its_forerunner_previous() {
        let mut book = promoted(Book::none(name()), 1, b"v");
        assert_eq!(book.see(Some(&face(1, r#"{"value":"w"}"#))), Ok(Seen::Known), "ours goes over it");
        assert!(book.owes());
        book.paid(Some(2));
        assert_eq!(book.see(Some(&face(3, r#"{"value":"w"}"#))), Ok(Seen::Known));
        let versions = book.versions().unwrap();
        assert_eq!(versions.at(Stage::Current).unwrap().notes.get(Notes::BY), Some("another"));
        assert_eq!(versions.at(Stage::Previous).unwrap().id.as_str(), "id-1");
        assert_eq!(book.see(Some(&face(4, r#"{"value":"w","bursar":"4 id-9"}"#))), Ok(Seen::Newer));
    }

    #[test]
    fn what_is_retired_is_owed_its_destruction() {
        let mut book = Book::none(name());
        for nth in 1..=3 {
            book = promoted(book, nth, b"v");
            let doomed: Vec<_> = book.doomed().map(|(_, kv)| kv).collect();
            assert_eq!(doomed, if nth == 3 { vec![1] } else { vec![] });
            book.paid(Some(nth.into()));
            assert!(!book.owes());
        }
    }

    #[test]
    fn a_book_changed_by_hand_is_damaged() {
        let line = r#"{"id":"a","stages":"Current","attempt":"00000000000000000000000000000001","notes":{},"created":"2026-11-21T06:00:00.000000Z","kv":1}"#;
        let read = |lines: &str| {
            let written = serde_json::from_str(&format!(r#"{{"bursar":1,"versions":[{lines}]}}"#)).unwrap();
            Book::read(name(), written).err()
        };
        assert_eq!(read(line), None);
        for bad in [line.replace("Current", "Later"), line.replace("06:", "26:"), format!("{line},{line}")] {
            assert!(matches!(read(&bad), Some(StoreError::Damaged(_))), "{bad}");
        }
    }
}
