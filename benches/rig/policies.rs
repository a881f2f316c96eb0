//! The generator of policy sets: as many rules as asked for, in the mixture that a host with many services has.
//!
//! Of ten rules six name one workload and one provider, two a group and a tag, one is a permit with an end, and
//! one forbids a group a tag until a date that has passed. What grows with the set is the number of services,
//! not what any one of them is concerned by.

use std::fmt::Write;

/// A generated set, and the cast that it speaks of.
pub(crate) struct Policies {
    /// The rules, one file.
    pub(crate) cedar: String,
    /// How many workloads there are: `workload-0`, …
    pub(crate) workloads: usize,
    /// How many providers there are: `provider-0`, …
    pub(crate) providers: usize,
    scopes: Vec<(Hold, Hold)>,
}

/// What a rule's scope holds on to: one by its number, or a group or tag by its number.
#[derive(Clone, Copy)]
enum Hold {
    One(usize),
    Of(usize),
}

/// As many groups and tags as this share the workloads and providers between them: the nth is of `team-{nth % TEAMS}`.
pub(crate) const TEAMS: usize = 5;

impl Policies {
    /// A set of `rules` rules.
    pub(crate) fn of(rules: usize) -> Self {
        let (workloads, providers) = ((rules / 5).max(4), (rules / 10).max(20));
        let mut set = Self { cedar: String::new(), workloads, providers, scopes: Vec::new() };
        for nth in 0..rules {
            let (workload, provider) = (nth % workloads, (nth + nth / workloads * 7) % providers);
            let (team, tag) = (nth / 10 % TEAMS, nth / 50 % TEAMS);
            match nth % 10 {
                6 | 7 => set.rule(nth, "permit", Hold::Of(team), Hold::Of(tag), SHARED),
                8 => set.rule(nth, "permit", Hold::One(workload), Hold::One(provider), ENDING),
                9 => set.rule(nth, "forbid", Hold::Of(team), Hold::Of(tag), UNTIL),
                _ => set.rule(nth, "permit", Hold::One(workload), Hold::One(provider), OWN),
            }
        }
        set
    }

    fn rule(&mut self, nth: usize, effect: &str, who: Hold, what: Hold, condition: &str) {
        let principal = match who {
            Hold::One(workload) => format!(r#"principal == Workload::"workload-{workload}""#),
            Hold::Of(team) => format!(r#"principal in Group::"team-{team}""#),
        };
        let resource = match what {
            Hold::One(provider) => format!(r#"resource == Provider::"provider-{provider}""#),
            Hold::Of(tag) => format!(r#"resource in Tag::"tag-{tag}""#),
        };
        let action = r#"action in [Action::"token", Action::"reject"]"#;
        writeln!(self.cedar, "@id(\"rule-{nth}\")\n{effect} ({principal}, {action}, {resource})\n{condition};\n")
            .unwrap();
        self.scopes.push((who, what));
    }

    /// How many rules concern `workload-0` at `provider-0`.
    pub(crate) fn concerning_the_first(&self) -> usize {
        let concerns = |hold: &Hold| matches!(hold, Hold::One(0) | Hold::Of(0));
        self.scopes.iter().filter(|(who, what)| concerns(who) && concerns(what)).count()
    }

    /// `workloads.toml`: the process with `uid` is `workload-0`; all others are services of systemd.
    pub(crate) fn workloads_toml(&self, uid: u32) -> String {
        let mut text = String::new();
        for nth in 0..self.workloads {
            let fact = if nth == 0 { format!("uid = {uid}") } else { format!("unit = \"service-{nth}.service\"") };
            let team = nth % TEAMS;
            writeln!(text, "[workload.workload-{nth}]\n{fact}\nmember_of = [\"team-{team}\"]\n").unwrap();
        }
        text
    }

    /// The tag of a provider, for its entry in the configuration.
    pub(crate) fn tag_of(provider: usize) -> String {
        format!("tag-{}", provider % TEAMS)
    }
}

/// Its own scopes: most of those that the benches ask for.
const OWN: &str = "when { [\"read\", \"write\", \"s0\", \"s1\", \"s2\", \"s3\", \"s4\", \"s5\", \"s6\", \"s7\", \"s8\", \"s9\"]\
                   .containsAll(context.scopes) }\nunless { action == Action::\"token\" && context.scopes.isEmpty() }";
const SHARED: &str = "when { context.scopes == [\"list\"] && context.audience.isEmpty() }";
const ENDING: &str = "when { [\"read\"].containsAll(context.scopes) && context.now < datetime(\"2030-01-01\") }";
const UNTIL: &str = "when { context.scopes.contains(\"write\") && context.now < datetime(\"2025-01-01\") }";
