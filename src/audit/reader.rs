//! The bytes of a line, read token by token.

use crate::time::Wall;

use super::body::is_plain;
use super::form::{Head, KINDS, NotALine};
use super::{MAX_NUMBER, VERSION};

/// The keys that every line begins with.
const FIRST: [&str; 4] = ["v", "i", "t", "kind"];
const TWICE: &str = "a key stands twice, or there are too many";
/// The most keys of one object, and the deepest nesting.
const MAX_KEYS: usize = 64;
const MAX_DEPTH: usize = 4;

/// A place in a line.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

type Read<T> = Result<T, NotALine>;

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The whole line.
    pub(super) fn line(&mut self) -> Read<Head<'a>> {
        let head = self.head()?;
        self.rest(head.kind)?;
        match self.bytes.get(self.at) {
            None => Ok(head),
            Some(_) => Err(self.fault("something follows the closing brace")),
        }
    }

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
            self.at += rest.iter().take_while(|byte| is_plain(**byte)).count();
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
