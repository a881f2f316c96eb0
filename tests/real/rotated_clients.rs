//! A provider's own credential, rotated at npm oidc-provider over TLS: the kill matrix, and a steady load of token requests.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bursar::crypto::SystemRandom;
use bursar::crypto::keys::Curve;
use bursar::oauth::assertion::{KeyId, Signing};
use bursar::oauth::client_auth::ClientAuth;
use bursar::oauth::http::Endpoint;
use bursar::oauth::registration::{Registration, Wish};
use bursar::oauth::settings::{Server, Settings};
use bursar::oauth::tls::{Roots, Tls};
use bursar::oauth::{Credential, Failure, Material, NoCredential, TokenEndpoint};
use bursar::rotation::Admin;
use bursar::rotation::client_secret::{Call, MOST_ANSWER_BYTES, NewClients, TIMES, TwoSecrets};
use bursar::rotation::random::{Alphabet, RandomText};
use bursar::rotation::signing_key::{Page, Published, SigningKeys};
use bursar::rotation::trial::Trial;
use bursar::rotation::{Engine, Plan, Rotator, State, keep_turning};
use bursar::secret::Secret;
use bursar::store::files::FilesStore;
use bursar::store::{Place, Which};
use bursar::time::SystemClock;
use bursar::wire::Wire;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::json;
use tempfile::TempDir;

use crate::matrix::{House, Subject, holds, holds_in};
use crate::oauth::{ask, at};
use crate::peers::Oidc;

const ROTATIONS: u32 = 50;
/// How long a request may be under way with what it has read.
const GRACE: Duration = Duration::from_millis(100);

/// What a store serves at this moment, read for each request, as the agent does.
struct Current {
    place: Place,
    is_registration: bool,
}

impl Credential for Current {
    fn current(&self) -> BoxFuture<'_, Result<Material, NoCredential>> {
        async {
            let (version, value) = self.place.store.read(&self.place.name, &Which::Current).await.unwrap();
            let material = material(value.expose(), self.is_registration);
            Ok(Material { version: Some(version.id.to_string().into()), ..material })
        }
        .boxed()
    }
}

fn material(value: &[u8], is_registration: bool) -> Material {
    if !is_registration {
        return Secret::copy_of(value).into();
    }
    let Registration { client, secret, .. } = Registration::read(value).unwrap();
    Material { client: Some(client), ..secret.into() }
}

struct Fixed(Material);

impl Credential for Fixed {
    fn current(&self) -> BoxFuture<'_, Result<Material, NoCredential>> {
        async { Ok(self.0.clone()) }.boxed()
    }
}

fn endpoint(settings: Settings, credential: Arc<dyn Credential>) -> Endpoint {
    bursar::crypto::install();
    Endpoint::new(settings, credential, Arc::new(SystemClock), Arc::new(SystemRandom), &Tls::default()).unwrap()
}

fn trial(settings: Settings) -> Trial {
    let endpoints = move |credential| -> Result<Vec<Arc<dyn TokenEndpoint>>, String> {
        Ok(vec![Arc::new(endpoint(settings.clone(), credential))])
    };
    Trial { endpoints: Box::new(endpoints), ask: ask("read", &[]) }
}

/// The rotated client of a provider, with how it is asked for tokens.
struct Client {
    rotator: Arc<dyn Rotator>,
    settings: Settings,
    is_registration: bool,
    first: Option<Vec<u8>>,
}

impl Client {
    fn subject(&self) -> Subject {
        let (settings, is_registration) = (self.settings.clone(), self.is_registration);
        let works = move |value: Vec<u8>| {
            let endpoint = endpoint(settings.clone(), Arc::new(Fixed(material(&value, is_registration))));
            async move { endpoint.fetch(&ask("read", &[])).await.is_ok() }.boxed()
        };
        let rotator = Arc::clone(&self.rotator);
        Subject { rotator, exclusive: true, first: self.first.clone(), works: Arc::new(works) }
    }
}

fn wire(roots: &Roots, is_plain: bool) -> Wire {
    bursar::crypto::install();
    Wire::new(Tls::default().config_for(roots, is_plain).unwrap(), TIMES, MOST_ANSWER_BYTES).unwrap()
}

/// A server that holds two secrets of `basic`.
fn two_secrets(oidc: &Oidc) -> Client {
    let settings = Settings { server: Server::Issuer(oidc.issuer().parse().unwrap()), ..at(oidc, "basic") };
    let call = Call {
        url: format!("{}/basic", oidc.clients()).parse().unwrap(),
        method: http::Method::PUT,
        both: r#"{"client_secret":"{new}","also":["{old}"]}"#.parse().unwrap(),
        only: r#"{"client_secret":"{new}"}"#.parse().unwrap(),
    };
    let random = RandomText::new(Alphabet::Alphanumeric, 43, Arc::new(SystemRandom));
    let (wire, trial) = (wire(&Roots::System, true), trial(settings.clone()));
    let rotator = Arc::new(TwoSecrets { call, admin: None, wire, random, trial });
    Client { rotator, settings, is_registration: false, first: Some(b"basic-secret".to_vec()) }
}

/// A token in a store of its own.
fn token(folder: &Path, text: &str) -> Admin {
    std::fs::write(folder.join("admin"), text).unwrap();
    std::fs::set_permissions(folder.join("admin"), std::fs::Permissions::from_mode(0o600)).unwrap();
    Admin::at(Place {
        store_name: "files".parse().unwrap(),
        store: Arc::new(FilesStore::open(folder).unwrap()),
        name: "admin".parse().unwrap(),
        fresh_for: None,
    })
}

/// A server where clients are registered.
fn new_clients(oidc: &Oidc, folder: &Path) -> Client {
    let settings = Settings { client_id: None, ..two_secrets(oidc).settings };
    let wish = Wish {
        endpoint: oidc.registration_endpoint().parse().unwrap(),
        client_auth: ClientAuth::ClientSecretBasic,
        scopes: Some("read write".into()),
        metadata: serde_json::Map::new(),
    };
    let admin = Some(token(folder, "initial-access-token"));
    let (wire, trial) = (wire(&oidc.roots(), false), trial(settings.clone()));
    Client { rotator: Arc::new(NewClients { wish, admin, wire, trial }), settings, is_registration: true, first: None }
}

/// A client that the provider knows by the key set that is published for `house`.
async fn signing_key(oidc: &Oidc, house: &House, curve: Curve, kept_ms: u32) -> Client {
    let page = Arc::new(Page::listen("127.0.0.1:0".parse().unwrap()).unwrap());
    let client = json!({
        "token_endpoint_auth_method": "private_key_jwt", "grant_types": ["client_credentials"],
        "redirect_uris": [], "response_types": [], "id_token_signed_response_alg": "ES256",
        "kept_ms": kept_ms, "jwks_uri": format!("http://{}/jwks.json", page.address()),
    });
    oidc.change_client("rotated", &client).await;
    let signing = Signing { key_id: KeyId::Thumbprint, ..Signing::default() };
    let server = Server::Issuer(oidc.issuer().parse().unwrap());
    let settings = Settings { server, signing, client_auth: ClientAuth::PrivateKeyJwt, ..at(oidc, "rotated") };
    let published = Published { file: None, page: Some(page) };
    let within = Duration::from_secs(20);
    let rotator = SigningKeys::new(curve, house.place(), published, trial(settings.clone()), within);
    Client { rotator: Arc::new(rotator), settings, is_registration: false, first: None }
}

/// Until nothing is left to be done.
async fn settled(engine: &Engine) {
    let began = Instant::now();
    loop {
        let status = engine.status().remove(0);
        if status.state == State::Idle {
            return;
        }
        assert!(status.state != State::Failing && began.elapsed() < Duration::from_secs(60), "{status:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Rotates many times, while tokens are asked for without a pause: none of the requests fails.
async fn no_request_fails(house: &Arc<House>, client: &Client) {
    if let Some(first) = &client.first {
        house.put(first).await;
    }
    let plan = Plan { grace: GRACE, settles_within: client.rotator.settles_within(), ..client.subject().plan() };
    let engine = house.engine_by(plan, Arc::clone(&client.rotator), house.store.clone());
    let turning = tokio::spawn(keep_turning(Arc::clone(&engine)));
    settled(&engine).await;
    let (asked, failed, over) =
        (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
    let current = Current { place: house.place(), is_registration: client.is_registration };
    let endpoint = Arc::new(endpoint(client.settings.clone(), Arc::new(current)));
    let load: Vec<_> = (0..2)
        .map(|_| {
            let (endpoint, asked, failed, over) =
                (Arc::clone(&endpoint), Arc::clone(&asked), Arc::clone(&failed), Arc::clone(&over));
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    let outcome = endpoint.fetch(&ask("read", &[])).await;
                    asked.fetch_add(1, Ordering::Relaxed);
                    if let Err(why) = outcome {
                        failed.fetch_add(1, Ordering::Relaxed);
                        println!("{why}");
                    }
                    tokio::time::sleep(Duration::from_millis(40)).await;
                }
            })
        })
        .collect();
    let mut served = std::collections::BTreeSet::new();
    for _ in 0..ROTATIONS {
        engine.rotate(&house.name(), false).await.unwrap();
        settled(&engine).await;
        served.insert(house.current().await.0);
    }
    settled(&engine).await;
    served.insert(house.current().await.0);
    over.store(true, Ordering::Relaxed);
    for one in load {
        one.await.unwrap();
    }
    turning.abort();
    let (asked, failed) = (asked.load(Ordering::Relaxed), failed.load(Ordering::Relaxed));
    println!("{}: {ROTATIONS} rotations, {asked} token requests, {failed} failed", client.rotator.kind());
    assert!(served.len() >= ROTATIONS as usize, "{} versions were served", served.len());
    assert!(asked > ROTATIONS && failed == 0, "{failed} of {asked} token requests failed");
}

#[tokio::test]
async fn two_secrets_survive_everything() {
    let oidc = Oidc::start();
    holds(&two_secrets(&oidc).subject()).await;
}

#[tokio::test]
async fn a_registered_client_survives_everything_but_a_lost_reply() {
    let (oidc, folder) = (Oidc::start(), TempDir::new().unwrap());
    holds(&new_clients(&oidc, folder.path()).subject()).await;
}

#[tokio::test]
async fn a_signing_key_survives_everything() {
    let (oidc, house) = (Oidc::start(), House::new());
    let client = signing_key(&oidc, &house, Curve::P256, 0).await;
    holds_in(&house, &client.subject()).await;
}

#[tokio::test]
async fn no_token_request_fails_while_one_of_two_secrets_is_rotated() {
    let (oidc, house) = (Oidc::start(), Arc::new(House::new()));
    no_request_fails(&house, &two_secrets(&oidc)).await;
}

#[tokio::test]
async fn no_token_request_fails_while_clients_are_registered_anew() {
    let (oidc, house, folder) = (Oidc::start(), Arc::new(House::new()), TempDir::new().unwrap());
    no_request_fails(&house, &new_clients(&oidc, folder.path())).await;
}

#[tokio::test]
async fn no_token_request_fails_while_a_signing_key_is_rotated() {
    let (oidc, house) = (Oidc::start(), Arc::new(House::new()));
    let client = signing_key(&oidc, &house, Curve::Ed25519, 200).await;
    no_request_fails(&house, &client).await;
}

#[tokio::test]
async fn what_was_replaced_is_accepted_no_more() {
    let (oidc, folder) = (Oidc::start(), TempDir::new().unwrap());
    let houses = [(); 3].map(|()| House::new());
    let by_key = signing_key(&oidc, &houses[2], Curve::P384, 0).await;
    let clients = [two_secrets(&oidc), new_clients(&oidc, folder.path()), by_key];
    for (house, client) in houses.into_iter().zip(clients) {
        let subject = client.subject();
        if let Some(first) = &client.first {
            house.put(first).await;
        }
        house.recover(&subject).await;
        let (_, old) = house.current().await;
        assert!((subject.works)(old.clone()).await);
        let engine = house.engine(&subject, Arc::clone(&client.rotator), house.store.clone());
        let status = engine.rotate(&house.name(), true).await.unwrap();
        if status.state != State::Idle {
            house.recover(&subject).await;
        }
        let (_, new) = house.current().await;
        assert_ne!(old, new);
        assert!((subject.works)(new).await && !(subject.works)(old).await, "{}", client.rotator.kind());
    }
}

/// A credential that is replaced between its reading and the request.
struct Late {
    values: std::sync::Mutex<Vec<(&'static str, &'static str)>>,
}

impl Credential for Late {
    fn current(&self) -> BoxFuture<'_, Result<Material, NoCredential>> {
        let mut values = self.values.lock().unwrap();
        let (version, secret) = if values.len() > 1 { values.remove(0) } else { values[0] };
        let secret = Secret::copy_of(secret.as_bytes());
        async move { Ok(Material { version: Some(version.into()), ..secret.into() }) }.boxed()
    }
}

#[tokio::test]
async fn a_request_that_met_the_end_of_its_secret_is_made_once_more_with_the_next_and_only_then() {
    let oidc = Oidc::start();
    let late = |values: &[_]| Arc::new(Late { values: std::sync::Mutex::new(values.to_vec()) });
    let replaced = endpoint(at(&oidc, "basic"), late(&[("1", "ended"), ("2", "basic-secret")]));
    replaced.fetch(&ask("read", &[])).await.unwrap();
    assert_eq!(oidc.requests().await, 2);
    let wrong = endpoint(at(&oidc, "basic"), late(&[("1", "wrong")]));
    let refused = wrong.fetch(&ask("read", &[])).await.unwrap_err();
    assert!(matches!(refused, Failure::Refused { error: Some("invalid_client"), .. }));
    assert_eq!(oidc.requests().await, 3, "what did not change is not sent again");
    // Another that is wrong, too, is the last.
    let both = endpoint(at(&oidc, "basic"), late(&[("1", "wrong"), ("2", "wrong"), ("3", "basic-secret")]));
    both.fetch(&ask("read", &[])).await.unwrap_err();
    assert_eq!(oidc.requests().await, 5);
}
