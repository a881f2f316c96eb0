//! (E) The stores of the configuration, opened.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::Settings;
use crate::config::meant::{self, StoreKey};
use crate::crypto::Random;
use crate::name::Name;
use crate::store::files::FilesStore;
use crate::store::key::KeySource;
use crate::store::sealed::{Locked, SealedStore};
use crate::store::{Store, StoreError};
use crate::systemd;
use crate::time::Clock;

/// A store that could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("the store `{name}`: {why}")]
pub struct NotOpened {
    /// Which.
    pub name: Name,
    /// Why.
    pub why: StoreError,
}

/// Opens every store of `settings`.
///
/// # Errors
/// The first that cannot be opened.
pub(super) fn open(
    settings: &Settings,
    clock: &Arc<dyn Clock>,
    random: &Arc<dyn Random>,
) -> Result<BTreeMap<Name, Arc<dyn Store>>, NotOpened> {
    let open = |(name, store): (&Name, &meant::Store)| match one(store, clock, random) {
        Ok(store) => Ok((name.clone(), store)),
        Err(why) => Err(NotOpened { name: name.clone(), why }),
    };
    settings.stores.iter().map(open).collect()
}

fn one(store: &meant::Store, clock: &Arc<dyn Clock>, random: &Arc<dyn Random>) -> Result<Arc<dyn Store>, StoreError> {
    match store {
        meant::Store::Sealed { path, key } => {
            let lock = Locked::take(path)?;
            let key = key_source(key)?.load(&lock, &**random)?;
            Ok(Arc::new(SealedStore::open(lock, &key, Arc::clone(clock), Arc::clone(random))?))
        }
        meant::Store::Files { path } => Ok(Arc::new(FilesStore::open(path)?)),
    }
}

fn key_source(key: &StoreKey) -> Result<KeySource, StoreError> {
    match key {
        StoreKey::File { path, made } => Ok(KeySource::File { path: path.clone(), make: *made }),
        StoreKey::Credential(name) => match systemd::credential(name) {
            Some(path) => Ok(KeySource::Credential { path }),
            None => Err(StoreError::Setup(format!(
                "no credentials were passed to this process: give the unit `LoadCredentialEncrypted={name}`"
            ))),
        },
    }
}
