//! Documents: every fault at once, and the walk agrees with what deserializes.

use std::collections::BTreeMap;
use std::path::Path;

use bursar::document::{self, Source};
use bursar::name::Name;
use proptest::prelude::*;
use schemars::JsonSchema;
use serde::Deserialize;

/// One of each kind of thing that a document can hold.
#[derive(Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct All {
    agent: Agent,
    store: BTreeMap<Name, Store>,
    provider: BTreeMap<Name, Provider>,
    loose: BTreeMap<String, Vec<bool>>,
}

#[derive(Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Agent {
    /// Where it listens.
    #[schemars(extend("examples" = ["/run/bursar.sock"]))]
    socket: Option<String>,
    connections: Option<u16>,
    offset: Option<i64>,
    level: Level,
    listener: Vec<Listener>,
    limit: Option<Limit>,
}

#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Listener {
    workload: Name,
    #[serde(default)]
    only: bool,
}

#[derive(Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// All.
    Debug,
    /// Some.
    #[default]
    Info,
    /// Not yet.
    #[schemars(extend("x-later" = true))]
    Trace,
}

#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Limit {
    Off(Off),
    #[schemars(extend("x-later" = true))]
    At(u32),
}

#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Off {
    Off,
}

#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
enum Store {
    Sealed {
        path: Option<String>,
        key: Option<Key>,
    },
    Files {
        path: String,
    },
    #[schemars(extend("x-later" = true))]
    Openbao {
        address: String,
    },
}

/// Where the key lies.
#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum Key {
    File(String),
    Credential(String),
}

#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Provider {
    /// The most that is ever asked for.
    scopes: Vec<Name>,
    token_endpoint: Option<OneOrMany>,
    #[schemars(range(min = 0.0, max = 1.0))]
    refresh_at: Option<f64>,
    weight: Option<f64>,
    #[schemars(extend("x-later" = true))]
    budget: Option<String>,
}

#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

fn faults(text: &str) -> Vec<String> {
    let faults = document::read::<All>(Path::new("f"), text).unwrap_err();
    faults.iter().map(ToString::to_string).collect()
}

#[test]
fn the_schema_of_every_kind_is_covered() {
    assert_eq!(document::uncovered::<All>(), Ok(()));
}

#[test]
fn what_is_right_is_read() {
    let all: All = document::read(
        Path::new("f"),
        r#"
        agent.connections = 0xFF
        agent.limit = "off"
        [[agent.listener]]
        workload = "a"
        [store.local]
        kind = "sealed"
        key = { credential = "k" }
        [provider."a.b"]
        scopes = ["x"]
        token_endpoint = ["u", "v"]
        refresh_at = 1
        weight = inf
        [loose]
        "any key" = [true]
        "#,
    )
    .unwrap();
    assert_eq!(all.agent.connections, Some(255));
    assert_eq!(all.provider["a.b".parse::<Name>().as_ref().unwrap()].refresh_at, Some(1.0));
    assert_eq!(
        all.store["local".parse::<Name>().as_ref().unwrap()],
        Store::Sealed { path: None, key: Some(Key::Credential("k".into())) }
    );
}

#[test]
fn every_fault_is_named_at_once() {
    let text = r#"
[agnet]
x = 1
[agent]
socket = 5
conections = 7
connections = 70000
level = "inf"
limit = 5
[[agent.listener]]
workload = "A b"
[[agent.listener]]
worklod = "b"
[store.a]
kind = "seald"
[store.b]
path = "x"
[store.c]
kind = "sealed"
key = { file = "x", credential = "y" }
pth = "z"
[store.d]
kind = "sealed"
key = "x"
[store.e]
kind = "openbao"
[store.F]
kind = "files"
[provider.x]
refresh_at = 7
budget = "x"
token_endpoint = ["a", 1]
"#;
    insta::assert_snapshot!(faults(text).join("\n"));
}

#[test]
fn syntax_errors_do_not_hide_what_stands_elsewhere() {
    let text = "[provider.y]\nscopes = [ \"a\" \"b\" ]\nbanana = 7\n[provider.z\nscopes = 5\n[provider.zz]\n\
                scopes = 5\nscopes = 6\n[agent]\nsocket = 1979-05-27\nlevel = \"warn\n[store.a]\nkind = 5\n";
    insta::assert_snapshot!(faults(text).join("\n"));
}

#[test]
fn a_file_that_is_not_for_us_does_not_flood() {
    let text: String = (0..5000).map(|n| format!("k{n} = 1\n")).collect();
    let faults = faults(&text);
    assert_eq!(faults.len(), 501);
    assert!(faults[0].contains("more than 500 faults"), "{}", faults[0]);
}

#[test]
fn a_wrong_value_is_never_repeated_where_a_reference_belongs() {
    let text = "[store.a]\nkind = \"sealed\"\nkey = \"hunter2\"\n";
    assert!(!faults(text).join("\n").contains("hunter2"));
}

fn sources(texts: &[&str]) -> Vec<Source> {
    let source = |(nth, text): (usize, &&str)| Source { file: format!("f{nth}").into(), text: (*text).to_owned() };
    texts.iter().enumerate().map(source).collect()
}

#[test]
fn several_files_are_one_document() {
    let texts = [
        "[agent]\nsocket = \"a\"\n[[agent.listener]]\nworkload = \"x\"\n[store.a]\nkind = \"sealed\"\n",
        "[agent]\nconnections = 5\n[[agent.listener]]\nworkload = \"y\"\n[store.b]\nkind = \"sealed\"\n",
    ];
    let (all, places) = document::read_all::<All>(&sources(&texts)).unwrap();
    assert_eq!((all.agent.listener.len(), all.store.len(), all.agent.connections), (2, 2, Some(5)));
    assert_eq!(places.of("agent.listener[1].workload").to_string(), "f1:4:12");
    assert_eq!(places.of("agent.socket").to_string(), "f0:2:10");
    assert_eq!(places.of("store.b.path").to_string(), "f1:5:1", "what was left out stands where its table does");
}

#[test]
fn what_two_files_define_is_named_with_both_places() {
    let texts = [
        "[agent]\nsocket = \"a\"\n[store.a]\nkind = \"sealed\"\n",
        "[agent]\nsocket = \"b\"\n",
        "[store.a]\nkind = \"files\"\npath = \"x\"\nextra = 1\n",
    ];
    let faults = document::read_all::<All>(&sources(&texts)).unwrap_err();
    insta::assert_snapshot!(faults.to_string());
}

/// Keys and values, right and wrong, for every table of [`All`].
fn line() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec![
        "socket",
        "connections",
        "offset",
        "level",
        "limit",
        "workload",
        "only",
        "kind",
        "path",
        "key",
        "address",
        "scopes",
        "token_endpoint",
        "refresh_at",
        "weight",
        "budget",
        "x",
        "\"a b\"",
        "key.file",
        "agent.level",
    ]);
    (key, value()).prop_map(|(key, value)| format!("{key} = {value}\n"))
}

fn value() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "\"\"",
        "\"a\"",
        "\"A b\"",
        "\"off\"",
        "\"info\"",
        "\"trace\"",
        "\"sealed\"",
        "\"files\"",
        "\"openbao\"",
        "true",
        "false",
        "0",
        "-1",
        "7",
        "70000",
        "0xff",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "1.5",
        "0.5",
        "-0.0",
        "inf",
        "nan",
        "-inf",
        "1e400",
        "1979-05-27",
        "07:32:00",
        "1979-05-27T07:32:00Z",
    ])
    .prop_map(str::to_owned);
    leaf.prop_recursive(2, 8, 3, |inner| {
        let table = prop::sample::select(vec!["file", "credential", "kind", "path", "workload", "x"]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(|items| format!("[{}]", items.join(", "))),
            prop::collection::btree_map(table, inner, 0..3).prop_map(|pairs| {
                let pairs: Vec<_> = pairs.into_iter().map(|(key, value)| format!("{key} = {value}")).collect();
                format!("{{ {} }}", pairs.join(", "))
            }),
        ]
    })
}

fn text() -> impl Strategy<Value = String> {
    let header = prop::sample::select(vec![
        "[agent]",
        "[[agent.listener]]",
        "[store.a]",
        "[store.b]",
        "[store.C]",
        "[provider.a]",
        "[provider.\"x.y\"]",
        "[loose]",
        "[other]",
        "[agent.limit]",
        "[[store]]",
        "[store.a.key]",
        "[agent.listener]",
    ]);
    let table = (header, prop::collection::vec(line(), 0..4))
        .prop_map(|(header, lines)| format!("{header}\n{}", lines.concat()));
    prop::collection::vec(table, 0..4).prop_map(|tables| tables.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_passes_the_walk_deserializes(text in text()) {
        if document::check::<All>(Path::new("f"), &text).is_ok() {
            let read = document::read::<All>(Path::new("f"), &text);
            prop_assert!(read.is_ok(), "{}\n{text}", read.unwrap_err());
            prop_assert_eq!(read.unwrap(), toml::from_str::<All>(&text).unwrap());
        }
    }

    #[test]
    fn what_does_not_deserialize_is_reported(text in text()) {
        if toml::from_str::<All>(&text).is_err() {
            prop_assert!(document::check::<All>(Path::new("f"), &text).is_err(), "{text}");
        }
    }

    #[test]
    fn no_text_is_too_odd_to_be_read(text in "\\PC{0,40}|[\\[\\]{}=\"'#.,\\n\\\\a0-]{0,60}") {
        let _ = document::read::<All>(Path::new("f"), &text);
    }
}
