//! What of a value is handed over: the whole, or a member of the JSON object that it is; as text, or as base64. Pure.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Unavailable;
use crate::account::Encoding;
use crate::secret::Secret;
use crate::store::{Entry, StoreError};

/// A value, and the members of it that were asked for.
#[derive(Debug)]
pub(super) struct Parts {
    whole: Arc<Secret>,
    members: Mutex<BTreeMap<Box<str>, Arc<Secret>>>,
}

impl Parts {
    pub(super) fn of(value: Secret) -> Self {
        Self { whole: Arc::new(value), members: Mutex::default() }
    }

    /// What `entry` means of it, and how that is written. What has no entry is meant whole.
    ///
    /// # Errors
    /// [`Unavailable::Missing`], where the value is not what the entry says.
    pub(super) fn part(&self, entry: Option<&Entry>) -> Result<(Arc<Secret>, Encoding), Unavailable> {
        let value = match entry.and_then(|entry| entry.field.as_deref()) {
            Some(field) => self.member(field)?,
            None => Arc::clone(&self.whole),
        };
        let is_text = std::str::from_utf8(value.expose()).is_ok();
        let encoding = match (entry.and_then(|entry| entry.encoding), is_text) {
            (Some(Encoding::Base64), _) | (None, false) => Encoding::Base64,
            (Some(Encoding::Utf8) | None, true) => Encoding::Utf8,
            (Some(Encoding::Utf8), false) => return Err(missing("UTF-8 text, as `encoding` says, behind this name")),
        };
        Ok((value, encoding))
    }

    fn member(&self, field: &str) -> Result<Arc<Secret>, Unavailable> {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(member) = members.get(field) {
            return Ok(Arc::clone(member));
        }
        let member = member_of(self.whole.expose(), field)
            .ok_or_else(|| missing("member as `field` says, of a value that is a JSON object,"))?;
        let member = Arc::new(member);
        members.insert(field.into(), Arc::clone(&member));
        Ok(member)
    }
}

fn missing(what: &str) -> Unavailable {
    Unavailable::Missing(StoreError::NotFound(what.to_owned()))
}

/// The member `field` of the JSON object that `value` is: a text as what it says, anything else as JSON writes it, to the
/// letter. None where it is no object, or does not name the member exactly once.
#[must_use]
pub fn member_of(value: &[u8], field: &str) -> Option<Secret> {
    let mut object = serde_json::Deserializer::from_slice(value);
    let found = Member(field).deserialize(&mut object).ok()??;
    object.end().ok()?;
    match found.get().as_bytes() {
        [b'"', ..] => serde_json::from_str::<String>(found.get()).ok().map(|text| Secret::new(text.into_bytes())),
        other => Some(Secret::copy_of(other)),
    }
}

/// Finds a member in an object. Nothing else of it is copied.
struct Member<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for Member<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, object: D) -> Result<Self::Value, D::Error> {
        object.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Member<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = object.next_key::<Name<'de>>()? {
            if name.0 != self.0 {
                object.next_value::<IgnoredAny>()?;
            } else if found.replace(object.next_value()?).is_some() {
                // Readers differ in which of the two counts (RFC 8259 §4).
                return Err(serde::de::Error::custom("a member twice"));
            }
        }
        Ok(found)
    }
}

/// A member's name, copied only where it has escapes.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(field: Option<&str>, encoding: Option<Encoding>) -> Entry {
        let (store, name) = ("local".parse().unwrap(), "db".parse().unwrap());
        Entry { store, name, field: field.map(Into::into), encoding }
    }

    fn shown(value: &[u8], field: Option<&str>, encoding: Option<Encoding>) -> Option<(Vec<u8>, Encoding)> {
        let part = Parts::of(Secret::copy_of(value)).part(Some(&entry(field, encoding))).ok()?;
        Some((part.0.expose().to_vec(), part.1))
    }

    #[test]
    fn a_member_is_its_text_and_what_is_none_stays_as_it_is_written() {
        let value = br#" {"user":"app", "p\u0061ssword" : "a\"\u00e9\n","port": 5432, "big":12345678901234567890.10,
            "on":true,"none":null,"tls":{"ca": [ 1,2 ]},"":"empty","twice":1,"twice":1} "#;
        for (field, member) in [
            ("user", "app"),
            ("password", "a\"é\n"),
            ("port", "5432"),
            ("big", "12345678901234567890.10"),
            ("on", "true"),
            ("none", "null"),
            ("tls", r#"{"ca": [ 1,2 ]}"#),
            ("", "empty"),
        ] {
            assert_eq!(
                shown(value, Some(field), None).unwrap(),
                (member.as_bytes().to_vec(), Encoding::Utf8),
                "{field}"
            );
        }
        assert!(shown(value, Some("twice"), None).is_none() && shown(value, Some("other"), None).is_none());
        for odd in [
            &b"text"[..],
            b"[1]",
            b"{\"user\":\"a\"",
            b"{\"user\":\"a\"}x",
            b"\xff",
            b"\"user\"",
            b"{\"user\":\"\xff\"}",
        ] {
            assert!(shown(odd, Some("user"), None).is_none(), "{odd:?}");
        }
    }

    #[test]
    fn a_member_that_was_found_is_kept() {
        let parts = Parts::of(Secret::copy_of(br#"{"user":"app"}"#));
        let of = || parts.part(Some(&entry(Some("user"), None))).unwrap().0;
        assert!(Arc::ptr_eq(&of(), &of()));
    }

    #[test]
    fn bytes_are_base64_and_text_is_text_unless_the_entry_says_otherwise() {
        use Encoding::{Base64, Utf8};
        for (value, said, written) in [
            (&b"text"[..], None, Some(Utf8)),
            (b"\xff", None, Some(Base64)),
            (b"text", Some(Base64), Some(Base64)),
            (b"text", Some(Utf8), Some(Utf8)),
            (b"\xff", Some(Utf8), None),
        ] {
            assert_eq!(shown(value, None, said).map(|(_, encoding)| encoding), written, "{value:?} {said:?}");
        }
    }
}
