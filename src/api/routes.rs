//! The applications' routes: one function for each, which understands the request, asks the broker, and shows the answer.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody, to_bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::{get, post};
use http_body_util::LengthLimitError;

use super::body::{self, Shown};
use super::form::{self, Carrier, Malformed, RejectForm, SecretQuery, TokenForm};
use super::stream;
use crate::access::{Action, Role};
use crate::audit::DecisionId;
use crate::broker::{Broker, Refused, Released, SecretAsk, TokenAsk, Wait, Why};
use crate::peer::Peer;
use crate::store::{VersionId, Which};
use crate::telemetry::trace::Parent;

/// The longest body of a request, in bytes.
const LONGEST_BODY: usize = 16 * 1024;
/// How long a request's body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The routes of the applications' socket.
pub fn applications(broker: Arc<Broker>) -> Router {
    Router::new()
        .route("/token/{provider}", post(post_token).get(get_token))
        .route("/token", post(post_token_anywhere))
        .route("/reject", post(reject))
        .route("/secret/{name}", get(get_secret))
        .route("/events", get(events))
        .route("/whoami", get(whoami))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/readyz/{provider}", get(readyz_of))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(broker)
}

/// What a request on these routes that is not understood was about.
const TOKEN: (Role, Action) = (Role::Workload, Action::Token);
const SECRET: (Role, Action) = (Role::Workload, Action::Secret);

type Door = State<Arc<Broker>>;
type From = Extension<Arc<Peer>>;
/// What stands in the path, where it is text once it is decoded.
pub(super) type InPath = Result<Path<String>, PathRejection>;

async fn post_token(broker: Door, peer: From, name: InPath, request: Request) -> Response {
    let trace = trace_of(request.headers());
    match token_form(request).await {
        Ok(form) => answer_token(&broker, &peer, name_in(&name), form, trace).await,
        Err(why) => refuse(&broker, &peer, TOKEN, why).await,
    }
}

async fn post_token_anywhere(broker: Door, peer: From, request: Request) -> Response {
    let trace = trace_of(request.headers());
    let form = token_form(request).await.and_then(|mut form| {
        let provider = form.provider.take().ok_or(Unread::Malformed(Malformed::Missing("provider")))?;
        Ok((provider, form))
    });
    match form {
        Ok((provider, form)) => answer_token(&broker, &peer, &provider, form, trace).await,
        Err(why) => refuse(&broker, &peer, TOKEN, why).await,
    }
}

async fn get_token(broker: Door, peer: From, name: InPath, request: Request) -> Response {
    let query = request.uri().query().unwrap_or_default();
    let form = form::guarded(request.headers()).and_then(|()| TokenForm::parse(query.as_bytes(), Carrier::Query));
    match form {
        Ok(form) => answer_token(&broker, &peer, name_in(&name), form, trace_of(request.headers())).await,
        Err(why) => refuse(&broker, &peer, TOKEN, Unread::Malformed(why)).await,
    }
}

/// The provider's name as it was written; what is no text names no provider, and is refused as any unknown name is.
fn name_in(path: &InPath) -> &str {
    path.as_ref().map_or("", |Path(name)| name)
}

async fn answer_token(
    broker: &Broker,
    peer: &Peer,
    provider: &str,
    form: TokenForm,
    trace: Option<Parent>,
) -> Response {
    let TokenForm { scopes, audience, min_ttl, .. } = form;
    let ask = TokenAsk { provider, scopes, audience, min_ttl, trace };
    match broker.token(peer, ask).await {
        Ok(released) => named(json(StatusCode::OK, body::of(provider, &released)), released.decision()),
        Err(refused) => show(&refused),
    }
}

async fn get_secret(broker: Door, peer: From, name: InPath, request: Request) -> Response {
    let (headers, query) = (request.headers(), request.uri().query().unwrap_or_default());
    let query = match form::guarded(headers).and_then(|()| SecretQuery::parse(query.as_bytes())) {
        Ok(query) => query,
        Err(why) => return refuse(&broker, &peer, SECRET, Unread::Malformed(why)).await,
    };
    let tags = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|tags| tags.to_str().ok());
    let mut held: Vec<_> = tags.flat_map(body::versions_in).collect();
    let (which, wait) = match query {
        SecretQuery { version: Some(id), wait: None } => (Which::Id(id), None),
        SecretQuery { version: None, wait: None } => (Which::Current, None),
        SecretQuery { version, wait: Some(most) } => {
            held.extend(version);
            (Which::Current, Some(Wait { held: held.clone(), most }))
        }
    };
    let name = name_in(&name);
    match broker.secret(&peer, SecretAsk { name, which, wait, trace: trace_of(headers) }).await {
        Ok(given) => released_secret(name, &given, &held),
        Err(refused) => show(&refused),
    }
}

/// The version, or that one which the caller has is still the one: it was judged and recorded all the same.
fn released_secret(name: &str, given: &Released, held: &[VersionId]) -> Response {
    let tags: Vec<_> = held.iter().map(body::tag_of).collect();
    let tag = body::tag(given.terms()).unwrap_or_default();
    let mut response = if tags.contains(&tag) {
        let mut response = json(StatusCode::NOT_MODIFIED, Bytes::new());
        response.headers_mut().remove(header::CONTENT_TYPE);
        response
    } else {
        json(StatusCode::OK, body::of(name, given))
    };
    response.headers_mut().extend(HeaderValue::try_from(tag).map(|tag| (header::ETAG, tag)));
    named(response, given.decision())
}

async fn events(State(broker): Door, Extension(peer): From, headers: HeaderMap) -> Response {
    match form::guarded(&headers) {
        Ok(()) => match broker.listen(&peer).await {
            Ok(listener) => stream::of(listener),
            Err(refused) => show(&refused),
        },
        Err(why) => refuse(&broker, &peer, SECRET, Unread::Malformed(why)).await,
    }
}

async fn reject(broker: Door, peer: From, request: Request) -> Response {
    match form_of(request, RejectForm::parse).await {
        Ok(form) => match broker.reject(&peer, &form.provider, &form.token).await {
            Ok(done) => named(json(StatusCode::OK, body::rejection(done.result)), done.decision),
            Err(refused) => show(&refused),
        },
        Err(why) => refuse(&broker, &peer, (Role::Workload, Action::Reject), why).await,
    }
}

async fn whoami(broker: Door, peer: From, headers: HeaderMap) -> Response {
    match form::guarded(&headers) {
        Ok(()) => json(StatusCode::OK, serde_json::to_vec(&broker.whoami(&peer).await).unwrap_or_default().into()),
        Err(why) => refuse(&broker, &peer, TOKEN, Unread::Malformed(why)).await,
    }
}

pub(super) async fn healthz() -> Response {
    json(StatusCode::OK, Bytes::from_static(b"{\"status\":\"ok\"}"))
}

pub(super) async fn readyz(broker: Door) -> Response {
    match broker.ready() {
        Ok(()) => json(StatusCode::OK, Bytes::from_static(b"{\"status\":\"ready\"}")),
        Err(why) => show(&Refused { why, decision: None }),
    }
}

async fn readyz_of(broker: Door, peer: From, name: InPath, headers: HeaderMap) -> Response {
    if let Err(why) = form::guarded(&headers) {
        return refuse(&broker, &peer, TOKEN, Unread::Malformed(why)).await;
    }
    match broker.ready_for(&peer, name_in(&name)).await {
        Ok(readiness) => {
            let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            json(status, serde_json::to_vec(&readiness).unwrap_or_default().into())
        }
        Err(refused) => show(&refused),
    }
}

pub(super) async fn not_found() -> Response {
    show(&Refused { why: Why::NotFound, decision: None })
}

pub(super) async fn method_not_allowed() -> Response {
    show(&Refused { why: Why::MethodNotAllowed, decision: None })
}

/// Why a request was not read.
pub(super) enum Unread {
    Malformed(Malformed),
    Name,
    TooLarge,
    TooSlow,
    Broken,
}

async fn token_form(request: Request) -> Result<TokenForm, Unread> {
    form_of(request, |bytes| TokenForm::parse(bytes, Carrier::Form)).await
}

async fn form_of<T>(request: Request, parse: impl FnOnce(&[u8]) -> Result<T, Malformed>) -> Result<T, Unread> {
    form::form_guarded(request.headers()).map_err(Unread::Malformed)?;
    let bytes = whole_body(request.into_body(), LONGEST_BODY).await?;
    parse(&bytes).map_err(Unread::Malformed)
}

pub(super) async fn whole_body(body: Body, most: usize) -> Result<Bytes, Unread> {
    // What is announced as too long is not asked for.
    if body.size_hint().lower() > most as u64 {
        return Err(Unread::TooLarge);
    }
    match tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, most)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if error.source().is_some_and(<dyn Error>::is::<LengthLimitError>) => Err(Unread::TooLarge),
        Ok(Err(_)) => Err(Unread::Broken),
        Err(_) => Err(Unread::TooSlow),
    }
}

pub(super) async fn refuse(broker: &Broker, peer: &Peer, (role, action): (Role, Action), why: Unread) -> Response {
    let why = match why {
        Unread::Malformed(Malformed::GrantType) => Why::UnsupportedGrantType,
        Unread::Malformed(Malformed::Scope) => Why::InvalidScope(Malformed::Scope.to_string()),
        Unread::Malformed(Malformed::Audience) => Why::InvalidTarget(Malformed::Audience.to_string()),
        Unread::Malformed(malformed) => Why::InvalidRequest(malformed.to_string()),
        Unread::Name => Why::InvalidRequest(
            "the path names nothing: a secret is named `NAME` or `STORE/NAME`, a provider `NAME`".into(),
        ),
        Unread::TooLarge => return show(&Refused { why: Why::TooLarge, decision: None }),
        Unread::TooSlow => Why::InvalidRequest("the body did not arrive within 10 s".into()),
        Unread::Broken => Why::InvalidRequest("the body did not arrive whole".into()),
    };
    show(&broker.malformed(peer, role, action, why).await)
}

/// The reply, with the record of it.
pub(super) fn named(mut response: Response, id: DecisionId) -> Response {
    let value = HeaderValue::try_from(id.to_string()).unwrap_or(HeaderValue::from_static(""));
    response.headers_mut().insert(DECISION, value);
    response
}

const DECISION: header::HeaderName = header::HeaderName::from_static("bursar-decision");

pub(super) fn show(refused: &Refused) -> Response {
    let shown = Shown::of(&refused.why);
    let mut response = json(shown.status, body::error(&shown, refused));
    if let Some(seconds) = shown.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    match refused.decision {
        Some(id) => named(response, id),
        None => response,
    }
}

pub(super) fn json(status: StatusCode, bytes: Bytes) -> Response {
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The caller's span, if it named one (W3C Trace Context §3.2).
fn trace_of(headers: &HeaderMap) -> Option<Parent> {
    Parent::of_traceparent(headers.get("traceparent")?.to_str().ok()?)
}
