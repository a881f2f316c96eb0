//! (E) One request to OpenBao: bounded in size and time, with its token, and with the answer's class.

use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderName, Method, Request};
use rustls::ClientConfig;
use serde_json::Value;
use url::Url;

use super::answer::{self, MOST_BODY_BYTES, Said};
use crate::secret::Secret;
use crate::store::StoreError;
use crate::wire::{Times, Wire};

/// The limits of one request.
const TIMES: Times = Times { connect: Duration::from_secs(2), whole: Duration::from_secs(10), configured: false };

/// The way to one server.
pub(super) struct Server {
    wire: Wire,
    /// Up to and with `/v1/`.
    base: String,
    namespace: Option<HeaderValue>,
}

/// What is asked: a path below `/v1/`.
pub(super) struct Asked {
    method: Method,
    path: String,
    body: Vec<u8>,
}

impl Asked {
    pub(super) fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), body: Vec::new() }
    }

    pub(super) fn post(path: impl Into<String>, body: &Value) -> Self {
        Self { method: Method::POST, path: path.into(), body: body.to_string().into_bytes() }
    }

    pub(super) fn delete(path: impl Into<String>) -> Self {
        Self { method: Method::DELETE, path: path.into(), body: Vec::new() }
    }

    pub(super) fn path(&self) -> &str {
        self.path.split('?').next().unwrap_or_default()
    }

    /// The same once more.
    pub(super) fn again(&self) -> Self {
        Self { method: self.method.clone(), path: self.path.clone(), body: self.body.clone() }
    }
}

impl Server {
    pub(super) fn new(address: &Url, namespace: Option<&str>, tls: ClientConfig) -> Result<Self, StoreError> {
        let wire = Wire::new(tls, TIMES, MOST_BODY_BYTES).map_err(|why| StoreError::Setup(why.to_string()))?;
        let base = format!("{}/v1/", address.as_str().trim_end_matches('/'));
        let refused = |_| StoreError::Setup("`namespace` does not fit into a header".into());
        let namespace = namespace.map(HeaderValue::from_str).transpose().map_err(refused)?;
        Ok(Self { wire, base, namespace })
    }

    /// Asks once.
    pub(super) async fn ask(&self, asked: Asked, token: Option<&Secret>) -> Result<(Said, Vec<u8>), StoreError> {
        let request = self.request(asked, token)?;
        let answer = self.wire.send(request).await.map_err(|why| StoreError::Unavailable(why.0))?;
        if !answer.whole {
            let most = format!("its answer is longer than {MOST_BODY_BYTES} bytes");
            return Err(StoreError::Unavailable(most));
        }
        Ok((answer::said(answer.status, &answer.body)?, answer.body))
    }

    fn request(&self, asked: Asked, token: Option<&Secret>) -> Result<Request<Vec<u8>>, StoreError> {
        let refused = || StoreError::Setup("the request cannot be built from what is configured".into());
        let mut request = Request::builder()
            .method(asked.method)
            .uri(format!("{}{}", self.base, asked.path))
            .header(CONTENT_TYPE, "application/json")
            // OpenBao's proxies can be told to want it, against requests that a page was made to send.
            .header("x-vault-request", "true")
            .body(asked.body)
            .map_err(|_| refused())?;
        if let Some(namespace) = &self.namespace {
            request.headers_mut().insert(HeaderName::from_static("x-vault-namespace"), namespace.clone());
        }
        if let Some(token) = token {
            let mut token = HeaderValue::from_bytes(token.expose()).map_err(|_| refused())?;
            token.set_sensitive(true);
            request.headers_mut().insert(HeaderName::from_static("x-vault-token"), token);
        }
        Ok(request)
    }
}
