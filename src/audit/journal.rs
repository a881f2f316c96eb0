//! (E) The journal: the thread that writes the log, and the handle by which everyone else records.
//!
//! Whoever records renders its line, lays it into the open batch and waits. The thread takes the batch whole,
//! writes it, syncs it, and wakes all who wait for it. While it syncs the next batch fills, so that one sync
//! serves as many as came during the one before.

use std::future::Future;
use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::account::Nonce;
use crate::time::{Boot, Clock};

use super::commit::{Batch, Committer, Here, Terms};
use super::gather::Gather;
use super::line::{self, Boundary};
use super::recover::recover;
use super::refusals::{Due, Fate, Refusals};
use super::segment::{Files, Lock};
use super::{AuditError, Durability, LogId, NotDurable, Receipt, Record, Refusal, Settings, Sink, Start, Suppressed};

/// How many bytes of bodies wait for the disk before records are refused.
const MAX_WAITING_BYTES: usize = 16 << 20;
/// How soon counted refusals are looked at.
const TICK: Duration = Duration::from_secs(1);

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
        Self::run(committer, start.log, clock).map_err(AuditError::io(dir))
    }

    fn run<S: Sink>(committer: Committer<S>, log: LogId, clock: Arc<dyn Clock>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            log,
            clock,
            queue: Mutex::default(),
            work: Condvar::new(),
            refusals: Mutex::default(),
            status: Mutex::new(Status::of(&committer)),
        });
        let writer = Writer(Arc::clone(&shared));
        std::thread::Builder::new().name("bursar-journal".to_owned()).spawn(move || writer.run(committer))?;
        Ok(Self { handle: Arc::new(Handle(shared)) })
    }

    /// Lays `record` into the open batch. What is laid in together is synced together; it is written even if
    /// the answer is not awaited.
    pub fn enqueue(&self, record: &Record<'_>) -> Pending {
        Pending { ticket: self.handle.0.enqueue(record), slot: None, nonce: record.nonce(), log: self.handle.0.log }
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
        Pending { ticket: self.handle.0.refuse(refusal), slot: None, nonce: None, log: self.handle.0.log }
    }

    /// Writes what is waiting and a `stop` record, and gives the log free.
    ///
    /// # Errors
    /// [`NotDurable`] when that fails; the log is free all the same.
    pub async fn stop(&self, reason: &'static str) -> Result<(), NotDurable> {
        let ticket = self.handle.0.close(reason);
        let log = self.handle.0.log;
        Pending { ticket, slot: None, nonce: None, log }.await.map(drop)
    }

    /// How the log stands at this moment.
    #[must_use]
    pub fn status(&self) -> Status {
        *lock(&self.handle.0.status)
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

/// How the log stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// How many records it holds.
    pub size: u64,
    /// The number of the segment that is written.
    pub segment: u64,
    /// The length of that segment, in bytes.
    pub segment_bytes: u64,
    /// How many bytes of disk are set aside for more.
    pub reserve_left: u64,
    /// The error with which the disk fails, while it does: nothing can be recorded.
    pub failing: Option<i32>,
}

impl Status {
    fn of<S: Sink>(committer: &Committer<S>) -> Self {
        let Here { segment, bytes, size, .. } = committer.here();
        let failing = committer.errno();
        Self { size, segment, segment_bytes: bytes, reserve_left: committer.reserve_left(), failing }
    }
}

/// A record on its way to the disk. It is written whether or not this is awaited.
#[derive(Debug)]
#[must_use]
pub struct Pending {
    ticket: Result<Ticket, NotDurable>,
    /// Where our waker stands among those of the batch.
    slot: Option<usize>,
    nonce: Option<Nonce>,
    log: LogId,
}

impl Future for Pending {
    type Output = Result<Receipt, NotDurable>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { ticket, slot, nonce, log } = &mut *self;
        match ticket {
            Err(error) => Poll::Ready(Err(error.clone())),
            Ok(ticket) => ticket.poll(slot, cx).map_ok(|index| Receipt::issue(*nonce, log.decision(index))),
        }
    }
}

/// A place in a batch.
#[derive(Clone, Debug)]
struct Ticket {
    fate: Arc<Fated>,
    nth: u64,
}

impl Ticket {
    fn poll(&self, slot: &mut Option<usize>, cx: &Context<'_>) -> Poll<Result<u64, NotDurable>> {
        if self.fate.result.get().is_none() {
            self.fate.wait(slot, cx.waker());
        }
        match self.fate.result.get() {
            None => Poll::Pending,
            Some(Ok(first)) => Poll::Ready(Ok(first + self.nth)),
            Some(Err(error)) => Poll::Ready(Err(error.clone())),
        }
    }

    /// The index, if the record is durable already.
    fn index(&self) -> Option<u64> {
        self.fate.result.get()?.as_ref().ok().map(|first| first + self.nth)
    }
}

/// What became of a batch, for all who have a record in it.
#[derive(Debug, Default)]
struct Fated {
    /// The index of the batch's first record.
    result: OnceLock<Result<u64, NotDurable>>,
    waiters: Mutex<Vec<Waker>>,
}

impl Fated {
    fn wait(&self, slot: &mut Option<usize>, waker: &Waker) {
        let mut waiters = lock(&self.waiters);
        if self.result.get().is_some() {
            return;
        }
        match slot.and_then(|slot| waiters.get_mut(slot)) {
            Some(waiter) => waiter.clone_from(waker),
            None => {
                *slot = Some(waiters.len());
                waiters.push(waker.clone());
            }
        }
    }

    fn settle(&self, result: Result<u64, NotDurable>) {
        let waiters = {
            let mut waiters = lock(&self.waiters);
            // Set once by the writer; a second time only by the guard that ends it, and then in vain.
            let _ = self.result.set(result);
            std::mem::take(&mut *waiters)
        };
        waiters.into_iter().for_each(Waker::wake);
    }
}

/// Ends the log in order when the last clone of the journal goes.
#[derive(Debug)]
struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        drop(self.0.close("dropped"));
    }
}

/// What the writer and those who record share.
struct Shared {
    log: LogId,
    clock: Arc<dyn Clock>,
    queue: Mutex<Queue>,
    /// Signals the writer when it is asleep.
    work: Condvar,
    /// Taken before `queue`, never after.
    refusals: Mutex<Refusals<Ticket>>,
    status: Mutex<Status>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("log", &self.log).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Queue {
    batch: Batch,
    fate: Arc<Fated>,
    /// The writer sleeps until there are so many records; none: it is awake.
    awaited: Option<u64>,
    ended: bool,
}

impl Shared {
    fn enqueue(&self, record: &Record<'_>) -> Result<Ticket, NotDurable> {
        let mut body = Vec::with_capacity(1_024);
        line::body(record, &mut body)?;
        let at = self.clock.now().wall;
        let mut queue = lock(&self.queue);
        if queue.ended {
            return Err(NotDurable::Stopped);
        }
        if queue.batch.bytes() + body.len() > MAX_WAITING_BYTES {
            return Err(NotDurable::Behind(queue.batch.bytes()));
        }
        let nth = queue.batch.push(&body, at, record.outlives_a_void_batch());
        let ticket = Ticket { fate: Arc::clone(&queue.fate), nth };
        if queue.awaited.is_some_and(|awaited| queue.batch.len() >= awaited) {
            self.rouse(queue);
        }
        Ok(ticket)
    }

    fn refuse(&self, refusal: &Refusal<'_>) -> Result<Ticket, NotDurable> {
        let uid = refusal.who.map(|who| who.uid);
        let mut refusals = lock(&self.refusals);
        let first = !refusals.is_counting();
        match refusals.decide(uid, refusal.code, self.clock.now().boot) {
            Fate::Write(whose) => {
                let ticket = self.enqueue(&Record::Refusal(*refusal))?;
                refusals.wrote(whose, ticket.clone());
                Ok(ticket)
            }
            Fate::Count(under) => {
                drop(refusals);
                if first {
                    // So that the writer looks after the counts from now on, whatever else comes.
                    self.rouse(lock(&self.queue));
                }
                Ok(under)
            }
        }
    }

    /// Writes the counts that are due; whether others are running.
    fn flush(&self, all: bool) -> bool {
        let mut refusals = lock(&self.refusals);
        let due = if all { refusals.rest() } else { refusals.due(self.clock.now().boot) };
        for Due { whose, counts, under } in due {
            let under = under.and_then(|ticket| ticket.index());
            // Refused only when the log has ended or the disk hangs: then there is nowhere to count to.
            drop(self.enqueue(&Record::Suppressed(Suppressed { whose, counts: &counts, under })));
        }
        refusals.is_counting()
    }

    fn close(&self, reason: &'static str) -> Result<Ticket, NotDurable> {
        self.flush(true);
        let mut queue = lock(&self.queue);
        if queue.ended {
            return Err(NotDurable::Stopped);
        }
        queue.ended = true;
        queue.batch.stop = Some(reason);
        let ticket = Ticket { fate: Arc::clone(&queue.fate), nth: queue.batch.len() };
        self.rouse(queue);
        Ok(ticket)
    }

    /// Wakes the writer if it is asleep, with the lock given back first.
    fn rouse(&self, mut queue: MutexGuard<'_, Queue>) {
        let asleep = queue.awaited.take().is_some();
        drop(queue);
        if asleep {
            self.work.notify_one();
        }
    }

    /// Takes the batch that has filled, into `batch`; waits for one, but no longer than `patience`.
    fn take(&self, batch: &mut Batch, gather: &mut Gather, patience: Option<Duration>) -> Arc<Fated> {
        let next = Arc::new(Fated::default());
        let mut queue = lock(&self.queue);
        if queue.batch.is_empty() {
            queue = self.sleep(queue, 1, patience);
        }
        let before = queue.batch.len();
        let plan = if queue.ended { None } else { gather.plan(before) };
        if let Some((wanted, most)) = plan {
            let since = self.clock.now();
            queue = self.sleep(queue, wanted, Some(most));
            gather.waited(before, queue.batch.len(), self.clock.now().since(since));
        }
        std::mem::swap(&mut queue.batch, batch);
        std::mem::replace(&mut queue.fate, next)
    }

    /// Sleeps until `awaited` records wait, or someone rouses the writer, or `patience` is over.
    fn sleep<'a>(
        &'a self,
        mut queue: MutexGuard<'a, Queue>,
        awaited: u64,
        patience: Option<Duration>,
    ) -> MutexGuard<'a, Queue> {
        queue.awaited = Some(awaited);
        let asleep = |queue: &mut Queue| queue.awaited.is_some();
        let mut queue = match patience {
            None => self.work.wait_while(queue, asleep).unwrap_or_else(PoisonError::into_inner),
            Some(most) => self.work.wait_timeout_while(queue, most, asleep).unwrap_or_else(PoisonError::into_inner).0,
        };
        queue.awaited = None;
        queue
    }
}

/// The thread's side. However it ends, nobody waits for ever.
struct Writer(Arc<Shared>);

impl Writer {
    fn run<S: Sink>(self, mut committer: Committer<S>) {
        let shared = &*self.0;
        // Waits of some ten microseconds; the kernel's default would round them up to as much again. A courtesy.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1_000));
        let (mut batch, mut gather) = (Batch::default(), Gather::default());
        loop {
            let counting = shared.flush(false);
            let patience = self.patience(counting, committer.retry_at());
            let fate = Unsettled(shared.take(&mut batch, &mut gather, patience));
            let began = shared.clock.now();
            let result = committer.commit(&batch, began);
            let took = shared.clock.now().since(began);
            gather.wrote(batch.len(), lock(&shared.queue).batch.len(), took);
            *lock(&shared.status) = Status::of(&committer);
            if batch.stop.is_some() {
                // Before anyone hears of it: who waited for the end may open the log at once.
                drop(committer);
                fate.0.settle(result);
                return;
            }
            fate.0.settle(result);
            batch.clear();
        }
    }

    fn patience(&self, counting: bool, retry_at: Option<Boot>) -> Option<Duration> {
        let retry = retry_at.map(|at| at - self.0.clock.now().boot);
        let tick = counting.then_some(TICK);
        retry.into_iter().chain(tick).min()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut queue = lock(&self.0.queue);
        queue.ended = true;
        queue.batch.clear();
        let fate = Arc::clone(&queue.fate);
        drop(queue);
        fate.settle(Err(NotDurable::Stopped));
    }
}

/// A batch in the writer's hands; if the writer ends on the way, its waiters hear that nothing is durable.
struct Unsettled(Arc<Fated>);

impl Drop for Unsettled {
    fn drop(&mut self) {
        if self.0.result.get().is_none() {
            self.0.settle(Err(NotDurable::Stopped));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change under these locks is whole before anything in it can panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
