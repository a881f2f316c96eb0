//! The memory of a process, read from outside.

use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;

const PAGE_BYTES: usize = 4_096;
const EMPTY: [u8; PAGE_BYTES] = [0; PAGE_BYTES];

pub(crate) struct Memory {
    pid: u32,
}

/// A mapping, and how often what was looked for stands in it.
#[derive(Debug)]
pub(crate) struct Place {
    range: Range<usize>,
    /// As `/proc/<pid>/maps` shows it: permissions, and the file or `[heap]` or nothing.
    named: String,
    /// The kernel's flags (`VmFlags`, proc_pid_smaps(5)).
    flags: Vec<String>,
    pub(crate) count: usize,
}

impl Place {
    /// Whether it is left out of core dumps and wiped on fork: the arena's mappings are, and no others.
    pub(crate) fn is_arena(&self) -> bool {
        ["dd", "wf"].iter().all(|flag| self.flags.iter().any(|has| has == flag))
    }
}

impl Memory {
    pub(crate) fn of(pid: u32) -> Self {
        Self { pid }
    }

    /// How often `needle` stands in the memory that can be written: heap, arena, stacks, all of it.
    pub(crate) fn count(&self, needle: &[u8]) -> usize {
        self.find(needle).iter().map(|place| place.count).sum()
    }

    /// Every mapping in which `needle` stands. Those that cannot be written are as the program's files are.
    pub(crate) fn find(&self, needle: &[u8]) -> Vec<Place> {
        let memory = File::open(format!("/proc/{}/mem", self.pid)).unwrap();
        let written = self.mappings().into_iter().filter(|place| place.named.starts_with("rw"));
        let counted = written.map(|place| Place { count: count_in(&memory, &place.range, needle), ..place });
        counted.filter(|place| place.count > 0).collect()
    }

    /// The kernel's flags of the mapping that holds `address`.
    pub(crate) fn flags(&self, address: usize) -> Vec<String> {
        self.mappings().into_iter().find(|place| place.range.contains(&address)).unwrap().flags
    }

    fn mappings(&self) -> Vec<Place> {
        let text = fs::read_to_string(format!("/proc/{}/smaps", self.pid)).unwrap();
        let mut mappings: Vec<Place> = Vec::new();
        for line in text.lines() {
            if let Some(flags) = line.strip_prefix("VmFlags:") {
                mappings.last_mut().unwrap().flags = flags.split_whitespace().map(Into::into).collect();
            } else if let Some((range, named)) =
                line.split_once(' ').and_then(|(range, rest)| Some((parse_range(range)?, rest)))
            {
                mappings.push(Place { range, named: named.to_owned(), flags: Vec::new(), count: 0 });
            }
        }
        mappings
    }
}

fn parse_range(text: &str) -> Option<Range<usize>> {
    let (start, end) = text.split_once('-')?;
    Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
}

fn count_in(memory: &File, range: &Range<usize>, needle: &[u8]) -> usize {
    let mut bytes = vec![0; range.len()];
    // Some mappings of the kernel's own cannot be read.
    if memory.read_exact_at(&mut bytes, range.start as u64).is_err() {
        return 0;
    }
    // Most pages are empty; the others are searched with the beginning of the next.
    let pages = (0..bytes.len()).step_by(PAGE_BYTES).filter(|at| bytes[*at..bytes.len().min(at + PAGE_BYTES)] != EMPTY);
    let with_next = |at: usize| &bytes[at..bytes.len().min(at + PAGE_BYTES + needle.len() - 1)];
    pages.map(|at| with_next(at).windows(needle.len()).filter(|window| *window == needle).count()).sum()
}
