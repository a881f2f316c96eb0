//! S4: what a verdict costs, beside plain Cedar over the whole set.
//!
<<<<<<< HEAD
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
=======
//! `cargo bench --bench judge`. The generator makes four rules for each workload: a permit for one provider that reads the
//! clock, a permit for its group and a tag, a `forbid` for it and a tag, and a permit for an operator. Four of them match the
//! question that is measured, whatever the size of the set.
#![expect(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods, reason = "a bench reads a clock, prints, and may panic")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;
>>>>>>> room/policy

use bursar::access::{Access, Action, Resource, Role, Scopes, Verdict, Workload};
use bursar::policy::{ENTITIES, Snapshot};
use bursar::secret::allocator::ZeroOnFree;
use bursar::time::Wall;
<<<<<<< HEAD
use cedar_policy::{Authorizer, Context, Decision, Entities, PolicySet, Request, RestrictedExpression};

use figures::{median, print_table};
use policies::Policies;
=======
use cedar_policy::{Authorizer, Context, Entities, Policy, PolicyId, PolicySet, Request};

const NOON: Wall = Wall::from_micros(1_795_262_400_000_000);
const MINUTE: Duration = Duration::from_secs(60);
>>>>>>> room/policy

#[global_allocator]
static ALLOCATOR: ZeroOnFree = ZeroOnFree::new();

<<<<<<< HEAD
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
        let (snapshot, _) = Snapshot::from_entries(policies.entries(), &policies.known()).unwrap();
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
        let (fresh, _) = Snapshot::from_entries(self.policies.entries(), &self.policies.known()).unwrap();
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

fn access(workload: usize, provider: usize) -> Access {
    let name = format!("workload-{workload}").parse().unwrap();
    let who = Workload { name, role: Role::Workload, uid: 1_000, facts: Arc::new([]) };
=======
fn generated(rules: usize) -> Snapshot {
    let mut known = Known::default();
    let mut files = Vec::new();
    for nth in 0..rules / 4 {
        let (group, provider, tag) = (nth / 5, nth % 20, nth % 20 % 3);
        known.workloads.insert(name(&format!("w{nth}")), vec![name(&format!("g{group}"))]);
        known.operators.insert(name(&format!("o{nth}")), vec![]);
        known.providers.insert(name(&format!("p{provider}")), vec![name(&format!("t{tag}"))]);
        let text = format!(
            r#"@id("one-{nth}") permit (principal == Workload::"w{nth}", action in [Action::"token", Action::"reject"], resource == Provider::"p{provider}")
               when {{ ["read", "write"].containsAll(context.scopes) && context.now < datetime("2030-01-01T00:00:00Z") }};
               @id("many-{nth}") permit (principal in Group::"g{group}", action == Action::"token", resource in Tag::"t{tag}")
               when {{ ["read"].containsAll(context.scopes) }};
               @id("never-{nth}") forbid (principal == Workload::"w{nth}", action, resource in Tag::"t{tag}")
               when {{ ["admin"].containsAny(context.scopes) }};
               @id("operate-{nth}") permit (principal == Operator::"o{nth}", action == Action::"status", resource);"#
        );
        files.push((format!("{nth}.cedar"), text.into_bytes()));
    }
    // One file for each forty rules: a set may hold a thousand files.
    let files = files.chunks(10).map(|chunk| (chunk[0].0.clone(), chunk.iter().flat_map(|(_, text)| text.clone()).collect()));
    Snapshot::from_entries(files.collect(), &known).unwrap().0
}

/// What Cedar itself takes for a question of the same kind and four rules that match it.
fn plain_cedar() -> f64 {
    let rule = |nth: usize| {
        let text = r#"permit (principal == Workload::"w", action == Action::"token", resource == Provider::"p") when { ["read"].containsAll(context.scopes) };"#;
        Policy::parse(Some(PolicyId::new(nth.to_string())), text).unwrap()
    };
    let set = PolicySet::from_policies((0..4).map(rule)).unwrap();
    let [principal, action, resource] = [r#"Workload::"w""#, r#"Action::"token""#, r#"Provider::"p""#].map(|uid| uid.parse().unwrap());
    let context = r#"{"scopes": ["read"], "audience": ["https://api.example.com"], "now": {"__extn": {"fn": "datetime", "arg": "2026-11-21"}}}"#;
    let context = Context::from_json_str(context, None).unwrap();
    let request = Request::new(principal, action, resource, context, None).unwrap();
    let (authorizer, entities) = (Authorizer::new(), Entities::empty());
    measured(5_000, |_| drop(black_box(authorizer.is_authorized(&request, &set, &entities))))
}

fn question(workload: usize, provider: usize) -> Access {
    let who = Workload { name: name(&format!("w{workload}")), role: Role::Workload, uid: 0, facts: Arc::new([]) };
>>>>>>> room/policy
    Access {
        who: Arc::new(who),
        action: Action::Token,
        resource: Resource::Provider(format!("provider-{provider}").parse().unwrap()),
        scopes: Scopes::parse("read").unwrap(),
        audience: Default::default(),
    }
}

<<<<<<< HEAD
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
=======
/// The time that this thread has spent on a processor: other programs do not count.
fn cpu() -> Duration {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(spent.tv_sec.unsigned_abs(), u32::try_from(spent.tv_nsec).unwrap())
}

/// The median of five rounds, in nanoseconds.
fn measured(times: u32, mut act: impl FnMut(u32)) -> f64 {
    let mut rounds: Vec<f64> = (0..5u32)
        .map(|round| {
            let began = cpu();
            (0..times).for_each(|nth| act(round * times + nth));
            (cpu() - began).as_nanos() as f64 / f64::from(times)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[2]
}

fn main() {
    println!("plain Cedar, four rules that match, question made before: {:.0} ns", plain_cedar());
    println!("{:>7} {:>9} {:>13} {:>13} {:>13} {:>13} {:>13}", "rules", "load", "remembered", "two threads", "not so", "no rule", "may_ever");
    for rules in [48, 1_000, 10_000] {
        let began = cpu();
        let set = generated(rules);
        let load = cpu() - began;
        // Four rules match: the workload's permit and forbid, and its group's permits for the provider's tag.
        let access = question(3, 3);
        let judge = |access: &Access, at| drop(black_box(set.judge(black_box(access).clone(), at)));
        let remembered = measured(200_000, |_| judge(&access, NOON));
        let shared = std::thread::scope(|scope| {
            let one = || measured(200_000, |_| judge(&access, NOON));
            let other = scope.spawn(one);
            one().max(other.join().unwrap())
        });
        // Questions that differ in their audience, in one minute.
        let audiences = (0..25_000).map(|nth| [format!("https://{nth}.example")].map(|one| one.parse().unwrap()));
        let differing: Vec<_> = audiences.map(|one| Access { audience: one.into_iter().collect(), ..access.clone() }).collect();
        let fresh = measured(5_000, |nth| judge(&differing[nth as usize], NOON));
        let strange: Vec<_> = differing.iter().map(|access| Access { who: question(rules, 3).who, ..access.clone() }).collect();
        let none = measured(5_000, |nth| judge(&strange[nth as usize], NOON));
        let ever = measured(200_000, |_| {
            black_box(set.may_ever(&access.who, access.action, &access.resource));
        });
        println!("{rules:>7} {load:>9.1?} {remembered:>10.0} ns {shared:>10.0} ns {fresh:>10.0} ns {none:>10.0} ns {ever:>10.0} ns");
>>>>>>> room/policy
    }
    began.elapsed().as_secs_f64() * 1e6 / f64::from(count)
}
