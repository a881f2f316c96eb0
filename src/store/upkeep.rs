//! What is done on a whole store that is a file of ours: its key changed, a copy made, all of it looked at. Nouns.

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::StoreError;
use super::sealed::Copied;
use crate::fault::counted;
use crate::name::Name;
use crate::secret::Secret;

/// A store that an operator can look after.
pub trait Upkeep: Send + Sync {
    /// Makes `to` the key of the store. Whatever cuts it off, the store opens with the old key or the new one.
    fn rekey(&self, to: NewKey) -> BoxFuture<'_, Result<Rekeyed, StoreError>>;

    /// A copy of the store as it stands between two changes, sealed as it is, and checked.
    fn back_up(&self) -> BoxFuture<'_, Result<Copied, StoreError>>;

    /// Looks at all of it; every value is opened.
    fn check(&self) -> BoxFuture<'_, Result<Checked, StoreError>>;
}

/// The key that a store is to have.
#[derive(Debug)]
pub enum NewKey {
    /// One that is made for it.
    Made,
    /// This one, as it stands in a file: see [`super::key::parse`].
    Given(Secret),
    /// The credential `NAME.next`, where `NAME` is that of the configuration.
    Credential,
}

/// A store whose key was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rekeyed {
    /// How many values are under the new key.
    pub values: u64,
    /// The file in which the new key stands.
    pub key: String,
    /// What is left to do, where something is.
    pub to_do: Option<String>,
}

/// What was found in a store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// The store's id, where it could be read.
    pub id: Option<String>,
    /// How many changes were ever written, where it could be read.
    pub changes: Option<u64>,
    /// The file of the key that it opens with.
    pub key: String,
    /// How many secrets it lists.
    pub secrets: u64,
    /// How many values were opened.
    pub values: u64,
    /// What is not as it was written; none where all is intact.
    pub damage: Vec<Damage>,
}

/// One thing that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    /// Of which secret; none: of the store.
    pub secret: Option<String>,
    /// What is wrong with it.
    pub what: String,
}

/// Why there is no upkeep of the store `name`.
#[must_use]
pub fn not_ours(name: &Name, is_configured: bool) -> String {
    if is_configured {
        format!("`{name}` is no sealed store: what keeps it has its own backups and keys")
    } else {
        format!("there is no store `{name}` in the configuration")
    }
}

impl Checked {
    /// What the record of a look says of it.
    #[must_use]
    pub fn summary(&self, store: &Name) -> String {
        let found = counted(self.damage.len() as u64, "fault");
        format!("`{store}`: {found} in {} with {}", counted(self.secrets, "secret"), counted(self.values, "value"))
    }

    /// Whether all of it is as it was written.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        self.damage.is_empty()
    }

    /// Adds what is not as it was written: of `secret`, or of the store.
    pub fn found(&mut self, secret: Option<&str>, what: impl Into<String>) {
        self.damage.push(Damage { secret: secret.map(ToOwned::to_owned), what: what.into() });
    }
}
