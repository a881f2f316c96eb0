//! (E) Copies of a sealed store: one that leaves, and one that takes the store's place.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::books::{Books, Keys};
use super::file::{self, Locked, cannot, damaged, folder_of, journal_of};
use super::{check, derived};
use crate::crypto::Random;
use crate::durable;
use crate::secret::Secret;
use crate::store::StoreError;
use crate::store::key::KeySource;
use crate::store::upkeep::Checked;
use crate::time::Wall;

/// How many bytes of a copy are read at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// A copy of a store, sealed as it is, which was looked at. It has no name: nothing of it is left when it is dropped.
#[derive(Debug)]
pub struct Copied {
    file: File,
    /// How many bytes it has.
    pub bytes: u64,
    /// What was found in it: no damage.
    pub checked: Checked,
}

impl Copied {
    pub(super) fn of(books: &mut Books) -> Result<Self, StoreError> {
        let path = books.path().with_added_extension("copy");
        let copied = file::make_empty(&path).and_then(|file| Ok((file, books.copy_to(&path)?)));
        // Nobody asks for it by its name.
        file::remove(&path).and_then(|()| file::remove(&journal_of(&path)))?;
        let (file, checked) = copied?;
        if let Some(damage) = checked.damage.first() {
            return Err(damaged(books.path(), &format!("a copy of it is not whole: {}", damage.what)));
        }
        let bytes = file.metadata().map_err(|error| cannot("look at", &path, &error))?.len();
        Ok(Self { file, bytes, checked })
    }

    /// The next bytes; none at its end.
    ///
    /// # Errors
    /// The operating system's.
    pub fn chunk(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(CHUNK_BYTES);
        self.file.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// Looks at all of a store that nobody has open, also at one that does not open.
///
/// # Errors
/// [`StoreError::Setup`] when it is not there, or its key is not; else as it cannot be read at all.
pub fn check_file(lock: &Locked, source: &KeySource, random: &dyn Random) -> Result<Checked, StoreError> {
    if !lock.exists() {
        return Err(StoreError::Setup(format!("there is no store at `{}`", lock.path().display())));
    }
    let key = source.load(lock, random)?;
    let connection = match file::connect(lock.path()) {
        Ok(connection) => connection,
        Err(StoreError::Damaged(what)) => {
            let mut checked = Checked { key: source.path().display().to_string(), ..Checked::default() };
            checked.found(None, what);
            return Ok(checked);
        }
        Err(why) => return Err(why),
    };
    let by_key = check::all(&connection, &derived(&key)?);
    let next = source.load_next().ok().flatten();
    let by_next = next.map(|next| Ok::<_, StoreError>(check::all(&connection, &derived(&next)?))).transpose()?;
    Ok(match by_next {
        // Its id is told only where the key opens it.
        Some(by_next) if by_key.id.is_none() && by_next.id.is_some() => {
            Checked { key: source.next_path().display().to_string(), ..by_next }
        }
        Some(_) | None => Checked { key: source.path().display().to_string(), ..by_key },
    })
}

/// A copy that lies beside the store, was looked at, and is sealed with the store's key.
#[derive(Debug)]
pub struct Staged {
    lock: Locked,
    path: PathBuf,
    /// Its id.
    pub id: String,
    /// How many changes were ever written to it.
    pub changes: u64,
    /// How many values it has.
    pub values: u64,
}

impl Staged {
    /// Copies `from` beside the store of `lock`, and looks at all of it. `key` is the one that it was sealed with, where
    /// that is not the key of `source`; it is then sealed with that.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when it is not whole or was made with another key. The store is as it was.
    pub fn lay(
        lock: Locked,
        from: &Path,
        source: &KeySource,
        key: Option<&Secret>,
        random: &Arc<dyn Random>,
    ) -> Result<Self, StoreError> {
        let path = lock.path().with_added_extension("restore");
        let staged = copy(from, &path).and_then(|()| read(&path, &lock, source, key, random));
        let left = file::remove(&journal_of(&path));
        match staged.and_then(|read| left.map(|()| read)) {
            Ok((id, changes, values)) => Ok(Self { lock, path, id, changes, values }),
            Err(why) => {
                // What stays is written over by the next restore.
                let _ = file::remove(&path);
                Err(of_backup(why, from, &path))
            }
        }
    }

    /// Puts it in place of the store, which is kept beside it; where.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; the store is as it was.
    pub fn put_in_place(self, now: Wall) -> Result<Option<PathBuf>, StoreError> {
        let Self { lock, path, .. } = &self;
        let kept = lock.exists().then(|| keep(lock.path(), now)).transpose()?;
        // A crash before this line leaves the old store; after it, the copy, which the audit log does not know yet.
        std::fs::rename(path, lock.path()).map_err(|error| cannot("replace", lock.path(), &error))?;
        durable::sync_folder(folder_of(path)).map_err(|error| cannot("write to", folder_of(path), &error))?;
        Ok(kept)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // It is not there any more where it was put in place.
        let _ = file::remove(&self.path);
    }
}

fn copy(from: &Path, to: &Path) -> Result<(), StoreError> {
    let mut copied = file::make_empty(to)?;
    let mut source = File::open(from).map_err(|error| cannot("open", from, &error))?;
    io::copy(&mut source, &mut copied).and_then(|_| copied.sync_all()).map_err(|error| cannot("copy", from, &error))
}

/// The id, the change counter and the number of values of the copy at `path`, all of which is whole.
fn read(
    path: &Path,
    lock: &Locked,
    source: &KeySource,
    key: Option<&Secret>,
    random: &Arc<dyn Random>,
) -> Result<(String, u64, u64), StoreError> {
    let (now, next) = (source.load(lock, &**random)?, source.load_next()?);
    let next = next.as_ref().map(derived).transpose()?;
    let keys = match key {
        Some(key) => Keys { now: derived(key)?, next: None },
        None => Keys { now: derived(&now)?, next },
    };
    let mut books = Books::of_copy(path, keys, Arc::clone(random))?;
    let checked = books.check()?;
    if let Some(damage) = checked.damage.first() {
        let of = damage.secret.as_ref().map(|name| format!("`{name}`: ")).unwrap_or_default();
        return Err(damaged(path, &format!("{of}{}", damage.what)));
    }
    if key.is_some() {
        match books.rekey(derived(&now)?) {
            // It was made under the key of now after all.
            Ok(_) | Err(StoreError::Invalid(_)) => {}
            Err(why) => return Err(why),
        }
    }
    Ok((books.id().to_owned(), books.changes(), checked.values))
}

/// Gives the store's file at `path` a second name, and takes away the note of how to undo its last change: SQLite would
/// play that into the copy.
fn keep(path: &Path, now: Wall) -> Result<PathBuf, StoreError> {
    // A damaged one may not be readable; it is kept as it is.
    let _ = file::undo_what_was_cut_off(path);
    let kept = path.with_added_extension(format!("replaced-{}", now.micros() / 1_000_000));
    let failed = |error| cannot("keep the old store as", &kept, &error);
    std::fs::hard_link(path, &kept).map_err(failed)?;
    let (journal, beside) = (journal_of(path), journal_of(&kept));
    match journal.metadata() {
        Ok(left) if left.len() > 0 => std::fs::rename(&journal, beside).map_err(failed)?,
        Ok(_) | Err(_) => file::remove(&journal)?,
    }
    Ok(kept)
}

/// `why` as it is about the file that the operator named.
fn of_backup(why: StoreError, from: &Path, staged: &Path) -> StoreError {
    let named = |what: String| what.replace(&staged.display().to_string(), &from.display().to_string());
    match why {
        StoreError::Damaged(what) => {
            let what = named(what);
            let what = what.split_once("; `bursar store check`").map_or(what.as_str(), |(what, _)| what);
            StoreError::Damaged(format!(
                "{what}; the store is as it was: give another backup, or, with `--key`, the key that this one was made under"
            ))
        }
        StoreError::Setup(what) => StoreError::Setup(named(what)),
        StoreError::Unavailable(what) => StoreError::Unavailable(named(what)),
        StoreError::NotFound(_)
        | StoreError::Fenced(_)
        | StoreError::Taken(..)
        | StoreError::ReadOnly(_)
        | StoreError::Invalid(_) => why,
    }
}
