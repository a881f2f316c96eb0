//! (E) The thread that writes the log.
//!
//! It takes the batch that has filled whole, writes it, syncs it, and wakes all who wait for it. While it syncs
//! the next batch fills, so that one sync serves as many as came during the one before.
//!
//! A disk may hang without a word, and the thread with it. Another thread looks after it, and lets those who wait
//! go when a commit has taken [`HANGS_AFTER`]: nothing is answered for them. When the disk comes back their
//! records are written all the same, so the log over-reports.

use std::num::NonZeroU64;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::telemetry::metrics::Histogram;
use crate::time::{Boot, Clock};

use super::batch::{Batch, Sink};
use super::commit::{Committer, Here};
use super::gather::Gather;
use super::line;
use super::pending::{Fated, Ticket, lock};
use super::refusals::{Due, Fate, Refusals};
use super::{LogId, NotDurable, Record, Refusal, Suppressed};

/// How many bytes of bodies wait for the disk before records are refused.
const MAX_WAITING_BYTES: usize = 16 << 20;
/// How soon counted refusals are looked at, and how often a commit under way.
const TICK: Duration = Duration::from_secs(1);
/// How long a commit may take before nobody waits for it.
pub const HANGS_AFTER: Duration = Duration::from_secs(5);

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
    /// When the commit that is under way began; none: none is.
    pub since: Option<Boot>,
}

impl Status {
    /// Whether the disk has not answered for so long that nobody waits for it.
    #[must_use]
    pub fn hangs(&self, now: Boot) -> bool {
        self.since.is_some_and(|since| now - since >= HANGS_AFTER)
    }

    fn of<S: Sink>(committer: &Committer<S>) -> Self {
        let Here { segment, bytes, size, .. } = committer.here();
        let failing = committer.errno();
        Self { size, segment, segment_bytes: bytes, reserve_left: committer.reserve_left(), failing, since: None }
    }
}

/// What the writer and those who record share.
pub(super) struct Shared {
    pub(super) log: LogId,
    clock: Arc<dyn Clock>,
    queue: Mutex<Queue>,
    /// Signals the writer when it is asleep.
    work: Condvar,
    /// Signals the thread that looks after the writer when it is asleep.
    watch: Condvar,
    /// Taken before `queue`, never after.
    refusals: Mutex<Refusals<Ticket>>,
    /// Taken before `queue`, never after.
    status: Mutex<Status>,
    /// How long commits took.
    pub(super) commits: Histogram,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("log", &self.log).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Queue {
    batch: Batch,
    /// That of `batch`. It is settled before the batch is taken only while the disk hangs.
    fate: Arc<Fated>,
    /// That of the batch in the writer's hands; none, or settled: there is none.
    committing: Option<Arc<Fated>>,
    /// The writer sleeps until there are so many records; none: it is awake.
    awaited: Option<u64>,
    /// Nobody looks after the writer, since nothing was in its hands.
    unwatched: bool,
    ended: bool,
    /// The writer has ended.
    gone: bool,
}

impl Shared {
    /// Starts the thread that writes what is laid in here.
    pub(super) fn start<S: Sink>(
        committer: Committer<S>,
        log: LogId,
        clock: Arc<dyn Clock>,
    ) -> std::io::Result<Arc<Self>> {
        let shared = Arc::new(Self {
            log,
            clock,
            queue: Mutex::default(),
            work: Condvar::new(),
            watch: Condvar::new(),
            refusals: Mutex::default(),
            status: Mutex::new(Status::of(&committer)),
            commits: Histogram::default(),
        });
        let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
        let (writer, watched) = (Writer(Arc::clone(&shared)), Arc::clone(&shared));
        thread("bursar-watch").spawn(move || watched.watch())?;
        thread("bursar-journal").spawn(move || writer.run(committer))?;
        Ok(shared)
    }

    /// Lays a record into the open batch.
    pub(super) fn enqueue(&self, record: &Record<'_>) -> Result<Ticket, NotDurable> {
        let mut body = Vec::with_capacity(1_024);
        line::body(record, &mut body)?;
        let at = self.clock.now().wall;
        let mut queue = lock(&self.queue);
        if queue.ended {
            return Err(NotDurable::Stopped);
        }
        if queue.fate.is_settled() && !record.outlives_a_void_batch() {
            // It would tell of what then does not happen, each time that it is tried again.
            return Err(NotDurable::Hangs);
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

    /// Writes or counts a refusal; the record that stands for it.
    pub(super) fn refuse(&self, refusal: &Refusal<'_>) -> Result<Ticket, NotDurable> {
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
    ///
    /// While the disk fails they are counted further: the backlog may have no room for them.
    fn flush(&self, all: bool) -> bool {
        let is_failing = lock(&self.status).failing.is_some();
        let mut refusals = lock(&self.refusals);
        if is_failing && !all {
            return refusals.is_counting();
        }
        let now = self.clock.now().boot;
        for due in if all { refusals.rest() } else { refusals.due(now) } {
            let Due { whose, counts, under } = &due;
            let under = under.as_ref().and_then(Ticket::index);
            let laid_in = self.enqueue(&Record::Suppressed(Suppressed { whose: *whose, counts, under }));
            if matches!(laid_in, Err(NotDurable::Behind(_))) {
                refusals.again(due, now);
            }
        }
        refusals.is_counting()
    }

    /// Ends the log after what is laid in.
    pub(super) fn close(&self, reason: &'static str) -> Result<Ticket, NotDurable> {
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
        let fate = std::mem::replace(&mut queue.fate, next);
        queue.committing = Some(Arc::clone(&fate));
        if std::mem::take(&mut queue.unwatched) {
            self.watch.notify_one();
        }
        fate
    }

    /// How the log stands. If the disk hangs, all who wait are let go.
    pub(super) fn look(&self) -> Status {
        let status = lock(&self.status);
        let now = *status;
        if !now.hangs(self.clock.now().boot) {
            return now;
        }
        let queue = lock(&self.queue);
        let waiting = [queue.committing.clone(), Some(Arc::clone(&queue.fate))];
        drop(queue);
        waiting.iter().flatten().for_each(|fate| fate.settle(Err(NotDurable::Hangs)));
        // Held until here: who comes after the hanging commit is not let go with those who waited for it.
        drop(status);
        now
    }

    /// A commit is over, and left the log like this; how many records wait for the next. Who comes now waits again.
    fn over(&self, status: Status) -> u64 {
        let mut published = lock(&self.status);
        *published = status;
        let mut queue = lock(&self.queue);
        if queue.fate.is_settled() {
            queue.fate = Arc::default();
        }
        queue.batch.len()
    }

    /// Looks after the writer, for as long as it lives.
    fn watch(&self) {
        let mut queue = lock(&self.queue);
        while !queue.gone {
            queue.unwatched = queue.committing.as_ref().is_none_or(|fate| fate.is_settled());
            queue = if queue.unwatched {
                self.watch.wait(queue).unwrap_or_else(PoisonError::into_inner)
            } else {
                self.watch.wait_timeout(queue, TICK).unwrap_or_else(PoisonError::into_inner).0
            };
            drop(queue);
            self.look();
            queue = lock(&self.queue);
        }
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
            lock(&shared.status).since = Some(began.boot);
            let result = committer.commit(&batch, began);
            let took = shared.clock.now().since(began);
            shared.commits.observe(took);
            gather.wrote(batch.len(), shared.over(Status::of(&committer)), took);
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
        if std::thread::panicking() {
            // Nothing can be recorded any more, and whoever asks how the log stands is to hear it.
            lock(&self.0.status).failing = Some(0);
        }
        let mut queue = lock(&self.0.queue);
        (queue.ended, queue.gone) = (true, true);
        queue.batch.clear();
        let fate = Arc::clone(&queue.fate);
        drop(queue);
        self.0.watch.notify_one();
        fate.settle(Err(NotDurable::Stopped));
    }
}

/// A batch in the writer's hands; if the writer ends on the way, its waiters hear that nothing is durable.
struct Unsettled(Arc<Fated>);

impl Drop for Unsettled {
    fn drop(&mut self) {
        if !self.0.is_settled() {
            self.0.settle(Err(NotDurable::Stopped));
        }
    }
}
