//! `bursar dev`: everything in one process, to look at.

use std::net::SocketAddr;

use clap::Subcommand;

use super::{Globals, Outcome};

/// Try it: an embedded issuer, store and policies, and a tour of the main job
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Dev {
    /// Run the tour and stop; exits 0 only if every step held
    #[arg(long)]
    once: bool,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the issuer alone: a real token endpoint with discovery and keys
    Issuer {
        /// Where it listens; only loopback makes sense
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
        listen: SocketAddr,
    },
}

impl Dev {
    pub(super) fn run(&self, _globals: &Globals) -> Outcome {
        match (&self.verb, self.once) {
            (Some(Verb::Issuer { listen: _ }), _) => super::not_built("dev issuer"),
            (None, true) => super::not_built("dev --once"),
            (None, false) => super::not_built("dev"),
        }
    }
}
