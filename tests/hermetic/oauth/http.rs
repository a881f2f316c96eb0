//! What goes out, and what happens when the network or the server misbehaves.

use std::sync::Arc;
use std::time::Duration;

use bursar::crypto::SystemRandom;
use bursar::oauth::client_auth::ClientAuth;
use bursar::oauth::http::Endpoint;
use bursar::oauth::settings::{AudienceParameter, Server, Settings};
use bursar::oauth::tls::Tls;
use bursar::oauth::{Ask, Credential, Failure, Material, NoCredential, TokenEndpoint};
use bursar::secret::Secret;
use bursar::time::{Clock, ManualClock};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::fake::{Fake, Fixed, Reply, ask, endpoint, reply, settings, token, with};

/// The failure of the one request that the fake answers so.
async fn failure_at(replies: impl IntoIterator<Item = Reply>) -> Failure {
    let fake = Fake::answering(replies);
    endpoint(settings(&fake.url("/token"))).fetch(&ask("read", &[])).await.unwrap_err()
}

async fn unavailable_at(reply: Reply) -> String {
    let failure = failure_at([reply]).await;
    assert!(matches!(failure, Failure::Unavailable { .. }), "{failure}");
    failure.to_string()
}

#[tokio::test]
async fn basic_sends_id_and_secret_form_urlencoded_before_base64() {
    let fake = Fake::answering([token()]);
    endpoint(settings(&fake.url("/token?x=1"))).fetch(&ask("write read", &["urn:b", "urn:a"])).await.unwrap();
    let [request] = &fake.requests()[..] else { panic!("one request") };
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    // RFC 6749 §2.3.1, by hand: base64("ba%3Asic%2Bweird:p%2540ss+w%2Brd%3A%2F%26%3D%3F%7E").
    assert!(head.contains("Basic YmElM0FzaWMlMkJ3ZWlyZDpwJTI1NDBzcyt3JTJCcmQlM0ElMkYlMjYlM0QlM0YlN0U="), "{head}");
    assert!(head.starts_with("POST /token?x=1 HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("content-type: application/x-www-form-urlencoded"), "{head}");
    assert!(head.contains("accept: application/json"), "{head}");
    for never in ["cookie", "accept-encoding", "referer", "proxy"] {
        assert!(!head.to_lowercase().contains(never), "{head}");
    }
    assert_eq!(body, "grant_type=client_credentials&scope=read+write&resource=urn%3Aa&resource=urn%3Ab");
}

#[tokio::test]
async fn post_sends_id_and_secret_in_the_body_and_audience_by_its_configured_name() {
    let fake = Fake::answering([token()]);
    let settings = Settings {
        client_auth: ClientAuth::ClientSecretPost,
        audience_as: AudienceParameter::Audience,
        ..settings(&fake.url("/token"))
    };
    endpoint(settings).fetch(&ask("", &["api"])).await.unwrap();
    let [request] = &fake.requests()[..] else { panic!("one request") };
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(!head.to_lowercase().contains("authorization"), "{head}");
    assert_eq!(
        body,
        "grant_type=client_credentials&client_id=ba%3Asic%2Bweird\
         &client_secret=p%2540ss+w%2Brd%3A%2F%26%3D%3F%7E&audience=api"
    );
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Fake::answering([token()]);
    let location = format!("location: {}\r\n", elsewhere.url("/token"));
    let failure = failure_at([reply("307 Temporary Redirect", &location, "")]).await;
    assert!(matches!(failure, Failure::Refused { status: 307, .. }), "{failure}");
    assert!(elsewhere.requests().is_empty(), "the secret went elsewhere");
}

#[tokio::test]
async fn an_endless_body_is_read_up_to_the_limit() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n".to_vec();
    let failure = failure_at([Reply::Endless([head, vec![b' '; 1 << 16]].concat())]).await;
    assert!(matches!(&failure, Failure::Nonsense(what) if what.contains("64 KiB")), "{failure}");
}

#[tokio::test]
async fn a_failing_server_is_unavailable_however_long_its_page_is() {
    let page = "<p>".repeat(100_000);
    let failure = failure_at([reply("503 Down", "retry-after: 9\r\ncontent-type: text/html\r\n", &page)]).await;
    let retry_after = Some(Duration::from_secs(9));
    assert!(matches!(&failure, Failure::Unavailable { retry_after: told, .. } if *told == retry_after), "{failure}");
}

#[tokio::test]
async fn a_connection_that_breaks_is_unavailable() {
    let half =
        b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\ncontent-type: application/json\r\n\r\n{\"access_token\":\"".to_vec();
    for (reply, why) in [
        (Reply::Bytes(Vec::new()), "broke"),
        (Reply::Reset(Vec::new()), "broke"),
        (Reply::Bytes(half.clone()), "broke"),
        (Reply::Reset(half), "broke"),
        (Reply::Bytes(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()), "broke"),
        (Reply::Bytes(format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(2000)).into_bytes()), "broke"),
    ] {
        let what = unavailable_at(reply).await;
        assert!(what.contains(why), "{what}");
    }
}

#[tokio::test]
async fn a_request_is_sent_once_even_where_the_connection_broke() {
    let fake = Fake::answering([Reply::Bytes(Vec::new()), token()]);
    endpoint(settings(&fake.url("/token"))).fetch(&ask("read", &[])).await.unwrap_err();
    assert_eq!(fake.requests().len(), 1);
}

#[tokio::test]
async fn silence_ends_with_the_time_limit() {
    let fake = Fake::answering([Reply::Silence]);
    let settings = Settings { timeout: Duration::from_millis(50), ..settings(&fake.url("/token")) };
    let failure = endpoint(settings).fetch(&ask("read", &[])).await.unwrap_err();
    assert!(failure.to_string().contains("within 50 ms (`timeout`)"), "{failure}");
}

#[tokio::test]
async fn a_handshake_that_never_comes_ends_with_its_own_time_limit() {
    let fake = Fake::answering([Reply::Silence]);
    let url = fake.url("/token").replace("http:", "https:");
    let settings = Settings { connect_timeout: Duration::from_millis(50), ..settings(&url) };
    let failure = endpoint(settings).fetch(&ask("read", &[])).await.unwrap_err();
    assert!(failure.to_string().contains("(`connect_timeout`)"), "{failure}");
}

#[tokio::test]
async fn a_closed_port_is_said() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refused = endpoint(settings(&format!("http://{closed}/"))).fetch(&ask("", &[])).await.unwrap_err();
    assert!(refused.to_string().contains("nothing listens there"), "{refused}");
}

#[tokio::test]
async fn localhost_is_loopback() {
    let fake = Fake::answering([token()]);
    let url = fake.url("/token").replace("127.0.0.1", "localhost");
    endpoint(settings(&url)).fetch(&ask("read", &[])).await.unwrap();
}

/// A credential that takes three seconds to read.
struct Slow(Arc<ManualClock>);

impl Credential for Slow {
    fn current(&self) -> BoxFuture<'_, Result<Material, NoCredential>> {
        self.0.advance(Duration::from_secs(3));
        async { Ok(Secret::new(b"secret".to_vec()).into()) }.boxed()
    }
}

#[tokio::test]
async fn a_life_counts_from_the_moment_of_sending() {
    let (fake, clock) = (Fake::answering([token()]), Arc::new(ManualClock::default()));
    let credential = Arc::new(Slow(Arc::clone(&clock)));
    let settings = settings(&fake.url("/token"));
    let time = Arc::clone(&clock) as Arc<dyn Clock>;
    let endpoint = Endpoint::new(settings, credential, time, Arc::new(SystemRandom), &Tls::default()).unwrap();
    assert_eq!(endpoint.fetch(&ask("read", &[])).await.unwrap().sent, clock.now());
}

/// A credential that cannot be read.
struct Gone;

impl Credential for Gone {
    fn current(&self) -> BoxFuture<'_, Result<Material, NoCredential>> {
        async { Err(NoCredential::Missing("the store `local` has no `stripe-client`: put it".to_owned())) }.boxed()
    }
}

#[tokio::test]
async fn nothing_is_sent_without_a_usable_credential() {
    let fake = Fake::answering([token()]);
    for credential in [Arc::new(Gone) as Arc<dyn Credential>, Arc::new(Fixed("line\n"))] {
        let endpoint = with(settings(&fake.url("/token")), credential);
        let failure = endpoint.fetch(&ask("read", &[])).await.unwrap_err();
        assert!(matches!(&failure, Failure::Credential(why) if why.to_string().contains("put")), "{failure}");
    }
    assert!(fake.requests().is_empty());
}

fn by_issuer(issuer: &str) -> Settings {
    Settings { server: Server::Issuer(issuer.parse().unwrap()), ..settings("https://unused.test") }
}

fn metadata(issuer: &str, endpoint: &str) -> Reply {
    let body = format!(r#"{{"issuer":"{issuer}","token_endpoint":"{endpoint}"}}"#);
    reply("200 OK", "content-type: application/json\r\n", &body)
}

fn paths(fake: &Fake) -> Vec<String> {
    fake.requests().iter().map(|request| request.split(' ').nth(1).unwrap().to_owned()).collect()
}

const NOT_FOUND: &str = "404 Not Found";

#[tokio::test]
async fn metadata_is_found_at_the_last_place_and_asked_for_once() {
    let tokens = Fake::answering([token(), token()]);
    let fake = Fake::naming_itself("/realms/a", |issuer| {
        vec![
            reply(NOT_FOUND, "", ""),
            reply("200 OK", "content-type: text/html\r\n", "<html>"),
            metadata(issuer, &tokens.url("/t")),
        ]
    });
    let endpoint = endpoint(by_issuer(&fake.url("/realms/a")));
    for _ in 0..2 {
        endpoint.fetch(&ask("read", &[])).await.unwrap();
    }
    assert_eq!(
        paths(&fake),
        [
            "/.well-known/oauth-authorization-server/realms/a",
            "/.well-known/openid-configuration/realms/a",
            "/realms/a/.well-known/openid-configuration",
        ]
    );
    assert_eq!(tokens.requests().len(), 2);
}

#[tokio::test]
async fn metadata_is_asked_for_anew_when_its_endpoint_has_gone() {
    let tokens = Fake::answering([reply(NOT_FOUND, "", ""), token()]);
    let fake = Fake::naming_itself("", |issuer| {
        vec![metadata(issuer, &tokens.url("/t")), metadata(issuer, &tokens.url("/t"))]
    });
    let endpoint = endpoint(by_issuer(&fake.url("")));
    endpoint.fetch(&ask("read", &[])).await.unwrap_err();
    endpoint.fetch(&ask("read", &[])).await.unwrap();
    assert_eq!(paths(&fake).len(), 2);
}

#[tokio::test]
async fn another_issuers_metadata_gets_no_secret() {
    let tokens = Fake::answering([token()]);
    let fake = Fake::answering([metadata("http://127.0.0.1:1", &tokens.url("/t"))]);
    let failure = endpoint(by_issuer(&fake.url(""))).fetch(&ask("read", &[])).await.unwrap_err();
    assert!(failure.to_string().contains("names the issuer `http://127.0.0.1:1`"), "{failure}");
    assert!(tokens.requests().is_empty());
}

#[tokio::test]
async fn an_issuer_without_metadata_is_said_with_every_place_that_was_asked() {
    let fake = Fake::answering([reply(NOT_FOUND, "", ""), reply(NOT_FOUND, "", "")]);
    let failure = endpoint(by_issuer(&fake.url(""))).fetch(&ask("read", &[])).await.unwrap_err();
    for part in ["oauth-authorization-server`: status 404", "openid-configuration`: status 404", "set `token_endpoint`"]
    {
        assert!(failure.to_string().contains(part), "{failure}");
    }
}

#[tokio::test]
async fn many_asks_at_once_fetch_metadata_once() {
    let tokens = Fake::answering((0..8).map(|_| token()));
    let fake = Fake::naming_itself("", |issuer| vec![metadata(issuer, &tokens.url("/t"))]);
    let (endpoint, ask) = (endpoint(by_issuer(&fake.url(""))), Ask::clone(&ask("read", &[])));
    for grant in futures_util::future::join_all((0..8).map(|_| endpoint.fetch(&ask))).await {
        grant.unwrap();
    }
    assert_eq!(paths(&fake).len(), 1);
}
