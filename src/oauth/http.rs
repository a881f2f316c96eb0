//! (E) The token endpoint over HTTP: the `oauth2` crate behind a fence.
//!
//! The crate names the types and builds the request. Its own reading of an answer is never reached: it loses
//! status and headers, and the `Debug` of its error holds the body's bytes. What we hear, good or bad, comes
//! back through the crate as the error of our HTTP client, and `RequestTokenError` ends in this file.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::Request;
use http::header::ACCEPT;
use oauth2::basic::BasicClient;
use oauth2::{AsyncHttpClient, AuthType, ClientSecret, HttpRequest, HttpResponse, RequestTokenError, Scope, TokenUrl};
use tokio::sync::Mutex;
use tokio::time;

use super::answer::{self, Asked};
use super::client_auth::{ClientAuth, Proof};
use super::discovery::{self, Found, Memory, Metadata};
use super::settings::{EndpointUrl, Issuer, Server, Settings};
use super::tls::{NoTls, Tls};
use super::wire::Wire;
use super::{Ask, Credential, Failure, Grant, NoCredential, TokenEndpoint};
use crate::time::Clock;

/// A provider's token endpoint.
pub struct Endpoint {
    settings: Settings,
    wire: Wire,
    credential: Arc<dyn Credential>,
    clock: Arc<dyn Clock>,
    /// Held while metadata is fetched, so that it is fetched once.
    discovered: Mutex<Memory>,
}

impl Endpoint {
    /// The endpoint that `settings` describe. Nothing is sent before the first [`TokenEndpoint::fetch`].
    ///
    /// # Errors
    /// [`NoTls`], when the roots that `settings` want are not there.
    pub fn new(
        settings: Settings,
        credential: Arc<dyn Credential>,
        clock: Arc<dyn Clock>,
        tls: &Tls,
    ) -> Result<Self, NoTls> {
        let wire = Wire::new(&settings, tls)?;
        Ok(Self { settings, wire, credential, clock, discovered: Mutex::default() })
    }

    async fn obtain(&self, ask: &Ask) -> Result<Grant, Failure> {
        let url = self.token_endpoint().await?;
        let secret = self.credential.current().await.map_err(Failure::Credential)?;
        let proof = self.settings.client_auth.prove(&self.settings.client_id, &secret);
        let proof = proof.map_err(|why| Failure::Credential(NoCredential::Unusable(why.to_string())))?;
        let outcome = self.exchange(url, &proof, ask).await;
        if let Err(Failure::Refused { status: 300..=399 | 404 | 410, .. }) = outcome {
            self.discovered.lock().await.forget();
        }
        outcome
    }

    async fn token_endpoint(&self) -> Result<EndpointUrl, Failure> {
        let issuer = match &self.settings.server {
            Server::Endpoint(url) => return Ok(url.clone()),
            Server::Issuer(issuer) => issuer,
        };
        let mut memory = self.discovered.lock().await;
        let metadata = match memory.recall(self.clock.now()) {
            Some(remembered) => remembered,
            None => {
                let asked = self.discover_in_time(issuer).await;
                memory.learn(asked, self.clock.now())
            }
        };
        metadata.map(|metadata| metadata.token_endpoint)
    }

    /// All places together have the time of one request.
    async fn discover_in_time(&self, issuer: &Issuer) -> Result<Metadata, Failure> {
        let timeout = self.settings.timeout;
        time::timeout(timeout, self.discover(issuer)).await.unwrap_or_else(|_| {
            let what = format!("no metadata from the issuer `{issuer}` within {} ms (`timeout`)", timeout.as_millis());
            Err(Failure::Unavailable { what, retry_after: None })
        })
    }

    async fn discover(&self, issuer: &Issuer) -> Result<Metadata, Failure> {
        let mut nothing = Vec::new();
        for place in discovery::places(issuer) {
            let request = Request::get(place.as_str()).header(ACCEPT, "application/json").body(Vec::new());
            let request = request.map_err(|_| Failure::Nonsense(format!("`{place}` cannot be requested")))?;
            let sent = self.clock.now();
            match discovery::read(issuer, &self.wire.send(request).await?, sent) {
                Found::Metadata(metadata) => return Ok(metadata),
                Found::Failed(failure) => return Err(failure),
                Found::Nothing(instead) => nothing.push(format!("`{place}`: {instead}")),
            }
        }
        let what = format!(
            "the issuer `{issuer}` has no metadata: check `issuer`, or set `token_endpoint` ({})",
            nothing.join("; ")
        );
        Err(Failure::Nonsense(what))
    }

    async fn exchange(&self, url: EndpointUrl, proof: &Proof, ask: &Ask) -> Result<Grant, Failure> {
        let client = BasicClient::new(oauth2::ClientId::new(self.settings.client_id.as_str().to_owned()))
            .set_client_secret(ClientSecret::new(proof.secret().to_owned()))
            .set_auth_type(auth_type(proof.auth))
            .set_token_uri(TokenUrl::from_url(url.url().clone()));
        let mut request = client.exchange_client_credentials();
        for scope in &ask.scopes {
            request = request.add_scope(Scope::new(scope.to_string()));
        }
        for audience in &ask.audience {
            request = request.add_extra_param(self.settings.audience_as.as_str(), audience.to_string());
        }
        let listener = Listener { endpoint: self, proof, ask };
        match request.request_async(&listener).await {
            Err(RequestTokenError::Request(Heard(heard))) => heard,
            Ok(_)
            | Err(RequestTokenError::ServerResponse(_) | RequestTokenError::Parse(..) | RequestTokenError::Other(_)) => {
                Err(Failure::Nonsense("the request could not be built from what is configured".to_owned()))
            }
        }
    }
}

impl TokenEndpoint for Endpoint {
    fn fetch<'a>(&'a self, ask: &'a Ask) -> BoxFuture<'a, Result<Grant, Failure>> {
        self.obtain(ask).boxed()
    }
}

const fn auth_type(auth: ClientAuth) -> AuthType {
    match auth {
        ClientAuth::ClientSecretBasic => AuthType::BasicAuth,
        ClientAuth::ClientSecretPost => AuthType::RequestBody,
    }
}

/// Our HTTP client for the crate: it sends one request and hears the whole answer itself.
struct Listener<'a> {
    endpoint: &'a Endpoint,
    proof: &'a Proof,
    ask: &'a Ask,
}

impl Listener<'_> {
    async fn hear(&self, request: HttpRequest) -> Result<Grant, Failure> {
        // The token lives from here at the latest: the server can only have issued it later.
        let sent = self.endpoint.clock.now();
        let answer = self.endpoint.wire.send(request).await?;
        let asked = Asked {
            ask: self.ask,
            rules: &self.endpoint.settings.rules,
            client_auth: self.proof.auth,
            withheld: &self.proof.withheld,
            sent,
        };
        answer::read(&answer, &asked)
    }
}

impl<'c> AsyncHttpClient<'c> for Listener<'_> {
    type Error = Heard;
    type Future = BoxFuture<'c, Result<HttpResponse, Heard>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        self.hear(request).map(|heard| Err(Heard(heard))).boxed()
    }
}

/// What came of the request, on its way through the crate.
#[derive(Debug, thiserror::Error)]
#[error("what was heard")]
struct Heard(Result<Grant, Failure>);
