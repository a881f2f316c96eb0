//! (E) The file of a sealed store: its lock, its modes, and how SQLite is opened on it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use rustix::fs::{FlockOperation, OFlags, flock};

use crate::durable;
use crate::store::StoreError;
use crate::store::exposure::{Owned, Readers, check_file, check_folder};

/// The version of the tables below. Another number is refused.
pub(super) const SCHEMA: i64 = 1;
/// `burs`: what `file` and SQLite's tools show of whose file it is.
const APPLICATION: i64 = 0x6275_7273;

const TABLES: &str = "
CREATE TABLE store   (one INTEGER PRIMARY KEY CHECK (one = 1), id TEXT NOT NULL, key_tag BLOB NOT NULL,
                      changes INTEGER NOT NULL, tag BLOB NOT NULL) STRICT;
CREATE TABLE secret  (name TEXT PRIMARY KEY, tag BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE version (name TEXT NOT NULL, nth INTEGER NOT NULL, id TEXT NOT NULL, stages TEXT NOT NULL,
                      attempt TEXT NOT NULL, notes TEXT NOT NULL, created INTEGER NOT NULL, wrapped BLOB, text BLOB,
                      PRIMARY KEY (name, id)) STRICT, WITHOUT ROWID;
";

/// The store's file, which no other process writes while this value lives.
#[derive(Debug)]
pub struct Locked {
    path: PathBuf,
    /// Its lock is an advisory one on `<path>.lock`, not on the file itself: closing any descriptor of that would
    /// end SQLite's own locks.
    lock: File,
}

impl Locked {
    /// Takes the lock of the store at `path`. The directory must exist; the store need not.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when another process holds it; [`StoreError::Setup`] when others could write to
    /// the directory.
    pub fn take(path: &Path) -> Result<Self, StoreError> {
        let folder = folder_of(path);
        let metadata = std::fs::metadata(folder).map_err(|error| cannot("look at", folder, &error))?;
        check_folder(folder, Owned { mode: metadata.mode(), uid: metadata.uid() }, our_uid())?;
        let beside = path.with_added_extension("lock");
        let mut options = OpenOptions::new();
        // In a sticky folder others may have put a link or a pipe there.
        let careful = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let lock = options.write(true).create(true).truncate(false).mode(0o600).custom_flags(careful).open(&beside);
        let lock = lock.map_err(|error| cannot("open", &beside, &error))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path: path.into(), lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::Unavailable(format!(
                "`{}` is in use by another process: ask the running agent, or stop it first",
                path.display()
            ))),
            Err(error) => Err(cannot("lock", &beside, &error.into())),
        }
    }

    /// The store's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the store's file is there.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.path.symlink_metadata().is_ok()
    }

    /// Opens the file. Where there is none it is made, and `fill` writes its first row.
    ///
    /// It is made beside and renamed, so that an empty file is never one that was being made: it was cut.
    pub(super) fn connect(
        &self,
        fill: impl FnOnce(&Connection) -> rusqlite::Result<()>,
    ) -> Result<Connection, StoreError> {
        if !self.exists() {
            self.make(fill)?;
        }
        connect(&self.path)
    }

    fn make(&self, fill: impl FnOnce(&Connection) -> rusqlite::Result<()>) -> Result<(), StoreError> {
        let beside = self.path.with_added_extension("new");
        let journal = journal_of(&self.path);
        // SQLite would play a journal that a lost store left behind into the new one.
        for left in [&beside, &journal] {
            remove(left)?;
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside);
        let file = file.map_err(|error| cannot("make", &beside, &error))?;
        let filled = open(&beside).and_then(|connection| create(&connection).and_then(|()| fill(&connection)));
        filled.map_err(|error| fault(&beside, &error))?;
        // A crash before the renaming leaves no store; the next start makes another.
        let renamed = file.sync_all().and_then(|()| std::fs::rename(&beside, &self.path));
        let durable = renamed.and_then(|()| durable::sync_folder(folder_of(&self.path)));
        durable.map_err(|error| cannot("make", &self.path, &error))
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // Closing would not do: a process that another thread has just forked has the descriptor too, until it executes.
        let _ = flock(&self.lock, FlockOperation::Unlock);
    }
}

/// Opens the file at `path`, which is there.
///
/// # Errors
/// [`StoreError::Setup`] for its mode and a newer schema; else as the file is.
pub(super) fn connect(path: &Path) -> Result<Connection, StoreError> {
    let metadata = path.symlink_metadata().map_err(|error| cannot("look at", path, &error))?;
    if !metadata.is_file() {
        let what = format!("`{}` is not a file: give the store another path", path.display());
        return Err(StoreError::Setup(what));
    }
    let owned = Owned { mode: metadata.mode(), uid: metadata.uid() };
    check_file(path, owned, our_uid(), Readers::Owner)?;
    let opened = open(path).and_then(|connection| configure(&connection).map(|()| connection));
    let connection = opened.map_err(|error| fault(path, &error))?;
    check_schema(path, &connection)?;
    Ok(connection)
}

/// Lets SQLite undo, in the file at `path`, the change that a crash cut off, as any opening does.
pub(super) fn undo_what_was_cut_off(path: &Path) -> rusqlite::Result<()> {
    open(path)?.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
}

fn check_schema(path: &Path, connection: &Connection) -> Result<(), StoreError> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let read = || Ok((pragma("application_id")?, pragma("user_version")?));
    match read().map_err(|error| fault(path, &error))? {
        (APPLICATION, SCHEMA) => Ok(()),
        (APPLICATION, version) if version > SCHEMA => Err(StoreError::Setup(format!(
            "`{}` has schema {version}, and this bursar knows {SCHEMA}: use the newer bursar that wrote it",
            path.display()
        ))),
        _ => Err(damaged(path, "it is not a sealed store")),
    }
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    Connection::open_with_flags(path, flags)
}

/// A rollback journal, not a write-ahead log: the store is one file whenever nothing is being written, writes are
/// rare, and what is retired does not wait in a log. It is truncated, not removed, since SQLite syncs a truncation
/// at FULL, and a journal that came back after a power failure would undo a write that was answered.
fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false)?;
    connection.execute_batch(
        "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = TRUNCATE; PRAGMA synchronous = FULL;
         PRAGMA secure_delete = ON; PRAGMA temp_store = MEMORY; PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0;
         PRAGMA cache_size = -512;",
    )
}

fn create(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("PRAGMA journal_mode = OFF")?;
    connection.execute_batch(TABLES)?;
    connection.pragma_update(None, "application_id", APPLICATION)?;
    connection.pragma_update(None, "user_version", SCHEMA)
}

/// SQLite's error as ours: whether the file is bad, or cannot be reached.
pub(super) fn fault(path: &Path, error: &rusqlite::Error) -> StoreError {
    use rusqlite::ErrorCode as Code;
    match error.sqlite_error_code() {
        Some(Code::DiskFull) => {
            StoreError::Unavailable(format!("no room to write `{}`: free some; the old values stand", path.display()))
        }
        Some(
            Code::SystemIoFailure
            | Code::CannotOpen
            | Code::ReadOnly
            | Code::PermissionDenied
            | Code::DatabaseBusy
            | Code::DatabaseLocked
            | Code::OutOfMemory
            | Code::NoLargeFileSupport
            | Code::FileLockingProtocolFailed,
        ) => StoreError::Unavailable(format!("cannot use `{}`: {error}", path.display())),
        // Our statements are fixed, so any other complaint is about the file.
        Some(_) | None => damaged(path, &error.to_string()),
    }
}

/// The file is not what was written.
pub(super) fn damaged(path: &Path, what: &str) -> StoreError {
    StoreError::Damaged(format!(
        "`{}`: {what}; `bursar store check` tells what else is, `bursar store restore` puts a backup in its place",
        path.display()
    ))
}

/// Where SQLite notes how to undo what is being changed in the file at `path`.
pub(super) fn journal_of(path: &Path) -> PathBuf {
    let mut journal = path.as_os_str().to_owned();
    journal.push("-journal");
    journal.into()
}

/// Makes an empty file at `path` that is its owner's alone, in place of what was left there.
pub(super) fn make_empty(path: &Path) -> Result<File, StoreError> {
    for left in [path, &journal_of(path)] {
        remove(left)?;
    }
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path);
    file.map_err(|error| cannot("make", path, &error))
}

/// Removes the file at `path`, if there is one.
pub(super) fn remove(path: &Path) -> Result<(), StoreError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(cannot("remove", path, &error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

pub(super) fn cannot(do_what: &str, path: &Path, error: &io::Error) -> StoreError {
    StoreError::Unavailable(format!("cannot {do_what} `{}`: {error}", path.display()))
}

pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn our_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_given_up_is_free_though_a_fork_has_its_descriptor() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let held = Locked::take(&path).unwrap();
        let _forked = held.lock.try_clone().unwrap();
        assert!(Locked::take(&path).unwrap_err().to_string().contains("in use"));
        drop(held);
        assert!(Locked::take(&path).is_ok());
    }
}
