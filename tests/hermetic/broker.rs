//! The broker's verbs over rooms that fail.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bursar::audit::layout::SegmentName;
use bursar::audit::segment::Files;
use bursar::audit::{Durability, Journal, Mode, Settings, Sink, Start};
use bursar::broker::{Broker, Renewed, Reread, Rules};
use bursar::crypto::SystemRandom;
use bursar::fault::Faults;
use bursar::peer::Registry;
use bursar::policy::{Known, Snapshot, UnknownIds};
use bursar::store::Shelf;
use bursar::time::ManualClock;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

/// A disk that fails whenever the test says so.
struct Failing(Files, Arc<AtomicBool>);

impl Sink for Failing {
    fn create(&mut self, name: SegmentName, reserve: u64) -> io::Result<()> {
        self.0.create(name, reserve)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.append(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.1.load(Ordering::SeqCst) { Err(io::ErrorKind::Other.into()) } else { Ok(()) }
    }

    fn reserve(&mut self, from: u64, to: u64) -> io::Result<()> {
        self.0.reserve(from, to)
    }

    fn length(&self) -> io::Result<u64> {
        self.0.length()
    }
}

/// Reads the same rules each time, and says whether they came into force.
struct Same(Arc<AtomicBool>);

impl Reread for Same {
    fn reread(&self) -> BoxFuture<'_, Result<Renewed<'_>, Faults>> {
        let enact = Box::new(|| self.0.store(true, Ordering::SeqCst));
        async move { Ok(Renewed { rules: rules(), enact }) }.boxed()
    }
}

fn rules() -> Rules {
    let known = Known { unknown: UnknownIds::Warn, ..Known::default() };
    let policy = Snapshot::load(Path::new("policies"), &known).unwrap().snapshot;
    let registry = Registry::read(Path::new("workloads.toml"), "[operator.root]\nuid = 0\n", None).unwrap();
    Rules {
        registry,
        policy,
        providers: BTreeMap::new(),
        about: BTreeMap::new(),
        shelf: Shelf::default(),
        per_workload: None,
    }
}

fn journal(dir: &Path, fails: Arc<AtomicBool>, clock: Arc<ManualClock>) -> Journal {
    let settings =
        Settings { dir: dir.to_owned(), durability: Durability::Disk, segment_bytes: 1 << 20, reserve_bytes: 4_096 };
    let start = Start {
        log: "6ba7b810-9dad-41d1-80b4-00c04fd430c8".parse().unwrap(),
        agent: "host-7",
        host: "host-7",
        boot: "2f1c5a2e",
        version: "0.1.0",
        mode: Mode::Agent,
        pid: std::process::id(),
        uid: 0,
        policy: None,
    };
    Journal::open_through(&settings, &start, clock, |files| Failing(files, fails)).unwrap()
}

#[tokio::test]
async fn what_cannot_be_recorded_does_not_come_into_force() {
    let dir = tempfile::tempdir().unwrap();
    let (fails, enacted, clock) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default(), Arc::default());
    let journal = journal(dir.path(), Arc::clone(&fails), Arc::clone(&clock));
    let reread = Arc::new(Same(Arc::clone(&enacted)));
    let broker = Broker::new(rules(), journal, Arc::<ManualClock>::clone(&clock), Arc::new(SystemRandom), reread);
    let before = broker.rules();

    fails.store(true, Ordering::SeqCst);
    assert!(broker.reload_unasked().await.is_err());
    assert!(Arc::ptr_eq(&before, &broker.rules()), "neither the rules");
    assert!(!enacted.load(Ordering::SeqCst), "nor what changes beside them");

    fails.store(false, Ordering::SeqCst);
    clock.advance(Duration::from_secs(11));
    broker.reload_unasked().await.unwrap();
    assert!(!Arc::ptr_eq(&before, &broker.rules()) && enacted.load(Ordering::SeqCst));
}
