//! (E) From provider entries to providers: their roots are read, their credentials tied to a store. A provider whose entry
//! did not change keeps its tokens over a reload.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::timeout;

use crate::access::SecretId;
use crate::config::Read;
use crate::config::meant::{self, SecretRef};
use crate::crypto::Digest;
use crate::document::bytes_of;
use crate::fault::{Fault, Faults};
use crate::name::Name;
use crate::oauth::http::Endpoint;
use crate::oauth::settings::{self, Server};
use crate::oauth::tls::{OwnRoots, Roots, Tls};
use crate::oauth::{Credential, NoCredential, TokenEndpoint};
use crate::secret::Secret;
use crate::store::{Place, Shelf, StoreError, Which};
use crate::token::{Catalogue, Engine, Provider, Settings};

/// How long a store may take to give a client credential: a disk that hangs must not hold a flight for ever.
const CREDENTIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest `ca_file`, in bytes.
const LARGEST_CA_FILE: usize = 1 << 20;

/// Makes providers, and remembers those it made.
pub(super) struct Providers {
    engine: Arc<Engine>,
    tls: Tls,
    made: Mutex<BTreeMap<Name, Made>>,
}

/// A provider, and what it was made of: its entry without what the catalogue says.
#[derive(Clone)]
struct Made {
    entry: meant::Provider,
    roots: Option<Digest>,
    provider: Arc<Provider>,
}

impl Providers {
    pub(super) fn new(engine: Arc<Engine>) -> Self {
        Self { engine, tls: Tls::default(), made: Mutex::default() }
    }

    /// The providers of `read`, which stand in force if the caller then calls [`Self::keep`].
    ///
    /// # Errors
    /// Every provider that cannot be made, each at its place.
    pub(super) fn of(&self, read: &Read, shelf: &Shelf) -> Result<Draft, Faults> {
        let (mut draft, mut faults) = (BTreeMap::new(), Faults::default());
        for (name, entry) in &read.settings.providers {
            match self.one(name, entry, &read.settings.limits, shelf) {
                Ok(made) => drop(draft.insert(name.clone(), made)),
                Err(what) => {
                    let place = read.places.of(&format!("provider.{name}"));
                    faults.push(Fault::new(place, format!("the provider `{name}`: {what}")));
                }
            }
        }
        faults.or(Draft(draft))
    }

    /// From here on `draft` is what a reload is compared with.
    pub(super) fn keep(&self, draft: Draft) {
        *self.made.lock().unwrap_or_else(PoisonError::into_inner) = draft.0;
    }

    fn one(&self, name: &Name, entry: &meant::Provider, limits: &meant::Limits, shelf: &Shelf) -> Result<Made, String> {
        let pem = entry.ca_file.as_deref().map(read_ca).transpose()?;
        let roots = pem.as_deref().map(Digest::of);
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        let settings = token_settings(entry, limits);
        // What the catalogue says of it changes no token: it keeps them.
        let of_it = meant::Provider { about: meant::About::default(), ..entry.clone() };
        let same = |made: &Made| made.entry == of_it && made.roots == roots && made.provider.settings == settings;
        if let Some(made) = made.filter(same) {
            return Ok(made);
        }
        let credential = Arc::new(Stored::of(&entry.client_secret, shelf)?);
        let endpoint = |server: &Server| -> Result<Arc<dyn TokenEndpoint>, String> {
            let (wire, credential) = (settings_of(entry, server, pem.as_deref())?, Arc::clone(&credential));
            let clock = Arc::clone(&self.engine.clock);
            Ok(Arc::new(Endpoint::new(wire, credential, clock, &self.tls).map_err(|why| why.to_string())?))
        };
        let endpoints = entry.servers.iter().map(endpoint).collect::<Result<_, _>>()?;
        let provider = Arc::new(Provider::new(name.clone(), settings, endpoints, Arc::clone(&self.engine)));
        Ok(Made { entry: of_it, roots, provider })
    }
}

/// Providers that were made and are not in force yet.
pub(super) struct Draft(BTreeMap<Name, Made>);

impl Draft {
    /// The providers by name.
    pub(super) fn providers(&self) -> BTreeMap<Name, Arc<Provider>> {
        self.0.iter().map(|(name, made)| (name.clone(), Arc::clone(&made.provider))).collect()
    }
}

/// The client credential of a provider, where a store keeps it.
struct Stored(Place);

impl Stored {
    fn of(at: &SecretRef, shelf: &Shelf) -> Result<Self, String> {
        let id = SecretId::Stored(at.store.clone(), at.name.clone());
        shelf.find(&id).map(Self).ok_or_else(|| format!("there is no store `{}`", at.store))
    }
}

impl Credential for Stored {
    fn current(&self) -> BoxFuture<'_, Result<Arc<Secret>, NoCredential>> {
        async {
            let Place { store_name: store, store: open, name } = &self.0;
            match timeout(CREDENTIAL_TIMEOUT, open.read(name, &Which::Current)).await {
                Ok(Ok((_, value))) => Ok(Arc::new(value)),
                Ok(Err(StoreError::NotFound(_))) => Err(NoCredential::Missing(format!(
                    "the credential `{store}/{name}` is missing: an operator has to put it there, `bursar secret put {store}/{name}`"
                ))),
                Ok(Err(why)) => Err(NoCredential::Unusable(format!("the credential `{store}/{name}`: {why}"))),
                Err(_) => Err(NoCredential::Unusable(format!(
                    "the credential `{store}/{name}`: the store did not answer within 10 s: look at its disk"
                ))),
            }
        }
        .boxed()
    }
}

fn token_settings(entry: &meant::Provider, limits: &meant::Limits) -> Settings {
    let meant::Provider { scopes, default_scopes, audience, .. } = entry.clone();
    let catalogue = Catalogue { scopes, default_scopes, audience };
    let meant::Provider { refresh_at, share, budget, timeout, .. } = *entry;
    Settings { catalogue, refresh_at, share, budget, mints_per_workload: limits.mints_per_workload, timeout }
}

fn settings_of(entry: &meant::Provider, server: &Server, pem: Option<&[u8]>) -> Result<settings::Settings, String> {
    let meant::Provider { client_id, rules, .. } = entry.clone();
    Ok(settings::Settings {
        server: server.clone(),
        client_id,
        client_auth: entry.client_auth,
        audience_as: entry.audience_as,
        rules,
        roots: match pem {
            Some(pem) => Roots::Own(OwnRoots::from_pem(pem).map_err(|why| format!("`ca_file` {why}"))?),
            None => Roots::System,
        },
        connect_timeout: entry.connect_timeout,
        timeout: entry.timeout,
    })
}

fn read_ca(path: &Path) -> Result<Vec<u8>, String> {
    let said = |error: std::io::Error| format!("`ca_file` `{}` cannot be read: {error}", path.display());
    let pem = bytes_of(path, LARGEST_CA_FILE).map_err(said)?;
    if pem.len() > LARGEST_CA_FILE {
        return Err(format!("`ca_file` `{}` is larger than 1 MiB", path.display()));
    }
    Ok(pem)
}
