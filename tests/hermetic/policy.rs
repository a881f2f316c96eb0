//! The policy set: what a load refuses, what a verdict is, and the set that is shipped.

use std::path::Path;
use std::sync::Arc;

use bursar::access::{Access, Action, Resource, Role, Scopes, Verdict, Why, Workload};
use bursar::fault::Faults;
use bursar::name::Name;
use bursar::policy::{Entries, Known, Snapshot, UnknownIds, scenario, snapshot_digest};
use bursar::time::Wall;

const NOON: &str = "2026-11-21T12:00:30Z";

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// Workloads `checkout` (in group `pci`) and `reports`, operator `root`, providers `stripe` (tag `payments`) and `crm`,
/// secret `api-key` (tag `payments`).
fn known() -> Known {
    let mut known = Known::default();
    known.workloads.insert(name("checkout"), vec![name("pci")]);
    known.workloads.insert(name("reports"), vec![]);
    known.operators.insert(name("root"), vec![]);
    known.providers.insert(name("stripe"), vec![name("payments")]);
    known.providers.insert(name("crm"), vec![]);
    known.secrets.insert("api-key".parse().unwrap(), vec![name("payments")]);
    known
}

fn entries(files: &[(&str, &str)]) -> Entries {
    files.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect()
}

fn snapshot(rules: &str) -> Snapshot {
    Snapshot::from_entries(entries(&[("x.cedar", rules)]), &known()).unwrap().0
}

fn faults(rules: &str) -> Faults {
    Snapshot::from_entries(entries(&[("x.cedar", rules)]), &known()).unwrap_err()
}

fn who(role: Role, text: &str) -> Arc<Workload> {
    Arc::new(Workload { name: name(text), role, uid: 1000, facts: Arc::new([]) })
}

fn token(workload: &str, provider: &str, scopes: &str) -> Access {
    Access {
        who: who(Role::Workload, workload),
        action: Action::Token,
        resource: Resource::Provider(name(provider)),
        scopes: Scopes::parse(scopes).unwrap(),
        audience: Default::default(),
    }
}

/// `permit` or why not, and the determining rules.
fn judged(snapshot: &Snapshot, access: Access, at: &str) -> (Option<Why>, String) {
    let ids = |policies: &[Box<str>]| policies.join(" ");
    match snapshot.judge(access, Wall::parse(at).unwrap()) {
        Verdict::Permit(permit) => (None, ids(&permit.grounds().policies)),
        Verdict::Denied(denied) => (Some(denied.why), ids(&denied.grounds.policies)),
    }
}

const ANY: &str = r#"@id("any") permit (principal, action, resource);"#;

#[test]
fn nothing_is_permitted_by_default() {
    let empty = Snapshot::from_entries(Entries::new(), &known()).unwrap().0;
    assert_eq!(judged(&empty, token("checkout", "stripe", ""), NOON), (Some(Why::NoPermit), String::new()));
}

#[test]
fn a_forbid_beats_every_permit() {
    let set = snapshot(&format!(
        r#"{ANY} @id("no") forbid (principal in Group::"pci", action, resource in Tag::"payments");"#
    ));
    assert_eq!(judged(&set, token("checkout", "stripe", "a"), NOON), (Some(Why::Forbidden), "no".into()));
    assert_eq!(judged(&set, token("reports", "stripe", "a"), NOON), (None, "any".into()));
    assert_eq!(judged(&set, token("checkout", "crm", "a"), NOON), (None, "any".into()));
}

/// Plain Cedar skips a policy that errs: with a `forbid`, it allows what the rule was to stop.
#[test]
fn erroring_forbid_denies() {
    let rules =
        format!(r#"{ANY} @id("odd") forbid (principal, action, resource) when {{ 9223372036854775807 + 1 == 0 }};"#);
    let plain: cedar_policy::PolicySet = rules.parse().unwrap();
    let [principal, action, resource] =
        [r#"Workload::"checkout""#, r#"Action::"token""#, r#"Provider::"stripe""#].map(|uid| uid.parse().unwrap());
    let request =
        cedar_policy::Request::new(principal, action, resource, cedar_policy::Context::empty(), None).unwrap();
    let answer = cedar_policy::Authorizer::new().is_authorized(&request, &plain, &cedar_policy::Entities::empty());
    assert_eq!(answer.decision(), cedar_policy::Decision::Allow, "the demonstration shows nothing any more");

    assert_eq!(judged(&snapshot(&rules), token("checkout", "stripe", ""), NOON), (Some(Why::Error), "odd".into()));
}

#[test]
fn a_verdict_dies_with_its_minute() {
    let set = snapshot(
        r#"@id("morning") permit (principal, action, resource);
           @id("from-noon") forbid (principal, action, resource) when { context.now >= datetime("2026-11-21T12:01:00Z") };"#,
    );
    let asked = || token("checkout", "stripe", "a");
    assert_eq!(judged(&set, asked(), "2026-11-21T12:00:00Z"), (None, "morning".into()));
    assert_eq!(judged(&set, asked(), "2026-11-21T12:00:59.999999Z"), (None, "morning".into()));
    assert_eq!(judged(&set, asked(), "2026-11-21T12:01:00Z"), (Some(Why::Forbidden), "from-noon".into()));
    assert_eq!(judged(&set, asked(), "2026-11-21T12:00:59Z"), (None, "morning".into()), "a clock stepped back");
}

#[test]
fn a_verdict_is_remembered_for_exactly_its_question() {
    let set = snapshot(
        r#"@id("one") permit (principal == Workload::"checkout", action == Action::"token", resource == Provider::"stripe")
           when { ["a"].containsAll(context.scopes) && context.audience.isEmpty() };"#,
    );
    for _ in 0..3 {
        assert_eq!(judged(&set, token("checkout", "stripe", "a"), NOON).0, None);
        assert_eq!(judged(&set, token("checkout", "stripe", "a b"), NOON).0, Some(Why::NoPermit));
        assert_eq!(judged(&set, token("reports", "stripe", "a"), NOON).0, Some(Why::NoPermit));
        assert_eq!(judged(&set, token("checkout", "crm", "a"), NOON).0, Some(Why::NoPermit));
        let rejected = Access { action: Action::Reject, ..token("checkout", "stripe", "a") };
        assert_eq!(judged(&set, rejected, NOON).0, Some(Why::NoPermit));
        let elsewhere = ["https://a.example".parse().unwrap()].into_iter().collect();
        let elsewhere = Access { audience: elsewhere, ..token("checkout", "stripe", "a") };
        assert_eq!(judged(&set, elsewhere, NOON).0, Some(Why::NoPermit));
    }
}

#[test]
fn what_the_schema_does_not_know_no_rule_permits() {
    let set = snapshot(ANY);
    let operator = Access { who: who(Role::Operator, "root"), ..token("checkout", "stripe", "a") };
    assert_eq!(judged(&set, operator, NOON).0, Some(Why::NoPermit));
    let of_itself = Access { resource: Resource::Agent, ..token("checkout", "stripe", "a") };
    assert_eq!(judged(&set, of_itself, NOON).0, Some(Why::NoPermit));
}

#[test]
fn an_operator_is_not_the_workload_of_the_same_name() {
    let set = snapshot(r#"@id("op") permit (principal == Operator::"root", action, resource);"#);
    assert_eq!(judged(&set, token("root", "stripe", "a"), NOON).0, Some(Why::NoPermit));
}

#[test]
fn may_ever_looks_at_scopes_and_at_no_condition() {
    let set = snapshot(
        r#"@id("never") permit (principal in Group::"pci", action == Action::"token", resource in Tag::"payments") when { context.scopes.contains("x") };
           @id("not") forbid (principal, action, resource == Provider::"crm");"#,
    );
    let stripe = Resource::Provider(name("stripe"));
    let may = |workload: &str, action: Action, resource: &Resource| {
        set.may_ever(&who(Role::Workload, workload), action, resource)
    };
    assert!(may("checkout", Action::Token, &stripe));
    assert!(!may("checkout", Action::Reject, &stripe));
    assert!(!may("checkout", Action::Token, &Resource::Provider(name("crm"))), "a forbid alone permits nothing");
    assert!(!may("reports", Action::Token, &stripe));
    assert!(!set.may_ever(&who(Role::Operator, "checkout"), Action::Token, &stripe));
}

#[test]
fn an_archive_decides_as_the_agent_did() {
    let text = r#"@id("g") permit (principal in Group::"pci", action, resource in Tag::"payments");"#;
    let files = [("a.cedar", text), ("workloads.toml", "# who is who")];
    let set = Snapshot::from_entries(entries(&files), &known()).unwrap().0;
    let again = Snapshot::from_archive(set.archive().to_vec()).unwrap();
    assert_eq!((again.digest(), again.archive()), (set.digest(), set.archive()));
    assert_eq!(set.digest(), snapshot_digest(set.archive()));
    for access in [token("checkout", "stripe", ""), token("reports", "stripe", ""), token("checkout", "crm", "")] {
        assert_eq!(judged(&set, access.clone(), NOON), judged(&again, access, NOON));
    }
    let names: Vec<_> = set.archive().iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a.cedar", "bursar.cedarschema", "entities.json", "workloads.toml"]);
}

#[test]
fn an_archive_that_lacks_a_part_is_refused() {
    let whole = snapshot(ANY).archive().to_vec();
    for lost in ["bursar.cedarschema", "entities.json"] {
        let rest = whole.iter().filter(|(name, _)| name != lost).cloned().collect();
        assert!(Snapshot::from_archive(rest).is_err(), "{lost}");
    }
    let mut foreign = whole;
    foreign[0] = ("bursar.cedarschema".into(), b"entity Other;".to_vec());
    assert!(Snapshot::from_archive(foreign).is_err());
}

#[test]
fn the_digest_moves_with_groups_tags_and_every_byte() {
    let digest =
        |text: &str, known: &Known| Snapshot::from_entries(entries(&[("x.cedar", text)]), known).unwrap().0.digest();
    let mut other = known();
    other.providers.insert(name("crm"), vec![name("payments")]);
    let before = digest(ANY, &known());
    assert_eq!(before, digest(ANY, &known()));
    assert_ne!(before, digest(&format!("{ANY} "), &known()));
    assert_ne!(before, digest(ANY, &other));
}

#[test]
fn a_load_names_every_fault_at_its_place() {
    let files = [
        (
            "a.cedar",
            "@id(\"one\")\npermit (principal == Workload::\"chekcout\", action, resource);\n\npermit (principal, action, resource);\n",
        ),
        (
            "b.cedar",
            "// b\n@id(\"one\") @expirs(\"2027-01-01\")\npermit (principal, action, resource);\n@id(\"two\") permit (principal, action resource);\n",
        ),
        (
            "c.cedar",
            "@id(\"t\") permit (principal == ?principal, action, resource);\n@id(\"three\") @rate(\"1/s\") forbid (principal, action, resource)\n  when { context.scope };",
        ),
        ("bursar.cedarschema", "entity Workload;"),
    ];
    let faults = Snapshot::from_entries(entries(&files), &known()).unwrap_err();
    insta::assert_snapshot!(faults.to_string(), @r#"
    a.cedar:2:22: `Workload::"chekcout"` is not known here
      help: known: `checkout`, `reports`; or add a `[workload.…]` to workloads.toml
    a.cedar:4:1: the rule has no `@id`
      help: put `@id("a-name-of-its-own")` before it: records and explanations name it by that
    b.cedar:2:1: the id `one` is taken: the rule at a.cedar:1:1 has it
      help: give one of the two another `@id`
    b.cedar:2:12: `@expirs` is not an annotation that has a meaning here
      help: known: `@id`, `@owner`, `@expires`
    b.cedar:4:38: unexpected token `resource`
      help: expected `!=`, `)`, `,`, `:`, `<`, `<=`, `==`, `>`, `>=`, `in`, or `is`
    bursar.cedarschema: `bursar.cedarschema` differs from the schema that this program judges by
      help: the schema cannot be changed: copy the file that comes with this version, or delete this one
    c.cedar:1:1: a template (`?principal`, `?resource`) is not a rule
      help: write one rule for each principal or resource, or use a group or a tag
    c.cedar:2:14: `@rate` is not available in this version
      help: known here: `@id`, `@owner`, `@expires`
    c.cedar:3:10: for policy `three`, attribute `scope` in context for Action::"approve" not found
      help: did you mean `scopes`?
    "#);
}

#[test]
fn an_annotation_of_a_later_version_is_refused_by_name() {
    for annotation in ["rate", "max_ttl", "approval"] {
        let faults = faults(&format!("@id(\"x\") @{annotation}(\"1\") permit (principal, action, resource);"));
        assert!(faults.to_string().contains(&format!("`@{annotation}` is not available in this version")), "{faults}");
    }
}

#[test]
fn unknown_annotation_refused() {
    let faults = faults("@id(\"x\") @expirs(\"2027-01-01\") permit (principal, action, resource);");
    assert!(faults.to_string().contains("help: known: `@id`, `@owner`, `@expires`"), "{faults}");
}

#[test]
fn ids_of_merged_files_collide() {
    let files = [("a.cedar", ANY), ("b.cedar", ANY)];
    let faults = Snapshot::from_entries(entries(&files), &known()).unwrap_err();
    assert!(
        faults.to_string().starts_with("b.cedar:1:1: the id `any` is taken: the rule at a.cedar:1:1 has it"),
        "{faults}"
    );
}

#[test]
fn an_expiry_that_the_condition_does_not_keep_is_refused() {
    let rule = |condition: &str| {
        format!(r#"@id("x") @expires("2027-01-31") permit (principal, action, resource) {condition};"#)
    };
    let kept = snapshot(&rule(r#"when { context.now < datetime("2027-01-31") }"#));
    assert_eq!(judged(&kept, token("checkout", "stripe", "a"), "2027-01-30T23:59:59Z").0, None);
    assert_eq!(judged(&kept, token("checkout", "stripe", "a"), "2027-01-31T00:00:00Z").0, Some(Why::NoPermit));
    assert!(kept.expired(Wall::parse("2027-01-30T23:59:59Z").unwrap()).is_empty());
    let expired = kept.expired(Wall::parse("2027-01-31T00:00:00Z").unwrap());
    assert!(expired[0].to_string().starts_with("x.cedar:1:1: the rule `x` ended at 2027-01-31"), "{expired:?}");

    assert!(faults(&rule("")).to_string().contains("does not end it at its `@expires"));
    assert!(faults(&rule(r#"when { context.now < datetime("2028-01-31") }"#)).to_string().contains("does not end it"));
}

#[test]
fn a_shared_set_warns_of_what_this_host_lacks() {
    let files = entries(&[(
        "x.cedar",
        r#"@id("x") permit (principal == Workload::"elsewhere", action, resource in Tag::"none");"#,
    )]);
    assert!(Snapshot::from_entries(files.clone(), &known()).is_err());
    let shared = Known { unknown: UnknownIds::Warn, ..known() };
    let (set, warnings) = Snapshot::from_entries(files, &shared).unwrap();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert_eq!(judged(&set, token("elsewhere", "stripe", "a"), NOON).0, Some(Why::NoPermit));
}

#[test]
fn a_schema_that_differs_is_refused() {
    let shipped = std::fs::read_to_string("policies/bursar.cedarschema").unwrap();
    assert_eq!(shipped, bursar::policy::SCHEMA_TEXT);
    assert!(Snapshot::from_entries(entries(&[("bursar.cedarschema", &shipped)]), &known()).is_ok());
    let edited = shipped.replace("[Workload]", "[Workload, Operator]");
    assert!(Snapshot::from_entries(entries(&[("bursar.cedarschema", &edited)]), &known()).is_err());
}

#[test]
fn the_shipped_set_loads_and_passes_its_scenarios() {
    let mut shipped = Known::default();
    shipped.workloads.extend([(name("checkout"), vec![]), (name("reports"), vec![])]);
    shipped.operators.insert(name("root"), vec![]);
    shipped.providers.extend([(name("stripe"), vec![]), (name("crm"), vec![])]);
    let loaded = Snapshot::load(Path::new("policies"), &shipped).unwrap();
    assert_eq!(loaded.warnings, []);
    let files = scenario::load(Path::new("policies")).unwrap();
    let reports: Vec<_> = files.iter().map(|file| scenario::run(&loaded.snapshot, file)).collect();
    assert_eq!(reports.iter().flat_map(|report| report.failures.clone()).collect::<Vec<_>>(), []);
    assert_eq!(reports.iter().map(|report| report.passed).sum::<usize>(), 10);
}

#[test]
fn a_scenario_that_fails_says_what_was_answered_and_where() {
    let text = r#"at = "2026-11-21T12:00:00Z"

[[scenario]]
name = "wrong answer"
workload = "checkout"
action = "token"
provider = "stripe"
expect = "deny"

[[scenario]]
name = "wrong rule"
workload = "checkout"
action = "token"
provider = "stripe"
expect = "permit"
by = ["other"]

[[scenario]]
name = "nobody"
workload = "chekcout"
action = "token"
provider = "stripe"
expect = "deny"
"#;
    let file = scenario::ScenarioFile::parse(Path::new("s.toml"), text.as_bytes()).unwrap();
    let report = scenario::run(&snapshot(ANY), &file);
    let failures: Vec<_> = report.failures.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(failures.join("\n"), @r#"
    s.toml:3:1: scenario `wrong answer`: expected a denial, but it is permitted
      help: determined by `any`
    s.toml:10:1: scenario `wrong rule`: expected to be determined by `other`
      help: determined by `any`
    s.toml:18:1: scenario `nobody`: `Workload::"chekcout"` is not known here
      help: correct the name, or add it to the configuration
    "#);
}

#[test]
fn a_scenario_file_names_every_fault() {
    let text = r#"at = "2026-11-21T12:00:00Z"
[[scenario]]
name = "who"
action = "token"
provider = "stripe"
expect = "deny"
[[scenario]]
name = "what"
workload = "checkout"
action = "tokens"
provider = "stripe"
expect = "deny"
[[scenario]]
name = "to what"
workload = "checkout"
action = "token"
secret = "api-key"
expect = "deny"
[[scenario]]
name = "when"
workload = "checkout"
action = "token"
provider = "stripe"
at = "soon"
expect = "deny"
"#;
    let faults = scenario::ScenarioFile::parse(Path::new("s.toml"), text.as_bytes()).unwrap_err();
    insta::assert_snapshot!(faults.to_string(), @r#"
    s.toml:2:1: scenario `who`: who asks is not clear
      help: give either `workload` or `operator`
    s.toml:7:1: scenario `what`: `tokens` is no action
      help: actions: `token`, `reject`, `secret`, `put`, `rotate`, `revoke`, `list`, `approve`, `reload`, `status`, `explain`, `audit`, `maintain`
    s.toml:13:1: scenario `to what`: the schema knows no `token` of `Secret::"api-key"` by such a principal
      help: see the actions in `bursar.cedarschema`
    s.toml:19:1: scenario `when`: `soon` is not a point in time: write it by RFC 3339, as in `2026-11-21T06:00:00Z`
    "#);
}

/// The fenced blocks of `text` in `language`.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    text.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn the_rules_and_scenarios_of_the_guide_hold() {
    let guide = std::fs::read_to_string("docs/policy-guide.md").unwrap();
    let rules = blocks(&guide, "cedar");
    assert_eq!(rules.len(), 4);
    let mut known = known();
    known.workloads.insert(name("migrator"), vec![]);
    known.secrets.insert("orders-db".parse().unwrap(), vec![]);
    known.secrets.insert("stripe-api-key".parse().unwrap(), vec![]);
    let set = Snapshot::from_entries(entries(&[("guide.cedar", &rules.concat())]), &known).unwrap().0;
    let scenarios = blocks(&guide, "toml").into_iter().find(|block| block.contains("[[scenario]]")).unwrap();
    let file = scenario::ScenarioFile::parse(Path::new("guide.toml"), scenarios.as_bytes()).unwrap();
    assert_eq!(scenario::run(&set, &file), scenario::Report { passed: 1, failures: vec![] });
}

#[test]
fn the_examples_of_the_formats_hold() {
    let formats = std::fs::read_to_string("docs/formats.md").unwrap();
    let entities = blocks(&formats, "json").into_iter().find(|block| block.contains("Agent")).unwrap();
    let mut known = Known::default();
    known.workloads.insert(name("checkout"), vec![name("pci")]);
    known.providers.insert(name("stripe"), vec![name("payments")]);
    let set = Snapshot::from_entries(Entries::new(), &known).unwrap().0;
    let archived = set.archive().iter().find(|(name, _)| name == "entities.json").unwrap();
    assert_eq!(String::from_utf8(archived.1.clone()).unwrap(), entities.trim_end());
    let digest = snapshot_digest(&entries(&[("a.cedar", "xy"), ("b.cedar", "")]));
    assert!(formats.contains(&digest.to_string()), "{digest}");
}
