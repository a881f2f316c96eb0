//! (E) A program that runs under bursar: started with its values, told of signals, waited for, and ended when it has to be.

use std::ffi::{OsStr, OsString};
use std::future::poll_fn;
use std::io::{self, IsTerminal};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::task::Poll;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, waitpid};
use tokio::process::Command;
use tokio::signal::unix::{self, SignalKind, signal};
use tokio::time::timeout;

use crate::secret::Secret;

/// What a shell says of a program that is not there, and of one that cannot be run.
const NOT_FOUND: u8 = 127;
const NOT_RUN: u8 = 126;

/// A program that was started.
#[derive(Debug)]
pub struct Child {
    process: tokio::process::Child,
    pid: Pid,
}

/// A program that was not started.
#[derive(Debug, thiserror::Error)]
pub enum NotStarted {
    /// The operating system refuses.
    #[error("`{program}` cannot be run: {error}")]
    Os {
        /// The program.
        program: String,
        /// Why not.
        error: io::Error,
    },
    /// A value cannot stand in an environment.
    #[error("the value of `{0}` holds a zero byte, which no environment takes: use `--file`")]
    Zero(String),
}

impl NotStarted {
    /// The exit code, as a shell gives it.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Os { error, .. } if error.kind() == io::ErrorKind::NotFound => NOT_FOUND,
            Self::Os { .. } | Self::Zero(_) => NOT_RUN,
        }
    }
}

/// What stands in a variable of the environment.
#[derive(Debug)]
pub enum Variable<'a> {
    /// A value.
    Value(&'a Secret),
    /// The path of a file.
    Path(&'a OsStr),
}

impl Child {
    /// Starts `command`, with `variables` in its environment beside those of this process.
    ///
    /// # Errors
    /// [`NotStarted`].
    pub fn start(command: &[OsString], variables: &[(String, Variable<'_>)]) -> Result<Self, NotStarted> {
        let program = command.first().cloned().unwrap_or_default();
        let mut start = Command::new(&program);
        start.args(command.iter().skip(1)).kill_on_drop(true);
        for (name, variable) in variables {
            let bytes = match variable {
                Variable::Value(secret) => secret.expose(),
                Variable::Path(path) => path.as_bytes(),
            };
            if bytes.contains(&0) {
                return Err(NotStarted::Zero(name.clone()));
            }
            start.env(name, OsStr::from_bytes(bytes));
        }
        let not_run = |error| NotStarted::Os { program: program.to_string_lossy().into_owned(), error };
        let process = start.spawn().map_err(not_run)?;
        let pid = process.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let pid = pid.ok_or_else(|| not_run(io::Error::other("it has no process id")))?;
        Ok(Self { process, pid })
    }

    /// Waits until it ends.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.process.wait().await
    }

    /// Buries processes that were left to this one, apart from the program itself: where this is the first process of its
    /// pid namespace, as in a container, nobody else does.
    pub fn bury_orphans(&self) {
        if getpid() != Pid::INIT {
            return;
        }
        let children = std::fs::read_to_string("/proc/self/task/1/children").unwrap_or_default();
        let orphans = children.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?));
        for orphan in orphans.filter(|pid| *pid != self.pid) {
            // Its own end is for whoever waits for it.
            let _ = waitpid(Some(orphan), WaitOptions::NOHANG);
        }
    }

    /// Sends it `signal`; nothing, where it has ended.
    pub fn signal(&self, signal: Signal) {
        // While it is not reaped its number is no other's.
        if self.process.id().is_some() {
            let _ = kill_process(self.pid, signal);
        }
    }

    /// Ends it: it has `patience` after SIGTERM.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn stop(&mut self, patience: Duration) -> io::Result<ExitStatus> {
        self.signal(Signal::TERM);
        match timeout(patience, self.process.wait()).await {
            Ok(ended) => ended,
            Err(_) => {
                self.process.start_kill()?;
                self.process.wait().await
            }
        }
    }
}

/// The exit code that tells of how a program ended: its own, or 128 and the number of the signal.
#[must_use]
pub fn code_of(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(u8::MAX)
}

/// The signals that are passed on to the program.
#[derive(Debug)]
pub struct Signals(Vec<(Signal, unix::Signal)>);

impl Signals {
    /// From now on the signals are heard, and no longer end this process.
    ///
    /// What a terminal sends, it sends to the program too: it is heard, and not passed on twice.
    ///
    /// # Errors
    /// The operating system's.
    pub fn hear() -> io::Result<Self> {
        let all = [
            (Signal::HUP, SignalKind::hangup()),
            (Signal::INT, SignalKind::interrupt()),
            (Signal::QUIT, SignalKind::quit()),
            (Signal::TERM, SignalKind::terminate()),
            (Signal::USR1, SignalKind::user_defined1()),
            (Signal::USR2, SignalKind::user_defined2()),
            (Signal::WINCH, SignalKind::window_change()),
            (Signal::CHILD, SignalKind::child()),
        ];
        all.into_iter().map(|(number, kind)| Ok((number, signal(kind)?))).collect::<io::Result<_>>().map(Self)
    }

    /// The next signal.
    pub async fn next(&mut self) -> Signal {
        poll_fn(|context| {
            let heard =
                self.0.iter_mut().find_map(|(number, one)| one.poll_recv(context).is_ready().then_some(*number));
            heard.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Whether `signal` is for the program, and does not reach it by itself.
    #[must_use]
    pub fn is_to_pass_on(signal: Signal) -> bool {
        let from_the_terminal = [Signal::INT, Signal::QUIT, Signal::WINCH].contains(&signal);
        signal != Signal::CHILD && !(from_the_terminal && io::stdin().is_terminal())
    }
}
