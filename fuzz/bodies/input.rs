//! How the bytes of one input are taken apart where a parser wants more than one thing.

use bursar::fault::{Faults, misleads};
use http::{HeaderMap, HeaderName, HeaderValue};

/// The first line, without its newline, and the rest; all is the first line where there is no newline.
pub fn line_and_rest(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, &[]),
    }
}

/// Header lines as far as the first empty line, and the body after it. What can be no header is passed over, as HTTP
/// would have refused it before us.
pub fn headers_and_body(bytes: &[u8]) -> (HeaderMap, &[u8]) {
    let (mut headers, mut rest) = (HeaderMap::new(), bytes);
    while !rest.is_empty() && headers.len() < 64 {
        let (line, after) = line_and_rest(rest);
        rest = after;
        if line.is_empty() {
            break;
        }
        let mut halves = line.splitn(2, |byte| *byte == b':');
        let (name, value) = (halves.next().unwrap_or_default(), halves.next().unwrap_or_default());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value.trim_ascii())) {
            headers.append(name, value);
        }
    }
    (headers, rest)
}

/// The status in the first line, then [`headers_and_body`].
pub fn status_and_rest(bytes: &[u8]) -> (u16, HeaderMap, &[u8]) {
    let (line, rest) = line_and_rest(bytes);
    let status = std::str::from_utf8(line).ok().and_then(|line| line.trim().parse().ok()).unwrap_or(200);
    let (headers, body) = headers_and_body(rest);
    (status, headers, body)
}

/// Faults are for people: there is at least one, each is shown on one line, and points into `text`.
pub fn faults_are_told(faults: &Faults, text: &str) {
    assert!(faults.iter().next().is_some(), "refused without a fault");
    for fault in faults.iter() {
        let told = fault.to_string().replacen("\n  help: ", "", 1);
        assert!(!told.contains(misleads), "{told:?}");
        let lines: Vec<_> = text.split('\n').collect();
        let line = fault.place.line.checked_sub(1).map(|nth| lines.get(nth).expect("a line that is there"));
        assert!(line.is_none_or(|line| fault.place.column <= line.chars().count() + 1), "{fault:?} beyond its line");
    }
}

/// `text` is read as a `T`, and what is read shows as something that is read as the same `T`.
pub fn reads_back<T: std::str::FromStr + std::fmt::Display + PartialEq>(text: &str) -> Option<String> {
    let shown = text.parse::<T>().ok()?.to_string();
    let (once, again) = (text.parse::<T>().ok(), shown.parse::<T>().ok());
    assert!(once == again, "{text:?} is shown as {shown:?}, which reads otherwise");
    Some(shown)
}
