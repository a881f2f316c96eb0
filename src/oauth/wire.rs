//! (E) The network: one bounded HTTP request to a provider, and in words what went wrong with it.
//!
//! No redirects, no cookies, no proxy, no compression, no retry: a request goes out once, to the host that
//! was configured, and what comes back is read up to a limit.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use http::header::AUTHORIZATION;
use reqwest::Client;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use rustls::ClientConfig;

use super::Failure;
use super::answer::{Answer, MOST_BODY_BYTES};
use super::settings::{LOCALHOST, Settings};
use super::tls::{NoTls, Tls};
use super::trouble;

/// How many idle connections are kept to one provider.
const MOST_IDLE: usize = 4;
/// How long one is kept: shorter than any common server keeps it, so that a request seldom meets its closing.
const IDLE_FOR: Duration = Duration::from_secs(4);
/// How many headers an answer may have.
const MOST_HEADERS: usize = 64;

/// The way to one provider.
pub(super) struct Wire {
    client: Client,
    timeout: Duration,
}

impl Wire {
    /// How TLS is spoken there.
    ///
    /// # Errors
    /// [`NoTls`], when the roots that `settings` want are not there.
    pub(super) fn config(settings: &Settings, tls: &Tls) -> Result<ClientConfig, NoTls> {
        match tls.config(&settings.roots) {
            // Plain http to loopback needs no authority; where the host has none, https from there is refused.
            Err(NoTls::NoSystemRoots) if settings.server.is_plain() => Tls::that_trusts_nobody(),
            config => config,
        }
    }

    /// A way that has sent nothing yet.
    ///
    /// # Errors
    /// [`NoTls::NoClient`].
    pub(super) fn new(settings: &Settings, config: ClientConfig) -> Result<Self, NoTls> {
        let client = Client::builder()
            .tls_backend_preconfigured(config)
            .dns_resolver(Arc::new(Resolver))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            .http1_only()
            .http1_max_headers(MOST_HEADERS)
            .connect_timeout(settings.connect_timeout)
            .timeout(settings.timeout)
            .pool_max_idle_per_host(MOST_IDLE)
            .pool_idle_timeout(IDLE_FOR)
            .user_agent(concat!("bursar/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|_| NoTls::NoClient)?;
        Ok(Self { client, timeout: settings.timeout })
    }

    /// Sends `request` and reads the answer.
    ///
    /// # Errors
    /// [`Failure::Unavailable`], when no whole answer came within the time limits. The far side may have acted all the same.
    pub(super) async fn send(&self, request: Request<Vec<u8>>) -> Result<Answer, Failure> {
        let host = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        self.exchange(request).await.map_err(|error| Failure::Unavailable {
            what: trouble::in_words(&error, &host, self.timeout),
            retry_after: None,
        })
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
            let room = MOST_BODY_BYTES - answer.body.len();
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
