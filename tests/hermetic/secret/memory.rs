//! The memory of a process, read from outside.

use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;

const PAGE_BYTES: usize = 4_096;
const EMPTY: [u8; PAGE_BYTES] = [0; PAGE_BYTES];

pub(super) struct Memory {
    pid: u32,
}

impl Memory {
    pub(super) fn of(pid: u32) -> Self {
        Self { pid }
    }

    /// How often `needle` stands in the memory that can be read: heap, arena, stacks, program, all of it.
    pub(super) fn count(&self, needle: &[u8]) -> usize {
        let memory = File::open(format!("/proc/{}/mem", self.pid)).unwrap();
        self.mappings().iter().map(|(range, _)| count_in(&memory, range, needle)).sum()
    }

    /// The kernel's flags of the mapping that holds `address` (`VmFlags`, proc_pid_smaps(5)).
    pub(super) fn flags(&self, address: usize) -> Vec<String> {
        let mappings = self.mappings();
        let (_, flags) = mappings.iter().find(|(range, _)| range.contains(&address)).unwrap();
        flags.split_whitespace().map(Into::into).collect()
    }

    fn mappings(&self) -> Vec<(Range<usize>, String)> {
        let text = fs::read_to_string(format!("/proc/{}/smaps", self.pid)).unwrap();
        let mut mappings = Vec::new();
        for line in text.lines() {
            if let Some(flags) = line.strip_prefix("VmFlags:") {
                let last: &mut (Range<usize>, String) = mappings.last_mut().unwrap();
                last.1 = flags.to_owned();
            } else if let Some(range) = line.split(' ').next().and_then(parse_range) {
                mappings.push((range, String::new()));
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
