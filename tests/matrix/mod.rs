//! The kill matrix: every step of a rotation × what can go wrong with it, at a far side that a test brings.
//!
//! A *crash* is the engine's whole memory lost at that point: its future is dropped, and another engine is made over the
//! same store and log, as the next start does. Nothing else of a rotation lives in the process. (That the store itself
//! survives a kill -9 at each of its system calls is tested with the store.)

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bursar::audit::{self, Durability, Journal, Mode, Start};
use bursar::crypto::SystemRandom;
use bursar::name::{Name, StoredName};
use bursar::rotation::{
    Created, Ended, Engine, FarId, Found, Happened, Held, Invents, Label, Overlap, Plan, Rotation, Rotator, Schedule,
    State, Status, Trouble, Uptake, keep_turning,
};
use bursar::secret::Secret;
use bursar::store::key::KeySource;
use bursar::store::sealed::{Locked, SealedStore};
use bursar::store::{
    self, Attempt, Notes, Place, Reserved, Stage, Store, StoreError, Version, VersionId, Versions, Which,
};
use bursar::time::{Clock, SystemClock, Wall};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::Notify;

/// How long the next start may take to finish or to undo.
const RECOVERY: Duration = Duration::from_secs(30);

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The process dies when the intent is recorded and nothing has happened.
    KilledBefore,
    /// The act fails, and nothing has happened.
    Failed,
    /// The act takes place, and its reply is lost.
    ReplyLost,
    /// The process dies when the act has taken place, before its outcome is recorded.
    KilledAfter,
}

impl Fault {
    pub(crate) const ALL: [Self; 4] = [Self::KilledBefore, Self::Failed, Self::ReplyLost, Self::KilledAfter];
}

/// Where it goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    Reserve,
    List,
    Create,
    Fill,
    Set,
    Test,
    Promote,
    Revoke,
    Retire,
}

impl At {
    pub(crate) const ALL: [Self; 9] = [
        Self::Reserve,
        Self::List,
        Self::Create,
        Self::Fill,
        Self::Set,
        Self::Test,
        Self::Promote,
        Self::Revoke,
        Self::Retire,
    ];

    /// Whether a rotation by this plan comes there at all.
    fn exists(self, plan: &Plan) -> bool {
        match self {
            Self::List => plan.invents == Invents::FarSide,
            Self::Set => plan.invents == Invents::Us,
            Self::Revoke => plan.overlap == Overlap::Two,
            Self::Reserve | Self::Create | Self::Fill | Self::Test | Self::Promote | Self::Retire => true,
        }
    }
}

/// Whether a value works at the far side: asked there directly, not through the rotator.
pub(crate) type Works = Arc<dyn Fn(Vec<u8>) -> BoxFuture<'static, bool> + Send + Sync>;

/// What is rotated.
pub(crate) struct Subject {
    pub(crate) rotator: Arc<dyn Rotator>,
    pub(crate) exclusive: bool,
    /// The value that the far side accepts before the first rotation; none: the first rotation makes one.
    pub(crate) first: Option<Vec<u8>>,
    pub(crate) works: Works,
}

impl Subject {
    /// No grace, no readers: the former version is ended at once.
    pub(crate) fn plan(&self) -> Plan {
        Plan {
            overlap: self.rotator.overlap(),
            invents: self.rotator.invents(),
            settles_within: self.rotator.settles_within(),
            grace: Duration::ZERO,
            uptake_deadline: Duration::ZERO,
            exclusive: self.exclusive,
        }
    }
}

/// A sealed store and a log in a folder, and a rotated secret `key` in it.
pub(crate) struct House {
    pub(crate) store: Arc<SealedStore>,
    journal: Journal,
    secret: StoredName,
    _folder: Option<tempfile::TempDir>,
}

impl House {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let house = Self::at(folder.path());
        Self { _folder: Some(folder), ..house }
    }

    /// The house that stands in `folder`, built where there is none.
    pub(crate) fn at(folder: &Path) -> Self {
        let path = folder.join("store.db");
        let lock = Locked::take(&path).unwrap();
        let key = KeySource::File { path: folder.join("store.key"), make: true };
        let store = SealedStore::open(lock, key, Arc::new(SystemClock), Arc::new(SystemRandom)).unwrap();
        let journal = journal(&folder.join("audit"));
        Self { store: Arc::new(store), journal, secret: "key".parse().unwrap(), _folder: None }
    }

    /// An engine that has just started, over `store`.
    pub(crate) fn engine(&self, subject: &Subject, rotator: Arc<dyn Rotator>, store: Arc<dyn Store>) -> Arc<Engine> {
        self.engine_by(subject.plan(), rotator, store)
    }

    /// An engine that has just started, over `store`, by `plan`.
    pub(crate) fn engine_by(&self, plan: Plan, rotator: Arc<dyn Rotator>, store: Arc<dyn Store>) -> Arc<Engine> {
        let place = Place { store, ..self.place() };
        let told = Box::new(|_: &Name, _: &Happened| {});
        let engine = Engine::new(self.journal.clone(), Arc::new(SystemClock), Arc::new(SystemRandom), "us", told);
        let (name, uptake, schedule) = (self.name(), Uptake::Local, Schedule::default());
        engine.keep(vec![Rotation { name, place, plan, uptake, schedule, rotator }]);
        Arc::new(engine)
    }

    pub(crate) fn name(&self) -> Name {
        "key".parse().unwrap()
    }

    /// Where the secret stands.
    pub(crate) fn place(&self) -> Place {
        let store_name = "local".parse().unwrap();
        Place { store_name, store: self.store.clone(), name: self.secret.clone(), fresh_for: None }
    }

    pub(crate) async fn put(&self, value: &[u8]) {
        let attempt = Attempt::new(&SystemRandom).unwrap();
        let lease = Wall::from_micros(i64::MAX / 2);
        store::put(&*self.store, &self.secret, &Secret::copy_of(value), &attempt, lease).await.unwrap();
    }

    pub(crate) async fn versions(&self) -> Versions {
        self.store.versions(&self.secret).await.unwrap()
    }

    /// The value that is Current.
    pub(crate) async fn current(&self) -> (VersionId, Vec<u8>) {
        let (version, value) = self.store.read(&self.secret, &Which::Current).await.unwrap();
        (version.id, value.expose().to_vec())
    }

    /// The values of all versions that have one.
    async fn values(&self) -> Vec<Vec<u8>> {
        let mut values = Vec::new();
        for version in self.versions().await.iter().filter(|version| version.filled) {
            let (_, value) = self.store.read(&self.secret, &Which::Id(version.id.clone())).await.unwrap();
            values.push(value.expose().to_vec());
        }
        values
    }

    /// Lets a new engine finish or undo whatever was left.
    pub(crate) async fn recover(&self, subject: &Subject) -> Status {
        let engine = self.engine(subject, Arc::clone(&subject.rotator), self.store.clone());
        let turning = tokio::spawn(keep_turning(Arc::clone(&engine)));
        let began = Instant::now();
        let status = loop {
            let status = engine.status().remove(0);
            if status.state == State::Idle || began.elapsed() > RECOVERY {
                break status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        turning.abort();
        status
    }
}

/// Runs every cell, prints the table, and fails with all cells that do not hold.
///
/// After each: at once, at least one version works (where two are accepted at a time, or where we invent); after the next
/// start exactly one is Current, it works, nothing is Pending or Previous, and nothing at the far side belongs to no version.
pub(crate) async fn holds(subject: &Subject) {
    holds_in(&House::new(), subject).await;
}

/// The same in a house that the rotator looks into.
pub(crate) async fn holds_in(house: &House, subject: &Subject) {
    if let Some(first) = &subject.first {
        house.put(first).await;
    }
    let begun = house.recover(subject).await;
    assert_eq!(begun.state, State::Idle, "before the first fault: {begun:?}");
    let (plan, mut broken) = (subject.plan(), Vec::new());
    println!(
        "\n{:<10}{}",
        subject.rotator.kind(),
        Fault::ALL.map(|fault| format!("{fault:?}")).map(|it| format!("{it:<14}")).concat()
    );
    for at in At::ALL {
        let mut row = format!("{:<10}", format!("{at:?}"));
        for fault in Fault::ALL {
            let cell = if at.exists(&plan) { cell(house, subject, at, fault).await } else { Ok(Cell::None) };
            row += &format!("{:<14}", cell.as_ref().map_or("BROKEN".into(), ToString::to_string));
            broken.extend(cell.err().map(|why| format!("{at:?} × {fault:?}: {why}")));
        }
        println!("{row}");
    }
    assert!(broken.is_empty(), "{}: {broken:#?}", subject.rotator.kind());
}

/// What became of a cell.
pub(crate) enum Cell {
    /// The next start finished the rotation.
    Finished,
    /// The next start went back to the version before.
    Undone,
    /// The fault did not keep the rotation from its end.
    Survived,
    /// A credential may be left at the far side which nobody can find; the operator is told its label.
    ByDesign,
    /// A rotation of this kind has no such step.
    None,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Finished => "finished",
            Self::Undone => "undone",
            Self::Survived => "survived",
            Self::ByDesign => "by design",
            Self::None => "no such step",
        })
    }
}

async fn cell(house: &House, subject: &Subject, at: At, fault: Fault) -> Result<Cell, String> {
    let (before, _) = house.current().await;
    let trap = Arc::new(Trap { armed: Mutex::new(Some((at, fault))), killed: Notify::new() });
    let rotator = Arc::new(TrappedRotator { inner: Arc::clone(&subject.rotator), trap: Arc::clone(&trap) });
    let store = Arc::new(TrappedStore { inner: house.store.clone(), trap: Arc::clone(&trap) });
    let engine = house.engine(subject, rotator, store);
    let name = house.name();
    let went = tokio::select! {
        went = engine.rotate(&name, true) => Some(went),
        () = trap.killed.notified() => None,
    };
    drop(engine);
    if trap.armed.lock().unwrap().is_some() {
        return Err(format!("the step was not reached: {went:?}"));
    }
    // Where the far side invents the only value, a crash may leave it unknown until the next start has made another.
    let none_is_known = (subject.plan().overlap, subject.plan().invents) == (Overlap::One, Invents::FarSide);
    if !none_is_known && !any_works(house, subject).await {
        return Err("no version works".into());
    }
    let status = house.recover(subject).await;
    if status.state != State::Idle {
        return Err(format!("the next start does not come to an end: {status:?}"));
    }
    let versions = house.versions().await;
    let count = |stage| versions.iter().filter(|version| version.stages.has(stage)).count();
    if (count(Stage::Pending), count(Stage::Current), count(Stage::Previous)) != (0, 1, 0) {
        return Err(format!("the versions are {versions:?}"));
    }
    let (after, value) = house.current().await;
    if !(subject.works)(value).await {
        return Err("what is Current does not work".into());
    }
    let known: Vec<FarId> = versions.at(Stage::Current).and_then(FarId::of).into_iter().collect();
    let left = match subject.rotator.list().await.map_err(|why| why.to_string())? {
        Some(found) => {
            found.iter().filter(|found| !known.contains(&found.far_id)).map(|it| it.far_id.to_string()).collect()
        }
        None if at == At::Create
            && matches!(fault, Fault::ReplyLost | Fault::KilledAfter)
            && subject.plan().invents == Invents::FarSide =>
        {
            return Ok(Cell::ByDesign);
        }
        None => Vec::new(),
    };
    if subject.exclusive && !left.is_empty() {
        // A reservation that was given up is cleared by the next rotation.
        let engine = house.engine(subject, Arc::clone(&subject.rotator), house.store.clone());
        engine.rotate(&name, true).await.map_err(|why| format!("the next rotation: {why}"))?;
        let known = house.versions().await.at(Stage::Current).and_then(FarId::of);
        let found = subject.rotator.list().await.map_err(|why| why.to_string())?.unwrap_or_default();
        if found.iter().any(|found| Some(&found.far_id) != known.as_ref()) {
            return Err(format!("orphans are left at the far side: {found:?}"));
        }
    }
    Ok(match (before == after, went) {
        (_, Some(Ok(_))) => Cell::Survived,
        (true, _) => Cell::Undone,
        (false, _) => Cell::Finished,
    })
}

async fn any_works(house: &House, subject: &Subject) -> bool {
    for value in house.values().await {
        if (subject.works)(value).await {
            return true;
        }
    }
    false
}

/// One fault, which strikes once.
struct Trap {
    armed: Mutex<Option<(At, Fault)>>,
    killed: Notify,
}

impl Trap {
    async fn around<T, E>(&self, at: At, doing: BoxFuture<'_, Result<T, E>>, error: impl Fn() -> E) -> Result<T, E> {
        let fault = {
            let mut armed = self.armed.lock().unwrap();
            match *armed {
                Some((here, fault)) if here == at => {
                    *armed = None;
                    Some(fault)
                }
                _ => None,
            }
        };
        match fault {
            None => doing.await,
            Some(Fault::KilledBefore) => self.kill().await,
            Some(Fault::Failed) => Err(error()),
            Some(Fault::ReplyLost) => {
                let _ = doing.await;
                Err(error())
            }
            Some(Fault::KilledAfter) => {
                let _ = doing.await;
                self.kill().await
            }
        }
    }

    async fn kill<T>(&self) -> T {
        self.killed.notify_one();
        std::future::pending().await
    }
}

struct TrappedRotator {
    inner: Arc<dyn Rotator>,
    trap: Arc<Trap>,
}

fn down() -> Trouble {
    Trouble::Unavailable("the trap".into())
}

impl Rotator for TrappedRotator {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn overlap(&self) -> Overlap {
        self.inner.overlap()
    }

    fn invents(&self) -> Invents {
        self.inner.invents()
    }

    fn settles_within(&self) -> Duration {
        self.inner.settles_within()
    }

    fn list(&self) -> BoxFuture<'_, Result<Option<Vec<Found>>, Trouble>> {
        self.trap.around(At::List, self.inner.list(), down).boxed()
    }

    fn create<'a>(&'a self, label: &'a Label, current: Option<&'a Held>) -> BoxFuture<'a, Result<Created, Trouble>> {
        self.trap.around(At::Create, self.inner.create(label, current), down).boxed()
    }

    fn set<'a>(&'a self, new: &'a Held, current: Option<&'a Held>) -> BoxFuture<'a, Result<(), Trouble>> {
        self.trap.around(At::Set, self.inner.set(new, current), down).boxed()
    }

    fn test<'a>(&'a self, held: &'a Held) -> BoxFuture<'a, Result<bool, Trouble>> {
        self.trap.around(At::Test, self.inner.test(held), down).boxed()
    }

    fn revoke<'a>(&'a self, ended: &'a Ended, current: Option<&'a Held>) -> BoxFuture<'a, Result<(), Trouble>> {
        self.trap.around(At::Revoke, self.inner.revoke(ended, current), down).boxed()
    }
}

struct TrappedStore {
    inner: Arc<SealedStore>,
    trap: Arc<Trap>,
}

fn unavailable() -> StoreError {
    StoreError::Unavailable("the trap".into())
}

impl Store for TrappedStore {
    fn list(&self) -> BoxFuture<'_, Result<Vec<StoredName>, StoreError>> {
        self.inner.list()
    }

    fn versions<'a>(&'a self, name: &'a StoredName) -> BoxFuture<'a, Result<Versions, StoreError>> {
        self.inner.versions(name)
    }

    fn read<'a>(
        &'a self,
        name: &'a StoredName,
        which: &'a Which,
    ) -> BoxFuture<'a, Result<(Version, Secret), StoreError>> {
        self.inner.read(name, which)
    }

    fn reserve<'a>(
        &'a self,
        name: &'a StoredName,
        attempt: &'a Attempt,
        lease_ends: Wall,
        notes: &'a Notes,
    ) -> BoxFuture<'a, Result<Reserved, StoreError>> {
        self.trap.around(At::Reserve, self.inner.reserve(name, attempt, lease_ends, notes), unavailable).boxed()
    }

    fn fill<'a>(
        &'a self,
        name: &'a StoredName,
        attempt: &'a Attempt,
        value: &'a Secret,
        notes: &'a Notes,
    ) -> BoxFuture<'a, Result<VersionId, StoreError>> {
        self.trap.around(At::Fill, self.inner.fill(name, attempt, value, notes), unavailable).boxed()
    }

    fn promote<'a>(
        &'a self,
        name: &'a StoredName,
        attempt: &'a Attempt,
    ) -> BoxFuture<'a, Result<VersionId, StoreError>> {
        self.trap.around(At::Promote, self.inner.promote(name, attempt), unavailable).boxed()
    }

    fn retire<'a>(
        &'a self,
        name: &'a StoredName,
        version: &'a VersionId,
        attempt: &'a Attempt,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.trap.around(At::Retire, self.inner.retire(name, version, attempt), unavailable).boxed()
    }

    fn note<'a>(
        &'a self,
        name: &'a StoredName,
        version: &'a VersionId,
        attempt: &'a Attempt,
        notes: &'a Notes,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.inner.note(name, version, attempt, notes)
    }

    fn id(&self) -> Option<&str> {
        self.inner.id()
    }

    fn change_counter(&self) -> Option<u64> {
        self.inner.change_counter()
    }
}

/// A log in `dir`.
pub(crate) fn journal(dir: &Path) -> Journal {
    journal_by(dir, Arc::new(SystemClock))
}

/// The same, by another clock.
pub(crate) fn journal_by(dir: &Path, clock: Arc<dyn Clock>) -> Journal {
    std::fs::create_dir_all(dir).unwrap();
    let settings = audit::Settings {
        dir: dir.to_owned(),
        durability: Durability::Os,
        segment_bytes: 1 << 24,
        reserve_bytes: 4_096,
    };
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
    // The threads of a journal that was dropped may still be at it.
    loop {
        match Journal::open(&settings, &start, Arc::clone(&clock)) {
            Err(audit::AuditError::Held { .. }) => std::thread::yield_now(),
            opened => return opened.unwrap(),
        }
    }
}
