//! Rust, with the crate oauth2, a stock OAuth client: bursar is its token endpoint. Prints the access token.
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
use hyper::{StatusCode, header};
use hyper_util::rt::TokioIo;
use oauth2::basic::{
    BasicErrorResponse, BasicRevocationErrorResponse, BasicTokenIntrospectionResponse, BasicTokenType,
};
use oauth2::{
    Client, ClientId, ExtraTokenFields, HttpRequest, HttpResponse, Scope, StandardRevocableToken,
    StandardTokenResponse, TokenResponse, TokenUrl,
};
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;

/// What bursar says of a token beside what RFC 6749 does.
#[derive(Debug, Serialize, Deserialize)]
struct Beside {
    stale: bool,
}

impl ExtraTokenFields for Beside {}

/// The client whose answers have [`Beside`].
type Bursar = Client<
    BasicErrorResponse,
    StandardTokenResponse<Beside, BasicTokenType>,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    // It has no secret: bursar goes by what the kernel says of this process.
    let bursar = Bursar::new(ClientId::new("checkout".into()))
        .set_token_uri(TokenUrl::new("http://localhost/token/stripe".into())?);
    let asked = bursar.exchange_client_credentials().add_scope(Scope::new("charges:read".into()));
    let token = asked.request_async(&over_socket).await.map_err(|error| error.to_string())?;
    if token.extra_fields().stale {
        // It serves as any other; but if the provider stays down, there will be none after it.
        eprintln!("the provider fails now, and this token is not renewed: it is stale");
    }
    println!("{}", token.access_token().secret());
    Ok(())
}

/// Sends it over the socket, and waits as bursar says: no longer than 30 s in all.
async fn over_socket(request: HttpRequest) -> Result<HttpResponse, std::io::Error> {
    let mut patience = Duration::from_secs(30);
    loop {
        let answer = send(request.clone()).await.map_err(std::io::Error::other)?;
        let wait = answer.headers().get(header::RETRY_AFTER).and_then(|wait| wait.to_str().ok()?.parse().ok());
        let wait = Duration::from_secs(wait.unwrap_or(1));
        // No token now: bursar says when to ask again.
        let waits = matches!(answer.status(), StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS);
        match patience.checked_sub(wait).filter(|_| waits) {
            Some(left) => patience = left,
            None => return Ok(answer),
        }
        tokio::time::sleep(wait).await;
    }
}

async fn send(request: HttpRequest) -> Result<HttpResponse, Box<dyn Error + Send + Sync>> {
    let socket = std::env::var("BURSAR_SOCKET").unwrap_or_else(|_| "/run/bursar/bursar.sock".to_owned());
    let stream = TokioIo::new(UnixStream::connect(socket).await?);
    let (mut bursar, connection) = http1::handshake(stream).await?;
    tokio::spawn(connection);

    let mut request = request.map(Full::<Bytes>::from);
    request.headers_mut().insert(header::HOST, header::HeaderValue::from_static("localhost"));
    let (head, body) = bursar.send_request(request).await?.into_parts();
    Ok(HttpResponse::from_parts(head, body.collect().await?.to_bytes().to_vec()))
}
