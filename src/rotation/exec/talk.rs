//! What is said to a program and what it says, version 1: one JSON object each way. Pure.
//!
//! ```text
//! {"v":1,"act":"create","label":"bursar-…","admin":"…","values":{…}}       {"v":1,"value":"…","id":"…"}
//! {"v":1,"act":"set","id":"…","value":"…","current":{"id":"…","value":"…"}} {"v":1}
//! {"v":1,"act":"test","id":"…","value":"…"}                                {"v":1,"accepted":true}
//! {"v":1,"act":"revoke","id":"…","value":"…","current":{…}}                {"v":1}
//! {"v":1,"act":"list"}                                                     {"v":1,"credentials":[{"id":"…","label":"…"}]}
//!                                                                          {"v":1,"error":"refused","reason":"quota exceeded"}
//! ```

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::rotation::{Ended, FarId, Found, Held, Label, Trouble};
use crate::secret::Secret;

/// The version of what is said.
pub const VERSION: u64 = 1;
/// The longest reply, in bytes.
pub const MOST_REPLY_BYTES: usize = 1 << 20;
/// The longest reason of an error, in bytes.
const MOST_REASON_BYTES: usize = 80;

/// What a program is asked.
#[derive(Clone, Copy)]
pub enum Asked<'a> {
    /// Which credentials there are.
    List,
    /// To make one.
    Create(&'a Label),
    /// To make the far side accept a value.
    Set {
        /// The value.
        new: &'a Held,
        /// What is served.
        current: Option<&'a Held>,
    },
    /// Whether it accepts one.
    Test(&'a Held),
    /// To end one.
    Revoke {
        /// Which.
        ended: &'a Ended,
        /// What is served.
        current: Option<&'a Held>,
    },
}

/// What a program has said.
#[derive(Debug, Default)]
pub struct Said {
    /// The value that it has made.
    pub value: Option<Secret>,
    /// What the far side calls it.
    pub id: Option<FarId>,
    /// Whether the far side accepts it.
    pub accepted: bool,
    /// Which credentials there are, if it tells.
    pub found: Option<Vec<Found>>,
}

impl Asked<'_> {
    const fn act(&self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Create(_) => "create",
            Self::Set { .. } => "set",
            Self::Test(_) => "test",
            Self::Revoke { .. } => "revoke",
        }
    }
}

/// The request: JSON, and a line end.
///
/// # Errors
/// [`Trouble::Setup`], where a value is no text.
pub fn request(
    asked: &Asked<'_>,
    admin: Option<&Secret>,
    values: &BTreeMap<String, String>,
) -> Result<Vec<u8>, Trouble> {
    let mut said = Map::new();
    said.insert("v".into(), VERSION.into());
    said.insert("act".into(), asked.act().into());
    said.insert("values".into(), json!(values));
    if let Some(admin) = admin {
        said.insert("admin".into(), text(admin)?);
    }
    let mut put = |id: Option<&FarId>, value: Option<&Secret>, current: Option<&Held>| {
        said.extend(credential(id, value)?);
        if let Some(current) = current {
            said.insert("current".into(), Value::Object(credential(current.far_id.as_ref(), Some(&current.value))?));
        }
        Ok(())
    };
    match asked {
        Asked::List => {}
        Asked::Create(label) => drop(said.insert("label".into(), label.as_str().into())),
        Asked::Set { new, current } => put(new.far_id.as_ref(), Some(&new.value), *current)?,
        Asked::Test(held) => put(held.far_id.as_ref(), Some(&held.value), None)?,
        Asked::Revoke { ended, current } => put(ended.far_id.as_ref(), ended.value.as_deref(), *current)?,
    }
    let mut line = Value::Object(said).to_string().into_bytes();
    line.push(b'\n');
    Ok(line)
}

fn credential(id: Option<&FarId>, value: Option<&Secret>) -> Result<Map<String, Value>, Trouble> {
    let mut members = Map::new();
    if let Some(id) = id {
        members.insert("id".into(), id.as_str().into());
    }
    if let Some(value) = value {
        members.insert("value".into(), text(value)?);
    }
    Ok(members)
}

fn text(secret: &Secret) -> Result<Value, Trouble> {
    let text = std::str::from_utf8(secret.expose());
    text.map(Value::from).map_err(|_| Trouble::Setup("a value that is no text cannot be passed to a program".into()))
}

/// A reply as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    v: u64,
    value: Option<String>,
    id: Option<String>,
    accepted: Option<bool>,
    credentials: Option<Vec<WrittenFound>>,
    error: Option<ErrorCode>,
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenFound {
    id: String,
    label: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum ErrorCode {
    Refused,
    Unavailable,
    Setup,
}

/// What the bytes of a reply say.
///
/// # Errors
/// The trouble that it names, or [`Trouble::Nonsense`]. No text holds anything of `bytes` but a reason without digits.
pub fn reply(asked: &Asked<'_>, bytes: &[u8]) -> Result<Said, Trouble> {
    let nonsense = |what: &str| Trouble::Nonsense(format!("the program's reply {what}"));
    if bytes.len() > MOST_REPLY_BYTES {
        return Err(nonsense("is longer than 1 MiB"));
    }
    let not_json = |why: serde_json::Error| {
        let (line, column) = (why.line(), why.column());
        nonsense(&format!("is no reply of version {VERSION} (line {line}, column {column})"))
    };
    let written: Written = serde_json::from_slice(bytes).map_err(not_json)?;
    if written.v != VERSION {
        return Err(nonsense(&format!("is not of version {VERSION}")));
    }
    if let Some(code) = written.error {
        let reason = written.reason.as_deref().filter(|reason| is_harmless(reason)).unwrap_or("it gives no reason");
        return Err(match code {
            ErrorCode::Refused => Trouble::Refused(reason.into()),
            ErrorCode::Unavailable => Trouble::Unavailable(reason.into()),
            ErrorCode::Setup => Trouble::Setup(format!("the program cannot act: {reason}")),
        });
    }
    let found = written.credentials.map(|found| found.into_iter().map(WrittenFound::read).collect()).transpose()?;
    let said = Said {
        value: written.value.filter(|value| !value.is_empty()).map(|value| Secret::new(value.into_bytes())),
        id: written.id.map(|id| id.parse()).transpose()?,
        accepted: written.accepted.unwrap_or(false),
        found,
    };
    match asked {
        Asked::Create(_) if said.value.is_none() => Err(nonsense("has no `value`")),
        Asked::Test(_) if written.accepted.is_none() => Err(nonsense("has no `accepted`")),
        Asked::List | Asked::Create(_) | Asked::Set { .. } | Asked::Test(_) | Asked::Revoke { .. } => Ok(said),
    }
}

impl WrittenFound {
    fn read(self) -> Result<Found, Trouble> {
        Ok(Found { far_id: self.id.parse()?, label: self.label.as_deref().and_then(Label::in_text) })
    }
}

/// Words that can hardly be a secret: few letters and spaces, and no digit.
fn is_harmless(reason: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || matches!(byte, b' ' | b'_' | b'-' | b',' | b'.');
    let words_are_short = reason.split([' ', '_', '-', ',', '.']).all(|word| word.len() <= 20);
    (1..=MOST_REASON_BYTES).contains(&reason.len()) && reason.bytes().all(plain) && words_are_short
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::Attempt;

    fn label() -> Label {
        Label::new(&Attempt::from_bytes([7; 16]))
    }

    fn held() -> Held {
        let value = Arc::new(Secret::new(b"v\"1".to_vec()));
        Held { version: "v".parse().unwrap(), far_id: Some("k1".parse().unwrap()), value }
    }

    #[test]
    fn a_request_is_one_line_of_json() {
        let (values, held) = ([("user".to_owned(), "svc".to_owned())].into(), held());
        let admin = Secret::new(b"adm".to_vec());
        let asked = Asked::Set { new: &held, current: Some(&held) };
        let line = request(&asked, Some(&admin), &values).unwrap();
        let wanted = json!({
            "v": 1, "act": "set", "values": { "user": "svc" }, "admin": "adm", "id": "k1", "value": "v\"1",
            "current": { "id": "k1", "value": "v\"1" },
        });
        assert_eq!(serde_json::from_slice::<Value>(&line).unwrap(), wanted);
        assert!(line.ends_with(b"}\n") && line.iter().filter(|byte| **byte == b'\n').count() == 1);
        let binary = Held { value: Arc::new(Secret::new(vec![0xff])), ..held };
        assert!(matches!(request(&Asked::Test(&binary), None, &values), Err(Trouble::Setup(_))));
    }

    #[test]
    fn a_reply_says_what_was_asked() {
        let label = label();
        let made = reply(&Asked::Create(&label), br#"{"v":1,"value":"s","id":"k1"}"#).unwrap();
        assert!(made.value.unwrap().matches(b"s") && made.id == Some("k1".parse().unwrap()));
        assert!(reply(&Asked::Test(&held()), b" {\"v\":1,\"accepted\":true}\n").unwrap().accepted);
        let list = format!(r#"{{"v":1,"credentials":[{{"id":"k1","label":"{label}"}},{{"id":"k0"}}]}}"#);
        let found = reply(&Asked::List, list.as_bytes()).unwrap().found.unwrap();
        assert_eq!((found.len(), &found[0].label), (2, &Some(label)));
        assert!(reply(&Asked::List, b"{\"v\":1}").unwrap().found.is_none());
    }

    #[test]
    fn an_error_has_a_class_and_a_reason_that_can_be_no_secret() {
        for (bytes, code, text) in [
            (r#"{"v":1,"error":"refused","reason":"quota exceeded"}"#, "refused", "quota exceeded"),
            (r#"{"v":1,"error":"unavailable","reason":"token s.abc123"}"#, "unavailable", "gives no reason"),
            (r#"{"v":1,"error":"setup","reason":"abcdefghijklmnopqrstuvwxyzabcdef"}"#, "setup", "gives no reason"),
            (r#"{"v":1,"error":"refused"}"#, "refused", "gives no reason"),
        ] {
            let trouble = reply(&Asked::List, bytes.as_bytes()).unwrap_err();
            assert!(trouble.code() == code && trouble.to_string().contains(text), "{trouble}");
        }
    }

    #[test]
    fn what_is_no_reply_is_nonsense_and_is_not_repeated() {
        let label = label();
        for bytes in
            ["", "canary", "{}", "[]", r#"{"v":2}"#, r#"{"v":1}"#, r#"{"v":1,"value":""}"#, r#"{"v":1,"canary":1}"#]
                .into_iter()
                .chain([
                    r#"{"v":1,"value":"canary","id":"é"}"#,
                    r#"{"v":1,"value":"a"} canary"#,
                    r#"{"v":1,"error":"canary"}"#,
                ])
        {
            let trouble = reply(&Asked::Create(&label), bytes.as_bytes()).unwrap_err();
            assert!(matches!(&trouble, Trouble::Nonsense(what) if !what.contains("canary")), "{bytes}: {trouble}");
        }
    }
}
