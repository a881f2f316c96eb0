//! (E) Lanes: threads that serve workloads, each with a runtime of its own. A connection stays on the lane that took it, so that
//! threads neither share its work nor wake each other for it.

use std::io;
use std::num::NonZero;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// The most lanes: the journal is one, and keeps up with no more.
const MOST_LANES: usize = 4;

/// All lanes; they end when this is dropped.
pub(super) struct Lanes(Vec<Lane>);

struct Lane {
    runtime: Handle,
    /// The thread runs for as long as this lives.
    _runs: oneshot::Sender<()>,
}

impl Lanes {
    /// Starts a lane for each core, within bounds.
    ///
    /// # Errors
    /// When a thread or its runtime cannot be had.
    pub(super) fn start() -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        (0..cores.min(MOST_LANES)).map(Lane::start).collect::<io::Result<_>>().map(Self)
    }

    /// Where tasks are spawned, a lane each.
    pub(super) fn runtimes(&self) -> impl Iterator<Item = &Handle> {
        self.0.iter().map(|lane| &lane.runtime)
    }
}

impl Lane {
    fn start(nth: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            // Who waits for the journal is woken from its thread: beside a flood it would hardly ever be his turn.
            .global_queue_interval(8)
            .enable_all()
            .build()?;
        let (handle, (runs, ends)) = (runtime.handle().clone(), oneshot::channel());
        let thread = std::thread::Builder::new().name(format!("bursar-lane-{nth}"));
        thread.spawn(move || drop(runtime.block_on(ends)))?;
        Ok(Self { runtime: handle, _runs: runs })
    }
}
