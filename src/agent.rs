//! (E) The agent: settings → rooms → tasks → drain. The only place that names concrete adapters.

mod check;
mod credentials;
mod deliveries;
mod offline;
mod owner;
mod providers;
mod roots;
mod rotations;
mod rules;
mod sockets;
mod stores;

use std::fs::DirBuilder;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use rustix::process::{Resource, getrlimit};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::access::Role;
use crate::api::connection::{Listening, Shared, serve};
use crate::api::{applications, operators, scrape};
use crate::audit::keys::{self, Keys};
use crate::audit::stores::NotAsKnown;
use crate::audit::{self, AuditError, Journal, Mode, NotDurable, Start};
use crate::broker::{Broker, Reread, tell_of_changes};
use crate::config::meant::{self, SecretRef};
use crate::config::{Read, Settings};
use crate::crypto::{Random, SystemRandom};
use crate::deliver::{Deliverer, keep_delivered};
use crate::fault::{Fault, Faults};
use crate::kept;
use crate::name::Name;
use crate::peer::cgroup::ContainerRoots;
use crate::peer::shares::{Admission, Shares};
use crate::peer::{Peer, Sources};
use crate::rotation::{self, keep_telling, keep_turning};
use crate::store::Shelf;
use crate::systemd::{Inherited, NotInherited};
use crate::telemetry::trace::Tracer;
use crate::telemetry::{Log, otlp};
use crate::time::{Clock, SystemClock};
use crate::token::{Engine, MOST_FLIGHTS, keep_ahead};

use providers::Providers;
use rotations::Tools;
use rules::{Reader, shelf_of};
use sockets::Socket;
use stores::{Stores, restate, restate_in_each_segment};

pub use check::policies as check_policies;
pub use offline::Restored;
pub use owner::NotTheOwner;
pub use rules::Book;
pub use sockets::NotListening;
pub use stores::NotOpened;

/// An agent that runs.
pub struct Agent {
    broker: Arc<Broker>,
    journal: Journal,
    drain: watch::Sender<bool>,
    serving: JoinSet<()>,
    background: JoinSet<()>,
    warnings: Vec<Fault>,
}

/// Why an agent does not start.
#[derive(Debug, thiserror::Error)]
pub enum NotStarted {
    /// What a person wrote is at fault.
    #[error(transparent)]
    Faults(#[from] Faults),
    /// A store cannot be opened.
    #[error(transparent)]
    Store(#[from] NotOpened),
    /// A store is not the one that the audit log knows.
    #[error(transparent)]
    Stray(#[from] NotAsKnown),
    /// The audit log cannot be opened: without it nothing is handed out.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// A socket cannot be opened.
    #[error(transparent)]
    Socket(#[from] NotListening),
    /// `metrics.listen` cannot be served.
    #[error("`metrics.listen` `{address}` cannot be listened at: {error}; choose another port, or take it out")]
    Metrics {
        /// The address.
        address: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// What systemd passed on cannot be used.
    #[error(transparent)]
    Inherited(#[from] NotInherited),
    /// A folder cannot be made.
    #[error("the folder `{folder}` cannot be made: {error}")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// What this process makes would not be the agent's.
    #[error(transparent)]
    NotTheOwner(#[from] NotTheOwner),
    /// The runtime refused a socket.
    #[error("a socket cannot be served: {0}")]
    Runtime(std::io::Error),
}

/// The rooms that an agent and the offline verbs share: the stores, and the log that every change is recorded in.
pub struct Rooms {
    /// Where secrets live.
    pub shelf: Shelf,
    /// The log.
    pub journal: Journal,
    /// Where the secrets stand that are rotated.
    rotated: Vec<SecretRef>,
    keys: Keys,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl Rooms {
    /// Opens the stores and the log of `settings`; `book` is what the agent judges by, where there is an agent. The store
    /// `accept` is taken as it is, whatever the log knows of it.
    ///
    /// # Errors
    /// [`NotStarted`]; another process that holds a store or the log is named.
    pub async fn open(settings: &Settings, book: Option<&Book>, accept: Option<&Name>) -> Result<Self, NotStarted> {
        let (clock, random): (Arc<dyn Clock>, Arc<dyn Random>) = (Arc::new(SystemClock), Arc::new(SystemRandom));
        if book.is_none() {
            owner::refuse_other_than(&settings.agent.state_dir)?;
        }
        make_folder(&settings.agent.state_dir)?;
        let keys = keys::load_or_make(&settings.agent.state_dir, &*random)?;
        let stores = stores::open(settings, &clock, &random)?;
        let shelf = shelf_of(settings, &Shelf { stores, ..Shelf::default() });
        make_folder(&settings.audit.dir)?;
        let held = stores::hold(&shelf.stores, &settings.audit.dir)?;
        if let Some(stray) = stores::refused_before(&held, accept) {
            return Err(stray.into());
        }
        let journal = open_journal(settings, &keys, book, Arc::clone(&clock))?;
        let unwritable = |source| AuditError::Unwritable { dir: settings.audit.dir.clone(), source };
        if let Some(stray) = stores::note(&journal, &held, accept, &*clock).await.map_err(unwritable)? {
            journal.stop("refused").await.map_err(unwritable)?;
            return Err(stray.into());
        }
        let rotated = settings.secrets.values().filter(|secret| secret.rotation.is_some());
        let rotated = rotated.map(|secret| secret.at.clone()).collect();
        Ok(Self { shelf, journal, rotated, keys, clock, random })
    }

    /// Opens the log alone: for what is done on a store that may not open.
    ///
    /// # Errors
    /// [`NotStarted`]; another process that holds the log is named.
    pub fn open_log(settings: &Settings) -> Result<Self, NotStarted> {
        let (clock, random): (Arc<dyn Clock>, Arc<dyn Random>) = (Arc::new(SystemClock), Arc::new(SystemRandom));
        owner::refuse_other_than(&settings.agent.state_dir)?;
        make_folder(&settings.agent.state_dir)?;
        let keys = keys::load_or_make(&settings.agent.state_dir, &*random)?;
        make_folder(&settings.audit.dir)?;
        let journal = open_journal(settings, &keys, None, Arc::clone(&clock))?;
        Ok(Self { shelf: Shelf::default(), journal, rotated: Vec::new(), keys, clock, random })
    }

    /// Records how the stores stand, and ends the log.
    ///
    /// # Errors
    /// [`NotDurable`].
    pub async fn close(self, reason: &'static str) -> Result<(), NotDurable> {
        close(&self.journal, &self.shelf.stores, reason).await
    }
}

impl Agent {
    /// Starts the agent that the configuration at `file` describes, as `read` says; it serves when this returns.
    ///
    /// # Errors
    /// [`NotStarted`]; nothing serves then.
    pub async fn start(file: &Path, read: Read, log: Option<Log>) -> Result<Self, NotStarted> {
        let mut book = Book::read(&read)?;
        book.refuse_missing_privilege()?;
        let warnings = std::mem::take(&mut book.warnings);
        let inherited = Inherited::take()?;
        let rooms = Rooms::open(&read.settings, Some(&book), None).await?;
        let sockets = sockets::open(&read.settings.agent, inherited)?;

        let Rooms { shelf, journal, rotated: _, keys, clock, random } = rooms;
        let fingerprints = keys.current().clone();
        let mut background = JoinSet::new();
        let agent = read.settings.agent.id.as_ref().map_or_else(|| made_id(&keys), ToString::to_string);
        let tracer = read.settings.otlp.as_ref().map_or_else(Tracer::default, |to| {
            let (tracer, trails) = Tracer::new(Arc::clone(&random));
            let collector = otlp::Collector { address: to.address, path: to.path.clone(), agent };
            background.spawn(otlp::send(collector, trails, tracer.dropped().unwrap_or_default()));
            tracer
        });
        let mut engine = Engine::new(journal.clone(), Arc::clone(&clock), Arc::clone(&random), fingerprints);
        engine.tracer = tracer.clone();
        let engine = Arc::new(engine);
        // A rotation tells the broker, which is made after it.
        let hears: Arc<OnceLock<Weak<Broker>>> = Arc::default();
        let rotation =
            Arc::new(rotation_engine(&read.settings, &keys, &journal, (&clock, &random), Arc::clone(&hears)));
        let reader = Reader {
            file: file.to_owned(),
            shelf,
            providers: Providers::new(Arc::clone(&engine)),
            rotation: Arc::clone(&rotation),
            tools: Tools {
                random: Arc::clone(&random),
                clock: Arc::clone(&clock),
                tls: Arc::default(),
                pages: Mutex::default(),
            },
            log,
            deliveries: watch::Sender::default(),
            in_force: Mutex::new(read.settings.clone()),
        };
        let delivered = reader.deliveries.subscribe();
        let deliveries = book.deliveries.clone().into();
        let (rules, draft) = reader.rules(&read, book)?;
        reader.enact(read.settings.clone(), draft, deliveries);
        let reread: Arc<dyn Reread> = Arc::new(reader);
        let broker =
            Broker::new(rules, journal.clone(), Arc::clone(&clock), Arc::clone(&random), reread).traced(tracer);
        let broker = Arc::new(broker.rotating(Arc::clone(&rotation)));
        drop(hears.set(Arc::downgrade(&broker)));
        let deliverer = Deliverer { broker: Arc::clone(&broker), clock: Arc::clone(&clock), random, wanted: delivered };

        let (drain, draining) = watch::channel(false);
        let shared = Shared {
            broker: Arc::clone(&broker),
            admission: admission(&read.settings),
            sources: Arc::new(Sources::new(clock, roots(&read.settings)?)),
            drain: draining,
        };
        let scraped = Arc::new(scrape::Sources {
            broker: Arc::clone(&broker),
            applications: Arc::clone(&shared.admission),
            // Applications that use up every connection must not keep the operator out.
            operators: Admission::new(Shares::OPERATORS),
        });
        let mut serving = serve_all(sockets, &shared, &scraped)?;
        if let Some(address) = read.settings.metrics {
            let listener = scrape::listen(address).and_then(TcpListener::from_std);
            let listener = listener.map_err(|error| NotStarted::Metrics { address, error })?;
            let there = listener.local_addr().unwrap_or(address);
            tracing::info!("metrics are served at http://{there}/metrics");
            serving.spawn(scrape::serve(listener, scraped, shared.drain.clone()));
        }
        let of_the_moment = Arc::clone(&broker);
        background.spawn(restate_in_each_segment(journal.clone(), broker.rules().shelf.stores.clone()));
        background.spawn(keep_ahead(engine, move || of_the_moment.rules().providers.values().cloned().collect()));
        background.spawn(kept::keep_ahead(Arc::clone(broker.kept())));
        background.spawn(keep_delivered(deliverer));
        background.spawn(tell_of_changes(Arc::clone(&broker)));
        background.spawn(rotations::recall(Arc::clone(&rotation), read.settings.audit.dir.clone()));
        background.spawn(keep_telling(Arc::clone(&rotation)));
        background.spawn(keep_turning(rotation));
        Ok(Self { broker, journal, drain, serving, background, warnings })
    }

    /// What should be said although it did not stand in the way.
    #[must_use]
    pub fn warnings(&self) -> &[Fault] {
        &self.warnings
    }

    /// Who answers.
    #[must_use]
    pub fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    /// Stops: no new connection, those that are there end after their request, and the log is closed in order.
    pub async fn drain(mut self) {
        self.broker.drain();
        self.drain.send_replace(true);
        while self.serving.join_next().await.is_some() {}
        self.background.shutdown().await;
        providers::end_tokens(self.broker.rules().providers.values()).await;
        let stores = self.broker.rules().shelf.stores.clone();
        if let Err(why) = close(&self.journal, &stores, "drain").await {
            tracing::error!(%why, "the last record could not be written");
        }
    }
}

/// The last records before `stop` are those of the stores: the next start finds them at once.
async fn close(journal: &Journal, stores: &Stores, reason: &'static str) -> Result<(), NotDurable> {
    let restated = restate(journal, stores).await;
    journal.stop(reason).await.and(restated)
}

fn serve_all(sockets: Vec<Socket>, shared: &Shared, scraped: &Arc<scrape::Sources>) -> Result<JoinSet<()>, NotStarted> {
    let broker = || Arc::clone(&shared.broker);
    let (applications, operators) = (applications(broker()), operators(broker(), Arc::clone(scraped)));
    let mut serving = JoinSet::new();
    for Socket { listener, role, workload, bound } in sockets {
        let listener = UnixListener::from_std(listener).map_err(NotStarted::Runtime)?;
        let router = match role {
            Role::Workload => applications.clone(),
            Role::Operator => operators.clone(),
        };
        let mut shared = shared.clone();
        if role == Role::Operator {
            shared.admission = Arc::clone(&scraped.operators);
        }
        serving.spawn(serve(Listening { listener, bound, workload, role, router }, shared));
    }
    Ok(serving)
}

/// The engine of rotations, which tells the broker that `hears` holds by then.
fn rotation_engine(
    settings: &Settings,
    keys: &Keys,
    journal: &Journal,
    (clock, random): (&Arc<dyn Clock>, &Arc<dyn Random>),
    hears: Arc<OnceLock<Weak<Broker>>>,
) -> rotation::Engine {
    // The log's id with it: of two agents with one name each is still another.
    let name = settings.agent.id.as_ref().map_or_else(|| made_id(keys), ToString::to_string);
    let us = format!("{name} {}", keys.log);
    let told = move |secret: &Name, happened: &rotation::Happened| {
        let broker = hears.get().and_then(Weak::upgrade);
        broker.iter().for_each(|broker| broker.rotated(secret, happened));
    };
    rotation::Engine::new(journal.clone(), Arc::clone(clock), Arc::clone(random), &us, Box::new(told))
}

fn open_journal(
    settings: &Settings,
    keys: &Keys,
    book: Option<&Book>,
    clock: Arc<dyn Clock>,
) -> Result<Journal, AuditError> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let made_id = made_id(keys);
    let agent = settings.agent.id.as_ref().map_or(made_id.as_str(), |id| id.as_str());
    let start = Start {
        log: keys.log,
        agent,
        host: &host,
        boot: boot.trim(),
        version: env!("CARGO_PKG_VERSION"),
        mode: if book.is_some() { Mode::Agent } else { Mode::Offline },
        pid: std::process::id(),
        uid: rustix::process::getuid().as_raw(),
        policy: book.map(|book| book.policy.digest()),
    };
    Journal::open(&audit_settings(&settings.audit), &start, clock)
}

/// What the agent is called where nobody has named it.
fn made_id(keys: &Keys) -> String {
    format!("agent-{:08x}", u32::from_be_bytes(keys.log.prefix()))
}

fn audit_settings(audit: &meant::Audit) -> audit::Settings {
    audit::Settings {
        dir: audit.dir.clone(),
        durability: audit.durability,
        segment_bytes: audit.segment,
        reserve_bytes: audit.reserve,
    }
}

fn admission(settings: &Settings) -> Arc<Admission> {
    let limits = &settings.limits;
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let (asked, per_uid) = (limits.connections as usize, limits.connections_per_uid as usize);
    let outgoing = settings.providers.len().saturating_mul(MOST_FLIGHTS);
    let shares = Shares::carried_by(descriptors, outgoing, Peer::DESCRIPTORS, asked, Some(per_uid));
    if shares.connections < asked {
        tracing::warn!(
            "`limits.connections` is lowered from {asked} to {}, which {descriptors} descriptors carry; raise `LimitNOFILE=`",
            shares.connections
        );
    }
    Admission::new(shares)
}

fn roots(settings: &Settings) -> Result<ContainerRoots, Faults> {
    let parsed: Result<ContainerRoots, _> = settings.container_roots.iter().map(|root| root.parse()).collect();
    parsed.map_err(|why: crate::peer::cgroup::NotARoot| Faults::of_process(why.to_string()))
}

fn make_folder(folder: &Path) -> Result<(), NotStarted> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| NotStarted::Folder { folder: folder.to_owned(), error })
}
