//! The grammar of names: what a workload, provider, store or secret may be called.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A name of a workload, operator, provider, store, secret, group or tag.
///
/// Matches `[a-z0-9][a-z0-9._-]{0,62}`: it is safe as a file name, a URL path segment, a metric label
/// and a Cedar entity id, without quoting in any of them. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(Arc<str>);

impl Name {
    /// The longest name, in bytes.
    pub const MAX_BYTES: usize = 63;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Self, NotAName> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let valid = text.len() <= Self::MAX_BYTES
            && text.bytes().next().is_some_and(plain)
            && text.bytes().all(|b| plain(b) || b"._-".contains(&b));
        if valid { Ok(Self(text.into())) } else { Err(NotAName(text.chars().take(80).collect())) }
    }
}

impl TryFrom<String> for Name {
    type Error = NotAName;

    fn try_from(text: String) -> Result<Self, NotAName> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.as_str().to_owned()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl JsonSchema for Name {
    fn schema_name() -> Cow<'static, str> {
        "Name".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^[a-z0-9][a-z0-9._-]{0,62}$",
            "patternErrorMessage":
                "not a name: use 1 to 63 of `a-z`, `0-9`, `.`, `_`, `-`, starting with a letter or digit",
        })
    }
}

/// The text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a name: use 1 to 63 of `a-z`, `0-9`, `.`, `_`, `-`, starting with a letter or digit")]
pub struct NotAName(String);

/// The name of a secret inside a store, where it may be a path: `stripe/api-key`.
///
/// 1 to 255 bytes of `A-Z a-z 0-9 / _ + = . @ -`, with no empty, `.` or `..` segment: what AWS Secrets
/// Manager, OpenBao and a file system all accept, and what none of them reads as "one folder up".
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StoredName(Arc<str>);

impl StoredName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for StoredName {
    type Err = NotAStoredName;

    fn from_str(text: &str) -> Result<Self, NotAStoredName> {
        let valid = text.len() <= 255
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/_+=.@-".contains(&b))
            && text.split('/').all(|segment| !matches!(segment, "" | "." | ".."));
        if valid { Ok(Self(text.into())) } else { Err(NotAStoredName::of(text)) }
    }
}

impl TryFrom<String> for StoredName {
    type Error = NotAStoredName;

    fn try_from(text: String) -> Result<Self, NotAStoredName> {
        text.parse()
    }
}

impl From<StoredName> for String {
    fn from(name: StoredName) -> Self {
        name.as_str().to_owned()
    }
}

impl From<Name> for StoredName {
    fn from(name: Name) -> Self {
        Self(name.0)
    }
}

impl fmt::Display for StoredName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StoredName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl JsonSchema for StoredName {
    fn schema_name() -> Cow<'static, str> {
        "StoredName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // A segment is not `.` and not `..`: it holds another character, or three dots.
        let segment = r"(?:\.{0,2}[A-Za-z0-9_+=@-][A-Za-z0-9_+=.@-]*|\.{3,}[A-Za-z0-9_+=.@-]*)";
        json_schema!({
            "type": "string",
            "maxLength": 255,
            "pattern": format!("^{segment}(?:/{segment})*$"),
            "patternErrorMessage":
                "not a name of a secret in a store: use 1 to 255 of `A-Z a-z 0-9 / _ + = . @ -`, without empty, `.` or `..` segments",
        })
    }
}

/// The text cannot name a secret inside a store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` cannot name a secret in a store: use 1 to 255 of `A-Z a-z 0-9 / _ + = . @ -`, without empty, `.` or `..` segments"
)]
pub struct NotAStoredName(String);

impl NotAStoredName {
    pub(crate) fn of(text: &str) -> Self {
        Self(text.chars().take(80).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_grammar() {
        let longest = "a".repeat(63);
        for good in ["a", "7", "checkout", "stripe-api.key_2", longest.as_str()] {
            assert_eq!(good.parse::<Name>().unwrap().as_str(), good);
        }
        let too_long = "a".repeat(64);
        for bad in ["", "-a", ".a", "A", "a/b", "a b", "é", "a\0", too_long.as_str()] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?} was taken for a name");
        }
    }
}
