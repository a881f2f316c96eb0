//! Where secrets live: the trait that every store keeps, and the version of a secret.
//!
//! The verbs and the life of a version are frozen in `docs/formats.md`; [`versions`] decides them, pure, for
//! every store that can hold a version as it is.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::crypto::{NoRandomness, Random};
use crate::name::StoredName;
use crate::secret::Secret;
use crate::time::Wall;

mod exposure;

pub mod aws;
pub mod files;
pub mod import;
pub mod key;
mod noticeboard;
pub mod openbao;
pub mod sealed;
mod shelf;
pub mod upkeep;
pub mod versions;

pub use noticeboard::{Author, Noticeboard, Posted};
pub use shelf::{Entry, Place, Shelf};
pub use upkeep::Upkeep;
pub use versions::Versions;

/// How long a value that was read is taken for the one that the store has, where the store says nothing else.
pub const REREAD_AFTER: Duration = Duration::from_secs(300);

/// The longest value, in bytes: what AWS Secrets Manager takes.
pub const MOST_VALUE_BYTES: usize = 65_536;

/// Where secrets live.
///
/// *reserve*, *fill*, *promote*, *retire* and *note* are each a compare-and-set on the attempt: a late owner whose
/// reservation was taken over gets [`StoreError::Fenced`] and changes nothing. Each may be repeated by the same
/// attempt after a lost reply, with the same effect and answer. A store whose versions cannot be changed in place
/// may give a version another id when it is filled or promoted; its attempt stays.
///
/// A future that is dropped does not undo what it asked for.
pub trait Store: Send + Sync + 'static {
    /// The names of all secrets, sorted.
    fn list(&self) -> BoxFuture<'_, Result<Vec<StoredName>, StoreError>>;

    /// All versions of a secret, newest first, without values.
    fn versions<'a>(&'a self, name: &'a StoredName) -> BoxFuture<'a, Result<Versions, StoreError>>;

    /// One version, with its value. A version without value is [`StoreError::NotFound`].
    fn read<'a>(
        &'a self,
        name: &'a StoredName,
        which: &'a Which,
    ) -> BoxFuture<'a, Result<(Version, Secret), StoreError>>;

    /// Makes a Pending version without value, unless one stands.
    ///
    /// One whose lease has passed is taken over instead, with its value if it was filled, since the far side may
    /// know it. By the same attempt again it moves the lease.
    fn reserve<'a>(
        &'a self,
        name: &'a StoredName,
        attempt: &'a Attempt,
        lease_ends: Wall,
        notes: &'a Notes,
    ) -> BoxFuture<'a, Result<Reserved, StoreError>>;

    /// Gives the reserved version its value (1 to [`MOST_VALUE_BYTES`]), and adds `notes` to its own.
    fn fill<'a>(
        &'a self,
        name: &'a StoredName,
        attempt: &'a Attempt,
        value: &'a Secret,
        notes: &'a Notes,
    ) -> BoxFuture<'a, Result<VersionId, StoreError>>;

    /// Makes the filled version Current, what was Current Previous, and what was Previous Retired.
    fn promote<'a>(
        &'a self,
        name: &'a StoredName,
        attempt: &'a Attempt,
    ) -> BoxFuture<'a, Result<VersionId, StoreError>>;

    /// Ends a version that is not Current: its value is wiped. `attempt` is the one that the version shows.
    fn retire<'a>(
        &'a self,
        name: &'a StoredName,
        version: &'a VersionId,
        attempt: &'a Attempt,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Adds `notes` to a version, whatever became of it. `attempt` is the one that the version shows.
    fn note<'a>(
        &'a self,
        name: &'a StoredName,
        version: &'a VersionId,
        attempt: &'a Attempt,
        notes: &'a Notes,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// The store's own id, made with it, where it counts its changes: it tells its file from another's.
    fn id(&self) -> Option<&str> {
        None
    }

    /// How many changes were ever written, where the store counts them. The audit log records it with each change and
    /// at start; a smaller one than the log's last means that an older file was put back.
    fn change_counter(&self) -> Option<u64> {
        None
    }

    /// How the store is looked after as a whole, where it is a file of ours.
    fn upkeep(&self) -> Option<&dyn Upkeep> {
        None
    }

    /// Where those who share its secrets tell each other of them, if it has such a place.
    fn noticeboard(&self) -> Option<&dyn Noticeboard> {
        None
    }

    /// How long a value that was read is taken for the one that the store has.
    fn reread_after(&self) -> Duration {
        REREAD_AFTER
    }
}

/// Makes `value` the Current version of `name`, at once: reserve, fill and promote.
///
/// What an earlier `put` left unfinished is replaced once its lease has passed. A filled version that a rotation left
/// is not: the far side may know it already.
///
/// # Errors
/// The store's; [`StoreError::Taken`] while another change is under way. After any error the old version is Current,
/// except where the reply to the promotion was lost: the same `attempt` again then finds it done.
pub async fn put(
    store: &dyn Store,
    name: &StoredName,
    value: &Secret,
    attempt: &Attempt,
    lease_ends: Wall,
) -> Result<VersionId, StoreError> {
    check_value(value)?;
    match store.versions(name).await {
        Ok(versions) => {
            if versions.may_put(attempt)?.is_some() {
                // Other readers of the store may still lack what its last step tells them.
                return store.promote(name, attempt).await;
            }
        }
        Err(StoreError::NotFound(_)) => {}
        Err(error) => return Err(error),
    }
    let by_put = Notes::default().with(Notes::BY, "put")?;
    match store.reserve(name, attempt, lease_ends, &by_put).await? {
        Reserved::Ours(_) => {}
        Reserved::Taken(version) => return Err(StoreError::Taken(name.clone(), version.notes.lease_ends())),
    }
    // A crash here leaves a reservation of `put`, which the next one takes over; the old version is Current.
    store.fill(name, attempt, value, &by_put).await?;
    store.promote(name, attempt).await
}

/// Ends `version` of the secret at `place`, whoever made it.
///
/// # Errors
/// The store's; [`StoreError::Invalid`] for the version that is served.
pub async fn retire(place: &Place, version: &VersionId) -> Result<(), StoreError> {
    let versions = place.store.versions(&place.name).await?;
    let missing = || StoreError::NotFound(format!("version {version} of `{}`", place.name));
    let attempt = versions.get(version).ok_or_else(missing)?.attempt.clone();
    place.store.retire(&place.name, version, &attempt).await
}

/// Whether `value` can be stored.
///
/// # Errors
/// [`StoreError::Invalid`] when it is empty or longer than [`MOST_VALUE_BYTES`].
pub fn check_value(value: &Secret) -> Result<(), StoreError> {
    match value.len() {
        0 => Err(StoreError::Invalid("the value is empty: give at least one byte".into())),
        1..=MOST_VALUE_BYTES => Ok(()),
        len => Err(StoreError::Invalid(format!("the value has {len} bytes: at most {MOST_VALUE_BYTES} can be stored"))),
    }
}

/// One version of a secret, without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Its id.
    pub id: VersionId,
    /// Its stages.
    pub stages: Stages,
    /// The attempt that made it, or took it over.
    pub attempt: Attempt,
    /// What is noted of it.
    pub notes: Notes,
    /// When it was reserved.
    pub created: Wall,
    /// Whether it has a value.
    pub filled: bool,
}

/// Where a version stands in its life. Exactly one version of a secret is `Current`, from the first promotion on.
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

impl Stage {
    /// Every stage, in the order of a life.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Current, Self::Previous, Self::Retired];

    /// The stage as text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Current => "Current",
            Self::Previous => "Previous",
            Self::Retired => "Retired",
        }
    }
}

/// The stages of one version: never none.
///
/// One, wherever a promotion is one step. Where labels are moved one by one (AWS), a crash between two moves shows
/// here: `Pending,Current` is a promotion whose last step is missing.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stages(u8);

impl Stages {
    /// One stage.
    #[must_use]
    pub const fn of(stage: Stage) -> Self {
        Self(1 << stage as u8)
    }

    /// These and one more.
    #[must_use]
    pub const fn and(self, stage: Stage) -> Self {
        Self(self.0 | 1 << stage as u8)
    }

    /// Whether `stage` is among them.
    #[must_use]
    pub const fn has(self, stage: Stage) -> bool {
        self.0 & 1 << stage as u8 != 0
    }

    /// The stages, in the order of a life.
    pub fn iter(self) -> impl Iterator<Item = Stage> {
        Stage::ALL.into_iter().filter(move |stage| self.has(*stage))
    }
}

impl fmt::Display for Stages {
    /// With commas between: `Current`, `Pending,Current`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, stage) in self.iter().enumerate() {
            f.write_str(if nth > 0 { "," } else { "" })?;
            f.write_str(stage.as_str())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Stages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Stages {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        let unknown = || StoreError::Invalid("the stages of a version are not stages".into());
        let stage = |word| Stage::ALL.into_iter().find(|stage| stage.as_str() == word).ok_or_else(unknown);
        text.split(',').try_fold(Self(0), |stages, word| Ok(stages.and(stage(word)?)))
    }
}

/// The id of a version: chosen by the store, unique for its secret; 1 to 64 of `A-Z a-z 0-9 -`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionId(Box<str>);

/// Who is changing a secret: the fence of every compare-and-set. 16 random bytes as 32 lower-case hexadecimal digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt(Box<str>);

impl VersionId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for VersionId {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        let valid = (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let refused = || StoreError::Invalid("a version id is 1 to 64 of `A-Z a-z 0-9 -`".into());
        valid.then(|| Self(text.into())).ok_or_else(refused)
    }
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Attempt {
    /// A new one.
    ///
    /// # Errors
    /// [`NoRandomness`] when the source fails.
    pub fn new(random: &dyn Random) -> Result<Self, NoRandomness> {
        let mut bytes = [0; 16];
        random.fill(&mut bytes)?;
        Ok(Self::from_bytes(bytes))
    }

    /// The attempt of these 16 bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(format!("{:032x}", u128::from_be_bytes(bytes)).into())
    }

    /// The attempt as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Attempt {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        let valid = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let refused = || StoreError::Invalid("an attempt is 32 lower-case hexadecimal digits".into());
        valid.then(|| Self(text.into())).ok_or_else(refused)
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A small map without secrets that travels with a version: at most 12 entries, keys of 1 to 32 of `a-z 0-9 _`,
/// values of up to 512 bytes of text without control characters. The store adds at most 4 of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes(BTreeMap<Box<str>, Box<str>>);

impl Notes {
    /// The agent that holds the reservation.
    pub const AGENT: &'static str = "agent";
    /// What made the version: `put`, `rotation`.
    pub const BY: &'static str = "by";
    /// When the reservation may be taken over: microseconds since 1970, in decimal. Written by the store.
    pub const LEASE_ENDS: &'static str = "lease_ends";
    /// When the version became Current, written likewise.
    pub const PROMOTED: &'static str = "promoted";

    const MOST: usize = 12;
    const MOST_WITH_OURS: usize = 16;

    /// These notes and one more, or another value for one of them.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] when a bound is passed.
    pub fn with(self, key: &str, value: &str) -> Result<Self, StoreError> {
        self.within(Self::MOST, key, value)
    }

    fn within(mut self, most: usize, key: &str, value: &str) -> Result<Self, StoreError> {
        let named = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        let valid = (1..=32).contains(&key.len())
            && key.bytes().all(named)
            && value.len() <= 512
            && !value.chars().any(char::is_control)
            && (self.0.len() < most || self.0.contains_key(key));
        if !valid {
            return Err(StoreError::Invalid(
                "a note does not fit: a version has at most 12, each a key of 1 to 32 of `a-z 0-9 _` and at most 512 \
                 bytes of text without control characters"
                    .into(),
            ));
        }
        self.0.insert(key.into(), value.into());
        Ok(self)
    }

    /// One note.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(|value| &**value)
    }

    /// All notes, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }

    /// When the reservation may be taken over.
    #[must_use]
    pub fn lease_ends(&self) -> Option<Wall> {
        self.time(Self::LEASE_ENDS)
    }

    /// When the version became Current.
    #[must_use]
    pub fn promoted(&self) -> Option<Wall> {
        self.time(Self::PROMOTED)
    }

    fn time(&self, key: &str) -> Option<Wall> {
        self.get(key)?.parse().ok().map(Wall::from_micros)
    }

    /// These and one that a store adds, or that it has stored.
    pub(crate) fn with_stored(self, key: &str, value: &str) -> Result<Self, StoreError> {
        self.within(Self::MOST_WITH_OURS, key, value)
    }

    pub(crate) fn with_time(self, key: &str, at: Wall) -> Result<Self, StoreError> {
        self.with_stored(key, &at.micros().to_string())
    }
}

/// What `reserve` found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// The reservation is ours. It is filled where it was taken over from an owner who had filled it.
    Ours(Version),
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

/// Why a store did not do it, by whose fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// There is no such secret or version, or it has no value.
    #[error("there is no {0} in the store")]
    NotFound(String),
    /// Another attempt owns the version: this one is over.
    #[error("another attempt has taken over the change of `{0}`: look at its versions before trying again")]
    Fenced(StoredName),
    /// Another change is under way, and may be taken over from the given moment.
    #[error("a change of `{0}` is under way{until}: try again later", until = .1.map(|at| format!(" until {at}", at = at.rfc3339())).unwrap_or_default())]
    Taken(StoredName, Option<Wall>),
    /// The store cannot be written by bursar.
    #[error("the store is read-only: {0}")]
    ReadOnly(String),
    /// The request cannot be carried out as it is.
    #[error("{0}")]
    Invalid(String),
    /// What stands on the host is not as it must be: a mode, an owner, a missing key. The operator's to mend.
    #[error("{0}")]
    Setup(String),
    /// What is stored is not what was written: a wrong key, a changed byte, rows that were swapped.
    #[error("what is stored is damaged: {0}")]
    Damaged(String),
    /// The store cannot answer now.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
}

impl StoreError {
    /// The stable code: `error` in replies to operators, `code` in records.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "store_not_found",
            Self::Fenced(_) | Self::Taken(..) => "store_conflict",
            Self::ReadOnly(_) => "store_read_only",
            Self::Invalid(_) => "invalid_request",
            Self::Setup(_) => "store_setup",
            Self::Damaged(_) => "store_damaged",
            Self::Unavailable(_) => "store_unavailable",
        }
    }
}
