//! Where secrets live: the trait that every store keeps, and the version of a secret.

use std::collections::BTreeMap;

use futures_util::future::BoxFuture;

use crate::name::StoredName;
use crate::secret::Secret;
use crate::time::Wall;

/// The id of a version: chosen by the store, unique for its secret; 1 to 64 of `A-Z a-z 0-9 -`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionId(pub Box<str>);

/// Who is changing a secret: the fence of every compare-and-set. 16 random bytes as 32 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt(pub Box<str>);

/// Where a version stands in its life. Exactly one version of a secret is `Current`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Reserved, perhaps filled, not yet served.
    Pending,
    /// What is served.
    Current,
    /// What was served before, and may still work at the far side.
    Previous,
    /// Over; its value is gone.
    Retired,
}

/// A small map without secrets that travels with a version: at most 16 entries, keys of 1 to 32 bytes, values of up to 512.
pub type Notes = BTreeMap<String, String>;

/// One version of a secret, without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Its id.
    pub id: VersionId,
    /// Its stage.
    pub stage: Stage,
    /// The attempt that made it.
    pub attempt: Attempt,
    /// What is noted of it.
    pub notes: Notes,
    /// When it was reserved.
    pub created: Wall,
    /// Whether it has a value.
    pub filled: bool,
}

/// What `reserve` found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// The reservation is ours.
    Ours(VersionId),
    /// Another attempt holds it.
    Taken(Version),
}

/// Which version to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one that is served.
    Current,
    /// A given one.
    Id(VersionId),
}

/// Where secrets live.
///
/// *reserve*, *fill*, *promote* and *retire* are each a compare-and-set on the attempt: a late owner whose
/// reservation was taken over gets [`StoreError::Fenced`] and changes nothing.
pub trait Store: Send + Sync + 'static {
    /// The names of all secrets, sorted.
    fn list(&self) -> BoxFuture<'_, Result<Vec<StoredName>, StoreError>>;

    /// All versions of a secret, newest first, without values.
    fn versions<'a>(&'a self, name: &'a StoredName) -> BoxFuture<'a, Result<Vec<Version>, StoreError>>;

    /// One version, with its value.
    fn read<'a>(
        &'a self,
        name: &'a StoredName,
        which: &'a Which,
    ) -> BoxFuture<'a, Result<(Version, Secret), StoreError>>;

    /// Makes a Pending version without value, unless one stands whose lease (`lease_ends` in its notes) has not passed.
    fn reserve<'a>(
        &'a self,
        name: &'a StoredName,
        attempt: &'a Attempt,
        lease_ends: Wall,
        notes: &'a Notes,
    ) -> BoxFuture<'a, Result<Reserved, StoreError>>;

    /// Gives the reserved version its value.
    fn fill<'a>(
        &'a self,
        name: &'a StoredName,
        attempt: &'a Attempt,
        value: &'a Secret,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Makes the filled version Current, what was Current Previous, and what was Previous Retired.
    fn promote<'a>(&'a self, name: &'a StoredName, attempt: &'a Attempt) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Ends a version that is not Current: its value is wiped.
    fn retire<'a>(
        &'a self,
        name: &'a StoredName,
        version: &'a VersionId,
        attempt: &'a Attempt,
    ) -> BoxFuture<'a, Result<(), StoreError>>;
}

/// Why a store did not do it, by whose fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// There is no such secret or version.
    #[error("there is no {0} in the store")]
    NotFound(String),
    /// Another attempt owns the reservation.
    #[error("another attempt owns the reservation of `{0}`")]
    Fenced(StoredName),
    /// The store cannot be written by bursar.
    #[error("this store is read-only: {0}")]
    ReadOnly(String),
    /// What is stored is not what was written: a wrong key, a changed byte, a rolled-back file.
    #[error("what is stored is damaged: {0}")]
    Damaged(String),
    /// The store cannot answer now.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The request cannot be carried out as it is.
    #[error("{0}")]
    Invalid(String),
}
