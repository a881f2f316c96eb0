//! (E) The books of a sealed store: its rows, read and checked, and changed in one transaction each.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::bind::{self, Tag};
use super::file::{self, Locked, SCHEMA};
use crate::crypto::seal::{SealKey, Sealed};
use crate::crypto::{Random, random_uuid};
use crate::name::StoredName;
use crate::secret::Secret;
use crate::store::{Stage, StoreError, Version, Versions, Which};
use crate::time::Wall;

/// How many secrets a store holds at most: each write goes over the tags of all.
const MOST_SECRETS: usize = 10_000;

/// What the store knows while its lock is held. The tags in memory are the truth: a row that does not agree with
/// them was changed by somebody else.
pub(super) struct Books {
    path: PathBuf,
    connection: Connection,
    key: SealKey,
    random: Arc<dyn Random>,
    id: String,
    changes: u64,
    secrets: BTreeMap<StoredName, Tag>,
    /// A write failed in a way that leaves open what the file holds.
    doubtful: bool,
    _lock: Locked,
}

/// A version with the wrapped key of its value.
type Row = (Version, Option<Vec<u8>>);

impl Books {
    pub(super) fn open(lock: Locked, key: SealKey, random: Arc<dyn Random>) -> Result<Self, StoreError> {
        let id = random_uuid(&*random).map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let secrets = BTreeMap::new();
        let connection = lock.connect(|new| {
            let key_tag = bind::tag_of_key(&key, &id);
            let tag = bind::tag_of_store(&key, &id, SCHEMA, 0, &secrets);
            new.execute("INSERT INTO store VALUES (1, ?1, ?2, 0, ?3)", params![id, key_tag, tag]).map(|_| ())
        })?;
        let path = lock.path().to_owned();
        let mut books = Self { path, connection, key, random, id, changes: 0, secrets, doubtful: false, _lock: lock };
        books.load()?;
        Ok(books)
    }

    fn load(&mut self) -> Result<(), StoreError> {
        let (id, key_tag, changes, tag) = self.read_store().map_err(|error| file::fault(&self.path, &error))?;
        if bind::tag_of_key(&self.key, &id) != key_tag {
            return Err(file::damaged(&self.path, "it was made with another key, or has been changed"));
        }
        self.secrets = self.read_secrets()?;
        self.changes = u64::try_from(changes).unwrap_or(0);
        self.id = id;
        if bind::tag_of_store(&self.key, &self.id, SCHEMA, self.changes, &self.secrets) != tag {
            return Err(file::damaged(&self.path, "its list of secrets or its change counter has been changed"));
        }
        Ok(())
    }

    fn read_store(&self) -> rusqlite::Result<(String, Tag, i64, Tag)> {
        self.connection.query_row("SELECT id, key_tag, changes, tag FROM store", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })
    }

    fn read_secrets(&self) -> Result<BTreeMap<StoredName, Tag>, StoreError> {
        let rows = || {
            let mut query = self.connection.prepare("SELECT name, tag FROM secret")?;
            let rows = query.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))?;
            rows.collect::<rusqlite::Result<Vec<(String, Tag)>>>()
        };
        let rows = rows().map_err(|error| file::fault(&self.path, &error))?;
        let named = |(name, tag): (String, Tag)| Ok((name.parse()?, tag));
        let named = rows.into_iter().map(named).collect::<Result<_, crate::name::NotAStoredName>>();
        named.map_err(|_| file::damaged(&self.path, "the name of a secret has been changed"))
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) const fn changes(&self) -> u64 {
        self.changes
    }

    pub(super) fn list(&mut self) -> Result<Vec<StoredName>, StoreError> {
        self.settle_doubt()?;
        Ok(self.secrets.keys().cloned().collect())
    }

    pub(super) fn versions(&mut self, name: &StoredName) -> Result<Versions, StoreError> {
        self.settle_doubt()?;
        let rows = self.rows(name)?;
        if rows.is_empty() {
            return Err(StoreError::NotFound(format!("secret `{name}`")));
        }
        Versions::new(name.clone(), rows.into_iter().map(|(version, _)| version).collect())
    }

    pub(super) fn read(&mut self, name: &StoredName, which: &Which) -> Result<(Version, Secret), StoreError> {
        let versions = self.versions(name)?;
        let found = versions.find(which)?;
        Ok((found.clone(), self.open_value(name, found)?))
    }

    /// Lets `verb` change the versions of `name`, and writes what it changed in one transaction. `value` is for the
    /// version that is Pending afterwards.
    pub(super) fn change<T>(
        &mut self,
        name: &StoredName,
        value: Option<&Secret>,
        verb: impl FnOnce(&mut Versions) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.settle_doubt()?;
        self.check_room(name)?;
        let rows = self.rows(name)?;
        let before = Versions::new(name.clone(), rows.iter().map(|(version, _)| version.clone()).collect())?;
        let mut after = before.clone();
        let answer = verb(&mut after)?;
        if value.is_some() || after != before {
            let changed = after.iter().map(|version| Ok((version, self.value_of(name, version, &rows, value)?)));
            let changed = changed.collect::<Result<Vec<_>, StoreError>>()?;
            self.write(name, &changed)?;
        }
        Ok(answer)
    }

    fn check_room(&self, name: &StoredName) -> Result<(), StoreError> {
        if self.secrets.len() < MOST_SECRETS || self.secrets.contains_key(name) {
            return Ok(());
        }
        Err(StoreError::Invalid(format!("the store holds {MOST_SECRETS} secrets, which is the most")))
    }

    /// What becomes of a version's value. One that was taken over is sealed anew, since the attempt is bound in.
    fn value_of(
        &self,
        name: &StoredName,
        version: &Version,
        rows: &[Row],
        value: Option<&Secret>,
    ) -> Result<Value, StoreError> {
        if !version.filled {
            return Ok(Value::None);
        }
        if let Some(value) = value.filter(|_| version.stages.has(Stage::Pending)) {
            return self.seal(name, version, value).map(Value::New);
        }
        match rows.iter().find(|(before, _)| before.id == version.id) {
            Some((before, Some(wrapped))) if before.attempt == version.attempt => Ok(Value::Same(wrapped.clone())),
            Some((before, Some(_))) => self.seal(name, version, &self.open_value(name, before)?).map(Value::New),
            Some((_, None)) | None => Err(self.damaged(&format!("the value of a version of `{name}` is missing"))),
        }
    }

    fn seal(&self, name: &StoredName, version: &Version, value: &Secret) -> Result<Sealed, StoreError> {
        let bound = bind::of_value(&self.id, name, &version.id, &version.attempt);
        let sealed = self.key.seal(&*self.random, value, &bound);
        sealed.map_err(|error| StoreError::Unavailable(error.to_string()))
    }

    fn open_value(&self, name: &StoredName, version: &Version) -> Result<Secret, StoreError> {
        let query = "SELECT wrapped, text FROM version WHERE name = ?1 AND id = ?2";
        let key = params![name.as_str(), version.id.as_str()];
        let read = |row: &rusqlite::Row<'_>| Ok(Sealed { wrapped: row.get(0)?, text: row.get(1)? });
        let sealed = self.connection.query_row(query, key, read).map_err(|error| self.fault(&error))?;
        let bound = bind::of_value(&self.id, name, &version.id, &version.attempt);
        let opened = self.key.open(&sealed, &bound);
        opened.map_err(|_| self.damaged(&format!("the value of version {} of `{name}` has been changed", version.id)))
    }

    /// The versions of `name`, newest first, as this store wrote them and not otherwise.
    fn rows(&self, name: &StoredName) -> Result<Vec<Row>, StoreError> {
        let rows = self.read_rows(name).map_err(|error| self.fault(&error))?;
        let parsed = rows.into_iter().map(parse_row).collect::<Result<Vec<Row>, StoreError>>();
        let rows = parsed.map_err(|_| self.damaged(&format!("a version of `{name}` has been changed")))?;
        let tag = bind::tag_of_secret(&self.key, &self.id, name, rows.iter().map(|(v, w)| (v, w.as_deref())));
        match self.secrets.get(name) {
            None if rows.is_empty() => Ok(rows),
            Some(known) if *known == tag => Ok(rows),
            Some(_) | None => Err(self.damaged(&format!("the versions of `{name}` have been changed"))),
        }
    }

    fn read_rows(&self, name: &StoredName) -> rusqlite::Result<Vec<RawRow>> {
        let mut query = self.connection.prepare(
            "SELECT id, stages, attempt, notes, created, wrapped FROM version WHERE name = ?1 ORDER BY nth DESC",
        )?;
        let rows = query.query_map([name.as_str()], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
        })?;
        rows.collect()
    }

    /// Makes `versions` the versions of `name`: all or nothing, and durable when it returns.
    fn write(&mut self, name: &StoredName, versions: &[(&Version, Value)]) -> Result<(), StoreError> {
        let wrapped = versions.iter().map(|(version, value)| (*version, value.wrapped()));
        let tag = bind::tag_of_secret(&self.key, &self.id, name, wrapped);
        self.secrets.insert(name.clone(), tag);
        self.changes += 1;
        let store_tag = bind::tag_of_store(&self.key, &self.id, SCHEMA, self.changes, &self.secrets);
        let written = write_rows(&mut self.connection, name, versions, &tag).and_then(|transaction| {
            let changes = i64::try_from(self.changes).unwrap_or(i64::MAX);
            transaction.execute("UPDATE store SET changes = ?1, tag = ?2", params![changes, store_tag])?;
            // A crash before this line leaves the old versions; after it, the new ones.
            transaction.commit()
        });
        written.map_err(|error| {
            // It may have failed and yet be in the file: what stands there is read again before the next answer.
            self.doubtful = true;
            self.changes -= 1;
            self.fault(&error)
        })
    }

    fn settle_doubt(&mut self) -> Result<(), StoreError> {
        if self.doubtful {
            self.load()?;
            self.doubtful = false;
        }
        Ok(())
    }

    fn fault(&self, error: &rusqlite::Error) -> StoreError {
        file::fault(&self.path, error)
    }

    fn damaged(&self, what: &str) -> StoreError {
        file::damaged(&self.path, what)
    }
}

/// What is written as the value of a version.
enum Value {
    None,
    /// What stands there; this is its wrapped key.
    Same(Vec<u8>),
    New(Sealed),
}

impl Value {
    fn wrapped(&self) -> Option<&[u8]> {
        match self {
            Self::None => None,
            Self::Same(wrapped) => Some(wrapped),
            Self::New(sealed) => Some(&sealed.wrapped),
        }
    }
}

fn write_rows<'a>(
    connection: &'a mut Connection,
    name: &StoredName,
    versions: &[(&Version, Value)],
    tag: &Tag,
) -> rusqlite::Result<Transaction<'a>> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let kept = versions.iter().map(|(version, _)| version.id.as_str()).collect::<Vec<_>>();
    let kept = serde_json::to_string(&kept).unwrap_or_default();
    let forget = "DELETE FROM version WHERE name = ?1 AND id NOT IN (SELECT value FROM json_each(?2))";
    transaction.execute(forget, params![name.as_str(), kept])?;
    for (nth, (version, value)) in (1_i64..).zip(versions.iter().rev()) {
        write_row(&transaction, name, nth, version, value)?;
    }
    transaction.execute("INSERT OR REPLACE INTO secret VALUES (?1, ?2)", params![name.as_str(), tag])?;
    Ok(transaction)
}

fn write_row(
    transaction: &Transaction<'_>,
    name: &StoredName,
    nth: i64,
    version: &Version,
    value: &Value,
) -> rusqlite::Result<usize> {
    let (name, id, attempt) = (name.as_str(), version.id.as_str(), version.attempt.as_str());
    let (stages, notes, created) =
        (version.stages.to_string(), bind::notes_text(&version.notes), version.created.micros());
    let (wrapped, text) = match value {
        Value::Same(_) => {
            let update = "UPDATE version SET nth = ?3, stages = ?4, notes = ?5 WHERE name = ?1 AND id = ?2";
            return transaction.execute(update, params![name, id, nth, stages, notes]);
        }
        Value::None => (None, None),
        Value::New(sealed) => (Some(&sealed.wrapped), Some(&sealed.text)),
    };
    let insert = "INSERT OR REPLACE INTO version VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    transaction.execute(insert, params![name, nth, id, stages, attempt, notes, created, wrapped, text])
}

type RawRow = (String, String, String, String, i64, Option<Vec<u8>>);

fn parse_row((id, stages, attempt, notes, created, wrapped): RawRow) -> Result<Row, StoreError> {
    let version = Version {
        id: id.parse()?,
        stages: stages.parse()?,
        attempt: attempt.parse()?,
        notes: bind::parse_notes(&notes)?,
        created: Wall::from_micros(created),
        filled: wrapped.is_some(),
    };
    Ok((version, wrapped))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SystemRandom;
    use crate::store::{Attempt, Notes, VersionId};

    fn books(folder: &tempfile::TempDir) -> Books {
        let key = SealKey::derive(&Secret::new(vec![1; 32]), "store").unwrap();
        Books::open(Locked::take(&folder.path().join("store.db")).unwrap(), key, Arc::new(SystemRandom)).unwrap()
    }

    fn put(books: &mut Books, name: &StoredName, bytes: usize) -> Result<VersionId, StoreError> {
        let (now, attempt) = (Wall::default(), Attempt::new(&SystemRandom).unwrap());
        let id = random_uuid(&SystemRandom).unwrap().parse().unwrap();
        books.change(name, None, |all| all.reserve(now, id, &attempt, now, &Notes::default()))?;
        let value = Secret::new(vec![b'v'; bytes]);
        books.change(name, Some(&value), |all| all.fill(&attempt, &Notes::default()))?;
        books.change(name, None, |all| all.promote(now, &attempt))
    }

    #[test]
    fn a_full_disk_leaves_the_old_values_and_heals() {
        let (folder, name) = (tempfile::tempdir().unwrap(), "n".parse().unwrap());
        let mut books = books(&folder);
        put(&mut books, &name, 1).unwrap();
        let full = books.connection.query_row("PRAGMA page_count", [], |row| row.get::<_, i64>(0)).unwrap() + 1;
        books.connection.pragma_update(None, "max_page_count", full).unwrap();
        let changes = books.changes();
        let refused = put(&mut books, &name, 60_000).unwrap_err();
        assert!(matches!(&refused, StoreError::Unavailable(what) if what.contains("no room")), "{refused}");
        assert_eq!(books.read(&name, &Which::Current).unwrap().1.len(), 1);
        assert_eq!(books.changes(), changes + 1, "the reservation was written, the value was not");
        books.connection.pragma_update(None, "max_page_count", 1_000_000).unwrap();
        put(&mut books, &name, 60_000).unwrap();
        assert_eq!(books.read(&name, &Which::Current).unwrap().1.len(), 60_000);
    }

    #[test]
    fn retired_versions_are_forgotten_beyond_a_bound() {
        let (folder, name) = (tempfile::tempdir().unwrap(), "n".parse().unwrap());
        let mut books = books(&folder);
        for _ in 0..30 {
            put(&mut books, &name, 1).unwrap();
        }
        assert_eq!(books.versions(&name).unwrap().iter().count(), 2 + crate::store::versions::MOST_RETIRED);
        let mut again = {
            drop(books);
            self::books(&folder)
        };
        assert_eq!(again.versions(&name).unwrap().iter().count(), 2 + crate::store::versions::MOST_RETIRED);
    }
}
