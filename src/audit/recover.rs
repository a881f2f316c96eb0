//! (E) What stands in the directory when a process begins to write: where the log ends, and how.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use crate::time::Wall;

use super::chain::{Chain, Lines, Place, Segment};
use super::commit::{Broken, Here};
use super::form::{self, Line};
use super::layout::{SegmentName, Span};
use super::line::{Cause, End};
use super::segment::settle;
use super::{AuditError, LogId, MAX_LINE_BYTES, chain};

/// Where the log ends.
#[derive(Debug)]
pub(super) struct Recovered {
    /// The log that is there, if one is.
    pub(super) log: Option<LogId>,
    pub(super) here: Here,
    /// The segment to go on in; none: a new one has to be opened.
    pub(super) resume: Option<SegmentName>,
    /// What the new one is to say.
    pub(super) broken: Option<Broken>,
}

/// Finds the end of the log in `dir`. Nothing is changed: a torn tail stays where it is.
pub(super) fn recover(dir: &Path) -> Result<Recovered, AuditError> {
    let files = chain::list(dir)?;
    let Some(Last { segment: last, valid, errno }) = last_segment(dir)? else { return new_log(dir, &files) };
    let length = std::fs::metadata(&last.path).map_err(AuditError::io(&last.path))?.len();
    let tail = length.saturating_sub(valid.bytes);
    let here = Here { segment: last.name.number, bytes: valid.bytes, size: valid.size, span: valid.span };
    let whole = tail == 0 && errno.is_none() && files.last() == Some(&last.name);
    let cause = if errno.is_some() { Cause::Sync } else { Cause::Torn };
    let end = End { cause, errno, void: 0, dropped: 0 };
    let broken = if whole { None } else { Some(Broken::new(end, tail, free_number(dir, &files, valid.size)?)) };
    Ok(Recovered { log: Some(last.opening.log), here, resume: whole.then_some(last.name), broken })
}

/// The last segment, as the disk has it.
struct Last {
    segment: Segment,
    valid: Valid,
    /// The error with which the disk refused to take what the page cache holds.
    errno: Option<i32>,
}

fn last_segment(dir: &Path) -> Result<Option<Last>, AuditError> {
    let mut settled: Option<(SegmentName, Option<i32>)> = None;
    loop {
        let Some(segment) = Chain::read(dir)?.segments.pop() else { return Ok(None) };
        if let Some(valid) = ended_in_order(&segment.path).map_err(AuditError::io(&segment.path))? {
            return Ok(Some(Last { segment, valid, errno: None }));
        }
        match settled {
            Some((name, errno)) if name == segment.name => {
                let valid = scan(&segment.path, segment.name.first).map_err(AuditError::io(&segment.path))?;
                return Ok(Some(Last { segment, valid, errno }));
            }
            // Settling may show that the disk never had this segment's opening: then the one before it is the last.
            Some(_) | None => {
                let errno = settle(&segment.path).err().map(|error| error.raw_os_error().unwrap_or(0));
                settled = Some((segment.name, errno));
            }
        }
    }
}

/// No valid record anywhere. Files that hold something else are stepped over.
fn new_log(dir: &Path, files: &[SegmentName]) -> Result<Recovered, AuditError> {
    let end = End { cause: Cause::Torn, errno: None, void: 0, dropped: 0 };
    Ok(Recovered {
        log: None,
        here: Here { segment: 0, bytes: 0, size: 0, span: None },
        resume: None,
        broken: Some(Broken::new(end, 0, free_number(dir, files, 0)?)),
    })
}

/// The number for the next segment: an empty last file of the right name is used, all else is stepped over.
fn free_number(dir: &Path, files: &[SegmentName], first: u64) -> Result<u64, AuditError> {
    let Some(last) = files.last() else { return Ok(1) };
    let path = dir.join(last.to_string());
    let empty = std::fs::metadata(&path).map_err(AuditError::io(&path))?.len() == 0;
    Ok(if empty && last.first == first { last.number } else { last.number + 1 })
}

/// The valid part of the last segment.
#[derive(Clone, Copy, Debug)]
struct Valid {
    bytes: u64,
    size: u64,
    span: Option<Span>,
}

/// The valid part, if the last line is a `stop`: it tells all that a scan would find.
fn ended_in_order(path: &Path) -> std::io::Result<Option<Valid>> {
    let mut file = File::open(path)?;
    let bytes = file.metadata()?.len();
    let most = u64::try_from(MAX_LINE_BYTES).unwrap_or(u64::MAX) + 2;
    file.seek(SeekFrom::Start(bytes.saturating_sub(most)))?;
    let mut end = Vec::new();
    file.take(most).read_to_end(&mut end)?;
    let last = end.strip_suffix(b"\n").and_then(|end| end.rsplit(|byte| *byte == b'\n').next());
    let stop = last.and_then(|line| Line::parse(line).ok()).filter(|line| line.kind() == "stop");
    Ok(stop.and_then(|stop| {
        let time = |key| Wall::from_rfc3339(stop.text(key)?.as_bytes());
        let span = Span { from: time("from")?, to: time("to")? }.with(stop.at());
        Some(Valid { bytes, size: stop.index() + 1, span: Some(span) })
    }))
}

/// The lines from the beginning, as long as each is whole, of the form, and the next in number.
fn scan(path: &Path, first: u64) -> std::io::Result<Valid> {
    let mut lines = Lines::open(path, Place::START, None)?;
    let mut valid = Valid { bytes: 0, size: first, span: None };
    while let Some((_, line)) = lines.read()? {
        let head = line.strip_suffix(b"\n").and_then(|line| form::check(line).ok());
        let Some(head) = head.filter(|head| head.index == valid.size) else { break };
        valid.span = Some(valid.span.map_or(Span::at(head.at), |span| span.with(head.at)));
        valid.size += 1;
        valid.bytes = lines.place().byte;
    }
    Ok(valid)
}
