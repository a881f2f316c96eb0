//! What a batch becomes: one write and one sync, or void. Decides; the files are behind [`Sink`].

use std::io;
use std::time::Duration;

use crate::retry::Backoff;
use crate::time::{Boot, Moment, Wall};

use super::batch::{Batch, Sink};
use super::layout::{Former, SegmentName, Span};
use super::line::{self, Boundary, Cause, End};
use super::{Durability, LogId, NotDurable};

/// How many bytes of void lines wait to be written anew.
const MAX_BACKLOG_BYTES: usize = 1 << 20;
/// How many of them go into one batch, so that a nearly full disk takes them piece by piece.
const MAX_ANEW_BYTES: usize = 1 << 16;
/// The waits between attempts to write while the disk fails. Each attempt may leave a small file behind.
const RETRY: Backoff = Backoff { first: Duration::from_millis(200), most: Duration::from_secs(10) };

/// What does not change while the log is open.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) log: LogId,
    pub(super) durability: Durability,
    pub(super) segment_bytes: u64,
    pub(super) reserve_bytes: u64,
}

/// The last segment that holds something valid, and how far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Here {
    /// Its number; 0 before the first segment of a log.
    pub(super) segment: u64,
    /// The length of its valid part.
    pub(super) bytes: u64,
    /// How many records the log holds: the index of the next.
    pub(super) size: u64,
    /// The time stamps in it; none while it holds nothing.
    pub(super) span: Option<Span>,
}

/// Why the next record opens a new segment, and what is to be said there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Broken {
    end: End,
    /// How many bytes stand after the valid part of the last segment.
    tail: u64,
    /// The number of the segment to try next.
    next: u64,
    failures: u32,
    not_before: Boot,
}

impl Broken {
    pub(super) fn new(end: End, tail: u64, next: u64) -> Self {
        Self { end, tail, next, failures: 0, not_before: Boot::default() }
    }

    fn failed_again(&mut self, now: Moment) {
        self.failures = self.failures.saturating_add(1);
        self.not_before = now.boot + RETRY.after(self.failures, u16::MAX);
    }
}

/// Turns batches into durable lines.
pub(super) struct Committer<S> {
    sink: S,
    terms: Terms,
    here: Here,
    broken: Option<Broken>,
    backlog: Vec<Kept>,
    backlog_bytes: usize,
    /// Up to where disk space is set aside.
    reserved: u64,
    /// When a full disk is asked for more space again.
    no_growth_before: Boot,
    /// The disk has no room for the last batch: the error, and when that is looked at again unasked.
    full: Option<(i32, Boot)>,
    lines: Vec<u8>,
}

/// A void line of an effect or a refusal.
struct Kept {
    body: Vec<u8>,
    at: Wall,
}

/// Where in the log a batch goes. The file for it is open.
#[derive(Clone, Copy)]
enum Ground {
    /// After what is there.
    Here,
    /// Into this new segment, since the former is full.
    Next(u64),
    /// Into a new segment, since the former ended irregularly.
    Reopened(Broken),
}

impl Ground {
    const fn opens(&self) -> Option<u64> {
        match self {
            Self::Here => None,
            Self::Next(segment) => Some(*segment),
            Self::Reopened(broken) => Some(broken.next),
        }
    }
}

/// What stands in `lines`, ready to be written.
struct Draft {
    ground: Ground,
    /// The index of the batch's first record.
    first: u64,
    /// How many lines of the backlog are in it.
    anew: usize,
    /// What the log is like if it succeeds.
    then: Here,
}

impl<S: Sink> Committer<S> {
    pub(super) fn new(sink: S, terms: Terms, here: Here, broken: Option<Broken>) -> Self {
        Self {
            sink,
            terms,
            here,
            broken,
            backlog: Vec::new(),
            backlog_bytes: 0,
            reserved: here.bytes,
            no_growth_before: Boot::default(),
            full: None,
            lines: Vec::new(),
        }
    }

    /// Writes `batch`; the index of its first record once all of it is as durable as the terms say.
    ///
    /// # Errors
    /// Nothing of the batch counts. Its lines of effects and refusals are kept and written anew.
    pub(super) fn commit(&mut self, batch: &Batch, now: Moment) -> Result<u64, NotDurable> {
        let ground = match self.ground(now, batch.stop.is_some()) {
            Ok(ground) => ground,
            Err(error) => {
                self.keep(batch, None);
                return Err(error);
            }
        };
        let draft = self.compose(ground, batch, now.wall);
        if let Err(error) = self.make_room(&draft) {
            self.refuse(&draft, &error, now);
            self.keep(batch, None);
            return Err(NotDurable::Io(error.to_string()));
        }
        match self.write(batch.stop.is_some()) {
            Ok(()) => {
                self.accept(&draft, now);
                Ok(draft.first)
            }
            Err((cause, error)) => {
                self.give_up(&draft, batch, cause, &error, now);
                self.keep(batch, Some(draft.first));
                Err(NotDurable::Io(error.to_string()))
            }
        }
    }

    /// When there is something to do unasked: the disk is to be tried again, or void lines are to be written anew.
    pub(super) fn retry_at(&self) -> Option<Boot> {
        let trouble = self.broken.map(|broken| broken.not_before).or(self.full.map(|(_, again)| again));
        trouble.or((!self.backlog.is_empty()).then(Boot::default))
    }

    /// The error with which the disk fails; 0 where there was none, as after a torn tail.
    pub(super) fn errno(&self) -> Option<i32> {
        self.broken.map(|broken| broken.end.errno.unwrap_or(0)).or(self.full.map(|(errno, _)| errno))
    }

    pub(super) fn here(&self) -> Here {
        self.here
    }

    /// How many bytes are set aside after the last record.
    pub(super) fn reserve_left(&self) -> u64 {
        self.reserved.saturating_sub(self.here.bytes)
    }

    /// `last`: there will be no other attempt, so that this one is made before its time.
    fn ground(&mut self, now: Moment, last: bool) -> Result<Ground, NotDurable> {
        let full = self.broken.is_none() && self.is_full() && now.boot >= self.no_growth_before;
        if full && let Some(ground) = self.rotate(now) {
            return Ok(ground);
        }
        let Some(broken) = &mut self.broken else { return Ok(Ground::Here) };
        if now.boot < broken.not_before && !last {
            return Err(NotDurable::Io("the disk failed, and is tried again soon".to_owned()));
        }
        let name = SegmentName { number: broken.next, first: self.here.size };
        // Nothing is set aside before the segment has proved itself: a failing disk would be eaten up.
        if let Err(error) = self.sink.create(name, 0) {
            broken.failed_again(now);
            return Err(NotDurable::Io(error.to_string()));
        }
        Ok(Ground::Reopened(*broken))
    }

    /// Half of the reserve is left unwritten, so that there is room to go on when no new segment can be had.
    fn is_full(&self) -> bool {
        self.here.bytes + self.terms.reserve_bytes / 2 >= self.terms.segment_bytes
    }

    /// Begins the next segment; none where that fails, and the log goes on in this one.
    fn rotate(&mut self, now: Moment) -> Option<Ground> {
        let next = self.here.segment + 1;
        // With `os` nothing was synced on the way; a former segment has to stand.
        if self.terms.durability == Durability::Os
            && let Err(error) = self.sink.sync()
        {
            let end = End { cause: Cause::Sync, errno: error.raw_os_error(), void: 0, dropped: 0 };
            self.broken = Some(Broken::new(end, 0, next));
            return None;
        }
        let name = SegmentName { number: next, first: self.here.size };
        if self.sink.create(name, self.terms.reserve_bytes).is_err() {
            self.no_growth_before = now.boot + RETRY.most;
            return None;
        }
        Some(Ground::Next(next))
    }

    fn compose(&mut self, ground: Ground, batch: &Batch, now: Wall) -> Draft {
        let mut pen = Pen { lines: std::mem::take(&mut self.lines), size: self.here.size, span: None };
        pen.lines.clear();
        if ground.opens().is_none() {
            pen.span = self.here.span;
        }
        self.open(&ground, now, &mut pen);
        let most = if batch.stop.is_some() { usize::MAX } else { pen.lines.len() + MAX_ANEW_BYTES };
        let mut anew = 0;
        for kept in &self.backlog {
            if anew > 0 && pen.lines.len() >= most {
                break;
            }
            pen.line(kept.at, &kept.body);
            anew += 1;
        }
        let first = pen.size;
        for (body, entry) in batch.iter() {
            pen.line(entry.at, body);
        }
        let segment = ground.opens().unwrap_or(self.here.segment);
        if let Some(reason) = batch.stop {
            let Span { from, to } = pen.span_with(now);
            pen.boundary(now, &Boundary::Stop { log: self.terms.log, reason, segment, from, to });
        }
        let Pen { lines, size, span } = pen;
        self.lines = lines;
        let before = if ground.opens().is_none() { self.here.bytes } else { 0 };
        Draft { ground, first, anew, then: Here { segment, bytes: before + self.written(), size, span } }
    }

    /// The opening record, if a segment begins here. The first of a log is opened by `start`, out of the batch.
    fn open(&self, ground: &Ground, now: Wall, pen: &mut Pen) {
        let log = self.terms.log;
        let Some(Span { from, to }) = self.here.span else { return };
        let Here { segment: before, bytes, size, .. } = self.here;
        let former = Former { segment: before, bytes, size, tail: 0, from, to };
        match *ground {
            Ground::Here => {}
            Ground::Next(segment) => pen.boundary(now, &Boundary::Segment { log, segment, former: &former }),
            Ground::Reopened(Broken { end, tail, next: segment, .. }) => {
                pen.boundary(now, &Boundary::Reopen { log, segment, former: &Former { tail, ..former }, end });
            }
        }
    }

    /// Sets aside what is not yet, so that a full disk is found out before a byte is written.
    ///
    /// Other errors than that of a full disk are left to `write`: a file system may know no reserve.
    fn make_room(&mut self, draft: &Draft) -> io::Result<()> {
        let reserved = match draft.ground {
            Ground::Here => self.reserved,
            Ground::Next(_) => self.terms.reserve_bytes,
            Ground::Reopened(_) => 0,
        };
        let end = draft.then.bytes;
        if reserved >= end {
            return Ok(());
        }
        match self.sink.reserve(reserved.max(end - self.written()), end) {
            Err(error) if is_full(&error) => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Nothing was written: the segment goes on, or is still to be opened.
    fn refuse(&mut self, draft: &Draft, error: &io::Error, now: Moment) {
        let errno = error.raw_os_error();
        let end = End { cause: Cause::Write, errno, void: 0, dropped: 0 };
        match draft.ground {
            Ground::Here => self.full = Some((errno.unwrap_or(0), now.boot + RETRY.first)),
            Ground::Next(segment) => self.broken = Some(Broken::new(end, 0, segment)),
            Ground::Reopened(_) => {}
        }
        self.broken.iter_mut().for_each(|broken| broken.failed_again(now));
    }

    fn write(&mut self, last: bool) -> Result<(), (Cause, io::Error)> {
        let mut rest = self.lines.as_slice();
        if rest.is_empty() {
            return Ok(());
        }
        while !rest.is_empty() {
            match self.sink.append(rest) {
                Ok(0) => return Err((Cause::Write, io::ErrorKind::WriteZero.into())),
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err((Cause::Write, error)),
            }
        }
        match self.terms.durability {
            Durability::Os if !last => Ok(()),
            // A crash before this returns: the lines may be found at the next start, and count though nobody was answered.
            Durability::Os | Durability::Disk => self.sink.sync().map_err(|error| (Cause::Sync, error)),
        }
    }

    fn accept(&mut self, draft: &Draft, now: Moment) {
        match draft.ground {
            Ground::Here => {}
            Ground::Next(_) => self.reserved = self.terms.reserve_bytes,
            Ground::Reopened(_) => self.reserved = 0,
        }
        self.reserved = self.reserved.max(draft.then.bytes);
        self.here = draft.then;
        self.broken = None;
        self.full = None;
        self.backlog_bytes -= self.backlog.drain(..draft.anew).map(|kept| kept.body.len()).sum::<usize>();
        self.top_up(now);
    }

    /// Keeps at least half of the reserve set aside after the last record, within the segment where that is possible.
    fn top_up(&mut self, now: Moment) {
        let (reserve, end) = (self.terms.reserve_bytes, self.here.bytes);
        if self.reserve_left() >= reserve / 2 || now.boot < self.no_growth_before {
            return;
        }
        let to = (end + reserve).min(self.terms.segment_bytes).max(end + reserve / 2);
        match self.sink.reserve(self.reserved.max(end), to) {
            Ok(()) => self.reserved = to,
            // A full disk: what is set aside is used up first.
            Err(_) => self.no_growth_before = now.boot + RETRY.most,
        }
    }

    /// Closes the segment in which the batch became void.
    fn give_up(&mut self, draft: &Draft, batch: &Batch, cause: Cause, error: &io::Error, now: Moment) {
        let length = self.sink.length();
        // What stands in a segment that was never opened is void as a whole; only an empty file is used again.
        let after = |segment: u64| if matches!(length, Ok(0)) { segment } else { segment + 1 };
        let end = End { cause, errno: error.raw_os_error(), void: 0, dropped: 0 };
        let mut broken = match draft.ground {
            Ground::Reopened(broken) => Broken { next: after(broken.next), ..broken },
            Ground::Next(segment) => Broken::new(end, 0, after(segment)),
            Ground::Here => {
                let tail = length.map_or(self.written(), |length| length.saturating_sub(self.here.bytes));
                Broken::new(end, tail, self.here.segment + 1)
            }
        };
        broken.end.void += batch.len() + u64::from(batch.stop.is_some());
        broken.failed_again(now);
        self.broken = Some(broken);
    }

    /// Keeps what tells of an effect or a refusal, to write it anew. `first`: the index that the batch had.
    fn keep(&mut self, batch: &Batch, first: Option<u64>) {
        for ((body, entry), nth) in batch.iter().zip(0..) {
            if !entry.keep {
                continue;
            }
            if self.backlog_bytes + body.len() > MAX_BACKLOG_BYTES {
                self.drop_one();
                continue;
            }
            let mut body = body.to_vec();
            if let Some(first) = first {
                line::again(&mut body, first + nth);
            }
            self.backlog_bytes += body.len();
            self.backlog.push(Kept { body, at: entry.at });
        }
    }

    /// Nothing is lost untold: the segment is closed, if it is not yet, so that the next one says so.
    fn drop_one(&mut self) {
        let errno = self.full.map(|(errno, _)| errno);
        let end = End { cause: Cause::Write, errno, void: 0, dropped: 0 };
        let next = self.here.segment + 1;
        self.broken.get_or_insert_with(|| Broken::new(end, 0, next)).end.dropped += 1;
    }

    fn written(&self) -> u64 {
        u64::try_from(self.lines.len()).unwrap_or(u64::MAX)
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Lines as they are put one after the other.
struct Pen {
    lines: Vec<u8>,
    size: u64,
    span: Option<Span>,
}

impl Pen {
    fn line(&mut self, at: Wall, body: &[u8]) {
        line::finish(self.size, at, body, &mut self.lines);
        self.span = Some(self.span_with(at));
        self.size += 1;
    }

    fn boundary(&mut self, at: Wall, boundary: &Boundary<'_>) {
        let mut body = Vec::with_capacity(512);
        line::boundary(boundary, &mut body);
        self.line(at, &body);
    }

    fn span_with(&self, at: Wall) -> Span {
        self.span.map_or(Span::at(at), |span| span.with(at))
    }
}
