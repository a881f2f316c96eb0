//! How each shape of value stands in a line: printable ASCII, whole numbers, no space.

use std::time::Duration;

use crate::access::Words;
use crate::crypto::Fingerprint;
use crate::time::Wall;

use super::{MAX_NUMBER, MAX_POLICIES};

/// The longest list of policies, as rendered.
const MAX_POLICIES_BYTES: usize = 1_024;
/// The longest detail, as rendered, without its quotes.
const MAX_DETAIL_BYTES: usize = 200;

/// The bytes of a body, and how each shape of value is written.
pub(super) struct Body<'a>(pub(super) &'a mut Vec<u8>);

impl Body<'_> {
    pub(super) fn kind(&mut self, kind: &str) {
        self.0.extend_from_slice(b"\"kind\":\"");
        self.0.extend_from_slice(kind.as_bytes());
        self.0.push(b'"');
    }

    pub(super) fn key(&mut self, key: &str) {
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(key.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    pub(super) fn null(&mut self, key: &str) {
        self.key(key);
        self.0.extend_from_slice(b"null");
    }

    pub(super) fn text(&mut self, key: &str, text: &str) {
        self.key(key);
        self.string(text);
    }

    pub(super) fn maybe_text(&mut self, key: &str, text: Option<&str>) {
        match text {
            Some(text) => self.text(key, text),
            None => self.null(key),
        }
    }

    /// A text of limited length: it is cut where the next character would pass the limit.
    pub(super) fn detail(&mut self, key: &str, text: &str) {
        self.key(key);
        self.0.push(b'"');
        let most = self.0.len() + MAX_DETAIL_BYTES;
        for c in text.chars() {
            let before = self.0.len();
            self.escaped(c);
            if self.0.len() > most {
                self.0.truncate(before);
                break;
            }
        }
        self.0.push(b'"');
    }

    /// What shows itself in plain characters: ids, numbers, names.
    pub(super) fn shown(&mut self, key: &str, value: impl std::fmt::Display) {
        self.text(key, &value.to_string());
    }

    pub(super) fn number(&mut self, key: &str, number: u64) {
        self.key(key);
        digits(number.min(MAX_NUMBER), self.0);
    }

    pub(super) fn maybe_number(&mut self, key: &str, number: Option<u64>) {
        match number {
            Some(number) => self.number(key, number),
            None => self.null(key),
        }
    }

    pub(super) fn micros(&mut self, key: &str, duration: Duration) {
        self.number(key, micros(duration));
    }

    pub(super) fn time(&mut self, key: &str, at: Wall) {
        self.key(key);
        self.0.push(b'"');
        self.0.extend_from_slice(at.rfc3339().as_str().as_bytes());
        self.0.push(b'"');
    }

    pub(super) fn maybe_time(&mut self, key: &str, at: Option<Wall>) {
        match at {
            Some(at) => self.time(key, at),
            None => self.null(key),
        }
    }

    pub(super) fn maybe_hex(&mut self, key: &str, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => {
                self.key(key);
                self.0.push(b'"');
                hex(bytes, self.0);
                self.0.push(b'"');
            }
            None => self.null(key),
        }
    }

    pub(super) fn fingerprint(&mut self, fingerprint: Option<Fingerprint>) {
        self.key("fingerprint");
        match fingerprint {
            None => self.0.extend_from_slice(b"null"),
            Some(fingerprint) => {
                self.0.push(b'"');
                digits(fingerprint.key.into(), self.0);
                self.0.push(b':');
                hex(&fingerprint.tag, self.0);
                self.0.push(b'"');
            }
        }
    }

    pub(super) fn maybe_words<T: Ord + AsRef<str>>(&mut self, key: &str, words: Option<&Words<T>>) {
        self.key(key);
        match words {
            Some(words) => self.words(words),
            None => self.0.extend_from_slice(b"null"),
        }
    }

    pub(super) fn words<T: Ord + AsRef<str>>(&mut self, words: &Words<T>) {
        self.0.push(b'[');
        for (nth, word) in words.iter().enumerate() {
            if nth > 0 {
                self.0.push(b',');
            }
            self.string(word.as_ref());
        }
        self.0.push(b']');
    }

    /// The first ids, as many as [`MAX_POLICIES`] and [`MAX_POLICIES_BYTES`] let in.
    pub(super) fn policies(&mut self, ids: &[Box<str>]) {
        let from = self.0.len();
        self.0.push(b'[');
        for (nth, id) in ids.iter().take(MAX_POLICIES).enumerate() {
            let before = self.0.len();
            if nth > 0 {
                self.0.push(b',');
            }
            self.string(id);
            if self.0.len() - from >= MAX_POLICIES_BYTES {
                self.0.truncate(before);
                break;
            }
        }
        self.0.push(b']');
    }

    pub(super) fn object<K: AsRef<str>, V>(&mut self, entries: &[(K, V)], mut value: impl FnMut(&mut Self, &V)) {
        self.0.push(b'{');
        for (nth, (key, of_key)) in entries.iter().enumerate() {
            if nth > 0 {
                self.0.push(b',');
            }
            self.string(key.as_ref());
            self.0.push(b':');
            value(self, of_key);
        }
        self.0.push(b'}');
    }

    pub(super) fn string(&mut self, text: &str) {
        self.0.push(b'"');
        if text.bytes().all(is_plain) {
            self.0.extend_from_slice(text.as_bytes());
        } else {
            text.chars().for_each(|c| self.escaped(c));
        }
        self.0.push(b'"');
    }

    fn escaped(&mut self, c: char) {
        match u8::try_from(c) {
            Ok(plain) if is_plain(plain) => self.0.push(plain),
            Ok(special @ (b'"' | b'\\')) => self.0.extend_from_slice(&[b'\\', special]),
            Ok(_) | Err(_) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    self.0.extend_from_slice(b"\\u");
                    hex(&unit.to_be_bytes(), self.0);
                }
            }
        }
    }
}

/// What stands in a string as itself: printable ASCII but for the quote and the backslash.
pub(super) const fn is_plain(byte: u8) -> bool {
    matches!(byte, 0x20..=0x7E) && byte != b'"' && byte != b'\\'
}

fn hex(bytes: &[u8], out: &mut Vec<u8>) {
    const fn digit(nibble: u8) -> u8 {
        if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 }
    }
    out.extend(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]));
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(MAX_NUMBER).min(MAX_NUMBER)
}

/// A number in decimal digits.
pub(super) fn digits(number: u64, out: &mut Vec<u8>) {
    let from = out.len();
    let mut rest = number;
    loop {
        out.push(b'0' + u8::try_from(rest % 10).unwrap_or(0));
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if let Some(reversed) = out.get_mut(from..) {
        reversed.reverse();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str) -> String {
        let mut out = Vec::new();
        Body(&mut out).string(text);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_string_is_printable_ascii_whatever_it_holds() {
        let tricky = "a\"b\\c\n\u{7f}\u{85}\u{2028}\u{202e}é\u{1f511}";
        let text = rendered(tricky);
        assert_eq!(text, r#""a\"b\\c\u000a\u007f\u0085\u2028\u202e\u00e9\ud83d\udd11""#);
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), tricky);
    }

    #[test]
    fn a_detail_is_cut_between_characters() {
        let mut out = Vec::new();
        Body(&mut out).detail("detail", &"é".repeat(100));
        assert_eq!(String::from_utf8(out).unwrap(), format!(",\"detail\":\"{}\"", "\\u00e9".repeat(33)));
    }

    #[test]
    fn of_many_policies_the_first_are_listed() {
        let mut out = Vec::new();
        let ids: Vec<Box<str>> = (0..40).map(|nth| "x".repeat(60 + nth).into()).collect();
        Body(&mut out).policies(&ids);
        assert!(out.len() <= MAX_POLICIES_BYTES, "{}", out.len());
        let listed: Vec<String> = serde_json::from_slice(&out).unwrap();
        assert_eq!(listed.len(), 14);
    }
}
