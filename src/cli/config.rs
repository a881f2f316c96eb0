//! `bursar config schema`: the JSON Schema of the configuration.

use clap::Subcommand;

use super::{Exit, Globals, Outcome, Trouble, show};
use crate::config::said::Said;
use crate::document;

/// Show what the configuration may say
#[derive(Debug, clap::Args)]
pub(super) struct Config {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Print the JSON Schema of `bursar.toml`, for editors
    Schema,
}

impl Config {
    pub(super) fn run(&self, _globals: &Globals) -> Outcome {
        let Self { verb: Verb::Schema } = self;
        let text = serde_json::to_string_pretty(&document::published::<Said>());
        show::line(text.map_err(|error| Trouble::failed(error.to_string()))?)?;
        Ok(Exit::Done)
    }
}
