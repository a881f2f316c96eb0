//! `bursar secret put NAME` and `bursar secret list`.

use clap::Subcommand;

use super::{Globals, Outcome};
use crate::access::SecretId;

/// Write and list secrets, through the agent or, where none runs, on the store itself
#[derive(Debug, clap::Args)]
pub(super) struct Secret {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Write a secret; the value is read from standard input
    ///
    /// One newline at the end of the value is not part of it.
    Put {
        /// A `[secret.NAME]` entry, or `STORE/NAME`
        name: SecretId,
    },
    /// List secrets, without values
    List,
}

impl Secret {
    pub(super) fn run(&self, globals: &Globals) -> Outcome {
        let _ = globals.admin_socket();
        match &self.verb {
            Verb::Put { name: _ } => super::not_built("secret put"),
            Verb::List => super::not_built("secret list"),
        }
    }
}
