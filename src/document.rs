//! A TOML document checked against the schema of a type: every fault at once, each with its place.

use std::path::Path;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::fault::{Fault, Faults, Place};

/// Reads `text`, the whole of `file`, as a `T`.
///
/// # Errors
/// Every key that `T` does not know (with the keys it does), every value of the wrong kind, every
/// required key that is missing, and every syntax error.
pub fn read<T: DeserializeOwned + JsonSchema>(file: &Path, text: &str) -> Result<T, Faults> {
    toml::from_str(text).map_err(|error| {
        let place = error.span().map_or_else(|| Place::file(file), |span| Place::of_offset(file, text, span.start));
        Fault::new(place, error.message()).into()
    })
}
