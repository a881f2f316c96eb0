//! The room `oauth` against npm oidc-provider over TLS, and against npm oauth2-mock-server for its odd answers.

use std::sync::Arc;
use std::time::Duration;

use bursar::access::Scopes;
use bursar::crypto::SystemRandom;
use bursar::oauth::assertion::Signing;
use bursar::oauth::client_auth::ClientAuth;
use bursar::oauth::http::Endpoint;
use bursar::oauth::settings::{AudienceParameter, Rules, Server, Settings};
use bursar::oauth::tls::{Roots, Tls};
use bursar::oauth::{Ask, Credential, Failure, Grant, Material, NoCredential, TokenEndpoint};
use bursar::secret::Secret;
use bursar::time::SystemClock;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::json;

use crate::peers::{Mock, Oidc};

/// A credential that stands in memory.
struct Fixed(&'static str);

impl Credential for Fixed {
    fn current(&self) -> BoxFuture<'_, Result<Material, NoCredential>> {
        async { Ok(Secret::new(self.0.into()).into()) }.boxed()
    }
}

pub(crate) fn settings(server: Server, roots: Roots, client_id: &str) -> Settings {
    Settings {
        server,
        client_id: Some(client_id.parse().unwrap()),
        client_auth: ClientAuth::ClientSecretBasic,
        signing: Signing::default(),
        revocation_endpoint: None,
        audience_as: AudienceParameter::Resource,
        rules: Rules::default(),
        roots,
        connect_timeout: Duration::from_secs(20),
        timeout: Duration::from_secs(20),
    }
}

pub(crate) fn at(oidc: &Oidc, client_id: &str) -> Settings {
    settings(Server::Endpoint(oidc.token_endpoint().parse().unwrap()), oidc.roots(), client_id)
}

fn endpoint(settings: Settings, secret: &'static str) -> Endpoint {
    let (credential, clock, random) = (Arc::new(Fixed(secret)), Arc::new(SystemClock), Arc::new(SystemRandom));
    Endpoint::new(settings, credential, clock, random, &Tls::default()).unwrap()
}

fn basic(oidc: &Oidc) -> Endpoint {
    endpoint(at(oidc, "basic"), "basic-secret")
}

pub(crate) fn ask(scopes: &str, audience: &[&str]) -> Ask {
    Ask {
        scopes: Scopes::parse(scopes).unwrap(),
        audience: audience.iter().map(|word| word.parse().unwrap()).collect(),
    }
}

/// The token is good at the server, for exactly these scopes.
pub(crate) async fn accepted(oidc: &Oidc, grant: &Grant, scopes: &str) {
    let told = oidc.introspect(grant.token.expose()).await;
    assert_eq!(
        (&told["active"], &told["scope"], &told["token_type"]),
        (&json!(true), &json!(scopes), &json!("Bearer"))
    );
    assert_eq!((grant.scopes.to_string().as_str(), grant.lifetime), (scopes, Some(Duration::from_secs(300))));
}

#[tokio::test]
async fn a_token_has_exactly_the_scopes_asked_for_with_each_client_authentication() {
    let oidc = Oidc::start();
    let post = Settings { client_auth: ClientAuth::ClientSecretPost, ..at(&oidc, "post") };
    for endpoint in [
        basic(&oidc),
        // Works only if id and secret are form-urlencoded before base64.
        endpoint(at(&oidc, "ba:sic+weird"), "p%40ss w+rd:/&=?~"),
        endpoint(post, "post-secret"),
    ] {
        for scopes in ["read", "read write"] {
            accepted(&oidc, &endpoint.fetch(&ask(scopes, &[])).await.unwrap(), scopes).await;
        }
    }
}

#[tokio::test]
async fn an_issuer_is_enough_to_find_its_token_endpoint() {
    let oidc = Oidc::start();
    let settings = settings(Server::Issuer(oidc.issuer().parse().unwrap()), oidc.roots(), "basic");
    let grant = endpoint(settings, "basic-secret").fetch(&ask("read", &[])).await.unwrap();
    accepted(&oidc, &grant, "read").await;
}

#[tokio::test]
async fn a_wrong_secret_and_an_unknown_client_are_told_with_what_to_check() {
    let oidc = Oidc::start();
    let post = Settings { client_auth: ClientAuth::ClientSecretPost, ..at(&oidc, "post") };
    for endpoint in [
        endpoint(at(&oidc, "basic"), "not-it"),
        endpoint(post, "not-it"),
        endpoint(at(&oidc, "nobody"), "basic-secret"),
    ] {
        let failure = endpoint.fetch(&ask("read", &[])).await.unwrap_err();
        assert!(matches!(failure, Failure::Refused { status: 401, error: Some("invalid_client"), .. }), "{failure}");
        assert!(
            failure.to_string().contains("check `client_id`, the stored client secret and `client_auth`"),
            "{failure}"
        );
    }
}

#[tokio::test]
async fn a_secret_that_was_replaced_at_the_server_works_from_the_next_request_on() {
    let oidc = Oidc::start();
    oidc.change_client("basic", &json!({"client_secret": "new-secret", "also": ["basic-secret"]})).await;
    let (old, new) = (basic(&oidc), endpoint(at(&oidc, "basic"), "new-secret"));
    old.fetch(&ask("read", &[])).await.unwrap();
    new.fetch(&ask("read", &[])).await.unwrap();
    oidc.change_client("basic", &json!({"client_secret": "new-secret"})).await;
    old.fetch(&ask("read", &[])).await.unwrap_err();
    new.fetch(&ask("read", &[])).await.unwrap();
}

#[tokio::test]
async fn an_unknown_scope_is_dropped_by_this_server_without_a_word() {
    let oidc = Oidc::start();
    let grant = basic(&oidc).fetch(&ask("read nope", &[])).await.unwrap();
    accepted(&oidc, &grant, "read").await;
    // Where nothing is left it sends no `scope` at all, which by RFC 6749 §5.1 says "as asked".
    let grant = basic(&oidc).fetch(&ask("nope", &[])).await.unwrap();
    assert_eq!(grant.scopes.to_string(), "nope");
    assert_eq!(oidc.introspect(grant.token.expose()).await.get("scope"), None);
    // `require_all_scopes` sees the first case.
    let rules = Rules { require_all_scopes: true, ..Rules::default() };
    let strict = endpoint(Settings { rules, ..at(&oidc, "basic") }, "basic-secret");
    assert!(strict.fetch(&ask("read nope", &[])).await.unwrap_err().to_string().contains("`nope`"));
}

#[tokio::test]
async fn a_resource_is_in_the_token_and_an_unknown_one_is_refused() {
    let oidc = Oidc::start();
    let grant = basic(&oidc).fetch(&ask("read", &["urn:api:opaque"])).await.unwrap();
    assert_eq!(oidc.introspect(grant.token.expose()).await["aud"], "urn:api:opaque");
    let grant = basic(&oidc).fetch(&ask("read write", &["urn:api:jwt"])).await.unwrap();
    let claims = oidc.verify(grant.token.expose(), "urn:api:jwt").await;
    assert_eq!((&claims["scope"], &claims["client_id"]), (&json!("read write"), &json!("basic")));
    let failure = basic(&oidc).fetch(&ask("read", &["urn:nobody"])).await.unwrap_err();
    assert!(matches!(failure, Failure::Refused { status: 400, error: Some("invalid_target"), .. }), "{failure}");
    assert!(failure.to_string().contains("`resources`"), "{failure}");
}

#[tokio::test]
async fn an_untrusted_certificate_says_to_set_ca_file() {
    let (oidc, other) = (Oidc::start(), Oidc::start());
    let settings = Settings { roots: Roots::System, ..at(&oidc, "basic") };
    let failure = endpoint(settings, "basic-secret").fetch(&ask("read", &[])).await.unwrap_err();
    assert!(failure.to_string().contains("set `ca_file`"), "{failure}");
    let settings = Settings { roots: other.roots(), ..at(&oidc, "basic") };
    endpoint(settings, "basic-secret").fetch(&ask("read", &[])).await.unwrap_err();
    assert_eq!(oidc.requests().await, 0, "no request went over a connection that was not trusted");
}

#[tokio::test]
async fn a_503_is_unavailable_for_as_long_as_the_server_says_and_no_longer() {
    let oidc = Oidc::start();
    oidc.fault(&json!({"status": 503, "times": 1, "headers": {"retry-after": "2"}})).await;
    let endpoint = basic(&oidc);
    let failure = endpoint.fetch(&ask("read", &[])).await.unwrap_err();
    let wait = Some(Duration::from_secs(2));
    assert!(matches!(failure, Failure::Unavailable { retry_after, .. } if retry_after == wait), "{failure}");
    endpoint.fetch(&ask("read", &[])).await.unwrap();
    assert_eq!(oidc.requests().await, 2, "each fetch asks once");
}

#[tokio::test]
async fn a_reset_and_a_slow_answer_are_unavailable() {
    let oidc = Oidc::start();
    oidc.fault(&json!({"reset": true})).await;
    let failure = basic(&oidc).fetch(&ask("read", &[])).await.unwrap_err();
    assert!(failure.to_string().contains("broke before the answer was whole"), "{failure}");
    oidc.fault(&json!({"delay_ms": 600_000})).await;
    let hasty = endpoint(Settings { timeout: Duration::from_millis(300), ..at(&oidc, "basic") }, "basic-secret");
    let failure = hasty.fetch(&ask("read", &[])).await.unwrap_err();
    assert!(failure.to_string().contains("within 300 ms (`timeout`)"), "{failure}");
}

#[tokio::test]
async fn html_a_redirect_and_a_bare_403_are_told_for_what_they_are() {
    let oidc = Oidc::start();
    for (fault, says) in [
        (
            json!({"status": 200, "headers": {"content-type": "text/html"}, "body": "<html>sign in</html>"}),
            "an HTML page",
        ),
        (
            json!({"status": 307, "headers": {"location": "https://elsewhere.test/token"}, "body": ""}),
            "set `token_endpoint`",
        ),
        (json!({"status": 403, "body": ""}), "some servers answer so to a wrong secret"),
    ] {
        oidc.fault(&fault).await;
        let failure = basic(&oidc).fetch(&ask("read", &[])).await.unwrap_err();
        assert!(failure.to_string().contains(says), "{failure}");
    }
}

#[tokio::test]
async fn a_server_that_went_and_came_back_is_used_again() {
    let mut oidc = Oidc::start();
    let endpoint = basic(&oidc);
    endpoint.fetch(&ask("read", &[])).await.unwrap();
    oidc.stop();
    let failure = endpoint.fetch(&ask("read", &[])).await.unwrap_err();
    assert!(matches!(failure, Failure::Unavailable { .. }), "{failure}");
    oidc.start_again();
    accepted(&oidc, &endpoint.fetch(&ask("read", &[])).await.unwrap(), "read").await;
}

async fn in_mode(mock: &Mock, mode: &str) -> Result<Grant, Failure> {
    let server = Server::Endpoint(mock.token_endpoint(mode).parse().unwrap());
    let rules = Rules { lifetime_if_missing: Duration::from_secs(7), ..Rules::default() };
    endpoint(Settings { rules, ..settings(server, Roots::System, "any") }, "any").fetch(&ask("read write", &[])).await
}

#[tokio::test]
async fn odd_answers_that_can_be_used_are() {
    let mock = Mock::start();
    for (mode, scopes, seconds) in [
        ("none", "read write", 3600),
        ("lower", "read write", 3600),
        ("noexp", "read write", 7),
        ("strexp", "read write", 3600),
        ("hugeexp", "read write", 30 * 86_400),
        ("less", "read", 3600),
    ] {
        let grant = in_mode(&mock, mode).await.unwrap();
        assert_eq!(
            (grant.scopes.to_string().as_str(), grant.lifetime),
            (scopes, Some(Duration::from_secs(seconds))),
            "{mode}"
        );
    }
}

#[tokio::test]
async fn odd_answers_that_cannot_be_used_say_why() {
    let mock = Mock::start();
    for (mode, says) in [
        ("negexp", "`expires_in`"),
        ("floatexp", "`expires_in`"),
        ("notype", "`token_type` is missing"),
        ("badtype", "`mac`"),
        ("more", "`admin`"),
        ("empty", "is missing"),
        ("unregistered", "`computer_says_no`, which is no registered error code"),
        ("429", "status 429"),
        ("401", "`invalid_client`"),
        ("403", "some servers answer so to a wrong secret"),
    ] {
        let failure = in_mode(&mock, mode).await.unwrap_err();
        assert!(failure.to_string().contains(says), "{mode}: {failure}");
    }
}

#[tokio::test]
async fn a_plain_issuer_on_loopback_is_discovered() {
    let mock = Mock::start();
    let settings = settings(Server::Issuer(mock.issuer().parse().unwrap()), Roots::System, "any");
    endpoint(settings, "any").fetch(&ask("read", &[])).await.unwrap();
}
