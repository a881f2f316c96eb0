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

use super::{Attempt, Notes, Reserved, Store, StoreError, Version, VersionId, Versions, Which, check_value};
use crate::crypto::seal::SealKey;
use crate::crypto::{Random, random_uuid};
use crate::name::StoredName;
use crate::secret::Secret;
use crate::time::{Clock, Wall};

#[doc(hidden)]
pub mod bind;
mod books;
mod file;

pub use file::Locked;

use books::Books;

/// How many requests wait for the thread at most; further ones wait for their place.
const QUEUE: usize = 64;

type Job = Box<dyn FnOnce(&mut Books) + Send>;

/// The embedded store, sealed at rest. When it is dropped, it finishes what is being written and gives up its lock.
pub struct SealedStore {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    id: String,
    changes: Arc<AtomicU64>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl SealedStore {
    /// Opens the store whose lock is `lock`, made first if it is not there. `key` is what
    /// [`super::key::KeySource::load`] gave.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] for a wrong key or a changed file, [`StoreError::Setup`] for modes and schema versions,
    /// [`StoreError::Unavailable`] where the file cannot be used.
    pub fn open(
        lock: Locked,
        key: &Secret,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, StoreError> {
        let key = SealKey::derive(key, "store").map_err(|error| StoreError::Setup(error.to_string()))?;
        let mut books = Books::open(lock, key, Arc::clone(&random))?;
        let (id, changes) = (books.id().to_owned(), Arc::new(AtomicU64::new(books.changes())));
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE);
        let work = move || {
            while let Some(job) = queue.blocking_recv() {
                job(&mut books);
            }
        };
        let thread = Builder::new().name("sealed store".into()).spawn(work);
        let thread = thread.map_err(|error| StoreError::Unavailable(format!("cannot start its thread: {error}")))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread), id, changes, clock, random })
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

    fn id(&self) -> Option<&str> {
        Some(&self.id)
    }

    fn change_counter(&self) -> Option<u64> {
        Some(self.changes.load(Ordering::Acquire))
    }
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
