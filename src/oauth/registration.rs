//! Dynamic client registration: a new client (RFC 7591), its end (RFC 7592 §2.3), and what is kept of it. Pure.
//!
//! RFC 7592 §2.2 (PUT) is not used: it changes metadata, and servers need not issue another secret by it.

use std::fmt;

use http::Request;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use serde_json::{Map, Value, json};

use super::answer::Answer;
use super::client_auth::ClientAuth;
use super::object::Object;
use super::settings::{ClientId, EndpointUrl};
use super::shown::Withheld;
use crate::secret::Secret;

/// A client, and what ends it. No `Debug` of its secrets.
pub struct Registration {
    /// Who we are.
    pub client: ClientId,
    /// What proves it.
    pub secret: Secret,
    /// Where the client is ended, and the token that allows it; none: the server does not offer that.
    pub management: Option<(EndpointUrl, Secret)>,
    /// When the secret ends, in seconds of Unix time; none: it does not say, or never.
    pub expires: Option<i64>,
}

/// A value is no registration. No text holds any of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0}: write it as the JSON of RFC 7591 §3.2.1, with `client_id`, `client_secret`, `registration_client_uri` and \
     `registration_access_token`"
)]
pub struct NotARegistration(&'static str);

impl Registration {
    /// Reads a registration: an answer of RFC 7591 §3.2.1, or what was kept of one.
    ///
    /// # Errors
    /// [`NotARegistration`].
    pub fn read(bytes: &[u8]) -> Result<Self, NotARegistration> {
        let mut object = Object::read(bytes).map_err(|_| NotARegistration("it is not a JSON object"))?;
        let expires = object.take("client_secret_expires_at").and_then(|at| at.as_i64()).filter(|at| *at > 0);
        let client = object.text("client_id").and_then(|text| text.parse().ok());
        let client = client.ok_or(NotARegistration("it has no usable `client_id`"))?;
        let secret = |name| {
            let text = object.text(name).filter(|text| !text.is_empty());
            text.map(|text| Secret::copy_of(text.as_bytes()))
        };
        let client_secret = secret("client_secret").ok_or(NotARegistration("it has no `client_secret`"))?;
        let token = secret("registration_access_token");
        let uri = object.text("registration_client_uri").and_then(|text| text.parse().ok());
        Ok(Self { client, secret: client_secret, management: uri.zip(token), expires })
    }

    /// Reads what the server at `endpoint` answered. A server with TLS names no plain address of this host: who answers
    /// elsewhere would have us send a request there.
    ///
    /// # Errors
    /// [`NotARegistration`].
    pub fn answered(bytes: &[u8], endpoint: &EndpointUrl) -> Result<Self, NotARegistration> {
        let read = Self::read(bytes)?;
        let management = read.management.filter(|(uri, _)| endpoint.is_plain() || !uri.is_plain());
        Ok(Self { management, ..read })
    }

    /// What is kept of it: four members, which [`Self::read`] reads.
    #[must_use]
    pub fn written(&self) -> Secret {
        let text = |secret: &Secret| String::from_utf8_lossy(secret.expose()).into_owned();
        let mut kept = Map::new();
        kept.insert("client_id".into(), self.client.as_str().into());
        kept.insert("client_secret".into(), text(&self.secret).into());
        if let Some((uri, token)) = &self.management {
            kept.insert("registration_client_uri".into(), uri.to_string().into());
            kept.insert("registration_access_token".into(), text(token).into());
        }
        Secret::new(Value::Object(kept).to_string().into_bytes())
    }

    /// The request that ends it (RFC 7592 §2.3); none, where the server does not offer that.
    #[must_use]
    pub fn end(&self) -> Option<Request<Vec<u8>>> {
        let (uri, token) = self.management.as_ref()?;
        Request::delete(uri.url().as_str()).header(AUTHORIZATION, bearer(token)?).body(Vec::new()).ok()
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration").field("client", &self.client).finish_non_exhaustive()
    }
}

/// What a new client is registered with.
#[derive(Clone, Debug, PartialEq)]
pub struct Wish {
    /// Where clients are registered.
    pub endpoint: EndpointUrl,
    /// How it proves who it is.
    pub client_auth: ClientAuth,
    /// Which scopes it may ask for; none: as the server decides.
    pub scopes: Option<String>,
    /// What else is said of it.
    pub metadata: Map<String, Value>,
}

impl Wish {
    /// The request that registers a client called `name`, allowed by the initial access token, if there is one (RFC 7591
    /// §3.1); none, if the token cannot stand in a header.
    #[must_use]
    pub fn request(&self, name: &str, initial: Option<&Secret>) -> Option<Request<Vec<u8>>> {
        let mut body = Map::new();
        body.insert("client_name".into(), name.into());
        body.insert("token_endpoint_auth_method".into(), self.client_auth.as_str().into());
        body.insert("grant_types".into(), json!(["client_credentials"]));
        body.insert("response_types".into(), json!([]));
        body.insert("redirect_uris".into(), json!([]));
        body.extend(self.scopes.as_ref().map(|scopes| ("scope".to_owned(), scopes.as_str().into())));
        body.extend(self.metadata.clone());
        let mut request = Request::post(self.endpoint.url().as_str())
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/json");
        if let Some(token) = initial {
            request = request.header(AUTHORIZATION, bearer(token)?);
        }
        request.body(Value::Object(body).to_string().into_bytes()).ok()
    }
}

/// The value of `Authorization` for a bearer token (RFC 6750 §2.1); none, if it is no header's text.
#[must_use]
pub fn bearer(token: &Secret) -> Option<http::HeaderValue> {
    let token = std::str::from_utf8(token.expose()).ok()?.trim();
    let mut value: http::HeaderValue = format!("Bearer {token}").parse().ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// What a refusal says: its code (RFC 7591 §3.2.2), or its status alone. Nothing else of a body is shown, and nothing that
/// repeats one of the secrets that the server was `told`.
#[must_use]
pub fn refusal(answer: &Answer, told: &[&Secret]) -> String {
    let withheld = told.iter().fold(Withheld::default(), |withheld, secret| withheld.and(secret.expose()));
    let object = Object::read(&answer.body).ok();
    let code = object.as_ref().and_then(|object| object.text("error")).map(|code| withheld.show(code, 60));
    code.map_or_else(|| format!("status {}", answer.status), |code| format!("status {}, `{code}`", answer.status))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = r#"{"client_id":"c1","client_secret":"s \"1\"","client_secret_expires_at":0,
        "registration_client_uri":"https://h/reg/c1","registration_access_token":"t1","client_name":"x"}"#;

    #[test]
    fn what_is_kept_of_an_answer_is_read_as_it_was() {
        let read = Registration::read(ANSWER.as_bytes()).unwrap();
        let kept = Registration::read(read.written().expose()).unwrap();
        assert_eq!((kept.client.as_str(), kept.secret.expose()), ("c1", &b"s \"1\""[..]));
        let end = kept.end().unwrap();
        assert_eq!((end.method().as_str(), end.uri().to_string()), ("DELETE", "https://h/reg/c1".to_owned()));
        assert_eq!(end.headers()[AUTHORIZATION], "Bearer t1");
        assert!(!format!("{kept:?}{end:?}").contains("t1"));
    }

    #[test]
    fn a_server_with_tls_names_no_plain_address_for_the_end_of_a_client() {
        let answer = ANSWER.replace("https://h/reg/c1", "http://127.0.0.1:8200/v1/x");
        let end = |endpoint: &str| Registration::answered(answer.as_bytes(), &endpoint.parse().unwrap()).unwrap().end();
        assert!(end("https://h/reg").is_none() && end("http://127.0.0.1:80/reg").is_some());
        assert!(Registration::answered(ANSWER.as_bytes(), &"https://h/reg".parse().unwrap()).unwrap().end().is_some());
    }

    #[test]
    fn the_end_of_a_secret_is_read() {
        let expires = |at: &str| {
            let answer = ANSWER.replace("_at\":0", &format!("_at\":{at}"));
            Registration::read(answer.as_bytes()).unwrap().expires
        };
        assert_eq!((expires("0"), expires("1800000000"), expires("\"x\"")), (None, Some(1_800_000_000), None));
    }

    #[test]
    fn a_refusal_repeats_no_secret_that_the_server_was_told() {
        let secret = Secret::new(b"hunter2-canary".to_vec());
        let says = |error: &str| {
            let (headers, body) = (http::HeaderMap::new(), format!(r#"{{"error":"{error}"}}"#).into_bytes());
            refusal(&Answer { status: 400, headers, body, whole: true }, &[&secret])
        };
        assert_eq!(says("invalid_client_metadata"), "status 400, `invalid_client_metadata`");
        assert!(!says("`hunter2-canary` is too short").contains("canary"));
    }

    #[test]
    fn a_client_without_a_way_to_end_it_is_kept_all_the_same() {
        for management in ["", r#","registration_client_uri":"http://h/reg","registration_access_token":"t""#] {
            let answer = format!(r#"{{"client_id":"c","client_secret":"s"{management}}}"#);
            assert!(Registration::read(answer.as_bytes()).unwrap().end().is_none(), "{management}");
        }
    }

    #[test]
    fn what_is_no_registration_is_told_without_any_of_it() {
        for bad in ["", "hunter2", "{}", r#"{"client_id":"hunter2"}"#, r#"{"client_id":7,"client_secret":"hunter2"}"#] {
            let why = Registration::read(bad.as_bytes()).unwrap_err().to_string();
            assert!(!why.contains("hunter2"), "{why}");
        }
    }

    #[test]
    fn a_client_is_registered_for_client_credentials_alone() {
        let wish = Wish {
            endpoint: "https://h/reg".parse().unwrap(),
            client_auth: ClientAuth::ClientSecretBasic,
            scopes: Some("read write".into()),
            metadata: serde_json::from_str(r#"{"contacts":["ops@example.com"]}"#).unwrap(),
        };
        let request = wish.request("bursar-1", Some(&Secret::new(b"initial".to_vec()))).unwrap();
        assert_eq!(request.headers()[AUTHORIZATION], "Bearer initial");
        let body: Value = serde_json::from_slice(request.body()).unwrap();
        let grants = json!(["client_credentials"]);
        assert_eq!((&body["client_name"], &body["grant_types"]), (&"bursar-1".into(), &grants));
        assert_eq!((&body["scope"], &body["contacts"][0]), (&"read write".into(), &"ops@example.com".into()));
        assert!(wish.request("x", Some(&Secret::new(b"a\nb".to_vec()))).is_none());
    }
}
