//! What the operator is told when TLS fails, against a server with certificates made for the occasion.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;

use bursar::oauth::certificate::CertificateChain;
use bursar::oauth::client_auth::ClientAuth;
use bursar::oauth::settings::Settings;
use bursar::oauth::tls::{OwnRoots, Roots};
use bursar::oauth::{Credential, Failure, Material, NoCredential, TokenEndpoint};
use bursar::secret::Secret;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, Stream};

use super::fake::{Fake, ask, endpoint, settings, token, with};

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self { pem: params.self_signed(&key).unwrap().pem(), issuer: Issuer::new(params, key) }
    }

    fn roots(&self) -> Roots {
        Roots::Own(OwnRoots::from_pem(self.pem.as_bytes()).unwrap())
    }

    fn certify(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> ServerConfig {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateDer::from(params.signed_by(&key, &self.issuer).unwrap().der().to_vec());
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        versions.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap()
    }
}

/// A TLS server that answers one request with a token.
fn serve(config: ServerConfig) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/token", listener.local_addr().unwrap());
    thread::spawn(move || {
        let (mut tcp, _) = listener.accept().unwrap();
        let mut tls = ServerConnection::new(Arc::new(config)).unwrap();
        let mut stream = Stream::new(&mut tls, &mut tcp);
        let mut some = [0; 4096];
        if stream.read(&mut some).is_ok() {
            let body = r#"{"access_token":"t","token_type":"Bearer"}"#;
            let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            tls.send_close_notify();
            let _ = tls.write_tls(&mut tcp);
        }
    });
    url
}

async fn outcome(url: &str, roots: Roots) -> Result<(), Failure> {
    endpoint(Settings { roots, ..settings(url) }).fetch(&ask("read", &[])).await.map(drop)
}

#[tokio::test]
async fn a_provider_is_trusted_by_its_own_roots_and_by_no_others() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    outcome(&serve(ours.certify("127.0.0.1", |_| {})), ours.roots()).await.unwrap();
    let failure = outcome(&serve(theirs.certify("127.0.0.1", |_| {})), ours.roots()).await.unwrap_err();
    assert!(failure.to_string().contains("set `ca_file`"), "{failure}");
    let failure = outcome(&serve(ours.certify("127.0.0.1", |_| {})), Roots::System).await.unwrap_err();
    assert!(failure.to_string().contains("set `ca_file`"), "{failure}");
}

/// What proves us by certificate.
struct Own(Material);

impl Own {
    fn certified_by(ca: &Authority) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec!["us.test".to_owned()]).unwrap().signed_by(&key, &ca.issuer).unwrap();
        let chain = CertificateChain::from_pem(certificate.pem().as_bytes()).unwrap();
        Self(Material { certificate: Some(chain), ..Secret::new(key.serialize_pem().into_bytes()).into() })
    }
}

impl Credential for Own {
    fn current(&self) -> BoxFuture<'_, Result<Material, NoCredential>> {
        async { Ok(self.0.clone()) }.boxed()
    }
}

/// A server that lets nobody in without a certificate of `ca`.
fn guarded(ca: &Authority) -> ServerConfig {
    let (plain, trusted) =
        (ca.certify("127.0.0.1", |_| {}), CertificateDer::from_pem_slice(ca.pem.as_bytes()).unwrap());
    let mut roots = RootCertStore::empty();
    roots.add(trusted).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let versions = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = versions.with_client_cert_verifier(verifier).with_cert_resolver(Arc::clone(&plain.cert_resolver));
    config.send_tls13_tickets = 0;
    config
}

#[tokio::test]
async fn a_server_that_refuses_our_certificate_in_the_handshake_is_told_for_that() {
    let (ca, other) = (Authority::new("ca"), Authority::new("other"));
    let by_certificate = |url: &str, own: Own| {
        let client_auth = ClientAuth::TlsClientAuth;
        with(Settings { roots: ca.roots(), client_auth, ..settings(url) }, Arc::new(own))
    };
    let url = serve(guarded(&ca));
    by_certificate(&url, Own::certified_by(&ca)).fetch(&ask("read", &[])).await.unwrap();
    let url = serve(guarded(&ca));
    let failure = by_certificate(&url, Own::certified_by(&other)).fetch(&ask("read", &[])).await.unwrap_err();
    assert!(failure.to_string().contains("does not accept our `certificate`, or wants one"), "{failure}");
    let failure = outcome(&serve(guarded(&ca)), ca.roots()).await.unwrap_err();
    assert!(failure.to_string().contains("does not accept our `certificate`, or wants one"), "{failure}");
}

#[tokio::test]
async fn an_authority_that_was_made_anew_under_its_old_name_is_said() {
    let (before, after) = (Authority::new("ca"), Authority::new("ca"));
    let failure = outcome(&serve(after.certify("127.0.0.1", |_| {})), before.roots()).await.unwrap_err();
    assert!(failure.to_string().contains("made anew"), "{failure}");
}

#[tokio::test]
async fn a_certificate_that_does_not_fit_says_how() {
    let ca = Authority::new("ca");
    for (config, why) in [
        (ca.certify("other.test", |_| {}), "is for another name"),
        (ca.certify("127.0.0.1", |params| params.not_after = date_time_ymd(2001, 1, 1)), "has expired"),
        (ca.certify("127.0.0.1", |params| params.not_before = date_time_ymd(4000, 1, 1)), "is not valid yet"),
    ] {
        let failure = outcome(&serve(config), ca.roots()).await.unwrap_err();
        assert!(matches!(&failure, Failure::Unavailable { what, .. } if what.contains(why)), "{failure}");
    }
}

#[tokio::test]
async fn plain_http_where_tls_was_expected_is_said() {
    let fake = Fake::answering([token()]);
    let failure =
        outcome(&fake.url("/token").replace("http:", "https:"), Authority::new("ca").roots()).await.unwrap_err();
    assert!(failure.to_string().contains("does not speak TLS"), "{failure}");
}
