//! What the tests of rotators share: an admin credential in a store, faults at every step, and readers under load.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bursar::rotation::Admin;
use bursar::rotation::{Engine, Plan, Rotator, State, keep_turning};
use bursar::store::Place;
use bursar::store::files::FilesStore;
use futures_util::FutureExt;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::matrix::{self, House, Subject, Switch, Works};

/// How many rotations a rotator goes through under load.
const ROTATIONS: usize = 50;
/// How many readers there are meanwhile.
const READERS: usize = 4;
/// How long a reader rests after a login.
const PAUSE: Duration = Duration::from_millis(50);

/// The login with which a rotator acts, in a store of its own.
pub(crate) struct AdminFile {
    folder: TempDir,
}

impl AdminFile {
    pub(crate) fn new(username: &str, password: &str) -> Self {
        let file = Self { folder: TempDir::new().unwrap() };
        file.write(username, password);
        file
    }

    pub(crate) fn write(&self, username: &str, password: &str) {
        let path = self.path();
        std::fs::write(&path, json!({ "username": username, "password": password }).to_string()).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    pub(crate) fn remove(&self) {
        std::fs::remove_file(self.path()).unwrap();
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn admin(&self) -> Admin {
        Admin::at(Place {
            store_name: "files".parse().unwrap(),
            store: Arc::new(FilesStore::open(self.folder.path()).unwrap()),
            name: "admin".parse().unwrap(),
            fresh_for: None,
        })
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("admin")
    }
}

/// A member of a login.
pub(crate) fn member(value: &[u8], name: &str) -> String {
    serde_json::from_slice::<Value>(value).unwrap()[name].as_str().unwrap().to_owned()
}

/// A rotation that can be carried on from test to test.
pub(crate) struct Rotated {
    pub(crate) house: Arc<House>,
    rotator: Arc<dyn Rotator>,
    plan: Plan,
    engine: Arc<Engine>,
    turning: JoinHandle<()>,
}

impl Drop for Rotated {
    fn drop(&mut self) {
        self.turning.abort();
    }
}

impl Rotated {
    /// By `rotator`, which has made its first version; the former one is ended `grace` after each promotion.
    pub(crate) async fn by(rotator: Arc<dyn Rotator>, exclusive: bool, grace: Duration) -> Self {
        let plan = Plan {
            overlap: rotator.overlap(),
            invents: rotator.invents(),
            settles_within: rotator.settles_within(),
            grace,
            uptake_deadline: grace,
            exclusive,
        };
        let house = Arc::new(House::new());
        let (engine, turning) = start(&house, &plan, &rotator);
        let rotated = Self { house, rotator, plan, engine, turning };
        rotated.settled().await.unwrap();
        rotated
    }

    /// One rotation, to its very end; what is wrong, if it does not get there.
    pub(crate) async fn rotate(&self) -> Result<(), String> {
        self.engine.rotate(&self.house.name(), false).await.map_err(|why| why.to_string())?;
        self.settled().await
    }

    /// The same after another start, which goes on with what is unfinished and waits for no back-off.
    pub(crate) async fn try_again(&mut self) -> Result<(), String> {
        self.turning.abort();
        (self.engine, self.turning) = start(&self.house, &self.plan, &self.rotator);
        self.settled().await?;
        self.rotate().await
    }

    async fn settled(&self) -> Result<(), String> {
        let began = Instant::now();
        loop {
            let status = self.engine.status().remove(0);
            match status.state {
                State::Idle => return Ok(()),
                State::Failing => return Err(status.last_error.unwrap_or_default()),
                _ if began.elapsed() > Duration::from_secs(30) => return Err(format!("{status:?}")),
                _ => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }
}

fn start(house: &House, plan: &Plan, rotator: &Arc<dyn Rotator>) -> (Arc<Engine>, JoinHandle<()>) {
    let engine = house.engine_by(plan.clone(), Arc::clone(rotator), house.store.clone());
    (Arc::clone(&engine), tokio::spawn(keep_turning(engine)))
}

/// That a rotation does not succeed, says `why`, shows no password, and that what is served works all the same.
pub(crate) async fn refused(rotated: &mut Rotated, why: &str, works: &Works, served: &[u8]) {
    let error = rotated.try_again().await.unwrap_err();
    assert!(error.contains(why) && !error.contains("change-me"), "{why}: {error}");
    assert!(works(served.to_vec()).await, "{why}");
}

/// How the logins of the readers went.
#[derive(Debug, Default)]
pub(crate) struct Logins {
    pub(crate) succeeded: usize,
    /// Those that failed within the time for which a reader may keep what it has read.
    pub(crate) failed: usize,
    /// The most that one reader saw fail of one version: each rotation makes one fail.
    pub(crate) most_failed: usize,
    /// How many readers were not let in in the end.
    pub(crate) locked_out: usize,
}

/// Fifty rotations, while readers fetch the value and log in with it, again and again.
pub(crate) async fn under_load(rotator: Arc<dyn Rotator>, works: Works, grace: Duration) -> Logins {
    let rotated = Rotated::by(rotator, true, grace).await;
    let over = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..READERS)
        .map(|_| {
            let (house, works) = (Arc::clone(&rotated.house), Arc::clone(&works));
            tokio::spawn(read(house, works, Arc::clone(&over), grace))
        })
        .collect();
    for _ in 0..ROTATIONS {
        rotated.rotate().await.unwrap();
    }
    over.store(true, Ordering::SeqCst);
    let mut all = Logins::default();
    for reader in readers {
        let logins = reader.await.unwrap();
        all.succeeded += logins.succeeded;
        all.failed += logins.failed;
        all.most_failed = all.most_failed.max(logins.most_failed);
        all.locked_out += logins.locked_out;
    }
    println!("{ROTATIONS} rotations, {READERS} readers: {all:?}");
    all
}

async fn read(house: Arc<House>, works: Works, over: Arc<AtomicBool>, grace: Duration) -> Logins {
    let (mut logins, mut in_a_row) = (Logins::default(), (None, 0));
    while !over.load(Ordering::SeqCst) {
        let began = Instant::now();
        let (version, value) = house.current().await;
        if works(value).await {
            logins.succeeded += 1;
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        // A machine that stands still for longer than the grace period has kept the value for too long.
        if !grace.is_zero() && began.elapsed() >= grace {
            continue;
        }
        logins.failed += 1;
        // A rotation is what makes one version fail.
        in_a_row = (Some(version.clone()), if in_a_row.0.as_ref() == Some(&version) { in_a_row.1 + 1 } else { 1 });
        logins.most_failed = logins.most_failed.max(in_a_row.1);
        // As a reader does: what failed is read again once it has changed.
        let waited = Instant::now();
        while house.current().await.0 == version && waited.elapsed() < Duration::from_secs(10) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let (_, value) = house.current().await;
    logins.locked_out = usize::from(!works(value).await);
    logins
}

/// The cells of the kill matrix, at a real server.
pub(crate) async fn survives(rotator: Arc<dyn Rotator>, works: Works) {
    matrix::holds(&Subject { rotator, exclusive: true, first: None, works }).await;
}

/// A server that can be stopped and started again.
pub(crate) trait Stoppable: Send + 'static {
    fn stop(&mut self);
    fn run(&mut self) -> impl Future<Output = ()> + Send;
}

/// A rotation in the middle of which the server stops.
pub(crate) async fn outlives_an_outage(server: impl Stoppable, rotator: Arc<dyn Rotator>, works: Works) {
    let server = Arc::new(tokio::sync::Mutex::new(server));
    let other = Arc::clone(&server);
    let stop: Switch = Arc::new(move || {
        let server = Arc::clone(&server);
        async move { server.lock().await.stop() }.boxed()
    });
    let start: Switch = Arc::new(move || {
        let server = Arc::clone(&other);
        async move { server.lock().await.run().await }.boxed()
    });
    matrix::outlives_an_outage(&Subject { rotator, exclusive: true, first: None, works }, stop, start).await;
}
