//! Why a record is not durable, and why a log cannot be opened or read.

use std::path::PathBuf;

use crate::crypto::NoRandomness;

/// The record could not be made durable; nothing may be released.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotDurable {
    /// Writing or syncing failed; the batch is void.
    #[error("the audit record could not be made durable: {0}")]
    Io(String),
    /// The record is longer than a line may be.
    #[error("the audit record would be {0} bytes long; a line holds 8192")]
    TooLong(usize),
    /// The disk does not keep up: as much waits to be written as may wait.
    #[error("the audit journal is {0} bytes behind; see what slows the disk of `audit.dir`")]
    Behind(usize),
    /// The disk has not answered for so long that nobody waits for it. The record may become durable later.
    #[error("the disk of the audit journal has not answered for 5 s; see what holds up the disk of `audit.dir`")]
    Hangs,
    /// The journal has stopped.
    #[error("the audit journal has stopped")]
    Stopped,
}

/// The log could not be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// Another process writes it.
    #[error("the audit log in `{dir}` is held by {holder}; ask that agent, or stop it first")]
    Held {
        /// The directory.
        dir: PathBuf,
        /// Who holds it, as far as it said so.
        holder: String,
    },
    /// The directory holds another log than the keys in the state directory belong to.
    #[error(
        "`{dir}` holds the audit log {found}, and `state_dir` has the keys of {ours}; \
         restore the file `audit.keys` that belongs to it, or name an empty `audit.dir`"
    )]
    Foreign {
        /// The directory.
        dir: PathBuf,
        /// The log that was found.
        found: String,
        /// The log that was meant.
        ours: String,
    },
    /// What stands there is not what bursar writes.
    #[error("`{file}` is not what bursar writes: {what}; run `bursar audit verify`")]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Others may read or write what is bursar's alone.
    #[error("`{file}` is open to others (mode {mode:04o}); set it to 0600 and its owner to the agent's user")]
    Exposed {
        /// The file.
        file: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The system's random generator failed.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// The first record could not be written.
    #[error("the audit log in `{dir}` cannot be written: {source}")]
    Unwritable {
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: NotDurable,
    },
    /// The operating system refused.
    #[error("`{path}`: {source}")]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
}

impl AuditError {
    pub(super) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { path: path.into(), source }
    }

    pub(super) fn damaged(file: impl Into<PathBuf>, what: impl Into<String>) -> Self {
        Self::Damaged { file: file.into(), what: what.into() }
    }
}
