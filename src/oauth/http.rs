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
use rustls::ClientConfig;
use tokio::sync::Mutex;
use tokio::time;

use super::answer::{self, Asked};
use super::certificate::{Identity, Made, NotACertificate};
use super::client_auth::{ASSERTION_TYPE, Occasion, Proof, Shape};
use super::discovery::{self, Door, Found, Memory, Metadata};
use super::settings::{ClientId, Issuer, Server, Settings};
use super::tls::{NoTls, Tls};
use super::wire::Wire;
use super::{Ask, Credential, Failure, Grant, Material, NoCredential, TokenEndpoint, revocation};
use crate::crypto::Random;
use crate::secret::Secret;
use crate::time::Clock;

/// A provider's token endpoint, and the one that ends its tokens.
pub struct Endpoint {
    settings: Settings,
    /// The way without a certificate of ours: for metadata always.
    wire: Arc<Wire>,
    tls: ClientConfig,
    /// The way with the certificate that was read last, where that is the proof.
    certified: Mutex<Option<(Made, Arc<Wire>)>>,
    credential: Arc<dyn Credential>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    /// Held while metadata is fetched, so that it is fetched once.
    discovered: Mutex<Memory>,
}

/// What one request goes out with.
struct Ready {
    wire: Arc<Wire>,
    client: ClientId,
    proof: Proof,
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
        random: Arc<dyn Random>,
        tls: &Tls,
    ) -> Result<Self, NoTls> {
        let tls = Wire::config(&settings, tls)?;
        let wire = Arc::new(Wire::new(&settings, tls.clone())?);
        let (certified, discovered) = Default::default();
        Ok(Self { settings, wire, tls, certified, credential, clock, random, discovered })
    }

    async fn obtain(&self, ask: &Ask) -> Result<Grant, Failure> {
        let places = self.places().await?;
        let material = self.material().await?;
        let mut outcome = self.attempt(&places, &material, ask).await;
        if outcome.as_ref().is_err_and(Failure::may_be_an_old_credential) {
            // It may have been replaced, and ended, since it was read.
            if let Some(newer) = self.material().await.ok().filter(|now| now.version != material.version) {
                outcome = self.attempt(&places, &newer, ask).await;
            }
        }
        if let Err(Failure::Refused { status: 300..=399 | 404 | 410, .. }) = outcome {
            self.discovered.lock().await.forget();
        }
        outcome
    }

    async fn attempt(&self, places: &Metadata, material: &Material, ask: &Ask) -> Result<Grant, Failure> {
        let ready = self.prove(places, material).await?;
        self.exchange(places, &ready, ask).await
    }

    async fn end(&self, token: &Secret) -> Result<(), Failure> {
        let places = self.places().await?;
        let to = self.settings.revocation_endpoint.as_ref().or(places.revocation_endpoint.as_ref());
        let to = to.ok_or(Failure::Unsupported)?;
        let Ready { wire, client, proof } = self.prove(&places, &self.material().await?).await?;
        let request = revocation::request(to, &client, &proof, token);
        let request = request.ok_or_else(|| Failure::Nonsense("the token is no text".to_owned()))?;
        let sent = self.clock.now();
        revocation::read(&wire.send(request).await?, self.settings.client_auth, proof, token, sent)
    }

    /// What proves who we are, read anew: what was rotated is used from here on.
    async fn material(&self) -> Result<Material, Failure> {
        self.credential.current().await.map_err(Failure::Credential)
    }

    /// The proof by `material` for one request.
    async fn prove(&self, places: &Metadata, material: &Material) -> Result<Ready, Failure> {
        let not = |why: &dyn std::fmt::Display| Failure::Credential(NoCredential::Unusable(why.to_string()));
        let wire = self.wire_with(material).await?;
        let Settings { server, client_id, client_auth, signing, .. } = &self.settings;
        let client = material.client.as_ref().or(client_id.as_ref()).ok_or_else(|| not(&"it has no client id"))?;
        let audience = match server {
            // The issuer names the server, and no other can pass an assertion for it on (RFC 7523bis).
            Server::Issuer(issuer) => issuer.as_str(),
            Server::Endpoint(_) => places.token_endpoint.url().as_str(),
        };
        let on = Occasion { client, audience, signing, now: self.clock.now().wall, random: &*self.random };
        let proof = client_auth.prove(&on, material).map_err(|why| not(&why))?;
        Ok(Ready { wire, client: client.clone(), proof })
    }

    /// The way on which a request goes: where the certificate is the proof, one that shows it.
    async fn wire_with(&self, material: &Material) -> Result<Arc<Wire>, Failure> {
        if !self.settings.client_auth.is_by_certificate() {
            return Ok(Arc::clone(&self.wire));
        }
        let not = |why: &dyn std::fmt::Display| Failure::Credential(NoCredential::Unusable(why.to_string()));
        let chain = material.certificate.as_ref().ok_or_else(|| not(&NotACertificate::Missing))?;
        let made = Made::of(chain, &material.secret);
        let mut certified = self.certified.lock().await;
        if let Some((_, wire)) = certified.as_ref().filter(|(of, _)| *of == made) {
            return Ok(Arc::clone(wire));
        }
        let identity = Identity::new(chain, &material.secret).map_err(|why| not(&why))?;
        let wire = Wire::new(&self.settings, identity.within(&self.tls)).map_err(|why| not(&why))?;
        let wire = Arc::new(wire);
        *certified = Some((made, Arc::clone(&wire)));
        Ok(wire)
    }

    /// Where requests go: as configured, else as the issuer's metadata says.
    async fn places(&self) -> Result<Metadata, Failure> {
        let issuer = match &self.settings.server {
            Server::Endpoint(url) => return Ok(Metadata { token_endpoint: url.clone(), revocation_endpoint: None }),
            Server::Issuer(issuer) => issuer,
        };
        let mut memory = self.discovered.lock().await;
        match memory.recall(self.clock.now()) {
            Some(remembered) => remembered,
            None => {
                let asked = self.discover_in_time(issuer).await;
                memory.learn(asked, self.clock.now())
            }
        }
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
        let door = if self.settings.client_auth.is_by_certificate() { Door::Certificate } else { Door::Plain };
        let mut nothing = Vec::new();
        for place in discovery::places(issuer) {
            let request = Request::get(place.as_str()).header(ACCEPT, "application/json").body(Vec::new());
            let request = request.map_err(|_| Failure::Nonsense(format!("`{place}` cannot be requested")))?;
            let sent = self.clock.now();
            match discovery::read(issuer, door, &self.wire.send(request).await?, sent) {
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

    async fn exchange(&self, places: &Metadata, ready: &Ready, ask: &Ask) -> Result<Grant, Failure> {
        let client = BasicClient::new(oauth2::ClientId::new(ready.client.as_str().to_owned()))
            .set_token_uri(TokenUrl::from_url(places.token_endpoint.url().clone()));
        let client = match &ready.proof.shape {
            Shape::Basic { secret, .. } => client.set_client_secret(ClientSecret::new(secret.to_string())),
            Shape::Post(secret) => {
                client.set_client_secret(ClientSecret::new(secret.to_string())).set_auth_type(AuthType::RequestBody)
            }
            Shape::Assertion(_) | Shape::Certificate => client.set_auth_type(AuthType::RequestBody),
        };
        let mut request = client.exchange_client_credentials();
        if let Shape::Assertion(assertion) = &ready.proof.shape {
            request = request.add_extra_param("client_assertion_type", ASSERTION_TYPE);
            request = request.add_extra_param("client_assertion", assertion.as_str());
        }
        for scope in &ask.scopes {
            request = request.add_scope(Scope::new(scope.to_string()));
        }
        for audience in &ask.audience {
            request = request.add_extra_param(self.settings.audience_as.as_str(), audience.to_string());
        }
        let listener = Listener { endpoint: self, ready, ask };
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
    fn place(&self) -> String {
        match &self.settings.server {
            Server::Endpoint(url) => url.to_string(),
            Server::Issuer(issuer) => issuer.to_string(),
        }
    }

    fn fetch<'a>(&'a self, ask: &'a Ask) -> BoxFuture<'a, Result<Grant, Failure>> {
        self.obtain(ask).boxed()
    }

    fn revoke<'a>(&'a self, token: &'a Secret) -> BoxFuture<'a, Result<(), Failure>> {
        self.end(token).boxed()
    }
}

/// Our HTTP client for the crate: it sends one request and hears the whole answer itself.
struct Listener<'a> {
    endpoint: &'a Endpoint,
    ready: &'a Ready,
    ask: &'a Ask,
}

impl Listener<'_> {
    async fn hear(&self, request: HttpRequest) -> Result<Grant, Failure> {
        // The token lives from here at the latest: the server can only have issued it later.
        let sent = self.endpoint.clock.now();
        let answer = self.ready.wire.send(request).await?;
        let asked = Asked {
            ask: self.ask,
            rules: &self.endpoint.settings.rules,
            client_auth: self.endpoint.settings.client_auth,
            withheld: &self.ready.proof.withheld,
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
