//! The token engine while clocks are stepped and the machine sleeps.
//!
//! What is simulated: both clocks are a `ManualClock`, the provider is a function, and tokio's timers stand until nothing
//! else is to be done. So `sleeps` is what a suspend looks like to a process: the wall clock and the boot-time clock are
//! ahead, the monotonic clock of its timers is not. Policy, engine and journal are real. `tests/real/clocks.rs` steps the
//! wall clock of the running agent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bursar::access::{Access, Action, Permit, Resource, Role, Scopes, Verdict, Workload};
use bursar::account::{Freshness, Terms};
use bursar::audit::Durability;
use bursar::crypto::{Fingerprint, FingerprintKey, SystemRandom};
use bursar::oauth::{Ask, Failure, Grant, TokenEndpoint};
use bursar::policy::{Entries, Known, Snapshot};
use bursar::secret::Secret;
use bursar::time::{Boot, Clock, ManualClock, Moment, Wall};
use bursar::token::{Catalogue, Engine, Provider, Settings, Share, keep_ahead};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use tempfile::TempDir;

use crate::matrix;

const LIFETIME: Duration = Duration::from_secs(300);
/// At 0.7 of the lifetime, less up to a tenth of that.
const BEFORE_REFRESH: Duration = Duration::from_secs(180);
const TWO_HOURS: Duration = Duration::from_secs(7_200);
const AHEAD: i64 = 7_200_000_000;
const BACK: i64 = -AHEAD;
/// The longest time between two looks at what is due.
const TICK: Duration = Duration::from_secs(30);

/// A provider that gives `token-0`, `token-1`, …, unless it is down.
#[derive(Default)]
struct Desk {
    clock: Arc<ManualClock>,
    asked: AtomicU64,
    is_down: AtomicBool,
    /// A suspend falls between the next question and its answer.
    sleeps_on_it: AtomicBool,
}

impl TokenEndpoint for Desk {
    fn place(&self) -> String {
        "desk".into()
    }

    fn fetch<'a>(&'a self, ask: &'a Ask) -> BoxFuture<'a, Result<Grant, Failure>> {
        let (sent, nth) = (self.clock.now(), self.asked.fetch_add(1, Ordering::SeqCst));
        if self.sleeps_on_it.swap(false, Ordering::SeqCst) {
            self.clock.advance(TWO_HOURS);
        }
        let answer = if self.is_down.load(Ordering::SeqCst) {
            Err(Failure::Unavailable { what: "down".into(), retry_after: None })
        } else {
            Ok(Grant { token: token(nth), scopes: ask.scopes.clone(), lifetime: Some(LIFETIME), sent })
        };
        futures_util::future::ready(answer).boxed()
    }
}

fn token(nth: u64) -> Secret {
    Secret::new(format!("token-{nth}").into_bytes())
}

fn fingerprints() -> FingerprintKey {
    FingerprintKey::new(1, &[0; 32])
}

/// One provider, and a workload that may ask it.
struct Scene {
    clock: Arc<ManualClock>,
    desk: Arc<Desk>,
    engine: Arc<Engine>,
    provider: Arc<Provider>,
    policy: Snapshot,
    _folder: TempDir,
}

impl Scene {
    fn new() -> Self {
        let noon = Wall::parse("2026-11-21T12:00:00Z").unwrap();
        let boot = Boot::from_duration(Duration::from_secs(1_000));
        let clock = Arc::new(ManualClock::at(Moment { wall: noon, boot }));
        let desk = Arc::new(Desk { clock: Arc::clone(&clock), ..Desk::default() });
        let folder = crate::private_folder();
        let journal = matrix::journal_by(folder.path(), Arc::<ManualClock>::clone(&clock), Durability::Os);
        let at = Arc::<ManualClock>::clone(&clock);
        let engine = Arc::new(Engine::new(journal, at, Arc::new(SystemRandom), fingerprints()));
        let endpoints: Vec<Arc<dyn TokenEndpoint>> = vec![Arc::<Desk>::clone(&desk)];
        let name = "stripe".parse().unwrap();
        let provider = Arc::new(Provider::new(name, settings(), endpoints, Arc::clone(&engine)));
        Self { clock, desk, engine, provider, policy: anything(), _folder: folder }
    }

    /// The same, when `token-0` is held.
    async fn warm() -> Self {
        let scene = Self::new();
        assert_eq!(scene.ask().await, Some((0, Freshness::Fresh)));
        scene
    }

    fn permit(&self) -> Permit {
        let name = "checkout".parse().unwrap();
        let access = Access {
            who: Arc::new(Workload { name, role: Role::Workload, uid: 1000, facts: Arc::new([]) }),
            action: Action::Token,
            resource: Resource::Provider("stripe".parse().unwrap()),
            scopes: Scopes::default(),
            audience: Default::default(),
        };
        match self.policy.judge(access, self.clock.now().wall) {
            Verdict::Permit(permit) => permit,
            Verdict::Denied(denied) => panic!("{denied:?}"),
        }
    }

    /// Which token is served, and how fresh; none for a refusal. A dead one fails the test.
    async fn ask(&self) -> Option<(u64, Freshness)> {
        let lease = self.provider.obtain(self.permit(), Duration::ZERO).await.ok()?;
        let Terms::Token(terms) = lease.account().terms else { panic!("no token: {lease:?}") };
        let now = self.clock.now();
        // By the boot-time clock, which is the truth here: what the wall clock says may be a mistake.
        assert!(now.since(terms.obtained) < LIFETIME, "{:?} old", now.since(terms.obtained));
        assert!(!terms.expires.unwrap().passed(now), "a dead token is handed over");
        Some((nth_of(terms.fingerprint), terms.freshness))
    }

    fn asked(&self) -> u64 {
        self.desk.asked.load(Ordering::SeqCst)
    }

    fn goes_down(&self) {
        self.desk.is_down.store(true, Ordering::SeqCst);
    }

    fn comes_back(&self) {
        self.desk.is_down.store(false, Ordering::SeqCst);
    }

    /// The machine is suspended for so long: no timer of the process moves.
    fn sleeps(&self, long: Duration) {
        self.clock.advance(long);
    }

    /// Lets one tick of the refresh pass, and what it starts come to its end.
    async fn tick(&self, until: impl Fn(&Self) -> bool) {
        tokio::time::sleep(TICK).await;
        self.clock.advance(TICK);
        let began = Instant::now();
        while !until(self) {
            assert!(began.elapsed() < Duration::from_secs(20), "not within a tick: asked {} times", self.asked());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Which token has this fingerprint.
fn nth_of(fingerprint: Fingerprint) -> u64 {
    (0..100).find(|nth| fingerprints().of(token(*nth).expose()) == fingerprint).unwrap()
}

fn settings() -> Settings {
    Settings {
        catalogue: Catalogue::default(),
        refresh_at: 0.7,
        share: Share::Workload,
        budget: None,
        mints_per_workload: None,
        timeout: Duration::from_secs(5),
        revoke_at_shutdown: false,
    }
}

fn anything() -> Snapshot {
    let mut known = Known::default();
    known.workloads.insert("checkout".parse().unwrap(), vec![]);
    known.providers.insert("stripe".parse().unwrap(), vec![]);
    let rules = b"@id(\"any\") permit (principal, action, resource);".to_vec();
    Snapshot::from_entries(Entries::from([("any.cedar".into(), rules)]), &known).unwrap().0
}

// ── steps of the wall clock

#[tokio::test]
async fn a_step_ahead_costs_one_refresh_and_no_more() {
    let scene = Scene::warm().await;
    scene.clock.step_wall(AHEAD);
    for _ in 0..5 {
        assert_eq!(scene.ask().await, Some((1, Freshness::Fresh)), "by the wall clock the first has ended");
    }
    assert_eq!(scene.asked(), 2);
}

#[tokio::test]
async fn a_step_back_costs_nothing_and_lengthens_no_life() {
    let scene = Scene::warm().await;
    scene.clock.step_wall(BACK);
    scene.clock.advance(BEFORE_REFRESH);
    assert_eq!((scene.ask().await, scene.asked()), (Some((0, Freshness::Fresh)), 1), "it is as good as before");
    scene.clock.advance(LIFETIME - BEFORE_REFRESH);
    assert_eq!((scene.ask().await, scene.asked()), (Some((1, Freshness::Fresh)), 2), "and ends when it did before");
}

#[tokio::test(start_paused = true)]
async fn while_the_provider_is_down_a_step_back_lengthens_no_life() {
    let scene = Scene::warm().await;
    scene.goes_down();
    scene.clock.step_wall(BACK);
    let (mut served, mut refused) = (0, 0);
    for second in 0..400 {
        match scene.ask().await {
            Some((nth, _)) => served += u64::from(nth == 0 && second < LIFETIME.as_secs()),
            None => refused += u64::from(second >= LIFETIME.as_secs()),
        }
        scene.clock.advance(Duration::from_secs(1));
    }
    assert_eq!((served, refused), (300, 100), "served to its end, and not beyond");
    assert!(scene.asked() < 30, "{} requests in 190 s", scene.asked());
    scene.comes_back();
    scene.clock.advance(TICK);
    assert!(matches!(scene.ask().await, Some((_, Freshness::Fresh))), "the step holds nothing back for two hours");
}

#[tokio::test(start_paused = true)]
async fn while_the_provider_is_down_a_step_ahead_ends_the_token_until_it_is_back_or_the_step_is_undone() {
    for undone in [false, true] {
        let scene = Scene::warm().await;
        scene.goes_down();
        scene.clock.step_wall(AHEAD);
        for _ in 0..50 {
            assert_eq!(scene.ask().await, None, "by the wall clock it has ended");
        }
        assert!(scene.asked() <= 1 + 3, "{} requests: no storm", scene.asked());
        if undone {
            scene.clock.step_wall(BACK);
            assert_eq!(scene.ask().await, Some((0, Freshness::Fresh)), "it was never thrown away");
        }
        let before = scene.asked();
        scene.comes_back();
        scene.clock.advance(TICK);
        let served = scene.ask().await;
        assert_eq!((served.is_some(), scene.asked() - before), (true, u64::from(!undone)));
    }
}

// ── suspend

#[tokio::test]
async fn who_asks_after_a_long_suspend_gets_a_new_token_in_one_flight_for_all() {
    let scene = Scene::warm().await;
    scene.sleeps(TWO_HOURS);
    let served = join_all((0..100).map(|_| scene.ask())).await;
    assert!(served.iter().all(|served| *served == Some((1, Freshness::Fresh))), "{served:?}");
    assert_eq!(scene.asked(), 2);
}

#[tokio::test]
async fn a_suspend_that_a_token_outlives_costs_nothing() {
    let scene = Scene::warm().await;
    scene.sleeps(BEFORE_REFRESH);
    assert_eq!((scene.ask().await, scene.asked()), (Some((0, Freshness::Fresh)), 1));
}

#[tokio::test]
async fn a_suspend_while_the_provider_is_down_ends_a_token_on_time() {
    let scene = Scene::warm().await;
    scene.goes_down();
    scene.sleeps(LIFETIME - Duration::from_secs(1));
    assert!(matches!(scene.ask().await, Some((0, _))), "its last second");
    scene.sleeps(Duration::from_secs(1));
    assert_eq!(scene.ask().await, None);
}

#[tokio::test]
async fn an_answer_that_was_slept_through_is_not_served() {
    let scene = Scene::new();
    scene.desk.sleeps_on_it.store(true, Ordering::SeqCst);
    assert_eq!(scene.ask().await, None, "its life counts from the question");
    scene.clock.advance(TICK);
    assert_eq!(scene.ask().await, Some((1, Freshness::Fresh)));
}

#[tokio::test(start_paused = true)]
async fn a_token_in_use_is_refreshed_within_a_tick_after_a_suspend_though_nobody_asks() {
    let scene = Scene::warm().await;
    assert_eq!(scene.ask().await, Some((0, Freshness::Fresh)), "it is in use");
    let providers = vec![Arc::clone(&scene.provider)];
    let keeping = tokio::spawn(keep_ahead(Arc::clone(&scene.engine), move || providers.clone()));
    scene.tick(|scene| scene.asked() == 1).await;
    scene.sleeps(BEFORE_REFRESH);
    scene.tick(|scene| scene.asked() == 2).await;
    let served = scene.ask().await;
    assert_eq!((served, scene.asked()), (Some((1, Freshness::Fresh)), 2));
    keeping.abort();
}
