//! Generated sets and questions, decided as plain Cedar decides them over the whole set at the same minute, where any
//! evaluation error denies. The oracle shares nothing with the room but the texts of rules and schema.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Write;
use std::sync::Arc;

use bursar::access::{Access, Action, Audience, Resource, Role, Scope, Verdict, Why, Workload};
use bursar::name::Name;
use bursar::policy::{Known, SCHEMA_TEXT, Snapshot};
use bursar::time::Minute;
use cedar_policy::{
    AuthorizationError, Authorizer, Context, Decision, Entities, Entity, EntityUid, Policy, PolicyId, PolicySet,
    Request, RestrictedExpression, Schema,
};

const SETS: u64 = 250;
const QUESTIONS: usize = 400;

const WORKLOADS: [&str; 5] = ["w0", "w1", "w2", "w3", "filler"];
const OPERATORS: [&str; 2] = ["o0", "o1"];
const PROVIDERS: [&str; 4] = ["p0", "p1", "p2", "filler"];
const SECRETS: [&str; 3] = ["s0", "s1", "st/Path/x"];
const GROUPS: [&str; 3] = ["g0", "g1", "g2"];
const TAGS: [&str; 3] = ["t0", "t1", "t2"];
const SCOPES: [&str; 3] = ["a", "b", "c"];
/// 2026-11-21T12:00:00Z, and four more around it.
const MINUTES: [i64; 5] = [29_920_680, 29_920_681, 29_920_740, 29_919_960, 29_922_120];

/// Steele, Lea and Flood's SplitMix64: small, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.roll() % bound as u64).unwrap()
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn some<T: Copy>(&mut self, from: &[T]) -> Vec<T> {
        from.iter().copied().filter(|_| self.below(2) == 0).collect()
    }

    fn one_in(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }
}

// ── rules

fn rule(dice: &mut Dice, id: &str) -> String {
    let effect = if dice.below(3) < 2 { "permit" } else { "forbid" };
    let (principal, action, resource) = (principal(dice), action(dice), resource(dice));
    let mut rule = format!("@id(\"{id}\") {effect} (principal{principal}, action{action}, resource{resource})");
    for _ in 0..dice.below(3) {
        let clause = if dice.one_in(4) { "unless" } else { "when" };
        write!(rule, " {clause} {{ {} }}", condition(dice, 2)).unwrap();
    }
    rule + ";"
}

fn principal(dice: &mut Dice) -> String {
    let (workload, operator, group) = (dice.pick(&WORKLOADS), dice.pick(&OPERATORS), dice.pick(&GROUPS));
    match dice.below(9) {
        0 | 1 => String::new(),
        2 => format!(" == Workload::\"{workload}\""),
        3 => format!(" in Workload::\"{workload}\""),
        4 => format!(" == Operator::\"{operator}\""),
        5 => format!(" in Group::\"{group}\""),
        6 => " is Workload".into(),
        7 => format!(" is Workload in Group::\"{group}\""),
        _ => format!(" is Operator in Group::\"{group}\""),
    }
}

fn action(dice: &mut Dice) -> String {
    let actions: Vec<_> = (0..3).map(|_| format!("Action::\"{}\"", dice.pick(&Action::ALL).as_str())).collect();
    match dice.below(5) {
        0 | 1 => String::new(),
        2 => " == Action::\"token\"".into(),
        3 => format!(" == {}", actions[0]),
        _ => format!(" in [{}, Action::\"token\"]", actions.join(", ")),
    }
}

fn resource(dice: &mut Dice) -> String {
    let (provider, secret, tag) = (dice.pick(&PROVIDERS), dice.pick(&SECRETS), dice.pick(&TAGS));
    match dice.below(10) {
        0 | 1 => String::new(),
        2 => format!(" == Provider::\"{provider}\""),
        3 => format!(" in Provider::\"{provider}\""),
        4 => format!(" == Secret::\"{secret}\""),
        5 => format!(" in Tag::\"{tag}\""),
        6 => " is Provider".into(),
        7 => format!(" is Provider in Tag::\"{tag}\""),
        8 => format!(" is Secret in Tag::\"{tag}\""),
        _ => " == Agent::\"self\"".into(),
    }
}

fn condition(dice: &mut Dice, depth: usize) -> String {
    let inner = |dice: &mut Dice| condition(dice, depth - 1);
    match if depth == 0 { 0 } else { dice.below(7) } {
        1 => format!("({} && {})", inner(dice), inner(dice)),
        2 => format!("({} || {})", inner(dice), inner(dice)),
        3 => format!("!({})", inner(dice)),
        4 => format!("(if {} then {} else {})", inner(dice), inner(dice), inner(dice)),
        _ => atom(dice),
    }
}

fn atom(dice: &mut Dice) -> String {
    let (group, tag, scope) = (dice.pick(&GROUPS), dice.pick(&TAGS), dice.pick(&SCOPES));
    let listed =
        format!("[\"d\", {}]", dice.some(&SCOPES).iter().map(|s| format!("\"{s}\"")).collect::<Vec<_>>().join(", "));
    let time = Minute::new(dice.pick(&MINUTES)).begins().rfc3339();
    let time = format!("datetime(\"{}Z\")", &time.as_str()[..19]);
    match dice.below(16) {
        0 | 1 => format!("{listed}.containsAll(context.scopes)"),
        2 => format!("context.scopes.contains(\"{scope}\")"),
        3 => format!("context.scopes.containsAny({listed})"),
        4 => "context.scopes.isEmpty()".into(),
        5 => "context.audience.contains(\"https://a.example\")".into(),
        6 => format!("context.now < {time}"),
        7 => format!("context.now >= {time}"),
        8 => "context.now.toTime() < duration(\"12h\")".into(),
        9 => format!("principal in Group::\"{group}\""),
        10 => format!("resource in Tag::\"{tag}\""),
        11 => format!("action == Action::\"{}\"", dice.pick(&Action::ALL).as_str()),
        12 => format!("principal == Workload::\"{}\"", dice.pick(&WORKLOADS)),
        // These err: always, for some scopes, and unless it is midnight.
        13 => "9223372036854775807 + 1 > 0".into(),
        14 => format!("(if context.scopes.contains(\"{scope}\") then 9223372036854775807 * 2 > 0 else true)"),
        _ => "context.now.toTime().toMilliseconds() * 9223372036854775807 >= 0".into(),
    }
}

// ── a world: who is in what, which rules hold

#[derive(Clone)]
struct World {
    known: Known,
    rules: BTreeMap<String, String>,
}

impl World {
    fn generate(dice: &mut Dice, pool: &BTreeMap<String, String>) -> Self {
        let mut known = everything();
        let above = known.workloads.values_mut().chain(known.operators.values_mut());
        for groups in above.filter(|groups| groups.len() < 3) {
            *groups = names(&dice.some(&GROUPS));
        }
        for tags in known.providers.values_mut().chain(known.secrets.values_mut()).filter(|tags| tags.len() < 3) {
            *tags = names(&dice.some(&TAGS));
        }
        let ids: Vec<&String> = pool.keys().collect();
        let count = 3 + dice.below(7);
        let rules = (0..count).map(|_| dice.pick(&ids)).map(|id| (id.clone(), pool[id].clone())).collect();
        Self { known, rules }
    }

    fn snapshot(&self) -> Snapshot {
        // Two files, so that the order of reading is not that of the ids.
        let mut files = [("b.cedar".to_owned(), Vec::new()), ("a.cedar".to_owned(), Vec::new())];
        for (nth, rule) in self.rules.values().enumerate() {
            files[nth % 2].1.extend_from_slice(rule.as_bytes());
        }
        Snapshot::from_entries(files.to_vec(), &self.known).unwrap().0
    }
}

fn names(of: &[&str]) -> Vec<Name> {
    of.iter().map(|name| name.parse().unwrap()).collect()
}

/// Every name, with `filler` in every group and tag, so that no rule names what is not known.
fn everything() -> Known {
    let above = |name: &str, all: &[&str]| if name == "filler" { names(all) } else { Vec::new() };
    let of = |members: &[&str], all: &[&str]| -> BTreeMap<Name, Vec<Name>> {
        members.iter().map(|name| (name.parse().unwrap(), above(name, all))).collect()
    };
    Known {
        workloads: of(&WORKLOADS, &GROUPS),
        operators: of(&OPERATORS, &GROUPS),
        providers: of(&PROVIDERS, &TAGS),
        secrets: SECRETS.iter().map(|id| (id.parse().unwrap(), Vec::new())).collect(),
        ..Known::default()
    }
}

/// Rules that the loader takes: what is impossible or ill-typed it refuses.
fn pool(dice: &mut Dice, size: usize) -> BTreeMap<String, String> {
    let known = everything();
    let mut pool = BTreeMap::new();
    while pool.len() < size {
        let id = format!("rule-{}", pool.len());
        let rule = rule(dice, &id);
        if Snapshot::from_entries(vec![("x.cedar".into(), rule.clone().into_bytes())], &known).is_ok() {
            pool.insert(id, rule);
        }
    }
    pool
}

// ── questions

fn question(dice: &mut Dice) -> (Access, Minute) {
    let workload = |dice: &mut Dice| (Role::Workload, if dice.one_in(10) { "stranger" } else { dice.pick(&WORKLOADS) });
    let operator = |dice: &mut Dice| (Role::Operator, dice.pick(&OPERATORS));
    let provider =
        |dice: &mut Dice| Resource::Provider(dice.pick(&["p0", "p1", "p2", "filler", "elsewhere"]).parse().unwrap());
    let secret = |dice: &mut Dice| Resource::Secret(dice.pick(&SECRETS).parse().unwrap());
    let ((role, name), action, resource) = match dice.below(10) {
        0..=4 => (workload(dice), dice.pick(&[Action::Token, Action::Token, Action::Reject]), provider(dice)),
        5 => (workload(dice), Action::Secret, secret(dice)),
        6 => (operator(dice), dice.pick(&[Action::Put, Action::Rotate, Action::Revoke]), secret(dice)),
        7 => (operator(dice), Action::Revoke, provider(dice)),
        8 => (operator(dice), dice.pick(&[Action::List, Action::Status, Action::Audit]), Resource::Agent),
        // Mostly questions that the schema does not know.
        _ => {
            let who = if dice.one_in(2) { workload(dice) } else { operator(dice) };
            let resource = if dice.one_in(2) { provider(dice) } else { secret(dice) };
            (who, dice.pick(&Action::ALL), resource)
        }
    };
    let who = Arc::new(Workload { name: name.parse().unwrap(), role, uid: 0, facts: Arc::new([]) });
    let scopes = dice.some(&SCOPES).iter().map(|scope| scope.parse::<Scope>().unwrap()).collect();
    let audience = dice.some(&["https://a.example"]).iter().map(|one| one.parse::<Audience>().unwrap()).collect();
    (Access { who, action, resource, scopes, audience }, Minute::new(dice.pick(&MINUTES)))
}

/// What was decided, and the rules that determined it.
type Decided = (Option<Why>, BTreeSet<String>);

fn judged(snapshot: &Snapshot, access: &Access, minute: Minute) -> Decided {
    let ids = |policies: &[Box<str>]| policies.iter().map(ToString::to_string).collect();
    match snapshot.judge(access.clone(), minute.begins()) {
        Verdict::Permit(permit) => (None, ids(&permit.grounds().policies)),
        Verdict::Denied(denied) => (Some(denied.why), ids(&denied.grounds.policies)),
    }
}

// ── the oracle: Cedar, naively

struct Oracle {
    schema: Schema,
    entities: Entities,
    policies: PolicySet,
}

impl Oracle {
    fn of(world: &World) -> Self {
        let known = &world.known;
        let mut entities = Vec::new();
        let mut add = |kind: &str, id: &str, above: &str, of: &[Name]| {
            let parents: HashSet<_> = of.iter().map(|name| uid(above, name.as_str())).collect();
            entities.push(Entity::new_no_attrs(uid(kind, id), parents));
        };
        known.workloads.iter().for_each(|(name, of)| add("Workload", name.as_str(), "Group", of));
        known.operators.iter().for_each(|(name, of)| add("Operator", name.as_str(), "Group", of));
        known.providers.iter().for_each(|(name, of)| add("Provider", name.as_str(), "Tag", of));
        known.secrets.iter().for_each(|(id, of)| add("Secret", &id.to_string(), "Tag", of));
        GROUPS.iter().for_each(|group| add("Group", group, "", &[]));
        TAGS.iter().for_each(|tag| add("Tag", tag, "", &[]));
        let policies = world.rules.iter().map(|(id, rule)| Policy::parse(Some(PolicyId::new(id)), rule).unwrap());
        Self {
            schema: SCHEMA_TEXT.parse().unwrap(),
            entities: Entities::from_entities(entities, None).unwrap(),
            policies: PolicySet::from_policies(policies).unwrap(),
        }
    }

    /// Cedar's own answer: its decision, what determines it, and what errs. None for a question outside the schema.
    fn plain(&self, access: &Access, minute: Minute) -> Option<(Decision, BTreeSet<String>, BTreeSet<String>)> {
        let who = match access.who.role {
            Role::Workload => "Workload",
            Role::Operator => "Operator",
        };
        let resource = match &access.resource {
            Resource::Provider(name) => uid("Provider", name.as_str()),
            Resource::Secret(id) => uid("Secret", &id.to_string()),
            Resource::Agent => uid("Agent", "self"),
        };
        let set =
            |words: Vec<String>| RestrictedExpression::new_set(words.into_iter().map(RestrictedExpression::new_string));
        let context = Context::from_pairs([
            ("scopes".into(), set(access.scopes.iter().map(ToString::to_string).collect())),
            ("audience".into(), set(access.audience.iter().map(ToString::to_string).collect())),
            (
                "now".into(),
                RestrictedExpression::new_datetime(minute.begins().rfc3339().as_str().replace(".000000Z", "Z")),
            ),
        ]);
        let (principal, action) = (uid(who, access.who.name.as_str()), uid("Action", access.action.as_str()));
        let request = Request::new(principal, action, resource, context.unwrap(), Some(&self.schema)).ok()?;
        let answer = Authorizer::new().is_authorized(&request, &self.policies, &self.entities);
        let errors = answer.diagnostics().errors().map(|error| match error {
            AuthorizationError::PolicyEvaluationError(error) => error.policy_id().to_string(),
        });
        let reasons = answer.diagnostics().reason().map(ToString::to_string).collect();
        Some((answer.decision(), reasons, errors.collect()))
    }

    fn decide(&self, access: &Access, minute: Minute) -> Decided {
        match self.plain(access, minute) {
            None => (Some(Why::NoPermit), BTreeSet::new()),
            Some((Decision::Deny, reasons, _)) if !reasons.is_empty() => (Some(Why::Forbidden), reasons),
            Some((_, _, errors)) if !errors.is_empty() => (Some(Why::Error), errors),
            Some((Decision::Deny, reasons, _)) => (Some(Why::NoPermit), reasons),
            Some((Decision::Allow, reasons, _)) => (None, reasons),
        }
    }
}

fn uid(kind: &str, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.parse().unwrap(), cedar_policy::EntityId::new(id))
}

// ── the tests

#[test]
fn every_verdict_is_plain_cedars_where_an_error_denies() {
    let mut dice = Dice(20_261_121);
    let pool = pool(&mut dice, 500);
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for set in 0..SETS {
        let world = World::generate(&mut dice, &pool);
        let (snapshot, oracle) = (world.snapshot(), Oracle::of(&world));
        for _ in 0..QUESTIONS {
            let (access, minute) = question(&mut dice);
            let expected = oracle.decide(&access, minute);
            // The first may be judged or remembered, the second is remembered.
            for answer in [judged(&snapshot, &access, minute), judged(&snapshot, &access, minute)] {
                assert_eq!(answer, expected, "set {set}: {access:?} at {minute:?}\n{:#?}", world.rules);
            }
            assert!(
                expected.0.is_some() || snapshot.may_ever(&access.who, access.action, &access.resource),
                "permitted, yet said to be never: {access:?}"
            );
            *seen.entry(format!("{:?}", expected.0)).or_default() += 1;
        }
    }
    // A generator that only ever denies would show nothing.
    assert!(
        seen.values().sum::<usize>() >= 100_000 && seen.len() == 4 && seen.values().all(|n| *n > 5_000),
        "{seen:?}"
    );
}

/// What is wrong, the world as it then looks, and the minute that it is judged at.
type Mutant = (&'static str, fn(World) -> World, fn(Minute) -> Minute);

/// Judges that are wrong in one way each: what a slice or a memory that is broken would amount to.
const MUTANTS: [Mutant; 7] = [
    (
        "a slice that forgets groups",
        |world| forgetting(world, |known| known.workloads.values_mut().for_each(forget)),
        same,
    ),
    (
        "a slice that forgets tags",
        |world| forgetting(world, |known| known.providers.values_mut().for_each(forget)),
        same,
    ),
    ("a slice without unconstrained principals", |world| without(world, |rule| rule.contains("(principal,")), same),
    ("a slice without `is`", |world| without(world, |rule| rule.contains(" is ")), same),
    (
        "a slice that leaves out forbids of an unconstrained resource",
        |world| without(world, |rule| rule.contains("forbid") && rule.contains("resource)")),
        same,
    ),
    ("a slice without lists of actions", |world| without(world, |rule| rule.contains("action in [")), same),
    ("a memory that outlives its minute", |world| world, |_| Minute::new(MINUTES[0])),
];

fn same(minute: Minute) -> Minute {
    minute
}

fn forgetting(mut world: World, forget: fn(&mut Known)) -> World {
    forget(&mut world.known);
    world
}

/// All but those of `filler`, by whom every group and tag is known.
fn forget(above: &mut Vec<Name>) {
    if above.len() < 3 {
        above.clear();
    }
}

fn without(mut world: World, left_out: fn(&str) -> bool) -> World {
    world.rules.retain(|_, rule| !left_out(rule));
    world
}

#[test]
fn the_oracle_finds_each_broken_judge() {
    let mut dice = Dice(7);
    let pool = pool(&mut dice, 200);
    let mut found = BTreeMap::new();
    for _ in 0..12 {
        let world = World::generate(&mut dice, &pool);
        let oracle = Oracle::of(&world);
        let questions: Vec<_> = (0..200).map(|_| question(&mut dice)).collect();
        for (name, broken, at) in MUTANTS {
            let snapshot = broken(world.clone()).snapshot();
            let wrong = |(access, minute): &&(Access, Minute)| {
                judged(&snapshot, access, at(*minute)).0.is_some() != oracle.decide(access, *minute).0.is_some()
            };
            *found.entry(name).or_insert(0) += questions.iter().filter(wrong).count();
        }
        let skips = |(access, minute): &&(Access, Minute)| {
            let allowed = oracle.plain(access, *minute).is_some_and(|(decision, ..)| decision == Decision::Allow);
            allowed && oracle.decide(access, *minute).0.is_some()
        };
        *found.entry("Cedar itself, which skips what errs").or_insert(0) += questions.iter().filter(skips).count();
    }
    assert!(found.len() == 8 && found.values().all(|wrong| *wrong > 0), "{found:#?}");
}
