//! `uptake = "store"`: two agents that share a secret, and the board on which they tell each other who holds it.

use std::sync::atomic::{AtomicBool, AtomicUsize};

use bursar::name::{Name, StoredName};
use bursar::rotation::{Engine, Happened, Holder, Plan, Rotation, Schedule, Status, Uptake, keep_telling};
use bursar::store::{
    Attempt, Author, Notes, Noticeboard, Place, Posted, Reserved, Store, StoreError, Version, VersionId, Versions,
    Which,
};
use bursar::time::{ManualClock, Wall};
use tokio::sync::Notify;

use super::histories::{Ground, key};
use super::*;

const GRACE: Duration = Duration::from_secs(600);
const DEADLINE: Duration = Duration::from_secs(86_400);
/// After that less is told too.
const A_WHILE: Duration = Duration::from_secs(30);
const NOTICE_LEASE: Duration = Duration::from_secs(600);

/// A store that carries notices.
#[derive(Default)]
struct Board {
    notices: Mutex<BTreeMap<String, String>>,
    is_down: AtomicBool,
    written: AtomicUsize,
    put: Notify,
}

struct Shared(Arc<dyn Store>, Board);

impl Board {
    fn up<T>(&self, done: T) -> Result<T, StoreError> {
        match self.is_down.load(Ordering::Relaxed) {
            true => Err(StoreError::Unavailable("it is down".into())),
            false => Ok(done),
        }
    }
}

impl Noticeboard for Shared {
    fn put_up<'a>(
        &'a self,
        _: &'a StoredName,
        author: &'a Author,
        text: &'a str,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.1.written.fetch_add(1, Ordering::Relaxed);
        let done = self.1.up(()).map(|()| drop(self.1.notices.lock().unwrap().insert(author.to_string(), text.into())));
        self.1.put.notify_one();
        async { done }.boxed()
    }

    fn posted<'a>(&'a self, _: &'a StoredName) -> BoxFuture<'a, Result<Vec<Posted>, StoreError>> {
        let notices = self.1.notices.lock().unwrap().clone();
        let one = |(author, text): (String, String)| Posted { author: author.parse().unwrap(), text };
        async move { self.1.up(notices.into_iter().map(one).collect()) }.boxed()
    }

    fn take_down<'a>(&'a self, _: &'a StoredName, author: &'a Author) -> BoxFuture<'a, Result<(), StoreError>> {
        drop(self.1.notices.lock().unwrap().remove(&author.to_string()));
        async { Ok(()) }.boxed()
    }
}

impl Store for Shared {
    fn list(&self) -> BoxFuture<'_, Result<Vec<StoredName>, StoreError>> {
        self.0.list()
    }

    fn versions<'a>(&'a self, name: &'a StoredName) -> BoxFuture<'a, Result<Versions, StoreError>> {
        self.0.versions(name)
    }

    fn read<'a>(
        &'a self,
        name: &'a StoredName,
        which: &'a Which,
    ) -> BoxFuture<'a, Result<(Version, Secret), StoreError>> {
        self.0.read(name, which)
    }

    fn reserve<'a>(
        &'a self,
        name: &'a StoredName,
        attempt: &'a Attempt,
        lease_ends: Wall,
        notes: &'a Notes,
    ) -> BoxFuture<'a, Result<Reserved, StoreError>> {
        self.0.reserve(name, attempt, lease_ends, notes)
    }

    fn fill<'a>(
        &'a self,
        name: &'a StoredName,
        attempt: &'a Attempt,
        value: &'a Secret,
        notes: &'a Notes,
    ) -> BoxFuture<'a, Result<VersionId, StoreError>> {
        self.0.fill(name, attempt, value, notes)
    }

    fn promote<'a>(
        &'a self,
        name: &'a StoredName,
        attempt: &'a Attempt,
    ) -> BoxFuture<'a, Result<VersionId, StoreError>> {
        self.0.promote(name, attempt)
    }

    fn retire<'a>(
        &'a self,
        name: &'a StoredName,
        version: &'a VersionId,
        attempt: &'a Attempt,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.0.retire(name, version, attempt)
    }

    fn note<'a>(
        &'a self,
        name: &'a StoredName,
        version: &'a VersionId,
        attempt: &'a Attempt,
        notes: &'a Notes,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.0.note(name, version, attempt, notes)
    }

    fn noticeboard(&self) -> Option<&dyn Noticeboard> {
        Some(self)
    }
}

/// Agents that share a secret which has its first version; time passes for them as it is told to.
struct Fleet {
    ground: Ground,
    store: Arc<Shared>,
    /// The one that rotates.
    a: Arc<Engine>,
}

impl Fleet {
    async fn new() -> Self {
        let ground = Ground::new();
        let store = Arc::new(Shared(ground.store.clone(), Board::default()));
        let a = agent("a", &ground, &store);
        a.turn_all().await;
        Self { ground, store, a }
    }

    /// Another one; or the same again.
    fn agent(&self, us: &str) -> Arc<Engine> {
        agent(us, &self.ground, &self.store)
    }

    async fn current(&self) -> VersionId {
        self.store.read(&"key".parse().unwrap(), &Which::Current).await.unwrap().0.id
    }

    fn passes(&self, time: Duration) {
        self.ground.clock.advance(time);
    }

    /// `a` has replaced what it and others hold, and the grace period is over.
    async fn replaced(&self) {
        let status = self.a.rotate(&key(), false).await.unwrap();
        assert_eq!(status.waiting_for.as_deref(), Some("the end of the grace period"), "{status:?}");
        self.passes(GRACE);
    }

    async fn status(&self) -> Status {
        self.a.turn_all().await;
        self.a.status().remove(0)
    }

    /// Who is waited for; nobody once the former version is ended.
    async fn waits_for(&self) -> Vec<String> {
        let status = self.status().await;
        let waits = status.waiting_for.as_deref() == Some("readers that hold the former version");
        assert_eq!((waits, !status.holders.is_empty()), (status.previous.is_some(), waits), "{status:?}");
        status.holders
    }
}

fn agent(us: &str, ground: &Ground, store: &Arc<Shared>) -> Arc<Engine> {
    let journal = ground.journals[usize::from(us != "a")].clone();
    let (clock, random) = (Arc::<ManualClock>::clone(&ground.clock), Arc::new(SystemRandom));
    let engine = Engine::new(journal, clock, random.clone(), us, Box::new(|_: &Name, _: &Happened| {}));
    let rotator = Arc::new(RandomText::new(Alphabet::Hex, 32, random));
    let (store_name, store) = ("shared".parse().unwrap(), Arc::<Shared>::clone(store));
    let place = Place { store_name, store, name: "key".parse().unwrap(), fresh_for: None };
    let plan = Plan {
        overlap: Overlap::Two,
        invents: Invents::Us,
        settles_within: Duration::ZERO,
        grace: GRACE,
        uptake_deadline: DEADLINE,
        exclusive: true,
    };
    let (name, uptake, schedule) = (key(), Uptake::Store, Schedule::default());
    engine.keep(vec![Rotation { name, place, plan, uptake, schedule, rotator }]);
    Arc::new(engine)
}

/// A process takes a version at `agent`, and lives on.
fn takes(agent: &Engine, pid: i32, version: &VersionId) {
    let holder = Holder { workload: "checkout".parse().unwrap(), pid: Some(pid), version: version.clone() };
    agent.took(&key(), holder, Box::new(|| true));
}

#[tokio::test]
async fn a_reader_at_another_agent_is_waited_for_and_named_until_it_moves_on() {
    let fleet = Fleet::new().await;
    let b = fleet.agent("b 4f1c");
    takes(&b, 7, &fleet.current().await);
    b.tell_all().await;
    fleet.replaced().await;
    b.tell_all().await;
    assert_eq!(fleet.waits_for().await, ["checkout (process 7) at b"]);
    takes(&b, 7, &fleet.current().await);
    b.tell_all().await;
    fleet.passes(A_WHILE);
    b.tell_all().await;
    assert_eq!(fleet.waits_for().await, [""; 0]);
}

#[tokio::test]
async fn an_agent_that_has_ended_is_waited_for_as_long_as_its_lease_runs() {
    let fleet = Fleet::new().await;
    let b = fleet.agent("b 4f1c");
    takes(&b, 7, &fleet.current().await);
    fleet.replaced().await;
    b.tell_all().await;
    drop(b);
    fleet.passes(NOTICE_LEASE - Duration::from_secs(1));
    assert_eq!(fleet.waits_for().await.len(), 1);
    fleet.passes(Duration::from_secs(1));
    assert_eq!(fleet.waits_for().await, [""; 0]);
}

#[tokio::test]
async fn what_cannot_be_read_is_held_until_the_deadline() {
    let fleet = Fleet::new().await;
    fleet.replaced().await;
    fleet.store.1.is_down.store(true, Ordering::Relaxed);
    let who = fleet.waits_for().await;
    assert!(who.len() == 1 && who[0].contains("cannot be read: the store is unavailable: it is down"), "{who:?}");
    fleet.store.1.is_down.store(false, Ordering::Relaxed);
    let author = Author::of("c 77").to_string();
    // Another's text under its own name is no notice of its.
    let b = fleet.agent("b 4f1c");
    takes(&b, 7, &fleet.current().await);
    b.tell_all().await;
    let text = fleet.store.1.notices.lock().unwrap()[&Author::of("b 4f1c").to_string()].clone();
    for hostile in [text, "{}".into(), "[".repeat(30_000), String::new()] {
        fleet.store.1.notices.lock().unwrap().insert(author.clone(), hostile);
        let who = fleet.waits_for().await;
        assert!(who.len() == 1 && who[0].starts_with(&format!("somebody, for the notice `{author}`")), "{who:?}");
    }
    fleet.passes(DEADLINE);
    assert_eq!(fleet.waits_for().await, [""; 0]);
}

#[tokio::test]
async fn who_held_it_before_a_restart_of_another_agent_is_supposed_to_hold_it_still() {
    let fleet = Fleet::new().await;
    let b = fleet.agent("b 4f1c");
    takes(&b, 7, &fleet.current().await);
    fleet.replaced().await;
    drop(b);
    let b = fleet.agent("b 4f1c");
    b.wait_for_recall();
    b.tell_all().await;
    assert_eq!(fleet.waits_for().await, ["others at b"], "it has yet to read its log");
    b.recall(|_, _, _| async { Some(vec!["checkout".parse().unwrap()]) }).await;
    b.tell_all().await;
    assert_eq!(fleet.waits_for().await, ["checkout (a process of before the restart, if it still runs) at b"]);
}

#[tokio::test]
async fn a_leaked_version_waits_for_nobody_and_who_held_it_elsewhere_is_named() {
    let fleet = Fleet::new().await;
    let b = fleet.agent("b 4f1c");
    takes(&b, 7, &fleet.current().await);
    b.tell_all().await;
    let (held_by, status) = fleet.a.revoke(&key()).await.unwrap();
    assert_eq!((&held_by[..], status.previous), (&["checkout (process 7) at b".to_owned()][..], None));
}

#[tokio::test]
async fn readers_that_come_and_go_do_not_keep_the_store_busy() {
    let fleet = Fleet::new().await;
    let (b, version) = (fleet.agent("b"), fleet.current().await);
    b.tell_all().await;
    for pid in 1..=20 {
        takes(&b, pid, &version);
        b.tell_all().await;
        fleet.passes(Duration::from_secs(1));
    }
    assert_eq!(fleet.store.1.written.load(Ordering::Relaxed), 2, "that nobody holds it, and that somebody does");
}

#[tokio::test]
async fn a_version_that_nobody_held_is_told_of_without_waiting_for_a_tick() {
    let fleet = Fleet::new().await;
    let (b, version) = (fleet.agent("b"), fleet.current().await);
    let telling = tokio::spawn(keep_telling(Arc::clone(&b)));
    fleet.store.1.put.notified().await;
    takes(&b, 7, &version);
    let told = tokio::time::timeout(Duration::from_secs(4), fleet.store.1.put.notified()).await;
    telling.abort();
    assert!(told.is_ok() && fleet.store.1.notices.lock().unwrap().values().any(|text| text.contains("checkout")));
}

#[tokio::test]
async fn a_notice_of_an_agent_that_is_long_gone_is_taken_down() {
    let fleet = Fleet::new().await;
    fleet.agent("gone").tell_all().await;
    fleet.passes(NOTICE_LEASE + 2 * DEADLINE);
    fleet.replaced().await;
    assert_eq!(fleet.waits_for().await, [""; 0]);
    assert!(fleet.store.1.notices.lock().unwrap().is_empty());
}
