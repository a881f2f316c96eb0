//! The question, and the shapes of its answer: who asks for what, and what policy said.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::crypto::Digest;
use crate::name::{Name, NotAStoredName, StoredName};
use crate::time::Minute;

/// A peer after attestation: the name that `workloads.toml` gives to what the kernel said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Its name.
    pub name: Name,
    /// A workload asks at the applications' socket, an operator at the admin socket.
    pub role: Role,
    /// The uid at connect.
    pub uid: u32,
    /// The facts that named it, in the order of `peer::FactName`; what a record says of it.
    pub facts: Arc<[(&'static str, Box<str>)]>,
}

impl Workload {
    /// The workload for which the configuration has a file delivered: nobody asks, so `delivery`, the entry's name, is the
    /// one fact. `uid` will own the file.
    ///
    /// Called where a delivery is attested, and nowhere else: `tests/house.rs` lists the place.
    #[must_use]
    pub(crate) fn of_delivery(name: Name, uid: u32, delivery: &Name) -> Self {
        Self { name, role: Role::Workload, uid, facts: Arc::new([("delivery", delivery.as_str().into())]) }
    }
}

/// The two kinds of principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// `Workload::"…"`: an application.
    Workload,
    /// `Operator::"…"`: a person or tool on the admin socket.
    Operator,
}

/// What is to be done. The names are those of the policy schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Fetch a token of a provider.
    Token,
    /// Say that a provider's token was refused by the API it is for.
    Reject,
    /// Read a secret.
    Secret,
    /// Write a secret.
    Put,
    /// Start a rotation.
    Rotate,
    /// End a leaked version or a provider's tokens.
    Revoke,
    /// List secrets.
    List,
    /// Agree to what another operator asked for.
    Approve,
    /// Read configuration and policy anew.
    Reload,
    /// See the state of the agent.
    Status,
    /// See why a decision fell as it did.
    Explain,
    /// Read the audit log through the agent.
    Audit,
    /// Change a store's key, back it up, look whether it is intact, copy out of it.
    Maintain,
}

impl Action {
    /// Every action, in the order of the schema.
    pub const ALL: [Self; 13] = [
        Self::Token,
        Self::Reject,
        Self::Secret,
        Self::Put,
        Self::Rotate,
        Self::Revoke,
        Self::List,
        Self::Approve,
        Self::Reload,
        Self::Status,
        Self::Explain,
        Self::Audit,
        Self::Maintain,
    ];

    /// The action's id in the policy schema and in records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Reject => "reject",
            Self::Secret => "secret",
            Self::Put => "put",
            Self::Rotate => "rotate",
            Self::Revoke => "revoke",
            Self::List => "list",
            Self::Approve => "approve",
            Self::Reload => "reload",
            Self::Status => "status",
            Self::Explain => "explain",
            Self::Audit => "audit",
            Self::Maintain => "maintain",
        }
    }
}

/// What an action is done to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// `Provider::"…"`.
    Provider(Name),
    /// `Secret::"…"`.
    Secret(SecretId),
    /// `Agent::"self"`.
    Agent,
}

impl fmt::Display for Resource {
    /// As policy writes it: `Provider::"stripe"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Provider(name) => write!(f, "Provider::\"{name}\""),
            Self::Secret(id) => write!(f, "Secret::\"{id}\""),
            Self::Agent => f.write_str("Agent::\"self\""),
        }
    }
}

/// How policy and operators name a secret: a `[secret.NAME]` entry, or `STORE/NAME`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SecretId {
    /// An entry of the configuration.
    Entry(Name),
    /// A secret in a store: the store's name, and its name there.
    Stored(Name, StoredName),
}

impl FromStr for SecretId {
    type Err = NotAStoredName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.split_once('/') {
            Some((store, name)) => Self::Stored(name_of(store)?, name.parse()?),
            None => Self::Entry(name_of(text)?),
        })
    }
}

fn name_of(text: &str) -> Result<Name, NotAStoredName> {
    text.parse().map_err(|_| NotAStoredName::of(text))
}

impl fmt::Display for SecretId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entry(name) => write!(f, "{name}"),
            Self::Stored(store, name) => write!(f, "{store}/{name}"),
        }
    }
}

/// One scope of RFC 6749 §3.3: 1 to 256 of `%x21 / %x23-5B / %x5D-7E`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Scope(Arc<str>);

/// One audience: the absolute URI of a resource (RFC 8707 §2), or a provider's own word for one.
///
/// 1 to 512 bytes of printable ASCII without spaces and double quotes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Audience(Arc<str>);

macro_rules! word {
    ($type:ident, $error:ident, $max:literal, $valid:expr, $pattern:literal, $what:literal) => {
        impl $type {
            /// The word as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = $error;

            fn from_str(text: &str) -> Result<Self, $error> {
                let valid = (1..=$max).contains(&text.len()) && text.bytes().all($valid);
                if valid { Ok(Self(text.into())) } else { Err($error) }
            }
        }

        impl TryFrom<String> for $type {
            type Error = $error;

            fn try_from(text: String) -> Result<Self, $error> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(word: $type) -> Self {
                word.as_str().to_owned()
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                let complaint = concat!("not usable: ", $what);
                json_schema!({ "type": "string", "pattern": $pattern, "patternErrorMessage": complaint })
            }
        }

        #[doc = concat!("The text is not ", $what, ".")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
        #[error($what)]
        pub struct $error;
    };
}

word!(
    Scope,
    NotAScope,
    256,
    |b| matches!(b, 0x21 | 0x23..=0x5B | 0x5D..=0x7E),
    r"^[\x21\x23-\x5B\x5D-\x7E]{1,256}$",
    "a scope is 1 to 256 printable ASCII characters without space, `\"` and `\\` (RFC 6749 §3.3)"
);
word!(
    Audience,
    NotAnAudience,
    512,
    |b| matches!(b, 0x21 | 0x23..=0x7E),
    r"^[\x21\x23-\x7E]{1,512}$",
    "an audience is 1 to 512 printable ASCII characters without space and `\"`"
);

/// A set of words, sorted and without repetition, so that equal sets are equal bytes. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Words<T>(Arc<[T]>);

/// The scopes of a request or of a grant.
pub type Scopes = Words<Scope>;
/// The audiences of a request.
pub type Audiences = Words<Audience>;

impl<T: Ord> Words<T> {
    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many words.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The words, sorted.
    pub fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }

    /// Whether every word of `other` is in `self`.
    #[must_use]
    pub fn contains_all(&self, other: &Self) -> bool {
        other.iter().all(|word| self.contains(word))
    }

    /// Whether `word` is in the set.
    #[must_use]
    pub fn contains(&self, word: &T) -> bool {
        self.0.binary_search(word).is_ok()
    }
}

impl<T> Default for Words<T> {
    fn default() -> Self {
        Self(Arc::new([]))
    }
}

impl<T: Ord> FromIterator<T> for Words<T> {
    fn from_iter<I: IntoIterator<Item = T>>(words: I) -> Self {
        Self(words.into_iter().collect::<BTreeSet<_>>().into_iter().collect())
    }
}

impl<'a, T: Ord> IntoIterator for &'a Words<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: fmt::Display> fmt::Display for Words<T> {
    /// The words with one space between: the wire form of `scope` (RFC 6749 §3.3).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, word) in self.0.iter().enumerate() {
            if nth > 0 {
                f.write_str(" ")?;
            }
            write!(f, "{word}")?;
        }
        Ok(())
    }
}

impl<T: fmt::Debug> fmt::Debug for Words<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.iter()).finish()
    }
}

impl Scopes {
    /// Reads the wire form: scopes with single spaces between; the empty text is the empty set.
    ///
    /// # Errors
    /// [`NotAScope`] when a word is not a scope.
    pub fn parse(text: &str) -> Result<Self, NotAScope> {
        text.split(' ').filter(|word| !word.is_empty()).map(str::parse).collect()
    }
}

/// The question that policy judges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Who asks.
    pub who: Arc<Workload>,
    /// To do what.
    pub action: Action,
    /// To what.
    pub resource: Resource,
    /// The scopes that will be sent to the provider; empty for what has none.
    pub scopes: Scopes,
    /// The resources or audiences that will be sent to the provider; empty for what has none.
    pub audience: Audiences,
}

/// On what a verdict rests: enough, with the archived snapshot, to reach it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grounds {
    /// The minute that the policies saw as `now`.
    pub minute: Minute,
    /// The ids of the determining policies, sorted; for a denial by default, none.
    pub policies: Arc<[Box<str>]>,
    /// SHA-256 of the policy snapshot.
    pub snapshot: Digest,
}

/// What policy said.
#[derive(Debug)]
#[must_use]
pub enum Verdict {
    /// Allowed.
    Permit(Permit),
    /// Not allowed.
    Denied(Denied),
}

/// The proof that policy allowed an access. No token and no secret is obtained without one.
///
/// Only [`crate::policy`] makes it, it owns the access that was judged, and it cannot be cloned: one
/// permit, one lease.
#[derive(Debug)]
#[must_use]
pub struct Permit {
    access: Access,
    grounds: Grounds,
}

impl Permit {
    /// Called where policy has judged, and nowhere else: `tests/house.rs` lists the place.
    pub(crate) fn grant(access: Access, grounds: Grounds) -> Self {
        Self { access, grounds }
    }

    /// What was allowed.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// On what the permission rests.
    #[must_use]
    pub fn grounds(&self) -> &Grounds {
        &self.grounds
    }
}

/// A refusal by policy, with what the record says of it.
#[derive(Debug)]
pub struct Denied {
    /// What was refused.
    pub access: Access,
    /// On what the refusal rests.
    pub grounds: Grounds,
    /// Why.
    pub why: Why,
}

/// Why policy refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// No policy permits it.
    NoPermit,
    /// A `forbid` matched.
    Forbidden,
    /// A policy could not be evaluated, which counts as a refusal.
    Error,
}
