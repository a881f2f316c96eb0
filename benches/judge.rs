//! S4: what a verdict costs, remembered and not, by the size of the set; plain Cedar beside it.
//!
//! `cargo bench --bench judge`. The generator makes four rules for each workload: a permit for one provider that reads the
//! clock, a permit for its group and a tag, a `forbid` for it and a tag, and a permit for an operator. Four of them match the
//! question that is measured, whatever the size of the set.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a bench prints, and may panic"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bursar::access::{Access, Action, Audience, Resource, Role, Scope, Scopes, Workload};
use bursar::name::Name;
use bursar::policy::{Known, Snapshot};
use bursar::time::Wall;
use cedar_policy::{Authorizer, Context, Entities, Policy, PolicyId, PolicySet, Request};

const NOON: Wall = Wall::from_micros(1_795_262_400_000_000);

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

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
    let files =
        files.chunks(10).map(|chunk| (chunk[0].0.clone(), chunk.iter().flat_map(|(_, text)| text.clone()).collect()));
    Snapshot::from_entries(files.collect(), &known).unwrap().0
}

/// What Cedar itself takes for a question of the same kind and four rules that match it.
fn plain_cedar() -> f64 {
    let rule = |nth: usize| {
        let text = r#"permit (principal == Workload::"w", action == Action::"token", resource == Provider::"p") when { ["read"].containsAll(context.scopes) };"#;
        Policy::parse(Some(PolicyId::new(nth.to_string())), text).unwrap()
    };
    let set = PolicySet::from_policies((0..4).map(rule)).unwrap();
    let [principal, action, resource] =
        [r#"Workload::"w""#, r#"Action::"token""#, r#"Provider::"p""#].map(|uid| uid.parse().unwrap());
    let context = r#"{"scopes": ["read"], "audience": ["https://api.example.com"], "now": {"__extn": {"fn": "datetime", "arg": "2026-11-21"}}}"#;
    let context = Context::from_json_str(context, None).unwrap();
    let request = Request::new(principal, action, resource, context, None).unwrap();
    let (authorizer, entities) = (Authorizer::new(), Entities::empty());
    measured(5_000, |_| drop(black_box(authorizer.is_authorized(&request, &set, &entities))))
}

fn question(workload: usize, provider: usize) -> Access {
    let who = Workload { name: name(&format!("w{workload}")), role: Role::Workload, uid: 0, facts: Arc::new([]) };
    Access {
        who: Arc::new(who),
        action: Action::Token,
        resource: Resource::Provider(name(&format!("p{provider}"))),
        scopes: ["read"].into_iter().map(|scope| scope.parse::<Scope>().unwrap()).collect::<Scopes>(),
        audience: ["https://api.example.com"].into_iter().map(|one| one.parse::<Audience>().unwrap()).collect(),
    }
}

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
    println!(
        "{:>7} {:>9} {:>13} {:>13} {:>13} {:>13} {:>13}",
        "rules", "load", "remembered", "two threads", "not so", "no rule", "may_ever"
    );
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
        let differing: Vec<_> =
            audiences.map(|one| Access { audience: one.into_iter().collect(), ..access.clone() }).collect();
        let fresh = measured(5_000, |nth| judge(&differing[nth as usize], NOON));
        let strange: Vec<_> =
            differing.iter().map(|access| Access { who: question(rules, 3).who, ..access.clone() }).collect();
        let none = measured(5_000, |nth| judge(&strange[nth as usize], NOON));
        let ever = measured(200_000, |_| {
            black_box(set.may_ever(&access.who, access.action, &access.resource));
        });
        println!(
            "{rules:>7} {load:>9.1?} {remembered:>10.0} ns {shared:>10.0} ns {fresh:>10.0} ns {none:>10.0} ns {ever:>10.0} ns"
        );
    }
}
