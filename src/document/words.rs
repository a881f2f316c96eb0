//! What is said of a difference between a document and its shape, and what to do about it.

use std::ops::RangeInclusive;

use regex::Regex;
use toml::de::{DeArray, DeInteger, DeValue};

use super::edit::nearest;
use super::places::table_name;
use super::shape::{Bounds, Key, Kind, List, Shape, Text};

/// A fault without its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    pub(super) what: String,
    pub(super) help: Option<String>,
}

impl Complaint {
    fn new(what: String) -> Option<Self> {
        Some(Self { what, help: None })
    }
}

/// A key or value whose effect is not built.
pub(super) fn later(key: &str) -> Complaint {
    Complaint { what: format!("`{key}` is not available in this version"), help: Some("take it out".to_owned()) }
}

/// A key that nothing reads.
pub(super) fn unknown_key<'a>(name: &str, table: &str, known: impl Iterator<Item = &'a str>) -> Complaint {
    let known: Vec<_> = known.collect();
    let guess =
        nearest(name, known.iter().copied()).map(|guess| format!("did you mean `{guess}`? ")).unwrap_or_default();
    let table = table_name(table);
    Complaint {
        what: format!("unknown key `{}` in {table}", shortened(name)),
        help: Some(format!("{guess}{table} knows {}", quoted(known))),
    }
}

/// A name that does not follow the grammar of names.
pub(super) fn bad_name(name: &str, table: &str, pattern: &str) -> Complaint {
    let pattern = pattern.trim_start_matches('^').trim_end_matches('$');
    Complaint {
        what: format!("`{}` cannot be a name in {table}", shortened(name)),
        help: Some(format!("a name here is `{pattern}`")),
    }
}

/// A required key that is not there.
pub(super) fn missing(name: &str, table: &str, key: &Key) -> Complaint {
    Complaint { what: format!("{} lacks the required key `{name}`", table_name(table)), help: hint(name, &key.shape) }
}

/// A table whose kind is not said.
pub(super) fn missing_tag(tag: &str, table: &str, kinds: &Text) -> Complaint {
    Complaint {
        what: format!("{} lacks the required key `{tag}`", table_name(table)),
        help: Some(format!("`{tag}` is one of {}", quoted(available(kinds)))),
    }
}

/// A table whose kind is not even a text.
pub(super) fn wrong_tag(key: &str, given: &str, kinds: &Text) -> Complaint {
    Complaint {
        what: format!("`{key}` must be a string, not {given}"),
        help: Some(format!("it is one of {}", quoted(available(kinds)))),
    }
}

/// A table that needs exactly one key.
pub(super) fn choose<'a>(key: &str, known: impl Iterator<Item = &'a str>) -> Complaint {
    Complaint { what: format!("`{key}` needs exactly one of {}", quoted(known)), help: None }
}

/// A value of another kind.
pub(super) fn wrong_kind(key: &str, shape: &Shape, given: &str) -> Complaint {
    let name = key.rsplit('.').next().unwrap_or(key);
    Complaint { what: format!("`{key}` must be {}, not {given}", expected(&shape.kind)), help: hint(name, shape) }
}

/// What is wrong with a text.
pub(super) fn text(key: &str, said: &str, text: &Text) -> Option<Complaint> {
    if let Some(words) = &text.words {
        return match words.get(said) {
            Some(word) if word.later => Some(Complaint {
                what: format!("`{key}` cannot be `{said}`: it is not available in this version"),
                help: Some(format!("available: {}", quoted(available(text)))),
            }),
            Some(_) => None,
            None => Some(not_a_word(key, said, text)),
        };
    }
    if text.pattern.as_ref().is_some_and(|pattern| !pattern.is_match(said)) {
        return Complaint::new(format!("`{key}`: `{}` is {}", shortened(said), not_matching(text)));
    }
    let length = said.chars().count() as u64;
    let allowed = text.characters.as_ref().filter(|allowed| !allowed.contains(&length))?;
    Complaint::new(format!("`{key}` has {length} characters; {}", allowed_range(allowed)))
}

fn not_a_word(key: &str, said: &str, text: &Text) -> Complaint {
    let known: Vec<_> = available(text).collect();
    let guess =
        nearest(said, known.iter().copied()).map(|guess| format!("did you mean `{guess}`? ")).unwrap_or_default();
    Complaint {
        what: format!("`{key}` cannot be `{}`", shortened(said)),
        help: Some(format!("{guess}it is one of {}", quoted(known))),
    }
}

fn not_matching(text: &Text) -> String {
    match (&text.complaint, text.pattern.as_ref().map(Regex::as_str)) {
        (Some(complaint), _) => complaint.clone(),
        (None, pattern) => format!("not of the form `{}`", pattern.unwrap_or_default()),
    }
}

/// What is wrong with an integer.
pub(super) fn integer(key: &str, said: &DeInteger<'_>, range: &RangeInclusive<i128>) -> Option<Complaint> {
    let value = i128::from_str_radix(said.as_str(), said.radix()).ok();
    if value.is_some_and(|value| range.contains(&value)) {
        return None;
    }
    Complaint::new(format!("`{key}` cannot be {}; {}", shortened(&said.to_string()), allowed_range(range)))
}

/// What is wrong with a float.
pub(super) fn float(key: &str, said: &str, bounds: &Bounds) -> Option<Complaint> {
    let value =
        said.parse::<f64>().ok().filter(|value| value.is_finite() || !said.ends_with(|c: char| c.is_ascii_digit()));
    if value.is_some_and(|value| bounds.hold(value)) {
        return None;
    }
    Complaint::new(format!("`{key}` cannot be {}{}", shortened(said), bounds.words()))
}

/// What is wrong with an integer where a float is wanted: it must fit 64 bits, which is what `serde` passes on.
pub(super) fn whole_float(key: &str, said: &DeInteger<'_>, bounds: &Bounds) -> Option<Complaint> {
    let fits = i128::from(i64::MIN)..=i128::from(u64::MAX);
    integer(key, said, &fits).or_else(|| {
        let value = i128::from_str_radix(said.as_str(), said.radix()).ok()?;
        float(key, &value.to_string(), bounds)
    })
}

impl Bounds {
    fn hold(&self, value: f64) -> bool {
        let unbounded = self.least.or(self.above).or(self.most).or(self.below).is_none();
        unbounded
            || (!value.is_nan()
                && self.least.is_none_or(|least| value >= least)
                && self.above.is_none_or(|above| value > above)
                && self.most.is_none_or(|most| value <= most)
                && self.below.is_none_or(|below| value < below))
    }

    fn words(&self) -> String {
        let bounds =
            [(self.least, "at least"), (self.above, "more than"), (self.most, "at most"), (self.below, "less than")];
        let bounds: Vec<_> =
            bounds.into_iter().filter_map(|(bound, words)| bound.map(|bound| format!("{words} {bound}"))).collect();
        if bounds.is_empty() { String::new() } else { format!("; it is {}", bounds.join(" and ")) }
    }
}

/// What is wrong with an array itself.
pub(super) fn list(key: &str, said: &DeArray<'_>, list: &List) -> Option<Complaint> {
    let length = said.len() as u64;
    if !list.length.contains(&length) {
        return Complaint::new(format!("`{key}` has {length} entries; {}", allowed_range(&list.length)));
    }
    let mut seen = std::collections::BTreeSet::new();
    let twice =
        said.iter().filter_map(|item| item.get_ref().as_str()).find(|word| list.unique && !seen.insert(*word))?;
    Complaint::new(format!("`{key}` lists `{}` twice", shortened(twice)))
}

fn allowed_range<T: std::fmt::Display + PartialEq + Copy + Extreme>(range: &RangeInclusive<T>) -> String {
    match (range.start(), range.end()) {
        (least, most) if *most == T::MOST => format!("at least {least}"),
        (least, most) => format!("{least} to {most}"),
    }
}

/// The largest value of a type: a bound that is none.
trait Extreme {
    const MOST: Self;
}

impl Extreme for u64 {
    const MOST: Self = Self::MAX;
}

impl Extreme for i128 {
    const MOST: Self = Self::MAX;
}

/// The kind of a value, with its article.
pub(super) fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date-time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

fn expected(kind: &Kind) -> String {
    match kind {
        Kind::Anything => "anything".to_owned(),
        Kind::Flag => "`true` or `false`".to_owned(),
        Kind::Text(_) => "a string".to_owned(),
        Kind::Integer(_) => "an integer".to_owned(),
        Kind::Number(_) => "a number".to_owned(),
        Kind::List(_) => "an array".to_owned(),
        Kind::Table(_) | Kind::Tagged(_) | Kind::Choice(_) => "a table".to_owned(),
        Kind::OneOf(shapes) => {
            let mut kinds: Vec<_> = shapes.iter().map(|shape| expected(&shape.kind)).collect();
            kinds.dedup();
            kinds.join(" or ")
        }
    }
}

/// What a key is for, and how it is written.
fn hint(name: &str, shape: &Shape) -> Option<String> {
    let example = shape.example.as_ref().map(|example| format!("write it as in `{name} = {example}`"));
    match (shape.about.is_empty(), example) {
        (true, None) => None,
        (true, Some(example)) => Some(example),
        (false, None) => Some(shape.about.clone()),
        (false, Some(example)) => Some(format!("{}: {example}", shape.about)),
    }
}

fn available(text: &Text) -> impl Iterator<Item = &str> {
    text.words.iter().flatten().filter(|(_, word)| !word.later).map(|(word, _)| word.as_str())
}

fn quoted<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.into_iter().map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "no keys".to_owned() } else { names.join(", ") }
}

/// What somebody wrote, as far as one line carries it.
fn shortened(said: &str) -> String {
    const MOST: usize = 60;
    let mut text: String = said.chars().take(MOST).flat_map(char::escape_debug).collect();
    if said.chars().count() > MOST {
        text.push('…');
    }
    text
}
