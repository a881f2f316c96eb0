//! Rust, with hyper: prints the access token.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a program that prints, told by its environment"
)]

use std::error::Error;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let socket = std::env::var("BURSAR_SOCKET").unwrap_or_else(|_| "/run/bursar/bursar.sock".to_owned());
    let (status, said) = token(&socket, Duration::from_secs(30)).await?;
    let text = |member: &str| said.get(member).and_then(Value::as_str).unwrap_or_default();
    if !status.is_success() {
        return Err(format!("{}: {}; {}", text("error"), text("error_description"), text("remedy")).into());
    }
    if said.get("stale") == Some(&Value::Bool(true)) {
        // It serves as any other; but if the provider stays down, there will be none after it.
        eprintln!("the provider fails now, and this token is not renewed: it is stale");
    }
    println!("{}", text("access_token"));
    Ok(())
}

/// Asks, and waits as bursar says: no longer than `patience` in all.
async fn token(socket: &str, mut patience: Duration) -> Result<(StatusCode, Value), Box<dyn Error>> {
    loop {
        let (status, wait, said) = ask(socket).await?;
        // No token now: bursar says when to ask again.
        let waits = matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS);
        match patience.checked_sub(wait).filter(|_| waits) {
            Some(left) => patience = left,
            None => return Ok((status, said)),
        }
        tokio::time::sleep(wait).await;
    }
}

/// The status, `Retry-After`, and the body.
async fn ask(socket: &str) -> Result<(StatusCode, Duration, Value), Box<dyn Error>> {
    let stream = TokioIo::new(UnixStream::connect(socket).await?);
    let (mut bursar, connection) = http1::handshake(stream).await?;
    tokio::spawn(connection);

    let form = "grant_type=client_credentials&scope=charges:read";
    let request = Request::post("/token/stripe")
        .header("host", "localhost")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Full::new(Bytes::from(form)))?;
    let (head, body) = bursar.send_request(request).await?.into_parts();
    let wait = head.headers.get(header::RETRY_AFTER).and_then(|wait| wait.to_str().ok()?.parse().ok()).unwrap_or(1);
    Ok((head.status, Duration::from_secs(wait), serde_json::from_slice(&body.collect().await?.to_bytes())?))
}
