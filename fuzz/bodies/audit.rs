//! What is read back from a log that somebody else may have changed.

use bursar::audit::chain::read_opening;
use bursar::audit::form::{self, Line};
use bursar::audit::layout::SegmentName;
use bursar::audit::told::told;
use bursar::audit::{DecisionId, LogId, TraceId, keys};
use bursar::fault::misleads;

use super::input::{line_and_rest, reads_back};

/// A `traceparent` header. What is taken from it stands in it.
pub fn traceparent(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(TraceId(id)) = TraceId::of_traceparent(text) {
        assert!(id != [0; 16]);
        assert_eq!(text.get(3..35), Some(format!("{:032x}", u128::from_be_bytes(id)).as_str()));
    }
}

/// A line of the log. What passes is printable ASCII, one JSON object, and the same bytes again; what `query` prints
/// of it fools no terminal.
pub fn audit_line(bytes: &[u8]) {
    let Ok(line) = Line::parse(bytes) else {
        assert!(form::check(bytes).is_err(), "the form is right, and yet it is not read");
        return;
    };
    let head = form::check(bytes).expect("what is read has the form");
    assert_eq!((head.index, head.at), (line.index(), line.at()));
    // The head has the kind as it is written; no kind of ours has anything to escape.
    assert!(head.kind == line.kind() || head.kind.contains('\\'));
    assert_eq!(line.as_str().as_bytes(), bytes);
    assert!(bytes.iter().all(|byte| matches!(byte, b' '..=b'~')) && bytes.len() <= 8_192);
    assert!(serde_json::from_slice::<serde_json::Value>(bytes).is_ok_and(|value| value.is_object()));
    assert!(!told(&line).contains(misleads), "{:?}", told(&line));
}

/// The ids of a decision, a log and a segment.
pub fn audit_ids(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for shown in [reads_back::<DecisionId>(text), reads_back::<LogId>(text), reads_back::<SegmentName>(text)] {
        assert!(shown.is_none_or(|shown| shown == text), "one id has one form");
    }
}

/// The file `audit.keys`. The key in use is the last of its lines.
pub fn audit_keys(bytes: &[u8]) {
    if let Ok(keys) = keys::parse(bytes) {
        let lines = std::str::from_utf8(bytes).unwrap().lines().count();
        assert_eq!(keys.former().len() + 3, lines);
        assert_eq!(keys.current().of(b"").key as usize, lines - 2);
    }
}

/// The first line of a segment, after a line with the name of its file.
pub fn segment_opening(bytes: &[u8]) {
    let (name, line) = line_and_rest(bytes);
    let Some(name) = std::str::from_utf8(name).ok().and_then(|name| name.parse::<SegmentName>().ok()) else { return };
    if let Ok(opening) = read_opening(line, name) {
        assert_eq!(opening.line.index(), name.first);
        assert!(opening.former.is_none_or(|former| former.segment < name.number && former.size == name.first));
        assert!(opening.former.is_some() || name.first == 0);
    }
}
