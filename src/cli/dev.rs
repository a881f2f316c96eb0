//! (E) `bursar dev`: everything in one process, to look at.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Subcommand;
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use super::{Exit, Globals, Outcome, Trouble, show};
use crate::access::Scope;
use crate::config::words::Period;
use crate::crypto::SystemRandom;
use crate::dev::issuer::fault::{CATALOGUE, Fault, MODIFIERS};
use crate::dev::issuer::{BadDay, Client, Issuer, Settings};
use crate::dev::{NotSet, Scene, Stage, farewell, tour};
use crate::fault::counted;
use crate::secret::process;
use crate::time::SystemClock;

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
    ///
    /// It knows one client, by `client_secret_basic` and `client_secret_post`. Its secret is made for this run and
    /// printed, unless a file holds it. It can be told to have a bad day, at its start or while it runs.
    #[command(after_long_help = faults())]
    Issuer(IssuerAlone),
}

#[derive(Debug, clap::Args)]
struct IssuerAlone {
    /// Where it listens; only loopback is taken
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The client's id
    #[arg(long, value_name = "ID", default_value = "bursar")]
    client_id: String,
    /// A file that holds the client's secret
    #[arg(long, value_name = "FILE")]
    client_secret_file: Option<PathBuf>,
    /// A scope that the client may have; may be repeated
    #[arg(long = "scope", value_name = "SCOPE", default_values = ["read", "write"])]
    scopes: Vec<Scope>,
    /// How long its tokens live
    #[arg(long, value_name = "DURATION", default_value = "300s")]
    lifetime: Period,
    /// What is wrong with it from the start; may be repeated
    #[arg(long = "fault", value_name = "FAULT")]
    faults: Vec<Fault>,
}

impl Dev {
    pub(super) fn run(&self, globals: &Globals) -> Outcome {
        let _ = process::harden();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Trouble::failed(format!("the runtime cannot be started: {error}")))?;
        match &self.verb {
            Some(Verb::Issuer(alone)) => runtime.block_on(alone.run(globals)),
            None => shown(globals, &runtime, self.once),
        }
    }
}

fn shown(globals: &Globals, runtime: &Runtime, once: bool) -> Outcome {
    let failed = |why: NotSet| Trouble::failed(why.to_string());
    runtime.block_on(async {
        let mut stage = Stage::open(globals.json);
        let mut scene = Scene::set(&std::env::temp_dir()).await.map_err(failed)?;
        tour(&mut stage, &mut scene).await.map_err(failed)?;
        if globals.json {
            let config = scene.config();
            let held = stage.failed().is_empty();
            show::json(&json!({ "held": held, "config": config, "steps": stage.steps() }))?;
        }
        if !once {
            farewell(&stage, &scene);
            told_to_end().await;
        }
        scene.strike().await;
        match stage.failed().as_slice() {
            [] => Ok(Exit::Done),
            failed => Err(Trouble::failed(format!(
                "{} of the tour did not hold: {}",
                counted(failed.len() as u64, "claim"),
                failed.join("; ")
            ))),
        }
    })
}

impl IssuerAlone {
    async fn run(&self, globals: &Globals) -> Outcome {
        let day = BadDay::of(self.faults.clone()).map_err(|why| Trouble::new(Exit::Usage, why.to_string()))?;
        let secret = match &self.client_secret_file {
            Some(file) => secret_of(file)?,
            None => made_secret()?,
        };
        let client =
            Client { secret: secret.clone(), scopes: self.scopes.iter().cloned().collect(), lifetime: self.lifetime.0 };
        let settings = Settings {
            clients: BTreeMap::from([(self.client_id.clone(), client)]),
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
        };
        let issuer = Issuer::start(self.listen, settings).await;
        let issuer = issuer.map_err(|error| Trouble::failed(format!("the issuer cannot be started: {error}")))?;
        issuer.begin(day).map_err(|why| Trouble::failed(why.to_string()))?;
        // A secret that was made for this run protects nothing: the issuer listens on loopback.
        let made = self.client_secret_file.is_none().then_some(secret);
        if globals.json {
            show::json(&json!({ "issuer": issuer.url(), "client_id": self.client_id, "client_secret": made }))?;
        } else {
            self.told(issuer.url(), made.as_deref())?;
        }
        told_to_end().await;
        Ok(Exit::Done)
    }

    /// Where it is, and what to try while it runs.
    fn told(&self, issuer: &str, made: Option<&str>) -> Result<(), Trouble> {
        let id = &self.client_id;
        show::line(format!("issuer         {issuer}\nclient_id      {id}"))?;
        made.iter().try_for_each(|secret| show::line(format!("client_secret  {secret}")))?;
        let secret = made.unwrap_or("$SECRET");
        show::line(format!(
            "\nTo try, in another terminal:\n  \
             curl -s -u {id}:{secret} -d grant_type=client_credentials {issuer}/token\n  \
             curl -s -H 'Bursar: 1' -X PUT -d '503=2' {issuer}/faults      # a bad day, from now on\n  \
             curl -s -H 'Bursar: 1' -X PUT -d '[\"slow=2s\", \"reset,every=3\"]' {issuer}/faults\n  \
             curl -s -H 'Bursar: 1' -X PUT -d '' {issuer}/faults           # a good one again\n  \
             curl -s -H 'Bursar: 1' {issuer}/requests                      # what came, what became of it\n"
        ))?;
        show::line(faults())
    }
}

/// Every fault, and how it is written.
fn faults() -> String {
    let table =
        |rows: &[(&str, &str)]| rows.iter().map(|(form, does)| format!("  {form:<18} {does}\n")).collect::<String>();
    format!(
        "Faults:\n{}\nAfter any of them, as in `503=2,for=3`:\n{}\nOf several of one kind, the first that strikes a \
         request counts. docs/simulator.md tells what each is good for.",
        table(&CATALOGUE),
        table(&MODIFIERS)
    )
}

/// SIGINT, SIGTERM or SIGHUP. Where none can be heard it ends at once: the end is the end.
async fn told_to_end() {
    let heard = |kind| async move {
        if let Ok(mut signal) = signal(kind) {
            signal.recv().await;
        }
    };
    tokio::select! {
        () = heard(SignalKind::interrupt()) => {}
        () = heard(SignalKind::terminate()) => {}
        () = heard(SignalKind::hangup()) => {}
    }
}

fn secret_of(file: &Path) -> Result<String, Trouble> {
    let text = std::fs::read_to_string(file);
    let text = text.map_err(|error| Trouble::failed(format!("`{}` cannot be read: {error}", file.display())))?;
    Ok(text.trim_end_matches('\n').to_owned())
}

fn made_secret() -> Result<String, Trouble> {
    let mut bytes = [0; 16];
    crate::crypto::Random::fill(&SystemRandom, &mut bytes).map_err(|why| Trouble::failed(why.to_string()))?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}
