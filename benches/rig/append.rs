//! The durable floor's half: appends to one file, synced in groups by one thread. The best we know in a page.
//!
//! A commit takes all that waits. Before it, the thread lingers for those who were answered by the last commit
//! and for those who came meanwhile, since a closed loop brings them back at once: without that, eight
//! connections fall into two halves that wait for each other's sync. It lingers at most one sync's time.

use std::fs::File;
use std::io::Write;
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::Thread;
use std::time::{Duration, Instant};

use rustix::fs::FallocateFlags;
use tokio::sync::oneshot;

/// Appends lines, and says when they are on disk.
#[derive(Clone)]
pub(crate) struct Append {
    batch: Arc<Mutex<Batch>>,
    committer: Thread,
}

#[derive(Default)]
struct Batch {
    lines: Vec<u8>,
    waiting: Vec<oneshot::Sender<()>>,
    /// At how many waiting the committer wants to be woken.
    wake_at: usize,
}

impl Append {
    /// Starts the commit thread over a new file at `path`.
    pub(crate) fn start(path: &Path) -> std::io::Result<Self> {
        let file = Segment::create(path)?;
        let batch = Arc::new(Mutex::new(Batch { wake_at: 1, ..Batch::default() }));
        let theirs = Arc::clone(&batch);
        let thread = std::thread::Builder::new().name("commit".into()).spawn(move || commit(&theirs, file))?;
        Ok(Self { batch, committer: thread.thread().clone() })
    }

    /// Appends `line`; resolves when it is durable.
    pub(crate) async fn append(&self, line: &[u8]) {
        let (durable, done) = oneshot::channel();
        let wake = {
            let mut batch = self.batch.lock().unwrap();
            batch.lines.extend_from_slice(line);
            batch.waiting.push(durable);
            batch.waiting.len() == batch.wake_at
        };
        if wake {
            self.committer.unpark();
        }
        done.await.unwrap();
    }
}

fn commit(shared: &Mutex<Batch>, mut file: Segment) {
    // A thread's timers are otherwise late by 50 µs, which is most of a sync.
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1)).unwrap();
    let (mut batch, mut expected, mut sync) = (Batch::default(), 1, Duration::ZERO);
    loop {
        let mut waiting = wait(shared, 1, None);
        if waiting.waiting.len() < expected {
            drop(waiting);
            waiting = wait(shared, expected, Some(Instant::now() + sync));
        }
        waiting.wake_at = usize::MAX;
        std::mem::swap(&mut waiting.lines, &mut batch.lines);
        std::mem::swap(&mut waiting.waiting, &mut batch.waiting);
        drop(waiting);

        let took = file.append(&batch.lines);
        sync = sync.mul_f64(0.9) + took.min(Duration::from_millis(1)).mul_f64(0.1);
        batch.lines.clear();
        expected = batch.waiting.len() + shared.lock().unwrap().waiting.len();
        for waiting in batch.waiting.drain(..) {
            let _ = waiting.send(());
        }
    }
}

/// Waits until `count` are waiting, or `until`.
fn wait(shared: &Mutex<Batch>, count: usize, until: Option<Instant>) -> MutexGuard<'_, Batch> {
    loop {
        let mut batch = shared.lock().unwrap();
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        if batch.waiting.len() >= count || left.is_some_and(|left| left.is_zero()) {
            return batch;
        }
        batch.wake_at = count;
        drop(batch);
        match left {
            Some(left) => std::thread::park_timeout(left),
            None => std::thread::park(),
        }
    }
}

/// One file, with blocks reserved ahead as the journal has them, begun anew where the journal would roll.
pub(crate) struct Segment {
    file: File,
    length: u64,
    reserved: u64,
}

impl Segment {
    const LONGEST: u64 = 256 << 20;
    const RESERVE: u64 = 16 << 20;

    /// Begins a file at `path`.
    pub(crate) fn create(path: &Path) -> std::io::Result<Self> {
        Ok(Self { file: File::options().create(true).append(true).open(path)?, length: 0, reserved: 0 })
    }

    /// Appends and syncs; how long the sync took.
    pub(crate) fn append(&mut self, lines: &[u8]) -> Duration {
        let grown = self.length + u64::try_from(lines.len()).unwrap();
        if grown > Self::LONGEST {
            self.file.set_len(0).unwrap();
            (self.length, self.reserved) = (0, 0);
        }
        if grown + Self::RESERVE / 2 > self.reserved {
            rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, self.reserved, Self::RESERVE).unwrap();
            self.reserved += Self::RESERVE;
        }
        self.file.write_all(lines).unwrap();
        self.length = grown;
        let began = Instant::now();
        rustix::fs::fdatasync(&self.file).unwrap();
        began.elapsed()
    }
}
