//! (E) The rotators of a provider's own credential, over that provider's entry.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};

use super::Tools;
use crate::access::SecretId;
use crate::agent::providers::settings_of;
use crate::agent::roots;
use crate::config::Read;
use crate::config::meant::{self, ClientSecretBy, EndpointUrl, Provider};
use crate::name::Name;
use crate::oauth::http::Endpoint;
use crate::oauth::registration::Wish;
use crate::oauth::settings::Server;
use crate::oauth::{Ask, Credential, TokenEndpoint};
use crate::rotation::Admin;
use crate::rotation::Rotator;
use crate::rotation::client_secret::{MOST_ANSWER_BYTES, NewClients, TIMES, TwoSecrets};
use crate::rotation::random::{Alphabet, RandomText};
use crate::rotation::signing_key::{Page, Published, SigningKeys, keep_published};
use crate::rotation::trial::Trial;
use crate::store::{Place, Shelf};
use crate::wire::Wire;

/// How many characters a client secret has that bursar makes: 256 bits.
const SECRET_LENGTH: usize = 43;

pub(super) fn client_secret(
    meant: &meant::ClientSecret,
    read: &Read,
    shelf: &Shelf,
    tools: &Tools,
) -> Result<Arc<dyn Rotator>, String> {
    let entry = provider(&meant.provider, read)?;
    let trial = trial(entry, tools)?;
    let admin = meant.admin.as_ref().map(|at| {
        let place = shelf.find(&SecretId::Stored(at.store.clone(), at.name.clone()));
        place.map(Admin::at).ok_or_else(|| format!("there is no store `{}`", at.store))
    });
    let admin = admin.transpose()?;
    Ok(match &meant.by {
        ClientSecretBy::TwoSecrets(call) => {
            let random = RandomText::new(Alphabet::Alphanumeric, SECRET_LENGTH, Arc::clone(&tools.random));
            Arc::new(TwoSecrets { call: call.clone(), admin, wire: wire(entry, &call.url, tools)?, random, trial })
        }
        ClientSecretBy::Registration { endpoint, metadata, .. } => {
            let scopes = Some(entry.scopes.to_string()).filter(|scopes| !scopes.is_empty());
            let (endpoint, metadata) = (endpoint.clone(), metadata.clone());
            let wire = wire(entry, &endpoint, tools)?;
            let wish = Wish { endpoint, client_auth: entry.client_auth, scopes, metadata };
            Arc::new(NewClients { wish, admin, wire, trial })
        }
    })
}

pub(super) fn signing_key(
    meant: &meant::SigningKey,
    place: &Place,
    read: &Read,
    tools: &Tools,
) -> Result<Arc<dyn Rotator>, String> {
    let trial = trial(provider(&meant.provider, read)?, tools)?;
    let page = meant.jwks_listen.map(|address| page(address, tools)).transpose()?;
    let published = Published { file: meant.jwks_file.clone(), page };
    let keys = Arc::new(SigningKeys::new(meant.curve, place.clone(), published, trial, meant.settles_within));
    tokio::spawn(keep_published(Arc::downgrade(&keys)));
    Ok(keys)
}

fn provider<'r>(name: &Name, read: &'r Read) -> Result<&'r Provider, String> {
    read.settings.providers.get(name).ok_or_else(|| format!("there is no provider `{name}`"))
}

/// A request of what a workload gets without saying more.
fn trial(entry: &Provider, tools: &Tools) -> Result<Trial, String> {
    let pem = entry.ca_file.as_deref().map(roots::read).transpose()?;
    let scopes = if entry.default_scopes.is_empty() { &entry.scopes } else { &entry.default_scopes };
    let ask = Ask { scopes: scopes.clone(), audience: entry.audience.clone() };
    let (entry, clock, random) = (entry.clone(), Arc::clone(&tools.clock), Arc::clone(&tools.random));
    let tls = Arc::clone(&tools.tls);
    let endpoints = move |credential: Arc<dyn Credential>| {
        let endpoint = |server: &Server| -> Result<Arc<dyn TokenEndpoint>, String> {
            let settings = settings_of(&entry, server, pem.as_deref())?;
            let (credential, clock, random) = (Arc::clone(&credential), Arc::clone(&clock), Arc::clone(&random));
            Ok(Arc::new(Endpoint::new(settings, credential, clock, random, &tls).map_err(|why| why.to_string())?))
        };
        entry.servers.iter().map(endpoint).collect()
    };
    Ok(Trial { endpoints: Box::new(endpoints), ask })
}

/// The way to where the provider's clients are administered: vouched for as the provider is.
fn wire(entry: &Provider, to: &EndpointUrl, tools: &Tools) -> Result<Wire, String> {
    let pem = entry.ca_file.as_deref().map(roots::read).transpose()?;
    let tls = tools.tls.config_for(&roots::of(pem.as_deref())?, to.is_plain()).map_err(|why| why.to_string())?;
    Wire::new(tls, TIMES, MOST_ANSWER_BYTES).map_err(|why| why.to_string())
}

/// The page at `address`: the one that is there already, where a rotator in force has it.
fn page(address: SocketAddr, tools: &Tools) -> Result<Arc<Page>, String> {
    let mut pages = tools.pages.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(page) = pages.get(&address).and_then(std::sync::Weak::upgrade) {
        return Ok(page);
    }
    let page = Page::listen(address);
    let page = page.map_err(|error| format!("`jwks_listen` `{address}` cannot be listened at: {error}"))?;
    tracing::info!("the key set is served at http://{}/jwks.json", page.address());
    let page = Arc::new(page);
    pages.insert(address, Arc::downgrade(&page));
    Ok(page)
}
