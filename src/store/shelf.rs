//! Which stores there are, and what the configuration calls the secrets in them. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::Store;
use crate::access::SecretId;
use crate::name::{Name, StoredName};

/// The stores of the configuration, and its `[secret.NAME]` entries.
#[derive(Clone, Default)]
pub struct Shelf {
    /// The stores by name.
    pub stores: BTreeMap<Name, Arc<dyn Store>>,
    /// The entries: the store's name, and the secret's name there.
    pub entries: BTreeMap<Name, (Name, StoredName)>,
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
}

impl Shelf {
    /// Where the secret that policy and operators call `id` stands.
    #[must_use]
    pub fn find(&self, id: &SecretId) -> Option<Place> {
        let (store, name) = match id {
            SecretId::Entry(entry) => self.entries.get(entry)?,
            SecretId::Stored(store, name) => &(store.clone(), name.clone()),
        };
        let (store_name, store) = self.stores.get_key_value(store)?;
        Some(Place { store_name: store_name.clone(), store: Arc::clone(store), name: name.clone() })
    }
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelf").field("stores", &self.stores.keys()).field("entries", &self.entries).finish()
    }
}
