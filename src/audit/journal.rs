//! (E) The journal: the handle by which everyone records.
//!
//! Whoever records renders its line, lays it into the open batch and waits; the thread of `writer` does
//! the rest.

use std::sync::Arc;

use crate::telemetry::metrics::Histogram;
use crate::time::Clock;

use super::batch::{Batch, Sink};
use super::commit::{Committer, Terms};
use super::line::{self, Boundary};
use super::pending::Pending;
use super::recover::recover;
use super::segment::{Files, Lock};
use super::writer::Shared;
use super::{AuditError, Durability, LogId, NotDurable, Receipt, Record, Refusal, Settings, Start};

pub use super::writer::{HANGS_AFTER, Status};

/// Records into the log. Cheap to clone; when the last clone is dropped the log is ended in order.
#[derive(Clone, Debug)]
pub struct Journal {
    handle: Arc<Handle>,
}

impl Journal {
    /// Opens the log of `settings.dir`, closes off what a crash left torn, and makes `start` its next record.
    ///
    /// Blocks for a few syncs.
    ///
    /// # Errors
    /// [`AuditError`]: another process writes it, it is another log, it cannot be read or written.
    pub fn open(settings: &Settings, start: &Start<'_>, clock: Arc<dyn Clock>) -> Result<Self, AuditError> {
        Self::open_through(settings, start, clock, |files| files)
    }

    /// The same, with `wrap` around the files: the seam at which tests let the disk fail.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_through<S: Sink>(
        settings: &Settings,
        start: &Start<'_>,
        clock: Arc<dyn Clock>,
        wrap: impl FnOnce(Files) -> S,
    ) -> Result<Self, AuditError> {
        let dir = &settings.dir;
        let mut files = Files::new(dir, Lock::take(dir, start.mode, start.pid)?);
        let end = recover(dir)?;
        if let Some(found) = end.log.filter(|found| *found != start.log) {
            let (found, ours) = (found.to_string(), start.log.to_string());
            return Err(AuditError::Foreign { dir: dir.clone(), found, ours });
        }
        if let Some(name) = end.resume {
            files.resume(name).map_err(AuditError::io(dir))?;
        }
        let mut committer = Committer::new(wrap(files), terms(settings, start.log), end.here, end.broken);
        let unwritable = |source| AuditError::Unwritable { dir: dir.clone(), source };
        committer.commit(&opened(start, settings.durability, &*clock), clock.now()).map_err(unwritable)?;
        let shared = Shared::start(committer, start.log, clock).map_err(AuditError::io(dir))?;
        Ok(Self { handle: Arc::new(Handle(shared)) })
    }

    /// Lays `record` into the open batch. What is laid in together is synced together; it is written even if
    /// the answer is not awaited.
    pub fn enqueue(&self, record: &Record<'_>) -> Pending {
        Pending::new(self.handle.0.enqueue(record), record.nonce(), self.log())
    }

    /// Records `record`, and returns when it is durable.
    ///
    /// # Errors
    /// [`NotDurable`]: nothing may be answered for which this record stands.
    pub async fn append(&self, record: &Record<'_>) -> Result<Receipt, NotDurable> {
        self.enqueue(record).await
    }

    /// Records a refusal, singly or among those that are counted (see [`super::refusals`]); resolves to what
    /// names the record of it, or the record under which it is counted.
    pub fn refuse(&self, refusal: &Refusal<'_>) -> Pending {
        Pending::new(self.handle.0.refuse(refusal), None, self.log())
    }

    /// Writes what is waiting and a `stop` record, and gives the log free.
    ///
    /// # Errors
    /// [`NotDurable`] when that fails; the log is free all the same, unless the disk hangs.
    pub async fn stop(&self, reason: &'static str) -> Result<(), NotDurable> {
        Pending::new(self.handle.0.close(reason), None, self.log()).await.map(drop)
    }

    /// How the log stands at this moment.
    #[must_use]
    pub fn status(&self) -> Status {
        self.handle.0.look()
    }

    /// How long commits took: a write and, as the durability says, a sync.
    #[must_use]
    pub fn commits(&self) -> &Histogram {
        &self.handle.0.commits
    }

    /// Which log this is.
    #[must_use]
    pub fn log(&self) -> LogId {
        self.handle.0.log
    }
}

fn terms(settings: &Settings, log: LogId) -> Terms {
    Terms {
        log,
        durability: settings.durability,
        segment_bytes: settings.segment_bytes,
        reserve_bytes: settings.reserve_bytes.min(settings.segment_bytes / 4),
    }
}

fn opened(start: &Start<'_>, durability: Durability, clock: &dyn Clock) -> Batch {
    let mut body = Vec::with_capacity(512);
    line::boundary(&Boundary::Start(start, durability), &mut body);
    let mut batch = Batch::default();
    batch.push(&body, clock.now().wall, false);
    batch
}

/// Ends the log in order when the last clone of the journal goes.
#[derive(Debug)]
struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        drop(self.0.close("dropped"));
    }
}
