//! `bursar token PROVIDER`: fetch one.

use super::{Globals, Outcome};
use crate::access::{Audience, Scope};
use crate::config::words::Period;
use crate::name::Name;

/// Fetch a token and print it
///
/// Prints the access token alone; with --json the whole answer.
#[derive(Debug, clap::Args)]
pub(super) struct Token {
    /// The provider, as `[provider.NAME]` calls it
    provider: Name,
    /// A scope to ask for; may be repeated [default: `default_scopes` of the provider]
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<Scope>,
    /// The resource that the token is for; may be repeated [default: all that the provider lists]
    #[arg(long = "resource", value_name = "URI")]
    resources: Vec<Audience>,
    /// How long the token must still be valid, as in `60s`
    #[arg(long, value_name = "DURATION")]
    min_ttl: Option<Period>,
}

impl Token {
    pub(super) fn run(&self, globals: &Globals) -> Outcome {
        let Self { provider: _, scopes: _, resources: _, min_ttl: _ } = self;
        let _ = globals.socket();
        super::not_built("token")
    }
}
