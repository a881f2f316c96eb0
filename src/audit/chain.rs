//! (E) Which bytes of a directory are the log: its segments, each with its valid part.
//!
//! The chain is followed backwards. The last file that begins with a valid opening record is the end of the
//! log; its `former` names the segment before it and says how much of that counts; and so on. What is not
//! reached holds nothing valid: it was begun while the disk failed.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::form::Line;
use super::layout::{Former, SegmentName};
use super::{AuditError, LogId, MAX_LINE_BYTES};

/// One segment of the log.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Its name.
    pub name: SegmentName,
    /// Its file.
    pub path: PathBuf,
    /// Its first record.
    pub opening: Opening,
    /// What the next segment says of it; none for the last one, which is valid as far as its lines are.
    pub closed: Option<Former>,
}

/// What the first record of a segment says.
#[derive(Clone, Debug)]
pub struct Opening {
    /// The record.
    pub line: Line,
    /// Which log it belongs to.
    pub log: LogId,
    /// The segment before it; none for the first of a log.
    pub former: Option<Former>,
}

/// The log in a directory.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    /// The segments, first to last.
    pub segments: Vec<Segment>,
    /// Files that hold nothing valid.
    pub void: Vec<PathBuf>,
    /// Whether the first segments were taken away, as retention does.
    pub shortened: bool,
}

impl Chain {
    /// Finds the log in `dir`. An empty or missing directory holds an empty log.
    ///
    /// # Errors
    /// [`AuditError::Damaged`] where a segment that another one names does not begin as it should;
    /// [`AuditError::Io`].
    pub fn read(dir: &Path) -> Result<Self, AuditError> {
        let mut names = list(dir)?;
        let mut chain = Self::default();
        let mut wanted: Option<Former> = None;
        while let Some(name) = names.pop() {
            let path = dir.join(name.to_string());
            if wanted.is_some_and(|former| name.number > former.segment) {
                chain.void.push(path);
                continue;
            }
            if wanted.is_some_and(|former| name.number < former.segment) {
                return Err(AuditError::damaged(path, "the segment after it is missing"));
            }
            match opening(&path, name)? {
                Ok(opening) => {
                    let former = opening.former;
                    chain.segments.push(Segment { name, path, opening, closed: wanted });
                    wanted = former;
                    if former.is_none() {
                        break;
                    }
                }
                Err(_) if wanted.is_none() => chain.void.push(path),
                Err(what) => return Err(AuditError::damaged(path, what)),
            }
        }
        chain.shortened = wanted.is_some();
        chain.void.extend(names.into_iter().map(|name| dir.join(name.to_string())));
        chain.void.sort();
        chain.segments.reverse();
        Ok(chain)
    }

    /// The segment that holds record `index`, if the log has it.
    #[must_use]
    pub fn holding(&self, index: u64) -> Option<&Segment> {
        self.segments.iter().rev().find(|segment| segment.name.first <= index)
    }
}

/// The names of all segment files in `dir`, in their order.
///
/// # Errors
/// [`AuditError::Io`]; a directory that does not exist has none.
pub fn list(dir: &Path) -> Result<Vec<SegmentName>, AuditError> {
    let mut names = Vec::new();
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(names),
        Err(error) => return Err(AuditError::io(dir)(error)),
    };
    for entry in entries {
        let name = entry.map_err(AuditError::io(dir))?.file_name();
        names.extend(name.to_str().and_then(|name| name.parse::<SegmentName>().ok()));
    }
    names.sort_unstable();
    Ok(names)
}

/// The opening record of the file, or why it has none.
pub(super) fn opening(path: &Path, name: SegmentName) -> Result<Result<Opening, String>, AuditError> {
    let most = u64::try_from(MAX_LINE_BYTES).unwrap_or(u64::MAX) + 1;
    let mut bytes = Vec::with_capacity(1_024);
    let file = File::open(path).map_err(AuditError::io(path))?;
    BufReader::with_capacity(1_024, file.take(most)).read_until(b'\n', &mut bytes).map_err(AuditError::io(path))?;
    Ok(read_opening(&bytes, name))
}

/// Reads `bytes` as the first line of segment `name`, with its newline.
///
/// # Errors
/// Why it is no opening record of that segment.
pub fn read_opening(bytes: &[u8], name: SegmentName) -> Result<Opening, String> {
    let line = bytes.strip_suffix(b"\n").ok_or("it has no first line")?;
    let line = Line::parse(line).map_err(|error| error.to_string())?;
    let log = line.text("log").and_then(|log| log.parse().ok()).ok_or("its first record names no log")?;
    let former = match line.kind() {
        "start" if name.first == 0 => None,
        "segment" | "reopen" if line.number("segment") == Some(name.number) => {
            Some(line.read::<Former>("former").ok_or("its opening record does not tell of the segment before it")?)
        }
        _ => return Err("its first record is not the opening of this segment".to_owned()),
    };
    let follows = former.is_none_or(|former| former.segment < name.number && former.size == name.first);
    if line.index() != name.first || !follows {
        return Err("its opening record, its name and the segment before it disagree".to_owned());
    }
    Ok(Opening { line, log, former })
}

/// The lines of a segment, one after the other, without holding more than one.
#[derive(Debug)]
pub struct Lines {
    reader: BufReader<std::io::Take<File>>,
    line: Vec<u8>,
    next: Place,
}

/// Where a line begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its number in the file, from 1.
    pub line: u64,
    /// Its first byte in the file, from 0.
    pub byte: u64,
}

impl Lines {
    /// The lines of `path` from `from` on, as far as byte `to`, or its end.
    ///
    /// # Errors
    /// The operating system's.
    pub fn open(path: &Path, from: Place, to: Option<u64>) -> std::io::Result<Self> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(from.byte))?;
        let most = to.unwrap_or(u64::MAX).saturating_sub(from.byte);
        let reader = BufReader::with_capacity(1 << 18, file.take(most));
        Ok(Self { reader, line: Vec::with_capacity(MAX_LINE_BYTES + 1), next: from })
    }

    /// The next line and its place. Without a newline at its end it is unfinished, or too long to be one.
    ///
    /// # Errors
    /// The operating system's.
    pub fn read(&mut self) -> std::io::Result<Option<(Place, &[u8])>> {
        let most = u64::try_from(MAX_LINE_BYTES).unwrap_or(u64::MAX) + 1;
        self.line.clear();
        let read = self.reader.by_ref().take(most).read_until(b'\n', &mut self.line)?;
        let place = self.next;
        self.next.byte += u64::try_from(read).unwrap_or(0);
        self.next.line += u64::from(self.line.ends_with(b"\n"));
        Ok((read > 0).then_some((place, self.line.as_slice())))
    }

    /// Where the next line begins.
    #[must_use]
    pub const fn place(&self) -> Place {
        self.next
    }
}

impl Place {
    /// The first line of a file.
    pub const START: Self = Self { line: 1, byte: 0 };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_opening_has_to_agree_with_the_name_of_its_file() {
        let text = r#"{"v":1,"i":9,"t":"2026-11-21T06:00:00.000000Z","kind":"segment","log":"6ba7b810-9dad-41d1-80b4-00c04fd430c8","segment":2,"former":{"segment":1,"bytes":700,"size":9,"tail":0,"from":"2026-11-21T05:00:00.000000Z","to":"2026-11-21T06:00:00.000000Z"}}"#;
        let line = format!("{text}\n");
        let name = SegmentName { number: 2, first: 9 };
        assert_eq!(read_opening(line.as_bytes(), name).unwrap().former.unwrap().bytes, 700);
        assert!(read_opening(text.as_bytes(), name).is_err(), "an unfinished line opens nothing");
        for other in [SegmentName { number: 3, first: 9 }, SegmentName { number: 2, first: 8 }] {
            assert!(read_opening(line.as_bytes(), other).is_err(), "{other}");
        }
        let turned = line.replace("\"segment\":1", "\"segment\":2");
        assert!(read_opening(turned.as_bytes(), name).is_err(), "a segment cannot follow itself");
    }
}
