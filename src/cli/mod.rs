//! (E) The command line: one file per verb.

mod agent;
mod ask;
mod audit;
mod check;
mod completions;
mod config;
mod dev;
mod excerpt;
mod exit;
mod globals;
mod man;
mod providers;
mod reload;
mod revoke;
mod rotate;
mod secret;
mod show;
mod status;
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
const IDLE: [(&str, &[&str]); 15] = [
    ("token", &["admin_socket"]),
    ("whoami", &["admin_socket"]),
    ("secret", &["socket"]),
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
