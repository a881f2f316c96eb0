//! Rust, with hyper: prints the access token.
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a program that prints, told by its environment")]

use std::error::Error;

use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let socket = std::env::var("BURSAR_SOCKET").unwrap_or_else(|_| "/run/bursar/bursar.sock".to_owned());
    let stream = TokioIo::new(UnixStream::connect(socket).await?);
    let (mut bursar, connection) = http1::handshake(stream).await?;
    tokio::spawn(connection);

    let form = "grant_type=client_credentials&scope=charges:read";
    let request = Request::post("/token/stripe")
        .header("host", "localhost")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Full::new(Bytes::from(form)))?;
    let answer = bursar.send_request(request).await?;
    let granted = answer.status().is_success();
    let said: Value = serde_json::from_slice(&answer.into_body().collect().await?.to_bytes())?;
    let text = |member: &str| said.get(member).and_then(Value::as_str).unwrap_or_default();
    if !granted {
        return Err(format!("{}: {}; {}", text("error"), text("error_description"), text("remedy")).into());
    }
    println!("{}", text("access_token"));
    Ok(())
}
