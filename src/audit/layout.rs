//! How the log lies on disk: the names of its files, and what a segment says of the one before it.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use crate::time::Wall;

use super::MAX_NUMBER;

/// The file that a writer holds locked.
pub const LOCK: &str = "lock";
/// The directory of archived policy snapshots.
pub const POLICIES: &str = "policies";

/// The name of a segment's file: `<number, 8 digits>-<index of its first record, 16 digits>.jsonl`.
///
/// Numbers rise and never come back; names sort as the segments follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName {
    /// Its number, from 1.
    pub number: u64,
    /// The index of its first record.
    pub first: u64,
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08}-{:016}.jsonl", self.number, self.first)
    }
}

impl FromStr for SegmentName {
    type Err = NotASegment;

    fn from_str(text: &str) -> Result<Self, NotASegment> {
        let (number, first) = text.strip_suffix(".jsonl").and_then(|stem| stem.split_once('-')).ok_or(NotASegment)?;
        let number = number.parse().map_err(|_| NotASegment)?;
        let first = first.parse().map_err(|_| NotASegment)?;
        let name = Self { number, first };
        if first < MAX_NUMBER && name.to_string() == text { Ok(name) } else { Err(NotASegment) }
    }
}

/// The text is not the name of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a segment is named `<number, 8 digits>-<first index, 16 digits>.jsonl`")]
pub struct NotASegment;

/// What the opening record of a segment says of the last segment before it that holds something valid.
///
/// Segments numbered between the two hold nothing valid: they were begun while the disk failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "Told")]
pub struct Former {
    /// Its number.
    pub segment: u64,
    /// The length of its valid part, in bytes.
    pub bytes: u64,
    /// How many records the log held when it ended: the tree size.
    pub size: u64,
    /// How many bytes stood after its valid part when it was closed off.
    pub tail: u64,
    /// The earliest time stamp in it.
    pub from: Wall,
    /// The latest time stamp in it.
    pub to: Wall,
}

/// [`Former`] as it stands in the line.
#[derive(Deserialize)]
struct Told {
    segment: u64,
    bytes: u64,
    size: u64,
    tail: u64,
    from: String,
    to: String,
}

impl From<Told> for Former {
    fn from(told: Told) -> Self {
        let at = |text: &str| Wall::from_rfc3339(text.as_bytes()).unwrap_or_default();
        let Told { segment, bytes, size, tail, from, to } = told;
        Self { segment, bytes, size, tail, from: at(&from), to: at(&to) }
    }
}

/// The earliest and the latest of some time stamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: Wall,
    pub(super) to: Wall,
}

impl Span {
    pub(super) const fn at(at: Wall) -> Self {
        Self { from: at, to: at }
    }

    pub(super) fn with(self, at: Wall) -> Self {
        Self { from: self.from.min(at), to: self.to.max(at) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_reads_back_from_its_name() {
        let name = SegmentName { number: 3, first: 123_456 };
        assert_eq!(name.to_string(), "00000003-0000000000123456.jsonl");
        assert_eq!(name.to_string().parse(), Ok(name));
        for bad in ["", "3-1.jsonl", "00000003-0000000000123456.json", "0000000x-0000000000123456.jsonl"] {
            assert_eq!(bad.parse::<SegmentName>(), Err(NotASegment), "{bad}");
        }
    }
}
