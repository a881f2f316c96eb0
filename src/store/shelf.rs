//! Which stores there are, and what the configuration calls the secrets in them. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{REREAD_AFTER, Store};
use crate::access::SecretId;
use crate::account::Encoding;
use crate::name::{Name, StoredName};

/// The stores of the configuration, and its `[secret.NAME]` entries.
#[derive(Clone, Default)]
pub struct Shelf {
    /// The stores by name.
    pub stores: BTreeMap<Name, Arc<dyn Store>>,
    /// The entries by name.
    pub entries: BTreeMap<Name, Entry>,
    /// How long a value of a store is taken for the one that it has, where the configuration says so.
    pub fresh_for: BTreeMap<Name, Duration>,
}

/// What a `[secret.NAME]` of the configuration means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The store's name.
    pub store: Name,
    /// The secret's name there.
    pub name: StoredName,
    /// The member that is meant of a value that is a JSON object; none: the whole value.
    pub field: Option<Box<str>>,
    /// How its value is written; none: as text where it is UTF-8, else as base64.
    pub encoding: Option<Encoding>,
}

/// A secret's place: its store, and its name there.
#[derive(Clone)]
pub struct Place {
    /// The store's name in the configuration.
    pub store_name: Name,
    /// The store.
    pub store: Arc<dyn Store>,
    /// Its name there.
    pub name: StoredName,
    /// How long a value of this store is taken for the one that it has, where the configuration says so.
    pub fresh_for: Option<Duration>,
}

impl Place {
    /// How long a value that was read is taken for the one that the store has.
    #[must_use]
    pub fn taken_for(&self) -> Duration {
        self.fresh_for.unwrap_or_else(|| self.store.reread_after())
    }

    /// After how long a reader should ask again. A store that is looked at more often by itself asks for no more.
    #[must_use]
    pub fn reread_after(&self) -> Duration {
        self.fresh_for.unwrap_or(REREAD_AFTER)
    }
}

impl Shelf {
    /// Where the secret that policy and operators call `id` stands.
    #[must_use]
    pub fn find(&self, id: &SecretId) -> Option<Place> {
        let (store, name) = match id {
            SecretId::Entry(entry) => self.entries.get(entry).map(|entry| (&entry.store, &entry.name))?,
            SecretId::Stored(store, name) => (store, name),
        };
        let (store_name, store) = self.stores.get_key_value(store)?;
        let fresh_for = self.fresh_for.get(store_name).copied();
        Some(Place { store_name: store_name.clone(), store: Arc::clone(store), name: name.clone(), fresh_for })
    }

    /// What the configuration says of `id`, where it is an entry.
    #[must_use]
    pub fn entry(&self, id: &SecretId) -> Option<&Entry> {
        match id {
            SecretId::Entry(name) => self.entries.get(name),
            SecretId::Stored(..) => None,
        }
    }

    /// The entries that `id` means: itself, or each that names that place.
    pub fn entries_of<'a>(&'a self, id: &'a SecretId) -> impl Iterator<Item = &'a Name> {
        let means = move |(entry, at): &(&Name, &Entry)| match id {
            SecretId::Entry(name) => *entry == name,
            SecretId::Stored(store, name) => (&at.store, &at.name) == (store, name),
        };
        self.entries.iter().filter(means).map(|(entry, _)| entry)
    }
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelf").field("stores", &self.stores.keys()).field("entries", &self.entries).finish()
    }
}
