//! (E) What every verb is told: where the configuration and the sockets are, and for whom it prints.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::config::load::{self, DEFAULT_FILE};
use crate::config::{self, Settings, said};

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
    #[must_use]
    pub fn audit_dir(&self, told: Option<&Path>) -> PathBuf {
        told.map_or_else(
            || self.settings().map_or_else(|| PathBuf::from("/var/lib/bursar/audit"), |settings| settings.audit.dir),
            Path::to_owned,
        )
    }

    /// The configuration, where this user may read it and it has no fault: applications often may not.
    fn settings(&self) -> Option<Settings> {
        config::load(&self.config).ok().map(|read| read.settings)
    }
}
