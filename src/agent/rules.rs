//! (E) From settings and the policies directory to rules: read whole, checked whole, archived before they come into force.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use super::deliveries;
use super::providers::{self, Providers};
use super::rotations::{self, Tools};
use crate::audit::archive;
use crate::broker::{Renewed, Reread, Rules};
use crate::config::meant::SecretRef;
use crate::config::{self, Read, Report, Settings, reload};
use crate::deliver::Delivery;
use crate::deliver::engine::Deliveries;
use crate::fault::{Fault, Faults, Place};
use crate::peer::{Registry, has_ptrace};
use crate::policy::{Known, Snapshot, UnknownIds};
use crate::rotation::{self, Rotation};
use crate::store::{Entry, Shelf};
use crate::telemetry::Log;
use crate::time::{Clock, SystemClock};

const WORKLOADS: &str = "workloads.toml";

/// Who is who, and what they may have.
#[derive(Debug)]
pub struct Book {
    /// Who is who.
    pub registry: Registry,
    /// What they may have.
    pub policy: Snapshot,
    /// The files that are delivered.
    pub deliveries: Vec<Arc<Delivery>>,
    /// What should be said although it does not stand in the way.
    pub warnings: Vec<Fault>,
}

impl Book {
    /// Reads the policies directory of `read`.
    ///
    /// # Errors
    /// Everything that is wrong in `workloads.toml` and the policies, each at its place.
    pub fn read(read: &Read) -> Result<Self, Faults> {
        let settings = &read.settings;
        let dir = &settings.agent.policies;
        let file = dir.join(WORKLOADS);
        let text = config::load::text_of(&file).map_err(|fault| all_of(fault.into(), dir))?;
        let listeners: BTreeSet<_> = settings.agent.listeners.iter().map(|one| one.workload.clone()).collect();
        let registry = Registry::read(&file, &text, Some(&listeners)).map_err(|faults| all_of(faults, dir))?;
        let loaded = Snapshot::load(dir, &known(settings, &registry))?;
        let archived = loaded.snapshot.archive().iter().find(|(name, _)| name == WORKLOADS);
        if archived.is_none_or(|(_, bytes)| *bytes != text.as_bytes()) {
            return Err(Fault::new(Place::file(file), "it changed while it was read").help("try again").into());
        }
        let mut warnings = loaded.warnings;
        warnings.extend(loaded.snapshot.expired(SystemClock.now().wall));
        warnings.extend(nothing_permitted(dir, &loaded.snapshot));
        warnings.extend(strange_listeners(read, &registry));
        let (deliveries, more) = deliveries::of(read, &registry)?;
        warnings.extend(more);
        Ok(Self { registry, policy: loaded.snapshot, deliveries, warnings })
    }

    /// Whether this process can read the facts that workloads select on, and give delivered files to their owners.
    ///
    /// # Errors
    /// A fault for every workload whose facts it cannot read, and every file that it cannot give away.
    pub fn refuse_missing_privilege(&self) -> Result<(), Faults> {
        let mut faults = self.refuse_missing_ptrace();
        deliveries::without_privilege(&self.deliveries).for_each(|fault| faults.push(fault));
        faults.or(())
    }

    fn refuse_missing_ptrace(&self) -> Faults {
        if has_ptrace() {
            return Faults::default();
        }
        let fault = |name| {
            let what =
                format!("`{name}` selects on its executable, which needs CAP_SYS_PTRACE for other users' processes");
            Fault::new(Place::file(WORKLOADS), what)
                .help("install the drop-in `bursar.service.d/exe-facts.conf`, or select on `unit` instead")
        };
        let mut faults = Faults::default();
        self.registry.needs_ptrace().map(fault).for_each(|fault| faults.push(fault));
        faults
    }
}

/// That no rule permits anything.
fn nothing_permitted(dir: &Path, policy: &Snapshot) -> Option<Fault> {
    let fault = || {
        Fault::new(Place::file(dir), "no rule stands in its `.cedar` files, so everything is denied")
            .help("write a `permit`, as `docs/policy-guide.md` shows")
    };
    policy.rules().is_empty().then(fault)
}

/// The listeners whose workload nobody is. No fault: to take a workload away has to be possible without a restart.
fn strange_listeners(read: &Read, registry: &Registry) -> Vec<Fault> {
    let listeners = read.settings.agent.listeners.iter().enumerate();
    let strange = listeners.filter(|(_, listener)| !registry.has_workload(&listener.workload));
    let fault = |(nth, listener): (usize, &config::meant::Listener)| {
        let name = &listener.workload;
        let what = format!("`{WORKLOADS}` has no workload `{name}`: whoever asks at this listener is refused");
        let help = format!("add `[workload.{name}]` with `listener = \"{name}\"`, or take the listener out");
        Fault::new(read.places.of(&format!("agent.listener[{nth}].workload")), what).help(help)
    };
    strange.map(fault).collect()
}

/// `faults` of `workloads.toml`, and those of the policies that do not depend on who is who.
fn all_of(mut faults: Faults, policies: &Path) -> Faults {
    let nobody = Known { unknown: UnknownIds::Warn, ..Known::default() };
    if let Err(more) = Snapshot::load(policies, &nobody) {
        faults.append(more);
    }
    faults
}

fn known(settings: &Settings, registry: &Registry) -> Known {
    Known {
        workloads: registry.workloads(),
        operators: registry.operators(),
        providers: settings.provider_tags(),
        secrets: settings.secret_ids(),
        unknown: settings.agent.unknown_ids,
    }
}

/// The secrets that have a name of their own, over the stores that stand open.
pub(super) fn shelf_of(settings: &Settings, shelf: &Shelf) -> Shelf {
    let entry = |(name, secret): (&crate::name::Name, &config::meant::Secret)| {
        let SecretRef { store, name: stored } = secret.at.clone();
        (name.clone(), Entry { store, name: stored, field: secret.field.clone(), encoding: secret.encoding })
    };
    let entries = settings.secrets.iter().map(entry).collect();
    Shelf { stores: shelf.stores.clone(), entries, fresh_for: settings.fresh_for.clone() }
}

/// What was made of the settings and is not in force yet.
pub(super) struct Draft {
    providers: providers::Draft,
    rotations: Vec<Rotation>,
}

/// Reads everything anew, and puts it in place of what was.
pub(super) struct Reader {
    pub(super) file: PathBuf,
    pub(super) shelf: Shelf,
    pub(super) providers: Providers,
    pub(super) rotation: Arc<rotation::Engine>,
    pub(super) tools: Tools,
    pub(super) log: Option<Log>,
    /// Where the deliverer hears what is to be delivered.
    pub(super) deliveries: watch::Sender<Deliveries>,
    pub(super) in_force: Mutex<Settings>,
}

impl Reread for Reader {
    fn reread(&self) -> BoxFuture<'_, Result<Renewed<'_>, Faults>> {
        async move { tokio::task::block_in_place(|| self.read()) }.boxed()
    }
}

impl Reader {
    fn read(&self) -> Result<Renewed<'_>, Faults> {
        // As at a start: what would not start must not come into force either.
        let (read, Report { faults, warnings, .. }) = config::check(&self.file, &[]);
        let read = faults.or(read)?.ok_or_else(|| Faults::of_process("the configuration cannot be read"))?;
        reload::allowed(&self.in_force(), &read.settings, &read.places)?;
        let book = Book::read(&read)?;
        book.refuse_missing_privilege()?;
        warnings.iter().chain(&book.warnings).for_each(|warning| tracing::warn!("{warning}"));
        let deliveries = book.deliveries.clone().into();
        let (rules, draft) = self.rules(&read, book)?;
        Ok(Renewed { rules, enact: Box::new(move || self.enact(read.settings, draft, deliveries)) })
    }

    /// From here on `settings` and what `draft` was made of are in force.
    pub(super) fn enact(&self, settings: Settings, draft: Draft, deliveries: Deliveries) {
        self.deliveries.send_replace(deliveries);
        self.providers.keep(draft.providers);
        self.rotation.keep(draft.rotations);
        if let Some(log) = &self.log {
            log.set_level(settings.log.level);
        }
        *self.in_force() = settings;
    }

    fn in_force(&self) -> MutexGuard<'_, Settings> {
        self.in_force.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The rules of `read` and `book`, with the snapshot archived beside the log, and the providers in them.
    pub(super) fn rules(&self, read: &Read, book: Book) -> Result<(Rules, Draft), Faults> {
        let shelf = shelf_of(&read.settings, &self.shelf);
        let (providers, rotations) = (self.providers.of(read, &shelf), rotations::of(read, &shelf, &self.tools));
        let mut faults = Faults::default();
        providers
            .as_ref()
            .err()
            .into_iter()
            .chain(rotations.as_ref().err())
            .for_each(|more| faults.append(more.clone()));
        faults.or(())?;
        let draft = Draft { providers: providers?, rotations: rotations? };
        let policy = book.policy;
        archive::store(&read.settings.audit.dir, &policy.digest(), policy.archive())
            .map_err(|error| Faults::of_process(format!("the policies cannot be archived beside the log: {error}")))?;
        let per_workload = read.settings.limits.per_workload;
        let about = read.settings.providers.iter().map(|(name, entry)| (name.clone(), entry.about.clone())).collect();
        let rules = Rules {
            registry: book.registry,
            policy,
            providers: draft.providers.providers(),
            about,
            shelf,
            per_workload,
        };
        Ok((rules, draft))
    }
}
