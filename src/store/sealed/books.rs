//! (E) The books of a sealed store: its rows, read and checked, and changed in one transaction each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, Transaction, params};

use super::bind::{self, Tag};
use super::check;
use super::file::{self, Locked, SCHEMA};
use super::rows::{self, Row, Value};
use crate::crypto::seal::{CannotRewrap, SealKey, Sealed};
use crate::crypto::{Random, random_uuid};
use crate::name::StoredName;
use crate::secret::Secret;
use crate::store::upkeep::Checked;
use crate::store::{Stage, StoreError, Version, Versions, Which};

/// How many secrets a store holds at most: each write goes over the tags of all.
const MOST_SECRETS: usize = 10_000;

/// What the store knows while its lock is held. The tags in memory are the truth: a row that does not agree with
/// them was changed by somebody else.
pub(super) struct Books {
    path: PathBuf,
    connection: Connection,
    key: SealKey,
    /// Another key that it may be sealed with: its key was being changed when it was last written.
    next: Option<SealKey>,
    /// Whether it is the one that comes next that it is sealed with.
    by_next: bool,
    random: Arc<dyn Random>,
    id: String,
    changes: u64,
    secrets: BTreeMap<StoredName, Tag>,
    /// A write failed in a way that leaves open what the file holds.
    doubtful: bool,
    /// None for a copy.
    _lock: Option<Locked>,
}

/// The keys that a store may be sealed with: that of the configuration, and the one that comes next.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) now: SealKey,
    pub(super) next: Option<SealKey>,
}

impl Books {
    /// Opens the store whose lock is `lock`; where there is none, it is made under the first of `keys`.
    pub(super) fn open(lock: Locked, keys: Keys, random: Arc<dyn Random>) -> Result<Self, StoreError> {
        let Keys { now: key, next } = keys;
        let id = random_uuid(&*random).map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let secrets = BTreeMap::new();
        let connection = lock.connect(|new| {
            let key_tag = bind::tag_of_key(&key, &id);
            let tag = bind::tag_of_store(&key, &id, SCHEMA, 0, &secrets);
            new.execute("INSERT INTO store VALUES (1, ?1, ?2, 0, ?3)", params![id, key_tag, tag]).map(|_| ())
        })?;
        let path = lock.path().to_owned();
        Self::of_file(path, connection, Keys { now: key, next }, random, Some(lock))
    }

    /// The books of a copy at `path`, which nobody else knows of yet.
    pub(super) fn of_copy(path: &Path, keys: Keys, random: Arc<dyn Random>) -> Result<Self, StoreError> {
        Self::of_file(path.to_owned(), file::connect(path)?, keys, random, None)
    }

    fn of_file(
        path: PathBuf,
        connection: Connection,
        Keys { now: key, next }: Keys,
        random: Arc<dyn Random>,
        lock: Option<Locked>,
    ) -> Result<Self, StoreError> {
        let (id, changes, secrets, by_next, doubtful) = Default::default();
        let mut books =
            Self { path, connection, key, next, by_next, random, id, changes, secrets, doubtful, _lock: lock };
        books.load()?;
        Ok(books)
    }

    /// Reads what stands in the file, by the key that it shows itself to be sealed with.
    fn load(&mut self) -> Result<(), StoreError> {
        let (id, key_tag, changes, tag) = rows::store(&self.connection).map_err(|error| self.fault(&error))?;
        let opens = |key: &SealKey| bind::tag_of_key(key, &id) == key_tag;
        if !opens(&self.key) {
            let next = self.next.take_if(|next| opens(next));
            self.key = next.ok_or_else(|| self.damaged("it was made with another key, or has been changed"))?;
            self.by_next = true;
        }
        self.secrets = self.read_secrets()?;
        self.changes = u64::try_from(changes).unwrap_or(0);
        self.id = id;
        if bind::tag_of_store(&self.key, &self.id, SCHEMA, self.changes, &self.secrets) != tag {
            return Err(self.damaged("its list of secrets or its change counter has been changed"));
        }
        Ok(())
    }

    fn read_secrets(&self) -> Result<BTreeMap<StoredName, Tag>, StoreError> {
        let rows = rows::secrets(&self.connection).map_err(|error| self.fault(&error))?;
        let named = |(name, tag): (String, Tag)| Ok((name.parse()?, tag));
        let named = rows.into_iter().map(named).collect::<Result<_, crate::name::NotAStoredName>>();
        named.map_err(|_| self.damaged("the name of a secret has been changed"))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
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
        let sealed = rows::sealed(&self.connection, name, version).map_err(|error| self.fault(&error))?;
        let opened = self.key.open(&sealed, &bind::of_value(&self.id, name, &version.id, &version.attempt));
        opened.map_err(|_| self.damaged(&format!("the value of version {} of `{name}` has been changed", version.id)))
    }

    /// The versions of `name`, newest first, as this store wrote them and not otherwise.
    fn rows(&self, name: &StoredName) -> Result<Vec<Row>, StoreError> {
        let parsed = rows::versions(&self.connection, name).map_err(|error| self.fault(&error))?;
        let rows = parsed.map_err(|_| self.damaged(&format!("a version of `{name}` has been changed")))?;
        let tag = bind::tag_of_secret(&self.key, &self.id, name, rows.iter().map(|(v, w)| (v, w.as_deref())));
        match self.secrets.get(name) {
            None if rows.is_empty() => Ok(rows),
            Some(known) if *known == tag => Ok(rows),
            Some(_) | None => Err(self.damaged(&format!("the versions of `{name}` have been changed"))),
        }
    }

    /// Makes `versions` the versions of `name`: all or nothing, and durable when it returns.
    fn write(&mut self, name: &StoredName, versions: &[(&Version, Value)]) -> Result<(), StoreError> {
        let wrapped = versions.iter().map(|(version, value)| (*version, value.wrapped()));
        let tag = bind::tag_of_secret(&self.key, &self.id, name, wrapped);
        self.secrets.insert(name.clone(), tag);
        self.changes += 1;
        let store_tag = bind::tag_of_store(&self.key, &self.id, SCHEMA, self.changes, &self.secrets);
        let written = rows::write(&mut self.connection, name, versions, &tag).and_then(|transaction| {
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

    /// Wraps every data key by `to` instead, in one transaction; how many values there are.
    ///
    /// No value is decrypted for it: what seals it stays, and is sealed anew.
    pub(super) fn rekey(&mut self, to: SealKey) -> Result<u64, StoreError> {
        self.settle_doubt()?;
        if bind::tag_of_key(&to, &self.id) == bind::tag_of_key(&self.key, &self.id) {
            return Err(StoreError::Invalid("the new key is the one that the store has".into()));
        }
        let (values, secrets, transaction) = self.rewrap(&to)?;
        let changes = self.changes + 1;
        let store_tag = bind::tag_of_store(&to, &self.id, SCHEMA, changes, &secrets);
        let update = "UPDATE store SET key_tag = ?1, changes = ?2, tag = ?3";
        let row = params![bind::tag_of_key(&to, &self.id), i64::try_from(changes).unwrap_or(i64::MAX), store_tag];
        let written = transaction.execute(update, row).and_then(|_| transaction.commit());
        if let Err(error) = written {
            // It may have failed and yet be in the file: whichever key opens it is its key.
            (self.doubtful, self.next) = (true, Some(to));
            return Err(self.fault(&error));
        }
        // A crash before the commit leaves the old key, after it the new one.
        (self.changes, self.secrets) = (changes, secrets);
        (self.key, self.next, self.by_next) = (to, None, true);
        Ok(values)
    }

    /// The transaction in which every data key is wrapped by `to`, with the number of values and the tags of all secrets.
    fn rewrap(&self, to: &SealKey) -> Result<(u64, BTreeMap<StoredName, Tag>, Transaction<'_>), StoreError> {
        let failed = |error: rusqlite::Error| self.fault(&error);
        let transaction = self.connection.unchecked_transaction().map_err(failed)?;
        let (mut values, mut tags) = (0, BTreeMap::new());
        for name in self.secrets.keys() {
            let mut rows = self.rows(name)?;
            for (version, wrapped) in &mut rows {
                let Some(wrapped) = wrapped else { continue };
                *wrapped = self.wrapped_by(to, name, version, wrapped)?;
                rows::set_wrapped(&transaction, name, version, wrapped).map_err(failed)?;
                values += 1;
            }
            let tag = bind::tag_of_secret(to, &self.id, name, rows.iter().map(|(v, w)| (v, w.as_deref())));
            rows::set_tag(&transaction, name, &tag).map_err(failed)?;
            tags.insert(name.clone(), tag);
        }
        Ok((values, tags, transaction))
    }

    fn wrapped_by(
        &self,
        to: &SealKey,
        name: &StoredName,
        version: &Version,
        wrapped: &[u8],
    ) -> Result<Vec<u8>, StoreError> {
        let bound = bind::of_value(&self.id, name, &version.id, &version.attempt);
        let wrapped = self.key.rewrap(to, &*self.random, wrapped, &bound);
        wrapped.map_err(|why| match why {
            CannotRewrap::NotSealedSo(_) => {
                self.damaged(&format!("the key of version {} of `{name}` has been changed", version.id))
            }
            CannotRewrap::CannotSeal(why) => StoreError::Unavailable(why.to_string()),
        })
    }

    /// Whether the key that it is sealed with is the one that comes next.
    pub(super) const fn is_by_next(&self) -> bool {
        self.by_next
    }

    /// Whether it is open what the file holds.
    pub(super) const fn is_doubtful(&self) -> bool {
        self.doubtful
    }

    /// From here on the key that came next stands where the key stands.
    pub(super) fn settled(&mut self) {
        self.by_next = false;
    }

    /// Looks at all of it, as it stands in the file.
    pub(super) fn check(&mut self) -> Result<Checked, StoreError> {
        self.settle_doubt()?;
        let mut checked = check::all(&self.connection, &self.key);
        if self.read_secrets().is_ok_and(|secrets| secrets != self.secrets) {
            checked.found(None, "its rows are not those that this process wrote");
        }
        Ok(checked)
    }

    /// Writes a copy of it to `path`, an empty file, and looks at all of that.
    pub(super) fn copy_to(&mut self, path: &Path) -> Result<Checked, StoreError> {
        self.settle_doubt()?;
        let to = path.to_str().ok_or_else(|| StoreError::Setup(format!("`{}` is not UTF-8", path.display())))?;
        self.connection.execute("VACUUM INTO ?1", [to]).map_err(|error| file::fault(path, &error))?;
        Ok(check::all(&file::connect(path)?, &self.key))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SystemRandom;
    use crate::store::{Attempt, Notes, VersionId};
    use crate::time::Wall;

    fn books(folder: &tempfile::TempDir) -> Books {
        let key = SealKey::derive(&Secret::new(vec![1; 32]), "store").unwrap();
        let lock = Locked::take(&folder.path().join("store.db")).unwrap();
        Books::open(lock, Keys { now: key, next: None }, Arc::new(SystemRandom)).unwrap()
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
