//! (E) `bursar agent`: the daemon.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Interval;

use super::{Exit, Globals, Outcome, Trouble};
use crate::agent::{self, NotStarted};
use crate::config::{self, Read, Report};
use crate::fault::Fault;
use crate::secret::process;
use crate::{systemd, telemetry};

/// Run the agent
///
/// SIGHUP and `bursar reload` read configuration and policies anew, all or nothing. SIGTERM drains and stops.
#[derive(Debug, clap::Args)]
pub(super) struct Agent {}

impl Agent {
    #[expect(clippy::unused_self, reason = "every verb runs alike")]
    pub(super) fn run(&self, globals: &Globals) -> Outcome {
        let hardening = process::harden();
        let (read, Report { faults, warnings, .. }) = config::check(&globals.config, &[]);
        faults.or(())?;
        let read = read.ok_or_else(|| Trouble::failed("the configuration cannot be read"))?;
        let log = telemetry::start(read.settings.log.level, read.settings.log.format);
        for measure in hardening.missing() {
            let name = measure.name;
            tracing::warn!(error = ?measure.failed, "the process cannot be hardened: {name} does not hold");
        }
        warn(&warnings);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(workers())
            // Who waits for the journal is woken from its thread: beside a flood it would hardly ever be his turn.
            .global_queue_interval(8)
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| Trouble::failed(format!("the runtime cannot be started: {error}")))?;
        runtime.block_on(serve(globals, read, log))
    }
}

/// Half of the cores: the applications beside which the agent stands have the others, and a worker that has nobody to
/// share work with wakes nobody.
fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2))
}

async fn serve(globals: &Globals, read: Read, log: Option<telemetry::Log>) -> Outcome {
    // Before anything else may take long: a SIGTERM during start ends it, and so does a SIGINT at a terminal.
    let unheard = |error| Trouble::failed(format!("signals cannot be heard: {error}"));
    let mut hangup = signal(SignalKind::hangup()).map_err(unheard)?;
    let mut stops =
        [signal(SignalKind::terminate()).map_err(unheard)?, signal(SignalKind::interrupt()).map_err(unheard)?];

    let agent = agent::Agent::start(&globals.config, read, log).await.map_err(trouble)?;
    warn(agent.warnings());
    systemd::ready("serving");
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "serving");
    let [terminate, interrupt] = &mut stops;
    // Its own clock: a reload every few seconds must not put off the sign of life that systemd waits for.
    let mut watchdog = systemd::watchdog().map(tokio::time::interval);
    loop {
        tokio::select! {
            _ = hangup.recv() => reload(&agent).await,
            () = due(watchdog.as_mut()) => systemd::alive(),
            () = either(terminate, interrupt) => break,
        }
    }
    systemd::stopping();
    tracing::info!("draining");
    agent.drain().await;
    Ok(Exit::Done)
}

async fn reload(agent: &agent::Agent) {
    systemd::reloading();
    match agent.broker().reload_unasked().await {
        Ok(()) => {
            tracing::info!("reloaded: the new configuration and policies are in force");
            systemd::ready("serving");
        }
        Err(faults) => {
            for fault in faults.iter() {
                tracing::error!("{fault}");
            }
            tracing::error!(
                "not reloaded: the old configuration and policies stay in force; mend the faults and reload again"
            );
            systemd::ready("serving; the last reload was refused");
        }
    }
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Returns when systemd wants to hear that we are alive; never, where it does not.
async fn due(watchdog: Option<&mut Interval>) {
    match watchdog {
        Some(every) => drop(every.tick().await),
        None => std::future::pending().await,
    }
}

fn warn(warnings: &[Fault]) {
    for warning in warnings {
        tracing::warn!("{warning}");
    }
}

fn trouble(why: NotStarted) -> Trouble {
    match why {
        NotStarted::Faults(faults) => faults.into(),
        other @ (NotStarted::Store(_)
        | NotStarted::Audit(_)
        | NotStarted::Socket(_)
        | NotStarted::Inherited(_)
        | NotStarted::Stray(_)
        | NotStarted::NotTheOwner(_)
        | NotStarted::Metrics { .. }
        | NotStarted::Folder { .. }
        | NotStarted::Runtime(_)) => Trouble::failed(other.to_string()),
    }
}
