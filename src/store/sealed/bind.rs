//! What is bound to what, so that nothing in the file can be changed or moved unnoticed: pure.

use std::collections::BTreeMap;

use crate::crypto::seal::SealKey;
use crate::name::StoredName;
use crate::store::{Attempt, Notes, StoreError, Version, VersionId};

/// A keyed tag.
pub(super) type Tag = [u8; 32];

/// What a sealed value is bound to: its store, its name, its version and its attempt, each with its length.
pub(super) fn of_value(store: &str, name: &StoredName, version: &VersionId, attempt: &Attempt) -> Vec<u8> {
    let parts = ["value", store, name.as_str(), version.as_str(), attempt.as_str()];
    let part = |part: &str| [&(part.len() as u64).to_be_bytes(), part.as_bytes()].concat();
    parts.into_iter().flat_map(part).collect()
}

/// The tag by which a wrong key is told from a changed file.
pub(super) fn tag_of_key(key: &SealKey, store: &str) -> Tag {
    key.tag([b"key", store.as_bytes()])
}

/// The tag over all versions of a secret, with their stages and notes, and the wrapped key of each value.
pub(super) fn tag_of_secret<'a>(
    key: &SealKey,
    store: &str,
    name: &StoredName,
    versions: impl Iterator<Item = (&'a Version, Option<&'a [u8]>)>,
) -> Tag {
    let tags = versions.map(|(version, wrapped)| tag_of_version(key, version, wrapped)).collect::<Vec<_>>();
    let head: [&[u8]; 3] = [b"secret", store.as_bytes(), name.as_str().as_bytes()];
    key.tag(head.into_iter().chain(tags.iter().map(Tag::as_slice)))
}

fn tag_of_version(key: &SealKey, version: &Version, wrapped: Option<&[u8]>) -> Tag {
    let (stages, notes) = (version.stages.to_string(), notes_text(&version.notes));
    key.tag([
        b"version",
        version.id.as_str().as_bytes(),
        stages.as_bytes(),
        version.attempt.as_str().as_bytes(),
        notes.as_bytes(),
        &version.created.micros().to_be_bytes(),
        wrapped.unwrap_or_default(),
    ])
}

/// The tag over the whole store: its id, its schema, its change counter, and each secret's tag.
pub(super) fn tag_of_store(
    key: &SealKey,
    store: &str,
    schema: i64,
    changes: u64,
    secrets: &BTreeMap<StoredName, Tag>,
) -> Tag {
    let (schema, changes) = (schema.to_be_bytes(), changes.to_be_bytes());
    let head: [&[u8]; 4] = [b"store", store.as_bytes(), &schema, &changes];
    let secrets = secrets.iter().flat_map(|(name, tag)| [name.as_str().as_bytes(), tag]);
    key.tag(head.into_iter().chain(secrets))
}

/// The notes as a JSON object with sorted keys.
pub(super) fn notes_text(notes: &Notes) -> String {
    let notes: BTreeMap<_, _> = notes.iter().collect();
    serde_json::to_string(&notes).unwrap_or_default()
}

/// Reads notes from the JSON object in a row.
///
/// # Errors
/// [`StoreError::Invalid`] for anything else.
pub fn parse_notes(text: &str) -> Result<Notes, StoreError> {
    let notes: BTreeMap<String, String> = serde_json::from_str(text)
        .map_err(|error| StoreError::Invalid(format!("the notes of a version are not a JSON object: {error}")))?;
    notes.iter().try_fold(Notes::default(), |notes, (key, value)| notes.with_stored(key, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_read_as_they_were_written() {
        let notes = Notes::default().with("agent", "host-7").unwrap().with("before", "é \"\\").unwrap();
        assert_eq!(parse_notes(&notes_text(&notes)), Ok(notes));
        for bad in ["", "[]", r#"{"A":""}"#, r#"{"a":1}"#, r#"{"a":"\u0000"}"#, r#"{"a":""} x"#] {
            assert!(parse_notes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_a_value_is_bound_to_tells_its_parts_apart() {
        let (attempt, id) = (Attempt::from_bytes([1; 16]), |id: &str| id.parse::<VersionId>().unwrap());
        let bound = |name: &str, version| of_value("s", &name.parse().unwrap(), &id(version), &attempt);
        assert_ne!(bound("ab", "c"), bound("a", "bc"));
    }
}
