//! Text with placeholders, such as `token {admin}`: parsed at the door, filled for one call. Pure.
//!
//! `{name}` stands for what a call knows, `{name/pointer}` for a part of it where it is JSON (RFC 6901), and `{{` and
//! `}}` for the braces themselves.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use crate::rotation::{FarId, Label, Trouble};
use crate::secret::Secret;

/// The longest text of a template, in bytes.
const MOST_BYTES: usize = 8_192;

/// What the operator has given a name of their own: it is put into the template when that is parsed.
pub type Values = BTreeMap<String, String>;

/// A text with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Slot(Slot),
}

/// A placeholder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// What it stands for.
    pub what: What,
    /// Which part of it.
    pub part: Pointer,
}

/// What a placeholder stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The label that is left with a new credential.
    Label,
    /// What the far side calls the credential.
    Id,
    /// The value that is served.
    Value,
    /// The credential with which we act.
    Admin,
    /// The answer to the call that made the credential.
    Reply,
    /// The number of a page of a list.
    Page,
}

impl What {
    /// Every one.
    pub const ALL: [Self; 6] = [Self::Label, Self::Id, Self::Value, Self::Admin, Self::Reply, Self::Page];

    /// Its name in a template.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Label => "label",
            Self::Id => "id",
            Self::Value => "value",
            Self::Admin => "admin",
            Self::Reply => "reply",
            Self::Page => "page",
        }
    }

    /// Whether it is a secret.
    #[must_use]
    pub const fn is_secret(self) -> bool {
        match self {
            Self::Value | Self::Admin | Self::Reply => true,
            Self::Label | Self::Id | Self::Page => false,
        }
    }
}

/// How a placeholder is written into its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// As it is.
    Plain,
    /// Percent-encoded but for `A-Z a-z 0-9 - . _ ~` (RFC 3986 §2.3): it stays one segment or one value of a URL.
    Encoded,
}

impl Written {
    fn write(self, text: &str, out: &mut String) {
        match self {
            Self::Plain => out.push_str(text),
            Self::Encoded => text.bytes().for_each(|byte| match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
                _ => out.push_str(&format!("%{byte:02X}")),
            }),
        }
    }
}

/// What stands for the placeholders in one call.
#[derive(Clone, Copy, Default)]
pub struct Given<'a> {
    /// The label.
    pub label: Option<&'a Label>,
    /// The id.
    pub id: Option<&'a FarId>,
    /// The value.
    pub value: Option<&'a Secret>,
    /// The credential with which we act.
    pub admin: Option<&'a Secret>,
    /// The answer.
    pub reply: Option<&'a Value>,
    /// The page.
    pub page: u32,
}

impl Given<'_> {
    fn text(&self, slot: &Slot) -> Result<Cow<'_, str>, Trouble> {
        let text = match slot.what {
            What::Label => self.label.map(|label| label.as_str().into()),
            What::Id => self.id.map(|id| id.as_str().into()),
            What::Value => self.value.and_then(|value| slot.part.within(value)),
            What::Admin => self.admin.and_then(|admin| slot.part.within(admin)),
            What::Reply => self.reply.and_then(|reply| slot.part.text(reply)).map(Cow::from),
            What::Page => Some(self.page.to_string().into()),
        };
        text.ok_or_else(|| match slot.what {
            What::Reply => Trouble::Nonsense(format!("its answer has no `{}`", slot.part)),
            What::Label | What::Id | What::Value | What::Admin | What::Page => {
                Trouble::Setup(format!("there is nothing that stands for `{slot}`"))
            }
        })
    }
}

impl Template {
    /// Reads `text`; what `values` name is put in at once, written as `written` says.
    ///
    /// # Errors
    /// [`NotATemplate`].
    pub fn parse(text: &str, values: &Values, written: Written) -> Result<Self, NotATemplate> {
        if text.len() > MOST_BYTES {
            return Err(NotATemplate(format!("is longer than {MOST_BYTES} bytes")));
        }
        let (mut pieces, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find(['{', '}']) {
            let (before, brace) = rest.split_at(at);
            plain.push_str(before);
            if let Some(after) = ["{{", "}}"].iter().find_map(|twice| brace.strip_prefix(twice)) {
                plain.extend(brace.chars().next());
                rest = after;
                continue;
            }
            let inside = brace.strip_prefix('{').and_then(|inside| inside.split_once('}'));
            let (name, after) = inside.ok_or_else(lonely)?;
            match named(name, values)? {
                Ok(value) if name == BASE => plain.push_str(value),
                Ok(value) => written.write(value, &mut plain),
                Err(slot) => pieces.extend([Piece::Text(std::mem::take(&mut plain)), Piece::Slot(slot)]),
            }
            rest = after;
        }
        plain.push_str(rest);
        pieces.push(Piece::Text(plain));
        Ok(Self(pieces))
    }

    /// Its placeholders.
    pub fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Slot(slot) => Some(slot),
            Piece::Text(_) => None,
        })
    }

    /// What stands before its first placeholder.
    #[must_use]
    pub fn beginning(&self) -> &str {
        match self.0.first() {
            Some(Piece::Text(text)) => text,
            Some(Piece::Slot(_)) | None => "",
        }
    }

    /// The text, with what is `given` in place of the placeholders.
    ///
    /// # Errors
    /// [`Trouble::Setup`], or [`Trouble::Nonsense`] for a part that the answer lacks.
    pub fn fill(&self, given: &Given<'_>, written: Written) -> Result<String, Trouble> {
        let mut out = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Slot(slot) => {
                    let text = given.text(slot)?;
                    // As a segment of a URL these lead to another folder, percent-encoded too (URL Standard §4.4).
                    if written == Written::Encoded && matches!(&*text, "." | "..") {
                        return Err(Trouble::Nonsense(format!("`{text}` is no `{slot}` that can stand in a URL")));
                    }
                    written.write(&text, &mut out);
                }
            }
        }
        Ok(out)
    }
}

/// The value that is a whole beginning of a URL, and is not encoded.
pub const BASE: &str = "base";

fn lonely() -> NotATemplate {
    NotATemplate("has a brace without its other half: write `{{` or `}}` for the brace itself".into())
}

/// The operator's own value, or what is known for each call.
fn named<'a>(name: &str, values: &'a Values) -> Result<Result<&'a str, Slot>, NotATemplate> {
    if let Some(value) = values.get(name) {
        return Ok(Ok(value));
    }
    let (word, part) = name.split_at(name.find('/').unwrap_or(name.len()));
    let Some(what) = What::ALL.into_iter().find(|what| what.as_str() == word) else {
        let help = if name == BASE { "set `base`" } else { "give it in `values`" };
        return Err(NotATemplate(format!("has the placeholder `{{{name}}}`, which is not known: {help}")));
    };
    let has_parts = what.is_secret();
    if !part.is_empty() && !has_parts {
        return Err(NotATemplate(format!("has the placeholder `{{{name}}}`: `{{{word}}}` has no parts")));
    }
    let part = part.parse().map_err(|NotAPointer| NotATemplate(format!("has `{{{name}}}`: `{part}` {NotAPointer}")))?;
    Ok(Err(Slot { what, part }))
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{}{}}}", self.what.as_str(), self.part)
    }
}

/// A text is no template: `what` goes on from the key's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotATemplate(pub String);

/// Where a part stands in JSON (RFC 6901); the empty one is the whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pointer(Box<str>);

impl Pointer {
    /// What stands there.
    #[must_use]
    pub fn find<'a>(&self, json: &'a Value) -> Option<&'a Value> {
        json.pointer(&self.0)
    }

    /// What stands there as text, if it is a text that is not empty, or a number.
    #[must_use]
    pub fn text(&self, json: &Value) -> Option<String> {
        match self.find(json)? {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::String(_) | Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        }
    }

    /// The part of a secret: all of it, or what stands there in its JSON.
    fn within<'a>(&self, secret: &'a Secret) -> Option<Cow<'a, str>> {
        if self.0.is_empty() {
            return std::str::from_utf8(secret.expose()).ok().map(Cow::from);
        }
        self.text(&serde_json::from_slice(secret.expose()).ok()?).map(Cow::from)
    }
}

impl FromStr for Pointer {
    type Err = NotAPointer;

    fn from_str(text: &str) -> Result<Self, NotAPointer> {
        let escaped = text.split('~').skip(1).all(|after| after.starts_with(['0', '1']));
        let valid = (text.is_empty() || text.starts_with('/')) && escaped && text.len() <= 256;
        if valid { Ok(Self(text.into())) } else { Err(NotAPointer) }
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text is no JSON pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no JSON pointer: write it as in `/data/key` (RFC 6901)")]
pub struct NotAPointer;

/// JSON whose texts are templates: what is filled in can never become more than a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tree {
    /// A number, a truth, or null.
    Fixed(Value),
    /// A text.
    Text(Template),
    /// An array.
    List(Vec<Self>),
    /// An object.
    Object(Vec<(String, Self)>),
}

impl Tree {
    /// Reads JSON text.
    ///
    /// # Errors
    /// [`NotATemplate`]: it is no JSON, or one of its texts is no template.
    pub fn parse(text: &str, values: &Values) -> Result<Self, NotATemplate> {
        if text.len() > MOST_BYTES {
            return Err(NotATemplate(format!("is longer than {MOST_BYTES} bytes")));
        }
        let json = serde_json::from_str(text);
        let json =
            json.map_err(|why| NotATemplate(format!("is not JSON (line {}, column {})", why.line(), why.column())))?;
        Self::of(json, values)
    }

    fn of(json: Value, values: &Values) -> Result<Self, NotATemplate> {
        Ok(match json {
            Value::Null | Value::Bool(_) | Value::Number(_) => Self::Fixed(json),
            Value::String(text) => Self::Text(Template::parse(&text, values, Written::Plain)?),
            Value::Array(list) => {
                Self::List(list.into_iter().map(|one| Self::of(one, values)).collect::<Result<_, _>>()?)
            }
            Value::Object(members) => {
                let members = members.into_iter().map(|(name, one)| Ok((name, Self::of(one, values)?)));
                Self::Object(members.collect::<Result<_, NotATemplate>>()?)
            }
        })
    }

    /// Its placeholders.
    #[must_use]
    pub fn slots(&self) -> Vec<&Slot> {
        match self {
            Self::Fixed(_) => Vec::new(),
            Self::Text(text) => text.slots().collect(),
            Self::List(list) => list.iter().flat_map(Self::slots).collect(),
            Self::Object(members) => members.iter().flat_map(|(_, one)| one.slots()).collect(),
        }
    }

    /// The JSON, with what is `given` in place of the placeholders.
    ///
    /// # Errors
    /// As [`Template::fill`].
    pub fn fill(&self, given: &Given<'_>) -> Result<Value, Trouble> {
        Ok(match self {
            Self::Fixed(json) => json.clone(),
            Self::Text(text) => Value::String(text.fill(given, Written::Plain)?),
            Self::List(list) => Value::Array(list.iter().map(|one| one.fill(given)).collect::<Result<_, _>>()?),
            Self::Object(members) => {
                let members = members.iter().map(|(name, one)| Ok((name.clone(), one.fill(given)?)));
                Value::Object(members.collect::<Result<_, Trouble>>()?)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::Attempt;

    fn parse(text: &str) -> Result<Template, NotATemplate> {
        let values = [(BASE, "https://a.test/v1"), ("user", "a/b c")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        Template::parse(text, &values, Written::Encoded)
    }

    fn filled(text: &str, given: &Given<'_>) -> Result<String, Trouble> {
        parse(text).unwrap().fill(given, Written::Encoded)
    }

    #[test]
    fn what_is_given_stands_for_the_placeholders() {
        let (label, id) = (Label::new(&Attempt::from_bytes([7; 16])), "k/1 ?".parse().unwrap());
        let given = Given { label: Some(&label), id: Some(&id), page: 3, ..Given::default() };
        let text = filled("{base}/{user}/{id}?note={label}&page={page}&{{x}}", &given).unwrap();
        assert_eq!(text, format!("https://a.test/v1/a%2Fb%20c/k%2F1%20%3F?note={label}&page=3&{{x}}"));
    }

    #[test]
    fn what_is_given_stays_in_its_place_in_a_url() {
        for id in [".", ".."] {
            let id = id.parse().unwrap();
            let given = Given { id: Some(&id), ..Given::default() };
            assert!(matches!(filled("{base}/keys/{id}", &given), Err(Trouble::Nonsense(_))), "{id}");
            assert!(parse("{id}").unwrap().fill(&given, Written::Plain).is_ok());
        }
    }

    #[test]
    fn a_part_of_a_secret_is_named_by_a_pointer() {
        let admin = Secret::new(br#"{"sid":"AC1","secret":"s\"x"}"#.to_vec());
        let given = Given { admin: Some(&admin), ..Given::default() };
        let template = Template::parse("{admin/sid}:{admin/secret}", &Values::new(), Written::Plain).unwrap();
        assert_eq!(template.fill(&given, Written::Plain).unwrap(), "AC1:s\"x");
        let lacking = Template::parse("{admin/other}", &Values::new(), Written::Plain).unwrap();
        assert!(
            matches!(lacking.fill(&given, Written::Plain), Err(Trouble::Setup(what)) if what.contains("{admin/other}"))
        );
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for (text, why) in [
            ("{", "brace"),
            ("a}b", "brace"),
            ("{label", "brace"),
            ("{lable}", "`{lable}`, which is not known"),
            ("{}", "not known"),
            ("{label/x}", "has no parts"),
            ("{value/~2}", "no JSON pointer"),
            (&"x".repeat(MOST_BYTES + 1), "longer"),
        ] {
            assert!(parse(text).is_err_and(|error| error.0.contains(why)), "{text}");
        }
    }

    #[test]
    fn what_is_filled_into_json_stays_one_text() {
        let tree = Tree::parse(r#"{"name":"{id}","n":[1,true,null,"{{\"x\":\"{label}\"}}"]}"#, &Values::new()).unwrap();
        let (label, id) = (Label::new(&Attempt::from_bytes([0; 16])), r#"","admin":"yes"#.parse().unwrap());
        let filled = tree.fill(&Given { label: Some(&label), id: Some(&id), ..Given::default() }).unwrap();
        let nested = format!(r#"{{"x":"{label}"}}"#);
        assert_eq!(filled, json!({ "name": r#"","admin":"yes"#, "n": [1, true, null, nested] }));
        assert!(Tree::parse("{\"a\":", &Values::new()).is_err_and(|error| error.0.contains("line 1, column 5")));
    }

    #[test]
    fn a_pointer_finds_texts_and_numbers() {
        let json = json!({ "a/b": { "n": 7, "t": "x", "e": "", "o": {} } });
        for (pointer, found) in [("/a~1b/n", Some("7")), ("/a~1b/t", Some("x")), ("/a~1b/e", None), ("/a~1b/o", None)] {
            assert_eq!(pointer.parse::<Pointer>().unwrap().text(&json).as_deref(), found, "{pointer}");
        }
        assert!("a".parse::<Pointer>().is_err() && "/~".parse::<Pointer>().is_err() && "".parse::<Pointer>().is_ok());
    }
}
