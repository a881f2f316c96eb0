//! (E) A look at all of a sealed store: every page, tag and value. What is damaged is named, and the look goes on.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::bind::{self, Tag};
use super::file::SCHEMA;
use super::rows::{self, Row};
use crate::crypto::seal::SealKey;
use crate::name::StoredName;
use crate::store::upkeep::Checked;
use crate::store::{StoreError, Versions};

/// The most complaints of SQLite that are told.
const MOST_COMPLAINTS: usize = 20;

/// Looks at all that stands in `connection`.
pub(super) fn all(connection: &Connection, key: &SealKey) -> Checked {
    let mut checked = Checked::default();
    for complaint in pages(connection) {
        checked.found(None, format!("SQLite's integrity check: {complaint}"));
    }
    match rows::store(connection) {
        Ok((id, key_tag, changes, tag)) if bind::tag_of_key(key, &id) == key_tag => {
            let look = Look { connection, key, id: &id };
            look.at_secrets(changes, &tag, &mut checked);
            checked.changes = u64::try_from(changes).ok();
            checked.id = Some(id);
        }
        Ok(_) => checked.found(None, "its id or the tag of its key has been changed, or it was made with another key"),
        Err(error) => checked.found(None, format!("its first row cannot be read: {error}")),
    }
    checked
}

/// What SQLite finds wrong with its pages and indices.
fn pages(connection: &Connection) -> Vec<String> {
    let complaints = || {
        let mut query = connection.prepare(&format!("PRAGMA integrity_check({MOST_COMPLAINTS})"))?;
        let rows = query.query_map([], |row| row.get::<_, String>(0))?;
        rows.collect::<rusqlite::Result<Vec<_>>>()
    };
    match complaints() {
        Ok(complaints) => complaints.into_iter().filter(|complaint| complaint != "ok").collect(),
        Err(error) => vec![error.to_string()],
    }
}

struct Look<'a> {
    connection: &'a Connection,
    key: &'a SealKey,
    id: &'a str,
}

impl Look<'_> {
    fn at_secrets(&self, changes: i64, tag: &Tag, checked: &mut Checked) {
        let rows = match rows::secrets(self.connection) {
            Ok(rows) => rows,
            Err(error) => return checked.found(None, format!("its list of secrets cannot be read: {error}")),
        };
        let mut tags = BTreeMap::new();
        for (name, tag) in rows {
            match name.parse::<StoredName>() {
                Ok(name) => drop(tags.insert(name, tag)),
                Err(_) => checked.found(None, "the name of a secret has been changed"),
            }
        }
        let changes = u64::try_from(changes).unwrap_or(0);
        if bind::tag_of_store(self.key, self.id, SCHEMA, changes, &tags) != *tag {
            checked.found(None, "its list of secrets or its change counter has been changed");
        }
        checked.secrets = tags.len() as u64;
        for (name, tag) in &tags {
            if let Err(what) = self.at_secret(name, tag, checked) {
                checked.found(Some(name.as_str()), what);
            }
        }
    }

    fn at_secret(&self, name: &StoredName, tag: &Tag, checked: &mut Checked) -> Result<(), String> {
        let rows = rows::versions(self.connection, name).map_err(|error| error.to_string())?;
        let rows = rows.map_err(|_: StoreError| "a version of it has been changed")?;
        let found = bind::tag_of_secret(self.key, self.id, name, rows.iter().map(|(v, w)| (v, w.as_deref())));
        if found != *tag {
            return Err("its versions have been changed".into());
        }
        let versions = rows.iter().map(|(version, _)| version.clone()).collect();
        Versions::new(name.clone(), versions).map_err(|error| error.to_string())?;
        self.at_values(name, &rows, checked)
    }

    fn at_values(&self, name: &StoredName, rows: &[Row], checked: &mut Checked) -> Result<(), String> {
        for (version, _) in rows.iter().filter(|(version, _)| version.filled) {
            let sealed = rows::sealed(self.connection, name, version).map_err(|error| error.to_string())?;
            let bound = bind::of_value(self.id, name, &version.id, &version.attempt);
            let opened = self.key.open(&sealed, &bound);
            drop(opened.map_err(|_| format!("the value of version {} has been changed", version.id))?);
            checked.values += 1;
        }
        Ok(())
    }
}
