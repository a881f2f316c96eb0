//! (E) What every verb is told: where the configuration and the sockets are, and for whom it prints.

use std::path::{Path, PathBuf};

use clap::Args;

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
    #[arg(long, global = true, value_name = "PATH", env = "BURSAR_SOCKET")]
    socket: Option<PathBuf>,
    /// Where the agent answers operators [default: `agent.admin_socket` of the configuration]
    #[arg(long, global = true, value_name = "PATH", env = "BURSAR_ADMIN_SOCKET")]
    admin_socket: Option<PathBuf>,
}

impl Globals {
    /// Where the agent answers applications.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        let said = || load::socket(&self.config, "socket");
        self.socket.clone().or_else(said).unwrap_or_else(|| said::Agent::default().socket)
    }

    /// Where the agent answers operators.
    #[must_use]
    pub fn admin_socket(&self) -> PathBuf {
        let said = || load::socket(&self.config, "admin_socket");
        self.admin_socket.clone().or_else(said).unwrap_or_else(|| said::Agent::default().admin_socket)
    }

    /// Whether an agent answers on the admin socket, so that its state is its own to change.
    #[must_use]
    pub fn agent_answers(&self) -> bool {
        std::os::unix::net::UnixStream::connect(self.admin_socket()).is_ok()
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
