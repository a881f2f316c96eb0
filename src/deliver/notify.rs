//! (E) How the reader of a file is told: a signal to the pid in its pid file, or a command. Neither is shown a secret.

use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, geteuid, getpid, kill_process, kill_process_group};
use tokio::process::Command;
use tokio::time::timeout;

use super::{Delivery, Then};

/// Where a command finds programs: it has nothing of the agent's environment.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The longest pid file, in bytes.
const MOST_PID_BYTES: u64 = 32;

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
            let (pid, raw) = pid_of(pid_file, delivery.target.uid)?;
            kill_process(pid, signal.number()).map_err(|errno| NotTold::Signal { pid: raw, errno })?;
            Ok("signalled")
        }
        Then::Command { command, timeout } => {
            run(command, *timeout, delivery).await?;
            Ok("run")
        }
    }
}

/// The pid in the file at `path`, if nobody could have written it whom `owner`, root and the agent have not let.
fn pid_of(path: &Path, owner: u32) -> Result<(Pid, i32), NotTold> {
    let wrong = |what: String| NotTold::PidFile { path: path.to_owned(), what };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let open =
        rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| wrong(format!("cannot be read: {errno}")))?;
    let file = File::from(open);
    let about: Metadata = file.metadata().map_err(|error| wrong(format!("cannot be read: {error}")))?;
    if !about.is_file() || ![0, geteuid().as_raw(), owner].contains(&about.uid()) || about.mode() & 0o022 != 0 {
        let whose =
            "has to be a file of root, the agent's user or the owner of what is delivered, and no one else's to write";
        return Err(wrong(whose.to_owned()));
    }
    let mut text = String::new();
    file.take(MOST_PID_BYTES).read_to_string(&mut text).map_err(|_| wrong("holds no pid".to_owned()))?;
    let raw: i32 = text.trim().parse().map_err(|_| wrong("holds no pid".to_owned()))?;
    match Pid::from_raw(raw) {
        Some(pid) if raw > 1 && pid != getpid() => Ok((pid, raw)),
        Some(_) | None => Err(wrong(format!("holds {raw}, which is no reader's pid"))),
    }
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
