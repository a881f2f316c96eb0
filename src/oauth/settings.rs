//! What is configured of one provider, as far as this room needs it: parsed at the door, never validated again.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::time::Duration;

use url::{Host, Url};

use super::assertion::Signing;
use super::client_auth::ClientAuth;
use super::tls::Roots;
use crate::access::Scopes;
use crate::wire::LOCALHOST;

/// One provider: where it is, who we are there, and what we accept from it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it is.
    pub server: Server,
    /// Who we are there; none: the credential says it.
    pub client_id: Option<ClientId>,
    /// How we prove it.
    pub client_auth: ClientAuth,
    /// How our assertions are signed, where the proof is one.
    pub signing: Signing,
    /// Where tokens are ended (RFC 7009); none: where its metadata says, if it does.
    pub revocation_endpoint: Option<EndpointUrl>,
    /// By which parameter it is told for whom a token is.
    pub audience_as: AudienceParameter,
    /// What we accept from it.
    pub rules: Rules,
    /// Which certificate authorities vouch for it.
    pub roots: Roots,
    /// The most time for name resolution, connection and TLS handshake together.
    pub connect_timeout: Duration,
    /// The most time for one request, from the first byte out to the last byte in; metadata has as much again.
    pub timeout: Duration,
}

impl Settings {
    /// `connect_timeout`, where none is configured.
    pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
    /// `timeout`, where none is configured.
    pub const TIMEOUT: Duration = Duration::from_secs(5);
}

/// Where a provider is. Of several token endpoints each has a [`super::TokenEndpoint`] of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Server {
    /// Its metadata says it (RFC 8414, OpenID Connect Discovery).
    Issuer(Issuer),
    /// This is its token endpoint.
    Endpoint(EndpointUrl),
}

impl Server {
    /// Whether it is reached without TLS, which only loopback is.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        match self {
            Self::Issuer(issuer) => issuer.url().is_plain(),
            Self::Endpoint(url) => url.is_plain(),
        }
    }
}

/// By which parameter a provider is told for whom a token is; repeated where there are several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AudienceParameter {
    /// `resource` (RFC 8707 §2).
    #[default]
    Resource,
    /// `audience`, as some providers name it (cf. RFC 8693 §2.1).
    Audience,
}

impl AudienceParameter {
    /// The parameter's name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Resource => "resource",
            Self::Audience => "audience",
        }
    }
}

/// What is accepted in a provider's answer beyond what was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// The scopes that it may add unasked.
    pub extra_scopes: Scopes,
    /// Whether an answer with less than was asked is refused.
    pub require_all_scopes: bool,
    /// How long a token lives whose `expires_in` is missing; zero: serve it once, do not cache it.
    pub lifetime_if_missing: Duration,
}

/// A client identifier: 1 to 512 of `%x20-7E` (RFC 6749 appendix A.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientId(Box<str>);

impl ClientId {
    /// The identifier as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ClientId {
    type Err = NotUsable;

    fn from_str(text: &str) -> Result<Self, NotUsable> {
        let valid = (1..=512).contains(&text.len()) && text.bytes().all(|b| matches!(b, 0x20..=0x7E));
        let why = NotUsable {
            what: "is not a client id",
            help: "use 1 to 512 printable ASCII characters (RFC 6749 appendix A.1)",
        };
        if valid { Ok(Self(text.into())) } else { Err(why) }
    }
}

/// An endpoint that secrets may be sent to: `https`, or plain `http` to this machine's loopback.
///
/// At most 2048 bytes, without user name, password and fragment (RFC 6749 §3.2).
#[derive(Clone, PartialEq, Eq)]
pub struct EndpointUrl(Url);

impl EndpointUrl {
    /// The URL.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.0
    }

    /// Whether it is reached without TLS, which only loopback is.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.0.scheme() == "http"
    }
}

impl FromStr for EndpointUrl {
    type Err = NotUsable;

    fn from_str(text: &str) -> Result<Self, NotUsable> {
        safe_url(text).map(Self)
    }
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl fmt::Debug for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0.as_str(), f)
    }
}

/// An issuer identifier (RFC 8414 §2): an endpoint without query, kept byte for byte as it was written,
/// since metadata must repeat it exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    text: Box<str>,
    url: EndpointUrl,
}

impl Issuer {
    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// As it is reached.
    #[must_use]
    pub fn url(&self) -> &EndpointUrl {
        &self.url
    }
}

impl FromStr for Issuer {
    type Err = NotUsable;

    fn from_str(text: &str) -> Result<Self, NotUsable> {
        let url = safe_url(text)?;
        if url.query().is_some() {
            return Err(NotUsable {
                what: "has a query, which an issuer must not have",
                help: "write it as the provider's metadata does, up to the `?` (RFC 8414 §2)",
            });
        }
        Ok(Self { text: text.into(), url: EndpointUrl(url) })
    }
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A configured word cannot be used: what is wrong with it, and what to do. The text itself is the caller's to name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {help}")]
pub struct NotUsable {
    /// What is wrong, after the value: "is not a URL".
    pub what: &'static str,
    /// What to do next.
    pub help: &'static str,
}

fn safe_url(text: &str) -> Result<Url, NotUsable> {
    let no = |what, help| Err(NotUsable { what, help });
    // Reading may make it longer: a zero byte becomes `%00`.
    let short = |text: &str| text.len() <= 2048;
    let url = Some(text).filter(|text| short(text)).and_then(|text| Url::parse(text).ok());
    let Some(url) = url.filter(|url| short(url.as_str())) else {
        return no("is not a URL", "write it whole, as in `https://login.example.com/token`");
    };
    if !url.username().is_empty() || url.password().is_some() {
        return no(
            "has a user name or password in it",
            "take it out: `client_id` and `client_secret` go there instead",
        );
    }
    if url.fragment().is_some() {
        return no("has a fragment", "write it up to the `#` (RFC 6749 §3.2)");
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if url.host().is_some_and(|host| is_loopback(&host)) => Ok(url),
        "http" => no(
            "is plain http, which would show secrets to the network",
            "use `https`; plain http goes to 127.0.0.0/8, `[::1]` and `localhost` only",
        ),
        _ => no("is not an `https` URL", "use `https`"),
    }
}

/// Whether the host can be nothing but this machine. `localhost` is resolved by us, never by a name server (RFC 6761 §6.3).
fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == LOCALHOST,
        Host::Ipv4(ip) => Ipv4Addr::is_loopback(ip),
        Host::Ipv6(ip) => Ipv6Addr::is_loopback(ip),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_goes_to_loopback_only() {
        for good in [
            "https://idp.example/t",
            "http://127.0.0.1:1/t",
            "http://127.9.9.9/t",
            "http://[::1]/t",
            "http://localhost:8/t?a=b",
        ] {
            assert!(good.parse::<EndpointUrl>().is_ok(), "{good}");
        }
        for bad in [
            "http://idp.example/t",
            "http://10.0.0.1/t",
            "http://localhost.example/t",
            "http://127.0.0.1.example/t",
            "http://[::ffff:127.0.0.1]/t",
            "http://0.0.0.0/t",
            "https://me:pw@idp.example/t",
            "https://idp.example/t#x",
            "ftp://idp.example/t",
            "unix:/run/x",
            "idp.example/t",
            "",
        ] {
            assert!(bad.parse::<EndpointUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_issuer_is_kept_as_written_and_has_no_query() {
        assert_eq!("https://IdP.example".parse::<Issuer>().unwrap().as_str(), "https://IdP.example");
        assert!("https://idp.example/?tenant=a".parse::<Issuer>().is_err());
    }

    #[test]
    fn a_client_id_is_printable() {
        assert!("ba:sic+weird id".parse::<ClientId>().is_ok());
        for bad in ["", "a\n", "é"] {
            assert!(bad.parse::<ClientId>().is_err(), "{bad:?}");
        }
    }
}
