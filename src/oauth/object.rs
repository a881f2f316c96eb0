//! One JSON object out of foreign bytes: the only shape that a token endpoint or a metadata document answers with.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

/// The members of a JSON object that names none of them twice (RFC 8259 §4 leaves open which one would count).
///
/// No `Debug`: a member may be a token.
pub struct Object(BTreeMap<String, Value>);

impl Object {
    /// Reads `bytes` as one object and nothing after it.
    ///
    /// # Errors
    /// [`NotAnObject`]; its text holds nothing of `bytes`.
    pub fn read(bytes: &[u8]) -> Result<Self, NotAnObject> {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(NotAnObject::Empty);
        }
        match serde_json::from_slice::<Members>(bytes) {
            Ok(Members { members, repeated: false }) => Ok(Self(members)),
            Ok(Members { repeated: true, .. }) => Err(NotAnObject::Repeated),
            Err(error) if error.is_data() => Err(NotAnObject::Other),
            Err(error) => Err(NotAnObject::Syntax { line: error.line(), column: error.column() }),
        }
    }

    /// Takes a member out.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name)
    }

    /// A member, if it is a text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }
}

/// Why bytes are not one JSON object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnObject {
    /// Nothing is there.
    #[error("the body is empty")]
    Empty,
    /// It is not JSON.
    #[error("the body is not JSON (line {line}, column {column})")]
    Syntax {
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
    },
    /// A member stands twice.
    #[error("the body is a JSON object that names a member twice")]
    Repeated,
    /// It is JSON, but no object.
    #[error("the body is JSON, but not an object")]
    Other,
}

struct Members {
    members: BTreeMap<String, Value>,
    repeated: bool,
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Collect)
    }
}

struct Collect;

impl<'de> Visitor<'de> for Collect {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
        let mut found = Members { members: BTreeMap::new(), repeated: false };
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            found.repeated |= found.members.insert(name, value).is_some();
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> Option<NotAnObject> {
        Object::read(text.as_bytes()).err()
    }

    #[test]
    fn an_object_is_read_whole_or_not_at_all() {
        assert_eq!(Object::read(br#" {"a":"b","c":1} "#).unwrap().text("a"), Some("b"));
        assert_eq!(error(" \n"), Some(NotAnObject::Empty));
        assert_eq!(error(r#""a token""#), Some(NotAnObject::Other));
        assert_eq!(error(r#"{"a":1,"\u0061":2}"#), Some(NotAnObject::Repeated));
        for bad in ["<html>", r#"{"a":1} {}"#, r#"{"a":1"#, r#"{"a":1e999}"#, "\u{feff}{}"] {
            assert!(matches!(error(bad), Some(NotAnObject::Syntax { .. })), "{bad}");
        }
        assert!(matches!(error(&"[".repeat(10_000)), Some(NotAnObject::Other | NotAnObject::Syntax { .. })));
    }
}
