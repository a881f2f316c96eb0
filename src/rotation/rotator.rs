//! What performs a rotation at the far side: the trait that every rotator keeps.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::secret::Secret;
use crate::store::{Attempt, Version, VersionId};

/// How many values of the credential the far side accepts at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlap {
    /// The old one and the new one: readers have time to move on.
    Two,
    /// What is set takes effect at once, and ends the one before.
    One,
}

/// Who chooses the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invents {
    /// We do: it is stored before the far side hears of it, so that nothing that works is ever unknown here.
    Us,
    /// The far side does, and says it once, in a reply.
    FarSide,
}

/// What rotates one credential at its far side: a database, an authorization server, an API.
///
/// Every act may be repeated: what has taken place already is done, and no error. Each is given at most
/// [`super::ACT_TIMEOUT`]; an act that is cut off may have taken place. No error text holds a secret.
pub trait Rotator: Send + Sync + 'static {
    /// Its word in the configuration.
    fn kind(&self) -> &'static str;

    /// How many values the far side accepts at once.
    fn overlap(&self) -> Overlap;

    /// Who chooses the value.
    fn invents(&self) -> Invents;

    /// How long the far side may take to accept what it was given, or has invented.
    fn settles_within(&self) -> Duration {
        Duration::ZERO
    }

    /// The credentials that the far side holds where it was asked to make one; none where it does not tell.
    ///
    /// Asked of a far side that invents: what it made for a reply that was lost is found by this.
    fn list(&self) -> BoxFuture<'_, Result<Option<Vec<Found>>, Trouble>> {
        async { Ok(None) }.boxed()
    }

    /// Makes a new value. Where we invent, nothing has happened at the far side after this; else `label` is left there
    /// with what was made, if there is a place for it.
    fn create<'a>(&'a self, label: &'a Label, current: Option<&'a Held>) -> BoxFuture<'a, Result<Created, Trouble>>;

    /// Makes the far side accept `new`, where we invent. `current` is what is served, if anything is.
    fn set<'a>(&'a self, new: &'a Held, current: Option<&'a Held>) -> BoxFuture<'a, Result<(), Trouble>>;

    /// Whether the far side accepts `held`: by using it, as a reader would.
    fn test<'a>(&'a self, held: &'a Held) -> BoxFuture<'a, Result<bool, Trouble>>;

    /// Ends a credential at the far side, where two are accepted. One that is not there any more is ended.
    ///
    /// It is called for a version that was replaced or given up, and, with an id alone, for what a lost reply left.
    fn revoke<'a>(&'a self, ended: &'a Ended, current: Option<&'a Held>) -> BoxFuture<'a, Result<(), Trouble>>;
}

/// A version with its value, for the length of one act.
#[derive(Clone, Debug)]
pub struct Held {
    /// Its id in the store.
    pub version: VersionId,
    /// What the far side calls it, where that was noted.
    pub far_id: Option<FarId>,
    /// The value.
    pub value: Arc<Secret>,
}

impl Held {
    /// `version` and its value.
    #[must_use]
    pub fn of(version: &Version, value: Secret) -> Self {
        Self { version: version.id.clone(), far_id: FarId::of(version), value: Arc::new(value) }
    }
}

/// What is to be ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// What the far side calls it, where that is known.
    pub far_id: Option<FarId>,
    /// The value, where there still is one.
    pub value: Option<Arc<Secret>>,
}

/// A new value, and what the far side calls it.
#[derive(Debug)]
pub struct Created {
    /// The value, as readers will get it.
    pub value: Secret,
    /// What the far side calls it, where it has a name there.
    pub far_id: Option<FarId>,
}

/// A credential at the far side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What the far side calls it.
    pub far_id: FarId,
    /// The label that was left with it, if one of ours was.
    pub label: Option<Label>,
}

/// What the far side calls a credential: 1 to 256 bytes of printable ASCII.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FarId(Box<str>);

impl FarId {
    /// The note of a version that holds it.
    pub const NOTE: &'static str = "far_id";

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the far side calls `version`, where that was noted.
    #[must_use]
    pub fn of(version: &Version) -> Option<Self> {
        version.notes.get(Self::NOTE)?.parse().ok()
    }
}

impl FromStr for FarId {
    type Err = Trouble;

    fn from_str(text: &str) -> Result<Self, Trouble> {
        let valid = (1..=256).contains(&text.len()) && text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
        valid
            .then(|| Self(text.into()))
            .ok_or_else(|| Trouble::Nonsense("it names a credential by no usable id".into()))
    }
}

impl fmt::Display for FarId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for FarId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is left at the far side with a credential, so that it is known again: `bursar-` and the attempt that reserved its
/// version, 39 bytes of `a-z 0-9 -`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(Box<str>);

impl Label {
    /// The note of a version that holds it: it stays when another attempt takes the version over.
    pub const NOTE: &'static str = "label";
    const PREFIX: &'static str = "bursar-";

    /// The label of what `attempt` makes.
    #[must_use]
    pub fn new(attempt: &Attempt) -> Self {
        Self(format!("{}{attempt}", Self::PREFIX).into())
    }

    /// The label of `version`, where it has one.
    #[must_use]
    pub fn of(version: &Version) -> Option<Self> {
        Self::in_text(version.notes.get(Self::NOTE)?)
    }

    /// The label that stands anywhere in `text`, as a far side gives names and notes back.
    #[must_use]
    pub fn in_text(text: &str) -> Option<Self> {
        text.match_indices(Self::PREFIX).find_map(|(at, prefix)| {
            let attempt: Attempt = text.get(at + prefix.len()..)?.get(..32)?.parse().ok()?;
            Some(Self::new(&attempt))
        })
    }

    /// The label as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why an act did not succeed, by whose fault. No text holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// The far side said no, and nothing has happened there: the same again will not help.
    #[error("the far side refused: {0}")]
    Refused(String),
    /// It did not answer, or not so that we know whether it has happened.
    #[error("the far side is unavailable: {0}")]
    Unavailable(String),
    /// It answered what is no answer.
    #[error("the far side answered nonsense: {0}")]
    Nonsense(String),
    /// Our own credential or configuration is missing or cannot be used; nothing was asked.
    #[error("{0}")]
    Setup(String),
}

impl Trouble {
    /// The word in records.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Refused(_) => "refused",
            Self::Unavailable(_) => "unavailable",
            Self::Nonsense(_) => "nonsense",
            Self::Setup(_) => "setup",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_found_in_whatever_a_far_side_makes_of_it() {
        let label = Label::new(&Attempt::from_bytes([7; 16]));
        for text in [format!("{label}"), format!("bursar-x {label} (key of host-7)"), format!("note: {label}")] {
            assert_eq!(Label::in_text(&text), Some(label.clone()), "{text}");
        }
        assert_eq!(Label::in_text("bursar-0707"), None);
        assert_eq!(Label::in_text("bursar-é"), None);
    }
}
