//! The walk: the tree of a document beside its shape, and everything in which they differ.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::Source;
use super::places::{Marks, below, table_name};
use super::shape::{Kind, List, Names, Shape, Table, Tagged, Text, Word};
use super::words::{self, Complaint};
use crate::fault::{Fault, Place};

/// How many faults of one file are shown: a file that is not meant for us at all must not fill a disk.
pub(super) const MOST_FAULTS: usize = 500;

/// A fault, and the byte that it is about.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) offset: usize,
    pub(super) fault: Fault,
}

/// One file on its way along its shape.
pub(super) struct Walk<'a> {
    source: &'a Source,
    nth: usize,
    marks: &'a mut Marks,
    /// Inside an entry that another file has defined already: its keys are not noted.
    muted: bool,
    found: Vec<Found>,
}

impl<'a> Walk<'a> {
    /// A walk of the `nth` file, which notes in `marks` where its keys stand.
    pub(super) fn new(source: &'a Source, nth: usize, marks: &'a mut Marks) -> Self {
        Self { source, nth, marks, muted: false, found: Vec::new() }
    }

    /// Walks the whole document.
    pub(super) fn root(&mut self, tree: &DeTable<'_>, shape: &Shape) {
        self.note("", 0, true);
        match &shape.kind {
            Kind::Table(table) => self.table("", 0, tree, table),
            Kind::Tagged(tagged) => self.tagged("", 0, tree, tagged),
            Kind::Choice(keys) => self.choice("", 0, tree, keys),
            Kind::Anything => {}
            Kind::Flag | Kind::Text(_) | Kind::Integer(_) | Kind::Number(_) | Kind::List(_) | Kind::OneOf(_) => {
                self.fault("", 0, words::wrong_kind("", shape, "a table"));
            }
        }
    }

    /// What was found.
    pub(super) fn finish(mut self) -> Vec<Found> {
        if self.found.len() > MOST_FAULTS {
            self.found.truncate(MOST_FAULTS);
            let more = Fault::new(Place::file(&self.source.file), format!("more than {MOST_FAULTS} faults"));
            self.found.push(Found { offset: 0, fault: more.help("repair these first; the rest is not shown") });
        }
        self.found
    }

    fn value(&mut self, key: &str, value: &Spanned<DeValue<'_>>, shape: &Shape) {
        let at = value.span().start;
        if shape.later { self.fault(key, at, words::later(key)) } else { self.built(key, value, shape) }
    }

    /// As [`Self::value`], whether or not the effect of the value is built.
    fn built(&mut self, key: &str, value: &Spanned<DeValue<'_>>, shape: &Shape) {
        let at = value.span().start;
        let complaint = match (&shape.kind, value.get_ref()) {
            (Kind::Anything, _) | (Kind::Flag, DeValue::Boolean(_)) => None,
            (Kind::Text(text), DeValue::String(said)) => words::text(key, said, text),
            (Kind::Integer(range), DeValue::Integer(said)) => words::integer(key, said, range),
            (Kind::Number(bounds), DeValue::Float(said)) => words::float(key, said.as_str(), bounds),
            (Kind::Number(bounds), DeValue::Integer(said)) => words::whole_float(key, said, bounds),
            (Kind::List(list), DeValue::Array(said)) => return self.list(key, at, said, list),
            (Kind::Table(table), DeValue::Table(said)) => return self.table(key, at, said, table),
            (Kind::Tagged(tagged), DeValue::Table(said)) => return self.tagged(key, at, said, tagged),
            (Kind::Choice(keys), DeValue::Table(said)) => return self.choice(key, at, said, keys),
            (Kind::OneOf(shapes), _) => return self.one_of(key, value, shape, shapes),
            (_, given) => Some(words::wrong_kind(key, shape, words::kind_of(given))),
        };
        if let Some(complaint) = complaint {
            self.fault(key, at, complaint);
        }
    }

    fn list(&mut self, key: &str, at: usize, said: &DeArray<'_>, list: &List) {
        if let Some(complaint) = words::list(key, said, list) {
            self.fault(key, at, complaint);
        }
        let first = if self.muted { 0 } else { self.marks.extend(key, said.len()) };
        for (nth, item) in said.iter().enumerate() {
            let key = format!("{key}[{}]", first + nth);
            self.note(&key, item.span().start, false);
            self.value(&key, item, &list.items);
        }
    }

    fn table(&mut self, key: &str, at: usize, said: &DeTable<'_>, table: &Table) {
        for (name, value) in said {
            let text = name.get_ref().as_ref();
            let inner = below(key, text);
            match (table.keys.get(text), &table.names) {
                (Some(known), _) => self.entry(&inner, value, &known.shape, is_merged(&known.shape)),
                (None, Some(names)) => self.named(&inner, key, name, value, names),
                (None, None) => {
                    let known = table.keys.iter().filter(|(_, key)| !key.shape.later).map(|(name, _)| name.as_str());
                    self.fault(&inner, name.span().start, words::unknown_key(text, key, known));
                }
            }
        }
        for (name, missing) in table.keys.iter().filter(|(name, key)| key.required && !said.contains_key(name.as_str()))
        {
            self.fault(&below(key, name), at, words::missing(name, key, missing));
        }
    }

    fn named(
        &mut self,
        inner: &str,
        key: &str,
        name: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
        names: &Names,
    ) {
        if let Some(pattern) = names.pattern.as_ref().filter(|pattern| !pattern.is_match(name.get_ref())) {
            let complaint = words::bad_name(name.get_ref(), &table_name(key), pattern.as_str());
            self.fault(inner, name.span().start, complaint);
        }
        self.entry(inner, value, &names.shape, false);
    }

    /// Walks what stands under a key; `merged`: several files may say it, each a part.
    fn entry(&mut self, key: &str, value: &Spanned<DeValue<'_>>, shape: &Shape, merged: bool) {
        let muted = self.muted;
        self.muted |= !self.note(key, value.span().start, merged);
        self.value(key, value, shape);
        self.muted = muted;
    }

    fn tagged(&mut self, key: &str, at: usize, said: &DeTable<'_>, tagged: &Tagged) {
        let kinds = words_of(tagged);
        let inner = below(key, &tagged.tag);
        let Some(tag) = said.get(tagged.tag.as_str()) else {
            return self.fault(&inner, at, words::missing_tag(&tagged.tag, key, &kinds));
        };
        let DeValue::String(word) = tag.get_ref() else {
            return self.fault(
                &inner,
                tag.span().start,
                words::wrong_tag(&inner, words::kind_of(tag.get_ref()), &kinds),
            );
        };
        if let Some(complaint) = words::text(&inner, word, &kinds) {
            return self.fault(&inner, tag.span().start, complaint);
        }
        if let Some(Shape { kind: Kind::Table(table), .. }) = tagged.variants.get(word.as_ref()) {
            self.table(key, at, said, table);
        }
    }

    fn choice(&mut self, key: &str, at: usize, said: &DeTable<'_>, keys: &BTreeMap<String, Shape>) {
        let known = || keys.iter().filter(|(_, shape)| !shape.later).map(|(name, _)| name.as_str());
        for (name, value) in said {
            let text = name.get_ref().as_ref();
            match keys.get(text) {
                Some(shape) => self.entry(&below(key, text), value, shape, false),
                None => self.fault(&below(key, text), name.span().start, words::unknown_key(text, key, known())),
            }
        }
        if said.len() != 1 {
            self.fault(key, at, words::choose(key, known()));
        }
    }

    /// Walks the alternative that was meant: of the right kind, and with the fewest faults.
    fn one_of(&mut self, key: &str, value: &Spanned<DeValue<'_>>, shape: &Shape, shapes: &[Shape]) {
        let tried = shapes.iter().filter(|shape| shape.kind.accepts(value.get_ref())).map(|shape| {
            let mut marks = Marks::default();
            let mut trial = Walk::new(self.source, self.nth, &mut marks);
            trial.built(key, value, shape);
            (trial.found.len(), shape)
        });
        match tried.min_by_key(|(faults, _)| *faults) {
            Some((_, meant)) => self.value(key, value, meant),
            None => {
                let given = words::kind_of(value.get_ref());
                self.fault(key, value.span().start, words::wrong_kind(key, shape, given));
            }
        }
    }

    fn note(&mut self, key: &str, offset: usize, merged: bool) -> bool {
        self.muted || self.marks.note(key, (self.nth, offset), merged)
    }

    fn fault(&mut self, key: &str, offset: usize, complaint: Complaint) {
        if self.found.len() > MOST_FAULTS {
            return;
        }
        let place = Place::of_offset(&self.source.file, &self.source.text, offset);
        let place = Place { key: key.to_owned(), ..place };
        self.found.push(Found { offset, fault: Fault { place, what: complaint.what, help: complaint.help } });
    }
}

/// Tables of known keys and arrays of tables may be said in parts; what has a name of its own stands whole.
fn is_merged(shape: &Shape) -> bool {
    matches!(shape.kind, Kind::Table(_)) || shape.is_list_of_tables()
}

fn words_of(tagged: &Tagged) -> Text {
    let words = tagged.variants.iter().map(|(word, shape)| (word.clone(), Word { later: shape.later }));
    Text { words: Some(words.collect()), ..Text::default() }
}

impl Kind {
    /// Whether a value of this TOML kind can be meant.
    fn accepts(&self, value: &DeValue<'_>) -> bool {
        match self {
            Self::Anything => true,
            Self::Flag => value.is_bool(),
            Self::Text(_) => value.is_str(),
            Self::Integer(_) => value.is_integer(),
            Self::Number(_) => value.is_float() || value.is_integer(),
            Self::List(_) => value.is_array(),
            Self::Table(_) | Self::Tagged(_) | Self::Choice(_) => value.is_table(),
            Self::OneOf(shapes) => shapes.iter().any(|shape| shape.kind.accepts(value)),
        }
    }
}
