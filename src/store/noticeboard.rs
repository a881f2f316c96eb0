//! Where those who share a secret tell each other of it, beside the secret. Nouns.

use std::fmt;
use std::str::FromStr;

use futures_util::future::BoxFuture;

use super::{Attempt, StoreError};
use crate::crypto::Digest;
use crate::name::StoredName;

/// A store that carries notices. Each is its author's alone to change, so that no two writers meet.
pub trait Noticeboard: Send + Sync {
    /// Puts up `text`, a JSON object, as what `author` tells of `name`, in place of what it told before.
    fn put_up<'a>(
        &'a self,
        name: &'a StoredName,
        author: &'a Author,
        text: &'a str,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// What stands there of `name`, whoever wrote it.
    fn posted<'a>(&'a self, name: &'a StoredName) -> BoxFuture<'a, Result<Vec<Posted>, StoreError>>;

    /// Takes down what `author` told of `name`.
    fn take_down<'a>(&'a self, name: &'a StoredName, author: &'a Author) -> BoxFuture<'a, Result<(), StoreError>>;
}

/// What stands on a board: foreign bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posted {
    /// Whose it is, by where it stands.
    pub author: Author,
    /// The text; empty where it is longer than [`Posted::MOST_BYTES`], which no notice is.
    pub text: String,
}

impl Posted {
    /// The longest text, in bytes.
    pub const MOST_BYTES: usize = 32_768;
}

/// Who tells something: 32 lower-case hexadecimal digits of the SHA-256 of what names the agent, which need not fit into
/// a path.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Author(Attempt);

impl Author {
    /// The author that `agent` is.
    #[must_use]
    pub fn of(agent: &str) -> Self {
        let digest = Digest::of(agent.as_bytes());
        Self(Attempt::from_bytes(digest.bytes().first_chunk().copied().unwrap_or_default()))
    }
}

impl FromStr for Author {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        let strange = |_| StoreError::Damaged("among the notices stands what is none: delete it".into());
        text.parse().map(Self).map_err(strange)
    }
}

impl fmt::Display for Author {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Author {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
