//! S4: what a verdict costs, remembered and not, by the size of the set; plain Cedar beside it.
//!
//! `cargo bench --bench judge`. The generator: of every ten rules, seven name one workload and one provider, one a group
//! and a tag, one an operator, and one is a `forbid` on a tag; one in five reads the clock.
#![expect(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods, reason = "a bench reads a clock, prints, and may panic")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use bursar::access::{Access, Action, Audience, Resource, Role, Scope, Scopes, Workload};
use bursar::name::Name;
use bursar::policy::{Known, Snapshot};
use bursar::time::Wall;

const NOON: Wall = Wall::from_micros(1_795_262_400_000_000);
const MINUTE: std::time::Duration = std::time::Duration::from_secs(60);

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn generated(rules: usize) -> Snapshot {
    let mut known = Known::default();
    let mut text = String::new();
    for nth in 0..rules {
        let (workload, provider, one) = (nth / 2, nth % 20, nth % 10);
        known.workloads.insert(name(&format!("w{workload}")), vec![name(&format!("g{}", workload % 5))]);
        known.providers.insert(name(&format!("p{provider}")), vec![name(&format!("t{}", provider % 3))]);
        known.operators.insert(name(&format!("o{nth}")), vec![]);
        let scope = match one {
            0 => format!("permit (principal in Group::\"g{}\", action, resource in Tag::\"t0\")", workload % 5),
            1 => format!("permit (principal == Operator::\"o{nth}\", action == Action::\"status\", resource)"),
            2 => format!("forbid (principal == Workload::\"w{workload}\", action, resource in Tag::\"t{}\")", nth % 3),
            _ => format!("permit (principal == Workload::\"w{workload}\", action in [Action::\"token\", Action::\"reject\"], resource == Provider::\"p{provider}\")"),
        };
        let clock = if nth % 5 == 0 { " && context.now < datetime(\"2030-01-01T00:00:00Z\")" } else { "" };
        let listed = if one == 2 { "[\"admin\"].containsAny(context.scopes)" } else { "[\"read\", \"write\"].containsAll(context.scopes)" };
        text += &format!("@id(\"rule-{nth}\")\n{scope}\nwhen {{ {listed}{clock} }};\n");
    }
    // Several files: one may hold a mebibyte.
    let lines = text.split_inclusive(";\n").collect::<Vec<_>>();
    let files = lines.chunks(1_000).enumerate().map(|(nth, chunk)| (format!("{nth}.cedar"), chunk.concat().into_bytes()));
    Snapshot::from_entries(files.collect(), &known).unwrap().0
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

/// The median of five rounds, in nanoseconds.
fn measured(times: u32, mut act: impl FnMut(u32)) -> f64 {
    let mut rounds: Vec<f64> = (0..5u32)
        .map(|round| {
            let began = Instant::now();
            (0..times).for_each(|nth| act(round * times + nth));
            began.elapsed().as_nanos() as f64 / f64::from(times)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[2]
}

fn main() {
    println!("{:>7} {:>8} {:>12} {:>12} {:>12} {:>12} {:>12}", "rules", "load", "remembered", "2 threads", "new minute", "new slice", "may_ever");
    for rules in [50, 1_000, 10_000] {
        let began = Instant::now();
        let set = generated(rules);
        let load = began.elapsed();
        let access = question(3, 7);
        let remembered = measured(200_000, |_| {
            let _ = black_box(set.judge(black_box(&access).clone(), NOON));
        });
        let shared = std::thread::scope(|scope| {
            let one = || measured(200_000, |_| drop(black_box(set.judge(black_box(&access).clone(), NOON))));
            let other = scope.spawn(one);
            one().max(other.join().unwrap())
        });
        let minute = measured(5_000, |nth| {
            let _ = black_box(set.judge(access.clone(), NOON + MINUTE * (nth + 1)));
        });
        // Each (workload, provider) once in a long while, so that neither verdict nor slice is remembered.
        let cold: Vec<_> = (0..20 * rules / 2).map(|nth| question(nth / 20, nth % 20)).collect();
        let minute_of = |nth: u32| NOON + MINUTE * (1_000_000 + nth);
        let slice = measured(2_000, |nth| {
            let asked = &cold[nth as usize * 7919 % cold.len()];
            let _ = black_box(set.judge(asked.clone(), minute_of(nth)));
        });
        let ever = measured(200_000, |_| {
            black_box(set.may_ever(&access.who, access.action, &access.resource));
        });
        println!("{rules:>7} {load:>8.1?} {remembered:>9.0} ns {shared:>9.0} ns {minute:>9.0} ns {slice:>9.0} ns {ever:>9.0} ns");
    }
}
