//! One rule: a Cedar policy whose id is its `@id`, with what else its annotations say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cedar_policy::{EntityUid, Policy, PolicyId, PolicySet};
use miette::Diagnostic;

use super::expiry;
use super::statement::Statement;
use crate::fault::{Fault, Faults, Place};
use crate::time::Wall;

/// The longest `@id`, in bytes: a record lists up to 16 of them.
const MAX_ID_BYTES: usize = 128;

/// The most bytes of one rule.
const MAX_BYTES: usize = 64 << 10;

/// The deepest that brackets and `if`s may stand in one another.
///
/// Cedar reads, checks and drops expressions by recursion: too deep a rule overflows the stack, and where the stack
/// runs short its validator stops without a word and lets the rule pass. These bounds keep all of it within the
/// 2 MiB that are made for it; `tests/hermetic/policy_hostile.rs` holds that.
pub const MAX_NESTING: usize = 32;

/// The most operators and clauses in one rule: `&&`, `||`, `.`, `!`, `-`, `+`, `*`, `when`, `unless`.
pub const MAX_OPERATORS: usize = 256;

/// The most annotations of one rule.
const MAX_ANNOTATIONS: usize = 16;

/// The most faults of one kind that are told of one rule.
pub(super) const MAX_FAULTS: usize = 20;

/// What a rule may be annotated with.
const KNOWN: [&str; 3] = ["id", "owner", "expires"];

/// What a rule may be annotated with in a version to come. Accepting it now would promise a limit that nobody keeps.
const PLANNED: [&str; 3] = ["rate", "max_ttl", "approval"];

/// A rule that was read.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its `@id`.
    pub id: Box<str>,
    /// Its `@owner`: who answers for it.
    pub owner: Option<Box<str>>,
    /// Its `@expires`: when its own condition ends it.
    pub expires: Option<Wall>,
    /// Where it begins.
    pub place: Place,
}

/// A rule and its statement; `rule` is none where its id was at fault, so that its other faults are found all the same.
pub(super) struct Read<'a> {
    pub statement: Statement<'a>,
    pub policy: Policy,
    pub rule: Option<Rule>,
}

/// Reads one statement of `file`.
///
/// # Errors
/// Everything that is wrong with its form; what is wrong with its annotations stands in `faults` instead.
pub(super) fn read<'a>(file: &Path, statement: Statement<'a>, faults: &mut Faults) -> Result<Read<'a>, Faults> {
    bounded(file, &statement)?;
    let set: PolicySet = statement.text.parse().map_err(|errors| parse_faults(file, &statement, &errors))?;
    if set.templates().next().is_some() {
        let fault = Fault::new(statement.place(file, 0), "a template (`?principal`, `?resource`) is not a rule");
        return Err(fault.help("write one rule for each principal or resource, or use a group or a tag").into());
    }
    // One `;` ends one policy. Where Cedar saw it otherwise, a rule could be lost.
    let [policy] = set.policies().collect::<Vec<_>>()[..] else {
        return Err(Fault::new(statement.place(file, 0), "this is not one rule").into());
    };
    let rule = rule(file, &statement, policy, faults);
    let policy = rule.as_ref().map_or_else(|| policy.clone(), |rule| policy.new_id(PolicyId::new(&*rule.id)));
    Ok(Read { statement, policy, rule })
}

fn bounded(file: &Path, statement: &Statement<'_>) -> Result<(), Fault> {
    let fault = |what| Fault::new(statement.place(file, 0), what);
    if statement.text.len() > MAX_BYTES {
        return Err(fault(format!("the rule has more than {MAX_BYTES} bytes, which is the limit")));
    }
    if statement.nesting > MAX_NESTING {
        let what = format!(
            "the rule nests {} deep; {MAX_NESTING} brackets and `if`s in one another are allowed",
            statement.nesting
        );
        return Err(
            fault(what).help("split the rule: several `permit`s are joined by \"or\", several `when`s by \"and\"")
        );
    }
    if statement.operators > MAX_OPERATORS {
        let what = format!("the rule has {} operators and clauses; {MAX_OPERATORS} are allowed", statement.operators);
        return Err(fault(what)
            .help("list values in a set: `[\"a\", \"b\"].contains(x)` instead of `x == \"a\" || x == \"b\"`"));
    }
    Ok(())
}

fn parse_faults(file: &Path, statement: &Statement<'_>, errors: &cedar_policy::ParseErrors) -> Faults {
    let mut faults = Faults::default();
    errors.iter().take(MAX_FAULTS).for_each(|error| faults.push(fault_of(file, statement, error)));
    faults
}

/// What Cedar says is wrong, at the place that it points to.
pub(super) fn fault_of(file: &Path, statement: &Statement<'_>, diagnostic: &dyn Diagnostic) -> Fault {
    let label = diagnostic.labels().and_then(|mut labels| labels.next());
    let place = statement.place(file, label.as_ref().map_or(0, miette::LabeledSpan::offset));
    let help = diagnostic.help().map(|help| help.to_string());
    let help = help.or_else(|| label.and_then(|label| label.label().map(str::to_owned)));
    Fault { place, what: lowercase(&diagnostic.to_string()), help }
}

fn lowercase(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

/// The rule that the annotations make of `policy`; none without an id.
fn rule(file: &Path, statement: &Statement<'_>, policy: &Policy, faults: &mut Faults) -> Option<Rule> {
    let annotations: BTreeMap<&str, &str> = policy.annotations().collect();
    if annotations.len() > MAX_ANNOTATIONS {
        let what = format!("the rule has {} annotations; {MAX_ANNOTATIONS} are allowed", annotations.len());
        faults.push(Fault::new(statement.place(file, 0), what));
        return None;
    }
    let place = |key: &str| {
        let written = format!("@{key}");
        statement.place(file, statement.text.find(&written).unwrap_or(0))
    };
    for key in annotations.keys().filter(|key| !KNOWN.contains(key)) {
        faults.push(unknown_annotation(key, place(key)));
    }
    let owner = annotations.get("owner").copied();
    if owner.is_some_and(str::is_empty) {
        faults
            .push(Fault::new(place("owner"), "`@owner` names nobody").help("write `@owner(\"team\")`, or take it out"));
    }
    let expires = annotations.get("expires").and_then(|text| {
        expiry::check(text, policy).map_err(|reason| faults.push(reason.fault(text, place("expires")))).ok()
    });
    let id =
        id(annotations.get("id").copied(), statement.place(file, 0), place("id")).map_err(|fault| faults.push(fault));
    Some(Rule { id: id.ok()?, owner: owner.map(Into::into), expires, place: statement.place(file, 0) })
}

fn unknown_annotation(key: &str, place: Place) -> Fault {
    let known = KNOWN.map(|known| format!("`@{known}`")).join(", ");
    if PLANNED.contains(&key) {
        return Fault::new(place, format!("`@{key}` is not available in this version"))
            .help(format!("known here: {known}"));
    }
    Fault::new(place, format!("`@{key}` is not an annotation that has a meaning here")).help(format!("known: {known}"))
}

fn id(written: Option<&str>, rule: Place, annotation: Place) -> Result<Box<str>, Fault> {
    let Some(id) = written else {
        return Err(Fault::new(rule, "the rule has no `@id`")
            .help("put `@id(\"a-name-of-its-own\")` before it: records and explanations name it by that"));
    };
    let plain = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    if (1..=MAX_ID_BYTES).contains(&id.len()) && id.bytes().all(plain) && id.trim() == id {
        return Ok(id.into());
    }
    let what = "the `@id` is empty, too long, or holds characters that a record would have to escape";
    Err(Fault::new(annotation, what)
        .help(format!("use 1 to {MAX_ID_BYTES} printable ASCII characters without `\"` and `\\`")))
}

/// The fault of naming `uid`, which the configuration does not know, at `place`; the ids of its type are `known`.
pub(super) fn unknown_entity(uid: &EntityUid, known: &BTreeSet<String>, place: Place) -> Fault {
    let listed = known.iter().take(12).map(|id| format!("`{id}`")).collect::<Vec<_>>().join(", ");
    let help = match (known.len(), place_to_add(&uid.type_name().to_string())) {
        (0, add) => format!("none is known: {add}"),
        (1..=12, add) => format!("known: {listed}; or {add}"),
        (count, add) => format!("{count} are known: {listed}, …; or {add}"),
    };
    Fault::new(place, format!("`{uid}` is not known here")).help(help)
}

fn place_to_add(kind: &str) -> &'static str {
    match kind {
        "Workload" => "add a `[workload.…]` to workloads.toml",
        "Operator" => "add an `[operator.…]` to workloads.toml",
        "Group" => "add it to `member_of` of a workload or operator in workloads.toml",
        "Provider" => "add a `[provider.…]` to the configuration",
        "Secret" => "add a `[secret.…]` to the configuration, or write `store/name`",
        "Tag" => "add it to `tags` of a provider or secret in the configuration",
        _ => "use an id of the schema",
    }
}
