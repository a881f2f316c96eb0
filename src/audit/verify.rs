//! (E) Is the log what bursar writes? Every line, every number, every segment, without an agent and without
//! holding more than one line.
//!
//! It finds what is not of the form, what is missing and what does not fit together. A log that was rewritten
//! as a whole, with all its numbers, looks right here: against that stand the checkpoints.

use std::path::{Path, PathBuf};

use super::chain::{self, Chain, Lines, Place, Segment};
use super::form::{self, Head};
use super::layout::{Former, Span};
use super::{AuditError, LogId, MAX_LINE_BYTES};
use crate::fault::counted;

/// How many findings are told singly.
const MAX_FINDINGS: usize = 1_000;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Which log it is; none for an empty one.
    pub log: Option<LogId>,
    /// How many segments it has.
    pub segments: u64,
    /// The index of the first record that is still there.
    pub first: u64,
    /// How many valid records were read.
    pub records: u64,
    /// How many bytes they are, with their newlines.
    pub bytes: u64,
    /// What is accounted for but worth knowing: torn tails, void lines, segments taken away.
    pub notes: Vec<Finding>,
    /// What bursar did not write, or not so.
    pub faults: Vec<Finding>,
    /// How many more faults there are than are told.
    pub more: u64,
}

/// Something at a place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1; 0 where the file as a whole is meant.
    pub line: u64,
    /// The byte in the file, from 0.
    pub byte: u64,
    /// What it is.
    pub what: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{} (byte {})", self.line, self.byte)?;
        }
        write!(f, ": {}", self.what)
    }
}

/// Reads the whole log in `dir`.
///
/// # Errors
/// [`AuditError::Io`] where it cannot be read. What is wrong with what was read stands in the result.
pub fn verify(dir: &Path) -> Result<Verified, AuditError> {
    let mut verified = Verified::default();
    let chain = match Chain::read(dir) {
        Ok(chain) => chain,
        Err(AuditError::Damaged { file, what }) => {
            verified.fault(&file, None, what);
            loose(dir)?
        }
        Err(other) => return Err(other),
    };
    verified.log = chain.segments.first().map(|segment| segment.opening.log);
    verified.first = chain.segments.first().map_or(0, |segment| segment.name.first);
    if chain.shortened && verified.faults.is_empty() {
        let what = format!("the log begins with record {}: earlier segments were taken away", verified.first);
        verified.note(dir, None, what);
    }
    for file in &chain.void {
        let length = std::fs::metadata(file).map_err(AuditError::io(file))?.len();
        let what = format!("nothing in it is valid ({})", bytes(length));
        if chain.segments.is_empty() && length > 0 {
            verified.fault(file, None, format!("{what}, and no other segment accounts for it"));
        } else {
            verified.note(file, None, format!("{what}: it was begun while the disk failed"));
        }
    }
    for segment in &chain.segments {
        verified.segment(segment).map_err(AuditError::io(&segment.path))?;
    }
    Ok(verified)
}

/// The files that can be read at all, each for itself, where the chain is broken.
fn loose(dir: &Path) -> Result<Chain, AuditError> {
    let mut chain = Chain::default();
    for name in chain::list(dir)? {
        let path = dir.join(name.to_string());
        match chain::opening(&path, name)? {
            Ok(opening) => chain.segments.push(Segment { name, path, opening, closed: None }),
            Err(_) => chain.void.push(path),
        }
    }
    Ok(chain)
}

impl Verified {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.faults.is_empty()
    }

    fn segment(&mut self, segment: &Segment) -> std::io::Result<()> {
        self.segments += 1;
        if Some(segment.opening.log) != self.log {
            self.fault(&segment.path, Some(Place::START), "the segment belongs to another log".to_owned());
        }
        let mut lines = Lines::open(&segment.path, Place::START, segment.closed.map(|closed| closed.bytes))?;
        let mut seen = Seen { size: segment.name.first, bytes: 0, span: None };
        while let Some((place, line)) = lines.read()? {
            let head = line.strip_suffix(b"\n").ok_or("the line is unfinished".to_owned());
            match head.and_then(|line| form::check(line).map_err(|error| error.to_string())) {
                Ok(head) => self.line(segment, place, head, &mut seen),
                Err(what) if segment.closed.is_some() => self.fault(&segment.path, Some(place), what),
                Err(_) => break,
            }
            if segment.closed.is_none() {
                seen.bytes = lines.place().byte;
            }
        }
        self.bytes += segment.closed.map_or(seen.bytes, |closed| closed.bytes);
        let length = std::fs::metadata(&segment.path)?.len();
        match segment.closed {
            Some(closed) => self.closed(segment, &closed, &seen, length),
            None => self.last(segment, &seen, length)?,
        }
        Ok(())
    }

    fn line(&mut self, segment: &Segment, place: Place, head: Head<'_>, seen: &mut Seen) {
        if head.index != seen.size {
            let what = format!("record {} stands where {} belongs", head.index, seen.size);
            self.fault(&segment.path, Some(place), what);
        }
        if place != Place::START && matches!(head.kind, "segment" | "reopen") {
            self.fault(
                &segment.path,
                Some(place),
                format!("a `{}` record stands in the middle of a segment", head.kind),
            );
        }
        self.records += 1;
        seen.size = head.index + 1;
        seen.span = Some(seen.span.map_or(Span::at(head.at), |span| span.with(head.at)));
    }

    /// Holds what the next segment says of this one against what was read.
    fn closed(&mut self, segment: &Segment, closed: &Former, seen: &Seen, length: u64) {
        if length < closed.bytes {
            let what = format!("{} missing at the end", bytes(closed.bytes - length));
            self.fault(&segment.path, None, what);
        }
        if length > closed.bytes + closed.tail {
            let what = format!("{} added after it was closed", bytes(length - closed.bytes - closed.tail));
            self.fault(&segment.path, None, what);
        }
        if seen.size != closed.size {
            let what = format!("it ends before record {}, and the next segment says {}", seen.size, closed.size);
            self.fault(&segment.path, None, what);
        }
        if seen.span != Some(Span { from: closed.from, to: closed.to }) {
            self.fault(&segment.path, None, "its times are not those that the next segment tells of it".to_owned());
        }
        if length > closed.bytes {
            let tail = bytes(length - closed.bytes);
            let what = format!("{tail} after byte {} void, as the next segment says", closed.bytes);
            self.note(&segment.path, None, what);
        }
    }

    /// The last segment is valid as far as its lines are. What follows is a torn tail, unless lines follow it.
    fn last(&mut self, segment: &Segment, seen: &Seen, length: u64) -> std::io::Result<()> {
        if length <= seen.bytes {
            return Ok(());
        }
        let torn = Place { line: seen.size - segment.name.first + 1, byte: seen.bytes };
        let mut rest = Lines::open(&segment.path, torn, None)?;
        let Some(whole) = records_after_rubbish(&mut rest)? else { return Ok(()) };
        if whole == 0 {
            let what = format!("a torn tail of {}; the next start closes it off", bytes(length - seen.bytes));
            self.note(&segment.path, Some(torn), what);
        } else {
            self.fault(&segment.path, Some(torn), format!("this is no record, before {}", counted(whole, "record")));
        }
        Ok(())
    }

    fn fault(&mut self, file: &Path, place: Option<Place>, what: String) {
        if self.faults.len() < MAX_FINDINGS {
            self.faults.push(Finding::new(file, place, what));
        } else {
            self.more += 1;
        }
    }

    fn note(&mut self, file: &Path, place: Option<Place>, what: String) {
        if self.notes.len() < MAX_FINDINGS {
            self.notes.push(Finding::new(file, place, what));
        }
    }
}

/// How many records follow the line at which `lines` stands, which was none when it was looked at before; nothing if
/// it is one now: an agent writes on while the log is read.
fn records_after_rubbish(lines: &mut Lines) -> std::io::Result<Option<u64>> {
    let mut records = None;
    while let Some((_, line)) = lines.read()? {
        let is_record = line.strip_suffix(b"\n").is_some_and(|line| form::check(line).is_ok());
        records = match (records, is_record) {
            (None, true) => return Ok(None),
            (None, false) => Some(0),
            (Some(records), _) => Some(records + u64::from(is_record)),
        };
        if !line.ends_with(b"\n") && line.len() <= MAX_LINE_BYTES {
            // The end of the file, for the moment: what is written behind it is no part of this look.
            break;
        }
    }
    Ok(Some(records.unwrap_or(0)))
}

fn bytes(number: u64) -> String {
    counted(number, "byte")
}

/// What was read of a segment so far.
struct Seen {
    size: u64,
    bytes: u64,
    span: Option<Span>,
}

impl Finding {
    fn new(file: &Path, place: Option<Place>, what: String) -> Self {
        let Place { line, byte } = place.unwrap_or(Place { line: 0, byte: 0 });
        Self { file: file.to_owned(), line, byte, what }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(text: &[u8]) -> Option<u64> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("segment");
        std::fs::write(&path, text).unwrap();
        records_after_rubbish(&mut Lines::open(&path, Place::START, None).unwrap()).unwrap()
    }

    #[test]
    fn what_follows_rubbish_is_counted_as_far_as_it_is_whole() {
        let record = "{\"v\":1,\"i\":9,\"t\":\"2026-11-21T06:01:20.000000Z\",\"kind\":\"reload\",\"policy_digest\":\"00\",\
                      \"result\":\"ok\",\"detail\":null}\n";
        let (record, half, long) = (record.as_bytes(), &record.as_bytes()[..40], vec![b'x'; 3 * MAX_LINE_BYTES]);
        assert_eq!(after(&[record, half].concat()), None, "it became whole since it was looked at");
        assert_eq!(after(half), Some(0));
        assert_eq!(after(&[b"rubbish\n", record, record, half].concat()), Some(2));
        assert_eq!(after(&[&long[..], b"\n", record].concat()), Some(1));
        assert_eq!(after(&[0; 4_096]), Some(0));
    }
}
