//! (E) The process behind a peer: held by a pidfd, and read through `/proc/<pid>`.
//!
//! A pid is a number that is given out again. Everything here is read first, and [`Process::alive`] is asked
//! after: as long as the held process lives, its number belongs to no other, so what was read was its own.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::OnceLock;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Statx, StatxFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::socket::Connector;
use super::{Unidentified, kernel};

/// More than `status` and `fdinfo` of a process hold.
const MAX_BYTES: usize = 64 << 10;
/// A longer cgroup file is not read: its process has gone deep to make it so.
const CGROUP_BYTES: usize = 16 << 10;

/// The process that connected.
#[derive(Debug)]
pub(super) struct Process {
    pid: i32,
    pidfd: Option<OwnedFd>,
    readable: bool,
    nested: OnceLock<bool>,
    cgroup: OnceLock<OwnedFd>,
}

impl Process {
    /// Holds the connector's process. `own` says whether `/proc` speaks of the agent's own pid namespace.
    ///
    /// # Errors
    /// [`Unidentified::Gone`] when it has ended, [`Unidentified::Unreadable`] when it cannot be held.
    pub(super) fn hold(connector: &mut Connector, own: bool) -> Result<Self, Unidentified> {
        let pid = connector.pid;
        let readable = own && pid > 0;
        let pidfd = match connector.pidfd.take() {
            None if readable => Some(found(pid, connector.uid)?),
            held => held,
        };
        let process = Self { pid, pidfd, readable, nested: OnceLock::new(), cgroup: OnceLock::new() };
        process.alive()?;
        Ok(process)
    }

    /// Whether it still lives. On recent kernels a process that is gone has a pidfd too, so this is always asked.
    ///
    /// Of a process in a foreign pid namespace on a kernel before 6.5 nothing is known, and nothing is read.
    pub(super) fn alive(&self) -> Result<(), Unidentified> {
        let Some(pidfd) = &self.pidfd else { return Ok(()) };
        let mut polled = [PollFd::new(pidfd, PollFlags::IN)];
        match poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
            Ok(0) => Ok(()),
            Ok(_) => Err(Unidentified::Gone),
            Err(errno) => Err(Unidentified::Unreadable { what: "whether the peer lives", errno }),
        }
    }

    /// Gives the text of `/proc/<pid>/cgroup` to `read`; empty when it cannot be read, and when it is too long.
    ///
    /// The file is kept open, which halves the cost of the next look; it stays the file of this process.
    pub(super) fn cgroup<T>(&self, read: impl FnOnce(&str) -> T) -> T {
        let mut buffer = [MaybeUninit::uninit(); CGROUP_BYTES];
        let text = self.open_cgroup().and_then(|file| rustix::io::pread(file, &mut buffer, 0).ok());
        let whole = text.map(|(text, _)| &*text).filter(|text| text.len() < CGROUP_BYTES);
        read(whole.and_then(|text| std::str::from_utf8(text).ok()).unwrap_or(""))
    }

    /// The number of its cgroup, which costs a tenth of the text; none before Linux 6.13.
    pub(super) fn cgroup_id(&self) -> Option<u64> {
        self.pidfd.as_ref().filter(|_| self.readable).and_then(|pidfd| kernel::cgroup_id(pidfd.as_fd()))
    }

    fn open_cgroup(&self) -> Option<&OwnedFd> {
        if let Some(open) = self.cgroup.get() {
            return Some(open);
        }
        let file = rustix::fs::open(self.path("cgroup")?, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        // It may be the file of a later process with the same pid; then this one is gone, and never asked again.
        self.alive().ok()?;
        Some(self.cgroup.get_or_init(|| file))
    }

    /// The file it executes; none when that cannot be read, and none for a process in a pid namespace below ours:
    /// root of that namespace may name any process of it as the sender of its own bytes (unix(7)).
    pub(super) fn exe(&self) -> Option<Stamp> {
        let path = self.path("exe")?;
        if *self.nested.get_or_init(|| self.depth() != Some(1)) {
            return None;
        }
        Stamp::of(path).ok()
    }

    /// Opens the file it executes.
    pub(super) fn open_exe(&self) -> io::Result<std::fs::File> {
        let path = self.path("exe").ok_or(Errno::SRCH)?;
        Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())?.into())
    }

    /// The path of the file it executes, as its own mount namespace calls it: for people to read, never to compare.
    pub(super) fn exe_path(&self) -> Option<PathBuf> {
        std::fs::read_link(self.path("exe")?).ok()
    }

    fn path(&self, leaf: &str) -> Option<String> {
        self.readable.then(|| format!("/proc/{}/{leaf}", self.pid))
    }

    fn depth(&self) -> Option<usize> {
        let held = self.pidfd.as_ref()?;
        ns_depth(&read(format!("/proc/self/fdinfo/{}", held.as_raw_fd())).ok()?)
    }
}

/// Before Linux 6.5 the process must be found by its number, which may have been given out again since `connect`.
/// Then at least it must not be another uid's.
fn found(pid: i32, uid: u32) -> Result<OwnedFd, Unidentified> {
    let number = Pid::from_raw(pid).ok_or(Unidentified::Gone)?;
    let held = pidfd_open(number, PidfdFlags::empty()).map_err(|errno| match errno {
        Errno::SRCH => Unidentified::Gone,
        errno => Unidentified::Unreadable { what: "which process connected", errno },
    })?;
    let uids = read(format!("/proc/{pid}/status")).map(|status| uids(&status)).unwrap_or_default();
    if uids.contains(&uid) { Ok(held) } else { Err(Unidentified::Gone) }
}

/// The real, effective, saved and file-system uid in the text of `/proc/<pid>/status` (proc_pid_status(5));
/// empty when it has none.
#[doc(hidden)]
#[must_use]
pub fn uids(status: &str) -> Vec<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or("");
    line.split_ascii_whitespace().filter_map(|uid| uid.parse().ok()).collect()
}

/// How many pid namespaces, from the reader's down, the process of a pidfd is in: from the text of its
/// `/proc/self/fdinfo` file (pidfd_open(2)). 1 is the reader's own; none when the process is gone or foreign.
#[doc(hidden)]
#[must_use]
pub fn ns_depth(fdinfo: &str) -> Option<usize> {
    let value = |key: &str| fdinfo.lines().find_map(|line| line.strip_prefix(key));
    let lives = value("Pid:")?.trim().parse::<i32>().is_ok_and(|pid| pid > 0);
    // A kernel without pid namespaces has no such line.
    lives.then(|| value("NSpid:").map_or(1, |pids| pids.split_ascii_whitespace().count()))
}

/// What identifies a file, and what changes when its content does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Stamp {
    /// Which file.
    pub(super) file: FileId,
    /// Its size in bytes.
    pub(super) size: u64,
    modified: (i64, u32),
    changed: (i64, u32),
}

/// Which file it is. The birth time tells a file from a later one that was given the same inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FileId {
    device: (u32, u32),
    inode: u64,
    born: Option<(i64, u32)>,
}

impl FileId {
    /// Whether it can never be mistaken for a later file.
    pub(super) const fn lasts(&self) -> bool {
        self.born.is_some()
    }
}

impl Stamp {
    /// Of the file at `path`, following links.
    ///
    /// Nothing is asked of a remote or user-space file system: its owner could keep the event loop waiting.
    pub(super) fn of(path: impl rustix::path::Arg) -> Result<Self, Errno> {
        rustix::fs::statx(CWD, path, AtFlags::STATX_DONT_SYNC, MASK).map(Self::from)
    }

    /// Of an open file.
    pub(super) fn of_open(file: impl AsFd) -> Result<Self, Errno> {
        rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, MASK).map(Self::from)
    }
}

const MASK: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::BTIME);

impl From<Statx> for Stamp {
    fn from(stat: Statx) -> Self {
        let time = |time: rustix::fs::StatxTimestamp| (time.tv_sec, time.tv_nsec);
        let born = StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::BTIME);
        let file = FileId {
            device: (stat.stx_dev_major, stat.stx_dev_minor),
            inode: stat.stx_ino,
            born: born.then(|| time(stat.stx_btime)),
        };
        Self { file, size: stat.stx_size, modified: time(stat.stx_mtime), changed: time(stat.stx_ctime) }
    }
}

/// Whether `/proc` speaks of this process's own pid namespace. If not, its numbers mean other processes.
pub(super) fn is_own() -> bool {
    let own = rustix::process::getpid().as_raw_pid().to_string();
    std::fs::read_link("/proc/self").is_ok_and(|link| link.as_os_str() == own.as_str())
}

/// Whether this process may see which file another uid's process executes.
#[must_use]
pub fn has_ptrace() -> bool {
    use rustix::thread::{CapabilitySet, capabilities};
    capabilities(None).is_ok_and(|held| held.effective.contains(CapabilitySet::SYS_PTRACE))
}

fn read(path: String) -> Result<String, Errno> {
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut bytes = Vec::with_capacity(4096);
    while rustix::io::read(&file, rustix::buffer::spare_capacity(&mut bytes))? > 0 {
        if bytes.len() > MAX_BYTES {
            return Err(Errno::FBIG);
        }
        bytes.reserve(1024);
    }
    String::from_utf8(bytes).map_err(|_| Errno::ILSEQ)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_depth_is_the_number_of_pids_that_a_process_has() {
        assert_eq!(ns_depth("pos:\t0\nPid:\t7\nNSpid:\t7\n"), Some(1));
        assert_eq!(ns_depth("pos:\t0\nPid:\t7\nNSpid:\t7\t1\n"), Some(2));
        assert_eq!(ns_depth("pos:\t0\nPid:\t7\n"), Some(1));
        for gone in ["Pid:\t-1\nNSpid:\t-1\n", "Pid:\t0\nNSpid:\t0\n", "", "Pid:\tx\n"] {
            assert_eq!(ns_depth(gone), None, "{gone:?}");
        }
    }

    #[test]
    fn the_uids_of_a_process_are_the_four_of_its_status() {
        assert_eq!(uids("Name:\tx\nUid:\t1\t2\t3\t4\nGid:\t5\t5\t5\t5\n"), [1, 2, 3, 4]);
        assert!(uids("Name:\tx\n").is_empty());
    }

    #[test]
    fn without_an_option_the_kernel_finds_the_process_by_its_number_and_uid() {
        let me = rustix::process::getpid().as_raw_pid();
        let uid = rustix::process::geteuid().as_raw();
        assert!(found(me, uid).is_ok());
        assert_eq!(found(me, uid + 1).unwrap_err(), Unidentified::Gone);
        assert_eq!(found(i32::MAX, uid).unwrap_err(), Unidentified::Gone);
    }
}
