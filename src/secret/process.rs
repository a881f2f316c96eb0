//! (E) The process as a whole: nobody reads its memory, it leaves no core, and its files are its own.

use std::io;

use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit, umask};

use super::mdwe;

/// What [`harden`] reached.
#[derive(Debug)]
pub struct Hardening {
    /// Every measure, and whether it holds.
    pub measures: [Measure; 3],
    /// The umask before, for a program that is started on somebody's behalf.
    pub umask_before: u32,
}

/// One measure.
#[derive(Debug)]
pub struct Measure {
    /// What it is called, e.g. `not dumpable`.
    pub name: &'static str,
    /// Why it does not hold, if it does not.
    pub failed: Option<io::Error>,
}

impl Hardening {
    /// The measures that do not hold.
    pub fn missing(&self) -> impl Iterator<Item = &Measure> {
        self.measures.iter().filter(|measure| measure.failed.is_some())
    }
}

/// Called early in `main`, before a secret is read and a thread is started.
///
/// - not dumpable: no core dump, and no other process of the same user may read memory, descriptors or
///   environment (`PR_SET_DUMPABLE`); it also keeps the environment in `/proc` from that user;
/// - no core: `RLIMIT_CORE` is 0, soft and hard;
/// - no new executable memory: see Linux's `PR_SET_MDWE`;
/// - umask 0077: what the process creates is its own until a mode is given.
///
/// No measure is fatal: what does not hold is in the answer, to be said by whoever starts the process.
#[must_use]
pub fn harden() -> Hardening {
    let umask_before = umask(Mode::RWXG | Mode::RWXO).bits();
    let measure = |name, outcome: io::Result<()>| Measure { name, failed: outcome.err() };
    let measures = [
        measure("not dumpable", set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(Into::into)),
        measure(
            "no core",
            setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).map_err(Into::into),
        ),
        measure("no new executable memory", mdwe::refuse_executable_gain()),
    ];
    Hardening { measures, umask_before }
}
