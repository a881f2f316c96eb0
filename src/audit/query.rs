//! (E) Finding records: by decision id, by what they say, and as they come. On files alone.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::time::Wall;

use super::chain::{self, Chain, Lines, Place, Segment};
use super::form::{self, Line};
use super::layout::SegmentName;
use super::{AuditError, DecisionId, MAX_LINE_BYTES};

/// How many lines one look of [`Follow`] takes.
const MAX_LOOK: usize = 4_096;

/// Which records are wanted: those to which everything given applies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Their `kind`.
    pub kind: Option<String>,
    /// The workload or operator: their `who`.
    pub workload: Option<String>,
    /// The provider: their `resource`, where its type is `Provider`.
    pub provider: Option<String>,
    /// The error code.
    pub code: Option<String>,
    /// Not before this.
    pub since: Option<Wall>,
    /// Before this.
    pub until: Option<Wall>,
}

impl Filter {
    /// Whether `line` is wanted.
    #[must_use]
    pub fn admits(&self, line: &Line) -> bool {
        let says =
            |key: &str, wanted: &Option<String>| wanted.as_deref().is_none_or(|wanted| line.text(key) == Some(wanted));
        let provider = self.provider.is_none() || line.text("resource_type") == Some("Provider");
        provider
            && self.admits_head(line.at(), line.kind())
            && says("who", &self.workload)
            && says("resource", &self.provider)
            && says("code", &self.code)
    }

    fn admits_head(&self, at: Wall, kind: &str) -> bool {
        self.kind.as_deref().is_none_or(|wanted| wanted == kind) && self.spans(at, at)
    }

    /// Whether something between the two times can be wanted.
    fn spans(&self, from: Wall, to: Wall) -> bool {
        self.since.is_none_or(|since| to >= since) && self.until.is_none_or(|until| from < until)
    }
}

/// The record that `id` names; none where the log does not have it.
///
/// # Errors
/// [`AuditError::Damaged`], [`AuditError::Io`].
pub fn find(dir: &Path, id: DecisionId) -> Result<Option<Line>, AuditError> {
    let chain = Chain::read(dir)?;
    let Some(segment) = chain.holding(id.index).filter(|segment| segment.opening.log.prefix() == id.log) else {
        return Ok(None);
    };
    let found = Reading::new(segment)?.next(|head| head.index >= id.index)?;
    Ok(found.filter(|line| line.index() == id.index))
}

/// All records that `filter` admits, in the order of the log. Segments in which none can be are not read.
///
/// # Errors
/// [`AuditError::Damaged`], [`AuditError::Io`].
pub fn query(dir: &Path, filter: Filter) -> Result<Query, AuditError> {
    let segments = Chain::read(dir)?.segments.into_iter();
    let wanted = |segment: &Segment| segment.closed.is_none_or(|closed| filter.spans(closed.from, closed.to));
    let segments = segments.filter(wanted).collect();
    Ok(Query { segments, reading: None, filter, until: None })
}

/// See [`query`]. After an error it ends.
#[derive(Debug)]
pub struct Query {
    segments: VecDeque<Segment>,
    reading: Option<Reading>,
    filter: Filter,
    /// Where the last segment ends for this query, in bytes; none: where its lines do.
    until: Option<u64>,
}

impl Iterator for Query {
    type Item = Result<Line, AuditError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance();
        if next.is_err() {
            self.segments.clear();
            self.reading = None;
        }
        next.transpose()
    }
}

impl Query {
    fn advance(&mut self) -> Result<Option<Line>, AuditError> {
        loop {
            let Some(reading) = &mut self.reading else {
                let Some(segment) = self.segments.pop_front() else { return Ok(None) };
                self.reading = Some(Reading::new(&segment)?);
                continue;
            };
            let filter = &self.filter;
            let next = reading.next(|head| filter.admits_head(head.at, head.kind))?;
            let ends = |until| self.segments.is_empty() && reading.lines.place().byte > until;
            match next.filter(|_| !self.until.is_some_and(ends)) {
                None => self.reading = None,
                Some(line) if filter.admits(&line) => return Ok(Some(line)),
                Some(_) => {}
            }
        }
    }
}

/// The valid records of a segment, one after the other.
#[derive(Debug)]
struct Reading {
    lines: Lines,
    path: PathBuf,
    closed: bool,
}

impl Reading {
    fn new(segment: &Segment) -> Result<Self, AuditError> {
        Self::from(segment.path.clone(), Place::START, segment.closed.map(|closed| closed.bytes))
    }

    fn from(path: PathBuf, place: Place, to: Option<u64>) -> Result<Self, AuditError> {
        let lines = Lines::open(&path, place, to).map_err(AuditError::io(&path))?;
        Ok(Self { lines, path, closed: to.is_some() })
    }

    /// The next record whose head is wanted. The last segment ends where its lines do.
    fn next(&mut self, wanted: impl Fn(&form::Head<'_>) -> bool) -> Result<Option<Line>, AuditError> {
        while let Some((place, line)) = self.lines.read().map_err(AuditError::io(&self.path))? {
            let read = line.strip_suffix(b"\n").ok_or("the line is unfinished".to_owned()).and_then(|line| {
                let head = form::check(line).map_err(|error| error.to_string())?;
                if wanted(&head) { Line::parse(line).map(Some).map_err(|error| error.to_string()) } else { Ok(None) }
            });
            match read {
                Ok(None) => {}
                Ok(Some(line)) => return Ok(Some(line)),
                Err(_) if !self.closed => return Ok(None),
                Err(what) => {
                    return Err(AuditError::damaged(&self.path, format!("from byte {} on: {what}", place.byte)));
                }
            }
        }
        Ok(None)
    }
}

/// The records as they come. A line is seen when it is written, which is shortly before it is durable: should
/// its batch become void, it was seen all the same.
#[derive(Debug)]
pub struct Follow {
    dir: PathBuf,
    filter: Filter,
    /// The segment that was read last, and how far.
    at: Option<(SegmentName, Place)>,
}

impl Follow {
    /// Follows the log in `dir` from its present end on.
    ///
    /// # Errors
    /// [`AuditError::Damaged`], [`AuditError::Io`].
    pub fn new(dir: &Path, filter: Filter) -> Result<Self, AuditError> {
        let last = Chain::read(dir)?.segments.pop();
        let at =
            last.map(|last| Ok::<_, AuditError>((last.name, end(&last.path).map_err(AuditError::io(&last.path))?)));
        Ok(Self { dir: dir.to_owned(), filter, at: at.transpose()? })
    }

    /// The records before the place where it stands: what [`Self::look`] gives next is what comes after them.
    ///
    /// # Errors
    /// [`AuditError::Damaged`], [`AuditError::Io`].
    pub fn before(&self) -> Result<Query, AuditError> {
        let mut query = query(&self.dir, self.filter.clone())?;
        query.segments.retain(|segment| self.at.is_some_and(|(name, _)| segment.name <= name));
        // Where the segment of that place cannot hold what is wanted, it is not in the query, and nothing cuts it.
        let ends_here = query.segments.back().is_some_and(|last| self.at.is_some_and(|(name, _)| last.name == name));
        query.until = self.at.filter(|_| ends_here).map(|(_, place)| place.byte);
        Ok(query)
    }

    /// What has come since the last look: at most some thousand lines, so look again until there are none; then
    /// wait, for a change of the directory or a fraction of a second.
    ///
    /// # Errors
    /// [`AuditError::Damaged`], [`AuditError::Io`].
    pub fn look(&mut self) -> Result<Vec<Line>, AuditError> {
        let mut came = Vec::new();
        while let Some((name, to)) = self.segment()? {
            let mut place = self.at.filter(|(at, _)| *at == name).map_or(Place::START, |(_, place)| place);
            let mut reading = Reading::from(self.dir.join(name.to_string()), place, to)?;
            while came.len() < MAX_LOOK
                && let Some(line) = reading.next(|_| true)?
            {
                place = reading.lines.place();
                came.extend(Some(line).filter(|line| self.filter.admits(line)));
            }
            self.at = Some((name, place));
            if to.is_none() || came.len() >= MAX_LOOK {
                break;
            }
        }
        Ok(came)
    }

    /// The segment to read, and how far: the present one until it is read to its end, then the one after it.
    fn segment(&self) -> Result<Option<(SegmentName, Option<u64>)>, AuditError> {
        if let Some((name, _)) = self.at
            && chain::list(&self.dir)?.last() == Some(&name)
        {
            return Ok(Some((name, None)));
        }
        let mut segments = Chain::read(&self.dir)?.segments.into_iter();
        let unread = |segment: &Segment| match self.at {
            None => true,
            Some((name, place)) if segment.name == name => {
                segment.closed.is_none_or(|closed| place.byte < closed.bytes)
            }
            Some((name, _)) => segment.name > name,
        };
        Ok(segments.find(unread).map(|segment| (segment.name, segment.closed.map(|closed| closed.bytes))))
    }
}

/// Where the next line of a segment will begin: after its last newline. Its number is not known, and not needed.
fn end(path: &Path) -> std::io::Result<Place> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let from = length.saturating_sub(u64::try_from(MAX_LINE_BYTES).unwrap_or(u64::MAX) + 1);
    file.seek(SeekFrom::Start(from))?;
    let mut last = Vec::new();
    file.take(length - from).read_to_end(&mut last)?;
    let unfinished = last.iter().rev().take_while(|byte| **byte != b'\n').count();
    Ok(Place { line: 0, byte: length - u64::try_from(unfinished).unwrap_or(0) })
}
