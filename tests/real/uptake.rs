//! `uptake = "store"` at OpenBao: a reader at one agent holds up the end of what another has replaced.

use std::sync::Arc;
use std::time::Duration;

use bursar::crypto::SystemRandom;
use bursar::name::Name;
use bursar::rotation::random::{Alphabet, RandomText};
use bursar::rotation::{Engine, Happened, Holder, Invents, Overlap, Plan, Rotation, Schedule, Status, Uptake};
use bursar::store::{Author, Place, Store, Which};
use bursar::time::ManualClock;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use crate::bao::{Bao, STORES};
use crate::matrix;
use crate::outage::reply;
use crate::rig::Agent;
use crate::store_agent::{RULE, entries};

const GRACE: Duration = Duration::from_secs(600);
const DEADLINE: Duration = Duration::from_secs(86_400);
const NOTICE_LEASE: Duration = Duration::from_secs(600);
const NOTICES: &str = "apps.bursar/holders.bursar/team/key";
const READERS: &str = "readers that hold the former version";

/// Two agents with one clock, each with a log and a way to the store of its own, and the policy of `docs/stores.md`.
struct Two {
    bao: Bao,
    clock: Arc<ManualClock>,
    folder: tempfile::TempDir,
    a: Arc<Engine>,
    b: Arc<Engine>,
    store: Arc<dyn Store>,
}

impl Two {
    async fn start() -> Self {
        let (bao, clock, folder) = (Bao::start().await, Arc::new(ManualClock::default()), tempfile::tempdir().unwrap());
        let auth = bao.approle().await;
        let store = || Arc::new(bao.store(auth.clone(), None, &clock));
        let [a, b] = ["a 01", "b 02"].map(|us| engine(us, &folder, &clock, store()));
        let store = store();
        // It has watched since before anything was served.
        b.holders.looked(&key(), std::iter::empty());
        a.turn_all().await;
        Self { bao, clock, folder, a, b, store }
    }

    /// A process that lives on takes what is Current at `b`, and `b` tells of it.
    async fn b_hands_out(&self, pid: i32) {
        let (version, _) = self.store.read(&"team/key".parse().unwrap(), &Which::Current).await.unwrap();
        let holder = Holder { workload: "checkout".parse().unwrap(), pid: Some(pid), version: version.id };
        self.b.took(&key(), holder, Box::new(|| true));
        self.b.tell_all().await;
    }

    /// `a` replaces it, the grace period passes, and `b` is there all the while.
    async fn replace(&self) {
        self.a.rotate(&key(), false).await.unwrap();
        self.clock.advance(GRACE);
        self.b.tell_all().await;
    }

    async fn status(&self) -> Status {
        self.a.turn_all().await;
        self.a.status().remove(0)
    }

    async fn waits_for(&self) -> Vec<String> {
        let status = self.status().await;
        assert_eq!(status.waiting_for.as_deref(), Some(READERS), "{status:?}");
        status.holders
    }

    async fn has_ended(&self) {
        let status = self.status().await;
        assert_eq!((status.previous.as_ref(), status.failures), (None, 0), "{status:?}");
    }
}

fn engine(us: &str, folder: &tempfile::TempDir, clock: &Arc<ManualClock>, store: Arc<dyn Store>) -> Arc<Engine> {
    let (journal, random) = (matrix::journal(&folder.path().join(us)), Arc::new(SystemRandom));
    let told = Box::new(|_: &Name, _: &Happened| {});
    let engine = Engine::new(journal, Arc::<ManualClock>::clone(clock), random.clone(), us, told);
    let rotator = Arc::new(RandomText::new(Alphabet::Alphanumeric, 32, random));
    let place =
        Place { store_name: "shared".parse().unwrap(), store, name: "team/key".parse().unwrap(), fresh_for: None };
    let plan = Plan {
        overlap: Overlap::Two,
        invents: Invents::Us,
        settles_within: Duration::ZERO,
        grace: GRACE,
        uptake_deadline: DEADLINE,
        exclusive: true,
    };
    let (uptake, schedule) = (Uptake::Store, Schedule::default());
    engine.keep(vec![Rotation { name: key(), place, plan, uptake, schedule, rotator }]);
    Arc::new(engine)
}

fn key() -> Name {
    "key".parse().unwrap()
}

#[tokio::test]
async fn a_reader_at_another_agent_holds_up_the_end_until_it_moves_on_or_its_agent_is_gone() {
    let two = Two::start().await;
    two.b_hands_out(7).await;
    two.replace().await;
    assert_eq!(two.waits_for().await, ["checkout (process 7) at b"]);
    let shown = two.bao.root("GET", &format!("kv/metadata/{NOTICES}/{}", Author::of("b 02")), json!({})).await;
    assert_eq!(shown["data"]["versions"].as_object().unwrap().len(), 1, "one version of a notice is kept: {shown}");
    two.b_hands_out(7).await;
    two.has_ended().await;

    // `b` is killed: nobody renews what it told.
    two.replace().await;
    assert_eq!(two.waits_for().await, ["checkout (process 7) at b"]);
    two.clock.advance(NOTICE_LEASE);
    two.has_ended().await;

    // What it told is taken down when it is long gone, which the least policy allows.
    two.clock.advance(2 * DEADLINE);
    two.a.rotate(&key(), false).await.unwrap();
    two.clock.advance(GRACE);
    two.has_ended().await;
    let (status, _) = two.bao.status("LIST", &format!("kv/metadata/{NOTICES}"), &json!({})).await;
    assert_eq!(status, 404);
    assert_eq!(two.store.list().await.unwrap().len(), 1, "what is told of secrets is none");
    drop(two.folder);
}

#[tokio::test]
async fn what_cannot_be_read_at_openbao_or_is_no_notice_is_held_until_the_deadline() {
    let two = Two::start().await;
    two.replace().await;
    let policy = STORES.split_once("```hcl\n").unwrap().1.split_once("```").unwrap().0;
    let less = format!("{policy}path \"kv/metadata/apps.bursar/holders.bursar/*\" {{ capabilities = [\"deny\"] }}\n");
    let less = less.replacen("path \"kv/metadata/apps.bursar/holders.bursar/*\"", "path \"kv/metadata/unused/*\"", 1);
    two.bao.root("PUT", "sys/policies/acl/bursar", json!({ "policy": less })).await;
    let who = two.waits_for().await;
    assert!(who.len() == 1 && who[0].contains("cannot be read: permission denied"), "{who:?}");
    two.bao.root("PUT", "sys/policies/acl/bursar", json!({ "policy": policy })).await;

    let author = Author::of("c 03");
    let huge = json!({ "agent": "c 03", "more": "x".repeat(900_000) });
    for hostile in [json!({}), json!({ "agent": "b 02" }), json!({ "bursar": [[[[]]]] }), huge] {
        let data = json!({ "data": hostile });
        two.bao.root("POST", &format!("kv/data/{NOTICES}/{author}"), data).await;
        let who = two.waits_for().await;
        assert!(who.len() == 1 && who[0].starts_with(&format!("somebody, for the notice `{author}`")), "{who:?}");
    }
    two.bao.root("POST", &format!("kv/data/{NOTICES}/a%3Flist=true"), json!({ "data": {} })).await;
    let who = two.waits_for().await;
    assert!(who.len() == 1 && who[0].contains("stands what is none"), "{who:?}");
    two.clock.advance(DEADLINE);
    two.has_ended().await;
}

/// How the rotation of `key` stands at `agent`, once it is as it should be.
async fn until(agent: &Agent, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..300 {
        let told = agent.operate(&["--json", "rotations"]);
        let status = serde_json::from_slice::<Value>(&told.stdout).unwrap_or_default()["rotations"][0].clone();
        if is_so(&status) {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("not in time: {what}: {}", agent.log());
}

/// This process reads `key` as `checkout`; the version that it holds from then on.
async fn read(agent: &Agent) -> String {
    let mut stream = UnixStream::connect(agent.socket_of("checkout")).await.unwrap();
    stream.write_all(b"GET /secret/key HTTP/1.1\r\nHost: localhost\r\nBursar: 1\r\n\r\n").await.unwrap();
    let (status, body) = reply(&mut stream).await;
    assert_eq!(status, 200, "{body}");
    body["version"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_as_they_run_tell_each_other_who_holds_what() {
    let bao = Bao::start().await;
    let rotation = "[secret.key.rotation]\ngrace = \"2s\"\nuptake = \"store\"\n[secret.key.rotation.random]\n";
    let tables = format!("{}{rotation}", entries(&bao, bao.plain, "stale_after = \"1s\"").await);
    let (a, b) = (Agent::start_with(&tables, &[RULE]), Agent::start_with(&tables, &[RULE]));
    until(&a, "a first version", |it| it["state"] == "idle" && it["current"].is_string()).await;
    let former = read(&b).await;
    let rotated = a.operate(&["rotate", "key"]);
    assert!(rotated.status.success(), "{rotated:?}");
    let who = format!("checkout (process {}) at agent-", std::process::id());
    let waits = until(&a, "a laggard", |it| it["waiting_for"] == READERS).await;
    assert!(waits["holders"][0].as_str().unwrap().starts_with(&who), "{waits}");
    while read(&b).await == former {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    until(&a, "the end of the former", |it| it["previous"].is_null() && it["state"] == "idle").await;
}
