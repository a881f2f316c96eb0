//! The schema of a document as the walk reads it: a JSON Schema, parsed into a closed set of kinds.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use regex::Regex;
use serde_json::{Map, Value};

/// What a value must be.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) kind: Kind,
    /// The first sentence of its description.
    pub(super) about: String,
    /// How one writes it, where the schema gives an example.
    pub(super) example: Option<String>,
    /// Its effect is not built yet.
    pub(super) later: bool,
}

/// The kinds of values.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    Anything,
    Flag,
    Text(Text),
    Integer(RangeInclusive<i128>),
    Number(Bounds),
    List(List),
    Table(Table),
    /// Tables that are told apart by the text of one key.
    Tagged(Tagged),
    /// A table with exactly one of these keys.
    Choice(BTreeMap<String, Shape>),
    OneOf(Vec<Shape>),
}

/// A string: one of some words, or whatever matches.
#[derive(Clone, Debug, Default)]
pub(super) struct Text {
    /// The words that it may be, with whether they are built; none: any text.
    pub(super) words: Option<BTreeMap<String, Word>>,
    pub(super) pattern: Option<Regex>,
    /// Goes on from "`…` is ": what a text that does not match is not, and how to write it.
    pub(super) complaint: Option<String>,
    pub(super) characters: Option<RangeInclusive<u64>>,
}

/// One word of a closed set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word {
    pub(super) later: bool,
}

/// The bounds of a float.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bounds {
    pub(super) least: Option<f64>,
    pub(super) above: Option<f64>,
    pub(super) most: Option<f64>,
    pub(super) below: Option<f64>,
}

/// An array.
#[derive(Clone, Debug)]
pub(super) struct List {
    pub(super) items: Box<Shape>,
    pub(super) length: RangeInclusive<u64>,
    pub(super) unique: bool,
}

/// A table: known keys, names that follow a pattern, or both.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) keys: BTreeMap<String, Key>,
    pub(super) names: Option<Names>,
}

/// A key of a table.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) shape: Shape,
    pub(super) required: bool,
}

/// The entries of a map.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub(super) pattern: Option<Regex>,
    pub(super) shape: Box<Shape>,
}

/// See [`Kind::Tagged`].
#[derive(Clone, Debug)]
pub(super) struct Tagged {
    pub(super) tag: String,
    pub(super) variants: BTreeMap<String, Shape>,
}

impl Shape {
    /// Reads a schema without references.
    ///
    /// # Errors
    /// The first keyword or form that the walk does not know: it must not be passed over.
    pub(super) fn of(schema: &Value) -> Result<Self, String> {
        let schema = match schema {
            Value::Object(schema) => schema.clone(),
            Value::Bool(true) => Map::new(),
            Value::Bool(false) | Value::Null | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                return Err(format!("`{schema}` is not a schema"));
            }
        };
        refuse_unknown_keywords(&schema)?;
        Ok(Self {
            kind: kind(&schema)?,
            about: first_sentence(schema.get("description")),
            example: schema.get("examples").and_then(|examples| examples.get(0)).map(as_toml),
            later: schema.get("x-later") == Some(&Value::Bool(true)),
        })
    }

    /// Whether it is an array of tables: such arrays of several files are joined.
    pub(super) fn is_list_of_tables(&self) -> bool {
        matches!(&self.kind, Kind::List(list) if matches!(list.items.kind, Kind::Table(_) | Kind::Tagged(_)))
    }
}

fn refuse_unknown_keywords(schema: &Map<String, Value>) -> Result<(), String> {
    const KNOWN: [&str; 30] = [
        "$schema",
        "title",
        "description",
        "default",
        "examples",
        "x-later",
        "x-default",
        "deprecated",
        "format",
        "type",
        "enum",
        "const",
        "pattern",
        "patternErrorMessage",
        "minLength",
        "maxLength",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "items",
        "minItems",
        "maxItems",
        "uniqueItems",
        "properties",
        "required",
        "additionalProperties",
        "patternProperties",
        "oneOf",
        "anyOf",
    ];
    match schema.keys().find(|keyword| !KNOWN.contains(&keyword.as_str())) {
        Some(keyword) => Err(format!("keyword `{keyword}`")),
        None => Ok(()),
    }
}

fn kind(schema: &Map<String, Value>) -> Result<Kind, String> {
    if let Some(Value::Array(alternatives)) = schema.get("oneOf").or_else(|| schema.get("anyOf")) {
        return alternatives.iter().map(Shape::of).collect::<Result<_, _>>().map(one_of);
    }
    if let Some(Value::String(word)) = schema.get("const") {
        return Ok(words(std::iter::once(word.as_str())));
    }
    if let Some(Value::Array(list)) = schema.get("enum") {
        return Ok(words(list.iter().filter_map(Value::as_str)));
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("string") => text(schema),
        Some("boolean") => Ok(Kind::Flag),
        Some("integer") => Ok(Kind::Integer(integers(schema)?)),
        Some("number") => Ok(Kind::Number(bounds(schema))),
        Some("array") => list(schema),
        Some("object") => table(schema),
        None if !schema.contains_key("type") => Ok(Kind::Anything),
        other => Err(format!("type {other:?}")),
    }
}

fn words<'a>(words: impl Iterator<Item = &'a str>) -> Kind {
    let words = words.map(|word| (word.to_owned(), Word { later: false })).collect();
    Kind::Text(Text { words: Some(words), ..Text::default() })
}

fn text(schema: &Map<String, Value>) -> Result<Kind, String> {
    let pattern = schema.get("pattern").and_then(Value::as_str).map(pattern).transpose()?;
    let least = number(schema, "minLength").unwrap_or(0);
    let most = number(schema, "maxLength").unwrap_or(u64::MAX);
    Ok(Kind::Text(Text {
        words: None,
        pattern,
        complaint: schema.get("patternErrorMessage").and_then(Value::as_str).map(str::to_owned),
        characters: (least > 0 || most < u64::MAX).then_some(least..=most),
    }))
}

fn pattern(text: &str) -> Result<Regex, String> {
    Regex::new(text).map_err(|error| format!("pattern `{text}`: {error}"))
}

fn number(schema: &Map<String, Value>, keyword: &str) -> Option<u64> {
    schema.get(keyword).and_then(Value::as_u64)
}

/// What fits the Rust type that `format` names, and the bounds beside it.
fn integers(schema: &Map<String, Value>) -> Result<RangeInclusive<i128>, String> {
    let (least, most) = match schema.get("format").and_then(Value::as_str) {
        Some("uint8") => (0, i128::from(u8::MAX)),
        Some("uint16") => (0, i128::from(u16::MAX)),
        Some("uint32") => (0, i128::from(u32::MAX)),
        Some("uint64" | "uint") => (0, i128::from(u64::MAX)),
        Some("int32") => (i128::from(i32::MIN), i128::from(i32::MAX)),
        Some("int64") => (i128::from(i64::MIN), i128::from(i64::MAX)),
        other => return Err(format!("integer format {other:?}")),
    };
    let said = |keyword| schema.get(keyword).and_then(Value::as_i64).map(i128::from);
    Ok(said("minimum").map_or(least, |said| said.max(least))..=said("maximum").map_or(most, |said| said.min(most)))
}

fn bounds(schema: &Map<String, Value>) -> Bounds {
    let said = |keyword| schema.get(keyword).and_then(Value::as_f64);
    Bounds {
        least: said("minimum"),
        above: said("exclusiveMinimum"),
        most: said("maximum"),
        below: said("exclusiveMaximum"),
    }
}

fn list(schema: &Map<String, Value>) -> Result<Kind, String> {
    let items = schema.get("items").unwrap_or(&Value::Bool(true));
    Ok(Kind::List(List {
        items: Box::new(Shape::of(items)?),
        length: number(schema, "minItems").unwrap_or(0)..=number(schema, "maxItems").unwrap_or(u64::MAX),
        unique: schema.get("uniqueItems") == Some(&Value::Bool(true)),
    }))
}

/// A table is closed unless its schema says otherwise: what nobody reads must not be written.
fn table(schema: &Map<String, Value>) -> Result<Kind, String> {
    let required: Vec<_> = array(schema, "required").filter_map(Value::as_str).collect();
    let mut keys = BTreeMap::new();
    for (name, property) in object(schema, "properties") {
        let required = required.contains(&name.as_str());
        keys.insert(name.clone(), Key { shape: Shape::of(property)?, required });
    }
    Ok(Kind::Table(Table { keys, names: names(schema)? }))
}

fn names(schema: &Map<String, Value>) -> Result<Option<Names>, String> {
    let mut patterns = object(schema, "patternProperties");
    let open = schema.get("additionalProperties").filter(|open| **open != Value::Bool(false));
    match (patterns.next(), patterns.next(), open) {
        (None, _, None) => Ok(None),
        (None, _, Some(open)) => Ok(Some(Names { pattern: None, shape: Box::new(Shape::of(open)?) })),
        (Some((text, inner)), None, None) => {
            Ok(Some(Names { pattern: Some(pattern(text)?), shape: Box::new(Shape::of(inner)?) }))
        }
        _ => Err("several kinds of names in one table".to_owned()),
    }
}

fn object<'a>(schema: &'a Map<String, Value>, keyword: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    schema.get(keyword).and_then(Value::as_object).into_iter().flatten()
}

fn array<'a>(schema: &'a Map<String, Value>, keyword: &str) -> impl Iterator<Item = &'a Value> {
    schema.get(keyword).and_then(Value::as_array).into_iter().flatten()
}

/// Alternatives, in the form in which the walk can say which one was meant.
fn one_of(alternatives: Vec<Shape>) -> Kind {
    all_words(&alternatives)
        .or_else(|| tagged(&alternatives))
        .or_else(|| choice(&alternatives))
        .unwrap_or(Kind::OneOf(alternatives))
}

/// Every alternative is a word.
fn all_words(alternatives: &[Shape]) -> Option<Kind> {
    let mut all = BTreeMap::new();
    for alternative in alternatives {
        let Kind::Text(Text { words: Some(words), .. }) = &alternative.kind else { return None };
        all.extend(words.keys().map(|word| (word.clone(), Word { later: alternative.later })));
    }
    Some(Kind::Text(Text { words: Some(all), ..Text::default() }))
}

/// Every alternative is a table in which the same required key is one fixed word.
fn tagged(alternatives: &[Shape]) -> Option<Kind> {
    let Kind::Table(first) = &alternatives.first()?.kind else { return None };
    let tag = first.keys.iter().find(|(_, key)| key.required && only_word(&key.shape).is_some())?.0;
    let mut variants = BTreeMap::new();
    for alternative in alternatives {
        let Kind::Table(table) = &alternative.kind else { return None };
        variants.insert(only_word(&table.keys.get(tag)?.shape)?, alternative.clone());
    }
    Some(Kind::Tagged(Tagged { tag: tag.clone(), variants }))
}

fn only_word(shape: &Shape) -> Option<String> {
    let Kind::Text(Text { words: Some(words), .. }) = &shape.kind else { return None };
    words.keys().next().filter(|_| words.len() == 1).cloned()
}

/// Every alternative is a table of one required key.
fn choice(alternatives: &[Shape]) -> Option<Kind> {
    let mut keys = BTreeMap::new();
    for alternative in alternatives {
        let Kind::Table(Table { keys: inner, names: None }) = &alternative.kind else { return None };
        let (name, key) = inner.iter().next().filter(|(_, key)| inner.len() == 1 && key.required)?;
        let mut shape = key.shape.clone();
        shape.later |= alternative.later;
        if shape.about.is_empty() {
            shape.about.clone_from(&alternative.about);
        }
        keys.insert(name.clone(), shape);
    }
    Some(Kind::Choice(keys))
}

fn first_sentence(description: Option<&Value>) -> String {
    let text = description.and_then(Value::as_str).unwrap_or_default();
    let paragraph = text.split("\n\n").next().unwrap_or_default().replace('\n', " ");
    let end = paragraph.find(". ").unwrap_or_else(|| paragraph.trim_end_matches('.').len());
    paragraph.get(..end).unwrap_or_default().to_owned()
}

/// An example of a schema, as one would write it in TOML.
fn as_toml(example: &Value) -> String {
    match example {
        Value::Array(items) => format!("[{}]", items.iter().map(as_toml).collect::<Vec<_>>().join(", ")),
        Value::Object(table) => {
            let pairs: Vec<_> = table.iter().map(|(key, value)| format!("{key} = {}", as_toml(value))).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => example.to_string(),
    }
}
