//! The operators' routes: internal, for the command line of the same version.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::{get, post, put};
use serde::Serialize;

use super::client::CHECKED;
use super::form::{self, Malformed, Options};
use super::routes::{InPath, Unread, healthz, json, method_not_allowed, not_found, readyz, refuse, show, whole_body};
use super::scrape::Sources;
use crate::access::{Action, Role, SecretId};
use crate::broker::{Broker, Done, ProviderStatus, Refused, RotateAsk, Rotated, VersionStatus, Why};
use crate::fault::{Fault, Faults};
use crate::name::Name;
use crate::oauth::Failure;
use crate::peer::Peer;
use crate::rotation;
use crate::secret::Secret;
use crate::store::sealed::Copied;
use crate::store::upkeep::NewKey;
use crate::store::{MOST_VALUE_BYTES, import};
use crate::token::Revoked;

/// The longest text of a store key: 64 digits and a line's end.
const MOST_KEY_BYTES: usize = 66;

/// The routes of the admin socket.
pub fn operators(broker: Arc<Broker>, sources: Arc<Sources>) -> Router {
    Router::new()
        .route("/status", get(status))
        .route("/providers", get(providers))
        .route("/metrics", get(move |broker, peer, headers| metrics(broker, peer, headers, sources)))
        .route("/reload", post(reload))
        .route("/secrets", get(list))
        .route("/secrets/{*id}", put(store).post(copy).get(versions).delete(retire))
        .route("/stores/{name}/rekey", post(rekey))
        .route("/stores/{name}/backup", post(back_up))
        .route("/stores/{name}/check", post(check))
        .route("/providers/{name}/revoke", post(revoke))
        .route("/rotations", get(rotations))
        .route("/rotations/{name}", post(rotate))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(broker)
}

type Door = State<Arc<Broker>>;
type From = Extension<Arc<Peer>>;

async fn status(broker: Door, peer: From, headers: HeaderMap) -> Response {
    match form::guarded(&headers) {
        Ok(()) => shown(broker.status(&peer).await, |status| status),
        Err(why) => refuse(&broker, &peer, (Role::Operator, Action::Status), Unread::Malformed(why)).await,
    }
}

/// The catalogue.
#[derive(Serialize)]
struct Catalogue {
    providers: Vec<ProviderStatus>,
}

async fn providers(broker: Door, peer: From, headers: HeaderMap) -> Response {
    match form::guarded(&headers) {
        Ok(()) => shown(broker.providers(&peer).await, |providers| Catalogue { providers }),
        Err(why) => refuse(&broker, &peer, (Role::Operator, Action::Status), Unread::Malformed(why)).await,
    }
}

async fn metrics(broker: Door, peer: From, headers: HeaderMap, sources: Arc<Sources>) -> Response {
    if let Err(why) = form::guarded(&headers) {
        return refuse(&broker, &peer, (Role::Operator, Action::Status), Unread::Malformed(why)).await;
    }
    match broker.may_see(&peer).await {
        Ok(Done { decision, .. }) => super::routes::named(sources.answer(), decision),
        Err(refused) => show(&refused),
    }
}

/// What a reload came to: no faults, or all of them.
#[derive(Serialize)]
struct Reloaded {
    reloaded: bool,
    faults: Vec<Fault>,
}

async fn reload(State(broker): Door, Extension(peer): From, headers: HeaderMap) -> Response {
    if let Err(why) = form::guarded(&headers) {
        return refuse(&broker, &peer, (Role::Operator, Action::Reload), Unread::Malformed(why)).await;
    }
    let reloaded = carried_through(async move { broker.reload(&peer).await }).await;
    shown(reloaded, |result| {
        let faults: Vec<_> = result.err().iter().flat_map(Faults::iter).cloned().collect();
        Reloaded { reloaded: faults.is_empty(), faults }
    })
}

async fn list(broker: Door, peer: From, headers: HeaderMap) -> Response {
    match form::guarded(&headers) {
        Ok(()) => {
            shown(broker.list(&peer).await, |listed| listed.into_iter().collect::<std::collections::BTreeMap<_, _>>())
        }
        Err(why) => refuse(&broker, &peer, (Role::Operator, Action::List), Unread::Malformed(why)).await,
    }
}

#[derive(Serialize)]
struct Stored {
    version: String,
}

async fn store(State(broker): Door, Extension(peer): From, name: InPath, request: Request) -> Response {
    let asked = asked_about(request.headers(), name).and_then(|id| Ok((id, options(&request)?)));
    let (id, options) = match asked {
        Ok(asked) => asked,
        Err(why) => return refuse(&broker, &peer, PUT, why).await,
    };
    if let Err(refused) = broker.may_put(&peer, &id).await {
        return show(&refused);
    }
    let value = match whole_body(request.into_body(), MOST_VALUE_BYTES).await {
        Ok(bytes) => Secret::copy_of(&bytes),
        Err(why) => return refuse(&broker, &peer, PUT, why).await,
    };
    if options.unless_same {
        let from = import::From::Value(value);
        return imported(broker, peer, id, import::Import { from, dry_run: options.dry_run }).await;
    }
    let put = carried_through(async move { broker.put(&peer, &id, &value).await }).await;
    shown(put, |id| Stored { version: id.to_string() })
}

/// Puts what another store has.
async fn copy(State(broker): Door, Extension(peer): From, name: InPath, request: Request) -> Response {
    let read = || {
        let (id, options) = (asked_about(request.headers(), name)?, options(&request)?);
        let from = options.from.ok_or(Unread::Malformed(Malformed::Missing("from")))?;
        Ok((id, from, options.dry_run))
    };
    match read() {
        Ok((id, from, dry_run)) => {
            imported(broker, peer, id, import::Import { from: import::From::Stored(from), dry_run }).await
        }
        Err(why) => refuse(&broker, &peer, PUT, why).await,
    }
}

async fn imported(broker: Arc<Broker>, peer: Arc<Peer>, id: SecretId, how: import::Import) -> Response {
    let imported = carried_through(async move { broker.import(&peer, &id, how).await }).await;
    shown(imported, |imported| import::Shown::from(&imported))
}

async fn retire(State(broker): Door, Extension(peer): From, name: InPath, request: Request) -> Response {
    let read = || {
        let (id, options) = (asked_about(request.headers(), name)?, options(&request)?);
        Ok((id, options.version.ok_or(Unread::Malformed(Malformed::Missing("version")))?))
    };
    match read() {
        Ok((id, version)) => {
            let retired = version.to_string();
            let done = carried_through(async move { broker.retire(&peer, &id, &version).await }).await;
            shown(done, |()| Stored { version: retired })
        }
        Err(why) => refuse(&broker, &peer, (Role::Operator, Action::Revoke), why).await,
    }
}

/// What a request on a store that is not understood was about.
const MAINTAIN: (Role, Action) = (Role::Operator, Action::Maintain);

/// The store's name in the path.
fn store_in(headers: &HeaderMap, name: InPath) -> Result<Name, Unread> {
    form::guarded(headers).map_err(Unread::Malformed)?;
    let Path(name) = name.map_err(|_| Unread::Name)?;
    name.parse().map_err(|_| Unread::Name)
}

async fn rekey(State(broker): Door, Extension(peer): From, name: InPath, request: Request) -> Response {
    let asked = store_in(request.headers(), name).and_then(|name| Ok((name, options(&request)?)));
    let (name, options) = match asked {
        Ok(asked) => asked,
        Err(why) => return refuse(&broker, &peer, MAINTAIN, why).await,
    };
    if let Err(refused) = broker.may_maintain(&peer).await {
        return show(&refused);
    }
    let to = match whole_body(request.into_body(), MOST_KEY_BYTES).await {
        Ok(_) if options.credential => NewKey::Credential,
        Ok(bytes) if bytes.is_empty() => NewKey::Made,
        Ok(bytes) => NewKey::Given(Secret::copy_of(&bytes)),
        Err(why) => return refuse(&broker, &peer, MAINTAIN, why).await,
    };
    shown(carried_through(async move { broker.rekey(&peer, &name, to).await }).await, |rekeyed| rekeyed)
}

async fn check(State(broker): Door, Extension(peer): From, name: InPath, headers: HeaderMap) -> Response {
    match store_in(&headers, name) {
        Ok(name) => shown(broker.check_store(&peer, &name).await, |checked| checked),
        Err(why) => refuse(&broker, &peer, MAINTAIN, why).await,
    }
}

/// A copy of the store, sealed as it is.
async fn back_up(State(broker): Door, Extension(peer): From, name: InPath, headers: HeaderMap) -> Response {
    let name = match store_in(&headers, name) {
        Ok(name) => name,
        Err(why) => return refuse(&broker, &peer, MAINTAIN, why).await,
    };
    match carried_through(async move { broker.back_up(&peer, &name).await }).await {
        Ok(Done { result, decision }) => super::routes::named(streamed(result), decision),
        Err(refused) => show(&refused),
    }
}

/// The copy's bytes as a body; its length and counts stand in the headers.
fn streamed(copy: Copied) -> Response {
    let (bytes, checked) = (copy.bytes, serde_json::to_string(&copy.checked).unwrap_or_default());
    let chunks = futures_util::stream::try_unfold(copy, |mut copy| async move {
        let read = tokio::task::spawn_blocking(move || copy.chunk().map(|chunk| (chunk, copy))).await;
        let (chunk, copy) = read.map_err(std::io::Error::other)??;
        Ok::<_, std::io::Error>((!chunk.is_empty()).then_some((chunk, copy)))
    });
    let mut response = Response::new(Body::from_stream(chunks));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/vnd.sqlite3"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes));
    headers.extend(HeaderValue::try_from(checked).map(|checked| (CHECKED, checked)));
    response
}

fn options(request: &Request) -> Result<Options, Unread> {
    Options::parse(request.uri().query().unwrap_or_default().as_bytes()).map_err(Unread::Malformed)
}

async fn versions(broker: Door, peer: From, name: InPath, headers: HeaderMap) -> Response {
    match asked_about(&headers, name) {
        Ok(id) => {
            let all = broker.versions(&peer, &id).await;
            shown(all, |all| all.iter().map(VersionStatus::of).collect::<Vec<_>>())
        }
        Err(why) => refuse(&broker, &peer, (Role::Operator, Action::List), why).await,
    }
}

/// What became of a provider's tokens.
#[derive(Serialize)]
struct Ended {
    tokens: usize,
    ended: usize,
    /// The word for the last failure, and what it was.
    failed: Option<&'static str>,
    why: Option<String>,
}

async fn revoke(State(broker): Door, Extension(peer): From, name: InPath, headers: HeaderMap) -> Response {
    let read = || {
        form::guarded(&headers).map_err(Unread::Malformed)?;
        let Path(name) = name.map_err(|_| Unread::Name)?;
        name.parse::<Name>().map_err(|_| Unread::Name)
    };
    match read() {
        Ok(name) => {
            let revoked = carried_through(async move { broker.revoke(&peer, &name).await }).await;
            shown(revoked, |Revoked { tokens, ended, failure }| Ended {
                tokens,
                ended,
                failed: failure.as_ref().map(Failure::code),
                why: failure.map(|failure| failure.to_string()),
            })
        }
        Err(why) => refuse(&broker, &peer, (Role::Operator, Action::Revoke), why).await,
    }
}

#[derive(Serialize)]
struct Rotations {
    rotations: Vec<rotation::Status>,
}

async fn rotations(broker: Door, peer: From, headers: HeaderMap) -> Response {
    match form::guarded(&headers) {
        Ok(()) => shown(broker.rotations(&peer).await, |rotations| Rotations { rotations }),
        Err(why) => refuse(&broker, &peer, (Role::Operator, Action::Status), Unread::Malformed(why)).await,
    }
}

/// What became of a rotation, or the word for why it does not go on and the reason.
#[derive(Serialize)]
struct Turned {
    #[serde(flatten)]
    rotated: Rotated,
    failed: Option<&'static str>,
    why: Option<String>,
}

async fn rotate(State(broker): Door, Extension(peer): From, name: InPath, request: Request) -> Response {
    let read = || {
        form::guarded(request.headers()).map_err(Unread::Malformed)?;
        let Path(name) = name.map_err(|_| Unread::Name)?;
        let name = name.parse::<Name>().map_err(|_| Unread::Name)?;
        let query = request.uri().query().unwrap_or_default();
        form::rotation(query.as_bytes()).map(|asked| (name, asked)).map_err(Unread::Malformed)
    };
    match read() {
        Ok((name, (how, reason))) => {
            let rotating = async move { broker.rotate(&peer, RotateAsk { name: &name, how, reason: &reason }).await };
            shown(carried_through(rotating).await, |rotated| Turned {
                failed: rotated.as_ref().err().map(rotation::Why::code),
                why: rotated.as_ref().err().map(ToString::to_string),
                rotated: rotated.unwrap_or_default(),
            })
        }
        Err(why) => refuse(&broker, &peer, (Role::Operator, Action::Rotate), why).await,
    }
}

/// What a request that puts a secret is about, where it is not understood.
const PUT: (Role, Action) = (Role::Operator, Action::Put);

fn asked_about(headers: &HeaderMap, name: InPath) -> Result<SecretId, Unread> {
    form::guarded(headers).map_err(Unread::Malformed)?;
    name.map_err(|_| Unread::Name)?.parse().map_err(|_| Unread::Name)
}

/// Does `act` in a task of its own: an operator that goes away in the middle does not take its outcome's record along.
async fn carried_through<T: Send + 'static>(
    act: impl Future<Output = Result<Done<T>, Refused>> + Send + 'static,
) -> Result<Done<T>, Refused> {
    let ended_early = |_| Err(Refused { why: Why::Internal("the task that did it ended early"), decision: None });
    tokio::spawn(act).await.unwrap_or_else(ended_early)
}

fn shown<T, U: Serialize>(done: Result<Done<T>, Refused>, body: impl FnOnce(T) -> U) -> Response {
    let (decision, bytes) = match done {
        Ok(Done { result, decision }) => (decision, serde_json::to_vec(&body(result))),
        Err(refused) => return show(&refused),
    };
    match bytes {
        Ok(bytes) => super::routes::named(json(StatusCode::OK, bytes.into()), decision),
        Err(_) => show(&Refused { why: Why::Internal("the answer could not be written"), decision: Some(decision) }),
    }
}
