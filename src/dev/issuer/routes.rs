//! The issuer's routes: what a provider has, and beside it the switches of the simulator.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};

use super::day::{BadDay, Course};
use super::desk::Desk;
use super::fault::{Endpoint, Instead};
use super::ledger::Ending;
use crate::api::guarded;

/// In the extensions of a response: there is none, and the connection is reset.
#[derive(Clone, Copy)]
pub(super) struct Reset;

pub(super) fn router(desk: Arc<Desk>) -> Router {
    Router::new()
        .route("/.well-known/openid-configuration", get(metadata))
        .route("/.well-known/oauth-authorization-server", get(metadata))
        .route("/jwks", get(keys))
        .route("/token", post(token))
        .route("/elsewhere", get(elsewhere).post(elsewhere))
        .route("/faults", get(faults).put(put_faults))
        .route("/requests", get(requests))
        .fallback(other)
        .with_state(desk)
}

type At = State<Arc<Desk>>;

// ── what a provider has

async fn metadata(State(desk): At) -> Response {
    let course = desk.ledger().come(Endpoint::Metadata);
    if let Some(answer) = befallen(&course, &desk).await {
        return answer;
    }
    let issuer = &desk.issuer;
    let scopes: BTreeSet<_> =
        desk.settings.clients.values().flat_map(|client| client.scopes.iter().map(ToString::to_string)).collect();
    json_of(
        StatusCode::OK,
        &json!({
            "issuer": issuer,
            "token_endpoint": format!("{issuer}/token"),
            "jwks_uri": format!("{issuer}/jwks"),
            "grant_types_supported": ["client_credentials"],
            "response_types_supported": [],
            "scopes_supported": scopes,
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        }),
    )
}

async fn keys(State(desk): At) -> Response {
    let course = desk.ledger().come(Endpoint::Keys);
    match befallen(&course, &desk).await {
        Some(answer) => answer,
        None => json_of(StatusCode::OK, &desk.keys().set()),
    }
}

async fn token(State(desk): At, headers: HeaderMap, body: Bytes) -> Response {
    let course = desk.ledger().come(Endpoint::Token);
    if let Some(answer) = befallen(&course, &desk).await {
        return answer;
    }
    let form: Vec<(String, String)> = form_urlencoded::parse(&body).into_owned().collect();
    let issued = desk.issue(&headers, &form, &course);
    desk.ledger().ended(if issued.is_ok() { Ending::Granted } else { Ending::Refused });
    match issued {
        Ok(answer) => json_of(StatusCode::OK, &answer),
        Err("invalid_client") => invalid_client(),
        Err(error) => json_of(StatusCode::BAD_REQUEST, &json!({ "error": error })),
    }
}

/// Waits as long as the course says, and gives what comes in the place of an answer, if anything does.
async fn befallen(course: &Course, desk: &Desk) -> Option<Response> {
    if !course.wait.is_zero() {
        tokio::time::sleep(course.wait).await;
    }
    Some(match course.instead? {
        Instead::Status(status, wait) => failing(status, wait),
        Instead::Reset => {
            let mut none = Response::default();
            none.extensions_mut().insert(Reset);
            none
        }
        Instead::Blackhole => match std::future::pending::<Infallible>().await {},
        Instead::Html => axum::response::Html("<!doctype html><title>Sign in</title><h1>Sign in</h1>").into_response(),
        Instead::Empty => ([(header::CONTENT_TYPE, "application/json")], "").into_response(),
        Instead::Redirect => {
            let to = format!("{}/elsewhere", desk.issuer);
            (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, to)]).into_response()
        }
        Instead::InvalidClient => invalid_client(),
    })
}

fn failing(status: u16, wait: Option<u32>) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let mut answer = (status, format!("simulated: {status}\n")).into_response();
    if let Some(seconds) = wait {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    answer
}

/// RFC 6749 §5.2: 401 names the scheme.
fn invalid_client() -> Response {
    let mut answer = json_of(StatusCode::UNAUTHORIZED, &json!({ "error": "invalid_client" }));
    answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"issuer\""));
    answer
}

async fn elsewhere(State(desk): At) -> Response {
    desk.ledger().ended(Ending::Elsewhere);
    let description = "a client that sends its credential where a redirect points gives it to whoever wrote that";
    json_of(StatusCode::BAD_REQUEST, &json!({ "error": "invalid_request", "error_description": description }))
}

async fn other(State(desk): At) -> Response {
    desk.ledger().ended(Ending::Other);
    complaint(StatusCode::NOT_FOUND, "not_found", "there is no such path")
}

// ── the switches

async fn faults(State(desk): At, headers: HeaderMap) -> Response {
    match invited(&desk, &headers) {
        Ok(()) => in_force(&desk),
        Err(why) => complaint(StatusCode::BAD_REQUEST, "invalid_request", &why),
    }
}

async fn put_faults(State(desk): At, headers: HeaderMap, body: Bytes) -> Response {
    let day = invited(&desk, &headers).and_then(|()| {
        let text = std::str::from_utf8(&body).map_err(|_| "the body is not UTF-8".to_owned())?;
        text.parse::<BadDay>().map_err(|why| why.to_string())
    });
    match day.map(|day| desk.begin(day)) {
        Ok(Ok(())) => in_force(&desk),
        Ok(Err(why)) => complaint(StatusCode::INTERNAL_SERVER_ERROR, "server_error", &why.to_string()),
        Err(why) => complaint(StatusCode::BAD_REQUEST, "invalid_request", &why),
    }
}

async fn requests(State(desk): At, headers: HeaderMap) -> Response {
    match invited(&desk, &headers) {
        Ok(()) => json_of(StatusCode::OK, &json!(desk.ledger().requests())),
        Err(why) => complaint(StatusCode::BAD_REQUEST, "invalid_request", &why),
    }
}

/// Whether it comes from somebody who meant this issuer. A page of a browser cannot add the header, and one whose name
/// was made to lead here (DNS rebinding) asks for that name.
fn invited(desk: &Desk, headers: &HeaderMap) -> Result<(), String> {
    guarded(headers).map_err(|why| why.to_string())?;
    let own = desk.issuer.trim_start_matches("http://");
    let port = own.rsplit(':').next().unwrap_or_default();
    let asked = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let meant = asked == own || asked.strip_prefix("localhost:") == Some(port);
    if meant { Ok(()) } else { Err(format!("ask by the issuer's own address, `{}`", desk.issuer)) }
}

fn in_force(desk: &Desk) -> Response {
    json_of(StatusCode::OK, &json!(desk.ledger().day().written()))
}

fn complaint(status: StatusCode, error: &str, description: &str) -> Response {
    json_of(status, &json!({ "error": error, "error_description": description }))
}

fn json_of(status: StatusCode, value: &Value) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, value.to_string()).into_response()
}
