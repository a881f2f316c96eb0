//! Ten agents that share one secret: each due rotation happens once, also when the one that reserved it does not come
//! back in time; and when it does after all, it is fenced off.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bursar::crypto::SystemRandom;
use bursar::name::Name;
use bursar::rotation::random::{Alphabet, RandomText};
use bursar::rotation::{
    Created, Ended, Engine, Happened, Held, Invents, LEASE, Label, Overlap, Plan, Rotation, Rotator, Schedule, Trouble,
    Uptake,
};
use bursar::store::{Place, Stage, Store, VersionId, Which};
use bursar::time::ManualClock;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use tokio::sync::Notify;

use crate::aws::{Aws, Moto};
use crate::bao::Bao;
use crate::matrix;

const AGENTS: usize = 10;
const MONTH: Duration = Duration::from_secs(30 * 86_400);

/// What the far side of all of them sees.
#[derive(Default)]
struct Far {
    created: AtomicUsize,
    set: AtomicUsize,
}

/// The rotator of one agent: it may be held up in the middle of `set`.
struct Counted {
    random: RandomText,
    far: Arc<Far>,
    sleeps: Arc<Sleep>,
}

#[derive(Default)]
struct Sleep {
    wanted: AtomicBool,
    fell: Notify,
    woken: Notify,
}

impl Rotator for Counted {
    fn kind(&self) -> &'static str {
        "counted"
    }

    fn overlap(&self) -> Overlap {
        Overlap::Two
    }

    fn invents(&self) -> Invents {
        Invents::Us
    }

    fn create<'a>(&'a self, label: &'a Label, current: Option<&'a Held>) -> BoxFuture<'a, Result<Created, Trouble>> {
        self.far.created.fetch_add(1, Ordering::SeqCst);
        self.random.create(label, current)
    }

    fn set<'a>(&'a self, _: &'a Held, _: Option<&'a Held>) -> BoxFuture<'a, Result<(), Trouble>> {
        async {
            self.far.set.fetch_add(1, Ordering::SeqCst);
            if self.sleeps.wanted.swap(false, Ordering::SeqCst) {
                self.sleeps.fell.notify_one();
                self.sleeps.woken.notified().await;
            }
            Ok(())
        }
        .boxed()
    }

    fn test<'a>(&'a self, held: &'a Held) -> BoxFuture<'a, Result<bool, Trouble>> {
        // What has been set once works.
        let set = self.far.set.load(Ordering::SeqCst) >= self.far.created.load(Ordering::SeqCst);
        async move { Ok(set && !held.value.is_empty()) }.boxed()
    }

    fn revoke<'a>(&'a self, _: &'a Ended, _: Option<&'a Held>) -> BoxFuture<'a, Result<(), Trouble>> {
        async { Ok(()) }.boxed()
    }
}

/// Ten agents, each with a log and a way to the store of its own.
struct Fleet {
    clock: Arc<ManualClock>,
    far: Arc<Far>,
    stores: Vec<Arc<dyn Store>>,
    engines: Vec<Arc<Engine>>,
    first: Arc<Sleep>,
    _folder: tempfile::TempDir,
}

impl Fleet {
    fn new(clock: Arc<ManualClock>, stores: Vec<Arc<dyn Store>>) -> Self {
        let (folder, far, first) = (tempfile::tempdir().unwrap(), Arc::default(), Arc::default());
        let engine = |(nth, store): (usize, &Arc<dyn Store>)| {
            let us = format!("agent-{nth}");
            let journal = matrix::journal(&folder.path().join(&us));
            let told = Box::new(|_: &Name, _: &Happened| {});
            let random = Arc::new(SystemRandom);
            let engine = Engine::new(journal, Arc::<ManualClock>::clone(&clock), random.clone(), &us, told);
            let sleeps = if nth == 0 { Arc::clone(&first) } else { Arc::default() };
            let random = RandomText::new(Alphabet::Alphanumeric, 32, random);
            let rotator = Arc::new(Counted { random, far: Arc::clone(&far), sleeps });
            let store_name = "shared".parse().unwrap();
            let place = Place { store_name, store: Arc::clone(store), name: "key".parse().unwrap(), fresh_for: None };
            let plan = Plan {
                overlap: Overlap::Two,
                invents: Invents::Us,
                settles_within: Duration::ZERO,
                grace: Duration::ZERO,
                uptake_deadline: Duration::ZERO,
                exclusive: true,
            };
            let schedule = Schedule { every: Some(MONTH), ..Schedule::default() };
            let (name, uptake) = ("key".parse().unwrap(), Uptake::Local);
            engine.keep(vec![Rotation { name, place, plan, uptake, schedule, rotator }]);
            Arc::new(engine)
        };
        let engines = stores.iter().enumerate().map(engine).collect();
        Self { clock, far, stores, engines, first, _folder: folder }
    }

    /// Lets all but the first `spared` do what is due.
    async fn turn(&self, spared: usize) {
        join_all(self.engines.iter().skip(spared).map(|engine| engine.turn_all())).await;
    }

    /// What each of them would serve: all the same.
    async fn current(&self) -> VersionId {
        let name = "key".parse().unwrap();
        let read = self.stores.iter().map(|store| store.read(&name, &Which::Current));
        let read = join_all(read).await.into_iter().map(|read| read.unwrap().0.id).collect::<Vec<_>>();
        assert!(read.windows(2).all(|two| two[0] == two[1]), "{read:?}");
        read[0].clone()
    }

    fn created(&self) -> usize {
        self.far.created.load(Ordering::SeqCst)
    }
}

async fn one_rotation_for_each_due(fleet: Fleet) {
    // Ten that start together make one value.
    fleet.turn(0).await;
    let first = fleet.current().await;
    assert_eq!(fleet.created(), 1);
    fleet.turn(0).await;
    assert_eq!(fleet.current().await, first, "it is not due");

    // Ten that find it due together replace it once.
    fleet.clock.advance(MONTH);
    fleet.turn(0).await;
    fleet.turn(0).await;
    let second = fleet.current().await;
    assert!(second != first && fleet.created() == 2, "{} were made", fleet.created());

    // The one that reserved falls asleep in the middle: the others wait for its lease, and one of them takes over.
    fleet.clock.advance(MONTH);
    fleet.first.wanted.store(true, Ordering::SeqCst);
    let asleep = tokio::spawn({
        let engine = Arc::clone(&fleet.engines[0]);
        async move { engine.turn_all().await }
    });
    fleet.first.fell.notified().await;
    fleet.turn(1).await;
    assert_eq!(fleet.current().await, second, "its lease runs");
    fleet.clock.advance(LEASE + Duration::from_secs(1));
    fleet.turn(1).await;
    fleet.turn(1).await;
    let third = fleet.current().await;
    assert!(third != second && fleet.created() == 3, "its value was taken over: {} were made", fleet.created());

    // Woken late it changes nothing.
    fleet.first.woken.notify_one();
    asleep.await.unwrap();
    assert_eq!(fleet.current().await, third);
    let versions = fleet.stores[0].versions(&"key".parse().unwrap()).await.unwrap();
    assert!(versions.at(Stage::Pending).is_none() && versions.at(Stage::Previous).is_none(), "{versions:?}");
}

#[tokio::test]
async fn ten_agents_that_share_a_secret_at_aws_rotate_it_once_for_each_due() {
    let (aws, clock) = (Aws::start(Moto::AsDocumented), Arc::new(ManualClock::default()));
    let stores = (0..AGENTS).map(|_| Arc::new(aws.store(&clock)) as Arc<dyn Store>).collect();
    one_rotation_for_each_due(Fleet::new(clock, stores)).await;
}

#[tokio::test]
async fn ten_agents_that_share_a_secret_at_openbao_rotate_it_once_for_each_due() {
    let (bao, clock) = (Bao::start().await, Arc::new(ManualClock::default()));
    let auth = bao.approle().await;
    let stores = (0..AGENTS).map(|_| Arc::new(bao.store(auth.clone(), None, &clock)) as Arc<dyn Store>).collect();
    one_rotation_for_each_due(Fleet::new(clock, stores)).await;
}
