//! `bursar token PROVIDER`: fetch one.

use serde_json::Value;

use super::ask::{as_application, granted};
use super::{Exit, Globals, Outcome, Trouble, show};
use crate::access::{Audience, Scope};
use crate::api::client::Call;
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
    /// How long the token must still be valid, as in `60s` (not available in this version)
    #[arg(long, value_name = "DURATION", hide = true)]
    min_ttl: Option<Period>,
}

impl Token {
    pub(super) fn run(&self, globals: &Globals) -> Outcome {
        if self.min_ttl.is_some() {
            return super::not_built("token --min-ttl");
        }
        let answer: Value = granted(as_application(globals, self.call())?)?;
        if globals.json {
            show::json(&answer)?;
            return Ok(Exit::Done);
        }
        let token = answer.get("access_token").and_then(Value::as_str);
        show::line(token.ok_or_else(|| Trouble::failed("the agent's answer holds no `access_token`"))?)?;
        Ok(Exit::Done)
    }

    fn call(&self) -> Call {
        let scope = self.scopes.iter().map(Scope::as_str).collect::<Vec<_>>().join(" ");
        let mut fields = vec![("grant_type", "client_credentials")];
        if !scope.is_empty() {
            fields.push(("scope", &scope));
        }
        fields.extend(self.resources.iter().map(|resource| ("resource", resource.as_str())));
        Call::form(format!("/token/{}", self.provider), fields)
    }
}
