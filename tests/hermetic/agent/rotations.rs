//! Rotation as operators and readers see it, through an agent that runs.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::rig::{Plan, Rig};
use super::wire::{ask, eventually, get, within};

/// A rotated secret whose readers reread after a second, so that two seconds of grace are enough.
const ROTATED: &str = "[secret.api-key]\nstore = \"local\"\npath = \"stripe/api-key\"\ntags = [\"keys\"]\n\
                       [secret.api-key.rotation]\ngrace = \"2s\"\nuptake_deadline = \"60s\"\n\
                       [secret.api-key.rotation.random]\nlength = 32\n";

async fn rotated() -> Rig {
    let mut plan = Plan::with_a_secret();
    plan.tables = plan.tables.replace(plan.tables.split("[secret.unput]").next().unwrap(), ROTATED);
    plan.store = "stale_after = \"1s\"".into();
    plan.raise().await
}

/// A process of its own that reads once and keeps what it has.
struct Reader {
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
}

impl Reader {
    /// Reads `api-key` as `checkout`; the reader, and the version that it holds.
    async fn of(rig: &Rig) -> (Self, String) {
        let program = "import socket, sys\n\
            s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n\
            s.sendall(b'GET /secret/api-key HTTP/1.1\\r\\nHost: localhost\\r\\nBursar: 1\\r\\n\\r\\n')\n\
            print(s.recv(65536).split(b'\\r\\n\\r\\n')[1].decode(), flush=True)\n\
            sys.stdin.read()";
        let mut command = Command::new("python3");
        command.args(["-c", program]).arg(rig.socket("checkout")).kill_on_drop(true);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        let body = within(said.next_line()).await.unwrap().unwrap();
        let version = serde_json::from_str::<Value>(&body).unwrap()["version"].as_str().unwrap().to_owned();
        (Self { child, said }, version)
    }

    fn holder(&self) -> String {
        format!("checkout (process {})", self.child.id().unwrap())
    }

    async fn end(mut self) {
        self.child.kill().await.unwrap();
        drop(self.said);
    }
}

async fn rotate(rig: &Rig, how: &str) -> Value {
    let path = format!("/rotations/api-key?how={how}&reason=drill");
    let reply = within(rig.operate("POST", &path, "")).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}

async fn status(rig: &Rig) -> Value {
    rig.operate("GET", "/rotations", "").await.json()["rotations"][0].clone()
}

async fn until(rig: &Rig, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    eventually(what, async || Some(status(rig).await).filter(|status| is_so(status))).await
}

async fn version(rig: &Rig) -> String {
    ask(&rig.socket("checkout"), get("/secret/api-key")).await.text("version")
}

#[tokio::test]
async fn what_was_never_put_is_made_at_the_first_start() {
    let rig = rotated().await;
    until(&rig, "a first version", |it| it["state"] == "idle" && it["current"].is_string()).await;
    let reply = ask(&rig.socket("checkout"), get("/secret/api-key")).await;
    assert_eq!((reply.status, reply.text("value").len()), (200, 32));
}

#[tokio::test]
async fn the_former_version_is_ended_when_its_last_reader_has_moved_on_and_not_before() {
    let rig = rotated().await;
    until(&rig, "a first version", |it| it["state"] == "idle").await;
    let mut late = rig.wire("checkout").await;
    let first = late.ask(get("/secret/api-key")).await.unwrap().text("version");
    let turned = rotate(&rig, "rotate").await;
    assert_eq!((turned["status"]["previous"].as_str(), &turned["failed"]), (Some(&*first), &Value::Null), "{turned}");
    assert_eq!(turned["status"]["waiting_for"], "the end of the grace period");
    assert_ne!(version(&rig).await, first, "who asks gets the new one at once");
    // The process that asked for both is this one, and holds the new one: nobody is left.
    let over = until(&rig, "the end of the former", |it| it["previous"].is_null()).await;
    assert_eq!(over["state"], "idle", "{over}");
    let kinds =
        rig.records().into_iter().filter(|line| line.kind() == "intent" && line.text("resource") == Some("api-key"));
    let acts: Vec<_> = kinds.map(|line| line.text("effect").unwrap().to_owned()).collect();
    let one = ["create", "set", "test", "promote"];
    assert_eq!(acts, [&one[..], &one[..], &["revoke"]].concat());
}

#[tokio::test]
async fn a_reader_that_holds_on_is_named() {
    let rig = rotated().await;
    until(&rig, "a first version", |it| it["state"] == "idle").await;
    let (late, first) = Reader::of(&rig).await;
    rotate(&rig, "rotate").await;
    let waits = until(&rig, "a laggard", |it| it["waiting_for"] == "readers that hold the former version").await;
    assert_eq!(waits["holders"], serde_json::json!([late.holder()]), "{waits}");
    let refused = rotate(&rig, "rotate").await;
    assert_eq!(refused["failed"], "unfinished", "{refused}");
    let put = rig.operate("PUT", "/secrets/api-key", "by hand").await;
    assert_eq!(put.outcome(), (400, "invalid_request".into()), "what is put over it would leave the former one alive");
    late.end().await;
    until(&rig, "the end of the former", |it| it["previous"].is_null()).await;
    assert_eq!(rig.operate("PUT", "/secrets/api-key", "by hand").await.status, 200);
    let read = ask(&rig.socket("checkout"), get(&format!("/secret/api-key?version={first}"))).await;
    assert_eq!(read.status, 404, "{read:?}");
}

#[tokio::test]
async fn what_has_leaked_is_ended_at_once_and_who_held_it_is_said() {
    let rig = rotated().await;
    until(&rig, "a first version", |it| it["state"] == "idle").await;
    let (late, first) = Reader::of(&rig).await;
    let turned = rotate(&rig, "revoke").await;
    assert_eq!(turned["held_by"], serde_json::json!([late.holder()]), "{turned}");
    assert!(turned["status"]["previous"].is_null() && turned["status"]["current"] != *first, "{turned}");
    let reasons =
        rig.records().into_iter().filter(|line| line.kind() == "operation" && line.text("action") == Some("revoke"));
    let reasons: Vec<_> = reasons.map(|line| line.text("detail").unwrap().to_owned()).collect();
    let named = format!("the end of a leaked version, which was held by {}", late.holder());
    assert_eq!(reasons, ["asked for the end of a leaked version: drill", &named]);
    let ended = format!("done; it was still held by {}", late.holder());
    assert!(rig.records().iter().any(|line| line.kind() == "outcome" && line.text("detail") == Some(&ended)));
}

#[tokio::test]
async fn a_rehearsal_says_what_would_be_done_and_touches_nothing() {
    let rig = rotated().await;
    until(&rig, "a first version", |it| it["state"] == "idle").await;
    let before = version(&rig).await;
    let turned = rotate(&rig, "rehearse").await;
    let steps: Vec<_> = turned["steps"].as_array().unwrap().iter().map(|step| step.as_str().unwrap()).collect();
    assert_eq!(steps.len(), 8, "{steps:#?}");
    assert!(steps[4].starts_with("make it Current") && steps[6].starts_with("end the former"), "{steps:#?}");
    assert_eq!(version(&rig).await, before);
    assert!(status(&rig).await["pending"].is_null());
}

#[tokio::test]
async fn after_a_restart_the_log_says_who_may_hold_the_former_version() {
    let mut rig = rotated().await;
    until(&rig, "a first version", |it| it["state"] == "idle").await;
    let (late, _) = Reader::of(&rig).await;
    rotate(&rig, "rotate").await;
    rig.kill().await;
    late.end().await;
    rig.start().await;
    let waits = until(&rig, "a supposed holder", |it| it["holders"] != serde_json::json!([])).await;
    assert_eq!(waits["holders"], serde_json::json!(["checkout (a process of before the restart, if it still runs)"]));
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(status(&rig).await["previous"].is_string(), "it is waited for until the deadline");
}

#[tokio::test]
async fn outside_its_window_only_now_rotates_and_says_why() {
    // A minute that is not now, in any time zone's noon.
    let minute = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() / 60 % 1_440;
    let opens = (minute + 720) % 1_440;
    let window = |at: u64| format!("{:02}:{:02}", at / 60, at % 60);
    let rig = rotated().await;
    until(&rig, "a first version", |it| it["state"] == "idle").await;
    let line = format!("grace = \"2s\"\nwindow = \"{}-{}\"", window(opens), window((opens + 1) % 1_440));
    rig.reconfigure("grace = \"2s\"", &line);
    assert_eq!(rig.operate("POST", "/reload", "").await.json()["reloaded"], true);
    let refused = rotate(&rig, "rotate").await;
    assert_eq!(refused["failed"], "outside_window", "{refused}");
    let unsaid = rig.operate("POST", "/rotations/api-key?how=now", "").await;
    assert_eq!(unsaid.status, 400, "{unsaid:?}");
    let before = version(&rig).await;
    assert_eq!(rotate(&rig, "now").await["failed"], Value::Null);
    assert_ne!(version(&rig).await, before);
}
