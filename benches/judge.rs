//! S4: what a verdict costs, beside plain Cedar over the whole set.
//!
//! `cargo bench --bench judge [-- --quick]`
//!
//! A verdict is *remembered* where the same question was asked in the same minute; *decided* where the minute is
//! new; *new* where nothing of that workload and provider is known yet.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a bench may panic")]
#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]
#![expect(clippy::disallowed_methods, reason = "a bench reads the clock")]

#[path = "rig/figures.rs"]
#[expect(dead_code, reason = "each bench uses its part")]
mod figures;
#[path = "rig/policies.rs"]
#[expect(dead_code, reason = "each bench uses its part")]
mod policies;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bursar::access::{Access, Action, Resource, Role, Scopes, Verdict, Workload};
use bursar::policy::{ENTITIES, Known, Snapshot};
use bursar::secret::allocator::ZeroOnFree;
use bursar::time::Wall;
use cedar_policy::{Authorizer, Context, Decision, Entities, PolicySet, Request, RestrictedExpression};

use figures::{median, print_table};
use policies::{Policies, TEAMS};

#[global_allocator]
static ALLOCATOR: ZeroOnFree = ZeroOnFree::new();

const SIZES: [usize; 3] = [10, 50, 1_000];
const NOW: Wall = Wall::from_micros(1_795_240_800_000_000);
const MINUTE_MICROS: i64 = 60_000_000;

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let (rounds, long) = if quick { (3, Duration::from_millis(100)) } else { (9, Duration::from_millis(300)) };
    let mut rows = vec![HEAD.map(str::to_owned).to_vec()];
    for size in SIZES {
        let bench = Bench::of(size);
        let measured: Vec<[f64; 4]> = (0..rounds).map(|_| bench.round(long)).collect();
        let [cedar, remembered, decided, new] =
            [0, 1, 2, 3].map(|nth| median(measured.iter().filter_map(|round| round.get(nth).copied())));
        let concerned = bench.policies.concerning_the_first();
        #[expect(clippy::cast_precision_loss, reason = "a handful of rules")]
        let bar = 5.0 + 3.0 * concerned as f64;
        let cells = [cedar, remembered, decided, bar, new].map(|micros| format!("{micros:.2}"));
        rows.push([vec![size.to_string(), concerned.to_string()], cells.to_vec()].concat());
    }
    println!("µs a verdict, medians of {rounds} rounds; bars: remembered ≤ 2, decided ≤ 5 + 3 × rules concerned\n");
    print_table(&rows);
}

const HEAD: [&str; 7] = ["rules", "concerned", "plain Cedar", "remembered", "decided", "bar", "new"];

/// One set, as bursar holds it and as plain Cedar does.
struct Bench {
    policies: Policies,
    snapshot: Snapshot,
    plain: (PolicySet, Entities),
}

impl Bench {
    fn of(size: usize) -> Self {
        let policies = Policies::of(size);
        let snapshot = load(&policies);
        let entities = snapshot.archive().iter().find(|(name, _)| name == ENTITIES).unwrap();
        let entities = Entities::from_json_str(std::str::from_utf8(&entities.1).unwrap(), None).unwrap();
        let plain = (policies.cedar.parse().unwrap(), entities);
        Self { policies, snapshot, plain }
    }

    /// Plain Cedar, remembered, decided, new: µs each.
    fn round(&self, long: Duration) -> [f64; 4] {
        let access = access(0, 0);
        let mut minute = NOW.micros();
        let cedar = time(long, || self.plainly(&access));
        let remembered = time(long, || self.allows(&access, NOW));
        let decided = time(long, || {
            minute += MINUTE_MICROS;
            self.allows(&access, Wall::from_micros(minute))
        });
        let mut asked = 0;
        let fresh = load(&self.policies);
        let new = time_once(|| {
            asked += 1;
            let (workload, provider) = (asked % self.policies.workloads, asked / self.policies.workloads);
            (provider < self.policies.providers && asked < 500)
                .then(|| drop(black_box(fresh.judge(self::access(workload, provider), NOW))))
        });
        [cedar, remembered, decided, new]
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

/// Does `what` for `long`: µs each.
fn time(long: Duration, mut what: impl FnMut()) -> f64 {
    let (began, mut count) = (Instant::now(), 0_u32);
    while began.elapsed() < long {
        (0..16).for_each(|_| what());
        count += 16;
    }
    began.elapsed().as_secs_f64() * 1e6 / f64::from(count)
}

/// Does `what` until it gives none: µs each.
fn time_once(mut what: impl FnMut() -> Option<()>) -> f64 {
    let (began, mut count) = (Instant::now(), 0_u32);
    while what().is_some() {
        count += 1;
    }
    began.elapsed().as_secs_f64() * 1e6 / f64::from(count)
}
