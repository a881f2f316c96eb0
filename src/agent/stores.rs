//! (E) The stores of the configuration: opened, and held against what the audit log knows of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::getuid;

use super::roots;
use crate::audit::stores::{Held, NotAsKnown};
use crate::audit::{
    Actor, AuditError, Effect, Intent, Journal, NotDurable, Noted, Outcome, OutcomeOf, Record, Standing, backwards,
};
use crate::broker::standing;
use crate::config::Settings;
use crate::config::meant::{self, Aws, EndpointUrl, OpenBao, StoreKey};
use crate::crypto::Random;
use crate::name::Name;
use crate::store::aws::AwsStore;
use crate::store::files::FilesStore;
use crate::store::key::KeySource;
use crate::store::openbao::{self, OpenBaoStore};
use crate::store::sealed::{Locked, SealedStore};
use crate::store::{self, Store, StoreError};
use crate::systemd;
use crate::time::Clock;
use crate::wire::tls::{Roots, Tls};

/// A store that could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("the store `{name}`: {why}")]
pub struct NotOpened {
    /// Which.
    pub name: Name,
    /// Why.
    pub why: StoreError,
}

/// How soon a new segment of the log is told how the stores stand.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// The stores by name.
pub(super) type Stores = BTreeMap<Name, Arc<dyn Store>>;

/// Opens every store of `settings`.
///
/// # Errors
/// The first that cannot be opened.
pub(super) fn open(settings: &Settings, clock: &Arc<dyn Clock>, random: &Arc<dyn Random>) -> Result<Stores, NotOpened> {
    let open = |(name, store): (&Name, &meant::Store)| match one(store, clock, random) {
        Ok(store) => Ok((name.clone(), store)),
        Err(why) => Err(NotOpened { name: name.clone(), why }),
    };
    settings.stores.iter().map(open).collect()
}

/// Holds the stores that count their changes against the log in `dir`, before it is written to.
///
/// # Errors
/// The log's.
pub(super) fn hold(stores: &Stores, dir: &Path) -> Result<Vec<Held>, AuditError> {
    let counting = stores.iter().filter_map(|(name, store)| standing(name, &**store));
    let mut held: Vec<_> = counting.map(Held::new).collect();
    backwards::hold(dir, &mut held)?;
    Ok(held)
}

/// The first store that is not what the log knows, `accept` aside, where the log has every such refusal already: an agent
/// that is started again and again does not fill it.
pub(super) fn refused_before(held: &[Held], accept: Option<&Name>) -> Option<NotAsKnown> {
    let faults = held.iter().filter_map(|one| Some((one, one.fault()?)));
    let (accepted, strays): (Vec<_>, Vec<_>) = faults.partition(|(one, _)| accept == Some(&one.found().store));
    let is_news = !accepted.is_empty() || strays.iter().any(|(_, (_, is_noted))| !is_noted);
    strays.first().filter(|_| !is_news).map(|(_, (fault, _))| (*fault).clone())
}

/// Records how each store was found; the first that is not what the log knows, `accept` aside.
///
/// # Errors
/// [`NotDurable`]: nothing may be served then.
pub(super) async fn note(
    journal: &Journal,
    held: &[Held],
    accept: Option<&Name>,
    clock: &dyn Clock,
) -> Result<Option<NotAsKnown>, NotDurable> {
    let mut refused = None;
    for one in held {
        let noted = match one.fault() {
            None => Noted::Opened,
            Some(_) if accept == Some(&one.found().store) => {
                self::accept(journal, one.found(), clock).await?;
                continue;
            }
            Some((fault, _)) => {
                refused.get_or_insert_with(|| fault.clone());
                Noted::Refused
            }
        };
        drop(journal.append(&Record::Store(one.found(), noted)).await?);
    }
    Ok(refused)
}

/// Takes a store as it is, on behalf of who runs this process.
async fn accept(journal: &Journal, found: &Standing, clock: &dyn Clock) -> Result<(), NotDurable> {
    let (actor, effect) = (Actor::Offline(getuid().as_raw()), Effect::Accept { store: &found.store });
    let intent = journal.append(&Record::Intent(Intent { actor, effect })).await?.decision().index;
    let began = clock.now();
    drop(journal.append(&Record::Store(found, Noted::Accepted)).await?);
    let (result, took) = (OutcomeOf::Accepted { id: &found.id }, clock.now().since(began));
    journal.append(&Record::Outcome(Outcome { intent, result, took })).await.map(drop)
}

/// Records how the stores stand, though nothing happened.
///
/// # Errors
/// [`NotDurable`].
pub(super) async fn restate(journal: &Journal, stores: &Stores) -> Result<(), NotDurable> {
    for standing in stores.iter().filter_map(|(name, store)| standing(name, &**store)) {
        drop(journal.append(&Record::Store(&standing, Noted::Restated)).await?);
    }
    Ok(())
}

/// Tells each new segment how the stores stand: so the log knows it when older segments are taken away, and a start
/// after a crash need not read far. Never returns.
pub(super) async fn restate_in_each_segment(journal: Journal, stores: Stores) {
    let mut told = journal.status().segment;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let segment = journal.status().segment;
        if segment != told && restate(&journal, &stores).await.is_ok() {
            told = segment;
        }
    }
}

fn one(store: &meant::Store, clock: &Arc<dyn Clock>, random: &Arc<dyn Random>) -> Result<Arc<dyn Store>, StoreError> {
    match store {
        meant::Store::Sealed { path, key } => {
            let lock = Locked::take(path)?;
            Ok(Arc::new(SealedStore::open(lock, key_source(key)?, Arc::clone(clock), Arc::clone(random))?))
        }
        meant::Store::Files { path } => Ok(Arc::new(FilesStore::open(path)?)),
        meant::Store::Aws(aws) => Ok(Arc::new(self::aws(aws, clock)?)),
        meant::Store::OpenBao(bao) => Ok(Arc::new(openbao(bao, clock, random)?)),
    }
}

fn aws(aws: &Aws, clock: &Arc<dyn Clock>) -> Result<AwsStore, StoreError> {
    let is_plain = aws.endpoint.as_ref().is_some_and(EndpointUrl::is_plain);
    let tls = Tls::default().config_for(&Roots::System, is_plain);
    let tls = tls.map_err(|why| StoreError::Setup(why.to_string()))?;
    let settings = store::aws::Settings {
        region: aws.region.clone(),
        endpoint: aws.endpoint.as_ref().map(|endpoint| endpoint.url().clone()),
        prefix: aws.prefix.clone(),
        replica_region: aws.replica_region.clone(),
        credentials: None,
    };
    AwsStore::new(&settings, tls, Arc::clone(clock))
}

fn openbao(bao: &OpenBao, clock: &Arc<dyn Clock>, random: &Arc<dyn Random>) -> Result<OpenBaoStore, StoreError> {
    let pem = bao.ca_file.as_deref().map(roots::read).transpose().map_err(StoreError::Setup)?;
    let roots = roots::of(pem.as_deref()).map_err(StoreError::Setup)?;
    let tls = Tls::default().config_for(&roots, bao.address.is_plain());
    let tls = tls.map_err(|why| StoreError::Setup(why.to_string()))?;
    let settings = openbao::Settings {
        address: bao.address.url().clone(),
        mount: bao.mount.clone(),
        prefix: bao.prefix.clone(),
        namespace: bao.namespace.as_ref().map(ToString::to_string),
        auth: bao.auth.clone(),
    };
    OpenBaoStore::new(settings, tls, Arc::clone(clock), Arc::clone(random))
}

pub(super) fn key_source(key: &StoreKey) -> Result<KeySource, StoreError> {
    match key {
        StoreKey::File { path, made } => Ok(KeySource::File { path: path.clone(), make: *made }),
        StoreKey::Credential(name) => match systemd::credential(name) {
            Some(path) => Ok(KeySource::Credential { path }),
            None => Err(StoreError::Setup(format!(
                "no credentials were passed to this process: give the unit `LoadCredentialEncrypted={name}`"
            ))),
        },
    }
}
