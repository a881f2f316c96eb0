//! The book of one secret, which stands in a secret of its own, `<prefix>.bursar/<name>`: its versions, which of their
//! values waits there, and which promotion is not yet done at the secret itself. Pure. It holds no value.
//!
//! The book alone decides: each verb is one compare-and-set on it. What it decided is then done to the labels of the
//! secret, and until that is done it is *owed*: whoever comes next does it, before anything else.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::client::{CURRENT, PENDING, PREVIOUS, RESERVED};
use crate::crypto::Digest;
use crate::name::StoredName;
use crate::secret::Secret;
use crate::store::{Attempt, MOST_VALUE_BYTES, Notes, Stage, Stages, StoreError, Version, VersionId, Versions};
use crate::time::Wall;

/// The form of the book that is written and read.
const FORM: u32 = 1;
/// How long what another has made Pending is left alone: its rotation may still be under way.
const ANOTHER_S_LEASE_MICROS: i64 = 24 * 3600 * 1_000_000;

/// The versions of one secret, newest first, with where their values are.
#[derive(Clone, Debug)]
pub struct Book {
    name: StoredName,
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    version: Version,
    /// Whether its value stands beside the book, since the secret has no version yet.
    waits: bool,
    /// Whether it is promoted and the secret's labels do not say so yet.
    owed: bool,
}

/// What the secret itself shows: the ids of the versions with AWS's labels, and ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Face {
    /// AWSCURRENT.
    pub current: Option<String>,
    /// AWSPREVIOUS.
    pub previous: Option<String>,
    /// AWSPENDING.
    pub pending: Option<String>,
    /// BURSAR_RESERVED.
    pub reserved: Option<String>,
}

impl Face {
    /// Reads labels, each with the id of its version.
    #[must_use]
    pub fn of(labels: &[(String, String)]) -> Self {
        let at = |label: &str| labels.iter().find(|(found, _)| found == label).map(|(_, id)| id.clone());
        Self { current: at(CURRENT), previous: at(PREVIOUS), pending: at(PENDING), reserved: at(RESERVED) }
    }

    /// The ids of versions with a stage.
    pub(super) fn ids(&self) -> impl Iterator<Item = &String> {
        [&self.current, &self.previous, &self.pending].into_iter().flatten()
    }

    /// The version that somebody else has made Pending, if it is not the Current one, as some rotations leave it.
    fn another_s_pending(&self) -> Option<&String> {
        self.pending.as_ref().filter(|id| Some(*id) != self.current.as_ref() && Some(*id) != self.reserved.as_ref())
    }
}

/// The book as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    bursar: u32,
    versions: Vec<Line>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: String,
    stages: String,
    attempt: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    notes: BTreeMap<String, String>,
    created: String,
    #[serde(default, skip_serializing_if = "is_false")]
    filled: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    waits: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    owed: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

impl Book {
    /// The book of a secret that has none yet.
    #[must_use]
    pub const fn none(name: StoredName) -> Self {
        Self { name, entries: Vec::new() }
    }

    /// Reads what was written.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] for what this program does not write.
    pub fn read(name: StoredName, bytes: &[u8]) -> Result<Self, StoreError> {
        let damaged = || {
            StoreError::Damaged(format!(
                "the book of `{name}` was changed by hand: move its label AWSCURRENT back to the version before"
            ))
        };
        let written: Written = serde_json::from_slice(bytes).map_err(|_| damaged())?;
        if written.bursar != FORM {
            return Err(StoreError::Damaged(format!(
                "the book of `{name}` has form {}, and this version reads {FORM}: use the version that wrote it",
                written.bursar
            )));
        }
        let entries = written.versions.into_iter().map(entry).collect::<Option<Vec<_>>>().ok_or_else(damaged)?;
        let distinct = entries
            .iter()
            .enumerate()
            .all(|(nth, entry)| entries.iter().skip(nth + 1).all(|other| other.version.id != entry.version.id));
        let book = Self { name: name.clone(), entries };
        if distinct { book.versions().map(|_| book) } else { Err(damaged()) }
    }

    /// The text to write: where it would be too long, without the notes of the oldest Retired versions.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] where even that is too long.
    pub fn text(&self) -> Result<Secret, StoreError> {
        let mut written = Written { bursar: FORM, versions: self.entries.iter().map(line).collect() };
        let too_long = || StoreError::Invalid(format!("the book of `{}` is too long for its notes", self.name));
        loop {
            let text = serde_json::to_vec(&written).map_err(|_| too_long())?;
            if text.len() <= MOST_VALUE_BYTES {
                return Ok(Secret::new(text));
            }
            let retired = Stage::Retired.as_str();
            let lines = written.versions.iter_mut().rev();
            lines
                .filter(|line| line.stages == retired)
                .find(|line| !line.notes.is_empty())
                .ok_or_else(too_long)?
                .notes = BTreeMap::new();
        }
    }

    /// Its versions.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when they break a rule.
    pub fn versions(&self) -> Result<Versions, StoreError> {
        Versions::new(self.name.clone(), self.entries.iter().map(|entry| entry.version.clone()).collect())
    }

    /// Whether it has the version with this id at AWS.
    pub(super) fn knows(&self, aws_id: &str) -> bool {
        let id = id_of(aws_id);
        self.entries.iter().any(|entry| entry.version.id == id)
    }

    /// The Current version's id, and whether its promotion is still owed.
    pub(super) fn current(&self) -> Option<(&VersionId, bool)> {
        let entry = self.at(Stage::Current)?;
        Some((&entry.version.id, entry.owed))
    }

    /// Holds the book against what the secret shows: what somebody else did to its labels holds from now on. `created`
    /// says when versions were made that the book does not know.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] where a time does not fit into a note.
    pub fn see(&mut self, face: &Face, created: &BTreeMap<String, Wall>) -> Result<(), StoreError> {
        // What is promoted and not yet done there goes over whatever is.
        let Some(current) = face.current.as_ref().filter(|_| !self.owes()) else { return Ok(()) };
        let at = |id: &String| created.get(id).copied().unwrap_or_default();
        if let Some(previous) = face.previous.as_ref().filter(|id| *id != current && !self.knows(id)) {
            self.adopt(previous, Stage::Previous, at(previous))?;
        }
        let (current_id, previous_id) = (id_of(current), face.previous.as_deref().map(id_of));
        if !self.knows(current) {
            self.adopt(current, Stage::Current, at(current))?;
        }
        for Entry { version, .. } in &mut self.entries {
            let was = version.stages;
            let is_served = was.has(Stage::Current) || was.has(Stage::Previous);
            if version.id == current_id {
                version.stages = Stages::of(Stage::Current);
                version.filled = true;
            } else if is_served && Some(&version.id) == previous_id.as_ref() {
                version.stages = Stages::of(Stage::Previous);
            } else if is_served || (was.has(Stage::Pending) && is_another_s_and_over(version, face)) {
                version.stages = Stages::of(Stage::Retired);
                version.filled = false;
            }
        }
        let pending = face.another_s_pending().filter(|id| created.contains_key(*id));
        if let Some(pending) = pending.filter(|id| !self.knows(id) && self.at(Stage::Pending).is_none()) {
            self.adopt(pending, Stage::Pending, at(pending))?;
        }
        Ok(())
    }

    fn adopt(&mut self, aws_id: &str, stage: Stage, created: Wall) -> Result<(), StoreError> {
        let version = another_s(aws_id, stage, created)?;
        self.entries.insert(0, Entry { version, waits: false, owed: false });
        Ok(())
    }

    /// The book after a verb has made `after` of its versions: what is newly Current is owed.
    pub(super) fn follow(self, after: &Versions) -> Self {
        let follow = |version: &Version| {
            let before = self.entries.iter().find(|entry| entry.version.id == version.id);
            let is_promoted = |entry: &Entry| {
                version.stages.has(Stage::Current) && (entry.owed || !entry.version.stages.has(Stage::Current))
            };
            Entry {
                version: version.clone(),
                waits: version.filled && before.is_some_and(|entry| entry.waits),
                owed: before.is_some_and(is_promoted),
            }
        };
        Self { entries: after.iter().map(follow).collect(), name: self.name }
    }

    /// The Pending version got its value, as version `id` at AWS; `waits` where that stands beside the book.
    pub(super) fn filled(&mut self, id: VersionId, waits: bool) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.version.stages.has(Stage::Pending)) {
            entry.version.id = id;
            entry.waits = waits;
        }
    }

    /// Whether the value of a version stands beside the book.
    pub(super) fn waits(&self, id: &VersionId) -> bool {
        self.entries.iter().any(|entry| entry.version.id == *id && entry.waits)
    }

    /// Whether a promotion is decided and not yet done.
    pub(super) fn owes(&self) -> bool {
        self.entries.iter().any(|entry| entry.owed)
    }

    /// The promotion is done.
    pub(super) fn paid(&mut self) {
        for entry in self.entries.iter_mut().filter(|entry| entry.owed) {
            (entry.owed, entry.waits) = (false, false);
        }
    }

    /// The labels that stand where none should, each with the id of its version: of what is over, and of a value that
    /// was written and never came into the book.
    pub(super) fn doomed<'a>(&self, face: &'a Face) -> Vec<(&'static str, &'a str)> {
        let mut doomed = Vec::new();
        let is_over = |id: &&String| self.entries.iter().any(|e| e.version.id == id_of(id) && is_retired(&e.version));
        for (label, id) in [(PREVIOUS, &face.previous), (PENDING, &face.pending)] {
            doomed.extend(id.as_ref().filter(is_over).map(|id| (label, id.as_str())));
        }
        let pending = self.at(Stage::Pending).map(|entry| &entry.version.id);
        if let Some(stray) = face.reserved.as_ref().filter(|id| pending != Some(&id_of(id))) {
            doomed.push((RESERVED, stray));
            let is_pending = face.pending.as_ref() == Some(stray) && !doomed.iter().any(|(label, _)| *label == PENDING);
            doomed.extend(is_pending.then_some((PENDING, stray.as_str())));
        }
        doomed
    }

    /// Whether somebody else has made a version Pending that the book does not have.
    pub(super) fn is_crossed(&self, face: &Face) -> bool {
        face.another_s_pending().is_some_and(|id| !self.knows(id))
    }

    /// An id for a version that `attempt` makes: the same for who asks again, and no other version's. The first `skip`
    /// are left out.
    pub(super) fn fresh(&self, attempt: &Attempt, skip: usize) -> VersionId {
        let current = self.at(Stage::Current).map_or("", |entry| entry.version.id.as_str());
        let free = |id: &VersionId| {
            self.entries.iter().all(|e| e.version.id != *id || e.version.attempt == *attempt && !is_retired(&e.version))
        };
        let ids =
            (0_u32..).map(|nth| derived(&["version", self.name.as_str(), current, attempt.as_str(), &nth.to_string()]));
        ids.map(VersionId).filter(free).nth(skip).unwrap_or_else(|| VersionId(derived(&[attempt.as_str()])))
    }

    fn at(&self, stage: Stage) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.version.stages.has(stage))
    }
}

fn is_retired(version: &Version) -> bool {
    version.stages.has(Stage::Retired)
}

/// Whether a version that somebody else has made Pending, and nobody here has taken over, is so no more.
fn is_another_s_and_over(version: &Version, face: &Face) -> bool {
    version.attempt == attempt_of(&version.id) && face.pending.as_deref().map(id_of).as_ref() != Some(&version.id)
}

/// A version that somebody else made, as it is shown here.
///
/// # Errors
/// [`StoreError::Invalid`] where a time does not fit into a note.
pub(super) fn another_s(aws_id: &str, stage: Stage, created: Wall) -> Result<Version, StoreError> {
    let id = id_of(aws_id);
    let notes = Notes::default().with(Notes::BY, "another")?;
    let notes = if stage == Stage::Pending {
        notes
            .with_time(Notes::LEASE_ENDS, Wall::from_micros(created.micros().saturating_add(ANOTHER_S_LEASE_MICROS)))?
    } else {
        notes.with_time(Notes::PROMOTED, created)?
    };
    Ok(Version { attempt: attempt_of(&id), id, stages: Stages::of(stage), notes, created, filled: true })
}

/// The id of a version at AWS as it is shown here: itself, unless it has characters that ours do not have.
pub(super) fn id_of(aws_id: &str) -> VersionId {
    aws_id.parse().unwrap_or_else(|_| VersionId(derived(&["foreign", aws_id])))
}

/// The attempt of a version that somebody else made.
fn attempt_of(id: &VersionId) -> Attempt {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(Digest::of(id.as_str().as_bytes()).bytes().first_chunk::<16>().unwrap_or(&[0; 16]));
    Attempt::from_bytes(bytes)
}

/// A UUID (version 8, RFC 9562 §5.8) from SHA-256 over the parts, each preceded by its length.
pub(super) fn derived(parts: &[&str]) -> Box<str> {
    let mut text = b"bursar aws v1".to_vec();
    for part in parts {
        text.extend((part.len() as u64).to_be_bytes());
        text.extend(part.as_bytes());
    }
    let number = u128::from_be_bytes(*Digest::of(&text).bytes().first_chunk::<16>().unwrap_or(&[0; 16]));
    let number = number & !(0xf << 76 | 0x3 << 62) | 0x8 << 76 | 0x2 << 62;
    let [a, b, c, d, e] =
        [number >> 96, number >> 80 & 0xffff, number >> 64 & 0xffff, number >> 48 & 0xffff, number & 0xffff_ffff_ffff];
    format!("{a:08x}-{b:04x}-{c:04x}-{d:04x}-{e:012x}").into()
}

fn line(entry: &Entry) -> Line {
    let Entry { version: Version { id, stages, attempt, notes, created, filled }, waits, owed } = entry;
    Line {
        id: id.to_string(),
        stages: stages.to_string(),
        attempt: attempt.to_string(),
        notes: notes.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        created: created.rfc3339().to_string(),
        filled: *filled,
        waits: *waits,
        owed: *owed,
    }
}

fn entry(line: Line) -> Option<Entry> {
    let stages: Stages = line.stages.parse().ok()?;
    let notes = line.notes.iter().try_fold(Notes::default(), |notes, (key, value)| notes.with_stored(key, value));
    let version = Version {
        id: line.id.parse().ok()?,
        stages,
        attempt: line.attempt.parse().ok()?,
        notes: notes.ok()?,
        created: Wall::from_rfc3339(line.created.as_bytes())?,
        filled: line.filled,
    };
    let (waits, owed) = (line.waits, line.owed);
    let fits = (!waits || line.filled) && (!owed || stages.has(Stage::Current));
    fits.then_some(Entry { version, waits, owed })
}

#[cfg(test)]
mod tests {
    use super::*;

    const THEIRS: &str = "0f0e0d0c-0b0a-4908-8706-050403020100";

    fn attempt(nth: u8) -> Attempt {
        Attempt::from_bytes([nth; 16])
    }

    /// A book whose Current is promoted, and paid.
    fn promoted(book: Book, nth: u8) -> Book {
        let mut versions = book.versions().unwrap();
        let id = book.fresh(&attempt(nth), 0);
        versions.reserve(Wall::default(), id, &attempt(nth), Wall::default(), &Notes::default()).unwrap();
        versions.fill(&attempt(nth), &Notes::default()).unwrap();
        let book = book.follow(&versions);
        versions.promote(Wall::default(), &attempt(nth)).unwrap();
        let mut book = book.follow(&versions);
        assert!(book.owes());
        book.paid();
        book
    }

    fn two() -> Book {
        promoted(promoted(Book::none("n".parse().unwrap()), 1), 2)
    }

    fn id_at(book: &Book, stage: Stage) -> Option<String> {
        book.versions().unwrap().at(stage).map(|version| version.id.to_string())
    }

    fn seen(mut book: Book, face: &Face) -> Book {
        book.see(face, &BTreeMap::from([(THEIRS.to_owned(), Wall::default())])).unwrap();
        Book::read("n".parse().unwrap(), book.text().unwrap().expose()).unwrap()
    }

    #[test]
    fn what_another_puts_or_rolls_back_holds() {
        let (current, previous) = (id_at(&two(), Stage::Current), id_at(&two(), Stage::Previous));
        let put = Face { current: Some(THEIRS.into()), previous: current.clone(), ..Face::default() };
        let book = seen(two(), &put);
        assert_eq!((id_at(&book, Stage::Current), id_at(&book, Stage::Previous)), (put.current, put.previous));
        let back = Face { current: previous.clone(), previous: current.clone(), ..Face::default() };
        let book = seen(two(), &back);
        assert_eq!((id_at(&book, Stage::Current), id_at(&book, Stage::Previous)), (previous, current));
    }

    #[test]
    fn what_is_owed_goes_over_the_labels() {
        let mut book = two();
        let before = id_at(&book, Stage::Current);
        book.entries[0].owed = true;
        let face = Face { current: Some(THEIRS.into()), ..Face::default() };
        assert_eq!(id_at(&seen(book, &face), Stage::Current), before);
    }

    #[test]
    fn another_s_pending_is_shown_and_ours_without_a_book_is_removed() {
        let current = id_at(&two(), Stage::Current);
        let theirs = Face { current: current.clone(), pending: Some(THEIRS.into()), ..Face::default() };
        assert_eq!(id_at(&seen(two(), &theirs), Stage::Pending).as_deref(), Some(THEIRS));
        assert!(two().is_crossed(&theirs) && two().doomed(&theirs).is_empty());
        let gone = seen(seen(two(), &theirs), &Face { current, ..Face::default() });
        assert_eq!(id_at(&gone, Stage::Pending), None, "their rotation is over");
        let ours = Face { reserved: theirs.pending.clone(), ..theirs };
        assert_eq!(two().doomed(&ours), [(RESERVED, THEIRS), (PENDING, THEIRS)]);
        assert_eq!(id_at(&seen(two(), &ours), Stage::Pending), None);
    }

    #[test]
    fn a_lambda_s_current_that_is_still_pending_is_current() {
        let face = Face { current: Some(THEIRS.into()), pending: Some(THEIRS.into()), ..Face::default() };
        let book = seen(Book::none("n".parse().unwrap()), &face);
        assert_eq!(book.versions().unwrap().iter().count(), 1);
        assert_eq!(id_at(&book, Stage::Current).as_deref(), Some(THEIRS));
    }

    #[test]
    fn an_id_is_a_uuid_the_same_for_who_asks_again_and_no_other_version_s() {
        let book = two();
        let id = book.fresh(&attempt(3), 0);
        assert_eq!((id.as_str().len(), id.as_str().as_bytes()[14]), (36, b'8'));
        assert_eq!(id, book.fresh(&attempt(3), 0));
        assert_ne!(id, book.fresh(&attempt(3), 1));
        assert_ne!(id, book.fresh(&attempt(4), 0));
        assert_ne!(id, promoted(two(), 5).fresh(&attempt(3), 0), "another Current");
    }

    #[test]
    fn the_notes_of_the_oldest_make_room() {
        let long =
            (0..12).fold(Notes::default(), |notes, nth| notes.with(&format!("n{nth}"), &"x".repeat(512)).unwrap());
        let mut book = (1..=20).fold(Book::none("n".parse().unwrap()), promoted);
        for entry in &mut book.entries {
            entry.version.notes = long.clone();
        }
        let read = Book::read("n".parse().unwrap(), book.text().unwrap().expose()).unwrap();
        let notes = |nth: usize| read.entries[nth].version.notes.iter().count();
        assert_eq!((notes(0), notes(read.entries.len() - 1)), (12, 0));
    }

    #[test]
    fn a_book_changed_by_hand_is_damaged_and_not_repeated() {
        let line = r#"{"id":"a","stages":"Current","attempt":"00000000000000000000000000000001","created":"2026-11-21T06:00:00.000000Z","filled":true}"#;
        let read = |lines: &str| {
            let text = format!(r#"{{"bursar":1,"versions":[{lines}]}}"#);
            Book::read("n".parse().unwrap(), text.as_bytes()).err()
        };
        assert_eq!(read(line), None);
        let twice = format!("{line},{}", line.replace("Current", "Previous"));
        for bad in [line.replace("Current", "Later"), line.replace("06:", "26:"), twice, "hunter2".into()] {
            let error = read(&bad).unwrap();
            assert!(matches!(&error, StoreError::Damaged(what) if !what.contains("hunter2")), "{bad}");
        }
    }
}
