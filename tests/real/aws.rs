//! AWS Secrets Manager as moto has it, with signatures and the IAM policy of `docs/stores.md` and no more; as AWS's
//! documentation says where moto differs, and as moto is; and behind microburst, which fails as AWS does.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_secretsmanager::config::{Credentials, SharedCredentialsProvider};
use bursar::store::aws::{AwsStore, Settings};
use bursar::store::{Stage, Store, StoreError, Which};
use bursar::time::ManualClock;
use bursar::wire::tls::{Roots, Tls};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::peers::installed;
use crate::store_conformance::{Bench, agrees_with_the_model, attempt, every_rule, steps};

const STORES: &str = include_str!("../../docs/stores.md");
pub(crate) const REGION: &str = "eu-central-1";
const REPLICA: &str = "eu-west-1";

/// How moto is to be.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Moto {
    /// As it is.
    AsItIs,
    /// As AWS documents itself.
    AsDocumented,
    /// That, with signatures and policies verified.
    Verified,
}

pub(crate) struct Aws {
    child: Child,
    talk: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    facts: Value,
}

impl Aws {
    pub(crate) fn start(moto: Moto) -> Self {
        let flag = |on: bool| if on { "1" } else { "0" };
        let mut child = Command::new(installed("py/bin/python"))
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/aws.py"))
            .env("VERIFY", flag(moto == Moto::Verified))
            .env("AS_DOCUMENTED", flag(moto != Moto::AsItIs))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (stdin, mut stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let facts = serde_json::from_str(&line)
            .unwrap_or_else(|_| panic!("moto did not start: run `tests/peers/aws.py` by hand"));
        Self { child, talk: Mutex::new((stdin, stdout)), facts }
    }

    /// Has boto3 call `method` of `service`, by an administrator.
    pub(crate) fn boto(&self, service: &str, method: &str, arguments: Value) -> Value {
        self.boto_in(REGION, service, method, arguments)
    }

    fn boto_in(&self, region: &str, service: &str, method: &str, arguments: Value) -> Value {
        let (stdin, stdout) = &mut *self.talk.lock().unwrap();
        writeln!(stdin, "{}", json!([service, method, arguments, region])).unwrap();
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// What everybody else reads: the value with AWSCURRENT.
    fn shown(&self, secret: &str) -> Value {
        self.boto("secretsmanager", "get_secret_value", json!({ "SecretId": secret, "VersionStage": "AWSCURRENT" }))
    }

    fn labels(&self, secret: &str) -> Vec<(String, String)> {
        let described = self.boto("secretsmanager", "describe_secret", json!({ "SecretId": secret }));
        let versions = described["VersionIdsToStages"].as_object().cloned().unwrap_or_default();
        let labels = versions.into_iter().flat_map(|(id, labels)| {
            let labels = labels.as_array().unwrap().clone();
            labels.into_iter().map(move |label| (label.as_str().unwrap().to_owned(), id.clone()))
        });
        let mut labels: Vec<_> = labels.collect();
        labels.sort();
        labels
    }

    fn may(&self, policy: &Value) {
        let document = json!({ "UserName": "bursar", "PolicyName": "p", "PolicyDocument": policy.to_string() });
        self.boto("iam", "put_user_policy", document);
    }

    pub(crate) fn endpoint(&self) -> &str {
        self.facts["endpoint"].as_str().unwrap()
    }

    pub(crate) fn store(&self, clock: &Arc<ManualClock>) -> AwsStore {
        self.store_at(self.endpoint(), None, clock)
    }

    fn store_at(&self, endpoint: &str, replica: Option<&str>, clock: &Arc<ManualClock>) -> AwsStore {
        let fact = |name: &str| self.facts[name].as_str().unwrap();
        let credentials = Credentials::new(fact("key"), fact("secret"), None, None, "test");
        let settings = Settings {
            region: REGION.into(),
            endpoint: Some(endpoint.parse().unwrap()),
            prefix: "prod/".into(),
            replica_region: replica.map(str::to_owned),
            credentials: Some(SharedCredentialsProvider::new(credentials)),
        };
        let tls = Tls::default().config_for(&Roots::System, true).unwrap();
        AwsStore::new(&settings, tls, Arc::<ManualClock>::clone(clock)).unwrap()
    }
}

impl Drop for Aws {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The policy that `docs/stores.md` gives, for moto's account.
fn policy() -> Value {
    let text = STORES.split_once("\"Version\": \"2012-10-17\"").unwrap().1.split_once("```").unwrap().0;
    serde_json::from_str(&format!("{{\"Version\": \"2012-10-17\"{text}").replace("111122223333", "123456789012"))
        .unwrap()
}

async fn whole_life(bench: &Bench<'_>) -> Result<(), StoreError> {
    let name = bench.name("life");
    bench.store.list().await?;
    for value in ["one", "two"] {
        bench.put(&name, value).await?;
    }
    bench.store.read(&name, &Which::Current).await.map(drop)
}

#[tokio::test]
async fn every_rule_holds_at_aws_with_the_least_policy() {
    let (aws, clock) = (Aws::start(Moto::Verified), Arc::new(ManualClock::default()));
    aws.may(&policy());
    let store = aws.store(&clock);
    every_rule(&Bench { store: &store, clock: &clock, prefix: "suite/" }).await;
}

#[tokio::test]
async fn random_histories_agree_with_the_model_as_documented_and_at_moto_as_it_is() {
    for moto in [Moto::AsDocumented, Moto::AsItIs] {
        let (aws, clock) = (Aws::start(moto), Arc::new(ManualClock::default()));
        let store = aws.store(&clock);
        let bench = Bench { store: &store, clock: &clock, prefix: "" };
        let mut runner = TestRunner::deterministic();
        for nth in 0..3 {
            let steps = steps().new_tree(&mut runner).unwrap().current();
            agrees_with_the_model(&bench, &bench.name(&format!("history-{nth}")), &steps).await;
        }
        if moto == Moto::AsItIs {
            every_rule(&bench).await;
        }
    }
}

#[tokio::test]
async fn with_one_action_less_the_policy_is_not_enough() {
    let (aws, clock) = (Aws::start(Moto::Verified), Arc::new(ManualClock::default()));
    let whole = policy();
    let statements = whole["Statement"].as_array().unwrap().clone();
    let mut tried = 0;
    for (nth, statement) in statements.iter().enumerate() {
        let actions = statement["Action"].as_array().cloned().unwrap_or_else(|| vec![statement["Action"].clone()]);
        for action in &actions {
            let mut less = whole.clone();
            let rest: Vec<_> = actions.iter().filter(|one| *one != action).cloned().collect();
            less["Statement"][nth]["Action"] = json!(if rest.is_empty() { vec![json!("sts:Nothing")] } else { rest });
            aws.may(&less);
            let store = aws.store(&clock);
            let prefix = format!("try-{tried}/");
            let denied = whole_life(&Bench { store: &store, clock: &clock, prefix: &prefix }).await.unwrap_err();
            let named = format!("`{}`", action.as_str().unwrap());
            assert!(matches!(&denied, StoreError::Setup(what) if what.contains(&named)), "{action}: {denied}");
            tried += 1;
        }
    }
    assert_eq!(tried, 6, "every action of the policy");
    aws.may(&whole);
    whole_life(&Bench { store: &aws.store(&clock), clock: &clock, prefix: "" }).await.unwrap();
}

#[tokio::test]
async fn aws_s_own_tools_see_plain_values_and_its_labels() {
    let (aws, clock) = (Aws::start(Moto::AsDocumented), Arc::new(ManualClock::default()));
    let store = aws.store(&clock);
    let bench = Bench { store: &store, clock: &clock, prefix: "" };
    let name = bench.name("db");
    bench.put(&name, "one").await.unwrap();
    assert_eq!(aws.shown("prod/db")["SecretString"], "one");
    let first = aws.labels("prod/db");
    assert_eq!(first.len(), 1, "AWSCURRENT alone: {first:?}");
    let second = attempt();
    store.reserve(&name, &second, bursar::time::Wall::from_micros(9_000_000), &Default::default()).await.unwrap();
    let id = store.fill(&name, &second, &bursar::secret::Secret::new(b"\xff\x00".to_vec()), &Default::default()).await;
    let at = |label: &str| aws.labels("prod/db").into_iter().find(|(found, _)| found == label).map(|(_, id)| id);
    assert_eq!(at("AWSPENDING").as_deref(), Some(id.unwrap().as_str()));
    assert_eq!(at("BURSAR_RESERVED"), at("AWSPENDING"));
    assert_eq!(aws.shown("prod/db")["SecretString"], "one", "what is Pending is not served");
    store.promote(&name, &second).await.unwrap();
    assert_eq!(aws.shown("prod/db")["SecretBinary"], "/wA=");
    assert_eq!(at("AWSPREVIOUS"), Some(first[0].1.clone()));
    assert_eq!((at("AWSPENDING"), at("BURSAR_RESERVED")), (None, None), "a promotion leaves no label behind");
}

#[tokio::test]
async fn what_another_writes_rolls_back_or_deletes_holds() {
    let (aws, clock) = (Aws::start(Moto::AsDocumented), Arc::new(ManualClock::default()));
    let store = aws.store(&clock);
    let bench = Bench { store: &store, clock: &clock, prefix: "" };
    let name = bench.name("shared");
    let sm = |method: &str, arguments: Value| aws.boto("secretsmanager", method, arguments);
    sm("create_secret", json!({ "Name": "prod/shared", "SecretString": "theirs" }));
    assert_eq!(bench.current(&name).await.as_deref(), Some("theirs"));
    assert_eq!(store.list().await.unwrap(), std::slice::from_ref(&name));
    let ours = bench.put(&name, "ours").await.unwrap();
    assert_eq!(aws.shown("prod/shared")["SecretString"], "ours");
    let put = sm("put_secret_value", json!({ "SecretId": "prod/shared", "SecretString": "theirs again" }));
    let versions = store.versions(&name).await.unwrap();
    assert_eq!(versions.at(Stage::Previous).unwrap().attempt, ours);
    assert_eq!(versions.at(Stage::Current).unwrap().id.as_str(), put["VersionId"]);
    assert_eq!(bench.current(&name).await.as_deref(), Some("theirs again"));
    // An operator goes back to what was before.
    let back = json!({ "SecretId": "prod/shared", "VersionStage": "AWSCURRENT",
        "MoveToVersionId": versions.at(Stage::Previous).unwrap().id.as_str(), "RemoveFromVersionId": put["VersionId"] });
    sm("update_secret_version_stage", back);
    assert_eq!(bench.current(&name).await.as_deref(), Some("ours"));
    bench.put(&name, "ours at last").await.unwrap();
    assert_eq!(aws.shown("prod/shared")["SecretString"], "ours at last");
    sm("delete_secret", json!({ "SecretId": "prod/shared" }));
    assert_eq!(bench.current(&name).await, None, "who deletes it there wants nothing served");
}

#[tokio::test]
async fn a_rotation_of_another_s_is_not_crossed() {
    let (aws, clock) = (Aws::start(Moto::AsDocumented), Arc::new(ManualClock::default()));
    let store = aws.store(&clock);
    let bench = Bench { store: &store, clock: &clock, prefix: "" };
    let (name, sm) = (bench.name("rotated"), |method: &str, arguments| aws.boto("secretsmanager", method, arguments));
    sm("create_secret", json!({ "Name": "prod/rotated", "SecretString": "one" }));
    let pending = json!({ "SecretId": "prod/rotated", "SecretString": "two", "VersionStages": ["AWSPENDING"] });
    sm("put_secret_value", pending);
    // Not by the clock of the test: AWS says when the version was made.
    clock.advance(Duration::from_secs(20 * 365 * 86_400));
    let refused = bench.put(&name, "ours").await.unwrap_err();
    assert!(matches!(refused, StoreError::Taken(_, Some(_))), "{refused}");
    assert_eq!(store.versions(&name).await.unwrap().at(Stage::Pending).unwrap().notes.get("by"), Some("another"));
    assert_eq!(bench.current(&name).await.as_deref(), Some("one"));
}

#[tokio::test]
async fn of_a_fleet_one_wins_and_each_promotion_is_whole() {
    let (aws, clock) = (Aws::start(Moto::AsDocumented), Arc::new(ManualClock::default()));
    let stores = [aws.store(&clock), aws.store(&clock)];
    let benches = stores.each_ref().map(|store| Bench { store, clock: &clock, prefix: "" });
    for round in 0..3 {
        let name = benches[0].name(&format!("race-{round}"));
        let puts = (0..6).map(|nth| (nth, &benches[nth % 2])).map(|(nth, bench)| {
            let name = name.clone();
            async move { bench.put(&name, &format!("value {nth}")).await }
        });
        let done = futures_util::future::join_all(puts).await;
        assert!(done.iter().any(Result::is_ok), "{done:?}");
        for error in done.iter().flat_map(|put| put.as_ref().err()) {
            assert!(matches!(error, StoreError::Taken(..) | StoreError::Unavailable(_)), "{error}");
        }
        let shown = aws.shown(&format!("prod/{name}"));
        assert_eq!(shown["SecretString"].as_str(), benches[1].current(&name).await.as_deref());
    }
}

#[tokio::test]
async fn wrong_credentials_are_told_and_not_repeated() {
    let (mut aws, clock) = (Aws::start(Moto::Verified), Arc::new(ManualClock::default()));
    aws.may(&policy());
    aws.facts["secret"] = json!("canary-of-a-secret-key");
    let refused = aws.store(&clock).list().await.unwrap_err();
    assert!(matches!(&refused, StoreError::Setup(what) if what.contains("credentials")), "{refused}");
    assert!(!format!("{refused:?}").contains("canary"));
}

/// microburst before an unverified moto: it signs nothing anew.
struct Burst {
    child: Child,
    endpoint: String,
}

impl Burst {
    async fn before(aws: &Aws) -> Self {
        bursar::crypto::install();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(installed("py/bin/microburst"))
            .args(["--upstream", aws.endpoint(), "--port", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let burst = Self { child, endpoint: format!("http://127.0.0.1:{port}") };
        for _ in 0..1_000 {
            let asked = reqwest::Client::builder().no_proxy().build().unwrap();
            if asked.get(format!("{}/_microburst/rules", burst.endpoint)).send().await.is_ok() {
                return burst;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("microburst did not start");
    }

    /// From now on exactly this goes wrong.
    async fn fails(&self, rules: Value) {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let asked = client.post(format!("{}/_microburst/rules", self.endpoint)).body(rules.to_string());
        assert!(asked.header("content-type", "application/json").send().await.unwrap().status().is_success());
    }
}

/// microburst loads its models at the first call.
async fn warm(store: &AwsStore) {
    for _ in 0..20 {
        if store.list().await.is_ok() {
            return;
        }
    }
    panic!("microburst lets nothing through");
}

impl Drop for Burst {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn whatever_fails_where_a_value_is_written_the_same_attempt_comes_through() {
    comes_through(["CreateSecret", "PutSecretValue"]).await;
}

#[tokio::test]
async fn whatever_fails_where_a_label_is_moved_the_same_attempt_comes_through() {
    comes_through(["UpdateSecretVersionStage", "GetSecretValue"]).await;
}

/// Repeats a put through each fault of `operations`: no value that is read on the way is wrong, and one is Current.
async fn comes_through(operations: [&str; 2]) {
    let (aws, clock) = (Aws::start(Moto::AsDocumented), Arc::new(ManualClock::default()));
    let burst = Burst::before(&aws).await;
    let store = aws.store_at(&burst.endpoint, None, &clock);
    warm(&store).await;
    let bench = Bench { store: &store, clock: &clock, prefix: "" };
    let mut faults = 0;
    for operation in operations {
        for fault in [
            json!({ "error": { "code": "ThrottlingException" } }),
            json!({ "reset": true }),
            json!({ "response": { "abort_frac": 0.3 } }),
            json!({ "response": { "truncate_frac": 0.5 } }),
        ] {
            let name = bench.name(&format!("fault-{faults}"));
            if operation != "CreateSecret" {
                bench.put(&name, "before").await.unwrap();
            }
            let attempt = attempt();
            let value = bursar::secret::Secret::new(format!("after {faults}").into_bytes());
            let lease = bursar::time::Wall::from_micros(60_000_000);
            // Each as often as the SDK asks at once, at the first call and then at one that comes later.
            for pass in 0..2 {
                let mut rule = fault.clone();
                rule["service"] = json!("secretsmanager");
                rule["operation"] = json!(operation);
                rule["times"] = json!(3 - 2 * pass);
                burst.fails(json!([rule])).await;
                let put = bursar::store::put(&store, &name, &value, &attempt, lease).await;
                burst.fails(json!([])).await;
                if let Err(error) = put {
                    let told = matches!(error, StoreError::Unavailable(_));
                    assert!(told && !error.to_string().contains("after"), "{operation} {fault}: {error:?}");
                }
                let seen = bench.current(&name).await;
                assert!(
                    [None, Some("before"), Some(&*format!("after {faults}"))].contains(&seen.as_deref()),
                    "{seen:?}"
                );
            }
            bursar::store::put(&store, &name, &value, &attempt, lease).await.unwrap();
            assert_eq!(bench.current(&name).await, Some(format!("after {faults}")), "{operation} {fault}");
            assert_eq!(aws.shown(&format!("prod/{name}"))["SecretString"], format!("after {faults}"));
            let labels = aws.labels(&format!("prod/{name}"));
            assert_eq!(labels.iter().filter(|(label, _)| label == "AWSCURRENT").count(), 1, "{labels:?}");
            assert!(labels.iter().all(|(label, _)| label == "AWSCURRENT" || label == "AWSPREVIOUS"), "{labels:?}");
            faults += 1;
        }
    }
}

#[tokio::test]
async fn each_fault_is_told_with_what_to_do_and_the_replica_answers_where_time_helps() {
    let (aws, clock) = (Aws::start(Moto::AsDocumented), Arc::new(ManualClock::default()));
    let burst = Burst::before(&aws).await;
    let alone = aws.store_at(&burst.endpoint, None, &clock);
    warm(&alone).await;
    let bench = Bench { store: &alone, clock: &clock, prefix: "" };
    let name = bench.name("db");
    bench.put(&name, "canary").await.unwrap();
    let replicate = json!({ "SecretId": "prod/db", "AddReplicaRegions": [{ "Region": REPLICA }] });
    aws.boto("secretsmanager", "replicate_secret_to_regions", replicate);
    let both = aws.store_at(&burst.endpoint, Some(REPLICA), &clock);
    for (fault, wanted, is_failed_over) in [
        (json!({ "error": { "code": "ThrottlingException" } }), "throttles", true),
        (json!({ "error": { "code": "InternalServiceError" } }), "try again later", true),
        (json!({ "reset": true }), "broke", true),
        (json!({ "response": { "truncate_frac": 0.5 } }), "", true),
        (json!({ "response": { "corrupt_bytes": 8 } }), "", true),
        (json!({ "timeout_ms": 6000 }), "", true),
        (json!({ "error": { "code": "AccessDeniedException" } }), "docs/stores.md", false),
        (json!({ "error": { "code": "DecryptionFailure" } }), "kms:Decrypt", false),
        (json!({ "error": { "code": "ExpiredTokenException" } }), "renew", false),
    ] {
        let mut rule = fault.clone();
        rule["service"] = json!("secretsmanager");
        rule["region"] = json!(REGION);
        burst.fails(json!([rule])).await;
        if fault.get("timeout_ms").is_none() {
            let error = alone.read(&name, &Which::Current).await.map(drop).unwrap_err();
            assert!(error.to_string().contains(wanted) && !format!("{error:?}").contains("canary"), "{fault}: {error}");
            assert_eq!(matches!(error, StoreError::Unavailable(_)), is_failed_over, "{fault}: {error}");
        }
        let read = both.read(&name, &Which::Current).await.map(|(_, value)| value.matches(b"canary"));
        assert_eq!(read.is_ok(), is_failed_over, "{fault}: {read:?}");
        assert!(read.unwrap_or(true));
    }
    burst.fails(json!([{ "service": "secretsmanager", "latency": 300 }])).await;
    assert_eq!(bench.current(&name).await.as_deref(), Some("canary"), "slow is not down");
}

/// Answers as the metadata of a container (at `/creds`) and of an instance do, and says where.
fn metadata(credentials: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") && stream.read_line(&mut head).unwrap_or(0) > 0 {}
            let path = head.split(' ').nth(1).unwrap_or_default();
            let body = match path {
                "/latest/api/token" => "the-metadata-token",
                "/latest/meta-data/iam/security-credentials/" => "role",
                "/creds" | "/latest/meta-data/iam/security-credentials/role" => &credentials,
                _ => "",
            };
            let status = if body.is_empty() { "404 Not Found" } else { "200 OK" };
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status}\r\nx-aws-ec2-metadata-token-ttl-seconds: 60\r\ncontent-length: {length}\r\n\
                 connection: close\r\n\r\n{body}"
            );
            let _ = stream.get_mut().write_all(answer.as_bytes());
        }
    });
    address
}

/// `bursar secret put`, without an agent, in an environment that has nothing else of AWS.
fn put_by_command(aws: &Aws, folder: &Path, environment: &[(&str, String)]) -> std::process::Output {
    let (endpoint, text) = (aws.endpoint(), folder.join("bursar.toml"));
    let config = format!(
        "[agent]\nsocket = \"s\"\nadmin_socket = \"a\"\nstate_dir = \"state\"\npolicies = \"policies\"\n[store.aws]\n\
         kind = \"aws-secretsmanager\"\nregion = \"{REGION}\"\nendpoint = \"{endpoint}\"\nprefix = \"prod/\"\n[log]\n\
         level = \"trace\"\n"
    );
    std::fs::write(&text, config).unwrap();
    let _ = std::fs::create_dir(folder.join("state"));
    let mut child = Command::new(env!("CARGO_BIN_EXE_bursar"))
        .args(["secret", "put", "aws/key", "--config", text.to_str().unwrap()])
        .env_clear()
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("HOME", folder)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"canary-value").unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn credentials_are_found_where_aws_s_tools_look() {
    let (aws, folder) = (Aws::start(Moto::Verified), tempfile::TempDir::new().unwrap());
    aws.may(&policy());
    let fact = |name: &str| aws.facts[name].as_str().unwrap().to_owned();
    let (key, secret) = (fact("key"), fact("secret"));
    let file = |name: &str, text: String| {
        std::fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name).display().to_string()
    };
    let temporary = json!({ "Version": 1, "Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": key, "SecretAccessKey": secret,
        "Token": "t", "SessionToken": "t", "LastUpdated": "2026-11-21T06:00:00Z", "Expiration": "2099-11-21T06:00:00Z" });
    let program =
        file("process", format!("[default]\ncredential_process = /bin/cat {}\n", file("out", temporary.to_string())));
    let address = metadata(temporary.to_string());
    let profile = format!("[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n");
    let ways: [&[(&str, String)]; 5] = [
        &[("AWS_ACCESS_KEY_ID", key.clone()), ("AWS_SECRET_ACCESS_KEY", secret.clone())],
        &[("AWS_SHARED_CREDENTIALS_FILE", file("profile", profile))],
        &[("AWS_CONFIG_FILE", program), ("PATH", "/bin:/usr/bin".into())],
        &[("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{address}/creds"))],
        &[("AWS_EC2_METADATA_DISABLED", "false".into()), ("AWS_EC2_METADATA_SERVICE_ENDPOINT", address)],
    ];
    let said = |output: &std::process::Output| {
        let said = [&output.stdout[..], &output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(!said.contains("canary-value") && !said.contains(&secret), "{said}");
        said
    };
    for way in ways {
        let put = put_by_command(&aws, folder.path(), way);
        assert!(put.status.success(), "{way:?}: {}", said(&put));
        said(&put);
    }
    let none = put_by_command(&aws, folder.path(), &[]);
    assert!(!none.status.success() && said(&none).contains("no AWS credentials"), "{}", said(&none));
    assert_eq!(aws.shown("prod/key")["SecretString"], "canary-value");
}
