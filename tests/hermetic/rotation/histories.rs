//! Random histories of two agents that share a secret: crashes, lost replies, refusals, a far side that stays silent, clocks
//! that step, operators who act in the middle, and an agent that sleeps in the middle of an act and wakes when its lease has
//! passed. Whatever happens, the invariant holds.

use std::collections::VecDeque;
use std::sync::atomic::AtomicUsize;

use bursar::audit::Journal;
use bursar::name::{Name, StoredName};
use bursar::rotation::{ACT_TIMEOUT, Engine, Happened, LEASE, Plan, Rotation, Schedule, State, Uptake, is_ours};
use bursar::store::key::KeySource;
use bursar::store::sealed::{Locked, SealedStore};
use bursar::store::{
    self, Attempt, Notes, Place, Reserved, Stage, Store, StoreError, Version, VersionId, Versions, Which,
};
use bursar::time::{Boot, Clock, ManualClock, Moment, Wall};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::time::Duration;
use tokio::sync::Notify;

use super::*;

const DAY: Duration = Duration::from_secs(86_400);
/// Long beside every clock step and wait of a history.
const EVERY: Duration = Duration::from_secs(30 * 86_400);

/// How a value begins that an operator has made.
const BY_HAND: &[u8] = b"by hand ";

/// What goes wrong at one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    KilledBefore,
    KilledAfter,
    Failed,
    ReplyLost,
    /// The far side says no; asked whether it accepts, it says not yet.
    Refused,
    /// The far side never answers, and has done it or has not.
    Silent {
        done: bool,
    },
    /// The process stops here, and is not dead. Of an act at the far side: when it has taken place.
    Sleeps,
}

#[derive(Clone, Debug)]
enum Move {
    /// An agent goes on as far as it can; each fault strikes that many calls after the one before.
    Turn(usize, Vec<(u8, Fault)>),
    /// An operator asks for a rotation.
    Ask(usize, bool, Vec<(u8, Fault)>),
    /// A version has leaked.
    Leak(usize, Vec<(u8, Fault)>),
    /// An operator puts what he has made at the far side by hand, again and again until it is Current or refused.
    Put(usize, Vec<(u8, Fault)>),
    Wake(usize),
    /// The sleeper dies.
    Kill(usize),
    Passes(u64),
    Steps(i64),
    /// The next rotation becomes due.
    Due,
}

fn faults() -> impl Strategy<Value = Vec<(u8, Fault)>> {
    let fault = prop::sample::select(vec![
        Fault::KilledBefore,
        Fault::KilledAfter,
        Fault::Failed,
        Fault::ReplyLost,
        Fault::Refused,
        Fault::Silent { done: false },
        Fault::Silent { done: true },
        Fault::Sleeps,
    ]);
    prop::collection::vec((0..16_u8, fault), 0..3)
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        8 => (0..2_usize, faults()).prop_map(|(agent, faults)| Move::Turn(agent, faults)),
        2 => (0..2_usize, any::<bool>(), faults()).prop_map(|(agent, now, faults)| Move::Ask(agent, now, faults)),
        1 => (0..2_usize, faults()).prop_map(|(agent, faults)| Move::Leak(agent, faults)),
        1 => (0..2_usize, faults()).prop_map(|(agent, faults)| Move::Put(agent, faults)),
        3 => (0..2_usize).prop_map(Move::Wake),
        1 => (0..2_usize).prop_map(Move::Kill),
        4 => (0..7_200_u64).prop_map(Move::Passes),
        2 => (-7_200..7_200_i64).prop_map(Move::Steps),
        3 => Just(Move::Due),
    ];
    prop::collection::vec(one, 1..14)
}

/// Where the calls of one agent pass.
#[derive(Default)]
struct Gate {
    faults: Mutex<VecDeque<(u8, Fault)>>,
    last_attempt: Mutex<Option<Attempt>>,
    slept: Notify,
    killed: Notify,
    silent: Notify,
    wake: Notify,
    /// It cannot look at the store anew: what it does, it does by what it knew.
    blind: AtomicBool,
}

impl Gate {
    fn strikes(&self) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap();
        let (left, fault) = faults.front_mut()?;
        if *left > 0 {
            *left -= 1;
            return None;
        }
        let fault = *fault;
        faults.pop_front();
        Some(fault)
    }

    /// `is_far`: a far side cannot be kept from what reaches it late, so that who sleeps there has done it.
    async fn pass<T, E>(
        &self,
        is_far: bool,
        doing: BoxFuture<'_, Result<T, E>>,
        error: impl Fn() -> E,
        refused: impl Fn() -> Result<T, E>,
    ) -> Result<T, E> {
        match self.strikes() {
            None => doing.await,
            Some(Fault::KilledBefore) => self.die().await,
            Some(Fault::KilledAfter) => {
                let _ = doing.await;
                self.die().await
            }
            Some(Fault::Failed) => Err(error()),
            Some(Fault::ReplyLost) => {
                let _ = doing.await;
                Err(error())
            }
            Some(Fault::Refused) => refused(),
            Some(Fault::Silent { done }) => {
                if done {
                    let _ = doing.await;
                }
                // A store has a time limit of its own.
                if !is_far {
                    return Err(error());
                }
                self.silent.notify_one();
                std::future::pending().await
            }
            Some(Fault::Sleeps) if is_far => {
                let done = doing.await;
                self.sleep().await;
                done
            }
            Some(Fault::Sleeps) => {
                self.sleep().await;
                doing.await
            }
        }
    }

    async fn sleep(&self) {
        self.slept.notify_one();
        self.wake.notified().await;
    }

    async fn die<T>(&self) -> T {
        self.killed.notify_one();
        std::future::pending().await
    }
}

struct GatedRotator(Arc<FarSide>, Arc<Gate>);

fn down() -> Trouble {
    Trouble::Unavailable("the gate".into())
}

fn no<T>() -> Result<T, Trouble> {
    Err(Trouble::Refused("the gate".into()))
}

impl Rotator for GatedRotator {
    fn kind(&self) -> &'static str {
        self.0.kind()
    }

    fn overlap(&self) -> Overlap {
        self.0.overlap()
    }

    fn invents(&self) -> Invents {
        self.0.invents()
    }

    fn list(&self) -> BoxFuture<'_, Result<Option<Vec<Found>>, Trouble>> {
        self.1.pass(true, async { self.0.list().await }.boxed(), down, no).boxed()
    }

    fn create<'a>(&'a self, label: &'a Label, current: Option<&'a Held>) -> BoxFuture<'a, Result<Created, Trouble>> {
        self.1.pass(true, async move { self.0.create(label, current).await }.boxed(), down, no).boxed()
    }

    fn set<'a>(&'a self, new: &'a Held, current: Option<&'a Held>) -> BoxFuture<'a, Result<(), Trouble>> {
        self.1.pass(true, async move { self.0.set(new, current).await }.boxed(), down, no).boxed()
    }

    fn test<'a>(&'a self, held: &'a Held) -> BoxFuture<'a, Result<bool, Trouble>> {
        self.1.pass(true, async move { self.0.test(held).await }.boxed(), down, || Ok(false)).boxed()
    }

    fn revoke<'a>(&'a self, ended: &'a Ended, current: Option<&'a Held>) -> BoxFuture<'a, Result<(), Trouble>> {
        self.1.pass(true, async move { self.0.revoke(ended, current).await }.boxed(), down, no).boxed()
    }
}

struct GatedStore(Arc<SealedStore>, Arc<Gate>);

/// Not `Unavailable`: a fill is then offered again, a second apart.
fn broken() -> StoreError {
    StoreError::Setup("the gate".into())
}

impl GatedStore {
    fn pass<'a, T: Send + 'a>(
        &'a self,
        doing: impl Future<Output = Result<T, StoreError>> + Send + 'a,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        self.1.pass(false, doing.boxed(), broken, || Err(broken())).boxed()
    }

    fn by(&self, attempt: &Attempt) {
        *self.1.last_attempt.lock().unwrap() = Some(attempt.clone());
    }
}

impl Store for GatedStore {
    fn list(&self) -> BoxFuture<'_, Result<Vec<StoredName>, StoreError>> {
        self.0.list()
    }

    fn versions<'a>(&'a self, name: &'a StoredName) -> BoxFuture<'a, Result<Versions, StoreError>> {
        // From a look on, what was held before counts no more: who sleeps here goes on with what it finds.
        *self.1.last_attempt.lock().unwrap() = None;
        if self.1.blind.load(Ordering::Relaxed) {
            return async { Err(broken()) }.boxed();
        }
        self.pass(async move { self.0.versions(name).await })
    }

    fn read<'a>(
        &'a self,
        name: &'a StoredName,
        which: &'a Which,
    ) -> BoxFuture<'a, Result<(Version, Secret), StoreError>> {
        self.pass(async move { self.0.read(name, which).await })
    }

    fn reserve<'a>(
        &'a self,
        name: &'a StoredName,
        attempt: &'a Attempt,
        lease_ends: Wall,
        notes: &'a Notes,
    ) -> BoxFuture<'a, Result<Reserved, StoreError>> {
        self.by(attempt);
        self.pass(async move { self.0.reserve(name, attempt, lease_ends, notes).await })
    }

    fn fill<'a>(
        &'a self,
        name: &'a StoredName,
        attempt: &'a Attempt,
        value: &'a Secret,
        notes: &'a Notes,
    ) -> BoxFuture<'a, Result<VersionId, StoreError>> {
        self.pass(async move { self.0.fill(name, attempt, value, notes).await })
    }

    fn promote<'a>(
        &'a self,
        name: &'a StoredName,
        attempt: &'a Attempt,
    ) -> BoxFuture<'a, Result<VersionId, StoreError>> {
        self.by(attempt);
        self.pass(async move { self.0.promote(name, attempt).await })
    }

    fn retire<'a>(
        &'a self,
        name: &'a StoredName,
        version: &'a VersionId,
        attempt: &'a Attempt,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.pass(async move { self.0.retire(name, version, attempt).await })
    }

    fn note<'a>(
        &'a self,
        name: &'a StoredName,
        version: &'a VersionId,
        attempt: &'a Attempt,
        notes: &'a Notes,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.pass(async move { self.0.note(name, version, attempt, notes).await })
    }
}

struct Agent {
    us: &'static str,
    journal: Journal,
    gate: Arc<Gate>,
    engine: Arc<Engine>,
    /// What it was doing when it fell asleep, and whether it held the reservation.
    asleep: Option<(BoxFuture<'static, ()>, bool)>,
}

/// What all histories share.
pub(super) struct Ground {
    _folder: tempfile::TempDir,
    pub(super) store: Arc<SealedStore>,
    pub(super) clock: Arc<ManualClock>,
    pub(super) journals: [Journal; 2],
    nth: AtomicUsize,
}

impl Ground {
    pub(super) fn new() -> Self {
        // In memory, where there is such a folder: what is tested here is no disk.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let now = Moment { wall: Wall::from_micros(1_795_240_800_000_000), boot: Boot::default() };
        let clock = Arc::new(ManualClock::at(now));
        let lock = Locked::take(&folder.path().join("store.db")).unwrap();
        let key = KeySource::File { path: folder.path().join("store.key"), make: true };
        let store = SealedStore::open(lock, key, Arc::<ManualClock>::clone(&clock), Arc::new(SystemRandom)).unwrap();
        let journals = ["a", "b"].map(|us| matrix::journal(&folder.path().join(us)));
        Self { store: Arc::new(store), clock, journals, nth: AtomicUsize::new(0), _folder: folder }
    }
}

struct History<'a> {
    stage: &'a Ground,
    far: Arc<FarSide>,
    name: StoredName,
    agents: [Agent; 2],
    /// How many rotations there may be at most.
    owed: usize,
}

impl<'a> History<'a> {
    fn new(stage: &'a Ground, overlap: Overlap, invents: Invents) -> Self {
        let far = Arc::new(FarSide { overlap, invents, tells: true, held: Arc::default(), is_down: Arc::default() });
        let name: StoredName = format!("history/{}", stage.nth.fetch_add(1, Ordering::Relaxed)).parse().unwrap();
        let agents = [0, 1].map(|nth| {
            let (gate, us) = (Arc::<Gate>::default(), ["a", "b"][nth]);
            let engine = engine(stage, &far, &name, us, &stage.journals[nth], &gate);
            Agent { us, journal: stage.journals[nth].clone(), gate, engine, asleep: None }
        });
        // The first value is owed from the start.
        Self { stage, far, name, agents, owed: 1 }
    }

    async fn versions(&self) -> Versions {
        self.stage.store.versions(&self.name).await.unwrap_or_else(|_| Versions::none(self.name.clone()))
    }

    fn far(&self) -> Credentials {
        self.far.held.lock().unwrap().clone()
    }

    async fn works(&self, version: &Version) -> bool {
        let (_, value) = self.stage.store.read(&self.name, &Which::Id(version.id.clone())).await.unwrap();
        self.far().values().any(|(_, one)| value.matches(one))
    }

    async fn restart(&mut self, nth: usize) {
        let agent = &mut self.agents[nth];
        agent.asleep = None;
        agent.gate = Arc::default();
        agent.engine = engine(self.stage, &self.far, &self.name, agent.us, &agent.journal, &agent.gate);
    }

    /// Lets an agent do `doing` until it is done, dies or sleeps.
    async fn drive(&mut self, nth: usize, mut doing: BoxFuture<'static, ()>) {
        let gate = Arc::clone(&self.agents[nth].gate);
        loop {
            tokio::select! {
                biased;
                () = &mut doing => return,
                () = gate.killed.notified() => return self.restart(nth).await,
                () = gate.slept.notified() => break,
                () = gate.silent.notified() => {
                    self.stage.clock.advance(ACT_TIMEOUT);
                    tokio::time::advance(ACT_TIMEOUT).await;
                }
            }
        }
        let pending = self.versions().await.at(Stage::Pending).map(|version| version.attempt.clone());
        let held = pending.is_some() && *gate.last_attempt.lock().unwrap() == pending;
        self.agents[nth].asleep = Some((doing, held));
    }

    async fn wake(&mut self, nth: usize) {
        let Some((doing, held)) = self.agents[nth].asleep.take() else { return };
        let gate = Arc::clone(&self.agents[nth].gate);
        let (before, far) = (self.versions().await, self.far());
        let ours = gate.last_attempt.lock().unwrap().clone();
        let lost = held && before.at(Stage::Pending).map(|version| &version.attempt) != ours.as_ref();
        // One whose lease has passed may be taken back.
        let now = self.stage.clock.now().wall;
        let free = before.at(Stage::Pending).is_some_and(|version| version.notes.lease_ends() <= Some(now));
        let lost = lost && !free;
        if lost {
            gate.faults.lock().unwrap().clear();
            gate.blind.store(true, Ordering::Relaxed);
        }
        gate.wake.notify_one();
        self.drive(nth, doing).await;
        if lost {
            gate.blind.store(false, Ordering::Relaxed);
            let after = self.versions().await;
            assert_eq!(lives(&after), lives(&before), "who was fenced has changed the store");
            let more = self.far().into_iter().find(|(id, _)| !far.contains_key(id));
            assert_eq!(more, None, "who was fenced has made something");
        }
    }

    async fn make(&mut self, one: &Move) {
        match one {
            Move::Passes(seconds) => self.stage.clock.advance(Duration::from_secs(*seconds)),
            Move::Steps(seconds) => self.stage.clock.step_wall(seconds * 1_000_000),
            Move::Due => {
                self.stage.clock.advance(EVERY + 2 * DAY);
                self.owed += 1;
            }
            Move::Wake(nth) => self.wake(*nth).await,
            Move::Kill(nth) if self.agents[*nth].asleep.is_some() => self.restart(*nth).await,
            Move::Kill(_) => {}
            Move::Put(nth, faults) => self.put(*nth, faults).await,
            Move::Turn(nth, faults) | Move::Ask(nth, _, faults) | Move::Leak(nth, faults) => {
                let Agent { gate, engine, asleep, .. } = &self.agents[*nth];
                if asleep.is_some() {
                    return;
                }
                *gate.faults.lock().unwrap() = faults.iter().copied().collect();
                let (engine, key) = (Arc::clone(engine), key());
                let doing = match one {
                    Move::Ask(_, now, _) => {
                        self.owed += 1;
                        let now = *now;
                        async move { drop(engine.rotate(&key, now).await) }.boxed()
                    }
                    Move::Leak(..) => {
                        self.owed += 1;
                        async move { drop(engine.revoke(&key).await) }.boxed()
                    }
                    Move::Turn(..)
                    | Move::Put(..)
                    | Move::Wake(_)
                    | Move::Kill(_)
                    | Move::Passes(_)
                    | Move::Steps(_)
                    | Move::Due => async move { engine.turn_all().await }.boxed(),
                };
                self.drive(*nth, doing).await;
            }
        }
    }

    async fn put(&mut self, nth: usize, faults: &[(u8, Fault)]) {
        if self.agents[nth].asleep.is_some() {
            return;
        }
        let (before, former) = (self.versions().await, self.current().await);
        let ours = |stage| before.at(stage).is_some_and(is_ours);
        let is_to_end = before.at(Stage::Previous).is_some() && (ours(Stage::Previous) || ours(Stage::Current));
        let refused = ours(Stage::Pending) || self.far.overlap == Overlap::Two && is_to_end;
        let value = [BY_HAND, self.owed.to_string().as_bytes()].concat();
        if !refused {
            self.owed += 1;
            self.far.accept("", &value);
        }
        // Who puts does not sleep: nobody could say what he holds.
        let faults = faults.iter().filter(|(_, fault)| *fault != Fault::Sleeps).copied();
        *self.agents[nth].gate.faults.lock().unwrap() = faults.collect();
        self.drive(nth, self.putting(nth, &value)).await;
        if refused {
            assert_eq!(lives(&self.versions().await), lives(&before), "it was put over what is unfinished");
            return;
        }
        self.agents[nth].gate.faults.lock().unwrap().clear();
        while self.current().await.as_ref() != Some(&value) {
            self.stage.clock.advance(LEASE);
            self.drive(nth, self.putting(nth, &value)).await;
        }
        // What he has made by hand he ends by hand.
        if let Some(former) = former.filter(|former| former.starts_with(BY_HAND)) {
            self.far.held.lock().unwrap().retain(|_, (_, one)| *one != former);
        }
    }

    /// A `put` by agent `nth`, as the broker carries it out.
    fn putting(&self, nth: usize, value: &[u8]) -> BoxFuture<'static, ()> {
        let Agent { gate, engine, .. } = &self.agents[nth];
        let (engine, place, value) = (Arc::clone(engine), place(self.stage, &self.name, gate), Secret::copy_of(value));
        let lease_ends = self.stage.clock.now().wall + LEASE;
        async move {
            if let Ok(None) = engine.unfinished_at(&place).await {
                let attempt = Attempt::new(&SystemRandom).unwrap();
                drop(store::put(&*place.store, &place.name, &value, &attempt, lease_ends).await);
            }
        }
        .boxed()
    }

    async fn current(&self) -> Option<Vec<u8>> {
        let (_, value) = self.stage.store.read(&self.name, &Which::Current).await.ok()?;
        Some(value.expose().to_vec())
    }

    /// What holds at any moment, whatever is unfinished.
    async fn holds_now(&self) {
        let versions = self.versions().await;
        let Some(current) = versions.at(Stage::Current) else { return };
        let pending = versions.at(Stage::Pending).filter(|version| version.filled);
        let works = match (self.far.overlap, pending) {
            (Overlap::One, Some(pending)) => self.works(current).await || self.works(pending).await,
            _ => self.works(current).await,
        };
        assert!(works, "nothing works: {versions:?}, {:?}", self.far().keys());
        let promoted = versions.iter().filter(|version| version.notes.promoted().is_some()).count();
        assert!(promoted <= self.owed, "{promoted} rotations of {}: {versions:?}", self.owed);
    }

    /// What an operator has said of the end of a version outlives whoever was told: here nobody holds anything.
    async fn has_ended_at_once(&self) {
        let versions = self.versions().await;
        let live = versions.iter().filter(|version| !version.stages.has(Stage::Retired));
        assert!(live.clone().all(|version| version.notes.get("leaked").is_none()), "it has leaked: {versions:?}");
        let Some(previous) = versions.at(Stage::Previous) else { return };
        let without_grace = |version: &Version| version.notes.get("without_grace") == Some(previous.attempt.as_str());
        assert!(!live.clone().any(without_grace), "it was to end at once: {versions:?}");
    }

    async fn comes_to_rest(&mut self) {
        for nth in 0..2 {
            self.agents[nth].gate.faults.lock().unwrap().clear();
            self.wake(nth).await;
        }
        for round in 0..80 {
            for nth in 0..2 {
                let engine = Arc::clone(&self.agents[nth].engine);
                self.drive(nth, async move { engine.turn_all().await }.boxed()).await;
            }
            self.holds_now().await;
            // What was under way is given up first; no time passes by that.
            if round > 0 {
                self.has_ended_at_once().await;
            }
            if self.agents.iter().all(|agent| agent.engine.status()[0].state == State::Idle) {
                return;
            }
            self.stage.clock.advance(if round == 0 { Duration::ZERO } else { Duration::from_secs(3_600) });
        }
        panic!("it does not come to rest: {:?}, {:?}", self.agents[0].engine.status(), self.versions().await);
    }

    async fn ends_well(&mut self) {
        self.comes_to_rest().await;
        // What a reservation left that was given up is cleared by the next rotation.
        self.make(&Move::Due).await;
        self.comes_to_rest().await;
        let versions = self.versions().await;
        let count = |stage| versions.iter().filter(|version| version.stages.has(stage)).count();
        assert_eq!([Stage::Pending, Stage::Current, Stage::Previous].map(count), [0, 1, 0], "{versions:?}");
        assert!(self.works(versions.at(Stage::Current).unwrap()).await);
        assert_eq!(self.far().len(), 1, "orphans: {:?}, {versions:?}", self.far().keys());
    }
}

/// The versions that are not over.
fn lives(versions: &Versions) -> Vec<&Version> {
    versions.iter().filter(|version| !version.stages.has(Stage::Retired)).collect()
}

pub(super) fn key() -> Name {
    "key".parse().unwrap()
}

fn place(stage: &Ground, name: &StoredName, gate: &Arc<Gate>) -> Place {
    let store = Arc::new(GatedStore(Arc::clone(&stage.store), Arc::clone(gate)));
    Place { store_name: "local".parse().unwrap(), store, name: name.clone(), fresh_for: None }
}

fn engine(
    stage: &Ground,
    far: &Arc<FarSide>,
    name: &StoredName,
    us: &str,
    journal: &Journal,
    gate: &Arc<Gate>,
) -> Arc<Engine> {
    let told = Box::new(|_: &Name, _: &Happened| {});
    let engine =
        Engine::new(journal.clone(), Arc::<ManualClock>::clone(&stage.clock), Arc::new(SystemRandom), us, told);
    engine.keep(vec![rotation(stage, far, name, gate)]);
    // Nobody was handed anything: its log need not be asked.
    engine.holders.looked(&key(), std::iter::empty());
    Arc::new(engine)
}

fn rotation(stage: &Ground, far: &Arc<FarSide>, name: &StoredName, gate: &Arc<Gate>) -> Rotation {
    let two = far.overlap == Overlap::Two;
    let plan = Plan {
        overlap: far.overlap,
        invents: far.invents,
        settles_within: Duration::ZERO,
        grace: if two { Duration::from_secs(600) } else { Duration::ZERO },
        uptake_deadline: if two { Duration::from_secs(1_200) } else { Duration::ZERO },
        exclusive: true,
    };
    let schedule = Schedule { every: Some(EVERY), ..Schedule::default() };
    let rotator = Arc::new(GatedRotator(Arc::clone(far), Arc::clone(gate)));
    let place = place(stage, name, gate);
    Rotation { name: key(), place, plan, uptake: Uptake::Local, schedule, rotator }
}

fn any_history_holds(overlap: Overlap, invents: Invents) {
    let ground = Ground::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    // Time passes where a history says so, and not while a log or a store is waited for.
    let (over, until_over) = std::sync::mpsc::channel::<()>();
    runtime.spawn_blocking(move || until_over.recv());
    let cases = std::env::var("BURSAR_TEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(40);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(&moves(), |moves| {
        let mut history = History::new(&ground, overlap, invents);
        runtime.block_on(async {
            for one in &moves {
                history.make(one).await;
                history.holds_now().await;
            }
            history.ends_well().await;
        });
        Ok(())
    });
    drop(over);
    outcome.unwrap();
}

#[test]
fn whatever_happens_two_values_of_our_own_hold() {
    any_history_holds(Overlap::Two, Invents::Us);
}

#[test]
fn whatever_happens_the_one_value_of_our_own_holds() {
    any_history_holds(Overlap::One, Invents::Us);
}

#[test]
fn whatever_happens_two_values_of_a_far_side_that_invents_hold() {
    any_history_holds(Overlap::Two, Invents::FarSide);
}

/// Kills an agent at each call of what an operator asked for, of a version that another has replaced or not; how often
/// that left the former version. The next start ends it.
async fn killed_at_each_call(ground: &Ground, is_replaced: bool, asked: impl Fn(Vec<(u8, Fault)>) -> Move) -> usize {
    let mut left = 0;
    for nth in 0..32 {
        let mut history = History::new(ground, Overlap::Two, Invents::Us);
        history.comes_to_rest().await;
        if is_replaced {
            history.make(&Move::Ask(0, false, Vec::new())).await;
        }
        history.make(&asked(vec![(nth, Fault::KilledBefore)])).await;
        left += usize::from(history.versions().await.at(Stage::Previous).is_some());
        let is_said = history.versions().await.iter().any(|version| version.notes.get("leaked").is_some());
        history.make(&Move::Turn(0, Vec::new())).await;
        history.has_ended_at_once().await;
        let is_over = history.versions().await.at(Stage::Previous).is_none();
        assert!(is_over || is_replaced && !is_said, "killed at call {nth}");
    }
    left
}

#[test]
fn what_an_operator_says_of_the_former_version_outlives_a_restart() {
    let ground = Ground::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        assert!(killed_at_each_call(&ground, false, |faults| Move::Ask(0, true, faults)).await > 2);
        for is_replaced in [false, true] {
            assert!(killed_at_each_call(&ground, is_replaced, |faults| Move::Leak(0, faults)).await > 2);
        }
        let mut ordinary = History::new(&ground, Overlap::Two, Invents::Us);
        ordinary.comes_to_rest().await;
        ordinary.make(&Move::Ask(0, false, Vec::new())).await;
        assert!(
            ordinary.versions().await.at(Stage::Previous).is_some(),
            "nobody said so: its grace period is waited for"
        );
    });
}

#[test]
fn what_was_put_over_something_put_is_replaced_when_it_has_leaked() {
    let ground = Ground::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut history = History::new(&ground, Overlap::Two, Invents::FarSide);
    runtime.block_on(async {
        for one in [Move::Put(0, Vec::new()), Move::Put(0, Vec::new()), Move::Leak(0, Vec::new())] {
            history.make(&one).await;
        }
        let versions = history.versions().await;
        assert!(
            versions.at(Stage::Current).is_some_and(is_ours) && versions.at(Stage::Previous).is_none(),
            "{versions:?}"
        );
        history.ends_well().await;
    });
}

#[test]
fn a_rotation_that_is_put_back_while_it_is_at_its_last_step_begins_no_other() {
    let ground = Ground::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut history = History::new(&ground, Overlap::Two, Invents::FarSide);
    runtime.block_on(async {
        // At the first call to the far side after its reservation.
        history.make(&Move::Turn(0, vec![(4, Fault::Sleeps)])).await;
        let (before, far) = (history.versions().await, history.far());
        let Agent { gate, engine, asleep, .. } = &history.agents[0];
        assert!(asleep.is_some() && before.at(Stage::Pending).is_some(), "{before:?}");
        engine.keep(Vec::new());
        engine.keep(vec![rotation(&ground, &history.far, &history.name, gate)]);
        engine.turn_all().await;
        assert_eq!((history.versions().await, history.far()), (before, far), "two are at it");
        history.ends_well().await;
    });
}

#[test]
fn ten_agents_rotate_once_for_each_due_though_who_reserves_is_killed() {
    let ground = Ground::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut history = History::new(&ground, Overlap::Two, Invents::FarSide);
    let folder = tempfile::tempdir().unwrap();
    let names = ["c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8", "c9"];
    let journals = names.map(|us| matrix::journal(&folder.path().join(us)));
    runtime.block_on(async {
        for killed in 0..10_u8 {
            let gates: [Arc<Gate>; 10] = std::array::from_fn(|_| Arc::default());
            let engines: [_; 10] = std::array::from_fn(|nth| {
                engine(&ground, &history.far, &history.name, names[nth], &journals[nth], &gates[nth])
            });
            // Whoever comes so far, and so each that would: only who holds the reservation does.
            for gate in &gates {
                gate.faults.lock().unwrap().push_back((3 + killed, Fault::KilledBefore));
            }
            for _ in 0..10 {
                let turns = engines.iter().zip(&gates).map(|(engine, gate)| async {
                    tokio::select! {
                        () = engine.turn_all() => {}
                        () = gate.killed.notified() => {}
                    }
                });
                futures_util::future::join_all(turns).await;
                gates.iter().for_each(|gate| gate.faults.lock().unwrap().clear());
                history.holds_now().await;
                ground.clock.advance(Duration::from_secs(3_600));
            }
            let promoted = history.versions().await;
            let promoted = promoted.iter().filter(|version| version.notes.promoted().is_some()).count();
            assert_eq!((promoted, history.far().len()), (history.owed, 1), "killed at call {killed}");
            history.make(&Move::Due).await;
        }
    });
}
