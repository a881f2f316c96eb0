//! What a provider answers, and what the configuration says of it.

use std::sync::LazyLock;

use bursar::access::{Audiences, Scopes};
use bursar::crypto::SystemRandom;
use bursar::fault::misleads;
use bursar::oauth::answer::{self, Answer, Asked, LONGEST_LIFETIME, MOST_TOKEN_BYTES};
use bursar::oauth::assertion::{self, Signing};
use bursar::oauth::certificate::{CertificateChain, Identity, MOST_CHAIN_BYTES};
use bursar::oauth::client_auth::{ClientAuth, Occasion};
use bursar::oauth::discovery::{self, Door, Found};
use bursar::oauth::federated::{self, MOST_ASSERTION_BYTES};
use bursar::oauth::object::Object;
use bursar::oauth::refusal::{self, LONGEST_RETRY_AFTER};
use bursar::oauth::settings::{ClientId, EndpointUrl, Issuer, Rules};
use bursar::oauth::shown::Withheld;
use bursar::oauth::signing_key::{MOST_KEY_BYTES, SigningKey};
use bursar::oauth::tls::OwnRoots;
use bursar::oauth::{Ask, Failure};
use bursar::secret::Secret;
use bursar::time::{Moment, Wall};
use zeroize::Zeroizing;

use super::input::{headers_and_body, line_and_rest, reads_back, status_and_rest};

/// The client secret that answers may echo; seeds hold it, so that mutations do.
const SECRET: &str = "canary-0123456789";
/// The members of an answer that may be named in an error by themselves; any run of a form beyond them is a leak.
const RUN_BYTES: usize = 8;

static WITHHELD: LazyLock<Withheld> = LazyLock::new(|| {
    let client: ClientId = "bursar".parse().unwrap();
    ClientAuth::ClientSecretBasic.with_secret(&client, &Secret::copy_of(SECRET.as_bytes())).unwrap().withheld
});

/// A token endpoint's answer. What is granted is bounded and asked for; what is said never repeats our secret or a token.
pub fn token_answer(bytes: &[u8]) {
    let (status, headers, body) = status_and_rest(bytes);
    let ask = Ask { scopes: Scopes::parse("read write").unwrap(), audience: Audiences::default() };
    let rules = Rules { extra_scopes: Scopes::parse("profile").unwrap(), ..Rules::default() };
    let answer = Answer { status, headers, body: body.to_vec(), whole: !body.ends_with(b"...") };
    let (client_auth, sent) = (ClientAuth::ClientSecretBasic, Moment::default());
    let asked = Asked { ask: &ask, rules: &rules, client_auth, withheld: &WITHHELD, sent };
    let read = answer::read(&answer, &asked);
    let shown = format!("{read:?}");
    assert!(!shares_a_run(&shown, SECRET), "{shown}");
    match read {
        Ok(grant) => {
            let token = grant.token.expose();
            assert!((1..=MOST_TOKEN_BYTES).contains(&token.len()) && token.iter().all(u8::is_ascii_graphic));
            assert!(token.len() < 40 || !shown.contains(std::str::from_utf8(token).unwrap()));
            assert!(grant.lifetime.is_none_or(|lifetime| lifetime <= LONGEST_LIFETIME));
            assert!(Scopes::parse("read write profile").unwrap().contains_all(&grant.scopes));
        }
        Err(failure) => {
            let text = failure.to_string();
            assert!(!text.contains(misleads) && text.len() < 2_000, "{text:?}");
            if let Failure::Unavailable { retry_after, .. } = failure {
                assert!(retry_after.is_none_or(|wait| wait <= LONGEST_RETRY_AFTER));
            }
        }
    }
}

/// `Retry-After`, by the clock of a fixed moment.
pub fn retry_after(bytes: &[u8]) {
    let (headers, _) = headers_and_body(&[b"retry-after:", bytes].concat());
    for sent in [Wall::default(), Wall::from_micros(1_795_240_800_000_000)] {
        assert!(refusal::retry_after(&headers, sent).is_none_or(|wait| wait <= LONGEST_RETRY_AFTER));
    }
}

/// An issuer's metadata. An endpoint comes only from a document of this issuer, and is as safe as it.
pub fn discovery(bytes: &[u8]) {
    let (status, headers, body) = status_and_rest(bytes);
    for (issuer, door) in [
        ("https://login.example.com/t1", Door::Plain),
        ("https://login.example.com/t1", Door::Certificate),
        ("http://localhost:4444", Door::Plain),
    ] {
        let issuer: Issuer = issuer.parse().unwrap();
        let answer = Answer { status, headers: headers.clone(), body: body.to_vec(), whole: true };
        match discovery::read(&issuer, door, &answer, Moment::default()) {
            Found::Metadata(metadata) => {
                assert_eq!(status, 200);
                assert!(String::from_utf8_lossy(body).contains("issuer") || body.contains(&b'\\'));
                let endpoints = [Some(metadata.token_endpoint), metadata.revocation_endpoint];
                let may_be_plain = issuer.url().is_plain();
                assert!(endpoints.iter().flatten().all(|endpoint| !endpoint.is_plain() || may_be_plain));
            }
            Found::Nothing(what) => assert!(what.len() < 1_000 && !what.contains(misleads), "{what:?}"),
            Found::Failed(failure) => {
                let text = failure.to_string();
                assert!(!text.contains(misleads), "{text:?}");
            }
        }
    }
}

/// One JSON object. What is read, `serde_json` reads too, and every text in it is the same.
pub fn json_object(bytes: &[u8]) {
    let value = serde_json::from_slice::<serde_json::Value>(bytes);
    if let Ok(mut object) = Object::read(bytes) {
        let value = value.expect("what is read is JSON");
        for (name, value) in value.as_object().expect("what is read is an object") {
            assert_eq!(object.text(name), value.as_str());
            assert_eq!(object.take(name).as_ref(), Some(value));
            assert!(object.take(name).is_none());
        }
    }
}

/// A text of the provider's, and in the first line a secret: what is shown holds neither it nor eight bytes of it.
pub fn withheld(bytes: &[u8]) {
    let (secret, text) = line_and_rest(bytes);
    let withheld = Withheld::new([Zeroizing::new(secret.to_vec())]);
    for most in [20, 200] {
        let shown = withheld.show(&String::from_utf8_lossy(text), most);
        assert!(shown.len() <= most + 40 && shown.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{shown:?}");
        if !shown.starts_with("(not shown: it repeats our credential)") {
            let run = secret.len().clamp(1, RUN_BYTES);
            let leaks = |part: &[u8]| shown.as_bytes().windows(run).any(|at| at == part);
            assert!(!secret.windows(run).any(leaks), "{shown:?} leaks of {secret:?}");
        }
    }
}

/// A `ca_file`.
pub fn ca_file(bytes: &[u8]) {
    if let Err(why) = OwnRoots::from_pem(bytes) {
        assert!(why.to_string().contains("`ca_file` wants"));
    }
}

/// A private key. What is read signs as its kind says, or says that it cannot; an error says nothing of it.
pub fn signing_key(bytes: &[u8]) {
    bursar::crypto::install();
    let (client, signing) = ("bursar".parse().unwrap(), Signing::default());
    let now = Wall::from_micros(1_795_240_800_000_000);
    let on = Occasion { client: &client, audience: "https://h", signing: &signing, now, random: &SystemRandom };
    match SigningKey::from_pem(bytes) {
        Ok(key) => {
            assert!(bytes.len() <= MOST_KEY_BYTES);
            if let Ok(jwt) = assertion::sign(&on, &key, None) {
                assert_eq!(federated::read(jwt.as_bytes(), now), Ok(jwt.as_str()));
            }
        }
        Err(why) => assert!(why.to_string().starts_with("the private key")),
    }
}

/// A certificate and, behind it, the same bytes as its key: what is shown to a server was read whole.
pub fn certificate(bytes: &[u8]) {
    match CertificateChain::from_pem(bytes) {
        Ok(chain) => {
            assert!(bytes.len() <= MOST_CHAIN_BYTES);
            let _ = Identity::new(&chain, &Secret::copy_of(bytes));
        }
        Err(why) => assert!(why.to_string().contains("`certificate`")),
    }
}

/// An assertion that somebody else made: what is sent is a part of what stands there, fit for a form, and has not ended.
pub fn federated(bytes: &[u8]) {
    let early = Wall::from_micros(1_000_000_000_000_000);
    match federated::read(bytes, early) {
        Ok(text) => {
            assert!(text.len() <= MOST_ASSERTION_BYTES && text.bytes().all(|byte| byte.is_ascii_graphic()));
            assert_eq!(bytes.trim_ascii(), text.as_bytes());
            assert_eq!(text.split('.').count(), 3);
        }
        // What has ended does not come back.
        Err(why) => {
            let late = Wall::from_micros(2_000_000_000_000_000);
            assert_eq!(federated::read(bytes, late), Err(why));
        }
    }
}

/// Where a secret may be sent: TLS or this machine, and no credential in the address.
pub fn provider_urls(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    reads_back::<EndpointUrl>(text);
    if let Ok(endpoint) = text.parse::<EndpointUrl>() {
        let url = endpoint.url();
        assert!(url.username().is_empty() && url.password().is_none() && url.fragment().is_none());
        let loopback = match url.host().unwrap() {
            url::Host::Domain(name) => name == "localhost",
            url::Host::Ipv4(ip) => ip.is_loopback(),
            url::Host::Ipv6(ip) => ip.is_loopback(),
        };
        assert!(url.scheme() == "https" || (url.scheme() == "http" && loopback), "{url}");
    }
    if let Ok(issuer) = text.parse::<Issuer>() {
        assert!(issuer.as_str() == text && issuer.url().url().query().is_none());
        assert!(!discovery::places(&issuer).is_empty());
    }
    let _ = text.parse::<ClientId>();
}

fn shares_a_run(text: &str, secret: &str) -> bool {
    secret.as_bytes().windows(RUN_BYTES).any(|part| text.as_bytes().windows(RUN_BYTES).any(|at| at == part))
}
