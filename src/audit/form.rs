//! What a line may look like, and the reader that accepts nothing else.
//!
//! The form is narrower than JSON: no space between tokens, strings of printable ASCII with the escapes
//! `\"`, `\\` and `\uXXXX`, whole numbers up to 2^53, no key twice. So two readers never see two things
//! in one line.

use serde_json::{Map, Value};

use crate::time::Wall;

use super::MAX_LINE_BYTES;
use super::reader::Reader;

/// The keys of every kind after `v, i, t, kind`, in their order. Others may follow them.
#[rustfmt::skip]
pub const KINDS: [(&str, &[&str]); 12] = [
    ("start", &[
        "log", "origin", "agent", "host", "boot", "version", "mode", "durability", "pid", "uid", "policy_digest",
    ]),
    ("stop", &["log", "reason", "segment", "from", "to"]),
    ("segment", &["log", "segment", "former"]),
    ("reopen", &["log", "segment", "former", "cause", "errno", "void", "dropped"]),
    ("reload", &["policy_digest", "result", "detail"]),
    ("store", &["store", "id", "changes", "noted"]),
    ("intent", &["actor", "who", "uid", "facts", "effect", "resource_type", "resource", "scopes", "audience"]),
    ("outcome", &["intent", "result", "code", "detail", "fingerprint", "granted", "lifetime_us", "took_us"]),
    ("release", &[
        "actor", "who", "uid", "facts", "action", "resource_type", "resource", "scopes", "audience",
        "minute", "verdict", "policies", "policies_total", "policy_digest",
        "granted", "obtained", "expires", "freshness", "fingerprint", "intent", "took_us", "trace",
    ]),
    ("refusal", &[
        "actor", "who", "uid", "facts", "action", "resource_type", "resource", "scopes", "audience",
        "minute", "verdict", "policies", "policies_total", "policy_digest",
        "code", "detail", "trace",
    ]),
    ("suppressed", &["whose", "uid", "total", "counts", "under"]),
    ("operation", &[
        "actor", "who", "uid", "facts", "action", "resource_type", "resource", "scopes", "audience",
        "minute", "verdict", "policies", "policies_total", "policy_digest",
        "result", "detail",
    ]),
];

/// The first keys of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// `i`: the index of the record.
    pub index: u64,
    /// `t`: when it was made.
    pub at: Wall,
    /// `kind`.
    pub kind: &'a str,
}

/// Checks a line, without its newline, from end to end.
///
/// # Errors
/// [`NotALine`] with the first byte that is not of the form.
pub fn check(line: &[u8]) -> Result<Head<'_>, NotALine> {
    if line.len() > MAX_LINE_BYTES {
        return Err(NotALine { at: MAX_LINE_BYTES, what: "the line is longer than 8192 bytes" });
    }
    Reader::new(line).line()
}

/// A line that is of the form, with its keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    text: Box<str>,
    index: u64,
    at: Wall,
    keys: Map<String, Value>,
}

impl Line {
    /// Reads a line, without its newline.
    ///
    /// # Errors
    /// [`NotALine`] as [`check`].
    pub fn parse(line: &[u8]) -> Result<Self, NotALine> {
        let Head { index, at, .. } = check(line)?;
        let not_json = NotALine { at: 0, what: "the line is not JSON" };
        let keys = serde_json::from_slice(line).map_err(|_| not_json)?;
        let text = std::str::from_utf8(line).map_err(|_| not_json)?.into();
        Ok(Self { text, index, at, keys })
    }

    /// The bytes as they stand in the log, without the newline.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The index of the record.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// When it was made.
    #[must_use]
    pub const fn at(&self) -> Wall {
        self.at
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.text("kind").unwrap_or_default()
    }

    /// The value of `key`, known or not.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.keys.get(key)
    }

    /// The value of `key`, if it is a text.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }

    /// The value of `key`, if it is a number.
    #[must_use]
    pub fn number(&self, key: &str) -> Option<u64> {
        self.get(key)?.as_u64()
    }

    /// The value of `key` as a `T`, if it is one.
    pub(super) fn read<T: serde::de::DeserializeOwned>(&self, key: &str) -> Option<T> {
        T::deserialize(self.get(key)?).ok()
    }
}

/// The bytes are not a line of this format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} (at byte {at} of the line)")]
pub struct NotALine {
    /// The first byte that is not of the form, from 0.
    pub at: usize,
    /// What is wrong with it.
    pub what: &'static str,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STOP: &str = r#"{"v":1,"i":7,"t":"2026-11-21T06:00:00.000000Z","kind":"stop","log":"","reason":"","segment":1,"from":"","to":""}"#;

    #[test]
    fn new_keys_and_new_kinds_are_kept() {
        let longer = STOP.replace('}', r#","later":{"a":[1,null,true,"\u00e9"]}}"#);
        assert_eq!(check(longer.as_bytes()).unwrap().kind, "stop");
        assert!(Line::parse(longer.as_bytes()).unwrap().get("later").is_some());
        let other = STOP.replace("stop", "rotation");
        assert_eq!(check(other.as_bytes()).unwrap(), Head { kind: "rotation", ..check(STOP.as_bytes()).unwrap() });
    }

    #[test]
    fn another_form_of_the_same_json_is_refused() {
        for (from, to) in [
            ("\"i\":7", "\"i\": 7"),
            ("\"i\":7", "\"i\":07"),
            ("\"i\":7", "\"i\":7.0"),
            ("\"i\":7", "\"i\":9007199254740993"),
            ("\"v\":1", "\"v\":2"),
            ("\"v\":1,\"i\":7", "\"i\":7,\"v\":1"),
            ("\"reason\":\"\"", "\"reason\":\"\\n\""),
            ("\"reason\":\"\"", "\"reason\":\"\\u0041\""),
            ("\"reason\":\"\"", "\"reason\":\"\\u00E9\""),
            ("\"reason\":\"\"", "\"reason\":\"\\ud800\""),
            ("\"reason\":\"\"", "\"reason\":\"é\""),
            ("\"log\":\"\",\"reason\":\"\"", "\"reason\":\"\",\"log\":\"\""),
            (",\"to\":\"\"", ""),
            ("\"to\":\"\"", "\"to\":\"\",\"kind\":\"start\""),
            ("\"to\":\"\"", "\"to\":\"\",\"x\":1,\"x\":2"),
            ("\"to\":\"\"", "\"to\":{\"x\":1,\"x\":2}"),
            ("\"to\":\"\"}", "\"to\":\"\"} "),
        ] {
            let other = STOP.replace(from, to);
            assert_ne!(other, STOP, "{from}");
            assert!(check(other.as_bytes()).is_err(), "{other}");
        }
    }

    proptest! {
        #[test]
        fn what_is_of_the_form_is_json(cut in 0..STOP.len(), with in "[\\x20-\\x7e]{0,8}", skip in 0_usize..8) {
            let rest = STOP.get(cut + skip..).unwrap_or_default();
            let line = format!("{}{with}{rest}", &STOP[..cut]);
            if check(line.as_bytes()).is_ok() {
                let value: Value = serde_json::from_str(&line).unwrap();
                prop_assert!(value.is_object());
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), cut in 0..STOP.len()) {
            let mut line = STOP.as_bytes()[..cut].to_vec();
            line.extend(bytes);
            let _ = check(&line);
        }
    }
}
