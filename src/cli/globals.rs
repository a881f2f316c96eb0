//! What every verb is told: where the configuration and the sockets are, and for whom it prints.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;
use clap::ValueHint::FilePath;
use clap::builder::OsStringValueParser;

use crate::config::load::{self, DEFAULT_FILE};
use crate::config::{self, said};
use crate::fault::Faults;

/// Options of every verb.
#[derive(Clone, Debug, Args)]
pub struct Globals {
    /// The configuration; `conf.d/*.toml` beside it belongs to it
    #[arg(long, global = true, value_name = "FILE", default_value = DEFAULT_FILE)]
    pub config: PathBuf,
    /// Print JSON, for programs
    #[arg(long, global = true)]
    pub json: bool,
    /// Where the agent answers applications [default: `agent.socket` of the configuration]
    #[arg(long, global = true, value_name = "PATH", env = "BURSAR_SOCKET", value_parser = path(), value_hint = FilePath)]
    socket: Option<OsString>,
    /// Where the agent answers operators [default: `agent.admin_socket` of the configuration]
    #[arg(long, global = true, value_name = "PATH", env = "BURSAR_ADMIN_SOCKET", value_parser = path(), value_hint = FilePath)]
    admin_socket: Option<OsString>,
}

/// A path that may be empty, which counts as not given: that is how a shell unsets a variable for one command.
fn path() -> OsStringValueParser {
    OsStringValueParser::new()
}

impl Globals {
    /// Where the agent answers applications.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.told(self.socket.as_ref(), "socket").unwrap_or_else(|| said::Agent::default().socket)
    }

    /// Where the agent answers operators.
    #[must_use]
    pub fn admin_socket(&self) -> PathBuf {
        self.told(self.admin_socket.as_ref(), "admin_socket").unwrap_or_else(|| said::Agent::default().admin_socket)
    }

    /// What to say where nobody answers and the socket was guessed, since the configuration cannot be read.
    #[must_use]
    pub fn guess(&self) -> Option<String> {
        let told = self.socket.as_ref().or(self.admin_socket.as_ref()).is_some_and(|path| !path.is_empty());
        let unread = load::text_of(&self.config).err().filter(|_| !told)?;
        Some(format!("{}, so the socket's place is a guess: name it, or the configuration (`--config`)", unread.what))
    }

    /// The socket as the command line or the environment tells it, else as the configuration says under `key`.
    fn told(&self, told: Option<&OsString>, key: &str) -> Option<PathBuf> {
        let told = told.filter(|path| !path.is_empty()).map(PathBuf::from);
        told.or_else(|| load::socket(&self.config, key))
    }

    /// Where the audit log is: as told, else as configured.
    ///
    /// # Errors
    /// The faults of the configuration: a log that it does not name must not be taken for the one that it does.
    pub fn audit_dir(&self, told: Option<&Path>) -> Result<PathBuf, Faults> {
        match told {
            Some(dir) => Ok(dir.to_owned()),
            None => config::load(&self.config).map(|read| read.settings.audit.dir),
        }
    }
}
