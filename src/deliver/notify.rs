//! (E) How the reader of a file is told: a signal to the pid in its pid file, or a command. Neither is shown a secret.

use std::fs::{File, Metadata};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, geteuid, getpid, kill_process_group, pidfd_open, pidfd_send_signal};
use tokio::process::Command;
use tokio::time::timeout;

use super::{Delivery, Then};
use crate::peer::uids;

/// Where a command finds programs: it has nothing of the agent's environment.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The longest pid file, in bytes.
const MOST_PID_BYTES: u64 = 32;
/// More than `/proc/PID/status` holds.
const MOST_STATUS_BYTES: u64 = 64 << 10;

/// The signals by which programs are told to read their files anew, or to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP.
    Hup,
    /// SIGINT.
    Int,
    /// SIGQUIT.
    Quit,
    /// SIGTERM.
    Term,
    /// SIGUSR1.
    Usr1,
    /// SIGUSR2.
    Usr2,
}

impl Signal {
    /// Every signal, by its word.
    pub const ALL: [(&'static str, Self); 6] = [
        ("HUP", Self::Hup),
        ("INT", Self::Int),
        ("QUIT", Self::Quit),
        ("TERM", Self::Term),
        ("USR1", Self::Usr1),
        ("USR2", Self::Usr2),
    ];

    /// What the kernel calls it.
    #[must_use]
    pub const fn number(self) -> rustix::process::Signal {
        match self {
            Self::Hup => rustix::process::Signal::HUP,
            Self::Int => rustix::process::Signal::INT,
            Self::Quit => rustix::process::Signal::QUIT,
            Self::Term => rustix::process::Signal::TERM,
            Self::Usr1 => rustix::process::Signal::USR1,
            Self::Usr2 => rustix::process::Signal::USR2,
        }
    }
}

/// The reader was not told; the file stays new.
#[derive(Debug, thiserror::Error)]
pub enum NotTold {
    /// The pid file cannot be used.
    #[error("the pid file `{}` {what}", .path.display())]
    PidFile {
        /// Where it is.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The signal was not sent.
    #[error("process {pid} of the pid file cannot be signalled: {errno}{}", privilege(*.errno))]
    Signal {
        /// To whom.
        pid: i32,
        /// Why not.
        errno: rustix::io::Errno,
    },
    /// The command does not start.
    #[error("the command cannot be run: {0}")]
    NotRun(std::io::Error),
    /// The command failed. Its output is nobody's: it may hold what it read.
    #[error("the command failed: {0}; run it by hand to see what it says")]
    Failed(std::process::ExitStatus),
    /// The command took too long, and was ended.
    #[error("the command took longer than {} s, and was ended with all that it had started", .0.as_secs())]
    Late(Duration),
}

fn privilege(errno: rustix::io::Errno) -> &'static str {
    match errno {
        rustix::io::Errno::PERM => "; another user's process needs CAP_KILL: see the drop-in `delivery.conf`",
        rustix::io::Errno::SRCH => "; it has ended",
        _ => "",
    }
}

impl NotTold {
    /// The word in records.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::PidFile { .. } => "pid_file",
            Self::Signal { .. } => "not_signalled",
            Self::NotRun(_) => "not_run",
            Self::Failed(_) => "command_failed",
            Self::Late(_) => "command_late",
        }
    }
}

/// Tells the reader of `delivery`; how it was told.
///
/// # Errors
/// [`NotTold`].
pub async fn tell(delivery: &Delivery, then: &Then) -> Result<&'static str, NotTold> {
    match then {
        Then::Signal { signal, pid_file } => {
            let (reader, pid) = reader_of(pid_file, delivery.target.uid)?;
            pidfd_send_signal(&reader, signal.number()).map_err(|errno| NotTold::Signal { pid, errno })?;
            Ok("signalled")
        }
        Then::Command { command, timeout } => {
            run(command, *timeout, delivery).await?;
            Ok("run")
        }
    }
}

/// The process that the pid file at `path` names, and its pid: any, where root or the agent wrote the file; where `owner`
/// did, one that he may signal himself.
fn reader_of(path: &Path, owner: u32) -> Result<(OwnedFd, i32), NotTold> {
    let wrong = |what: String| NotTold::PidFile { path: path.to_owned(), what };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let open =
        rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| wrong(format!("cannot be read: {errno}")))?;
    let file = File::from(open);
    let about: Metadata = file.metadata().map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let is_trusted = [0, geteuid().as_raw()].contains(&about.uid());
    if !about.is_file() || !is_trusted && about.uid() != owner || about.mode() & 0o022 != 0 {
        let whose =
            "has to be a file of root, the agent's user or the owner of what is delivered, and no one else's to write";
        return Err(wrong(whose.to_owned()));
    }
    let mut text = String::new();
    file.take(MOST_PID_BYTES).read_to_string(&mut text).map_err(|_| wrong("holds no pid".to_owned()))?;
    let raw: i32 = text.trim().parse().map_err(|_| wrong("holds no pid".to_owned()))?;
    let pid = Some(raw).filter(|raw| *raw > 1).and_then(Pid::from_raw).filter(|pid| *pid != getpid());
    let pid = pid.ok_or_else(|| wrong(format!("holds {raw}, which is no reader's pid")))?;
    // Held from here on: what is read of it is read of the process that is signalled, or of none.
    let held = pidfd_open(pid, PidfdFlags::empty()).map_err(|errno| NotTold::Signal { pid: raw, errno })?;
    if !is_trusted && !may_signal(owner, &status_of(raw)) {
        return Err(wrong(format!("is the file owner's, and holds {raw}, which is not a process of his")));
    }
    Ok((held, raw))
}

fn status_of(pid: i32) -> String {
    let mut text = String::new();
    let read = File::open(format!("/proc/{pid}/status"));
    // What cannot be read is nobody's.
    let _ = read.and_then(|file| file.take(MOST_STATUS_BYTES).read_to_string(&mut text));
    text
}

/// Whether `user` may signal the process with this `status`, as the kernel has it (kill(2)): by its real or saved uid.
fn may_signal(user: u32, status: &str) -> bool {
    let uids = uids(status);
    [uids.first(), uids.get(2)].contains(&Some(&user))
}

/// Runs the command, without a shell, as the agent's user: it gets the delivery's name and the path, and no secret.
async fn run(command: &[String], most: Duration, delivery: &Delivery) -> Result<(), NotTold> {
    let missing = || NotTold::NotRun(std::io::ErrorKind::InvalidInput.into());
    let (program, arguments) = command.split_first().ok_or_else(missing)?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("PATH", PATH).current_dir("/");
    command.env("BURSAR_DELIVERY", delivery.order.name.as_str()).env("BURSAR_PATH", &delivery.target.path);
    // What it says may hold what it read: it goes nowhere.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.process_group(0).kill_on_drop(true).spawn().map_err(NotTold::NotRun)?;
    let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    match timeout(most, child.wait()).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(NotTold::Failed(status)),
        Ok(Err(error)) => Err(NotTold::NotRun(error)),
        Err(_) => {
            // The whole group, while its leader is not reaped: its number cannot be another's yet.
            let _ = group.map(|group| kill_process_group(group, rustix::process::Signal::KILL));
            let _ = child.wait().await;
            Err(NotTold::Late(most))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::chown;

    use super::*;

    #[test]
    fn a_user_s_process_is_one_that_he_may_signal_himself() {
        let status = |uids: &str| format!("Name:\tx\nUid:\t{uids}\nGid:\t7\t7\t7\t7\n");
        assert!(may_signal(7, &status("7\t7\t7\t7")) && may_signal(7, &status("7\t0\t0\t0")));
        assert!(!may_signal(7, &status("0\t7\t0\t7")) && !may_signal(7, &status("0\t0\t0\t0")));
        assert!(!may_signal(0, "") && !may_signal(7, ""));
    }

    #[tokio::test]
    async fn a_pid_file_names_a_process_of_who_wrote_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        let reader = Command::new("sleep").arg("600").kill_on_drop(true).spawn().unwrap();
        let (pid, us) = (reader.id().unwrap().cast_signed(), geteuid().as_raw());
        fs::write(&path, format!("{pid}\n")).unwrap();
        assert_eq!(reader_of(&path, us + 1).unwrap().1, pid);
        for text in ["", "x", "0", "1", "-7", &std::process::id().to_string()] {
            fs::write(&path, text).unwrap();
            assert_eq!(reader_of(&path, us + 1).unwrap_err().code(), "pid_file", "{text}");
        }
        fs::write(&path, format!("{pid}\n")).unwrap();
        // Only root can give a file away.
        if chown(&path, Some(us + 1), None).is_ok() {
            let refused = reader_of(&path, us + 1).unwrap_err();
            assert!(refused.to_string().contains("not a process of his"), "{refused}");
        }
    }
}
