//! The agent with its secrets in real stores: how often they are asked, what is said when they refuse, and that no value
//! comes out but to its reader.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use crate::aws::{Aws, Moto, REGION};
use crate::bao::Bao;
use crate::counted::Counted;
use crate::outage::reply;
use crate::rig::Agent;
use bursar::store::openbao::Auth;

/// `checkout` may read what [`SECRETS`] names.
pub(crate) const RULE: (&str, &str) = (
    "policies/secrets.cedar",
    "@id(\"checkout-secrets\")\npermit (principal == Workload::\"checkout\", action == Action::\"secret\", resource in \
     Tag::\"kept\");\n",
);
const SECRETS: &str =
    "[secret.key]\nstore = \"kept\"\ntags = [\"kept\"]\n[secret.other]\nstore = \"kept\"\ntags = [\"kept\"]\n";
const READERS: usize = 1_000;
/// What is written nowhere is not written at the loudest.
const LOUD: &str = "[log]\nlevel = \"trace\"\n";
const VALUE: &str = "canary-of-the-store";

/// Tables for secrets that lie in OpenBao, which is asked at `address`; with `lines` for the store.
pub(crate) async fn entries(bao: &Bao, address: SocketAddr, lines: &str) -> String {
    let Auth::AppRole { role_id, secret_id_file } = bao.approle().await else { panic!("an AppRole") };
    let file = secret_id_file.display();
    format!(
        "[store.kept]\nkind = \"openbao\"\naddress = \"http://{address}\"\nmount = \"kv\"\nprefix = \"apps\"\n{lines}\n\
         auth = {{ approle = {{ role_id = \"{role_id}\", secret_id_file = \"{file}\" }} }}\n{SECRETS}"
    )
}

/// What a thousand connections that ask at once are answered.
async fn read_by_many(socket: &Path) -> Vec<(u16, Value)> {
    let mut streams = Vec::new();
    for _ in 0..READERS {
        streams.push(UnixStream::connect(socket).await.unwrap());
    }
    let mut readers = JoinSet::new();
    for mut stream in streams {
        readers.spawn(async move {
            stream.write_all(b"GET /secret/key HTTP/1.1\r\nHost: localhost\r\nBursar: 1\r\n\r\n").await.unwrap();
            reply(&mut stream).await
        });
    }
    readers.join_all().await
}

/// How many requests it costs that a thousand ask at once for what is not held; the store is known to the agent by then.
async fn cost_of_many(agent: &Agent, store: &Counted) -> u64 {
    let other = agent.read_until("checkout", "other", |answer| answer.status == 200).await;
    assert_eq!(other.body["value"], "another");
    let before = store.requests();
    let answers = read_by_many(&agent.socket_of("checkout")).await;
    assert!(answers.iter().all(|(status, body)| *status == 200 && body["value"] == VALUE), "{:?}", answers[0]);
    assert_eq!(agent.files_with(VALUE), [""; 0].map(PathBuf::from), "neither the log nor the records hold it");
    store.requests() - before
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_cold_readers_are_one_read_of_openbao() {
    let bao = Bao::start().await;
    let store = Counted::before(bao.plain).await;
    for (name, value) in [("key", VALUE), ("other", "another")] {
        bao.root("POST", &format!("kv/data/apps/{name}"), json!({ "data": { "value": value } })).await;
    }
    let agent = Agent::start_with(&format!("{}{LOUD}", entries(&bao, store.address, "").await), &[RULE]);
    assert_eq!(cost_of_many(&agent, &store).await, 2, "its book and its path");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_cold_readers_are_one_read_of_aws() {
    let aws = Aws::start(Moto::AsDocumented);
    let store = Counted::before(aws.endpoint().strip_prefix("http://").unwrap().parse().unwrap()).await;
    for (name, value) in [("prod/key", VALUE), ("prod/other", "another")] {
        aws.boto("secretsmanager", "create_secret", json!({ "Name": name, "SecretString": value }));
    }
    let tables = format!(
        "[store.kept]\nkind = \"aws-secretsmanager\"\nregion = \"{REGION}\"\nendpoint = \"http://{}\"\n\
         prefix = \"prod/\"\n{SECRETS}{LOUD}",
        store.address
    );
    let credentials = [("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")];
    let agent = Agent::start_in(&credentials, &tables, &[RULE]);
    assert_eq!(cost_of_many(&agent, &store).await, 2, "its book and its value");
}

#[tokio::test]
async fn an_expired_secret_id_takes_away_nothing_that_is_known_and_a_new_one_is_used() {
    let bao = Bao::start().await;
    let write = async |name: &str, value: &str| {
        bao.root("POST", &format!("kv/data/apps/{name}"), json!({ "data": { "value": value } })).await;
    };
    write("key", "canary-before").await;
    write("other", "canary-unread").await;
    let tables = entries(&bao, bao.plain, "stale_after = \"2s\"").await;
    let agent = Agent::start_with(&format!("{tables}{LOUD}"), &[RULE]);
    assert_eq!(agent.read("checkout", "key").body["value"], "canary-before");

    let secret_id = std::fs::read_to_string(bao.folder.path().join("secret-id")).unwrap();
    let secret_id = secret_id.trim_end();
    bao.root("POST", "auth/approle/role/bursar/secret-id/destroy", json!({ "secret_id": secret_id })).await;
    bao.root("POST", "sys/leases/revoke-prefix/auth/approle/login", json!({})).await;
    let stale = agent.read_until("checkout", "key", |answer| answer.body["stale"] == true).await;
    assert_eq!((stale.status, &stale.body["value"]), (200, &json!("canary-before")));
    assert_eq!(agent.record(&stale)["freshness"], "stale");
    let refused = agent.read("checkout", "other");
    assert_eq!((refused.status, &refused.body["error"]), (503, &json!("temporarily_unavailable")), "{refused:?}");
    let record = agent.record(&refused);
    assert!(record["detail"].as_str().unwrap().contains("the secret id"), "{record}");

    let told = agent.operate(&["--json", "secret", "versions", "other"]);
    let told = String::from_utf8([told.stdout, told.stderr].concat()).unwrap();
    assert!(told.contains("store_setup"), "{told}");

    let new = bao.new_secret_id().await;
    write("key", "canary-after").await;
    let fresh = agent.read_until("checkout", "key", |answer| answer.body["value"] == "canary-after").await;
    assert_eq!(fresh.body["stale"], false);
    agent.read_until("checkout", "other", |answer| answer.status == 200).await;
    assert!(agent.log().contains("DEBUG") || agent.log().contains("TRACE"), "the log was at its loudest");
    for text in ["canary", secret_id, &new] {
        assert_eq!(agent.files_with(text), [""; 0].map(PathBuf::from), "what no file may hold");
    }
}
