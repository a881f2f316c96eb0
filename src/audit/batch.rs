//! What waits to be written together, and the seam to the files it is written to.

use std::io;

use crate::time::Wall;

use super::layout::SegmentName;

/// The seam to the files: the segment that is appended to.
pub trait Sink: Send + 'static {
    /// Makes a new segment, sets aside its first `reserve` bytes, and makes its entry in the directory durable.
    ///
    /// From here on it is the one that is appended to; on an error the former one stays it. A file of this
    /// name that is empty is taken for new.
    ///
    /// # Errors
    /// The operating system's.
    fn create(&mut self, name: SegmentName, reserve: u64) -> io::Result<()>;

    /// Appends `bytes`, or the first of them, and says how many.
    ///
    /// # Errors
    /// The operating system's; how much of `bytes` then stands in the file is not known.
    fn append(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Makes what was appended durable.
    ///
    /// # Errors
    /// The operating system's; what was appended since the last success may then be lost.
    fn sync(&mut self) -> io::Result<()>;

    /// Sets disk space aside for the bytes from `from` to `to`, without a change to the file's length.
    ///
    /// # Errors
    /// The operating system's.
    fn reserve(&mut self, from: u64, to: u64) -> io::Result<()>;

    /// The length of the segment, in bytes.
    ///
    /// # Errors
    /// The operating system's.
    fn length(&self) -> io::Result<u64>;
}

/// Bodies that wait for one write, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bodies: Vec<u8>,
    entries: Vec<Entry>,
    /// Why the log is to be ended after this batch.
    pub(super) stop: Option<&'static str>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Where its body ends in `bodies`.
    end: usize,
    /// When it was made.
    pub(super) at: Wall,
    /// Whether it is written anew when it is void.
    pub(super) keep: bool,
}

impl Batch {
    /// Adds a body; its place among the batch's records.
    pub(super) fn push(&mut self, body: &[u8], at: Wall, keep: bool) -> u64 {
        let nth = self.len();
        self.bodies.extend_from_slice(body);
        self.entries.push(Entry { end: self.bodies.len(), at, keep });
        nth
    }

    /// How many records.
    pub(super) fn len(&self) -> u64 {
        u64::try_from(self.entries.len()).unwrap_or(u64::MAX)
    }

    /// Whether there is nothing to do.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.stop.is_none()
    }

    /// How many bytes wait.
    pub(super) fn bytes(&self) -> usize {
        self.bodies.len()
    }

    /// Empties it, and keeps its memory for the next records, unless a burst has made it large.
    pub(super) fn clear(&mut self) {
        const KEPT_BYTES: usize = 1 << 18;
        self.bodies.clear();
        self.bodies.shrink_to(KEPT_BYTES);
        self.entries.clear();
        self.entries.shrink_to(KEPT_BYTES / 256);
        self.stop = None;
    }

    /// Its bodies, in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], Entry)> {
        let mut from = 0;
        self.entries.iter().map(move |entry| {
            let body = self.bodies.get(from..entry.end).unwrap_or_default();
            from = entry.end;
            (body, *entry)
        })
    }
}
