//! The real servers as children of the test: started, waited for, ended.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use bursar::oauth::tls::{OwnRoots, Roots, Tls};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair};
use serde_json::Value;
use tempfile::TempDir;

/// Where `tests/peers/install` has put what runs here.
pub(crate) fn installed(path: &str) -> PathBuf {
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join(".peers").join(path);
    assert!(peers.exists(), "`{}` is missing: run `tests/peers/install`", peers.display());
    peers
}

/// A server that runs until it is dropped.
pub(crate) struct Peer {
    child: Child,
    /// What it said of itself when it was ready.
    facts: Value,
}

impl Peer {
    /// Starts `tests/peers/<script>` and waits until it says that it is ready.
    fn start(script: &str, environment: &[(&str, &str)]) -> Self {
        let mut child = Command::new("node")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(script))
            .env("PEERS", installed("").as_os_str())
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let facts = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{script} did not start: run it by hand"));
        Self { child, facts }
    }

    fn fact(&self, name: &str) -> &str {
        self.facts[name].as_str().unwrap()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // By its own pid; where the test itself is killed, the end of its stdin ends it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// npm oidc-provider over TLS, with a certificate authority of its own.
pub(crate) struct Oidc {
    peer: Option<Peer>,
    folder: TempDir,
    issuer: String,
    lifetime: &'static str,
}

impl Oidc {
    /// One whose tokens live for 300 s.
    pub(crate) fn start() -> Self {
        Self::with_lifetime("300")
    }

    /// One whose tokens live for `seconds`.
    pub(crate) fn with_lifetime(seconds: &'static str) -> Self {
        let folder = TempDir::new().unwrap();
        certify(folder.path());
        let peer = Self::run(folder.path(), "0", seconds);
        let issuer = peer.fact("issuer").to_owned();
        Self { peer: Some(peer), folder, issuer, lifetime: seconds }
    }

    fn run(folder: &Path, port: &str, lifetime: &str) -> Peer {
        Peer::start("oidc.mjs", &[("CERTS", folder.to_str().unwrap()), ("PORT", port), ("TTL", lifetime)])
    }

    /// Ends it; its port stays its own.
    pub(crate) fn stop(&mut self) {
        self.peer = None;
    }

    /// Starts it again at the same port.
    pub(crate) fn start_again(&mut self) {
        let port = self.issuer.rsplit(':').next().unwrap();
        self.peer = Some(Self::run(self.folder.path(), port, self.lifetime));
    }

    /// Its issuer, such as `https://localhost:40001`.
    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    pub(crate) fn token_endpoint(&self) -> String {
        format!("{}/token", self.issuer)
    }

    /// The token endpoint that asks for certificates.
    pub(crate) fn token_endpoint_by_certificate(&self) -> String {
        format!("{}/token", self.peer.as_ref().unwrap().fact("by_certificate"))
    }

    /// A certificate for `name` of its authority, and the key of it.
    pub(crate) fn certify(&self, name: &str) -> Certified {
        let key = KeyPair::generate().unwrap();
        let ca_key = KeyPair::from_pem(&std::fs::read_to_string(self.folder.path().join("ca.key")).unwrap()).unwrap();
        Certified {
            certificate: named(name).signed_by(&key, &Issuer::new(authority(), ca_key)).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    /// Where its clients are administered: `PUT <this>/<id>`.
    pub(crate) fn clients(&self) -> String {
        format!("{}/clients", self.peer.as_ref().unwrap().fact("admin"))
    }

    /// Where clients are registered (RFC 7591), with the initial access token `initial-access-token`.
    pub(crate) fn registration_endpoint(&self) -> String {
        format!("{}/reg", self.issuer)
    }

    /// The PEM file of the authority that vouches for it.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    pub(crate) fn roots(&self) -> Roots {
        Roots::Own(OwnRoots::from_pem(&std::fs::read(self.ca_file()).unwrap()).unwrap())
    }

    /// What the resource server `rs` is told of a token (RFC 7662).
    pub(crate) async fn introspect(&self, token: &[u8]) -> Value {
        let token: String = form_urlencoded::byte_serialize(token).collect();
        let request = http(&self.roots())
            .post(format!("{}/token/introspection", self.issuer))
            .basic_auth("rs", Some("rs-secret"))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("token={token}"));
        serde_json::from_slice(&request.send().await.unwrap().bytes().await.unwrap()).unwrap()
    }

    /// The claims of a JWT that its published key signed for `audience` (RFC 9068).
    pub(crate) async fn verify(&self, token: &[u8], audience: &str) -> Value {
        bursar::crypto::install();
        let keys =
            http(&self.roots()).get(format!("{}/jwks", self.issuer)).send().await.unwrap().bytes().await.unwrap();
        let keys: JwkSet = serde_json::from_slice(&keys).unwrap();
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_audience(&[audience]);
        validation.set_issuer(&[&self.issuer]);
        decode(token, &DecodingKey::from_jwk(&keys.keys[0]).unwrap(), &validation).unwrap().claims
    }

    /// Changes a client, as its vendor's console would: see `tests/peers/oidc.mjs`.
    pub(crate) async fn change_client(&self, id: &str, change: &Value) {
        self.administer(&format!("clients/{id}"), change).await;
    }

    /// Makes it answer badly: see `tests/peers/oidc.mjs`.
    pub(crate) async fn fault(&self, fault: &Value) {
        self.administer("faults", fault).await;
    }

    /// How many requests its token endpoint has had.
    pub(crate) async fn requests(&self) -> u64 {
        let url = format!("{}/requests", self.peer.as_ref().unwrap().fact("admin"));
        let body = http(&Roots::System).get(url).send().await.unwrap().bytes().await.unwrap();
        serde_json::from_slice::<Value>(&body).unwrap()["requests"].as_u64().unwrap()
    }

    async fn administer(&self, path: &str, body: &Value) {
        let url = format!("{}/{path}", self.peer.as_ref().unwrap().fact("admin"));
        let answer = http(&Roots::System).put(url).body(body.to_string()).send().await.unwrap();
        assert!(answer.status().is_success());
    }
}

/// npm oauth2-mock-server, which checks nothing and answers as the URL's `mode` says.
pub(crate) struct Mock(Peer);

impl Mock {
    pub(crate) fn start() -> Self {
        Self(Peer::start("mock.mjs", &[]))
    }

    /// Its issuer, such as `http://localhost:40001`.
    pub(crate) fn issuer(&self) -> &str {
        self.0.fact("issuer")
    }

    /// The token endpoint that answers in this mode: see `tests/peers/mock.mjs`.
    pub(crate) fn token_endpoint(&self, mode: &str) -> String {
        format!("{}/token?mode={mode}", self.issuer())
    }
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The test's own HTTP client.
pub(crate) fn http(roots: &Roots) -> reqwest::Client {
    let tls = Tls::default().config(roots).unwrap();
    reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().build().unwrap()
}

/// A certificate and its key, both in PEM.
pub(crate) struct Certified {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Certified {
    /// One that `name` has signed for itself.
    pub(crate) fn by_itself(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        Self { certificate: named(name).self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
    }
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn authority() -> CertificateParams {
    let mut params = named("bursar tests");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

/// Writes `ca.pem` and `ca.key`, and `server.pem` with `server.key` for this machine's loopback names.
pub(crate) fn certify(folder: &Path) {
    let (ca_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let ca = authority();
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    std::fs::write(folder.join("ca.key"), ca_key.serialize_pem()).unwrap();
    std::fs::write(folder.join("ca.pem"), ca.self_signed(&ca_key).unwrap().pem()).unwrap();
    let server = CertificateParams::new(names).unwrap().signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
    std::fs::write(folder.join("server.pem"), server.pem()).unwrap();
    std::fs::write(folder.join("server.key"), key.serialize_pem()).unwrap();
}
