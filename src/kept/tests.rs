//! Kept secrets over a store that counts its reads, changes, fails and hangs.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};

use super::*;
use crate::access::{Access, Action, Grounds, Resource, Role, SecretId, Workload};
use crate::account::{Lease, Terms};
use crate::crypto::{Digest, SystemRandom};
use crate::events::{Bus, Event, Hearing, What};
use crate::name::StoredName;
use crate::store::{
    Attempt, Entry, Notes, Place, Reserved, Shelf, Stage, Stages, Store, StoreError, VersionId, Versions, Which,
};
use crate::time::{Clock, ManualClock};

/// A store with one secret: what it holds, how often it was read, and what is wrong with it.
#[derive(Default)]
struct Fake {
    value: Mutex<Option<(String, Vec<u8>)>>,
    stage: Mutex<Option<Stage>>,
    reads: AtomicUsize,
    changes: AtomicU64,
    counts: AtomicBool,
    down: AtomicBool,
    hangs: AtomicBool,
}

impl Fake {
    fn put(&self, version: &str, value: &[u8]) {
        *self.value.lock().unwrap() = Some((version.to_owned(), value.to_vec()));
        self.changes.fetch_add(1, Ordering::SeqCst);
    }

    fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }
}

impl Store for Fake {
    fn list(&self) -> BoxFuture<'_, Result<Vec<StoredName>, StoreError>> {
        refused()
    }

    fn versions<'a>(&'a self, _: &'a StoredName) -> BoxFuture<'a, Result<Versions, StoreError>> {
        refused()
    }

    fn read<'a>(&'a self, name: &'a StoredName, _: &'a Which) -> BoxFuture<'a, Result<(Version, Secret), StoreError>> {
        async move {
            self.reads.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            if self.hangs.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            if self.down.load(Ordering::SeqCst) {
                return Err(StoreError::Unavailable("it is down".into()));
            }
            let held = self.value.lock().unwrap().clone();
            let (id, value) = held.ok_or_else(|| StoreError::NotFound(format!("secret `{name}`")))?;
            let version = Version {
                id: id.parse().unwrap(),
                stages: Stages::of(self.stage.lock().unwrap().unwrap_or(Stage::Current)),
                attempt: Attempt::from_bytes([1; 16]),
                notes: Notes::default(),
                created: Wall::default(),
                filled: true,
            };
            Ok((version, Secret::new(value)))
        }
        .boxed()
    }

    fn reserve<'a>(
        &'a self,
        _: &'a StoredName,
        _: &'a Attempt,
        _: Wall,
        _: &'a Notes,
    ) -> BoxFuture<'a, Result<Reserved, StoreError>> {
        refused()
    }

    fn fill<'a>(
        &'a self,
        _: &'a StoredName,
        _: &'a Attempt,
        _: &'a Secret,
        _: &'a Notes,
    ) -> BoxFuture<'a, Result<VersionId, StoreError>> {
        refused()
    }

    fn promote<'a>(&'a self, _: &'a StoredName, _: &'a Attempt) -> BoxFuture<'a, Result<VersionId, StoreError>> {
        refused()
    }

    fn retire<'a>(
        &'a self,
        _: &'a StoredName,
        _: &'a VersionId,
        _: &'a Attempt,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        refused()
    }

    fn note<'a>(
        &'a self,
        _: &'a StoredName,
        _: &'a VersionId,
        _: &'a Attempt,
        _: &'a Notes,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        refused()
    }

    fn change_counter(&self) -> Option<u64> {
        self.counts.load(Ordering::SeqCst).then(|| self.changes.load(Ordering::SeqCst))
    }
}

fn refused<'a, T: Send + 'a>() -> BoxFuture<'a, Result<T, StoreError>> {
    async { Err(StoreError::ReadOnly("nothing is written here".into())) }.boxed()
}

struct Scene {
    store: Arc<Fake>,
    clock: Arc<ManualClock>,
    engine: Arc<Engine>,
    shelf: Shelf,
    heard: Hearing,
}

impl Scene {
    fn new() -> Self {
        let (store, clock, events) = (Arc::<Fake>::default(), Arc::<ManualClock>::default(), Bus::default());
        store.put("v1", b"first");
        let engine = Arc::new(Engine::new(Arc::<ManualClock>::clone(&clock), Arc::new(SystemRandom), events.clone()));
        let mut shelf = Shelf::default();
        shelf.stores.insert("local".parse().unwrap(), Arc::<Fake>::clone(&store));
        let (store_name, name) = ("local".parse().unwrap(), "stripe/api-key".parse().unwrap());
        let whole = Entry { store: store_name, name, field: None, encoding: None };
        shelf.entries.insert("api-key".parse().unwrap(), whole);
        Self { store, clock, engine, shelf, heard: events.listen() }
    }

    async fn get(&self) -> Result<Lease, Unavailable> {
        self.get_at(&Which::Current).await
    }

    async fn get_at(&self, which: &Which) -> Result<Lease, Unavailable> {
        let permit = permit(Action::Secret, Resource::Secret("api-key".parse().unwrap()));
        self.engine.obtain(permit, &self.shelf, which).await.map_err(|unobtained| unobtained.why)
    }

    /// Version and freshness of what is served.
    async fn served(&self) -> (String, Freshness) {
        terms(&self.get().await.unwrap())
    }

    fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }
}

fn terms(lease: &Lease) -> (String, Freshness) {
    let Terms::Secret(terms) = lease.account().terms else { panic!("no secret: {lease:?}") };
    (terms.version.to_string(), terms.freshness)
}

fn permit(action: Action, resource: Resource) -> Permit {
    let name = "checkout".parse().unwrap();
    let who = Arc::new(Workload { name, role: Role::Workload, uid: 1, facts: Arc::new([]) });
    let (scopes, audience) = Default::default();
    let minute = Wall::default().minute();
    let grounds = Grounds { minute, policies: Arc::new([]), snapshot: Digest::of(b"") };
    Permit::grant(Access { who, action, resource, scopes, audience }, grounds)
}

/// Lets the tasks that were started come to their end.
async fn settle() {
    for _ in 0..8 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_thousand_cold_readers_are_one_read() {
    let scene = Scene::new();
    let all = join_all((0..1_000).map(|_| scene.get())).await;
    assert!(all.iter().all(|lease| terms(lease.as_ref().unwrap()) == ("v1".into(), Freshness::Fresh)));
    assert_eq!(scene.store.reads(), 1);
}

#[tokio::test]
async fn a_changed_value_is_seen_within_the_stated_time() {
    let scene = Scene::new();
    drop(scene.get().await.unwrap());
    scene.store.put("v2", b"second");
    scene.pass(200);
    assert_eq!(scene.served().await, ("v1".into(), Freshness::Fresh));
    scene.pass(100);
    assert_eq!(scene.served().await, ("v2".into(), Freshness::Fresh), "what is due is read before it is served");
}

#[tokio::test]
async fn a_store_that_counts_its_changes_is_read_when_it_has_changed() {
    let scene = Scene::new();
    scene.store.counts.store(true, Ordering::SeqCst);
    drop(scene.get().await.unwrap());
    scene.store.put("v2", b"second");
    assert_eq!(scene.served().await, ("v2".into(), Freshness::Fresh));
    drop(scene.get().await.unwrap());
    assert_eq!(scene.store.reads(), 2);
}

#[tokio::test]
async fn a_value_in_use_is_read_ahead_and_one_that_is_not_is_left() {
    let scene = Scene::new();
    drop(scene.get().await.unwrap());
    scene.pass(250);
    scene.engine.look_ahead();
    settle().await;
    assert_eq!(scene.store.reads(), 2, "it was asked for when it was read");
    scene.pass(250);
    scene.engine.look_ahead();
    settle().await;
    assert_eq!(scene.store.reads(), 2, "nobody has asked since");
    assert_eq!(scene.served().await.1, Freshness::Ahead, "whoever asks starts it");
    settle().await;
    assert_eq!(scene.store.reads(), 3);
}

#[tokio::test]
async fn a_store_that_is_down_takes_nothing_away_for_a_day() {
    let scene = Scene::new();
    drop(scene.get().await.unwrap());
    scene.store.down.store(true, Ordering::SeqCst);
    scene.pass(301);
    assert_eq!(scene.served().await, ("v1".into(), Freshness::Stale));
    for _ in 0..100 {
        assert_eq!(scene.served().await, ("v1".into(), Freshness::Stale));
    }
    assert_eq!(scene.store.reads(), 2, "it is left alone for a while");
    scene.pass(2);
    assert_eq!(scene.served().await.1, Freshness::Stale, "nobody waits for what has failed before");
    settle().await;
    assert_eq!(scene.store.reads(), 3);

    scene.store.down.store(false, Ordering::SeqCst);
    scene.pass(30);
    drop(scene.get().await.unwrap());
    settle().await;
    assert_eq!(scene.served().await, ("v1".into(), Freshness::Fresh));

    scene.store.down.store(true, Ordering::SeqCst);
    scene.pass(86_400);
    assert!(matches!(scene.get().await, Err(Unavailable::Store { .. })), "its time is over");
}

#[tokio::test]
async fn what_the_store_no_longer_has_is_no_longer_served() {
    let scene = Scene::new();
    drop(scene.get().await.unwrap());
    *scene.store.value.lock().unwrap() = None;
    scene.pass(301);
    assert!(matches!(scene.get().await, Err(Unavailable::Missing(_))));
    assert!(matches!(scene.get().await, Err(Unavailable::Missing(_))));
    assert_eq!(scene.store.reads(), 2);
}

#[tokio::test]
async fn a_secret_that_is_put_is_there_at_once_where_changes_are_counted() {
    let scene = Scene::new();
    scene.store.counts.store(true, Ordering::SeqCst);
    *scene.store.value.lock().unwrap() = None;
    assert!(matches!(scene.get().await, Err(Unavailable::Missing(_))));
    scene.store.put("v1", b"first");
    assert_eq!(scene.served().await, ("v1".into(), Freshness::Fresh));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_is_waited_for_once() {
    let scene = Scene::new();
    drop(scene.get().await.unwrap());
    scene.store.hangs.store(true, Ordering::SeqCst);
    scene.pass(301);
    assert_eq!(scene.served().await.1, Freshness::Stale, "after the time that a store may take");
    scene.pass(31);
    assert_eq!(scene.served().now_or_never().unwrap().1, Freshness::Stale);
}

#[tokio::test]
async fn what_is_not_served_is_not_read_by_its_id_and_takes_no_room() {
    let scene = Scene::new();
    for stage in [Stage::Pending, Stage::Retired] {
        *scene.store.stage.lock().unwrap() = Some(stage);
        assert!(matches!(scene.get_at(&Which::Id("v1".parse().unwrap())).await, Err(Unavailable::Missing(_))));
        assert_eq!(scene.engine.entries(), 0);
    }
    *scene.store.stage.lock().unwrap() = Some(Stage::Previous);
    drop(scene.get_at(&Which::Id("v1".parse().unwrap())).await.unwrap());
}

#[tokio::test]
async fn entries_of_one_place_share_its_read_and_one_that_it_does_not_fit_takes_nothing_away() {
    let mut scene = Scene::new();
    scene.store.put("v2", br#"{"user":"app"}"#);
    let field = |field: &str| Some(field.into());
    let entry = scene.shelf.entries.values_mut().next().unwrap();
    entry.field = field("password");
    assert!(matches!(scene.get().await, Err(Unavailable::Missing(_))));
    scene.shelf.entries.values_mut().next().unwrap().field = field("user");
    assert_eq!(scene.served().await, ("v2".into(), Freshness::Fresh));
    assert_eq!(scene.store.reads(), 1);
}

#[tokio::test]
async fn a_store_is_read_at_the_pace_that_is_configured() {
    let mut scene = Scene::new();
    scene.shelf.fresh_for.insert("local".parse().unwrap(), Duration::from_secs(10));
    let lease = scene.get().await.unwrap();
    let Terms::Secret(terms) = lease.account().terms else { panic!("no secret") };
    assert_eq!(terms.reread_after, Duration::from_secs(10));
    scene.store.put("v2", b"second");
    scene.pass(10);
    assert_eq!(scene.served().await, ("v2".into(), Freshness::Fresh));
}

#[tokio::test]
async fn what_changes_and_what_is_gone_is_told_once_and_what_is_new_to_us_is_not() {
    let mut scene = Scene::new();
    drop(scene.get().await.unwrap());
    scene.pass(301);
    drop(scene.get().await.unwrap());
    assert_eq!(scene.heard.next().now_or_never(), None, "nothing has changed");
    scene.store.put("v2", b"second");
    scene.pass(301);
    drop(scene.get().await.unwrap());
    *scene.store.value.lock().unwrap() = None;
    scene.pass(301);
    assert!(scene.get().await.is_err());
    scene.pass(301);
    assert!(scene.get().await.is_err());
    scene.store.put("v3", b"third");
    scene.pass(301);
    drop(scene.get().await.unwrap());
    let resource: Resource = Resource::Secret("local/stripe/api-key".parse().unwrap());
    for what in [What::Rotated, What::Retired, What::Rotated] {
        assert_eq!(scene.heard.next().now_or_never().unwrap(), Some(Event { what, resource: resource.clone() }));
    }
    assert_eq!(scene.heard.next().now_or_never(), None);
}

#[tokio::test]
async fn what_bursar_itself_writes_is_read_at_once_and_told_whether_it_is_held_or_not() {
    let mut scene = Scene::new();
    let place = scene.shelf.find(&"api-key".parse().unwrap()).unwrap();
    scene.engine.written(&place);
    assert_eq!(scene.heard.next().now_or_never().unwrap().unwrap().what, What::Rotated);
    assert_eq!(scene.store.reads(), 0, "nobody has it");
    drop(scene.get().await.unwrap());
    scene.store.put("v2", b"second");
    scene.engine.written(&place);
    assert_eq!(scene.served().await, ("v2".into(), Freshness::Fresh), "though it was fresh, and nothing is counted");
    assert_eq!(scene.heard.next().now_or_never().unwrap().unwrap().what, What::Rotated);
    assert_eq!(scene.store.reads(), 2);
}

#[tokio::test]
async fn who_waits_is_told_of_another_version_and_the_store_is_read_at_its_own_pace_meanwhile() {
    let scene = Scene::new();
    let (permit, held) =
        (permit(Action::Secret, Resource::Secret("api-key".parse().unwrap())), ["v1".parse().unwrap()]);
    let mut waiting = std::pin::pin!(scene.engine.other_than(&permit, &scene.shelf, &held));
    let mut look = async |seconds| {
        scene.pass(seconds);
        scene.engine.look_ahead();
        for _ in 0..8 {
            if waiting.as_mut().now_or_never().is_some() {
                return true;
            }
            tokio::task::yield_now().await;
        }
        false
    };
    assert!(!look(0).await);
    assert_eq!(scene.store.reads(), 1);
    assert!(!look(100).await && !look(100).await);
    assert_eq!(scene.store.reads(), 1, "it is not due");
    assert!(!look(60).await);
    assert_eq!(scene.store.reads(), 2, "nobody asks, but somebody waits");
    scene.store.down.store(true, Ordering::SeqCst);
    assert!(!look(260).await, "a store that is down changes nothing");
    scene.store.down.store(false, Ordering::SeqCst);
    scene.store.put("v2", b"second");
    assert!(look(260).await);
}

#[tokio::test]
async fn who_has_waited_and_gone_leaves_nothing_in_use() {
    let scene = Scene::new();
    let (permit, held) =
        (permit(Action::Secret, Resource::Secret("api-key".parse().unwrap())), ["v1".parse().unwrap()]);
    let waits = tokio::time::timeout(Duration::from_millis(1), scene.engine.other_than(&permit, &scene.shelf, &held));
    assert!(waits.await.is_err());
    scene.pass(260);
    scene.engine.look_ahead();
    settle().await;
    let reads = scene.store.reads();
    scene.pass(260);
    scene.engine.look_ahead();
    settle().await;
    assert_eq!(scene.store.reads(), reads, "nobody asks or waits");
}

#[tokio::test]
async fn a_permit_for_something_else_opens_nothing() {
    let scene = Scene::new();
    let secret = |id: &str| Resource::Secret(id.parse::<SecretId>().unwrap());
    for (action, resource) in
        [(Action::Token, secret("api-key")), (Action::Secret, Resource::Agent), (Action::Secret, secret("other"))]
    {
        let obtained = scene.engine.obtain(permit(action, resource), &scene.shelf, &Which::Current).await;
        assert!(matches!(obtained.unwrap_err().why, Unavailable::Internal(_)));
    }
    assert_eq!(scene.store.reads(), 0);
}

#[test]
fn the_oldest_makes_way_when_there_is_no_more_room() {
    let (cache, store, clock) = (cache::Cache::default(), Arc::<Fake>::default(), ManualClock::default());
    let place = |nth: usize| Place {
        store_name: "local".parse().unwrap(),
        store: Arc::<Fake>::clone(&store),
        name: format!("s{nth}").parse().unwrap(),
        fresh_for: None,
    };
    for nth in 0..=cache::MOST_KEPT {
        clock.advance(Duration::from_secs(1));
        drop(cache.entry(&place(nth), &Which::Current).ask(clock.now()));
    }
    assert_eq!(cache.len(), cache::MOST_KEPT);
}
