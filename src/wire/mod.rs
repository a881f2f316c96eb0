//! (E) The network: one bounded HTTP request to a server of the configuration, and in words what went wrong with it.
//!
//! No redirects, no cookies, no proxy, no compression, no retry: a request goes out once, to the host that
//! was configured, and what comes back is read up to a limit.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderMap, Request};
use reqwest::Client;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use rustls::ClientConfig;

use tls::NoTls;

pub mod line;
pub mod tls;
mod trouble;

/// The name that is loopback everywhere.
pub const LOCALHOST: &str = "localhost";

/// How many idle connections are kept to one server.
const MOST_IDLE: usize = 4;
/// How long one is kept: shorter than any common server keeps it, so that a request seldom meets its closing.
const IDLE_FOR: Duration = Duration::from_secs(4);
/// How many headers an answer may have.
const MOST_HEADERS: usize = 64;

/// How long a request may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// The most time for name resolution, connection and TLS handshake together.
    pub connect: Duration,
    /// The most time for the whole, from the first byte out to the last byte in.
    pub whole: Duration,
    /// Whether the configuration says so, by the keys `connect_timeout` and `timeout`.
    pub configured: bool,
}

/// An HTTP answer. No `Debug`: the body may hold a secret.
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, up to the limit.
    pub body: Vec<u8>,
    /// Whether the body is all there, or was cut at the limit.
    pub whole: bool,
}

/// No whole answer came: one line for the operator, without anything that was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoAnswer(pub String);

/// The way to one server.
pub struct Wire {
    client: Client,
    times: Times,
    most_body: usize,
}

impl Wire {
    /// A way that has sent nothing yet, and reads at most `most_body` bytes of a body.
    ///
    /// # Errors
    /// [`NoTls::NoClient`].
    pub fn new(config: ClientConfig, times: Times, most_body: usize) -> Result<Self, NoTls> {
        let client = Client::builder()
            .tls_backend_preconfigured(config)
            .dns_resolver(Arc::new(Resolver))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            .http1_only()
            .http1_max_headers(MOST_HEADERS)
            .connect_timeout(times.connect)
            .timeout(times.whole)
            .pool_max_idle_per_host(MOST_IDLE)
            .pool_idle_timeout(IDLE_FOR)
            .user_agent(concat!("bursar/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|_| NoTls::NoClient)?;
        Ok(Self { client, times, most_body })
    }

    /// Sends `request` and reads the answer.
    ///
    /// # Errors
    /// [`NoAnswer`], when no whole answer came within the time limits. The far side may have acted all the same.
    pub async fn send(&self, request: Request<Vec<u8>>) -> Result<Answer, NoAnswer> {
        let host = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        self.exchange(request).await.map_err(|error| NoAnswer(trouble::in_words(&error, &host, self.times)))
    }

    async fn exchange(&self, mut request: Request<Vec<u8>>) -> Result<Answer, reqwest::Error> {
        if let Some(credential) = request.headers_mut().get_mut(AUTHORIZATION) {
            credential.set_sensitive(true);
        }
        let mut response = self.client.execute(request.try_into()?).await?;
        let mut answer = Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: Vec::new(),
            whole: true,
        };
        while let Some(chunk) = response.chunk().await? {
            let room = self.most_body - answer.body.len();
            answer.body.extend(chunk.iter().take(room));
            if chunk.len() > room {
                answer.whole = false;
                break;
            }
        }
        Ok(answer)
    }
}

/// Resolves names as the system does, except `localhost`: that is loopback, whatever a name server says (RFC 6761 §6.3).
struct Resolver;

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            if name.as_str().eq_ignore_ascii_case(LOCALHOST) {
                let both = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
                return Ok(Box::new(both.into_iter().map(|ip| SocketAddr::new(ip, 0))) as Addrs);
            }
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            Ok(Box::new(found.collect::<Vec<_>>().into_iter()) as Addrs)
        })
    }
}
