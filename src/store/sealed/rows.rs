//! (E) The rows of a sealed store: how versions stand in its tables.

use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::bind::{self, Tag};
use crate::crypto::seal::Sealed;
use crate::name::StoredName;
use crate::store::{StoreError, Version};
use crate::time::Wall;

/// A version with the wrapped key of its value.
pub(super) type Row = (Version, Option<Vec<u8>>);

/// The row of the store itself: its id, the tag of its key, its change counter, the tag over all.
pub(super) fn store(connection: &Connection) -> rusqlite::Result<(String, Tag, i64, Tag)> {
    connection.query_row("SELECT id, key_tag, changes, tag FROM store", [], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
    })
}

/// The names and tags of all secrets.
pub(super) fn secrets(connection: &Connection) -> rusqlite::Result<Vec<(String, Tag)>> {
    let mut query = connection.prepare("SELECT name, tag FROM secret")?;
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

/// The versions of `name`, newest first; the inner error where a row is none that this store writes.
pub(super) fn versions(connection: &Connection, name: &StoredName) -> rusqlite::Result<Result<Vec<Row>, StoreError>> {
    let mut query = connection.prepare(
        "SELECT id, stages, attempt, notes, created, wrapped FROM version WHERE name = ?1 ORDER BY nth DESC",
    )?;
    let rows = query.query_map([name.as_str()], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
    })?;
    let raw = rows.collect::<rusqlite::Result<Vec<Raw>>>()?;
    Ok(raw.into_iter().map(parse).collect())
}

/// The sealed value of a version.
pub(super) fn sealed(connection: &Connection, name: &StoredName, version: &Version) -> rusqlite::Result<Sealed> {
    let query = "SELECT wrapped, text FROM version WHERE name = ?1 AND id = ?2";
    let read = |row: &rusqlite::Row<'_>| Ok(Sealed { wrapped: row.get(0)?, text: row.get(1)? });
    connection.query_row(query, params![name.as_str(), version.id.as_str()], read)
}

/// What is written as the value of a version.
pub(super) enum Value {
    None,
    /// What stands there; this is its wrapped key.
    Same(Vec<u8>),
    New(Sealed),
}

impl Value {
    pub(super) fn wrapped(&self) -> Option<&[u8]> {
        match self {
            Self::None => None,
            Self::Same(wrapped) => Some(wrapped),
            Self::New(sealed) => Some(&sealed.wrapped),
        }
    }
}

/// Makes `versions` the rows of `name`, in a transaction that is not ended yet.
pub(super) fn write<'a>(
    connection: &'a mut Connection,
    name: &StoredName,
    versions: &[(&Version, Value)],
    tag: &Tag,
) -> rusqlite::Result<Transaction<'a>> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let kept = versions.iter().map(|(version, _)| version.id.as_str()).collect::<Vec<_>>();
    let kept = serde_json::to_string(&kept).unwrap_or_default();
    let forget = "DELETE FROM version WHERE name = ?1 AND id NOT IN (SELECT value FROM json_each(?2))";
    transaction.execute(forget, params![name.as_str(), kept])?;
    for (nth, (version, value)) in (1_i64..).zip(versions.iter().rev()) {
        write_row(&transaction, name, nth, version, value)?;
    }
    transaction.execute("INSERT OR REPLACE INTO secret VALUES (?1, ?2)", params![name.as_str(), tag])?;
    Ok(transaction)
}

fn write_row(
    transaction: &Transaction<'_>,
    name: &StoredName,
    nth: i64,
    version: &Version,
    value: &Value,
) -> rusqlite::Result<usize> {
    let (name, id, attempt) = (name.as_str(), version.id.as_str(), version.attempt.as_str());
    let (stages, notes, created) =
        (version.stages.to_string(), bind::notes_text(&version.notes), version.created.micros());
    let (wrapped, text) = match value {
        Value::Same(_) => {
            let update = "UPDATE version SET nth = ?3, stages = ?4, notes = ?5 WHERE name = ?1 AND id = ?2";
            return transaction.execute(update, params![name, id, nth, stages, notes]);
        }
        Value::None => (None, None),
        Value::New(sealed) => (Some(&sealed.wrapped), Some(&sealed.text)),
    };
    let insert = "INSERT OR REPLACE INTO version VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    transaction.execute(insert, params![name, nth, id, stages, attempt, notes, created, wrapped, text])
}

/// Gives a version another wrapped key.
pub(super) fn set_wrapped(
    transaction: &Transaction<'_>,
    name: &StoredName,
    version: &Version,
    wrapped: &[u8],
) -> rusqlite::Result<usize> {
    let update = "UPDATE version SET wrapped = ?3 WHERE name = ?1 AND id = ?2";
    transaction.execute(update, params![name.as_str(), version.id.as_str(), wrapped])
}

/// Gives a secret another tag.
pub(super) fn set_tag(transaction: &Transaction<'_>, name: &StoredName, tag: &Tag) -> rusqlite::Result<usize> {
    transaction.execute("UPDATE secret SET tag = ?2 WHERE name = ?1", params![name.as_str(), tag])
}

type Raw = (String, String, String, String, i64, Option<Vec<u8>>);

fn parse((id, stages, attempt, notes, created, wrapped): Raw) -> Result<Row, StoreError> {
    let version = Version {
        id: id.parse()?,
        stages: stages.parse()?,
        attempt: attempt.parse()?,
        notes: bind::parse_notes(&notes)?,
        created: Wall::from_micros(created),
        filled: wrapped.is_some(),
    };
    Ok((version, wrapped))
}
