//! (E) The command line: one file per verb.

mod agent;
mod ask;
mod audit;
mod check;
mod completions;
mod config;
mod dev;
mod editor;
mod excerpt;
mod exec;
mod exit;
mod globals;
mod import;
mod man;
mod offline;
mod providers;
mod reload;
mod revoke;
mod rotate;
mod secret;
mod show;
mod status;
mod store;
mod token;
mod watch;
mod whoami;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

pub use exit::{Exit, Trouble};
pub use globals::Globals;

/// What a verb comes to: how it ended, or why it could not be done.
pub type Outcome = Result<Exit, Trouble>;

/// A secrets broker: short-lived credentials over a local socket, by policy, with a durable record.
#[derive(Debug, Parser)]
#[command(name = "bursar", version, propagate_version = true, after_help = EXIT_CODES, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    verb: Verb,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 usage, 3 refused by policy, 4 temporarily unavailable, \
                          5 evidence of tampering.";

#[derive(Debug, Subcommand)]
enum Verb {
    Dev(dev::Dev),
    Agent(agent::Agent),
    Check(check::Check),
    Token(token::Token),
    Secret(secret::Secret),
    Exec(exec::Exec),
    Store(store::Store),
    Whoami(whoami::Whoami),
    Status(status::Status),
    Providers(providers::Providers),
    Reload(reload::Reload),
    Revoke(revoke::Revoke),
    Rotate(rotate::Rotate),
    Rotations(rotate::Rotations),
    Audit(audit::Audit),
    Config(config::Config),
    Completions(completions::Completions),
    Man(man::Man),
}

/// Runs the verb that the arguments of this process name.
#[must_use]
pub fn main() -> ExitCode {
    let parsed = command().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches));
    let exit = match parsed {
        Ok(cli) => cli.run(),
        Err(error) => usage(&error),
    };
    exit.code().into()
}

/// The description of every verb, for completions and manual pages.
#[must_use]
pub fn command() -> clap::Command {
    IDLE.iter().fold(Cli::command(), |command, (verb, options)| {
        command.mut_subcommand(verb, |verb| options.iter().fold(verb, |verb, id| verb.args(unshown(id))))
    })
}

/// The sockets that a verb does not ask: every verb takes both, as they may stand before it, and its help is silent on these.
const IDLE: [(&str, &[&str]); 17] = [
    ("token", &["admin_socket"]),
    ("exec", &["admin_socket"]),
    ("whoami", &["admin_socket"]),
    ("secret", &["socket"]),
    ("store", &["socket"]),
    ("status", &["socket"]),
    ("providers", &["socket"]),
    ("reload", &["socket"]),
    ("rotate", &["socket"]),
    ("rotations", &["socket"]),
    ("dev", &["socket", "admin_socket"]),
    ("agent", &["socket", "admin_socket"]),
    ("check", &["socket", "admin_socket"]),
    ("audit", &["socket", "admin_socket"]),
    ("config", &["socket", "admin_socket"]),
    ("completions", &["socket", "admin_socket"]),
    ("man", &["socket", "admin_socket"]),
];

/// The global option `id`, hidden: clap does not hand a global option down to a verb that has one of that name.
fn unshown(id: &str) -> Option<clap::Arg> {
    Cli::command().get_arguments().find(|option| option.get_id() == id).map(|option| option.clone().hide(true))
}

impl Cli {
    fn run(self) -> Exit {
        let Self { globals, verb } = self;
        let outcome = match verb {
            Verb::Dev(verb) => verb.run(&globals),
            Verb::Agent(verb) => verb.run(&globals),
            Verb::Check(verb) => verb.run(&globals),
            Verb::Token(verb) => verb.run(&globals),
            Verb::Secret(verb) => verb.run(&globals),
            Verb::Exec(verb) => verb.run(&globals),
            Verb::Store(verb) => verb.run(&globals),
            Verb::Whoami(verb) => verb.run(&globals),
            Verb::Status(verb) => verb.run(&globals),
            Verb::Providers(verb) => verb.run(&globals),
            Verb::Reload(verb) => verb.run(&globals),
            Verb::Revoke(verb) => verb.run(&globals),
            Verb::Rotate(verb) => verb.run(&globals),
            Verb::Rotations(verb) => verb.run(&globals),
            Verb::Audit(verb) => verb.run(&globals),
            Verb::Config(verb) => verb.run(&globals),
            Verb::Completions(verb) => verb.run(&globals),
            Verb::Man(verb) => verb.run(&globals),
        };
        outcome.unwrap_or_else(|trouble| show::trouble(&globals, &trouble))
    }
}

/// Help and version are answers; anything else that clap says is a wrong usage.
fn usage(error: &clap::Error) -> Exit {
    match error.print() {
        Ok(()) if error.use_stderr() => Exit::Usage,
        Ok(()) => Exit::Done,
        Err(_) => Exit::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        command().debug_assert();
    }

    #[test]
    fn a_verb_s_help_shows_the_sockets_that_it_asks() {
        let mut command = command();
        command.build();
        for (verb, shown) in
            [("token", ["socket"].as_slice()), ("status", &["admin_socket"]), ("check", &[]), ("man", &[])]
        {
            let verb = command.find_subcommand(verb).unwrap();
            let sockets = verb.get_arguments().filter(|option| option.get_id().as_str().ends_with("socket"));
            let listed: Vec<_> = sockets.filter(|option| !option.is_hide_set()).map(|option| option.get_id()).collect();
            assert_eq!(listed, shown, "{}", verb.get_name());
        }
        let issuer = command.find_subcommand("dev").and_then(|dev| dev.find_subcommand("issuer")).unwrap();
        let mut sockets = issuer.get_arguments().filter(|option| option.get_id().as_str().ends_with("socket"));
        assert!(sockets.all(clap::Arg::is_hide_set));
    }

    #[test]
    fn the_sockets_may_stand_before_the_verb_and_behind_it() {
        for line in ["--admin-socket /a status", "status --admin-socket /a", "--admin-socket /a check"] {
            let matches = command().get_matches_from(std::iter::once("bursar").chain(line.split(' ')));
            let cli = Cli::from_arg_matches(&matches).unwrap();
            assert_eq!(cli.globals.admin_socket(), std::path::Path::new("/a"), "{line}");
        }
    }

    #[test]
    fn every_verb_of_the_contract_parses() {
        for line in [
            "dev --once",
            "dev issuer",
            "agent",
            "check --json",
            "token stripe --scope charges:read --scope charges:write --resource https://api.example.com --min-ttl 60s",
            "secret put local/stripe-client",
            "secret list",
            "secret put local/stripe-client --edit",
            "secret import --from /run/secrets local --dry-run",
            "secret import --from vault local/from-vault",
            "secret retire local/stripe-client --version 01JD-3Z",
            "secret accept local",
            "exec --env A=secret:db --env B=file:c --file c=token:stripe:charges:read --on-change restart -- env",
            "exec --template a.j2=a.conf --on-change signal:HUP --wait 30s -- sh -c true",
            "store rekey local",
            "store rekey local --key /etc/bursar/new.key",
            "store rekey local --key-credential",
            "store backup local --out /root/local.db",
            "store restore local --from /root/local.db --key /root/old.key",
            "store check local --json",
            "whoami --json",
            "--json status",
            "providers",
            "providers stripe --json",
            "reload",
            "revoke stripe",
            "revoke local/stripe-api-key --json",
            "audit verify --dir /var/lib/bursar/audit",
            "audit query 0a1b2c3d-17",
            "audit query -f",
            "config schema",
            "completions bash",
            "man",
            "--config /etc/other.toml check",
        ] {
            let parsed = Cli::try_parse_from(std::iter::once("bursar").chain(line.split(' ')));
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
    }

    #[test]
    fn wrong_usage_is_said_with_the_code_for_it() {
        for line in [
            "",
            "tokn",
            "token",
            "token UPPER",
            "token stripe --min-ttl 5",
            "secret put",
            "audit query nonsense",
            "exec",
            "exec --env A=b -- env",
        ] {
            let words = line.split(' ').filter(|word| !word.is_empty());
            let error = Cli::try_parse_from(std::iter::once("bursar").chain(words)).unwrap_err();
            assert!(error.use_stderr(), "{line}");
        }
    }
}
