//! The sealed store: it conforms, and what is changed in its file is noticed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bursar::crypto::SystemRandom;
use bursar::secret::Secret;
use bursar::store::key::KeySource;
use bursar::store::sealed::{Locked, SealedStore};
use bursar::store::{Store, StoreError, Which};
use bursar::time::{Boot, ManualClock, Moment, Wall};
use proptest::test_runner::{Config, TestRunner};

use crate::store_conformance::{Bench, agrees_with_the_model, every_rule, steps};

/// A directory with a store in it.
struct Home {
    folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
}

impl Home {
    fn new() -> Self {
        let now = Moment { wall: Wall::from_micros(1_795_240_800_000_000), boot: Boot::default() };
        Self { folder: tempfile::tempdir().unwrap(), clock: Arc::new(ManualClock::at(now)) }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("store.db")
    }

    fn key_source(&self) -> KeySource {
        KeySource::File { path: self.folder.path().join("store.key"), make: true }
    }

    fn open(&self) -> Result<SealedStore, StoreError> {
        let lock = Locked::take(&self.path())?;
        let key = self.key_source().load(&lock, &SystemRandom)?;
        SealedStore::open(lock, &key, self.clock.clone(), Arc::new(SystemRandom))
    }

    fn bench<'a>(&'a self, store: &'a dyn Store) -> Bench<'a> {
        Bench { store, clock: &self.clock, prefix: "" }
    }
}

#[tokio::test]
async fn sealed_conforms() {
    let home = Home::new();
    let store = home.open().unwrap();
    every_rule(&home.bench(&store)).await;
}

#[test]
fn any_history_agrees_with_the_model() {
    let home = Home::new();
    let store = home.open().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let nth = AtomicUsize::new(0);
    let config = Config { cases: 48, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(&steps(), |steps| {
        let bench = home.bench(&store);
        let name = bench.name(&format!("history/{}", nth.fetch_add(1, Ordering::Relaxed)));
        runtime.block_on(agrees_with_the_model(&bench, &name, &steps));
        Ok(())
    });
    outcome.unwrap();
}
