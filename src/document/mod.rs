//! A TOML document checked against the schema of a type: every fault at once, each with its place.
//!
//! `serde` stops at the first fault. So a document is read twice: `walk` compares the tree with the JSON
//! Schema of the type and names everything that is wrong; only what passed is deserialized. The two agree:
//! what passes the walk deserializes, and what would not deserialize is reported by the walk.
//!
//! Beyond what JSON Schema says, two annotations count: `patternErrorMessage` (the words for a text that
//! does not match its `pattern`) and `x-later` (a key or value that stands in the schema, and whose effect
//! is not built yet: it is refused).

mod edit;
mod file;
mod merge;
mod places;
mod schema;
mod shape;
mod syntax;
mod walk;
mod words;

use std::any::TypeId;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::DeTable;

pub use edit::nearest;
pub use file::bytes_of;
pub use places::{Places, below};
pub use schema::published;

use crate::fault::{Fault, Faults, Place};
use places::Marks;
use shape::Shape;
use walk::Walk;

/// A file that was read: its name, and its whole text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The name under which faults speak of it.
    pub file: PathBuf,
    /// Its text.
    pub text: String,
}

/// Reads `text`, the whole of `file`, as a `T`.
///
/// # Errors
/// Every key that `T` does not know (with the keys it does), every value of the wrong kind, every
/// required key that is missing, and every syntax error.
pub fn read<T: DeserializeOwned + JsonSchema + 'static>(file: &Path, text: &str) -> Result<T, Faults> {
    let source = Source { file: file.to_owned(), text: text.to_owned() };
    read_all(&[source]).map(|(value, _)| value)
}

/// Reads several files as one `T`, and says where each key stands.
///
/// Tables are merged key by key and arrays of tables are joined, in the order of the files; what has a
/// name of its own (a value, or an entry of a map such as `[provider.stripe]`) may stand in one file only.
///
/// # Errors
/// As [`read`], and every key or entry that two files define, naming both places.
pub fn read_all<T: DeserializeOwned + JsonSchema + 'static>(sources: &[Source]) -> Result<(T, Places), Faults> {
    let (whole, places) = walk_all::<T>(sources)?;
    T::deserialize(toml::Deserializer::from(Spanned::new(0..0, whole)))
        .map(|value| (value, places))
        .map_err(|error| disagreement(sources, &error))
}

/// Walks `text`, the whole of `file`, and makes nothing of it.
///
/// What passes is what [`read`] accepts: the walk reports whatever would not deserialize.
///
/// # Errors
/// As [`read`].
pub fn check<T: JsonSchema + 'static>(file: &Path, text: &str) -> Result<(), Faults> {
    let source = Source { file: file.to_owned(), text: text.to_owned() };
    walk_all::<T>(&[source]).map(|_| ())
}

/// The text that stands at `table.key` in `text`, though there may be faults elsewhere in it. A look, not a reading.
#[must_use]
pub fn glimpse(text: &str, table: &str, key: &str) -> Option<String> {
    let (tree, _) = DeTable::parse_recoverable(text);
    let table = tree.get_ref().get(table)?.get_ref().as_table()?;
    table.get(key)?.get_ref().as_str().map(str::to_owned)
}

/// The documents as one tree that passed the walk, and where its keys stand.
fn walk_all<T: JsonSchema + 'static>(sources: &[Source]) -> Result<(DeTable<'_>, Places), Faults> {
    let shape = shape_of::<T>().map_err(|keyword| defect(sources, &keyword))?;
    let mut faults = Faults::default();
    let mut marks = Marks::default();
    let mut whole = DeTable::default();
    for (nth, source) in sources.iter().enumerate() {
        let tree = walk_one(nth, source, &shape, &mut marks, &mut faults);
        merge::into(&mut whole, tree, &shape);
    }
    let places = marks.places(sources);
    faults.append(places.duplicates());
    faults.or((whole, places))
}

/// The shape of a `T`. It is made once in a process: it is a part of the program, and its patterns are slow to compile.
fn shape_of<T: JsonSchema + 'static>() -> Result<Arc<Shape>, String> {
    static KNOWN: Mutex<BTreeMap<TypeId, Arc<Shape>>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(shape) = known.get(&TypeId::of::<T>()) {
        return Ok(Arc::clone(shape));
    }
    let shape = Arc::new(Shape::of(&schema::inlined::<T>())?);
    known.insert(TypeId::of::<T>(), Arc::clone(&shape));
    Ok(shape)
}

/// Parses one file, walks it, and notes where its keys stand.
fn walk_one<'i>(nth: usize, source: &'i Source, shape: &Shape, marks: &mut Marks, faults: &mut Faults) -> DeTable<'i> {
    let (tree, errors) = DeTable::parse_recoverable(&source.text);
    let syntax = syntax::Errors::of(source, errors);
    let mut walk = Walk::new(source, nth, marks);
    walk.root(tree.get_ref(), shape);
    faults.append(syntax.and(walk.finish()));
    tree.into_inner()
}

/// The schema of a type uses what the walk does not know: a defect of ours, found by [`uncovered`] in tests.
fn defect(sources: &[Source], keyword: &str) -> Faults {
    let file = sources.first().map(|source| source.file.clone()).unwrap_or_default();
    Fault::new(Place::file(file), format!("the schema of this file cannot be checked: {keyword}"))
        .help("this is a defect of bursar; please report it")
        .into()
}

/// The type refuses what its schema admits: a rule that stands in `Deserialize` and not in `JsonSchema`.
fn disagreement(sources: &[Source], error: &toml::de::Error) -> Faults {
    let place = match (sources, error.span()) {
        ([source], Some(span)) => Place::of_offset(&source.file, &source.text, span.start),
        (sources, _) => Place::file(sources.first().map(|source| source.file.clone()).unwrap_or_default()),
    };
    Fault::new(place, error.message().replace('\n', ", ")).into()
}

/// What in the schema of `T` the walk cannot check; none for every type that [`read`] is used with.
///
/// # Errors
/// The first such keyword.
#[doc(hidden)]
pub fn uncovered<T: JsonSchema>() -> Result<(), String> {
    Shape::of(&schema::inlined::<T>()).map(|_| ())
}
