//! What goes out to prove who we are, where that is an assertion: each request has its own.

use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bursar::oauth::client_auth::ClientAuth;
use bursar::oauth::settings::{Server, Settings};
use bursar::oauth::{Failure, TokenEndpoint};
use serde_json::{Value, json};

use super::fake::{Fake, Fixed, ask, reply, settings, token, with};

const KEY: &str = include_str!("rsa-test-key");
const JWT: &str = "eyJhbGciOiJFUzI1NiJ9.e30.c2ln";

/// The form of each request that went out.
fn forms(fake: &Fake) -> Vec<Vec<(String, String)>> {
    let body = |request: &String| request.split_once("\r\n\r\n").unwrap().1.to_owned();
    let pairs = |body: String| form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    fake.requests().iter().map(body).map(pairs).collect()
}

fn field<'a>(form: &'a [(String, String)], name: &str) -> &'a str {
    let mut found = form.iter().filter(|(given, _)| given == name).map(|(_, value)| value.as_str());
    let (Some(value), None) = (found.next(), found.next()) else { panic!("`{name}` in {form:?}") };
    value
}

fn claims(jwt: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(jwt.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

#[tokio::test]
async fn each_request_has_an_assertion_of_its_own_also_after_a_failure() {
    bursar::crypto::install();
    for (auth, secret) in
        [(ClientAuth::ClientSecretJwt, "a secret of thirty-two bytes or more"), (ClientAuth::PrivateKeyJwt, KEY)]
    {
        let fake = Fake::answering([reply("503 Down", "", ""), token(), token()]);
        let endpoint = with(Settings { client_auth: auth, ..settings(&fake.url("/token")) }, Arc::new(Fixed(secret)));
        endpoint.fetch(&ask("read", &[])).await.unwrap_err();
        endpoint.fetch(&ask("read", &[])).await.unwrap();
        endpoint.fetch(&ask("read", &[])).await.unwrap();
        let forms = forms(&fake);
        let ids: BTreeSet<_> =
            forms.iter().map(|form| claims(field(form, "client_assertion"))["jti"].to_string()).collect();
        assert_eq!((forms.len(), ids.len()), (3, 3));
        let claims = claims(field(&forms[0], "client_assertion"));
        assert_eq!((&claims["iss"], &claims["sub"]), (&json!("ba:sic+weird"), &json!("ba:sic+weird")));
        assert_eq!(claims["aud"], fake.url("/token"));
        assert_eq!(field(&forms[0], "client_id"), "ba:sic+weird");
        assert_eq!(field(&forms[0], "client_assertion_type"), "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
    }
}

#[tokio::test]
async fn an_assertion_is_for_the_issuer_where_one_is_known() {
    bursar::crypto::install();
    let fake = Fake::naming_itself("", |url| {
        let metadata =
            format!(r#"{{"issuer":"{url}","token_endpoint":"{url}/token","revocation_endpoint":"{url}/end"}}"#);
        vec![reply("200 OK", "content-type: application/json\r\n", &metadata), token(), reply("200 OK", "", "")]
    });
    let issuer = fake.url("");
    let of = Settings { server: Server::Issuer(issuer.parse().unwrap()), ..settings("https://unused.test") };
    let endpoint = with(Settings { client_auth: ClientAuth::PrivateKeyJwt, ..of }, Arc::new(Fixed(KEY)));
    let grant = endpoint.fetch(&ask("read", &[])).await.unwrap();
    endpoint.revoke(&grant.token).await.unwrap();
    let forms = &forms(&fake)[1..];
    let assertions = [0, 1].map(|nth| claims(field(&forms[nth], "client_assertion")));
    assert!(assertions.iter().all(|claims| claims["aud"] == issuer), "also for its other endpoints");
    assert_ne!(assertions[0]["jti"], assertions[1]["jti"]);
    assert_eq!((field(&forms[1], "token"), field(&forms[1], "token_type_hint")), ("t", "access_token"));
}

#[tokio::test]
async fn an_assertion_of_somebody_else_is_sent_as_it_is() {
    let fake = Fake::answering([token()]);
    let settings = Settings { client_auth: ClientAuth::FederatedAssertion, ..settings(&fake.url("/token")) };
    with(settings, Arc::new(Fixed(" eyJhbGciOiJFUzI1NiJ9.e30.c2ln\n"))).fetch(&ask("read", &[])).await.unwrap();
    assert_eq!(field(&forms(&fake)[0], "client_assertion"), JWT);
}

#[tokio::test]
async fn what_proves_nothing_is_not_sent() {
    bursar::crypto::install();
    let fake = Fake::answering([token()]);
    for (auth, bad, why) in [
        (ClientAuth::PrivateKeyJwt, "hunter2", "PEM"),
        (ClientAuth::FederatedAssertion, "hunter2", "not a signed JWT"),
        (ClientAuth::TlsClientAuth, KEY, "no certificate"),
    ] {
        let settings = Settings { client_auth: auth, ..settings(&fake.url("/token")) };
        let failure = with(settings, Arc::new(Fixed(bad))).fetch(&ask("read", &[])).await.unwrap_err();
        assert!(matches!(&failure, Failure::Credential(what) if what.to_string().contains(why)), "{failure}");
        assert!(!failure.to_string().contains("hunter2"));
    }
    assert!(fake.requests().is_empty());
}

#[tokio::test]
async fn an_echo_of_an_assertion_is_not_shown() {
    bursar::crypto::install();
    let echo = format!(r#"{{"error":"invalid_client","error_description":"bad: {JWT}"}}"#);
    let fake = Fake::answering([reply("401 Unauthorized", "content-type: application/json\r\n", &echo)]);
    let settings = Settings { client_auth: ClientAuth::FederatedAssertion, ..settings(&fake.url("/token")) };
    let failure = with(settings, Arc::new(Fixed(JWT))).fetch(&ask("read", &[])).await.unwrap_err();
    assert!(failure.to_string().contains("not shown") && !failure.to_string().contains(JWT), "{failure}");
}

#[tokio::test]
async fn a_provider_without_a_revocation_endpoint_is_asked_for_nothing() {
    let fake = Fake::answering([token()]);
    let endpoint = with(settings(&fake.url("/token")), Arc::new(Fixed("secret")));
    let grant = endpoint.fetch(&ask("read", &[])).await.unwrap();
    assert_eq!(endpoint.revoke(&grant.token).await, Err(Failure::Unsupported));
    assert_eq!(fake.requests().len(), 1);
}
