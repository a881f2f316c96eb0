//! A secret on its way from another place into a store: it is put unless its value is there already.

use serde::{Deserialize, Serialize};

use super::{Place, StoreError, VersionId, Which};
use crate::access::SecretId;
use crate::secret::Secret;

/// What is to be put, and whether only to say what would be.
#[derive(Debug)]
pub struct Import {
    /// Where it comes from.
    pub from: From,
    /// Nothing is put.
    pub dry_run: bool,
}

/// Where an imported value comes from.
#[derive(Debug)]
pub enum From {
    /// It is here.
    Value(Secret),
    /// Another store of the configuration has it.
    Stored(SecretId),
}

/// What became of an imported secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Imported {
    /// This version was put.
    Put(VersionId),
    /// This version, which is Current, has the same value.
    Unchanged(VersionId),
    /// It would have been put.
    WouldPut,
}

impl Imported {
    /// The word for it: `put`, `unchanged`, `would_put`.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Put(_) => "put",
            Self::Unchanged(_) => "unchanged",
            Self::WouldPut => "would_put",
        }
    }

    /// The version that is Current with this value, if one is.
    #[must_use]
    pub const fn version(&self) -> Option<&VersionId> {
        match self {
            Self::Put(version) | Self::Unchanged(version) => Some(version),
            Self::WouldPut => None,
        }
    }
}

/// What is shown of an imported secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Shown {
    /// The word for what became of it.
    pub outcome: String,
    /// The version that has its value.
    pub version: Option<String>,
}

impl std::convert::From<&Imported> for Shown {
    fn from(imported: &Imported) -> Self {
        Self { outcome: imported.as_str().into(), version: imported.version().map(ToString::to_string) }
    }
}

/// The version at `place` that has this value already, if it is Current. Compared in constant time.
///
/// # Errors
/// The store's; [`StoreError::Invalid`] for a value that cannot be stored.
pub async fn same_at(place: &Place, value: &Secret) -> Result<Option<VersionId>, StoreError> {
    super::check_value(value)?;
    match place.store.read(&place.name, &Which::Current).await {
        Ok((version, current)) => Ok(current.equals(value).then_some(version.id)),
        Err(StoreError::NotFound(_)) => Ok(None),
        Err(why) => Err(why),
    }
}
