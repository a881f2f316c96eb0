//! (E) From provider entries to providers: their roots are read, their credentials tied to where they are kept. A
//! provider whose entry did not change keeps its tokens over a reload.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use super::{credentials, roots};
use crate::audit::Actor;
use crate::config::Read;
use crate::config::meant;
use crate::crypto::Digest;
use crate::fault::{Fault, Faults};
use crate::name::Name;
use crate::oauth::TokenEndpoint;
use crate::oauth::http::Endpoint;
use crate::oauth::settings::{self, Server};
use crate::oauth::tls::Tls;
use crate::store::Shelf;
use crate::token::{Catalogue, Engine, Provider, Revoked, Settings};

/// How long the agent's stop may be held up by tokens that are to be ended.
const AT_SHUTDOWN: Duration = Duration::from_secs(10);

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
        let pem = entry.ca_file.as_deref().map(roots::read).transpose()?;
        let roots = pem.as_deref().map(Digest::of);
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        let settings = token_settings(entry, limits);
        // What the catalogue says of it changes no token: it keeps them.
        let of_it = meant::Provider { about: meant::About::default(), ..entry.clone() };
        let same = |made: &Made| made.entry == of_it && made.roots == roots && made.provider.settings == settings;
        if let Some(made) = made.filter(same) {
            return Ok(made);
        }
        let credential = credentials::of(&entry.credential, shelf)?;
        let endpoint = |server: &Server| -> Result<Arc<dyn TokenEndpoint>, String> {
            let (wire, credential) = (settings_of(entry, server, pem.as_deref())?, Arc::clone(&credential));
            let (clock, random) = (Arc::clone(&self.engine.clock), Arc::clone(&self.engine.random));
            Ok(Arc::new(Endpoint::new(wire, credential, clock, random, &self.tls).map_err(|why| why.to_string())?))
        };
        let endpoints = entry.servers.iter().map(endpoint).collect::<Result<_, _>>()?;
        let provider = Arc::new(Provider::new(name.clone(), settings, endpoints, Arc::clone(&self.engine)));
        Ok(Made { entry: of_it, roots, provider })
    }
}

/// Ends the tokens of those `providers` of which that is configured, within [`AT_SHUTDOWN`].
pub(super) async fn end_tokens(providers: impl Iterator<Item = &Arc<Provider>>) {
    let ending = providers.filter(|provider| provider.settings.revoke_at_shutdown).map(|provider| async {
        let name = &provider.name;
        match timeout(AT_SHUTDOWN, provider.revoke(Actor::Bursar, AT_SHUTDOWN / 2)).await {
            Ok(Ok(Revoked { tokens, ended, failure: None })) if tokens == ended => {}
            Ok(Ok(Revoked { tokens, ended, failure })) => {
                let why = failure.map(|failure| failure.to_string()).unwrap_or_default();
                tracing::warn!(
                    "of {tokens} tokens of `{name}` {ended} were ended; the others live until they expire: {why}"
                );
            }
            Ok(Err(why)) => tracing::warn!("the tokens of `{name}` were not ended, since it cannot be recorded: {why}"),
            Err(_) => {
                tracing::warn!("the tokens of `{name}` were not all ended within 10 s; they live until they expire")
            }
        }
    });
    join_all(ending).await;
}

/// Providers that were made and are not in force yet.
pub(super) struct Draft(BTreeMap<Name, Made>);

impl Draft {
    /// The providers by name.
    pub(super) fn providers(&self) -> BTreeMap<Name, Arc<Provider>> {
        self.0.iter().map(|(name, made)| (name.clone(), Arc::clone(&made.provider))).collect()
    }
}

fn token_settings(entry: &meant::Provider, limits: &meant::Limits) -> Settings {
    let meant::Provider { scopes, default_scopes, audience, .. } = entry.clone();
    let catalogue = Catalogue { scopes, default_scopes, audience };
    let meant::Provider { refresh_at, share, budget, timeout, revoke_at_shutdown, .. } = *entry;
    let mints_per_workload = limits.mints_per_workload;
    Settings { catalogue, refresh_at, share, budget, mints_per_workload, timeout, revoke_at_shutdown }
}

/// What the room `oauth` is told of one server of `entry`, whose `ca_file` holds `pem`.
///
/// # Errors
/// What is wrong with the `ca_file`.
pub(super) fn settings_of(
    entry: &meant::Provider,
    server: &Server,
    pem: Option<&[u8]>,
) -> Result<settings::Settings, String> {
    let meant::Provider { client_id, rules, .. } = entry.clone();
    Ok(settings::Settings {
        server: server.clone(),
        client_id,
        client_auth: entry.client_auth,
        signing: entry.signing.clone(),
        revocation_endpoint: entry.revocation_endpoint.clone(),
        audience_as: entry.audience_as,
        rules,
        roots: roots::of(pem)?,
        connect_timeout: entry.connect_timeout,
        timeout: entry.timeout,
    })
}
