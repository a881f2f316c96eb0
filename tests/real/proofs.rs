//! Every way to prove who we are, in the room `oauth` against npm oidc-provider over TLS.

use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bursar::crypto::{NoRandomness, Random, SystemRandom};
use bursar::oauth::assertion::{KeyId, Signing};
use bursar::oauth::certificate::CertificateChain;
use bursar::oauth::client_auth::ClientAuth;
use bursar::oauth::http::Endpoint;
use bursar::oauth::settings::{Server, Settings};
use bursar::oauth::signing_key::SigningAlgorithm;
use bursar::oauth::tls::Tls;
use bursar::oauth::{Credential, Failure, Material, NoCredential, TokenEndpoint};
use bursar::secret::Secret;
use bursar::time::SystemClock;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
use serde_json::{Value, json};

use crate::oauth::{accepted, ask, at};
use crate::peers::{Certified, Oidc};

pub(crate) const RSA: &str = include_str!("../hermetic/oauth/rsa-test-key");

/// What stands in a store and a file, and may be replaced.
#[derive(Clone)]
struct Kept(Arc<Mutex<Material>>);

impl Kept {
    fn secret(text: &str) -> Self {
        Self(Arc::new(Mutex::new(Secret::copy_of(text.as_bytes()).into())))
    }

    fn certified(by: &Certified) -> Self {
        let kept = Self::secret("");
        kept.rotate(by);
        kept
    }

    fn rotate(&self, to: &Certified) {
        let certificate = Some(CertificateChain::from_pem(to.certificate.as_bytes()).unwrap());
        let secret = Arc::new(Secret::copy_of(to.key.as_bytes()));
        *self.0.lock().unwrap() = Material { secret, certificate, ..Secret::new(Vec::new()).into() };
    }
}

impl Credential for Kept {
    fn current(&self) -> BoxFuture<'_, Result<Material, NoCredential>> {
        async { Ok(self.0.lock().unwrap().clone()) }.boxed()
    }
}

fn endpoint(settings: Settings, credential: Kept) -> Endpoint {
    with(settings, credential, Arc::new(SystemRandom))
}

fn with(settings: Settings, credential: Kept, random: Arc<dyn Random>) -> Endpoint {
    bursar::crypto::install();
    Endpoint::new(settings, Arc::new(credential), Arc::new(SystemClock), random, &Tls::default()).unwrap()
}

/// The registration `client`, found by the issuer.
fn found(oidc: &Oidc, client: &str, client_auth: ClientAuth) -> Settings {
    Settings { server: Server::Issuer(oidc.issuer().parse().unwrap()), client_auth, ..at(oidc, client) }
}

/// The public part of `pem`, as a provider is told it.
pub(crate) fn public(pem: &str, algorithm: Algorithm, id: &str) -> Value {
    bursar::crypto::install();
    let of = |key: EncodingKey| serde_json::to_value(Jwk::from_encoding_key(&key, algorithm).unwrap()).unwrap();
    let mut jwk = match algorithm {
        Algorithm::ES256 | Algorithm::ES384 => of(EncodingKey::from_ec_pem(pem.as_bytes()).unwrap()),
        Algorithm::EdDSA => {
            let x = URL_SAFE_NO_PAD.encode(KeyPair::from_pem(pem).unwrap().public_key_raw());
            json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "x": x})
        }
        other => {
            assert!(matches!(other, Algorithm::RS256 | Algorithm::PS256));
            of(EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap())
        }
    };
    jwk["kid"] = json!(id);
    jwk
}

/// Tells the provider that `client` has these keys.
pub(crate) async fn register(oidc: &Oidc, client: &str, keys: &[Value]) {
    oidc.change_client(client, &json!({"jwks": {"keys": keys}})).await;
}

/// What a provider is told of a certificate that nobody else vouches for.
pub(crate) fn public_certificate(own: &Certified) -> Value {
    let mut jwk = public(&own.key, Algorithm::ES256, "certificate");
    let base64: String = own.certificate.lines().filter(|line| !line.starts_with("-----")).collect();
    jwk["x5c"] = json!([base64]);
    jwk
}

fn refused(failure: &Failure, says: &str) {
    assert!(matches!(failure, Failure::Refused { status: 401, error: Some("invalid_client"), .. }), "{failure}");
    assert!(failure.to_string().contains(says), "{failure}");
}

#[tokio::test]
async fn an_assertion_under_the_client_secret_is_taken() {
    let oidc = Oidc::start();
    let by_endpoint = Settings { client_auth: ClientAuth::ClientSecretJwt, ..at(&oidc, "csjwt") };
    for settings in [found(&oidc, "csjwt", ClientAuth::ClientSecretJwt), by_endpoint] {
        let endpoint = endpoint(settings, Kept::secret("a-secret-of-thirty-two-bytes-or-more"));
        for scopes in ["read", "read write"] {
            accepted(&oidc, &endpoint.fetch(&ask(scopes, &[])).await.unwrap(), scopes).await;
        }
    }
    let wrong = endpoint(found(&oidc, "csjwt", ClientAuth::ClientSecretJwt), Kept::secret("another secret"));
    refused(&wrong.fetch(&ask("read", &[])).await.unwrap_err(), "the stored client secret, this host's clock");
}

#[tokio::test]
async fn an_assertion_under_each_kind_of_key_is_taken() {
    let oidc = Oidc::start();
    let made = |kind| KeyPair::generate_for(kind).unwrap().serialize_pem();
    for (pem, algorithm, wanted) in [
        (made(&PKCS_ECDSA_P256_SHA256), Algorithm::ES256, None),
        (made(&PKCS_ECDSA_P384_SHA384), Algorithm::ES384, None),
        (made(&PKCS_ED25519), Algorithm::EdDSA, None),
        (RSA.to_owned(), Algorithm::RS256, None),
        (RSA.to_owned(), Algorithm::PS256, Some(SigningAlgorithm::Ps256)),
    ] {
        register(&oidc, "pkjwt", &[public(&pem, algorithm, "k1")]).await;
        let signing = Signing { algorithm: wanted, key_id: KeyId::Named("k1".into()), audience: None };
        let settings = Settings { signing, ..found(&oidc, "pkjwt", ClientAuth::PrivateKeyJwt) };
        let endpoint = endpoint(settings, Kept::secret(&pem));
        for scopes in ["read", "read write"] {
            accepted(&oidc, &endpoint.fetch(&ask(scopes, &[])).await.unwrap(), scopes).await;
        }
    }
}

#[tokio::test]
async fn an_assertion_that_the_provider_does_not_take_is_told_with_what_to_check() {
    let oidc = Oidc::start();
    let (known, other) = (KeyPair::generate().unwrap().serialize_pem(), KeyPair::generate().unwrap().serialize_pem());
    register(&oidc, "pkjwt", &[public(&known, Algorithm::ES256, "k1")]).await;
    let elsewhere = Signing { audience: Some("https://elsewhere.test".into()), ..Signing::default() };
    let unknown = Signing { key_id: KeyId::Named("k2".into()), ..Signing::default() };
    for (pem, signing) in [(&other, Signing::default()), (&known, elsewhere), (&known, unknown)] {
        let settings = Settings { signing, ..found(&oidc, "pkjwt", ClientAuth::PrivateKeyJwt) };
        let failure = endpoint(settings, Kept::secret(pem)).fetch(&ask("read", &[])).await.unwrap_err();
        refused(&failure, "the stored private key, `signing_alg`, `key_id`, `assertion_audience`, this host's clock");
    }
}

/// Draws the same each time.
struct Stuck;

impl Random for Stuck {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoRandomness> {
        bytes.fill(7);
        Ok(())
    }
}

#[tokio::test]
async fn an_assertion_that_was_sent_before_is_refused_by_the_provider() {
    let oidc = Oidc::start();
    let pem = KeyPair::generate().unwrap().serialize_pem();
    register(&oidc, "pkjwt", &[public(&pem, Algorithm::ES256, "k1")]).await;
    let settings = found(&oidc, "pkjwt", ClientAuth::PrivateKeyJwt);
    let stuck = with(settings, Kept::secret(&pem), Arc::new(Stuck));
    stuck.fetch(&ask("read", &[])).await.unwrap();
    refused(&stuck.fetch(&ask("read", &[])).await.unwrap_err(), "the stored private key");
}

#[tokio::test]
async fn a_certificate_of_an_authority_is_taken_at_the_door_that_the_metadata_names() {
    let oidc = Oidc::start();
    let own = oidc.certify("bursar");
    let by_endpoint = Settings {
        server: Server::Endpoint(oidc.token_endpoint_by_certificate().parse().unwrap()),
        client_auth: ClientAuth::TlsClientAuth,
        ..at(&oidc, "mtls")
    };
    for settings in [found(&oidc, "mtls", ClientAuth::TlsClientAuth), by_endpoint] {
        let endpoint = endpoint(settings, Kept::certified(&own));
        for scopes in ["read", "read write"] {
            accepted(&oidc, &endpoint.fetch(&ask(scopes, &[])).await.unwrap(), scopes).await;
        }
    }
}

#[tokio::test]
async fn a_wrong_certificate_and_none_are_refused_by_the_provider_and_told() {
    let oidc = Oidc::start();
    let says = "that the provider knows `certificate`";
    for wrong in [oidc.certify("somebody"), Certified::by_itself("bursar")] {
        let endpoint = endpoint(found(&oidc, "mtls", ClientAuth::TlsClientAuth), Kept::certified(&wrong));
        refused(&endpoint.fetch(&ask("read", &[])).await.unwrap_err(), says);
    }
    // This door asks for none, so none is shown.
    let settings = Settings { client_auth: ClientAuth::TlsClientAuth, ..at(&oidc, "mtls") };
    let endpoint = endpoint(settings, Kept::certified(&oidc.certify("bursar")));
    refused(&endpoint.fetch(&ask("read", &[])).await.unwrap_err(), says);
}

#[tokio::test]
async fn a_certificate_that_the_provider_knows_is_taken_and_no_other() {
    let oidc = Oidc::start();
    let (known, other) = (Certified::by_itself("any"), Certified::by_itself("any"));
    register(&oidc, "selfsigned", &[public_certificate(&known)]).await;
    let settings = || found(&oidc, "selfsigned", ClientAuth::SelfSignedTlsClientAuth);
    let grant = endpoint(settings(), Kept::certified(&known)).fetch(&ask("read", &[])).await.unwrap();
    accepted(&oidc, &grant, "read").await;
    let failure = endpoint(settings(), Kept::certified(&other)).fetch(&ask("read", &[])).await.unwrap_err();
    refused(&failure, "that the provider knows `certificate`");
}

#[tokio::test]
async fn a_certificate_that_was_rotated_is_shown_from_the_next_request_on() {
    let oidc = Oidc::start();
    let [old, new] = [(); 2].map(|()| Certified::by_itself("any"));
    register(&oidc, "selfsigned", &[public_certificate(&old)]).await;
    let kept = Kept::certified(&old);
    let endpoint = endpoint(found(&oidc, "selfsigned", ClientAuth::SelfSignedTlsClientAuth), kept.clone());
    endpoint.fetch(&ask("read", &[])).await.unwrap();
    register(&oidc, "selfsigned", &[public_certificate(&new)]).await;
    endpoint.fetch(&ask("read", &[])).await.unwrap_err();
    kept.rotate(&new);
    // Neither the open connection nor its session goes on under the old one.
    endpoint.fetch(&ask("read", &[])).await.unwrap();
}

#[tokio::test]
async fn a_token_is_ended_under_each_client_authentication() {
    let oidc = Oidc::start();
    let (pem, own) = (KeyPair::generate().unwrap().serialize_pem(), oidc.certify("bursar"));
    register(&oidc, "pkjwt", &[public(&pem, Algorithm::ES256, "k1")]).await;
    for endpoint in [
        endpoint(found(&oidc, "basic", ClientAuth::ClientSecretBasic), Kept::secret("basic-secret")),
        endpoint(found(&oidc, "ba:sic+weird", ClientAuth::ClientSecretBasic), Kept::secret("p%40ss w+rd:/&=?~")),
        endpoint(found(&oidc, "post", ClientAuth::ClientSecretPost), Kept::secret("post-secret")),
        endpoint(found(&oidc, "pkjwt", ClientAuth::PrivateKeyJwt), Kept::secret(&pem)),
        endpoint(found(&oidc, "mtls", ClientAuth::TlsClientAuth), Kept::certified(&own)),
    ] {
        let grant = endpoint.fetch(&ask("read", &[])).await.unwrap();
        accepted(&oidc, &grant, "read").await;
        endpoint.revoke(&grant.token).await.unwrap();
        assert_eq!(oidc.introspect(grant.token.expose()).await, json!({"active": false}));
        endpoint.revoke(&grant.token).await.unwrap();
    }
}
