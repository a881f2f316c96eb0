//! (E) The sealed store: SQLite on a thread of its own, to which only sealed bytes go.
//!
//! Each value has a data key (AES-256-GCM), wrapped by the store key and bound to store, name, version and attempt.
//! A keyed tag stands over all versions of a secret with their stages and notes, and one over all secrets and the
//! change counter. So a changed byte, a swapped or missing row, or one secret's rows of yesterday are noticed here;
//! the whole file of yesterday is noticed by the change counter, which the audit log holds too.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{Builder, JoinHandle};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use super::key::KeySource;
use super::upkeep::{Checked, NewKey, Rekeyed, Upkeep};
use super::{Attempt, Notes, Reserved, Store, StoreError, Version, VersionId, Versions, Which, check_value};
use crate::crypto::seal::SealKey;
use crate::crypto::{Random, random_uuid};
use crate::name::StoredName;
use crate::secret::Secret;
use crate::time::{Clock, Wall};

#[doc(hidden)]
pub mod bind;
mod books;
mod check;
mod copy;
mod file;
mod rows;

pub use copy::{Copied, Staged, check_file};
pub use file::Locked;

use books::{Books, Keys};

/// How many requests wait for the thread at most; further ones wait for their place.
const QUEUE: usize = 64;

type Job = Box<dyn FnOnce(&mut Books) + Send>;

/// The embedded store, sealed at rest. When it is dropped, it finishes what is being written and gives up its lock.
pub struct SealedStore {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    id: String,
    changes: Arc<AtomicU64>,
    source: Arc<KeySource>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl SealedStore {
    /// Opens the store whose lock is `lock`, made first if it is not there, with the key of `source` or the one that comes
    /// next: whichever it is sealed with.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] for a wrong key or a changed file, [`StoreError::Setup`] for modes and schema versions,
    /// [`StoreError::Unavailable`] where the file cannot be used.
    pub fn open(
        lock: Locked,
        source: KeySource,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, StoreError> {
        let (now, next) = (source.load(&lock, &*random)?, source.load_next());
        let keys =
            Keys { now: derived(&now)?, next: next.as_ref().ok().and_then(Option::as_ref).map(derived).transpose()? };
        let mut books = Books::open(lock, keys, Arc::clone(&random)).map_err(|why| next.err().unwrap_or(why))?;
        if books.is_by_next() {
            settle(&mut books, &source);
        }
        let (id, changes) = (books.id().to_owned(), Arc::new(AtomicU64::new(books.changes())));
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE);
        let work = move || {
            while let Some(job) = queue.blocking_recv() {
                job(&mut books);
            }
        };
        let thread = Builder::new().name("sealed store".into()).spawn(work);
        let thread = thread.map_err(|error| StoreError::Unavailable(format!("cannot start its thread: {error}")))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread), id, changes, source: Arc::new(source), clock, random })
    }

    async fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&mut Books) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let stopped = || StoreError::Unavailable("its thread has stopped: restart bursar".into());
        let (answer, answered) = oneshot::channel();
        let changes = Arc::clone(&self.changes);
        let job: Job = Box::new(move |books| {
            let done = ask(books);
            changes.store(books.changes(), Ordering::Release);
            // Nobody waits where the asking future was dropped; what was done stays done.
            let _ = answer.send(done);
        });
        self.jobs.as_ref().ok_or_else(stopped)?.send(job).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }
}

impl Store for SealedStore {
    fn list(&self) -> BoxFuture<'_, Result<Vec<StoredName>, StoreError>> {
        self.ask(Books::list).boxed()
    }

    fn versions<'a>(&'a self, name: &'a StoredName) -> BoxFuture<'a, Result<Versions, StoreError>> {
        let name = name.clone();
        self.ask(move |books| books.versions(&name)).boxed()
    }

    fn read<'a>(
        &'a self,
        name: &'a StoredName,
        which: &'a Which,
    ) -> BoxFuture<'a, Result<(Version, Secret), StoreError>> {
        let (name, which) = (name.clone(), which.clone());
        self.ask(move |books| books.read(&name, &which)).boxed()
    }

    fn reserve<'a>(
        &'a self,
        name: &'a StoredName,
        attempt: &'a Attempt,
        lease_ends: Wall,
        notes: &'a Notes,
    ) -> BoxFuture<'a, Result<Reserved, StoreError>> {
        let (name, attempt, notes) = (name.clone(), attempt.clone(), notes.clone());
        let (clock, random) = (Arc::clone(&self.clock), Arc::clone(&self.random));
        let reserve = move |books: &mut Books| {
            let fresh = random_uuid(&*random).map_err(|error| StoreError::Unavailable(error.to_string()))?.parse()?;
            let now = clock.now().wall;
            books.change(&name, None, |versions| versions.reserve(now, fresh, &attempt, lease_ends, &notes))
        };
        self.ask(reserve).boxed()
    }

    fn fill<'a>(
        &'a self,
        name: &'a StoredName,
        attempt: &'a Attempt,
        value: &'a Secret,
        notes: &'a Notes,
    ) -> BoxFuture<'a, Result<VersionId, StoreError>> {
        let (name, attempt, notes) = (name.clone(), attempt.clone(), notes.clone());
        let fill = async move {
            check_value(value)?;
            let value = Secret::copy_of(value.expose());
            self.ask(move |books| books.change(&name, Some(&value), |versions| versions.fill(&attempt, &notes))).await
        };
        fill.boxed()
    }

    fn promote<'a>(
        &'a self,
        name: &'a StoredName,
        attempt: &'a Attempt,
    ) -> BoxFuture<'a, Result<VersionId, StoreError>> {
        let (name, attempt, clock) = (name.clone(), attempt.clone(), Arc::clone(&self.clock));
        let promote =
            move |books: &mut Books| books.change(&name, None, |versions| versions.promote(clock.now().wall, &attempt));
        self.ask(promote).boxed()
    }

    fn retire<'a>(
        &'a self,
        name: &'a StoredName,
        version: &'a VersionId,
        attempt: &'a Attempt,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let (name, version, attempt) = (name.clone(), version.clone(), attempt.clone());
        self.ask(move |books| books.change(&name, None, |versions| versions.retire(&version, &attempt))).boxed()
    }

    fn note<'a>(
        &'a self,
        name: &'a StoredName,
        version: &'a VersionId,
        attempt: &'a Attempt,
        notes: &'a Notes,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let (name, version, attempt, notes) = (name.clone(), version.clone(), attempt.clone(), notes.clone());
        self.ask(move |books| books.change(&name, None, |versions| versions.note(&version, &attempt, &notes))).boxed()
    }

    fn id(&self) -> Option<&str> {
        Some(&self.id)
    }

    fn change_counter(&self) -> Option<u64> {
        Some(self.changes.load(Ordering::Acquire))
    }

    fn upkeep(&self) -> Option<&dyn Upkeep> {
        Some(self)
    }
}

impl Upkeep for SealedStore {
    fn rekey(&self, to: NewKey) -> BoxFuture<'_, Result<Rekeyed, StoreError>> {
        let (source, random) = (Arc::clone(&self.source), Arc::clone(&self.random));
        self.ask(move |books| rekey(books, &source, &to, &*random)).boxed()
    }

    fn back_up(&self) -> BoxFuture<'_, Result<Copied, StoreError>> {
        self.ask(Copied::of).boxed()
    }

    fn check(&self) -> BoxFuture<'_, Result<Checked, StoreError>> {
        let source = Arc::clone(&self.source);
        let check = move |books: &mut Books| {
            let key = if books.is_by_next() { source.next_path() } else { source.path().to_owned() };
            Ok(Checked { key: key.display().to_string(), ..books.check()? })
        };
        self.ask(check).boxed()
    }
}

/// Changes the key in three steps: the new one is laid beside the old one, the store is sealed with it, it takes the old
/// one's place. The store opens with either, so a crash between two steps leaves one that opens.
fn rekey(books: &mut Books, source: &KeySource, to: &NewKey, random: &dyn Random) -> Result<Rekeyed, StoreError> {
    // The key that comes next must not be written over while it is the one that opens the store.
    let unsettled = books.is_by_next().then(|| settle(books, source)).flatten();
    if let Some(to_do) = unsettled {
        return Err(StoreError::Setup(format!("its key was changed before, and that has to be ended first: {to_do}")));
    }
    let key = derived(&source.lay_next(to, random)?)?;
    let values = match books.rekey(key) {
        Ok(values) => values,
        Err(why) => return Err(not_rekeyed(why, source, books.is_doubtful())),
    };
    let to_do = settle(books, source);
    let key = if to_do.is_some() { source.next_path() } else { source.path().to_owned() };
    Ok(Rekeyed { values, key: key.display().to_string(), to_do })
}

/// Lets the key that comes next take the place of the key, which is what the store is sealed with; what is left to do.
fn settle(books: &mut Books, source: &KeySource) -> Option<String> {
    let to_do = source.settle();
    match &to_do {
        None => {
            books.settled();
            tracing::info!("a sealed store is under its new key, which is `{}` now", source.path().display());
        }
        Some(to_do) => tracing::warn!("a sealed store is under its new key; left to do: {to_do}"),
    }
    to_do
}

/// `why`, with what the key is now. Where nothing can be sealed with the key that was to come, it is taken away.
fn not_rekeyed(why: StoreError, source: &KeySource, is_doubtful: bool) -> StoreError {
    let which = if is_doubtful {
        let (path, next) = (source.path().display(), source.next_path());
        format!("keep `{path}` and `{}`: the store opens with the one that it is sealed with", next.display())
    } else {
        source.take_next_away();
        format!("the key is still `{}`", source.path().display())
    };
    match why {
        StoreError::Damaged(what) => StoreError::Damaged(format!("{what}; {which}")),
        StoreError::Invalid(what) => StoreError::Invalid(format!("{what}; {which}")),
        StoreError::Unavailable(what) => StoreError::Unavailable(format!("{what}; {which}")),
        StoreError::NotFound(_)
        | StoreError::Fenced(_)
        | StoreError::Taken(..)
        | StoreError::ReadOnly(_)
        | StoreError::Setup(_) => why,
    }
}

fn derived(key: &Secret) -> Result<SealKey, StoreError> {
    SealKey::derive(key, "store").map_err(|error| StoreError::Setup(error.to_string()))
}

impl Drop for SealedStore {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has nothing to finish; its transaction is rolled back at the next opening.
            let _ = thread.join();
        }
    }
}
