//! S4: what a verdict costs, beside plain Cedar over the whole set.
//!
//! `cargo bench --bench judge [-- --quick]`
//!
//! A verdict is *remembered* where the same question was asked in the same minute; *decided* where the minute is
//! new; *new* where nothing of that workload and provider is known yet.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a bench may panic")]
#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

#[path = "rig/figures.rs"]
#[expect(dead_code, reason = "each bench uses its part")]
mod figures;
#[path = "rig/policies.rs"]
#[expect(dead_code, reason = "each bench uses its part")]
mod policies;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bursar::access::{Access, Action, Resource, Role, Scopes, Verdict, Workload};
use bursar::policy::{ENTITIES, Known, Snapshot};
use bursar::secret::allocator::ZeroOnFree;
use bursar::time::Wall;
use cedar_policy::{Authorizer, Context, Decision, Entities, PolicySet, Request, RestrictedExpression};

use figures::{median, print_table};
use policies::{Policies, TEAMS};

#[global_allocator]
static ALLOCATOR: ZeroOnFree = ZeroOnFree::new();

const SIZES: [usize; 3] = [50, 1_000, 3_000];
const NOW: Wall = Wall::from_micros(1_795_240_800_000_000);
const MINUTE_MICROS: i64 = 60_000_000;

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let (rounds, times) = if quick { (3, 2_000) } else { (9, 20_000) };
    let mut rows = vec![HEAD.map(str::to_owned).to_vec()];
    for size in SIZES {
        let bench = Bench::of(size);
        let measured: Vec<[f64; COSTS]> = (0..rounds).map(|_| bench.round(times)).collect();
        let costs: [f64; COSTS] = std::array::from_fn(|nth| median(measured.iter().map(|round| round[nth])));
        let concerned = bench.policies.concerning_the_first();
        #[expect(clippy::cast_precision_loss, reason = "a handful of rules")]
        let bar = 5.0 + 3.0 * concerned as f64;
        let costs = costs.map(|micros| format!("{micros:.2}")).to_vec();
        let load = format!("{:.1} ms", bench.load.as_secs_f64() * 1e3);
        rows.push([vec![size.to_string(), concerned.to_string(), load], costs, vec![format!("{bar:.0}")]].concat());
    }
    println!("µs of processor time a verdict, medians of {rounds} rounds; a remembered one has the bar 2\n");
    print_table(&rows);
}

const COSTS: usize = 6;
const HEAD: [&str; 10] = [
    "rules",
    "concerned",
    "load",
    "plain Cedar",
    "remembered",
    "by two threads",
    "may ever",
    "new",
    "decided",
    "its bar",
];

/// One set, as bursar holds it and as plain Cedar does.
struct Bench {
    policies: Policies,
    snapshot: Snapshot,
    load: Duration,
    plain: (PolicySet, Entities),
}

impl Bench {
    fn of(size: usize) -> Self {
        let policies = Policies::of(size);
        let began = spent();
        let snapshot = load(&policies);
        let load = spent() - began;
        let entities = snapshot.archive().iter().find(|(name, _)| name == ENTITIES).unwrap();
        let entities = Entities::from_json_str(std::str::from_utf8(&entities.1).unwrap(), None).unwrap();
        let plain = (policies.cedar.parse().unwrap(), entities);
        Self { policies, snapshot, load, plain }
    }

    /// Plain Cedar, remembered, remembered by two threads at once, whether there could ever be a permit, new,
    /// decided: µs each.
    fn round(&self, times: u32) -> [f64; COSTS] {
        let access = access(0, 0);
        let remembered = || time(times * 10, |_| self.allows(&access, NOW));
        let minute = |nth: u32| Wall::from_micros(NOW.micros() + MINUTE_MICROS * i64::from(nth + 1));
        let (fresh, pairs) = (load(&self.policies), 500.min(self.policies.workloads * self.policies.providers));
        let (workloads, cold) = (self.policies.workloads, u32::try_from(pairs).unwrap());
        [
            time(times / 10, |_| self.plainly(&access)),
            remembered(),
            std::thread::scope(|scope| {
                let other = scope.spawn(remembered);
                remembered().max(other.join().unwrap())
            }),
            time(times, |_| {
                black_box(self.snapshot.may_ever(&access.who, access.action, &access.resource));
            }),
            time(cold, |nth| {
                let (workload, provider) = (nth as usize % workloads, nth as usize / workloads);
                drop(black_box(fresh.judge(self::access(workload, provider), NOW)));
            }),
            time(times, |nth| self.allows(&access, minute(nth))),
        ]
    }

    fn allows(&self, access: &Access, now: Wall) {
        let verdict = self.snapshot.judge(access.clone(), now);
        assert!(matches!(verdict, Verdict::Permit(_)), "the question that is measured is one that is allowed");
        drop(black_box(verdict));
    }

    fn plainly(&self, access: &Access) {
        let scopes = access.scopes.iter().map(|scope| RestrictedExpression::new_string(scope.to_string()));
        let context = Context::from_pairs([
            ("scopes".to_owned(), RestrictedExpression::new_set(scopes)),
            ("audience".to_owned(), RestrictedExpression::new_set([])),
            ("now".to_owned(), RestrictedExpression::new_datetime("2026-11-21T06:00:00Z")),
        ]);
        let ends = [r#"Workload::"workload-0""#, r#"Action::"token""#, r#"Provider::"provider-0""#];
        let [principal, action, resource] = ends.map(|uid| uid.parse().unwrap());
        let request = Request::new(principal, action, resource, context.unwrap(), None).unwrap();
        let response = Authorizer::new().is_authorized(&request, &self.plain.0, &self.plain.1);
        assert_eq!(black_box(response).decision(), Decision::Allow);
    }
}

/// The set as bursar loads it: workloads in groups, providers under tags.
fn load(policies: &Policies) -> Snapshot {
    let cast = |count: usize, name: &str, above: &str| {
        let entry = |nth: usize| {
            let above = format!("{above}-{}", nth % TEAMS).parse().unwrap();
            (format!("{name}-{nth}").parse().unwrap(), vec![above])
        };
        (0..count).map(entry).collect()
    };
    let workloads = cast(policies.workloads, "workload", "team");
    let known = Known { workloads, providers: cast(policies.providers, "provider", "tag"), ..Known::default() };
    let entries = vec![("rules.cedar".to_owned(), policies.cedar.clone().into_bytes())];
    Snapshot::from_entries(entries, &known).unwrap().0
}

fn access(workload: usize, provider: usize) -> Access {
    let name = format!("workload-{workload}").parse().unwrap();
    let who = Workload { name, role: Role::Workload, uid: 1_000, facts: Arc::new([]) };
    Access {
        who: Arc::new(who),
        action: Action::Token,
        resource: Resource::Provider(format!("provider-{provider}").parse().unwrap()),
        scopes: Scopes::parse("read").unwrap(),
        audience: Default::default(),
    }
}

/// Does `what` so many times: µs each.
fn time(times: u32, what: impl Fn(u32)) -> f64 {
    let began = spent();
    (0..times).for_each(what);
    (spent() - began).as_secs_f64() * 1e6 / f64::from(times)
}

/// The processor time of this thread: what other programs take does not count.
fn spent() -> Duration {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(spent.tv_sec.unsigned_abs(), u32::try_from(spent.tv_nsec).unwrap())
}
