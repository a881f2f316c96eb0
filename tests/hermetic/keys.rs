//! The keys of the configuration: schema, example and documentation say the same.

use std::collections::BTreeSet;
use std::fs;

use bursar::config::said::Said;
use bursar::document;
use serde_json::Value;

const EXAMPLE: &str = "examples/bursar.toml";
const TABLE: &str = "docs/configuration.md";

#[test]
fn the_shipped_example_shows_every_key_that_is_built() {
    let example = fs::read_to_string(EXAMPLE).unwrap();
    let shown: BTreeSet<_> = example
        .lines()
        .flat_map(|line| line.trim_start_matches(['#', ' ']).split(['=', '{', ',']).map(str::trim))
        .collect();
    for row in rows().into_iter().filter(|row| !row.later && !row.is_table) {
        let key = row.key.rsplit('.').next().unwrap();
        assert!(shown.contains(key), "`{}` is not in {EXAMPLE}", row.key);
    }
}

#[test]
fn every_key_has_a_default_or_is_required() {
    for row in rows().into_iter().filter(|row| !row.is_tag) {
        assert!(row.required || row.default.is_some(), "`{}` is neither required nor has it a default", row.key);
        assert!(!row.about.is_empty(), "`{}` says not what it is for", row.key);
    }
}

#[test]
fn the_table_of_keys_is_that_of_the_schema() {
    let page = fs::read_to_string(TABLE).unwrap();
    let (start, end) = (page.find("<!-- keys").unwrap(), page.find("<!-- end of keys").unwrap());
    let start = start + page[start..].find('\n').unwrap() + 1;
    let wanted = table();
    if std::env::var_os("BURSAR_WRITE_DOCS").is_some() {
        fs::write(TABLE, format!("{}{wanted}{}", &page[..start], &page[end..])).unwrap();
    } else {
        assert!(page[start..end] == wanted, "{TABLE} is old: run this test with BURSAR_WRITE_DOCS=1");
    }
}

/// One line of the table of keys.
#[derive(Debug)]
struct Row {
    table: String,
    key: String,
    kind: String,
    default: Option<String>,
    required: bool,
    later: bool,
    is_table: bool,
    is_tag: bool,
    /// Its table has a heading of its own in the documentation: it is built, and more than a reference.
    is_listed: bool,
    about: String,
}

fn rows() -> Vec<Row> {
    let schema = document::published::<Said>().to_value();
    let mut rows = Vec::new();
    collect(&schema, &schema, &Under { at: String::new(), later: false, is_listed: false }, &mut rows);
    rows
}

/// The table whose keys are collected.
struct Under {
    at: String,
    later: bool,
    is_listed: bool,
}

fn collect(root: &Value, schema: &Value, under: &Under, rows: &mut Vec<Row>) {
    let required: Vec<_> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (key, property) in schema["properties"].as_object().into_iter().flatten() {
        let whole = merged(root, property);
        let later = under.later || whole["x-later"] == true;
        let inner = entries(root, &whole);
        let path = if under.at.is_empty() { key.clone() } else { format!("{}.{key}", under.at) };
        rows.push(Row {
            table: under.at.clone(),
            kind: kind(root, property),
            default: whole.get("default").map(Value::to_string),
            required: required.contains(&key.as_str()),
            later,
            is_table: !inner.is_empty(),
            is_tag: whole.get("const").is_some(),
            is_listed: under.is_listed,
            about: about(&whole).or_else(|| about(schema)).unwrap_or_default(),
            key: path.clone(),
        });
        let is_reference = whole["examples"][0].is_object();
        for (suffix, inner) in inner {
            let later_inner = later || inner["x-later"] == true;
            let is_listed = !later_inner && !is_reference;
            collect(root, &inner, &Under { at: format!("{path}{suffix}"), later: later_inner, is_listed }, rows);
        }
    }
}

/// The tables that stand below a key: itself, the entries of a map or of an array, each kind of a tagged table.
fn entries(root: &Value, schema: &Value) -> Vec<(String, Value)> {
    let below = |inner: &Value, step: &str| {
        let inner = entries(root, &merged(root, inner));
        inner.into_iter().map(|(at, inner)| (format!("{step}{at}"), inner)).collect()
    };
    if schema["properties"].is_object() {
        return vec![(String::new(), schema.clone())];
    }
    if let Some(inner) = schema["patternProperties"].as_object().and_then(|names| names.values().next()) {
        return below(inner, ".NAME");
    }
    if schema["items"].is_object() {
        return below(&schema["items"], "[]");
    }
    let alternatives = schema["oneOf"].as_array().into_iter().flatten();
    let tables = alternatives.filter(|alternative| alternative["properties"].is_object());
    tables
        .map(|table| match table["properties"]["kind"]["const"].as_str() {
            Some(kind) => (format!(" kind = \"{kind}\""), table.clone()),
            None => (String::new(), table.clone()),
        })
        .collect()
}

/// A schema with what its reference says.
fn merged(root: &Value, schema: &Value) -> Value {
    let name = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix("#/$defs/"));
    let mut merged = name.map_or(schema, |name| &root["$defs"][name]).clone();
    if let (Value::Object(merged), Value::Object(beside)) = (&mut merged, schema) {
        merged.extend(beside.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
    merged
}

fn about(schema: &Value) -> Option<String> {
    schema["description"].as_str().map(|text| text.split("\n\n").next().unwrap_or_default().replace('\n', " "))
}

fn kind(root: &Value, schema: &Value) -> String {
    let schema = &merged(root, schema);
    let example = &schema["examples"][0];
    if !example.is_null() {
        return format!("as `{}`", toml_of(example));
    }
    if let Some(word) = schema["const"].as_str() {
        return format!("`\"{word}\"`");
    }
    if let Some(alternatives) = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array()) {
        let shown = |alternative: &Value| match alternative["x-later"] == true {
            true => format!("{} (*not yet*)", kind(root, alternative)),
            false => kind(root, alternative),
        };
        return alternatives.iter().map(shown).collect::<Vec<_>>().join(", ");
    }
    match schema["type"].as_str() {
        Some("array") if !entries(root, schema).is_empty() => "tables".to_owned(),
        Some("array") => format!("array of {}s", kind(root, &schema["items"])),
        Some("object") => "table".to_owned(),
        Some(other) => other.to_owned(),
        None => "anything".to_owned(),
    }
}

fn toml_of(value: &Value) -> String {
    let Some(table) = value.as_object() else { return value.to_string() };
    let pairs: Vec<_> = table.iter().map(|(key, value)| format!("{key} = {value}")).collect();
    format!("{{ {} }}", pairs.join(", "))
}

fn table() -> String {
    let rows: Vec<_> = rows().into_iter().filter(|row| row.is_listed && !row.is_tag).collect();
    let mut tables: Vec<&str> = rows.iter().map(|row| row.table.as_str()).collect();
    let mut seen = BTreeSet::new();
    tables.retain(|table| seen.insert(*table));
    let mut page = String::new();
    for table in tables {
        page.push_str(&format!("\n### {}\n\n| key | value | default | meaning |\n|---|---|---|---|\n", heading(table)));
        page.extend(rows.iter().filter(|row| row.table == table).map(line_of));
    }
    page.push('\n');
    page
}

fn line_of(row: &Row) -> String {
    let key = row.key.rsplit('.').next().unwrap();
    let default = match (&row.default, row.required) {
        (_, true) => "*required*".to_owned(),
        (Some(default), false) if default != "null" => format!("`{default}`"),
        _ => "none".to_owned(),
    };
    let later = if row.later { "*Not yet.* " } else { "" };
    format!("| `{key}` | {} | {default} | {later}{} |\n", row.kind, row.about)
}

/// `agent.listener[]` as people write it: `[[agent.listener]]`.
fn heading(table: &str) -> String {
    match table.split_once(' ') {
        Some((table, kind)) => match kind.split_once("\".") {
            Some((kind, below)) => format!("`[{table}.{below}]` with `{kind}\"`"),
            None => format!("`[{table}]` with `{kind}`"),
        },
        None => match table.strip_suffix("[]") {
            Some(array) => format!("`[[{array}]]`"),
            None => format!("`[{table}]`"),
        },
    }
}
