//! What a line may look like, and the reader that accepts nothing else.
//!
//! The form is narrower than JSON: no space between tokens, strings of printable ASCII with the escapes
//! `\"`, `\\` and `\uXXXX`, whole numbers up to 2^53, no key twice. So two readers never see two things
//! in one line.

use serde_json::{Map, Value};

use crate::time::Wall;

use super::{MAX_LINE_BYTES, MAX_NUMBER, VERSION, line};

/// The keys of every kind after `v, i, t, kind`, in their order. Others may follow them.
pub const KINDS: [(&str, &[&str]); 12] = [
    (
        "start",
        &["log", "origin", "agent", "host", "boot", "version", "mode", "durability", "pid", "uid", "policy_digest"],
    ),
    ("stop", &["log", "reason", "segment", "from", "to"]),
    ("segment", &["log", "segment", "former"]),
    ("reopen", &["log", "segment", "former", "cause", "errno", "void", "dropped"]),
    ("reload", &["policy_digest", "result", "detail"]),
    ("store", &["store", "id", "changes", "noted"]),
    ("intent", &["actor", "who", "uid", "facts", "effect", "resource_type", "resource", "scopes", "audience"]),
    ("outcome", &["intent", "result", "code", "detail", "fingerprint", "granted", "lifetime_us", "took_us"]),
    (
        "release",
        &[
            "actor",
            "who",
            "uid",
            "facts",
            "action",
            "resource_type",
            "resource",
            "scopes",
            "audience",
            "minute",
            "verdict",
            "policies",
            "policies_total",
            "policy_digest",
            "granted",
            "obtained",
            "expires",
            "freshness",
            "fingerprint",
            "intent",
            "took_us",
            "trace",
        ],
    ),
    (
        "refusal",
        &[
            "actor",
            "who",
            "uid",
            "facts",
            "action",
            "resource_type",
            "resource",
            "scopes",
            "audience",
            "minute",
            "verdict",
            "policies",
            "policies_total",
            "policy_digest",
            "code",
            "detail",
            "trace",
        ],
    ),
    ("suppressed", &["whose", "uid", "total", "counts", "under"]),
    (
        "operation",
        &[
            "actor",
            "who",
            "uid",
            "facts",
            "action",
            "resource_type",
            "resource",
            "scopes",
            "audience",
            "minute",
            "verdict",
            "policies",
            "policies_total",
            "policy_digest",
            "result",
            "detail",
        ],
    ),
];

/// The keys that every line begins with.
const FIRST: [&str; 4] = ["v", "i", "t", "kind"];
const TWICE: &str = "a key stands twice, or there are too many";
/// The most keys of one object, and the deepest nesting.
const MAX_KEYS: usize = 64;
const MAX_DEPTH: usize = 4;

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
    let mut reader = Reader { bytes: line, at: 0 };
    if line.len() > MAX_LINE_BYTES {
        return Err(NotALine { at: MAX_LINE_BYTES, what: "the line is longer than 8192 bytes" });
    }
    let head = reader.head()?;
    reader.rest(head.kind)?;
    match reader.bytes.get(reader.at) {
        None => Ok(head),
        Some(_) => Err(reader.fault("something follows the closing brace")),
    }
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

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

type Read<T> = Result<T, NotALine>;

impl<'a> Reader<'a> {
    fn head(&mut self) -> Read<Head<'a>> {
        self.literal(b"{\"v\":", "a line begins with `{\"v\":`")?;
        let version = self.number()?;
        if version != u64::from(VERSION) {
            return Err(self.fault("the line is of another version of the format; use the bursar that wrote it"));
        }
        self.literal(b",\"i\":", "the second key is `i`")?;
        let index = self.number()?;
        self.literal(b",\"t\":\"", "the third key is `t`, a text")?;
        let at = self.bytes.get(self.at..self.at + 27).and_then(Wall::from_rfc3339);
        let at = at.ok_or(self.fault("`t` is not a time as in `2026-11-21T06:00:00.000000Z`"))?;
        self.at += 27;
        self.literal(b"\",\"kind\":", "the fourth key is `kind`")?;
        let kind = std::str::from_utf8(self.string()?).unwrap_or_default();
        Ok(Head { index, at, kind })
    }

    /// The keys after the head, and the closing brace.
    fn rest(&mut self, kind: &str) -> Read<()> {
        let known = KINDS.iter().find(|(name, _)| *name == kind).map_or(&[][..], |(_, keys)| keys);
        let mut more = Keys::default();
        let mut nth = 0;
        while self.eat(b',') {
            let key = self.string()?;
            let fault = match known.get(nth) {
                Some(expected) if expected.as_bytes() != key => Some("this key is not the next one of its kind"),
                Some(_) => None,
                None if FIRST.iter().chain(known).any(|known| known.as_bytes() == key) || !more.add(key) => Some(TWICE),
                None => None,
            };
            if let Some(what) = fault {
                return Err(self.fault(what));
            }
            nth += 1;
            self.expect(b':')?;
            self.value(1)?;
        }
        if nth < known.len() {
            return Err(self.fault("a key of this kind is missing"));
        }
        self.expect(b'}')
    }

    fn value(&mut self, depth: usize) -> Read<()> {
        match self.bytes.get(self.at) {
            Some(b'"') => self.string().map(drop),
            Some(b'0'..=b'9') => self.number().map(drop),
            Some(b'{' | b'[') if depth >= MAX_DEPTH => Err(self.fault("the nesting is too deep")),
            Some(b'{') => self.object(depth + 1),
            Some(b'[') => self.array(depth + 1),
            Some(b'n') => self.literal(b"null", "a value is expected"),
            Some(b't') => self.literal(b"true", "a value is expected"),
            Some(b'f') => self.literal(b"false", "a value is expected"),
            _ => Err(self.fault("a value is expected")),
        }
    }

    fn object(&mut self, depth: usize) -> Read<()> {
        self.expect(b'{')?;
        if self.eat(b'}') {
            return Ok(());
        }
        let mut keys = Keys::default();
        loop {
            let key = self.string()?;
            if !keys.add(key) {
                return Err(self.fault(TWICE));
            }
            self.expect(b':')?;
            self.value(depth)?;
            if !self.eat(b',') {
                return self.expect(b'}');
            }
        }
    }

    fn array(&mut self, depth: usize) -> Read<()> {
        self.expect(b'[')?;
        if self.eat(b']') {
            return Ok(());
        }
        loop {
            self.value(depth)?;
            if !self.eat(b',') {
                return self.expect(b']');
            }
        }
    }

    /// A string as it stands, without its quotes.
    fn string(&mut self) -> Read<&'a [u8]> {
        self.expect(b'"')?;
        let from = self.at;
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            self.at += rest.iter().take_while(|byte| line::is_plain(**byte)).count();
            match self.bytes.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => self.escape()?,
                _ => return Err(self.fault("a string holds printable ASCII only, and ends with a quote")),
            }
        }
        let text = self.bytes.get(from..self.at).unwrap_or_default();
        self.at += 1;
        Ok(text)
    }

    fn escape(&mut self) -> Read<()> {
        if matches!(self.bytes.get(self.at + 1), Some(b'"' | b'\\')) {
            self.at += 2;
            return Ok(());
        }
        let fault = self.fault("an escape is `\\\"`, `\\\\`, or `\\u` and four lower-case digits of what is not plain");
        match self.unit().ok_or(fault)? {
            0x20..=0x7E | 0xDC00..=0xDFFF => Err(fault),
            0xD800..=0xDBFF => self.unit().filter(|low| matches!(low, 0xDC00..=0xDFFF)).map(drop).ok_or(fault),
            _ => Ok(()),
        }
    }

    /// One `\uXXXX`.
    fn unit(&mut self) -> Option<u16> {
        let digits = self.bytes.get(self.at..self.at + 6)?.strip_prefix(b"\\u")?;
        let lower = digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        self.at += 6;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok().filter(|_| lower)
    }

    fn number(&mut self) -> Read<u64> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count().min(17);
        let digits = rest.get(..length).unwrap_or_default();
        let number = digits.iter().fold(0, |sum: u64, digit| sum * 10 + u64::from(digit - b'0'));
        let padded = length > 1 && digits.first() == Some(&b'0');
        if length == 0 || padded || number > MAX_NUMBER {
            return Err(self.fault("a number is whole, not padded, and at most 2^53"));
        }
        self.at += length;
        Ok(number)
    }

    fn literal(&mut self, literal: &[u8], what: &'static str) -> Read<()> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        if !rest.starts_with(literal) {
            return Err(self.fault(what));
        }
        self.at += literal.len();
        Ok(())
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.bytes.get(self.at) == Some(&byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8) -> Read<()> {
        let what = match byte {
            b'"' => "a quote is expected",
            b':' => "a colon is expected",
            _ => "a comma or a closing bracket is expected",
        };
        if self.eat(byte) { Ok(()) } else { Err(self.fault(what)) }
    }

    const fn fault(&self, what: &'static str) -> NotALine {
        NotALine { at: self.at, what }
    }
}

/// The keys of one object so far.
#[derive(Default)]
struct Keys<'a>(Vec<&'a [u8]>);

impl<'a> Keys<'a> {
    /// Whether `key` is new and there is room for it.
    fn add(&mut self, key: &'a [u8]) -> bool {
        let new = self.0.len() < MAX_KEYS && !self.0.contains(&key);
        if new {
            self.0.push(key);
        }
        new
    }
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
            drop(check(&line));
        }
    }
}
