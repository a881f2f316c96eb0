//! Who waits for another version of a secret, who listens, and who watches: what each hears, and when it is let go.

use std::process::Stdio;
use std::time::Duration;

use futures_util::future::join_all;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use super::rig::{Plan, Rig, SECRET_VALUE};
use super::wire::{Wire, ask, eventually, get, request, within};

/// How many listen at once.
const LISTENERS: usize = 1_000;

async fn version(rig: &Rig) -> String {
    ask(&rig.socket("checkout"), get("/secret/api-key")).await.text("version")
}

/// A connection of `checkout` that waits for another version than `held`.
async fn waiting(rig: &Rig, held: &str, most: &str) -> Wire {
    let mut wire = rig.wire("checkout").await;
    assert!(wire.send(get(&format!("/secret/api-key?wait={most}&version={held}"))).await);
    wire
}

/// How many wait for `api-key`, as the operator sees it.
async fn waiters(rig: &Rig) -> u64 {
    let status = rig.operate("GET", "/status", "").await.json();
    status["secrets"].as_array().unwrap().iter().find(|one| one["name"] == "api-key").unwrap()["waiting"]
        .as_u64()
        .unwrap()
}

async fn until_waiters(rig: &Rig, count: u64) {
    eventually("so many waiters", async || (waiters(rig).await == count).then_some(())).await;
}

async fn listening(rig: &Rig, workload: &str) -> Wire {
    let mut wire = rig.wire(workload).await;
    let reply = wire.ask(get("/events")).await.unwrap();
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("text/event-stream")));
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    assert!(wire.until("ask for what you hold\n\n").await.is_some());
    wire
}

async fn put(rig: &Rig, value: &str) {
    let reply = rig.operate("PUT", "/secrets/api-key", value).await;
    assert_eq!(reply.status, 200, "{reply:?}");
}

/// The value of a metric.
async fn metric(rig: &Rig, name: &str) -> Option<u64> {
    let page = rig.operate("GET", "/metrics", "").await.body;
    let page = String::from_utf8(page).unwrap();
    page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

#[tokio::test]
async fn a_wait_is_answered_when_another_version_is_current_and_at_its_end_if_none_is() {
    let rig = Plan::with_a_secret().raise_with_a_secret().await;
    let first = version(&rig).await;
    let mut wire = waiting(&rig, &first, "30s").await;
    until_waiters(&rig, 1).await;
    put(&rig, "second").await;
    let reply = wire.reply().await.unwrap();
    assert_eq!((reply.status, reply.text("value")), (200, "second".into()));
    assert_eq!(rig.record(&reply).text("version"), Some(reply.text("version").as_str()));

    let second = reply.text("version");
    let reply = waiting(&rig, &second, "1").await.reply().await.unwrap();
    assert_eq!((reply.status, reply.body.len()), (304, 0));
    assert_eq!(rig.record(&reply).kind(), "release");
    // Who has another, or none, has nothing to wait for.
    for held in [&first, "none-such"] {
        assert_eq!(waiting(&rig, held, "30s").await.reply().await.unwrap().text("value"), "second");
    }
    let reply = ask(&rig.socket("checkout"), get("/secret/api-key?wait=30s")).await;
    assert_eq!(reply.text("value"), "second");
}

#[tokio::test]
async fn who_waits_is_judged_by_the_rules_of_the_answer() {
    let rig = Plan::with_a_secret().raise_with_a_secret().await;
    let held = version(&rig).await;
    let mut wire = waiting(&rig, &held, "30s").await;
    until_waiters(&rig, 1).await;
    rig.policy("keys.cedar", "");
    assert!(rig.run(&["reload"]).await.status.success());
    assert_eq!(wire.reply().await.unwrap().outcome(), (403, "access_denied".into()));
    until_waiters(&rig, 0).await;
    let refused = waiting(&rig, &held, "30s").await.reply().await.unwrap();
    assert_eq!(refused.outcome(), (403, "access_denied".into()), "it does not wait");
}

#[tokio::test]
async fn a_reader_that_dies_frees_its_place_at_once() {
    let rig = Plan::with_a_secret().raise_with_a_secret().await;
    let held = version(&rig).await;
    let wires: Vec<_> = join_all((0..8).map(|_| waiting(&rig, &held, "5m"))).await;
    until_waiters(&rig, 8).await;
    assert_eq!(metric(&rig, "bursar_secret_waits").await, Some(8));
    drop(wires);
    until_waiters(&rig, 0).await;
    assert_eq!(metric(&rig, "bursar_secret_waits").await, Some(0));
    assert_eq!(metric(&rig, "bursar_store_reads_total{store=\"local\",result=\"read\"}").await, Some(1));
}

#[tokio::test]
async fn an_agent_that_stops_lets_go_who_waits_and_listens() {
    let mut rig = Plan::with_a_secret().raise_with_a_secret().await;
    let held = version(&rig).await;
    let (mut wire, mut listener) = (waiting(&rig, &held, "5m").await, listening(&rig, "checkout").await);
    until_waiters(&rig, 1).await;
    rig.agent().signal(Signal::TERM);
    assert_eq!(wire.reply().await.unwrap().status, 304);
    assert!(listener.until("0\r\n\r\n").await.is_some(), "the stream ends in order");
    assert!(listener.is_closed().await);
    assert!(rig.agent().ended().await.success());
}

#[tokio::test]
async fn a_thousand_cold_readers_are_one_read_of_the_store() {
    let rig = Plan::with_a_secret().raise_with_a_secret().await;
    let mut wires = join_all((0..1_000).map(|_| rig.wire("checkout"))).await;
    let replies = join_all(wires.iter_mut().map(|wire| wire.ask(get("/secret/api-key")))).await;
    assert!(replies.into_iter().all(|reply| reply.unwrap().text("value") == SECRET_VALUE));
    assert_eq!(metric(&rig, "bursar_store_reads_total{store=\"local\",result=\"read\"}").await, Some(1));
}

#[tokio::test]
async fn each_hears_what_it_may_see_and_is_judged_for_each_event() {
    let rig = Plan::with_a_secret().raise_with_a_secret().await;
    let (mut checkout, mut reports) = (listening(&rig, "checkout").await, listening(&rig, "reports").await);
    put(&rig, "second").await;
    assert!(checkout.until("event: rotated\ndata: {\"secret\":\"api-key\"}\n\n").await.is_some());
    assert_eq!(rig.operate("POST", "/providers/stripe/revoke", "").await.status, 200);
    assert!(checkout.until("event: revoked\ndata: {\"provider\":\"stripe\"}\n\n").await.is_some());

    rig.policy("keys.cedar", "");
    assert!(rig.run(&["reload"]).await.status.success());
    put(&rig, "third").await;
    assert!(rig.run(&["reload"]).await.status.success());
    for wire in [&mut checkout, &mut reports] {
        let reloaded = "event: reloaded\ndata: {}\n\n";
        let before = wire.until(reloaded).await.unwrap();
        let between = wire.until(reloaded).await.unwrap();
        assert!(![before, between].concat().contains("api-key"));
    }
    let record = rig.records().iter().any(|line| line.text("resource") == Some("events"));
    assert!(!record, "to listen hands out nothing");
}

#[tokio::test]
async fn a_thousand_listeners_all_hear_and_take_little_and_one_that_does_not_read_is_nobodys_wait() {
    let rig = Plan::with_a_secret().raise_with_a_secret().await;
    drop(listening(&rig, "checkout").await);
    let before = rig.resident_kib();
    let deaf = listening(&rig, "checkout").await;
    let mut wires = join_all((1..LISTENERS).map(|_| listening(&rig, "checkout"))).await;
    assert_eq!(metric(&rig, "bursar_event_listeners").await, Some(LISTENERS as u64));
    for value in ["second", "third"] {
        put(&rig, value).await;
        let heard = join_all(wires.iter_mut().map(|wire| wire.until("{\"secret\":\"api-key\"}\n\n"))).await;
        assert!(heard.iter().all(Option::is_some));
    }
    let grown = rig.resident_kib().saturating_sub(before);
    assert!(grown < 64 << 10, "{grown} KiB for {LISTENERS} listeners");
    drop((wires, deaf));
    eventually("all gone", async || (metric(&rig, "bursar_event_listeners").await == Some(0)).then_some(())).await;
}

#[tokio::test]
async fn a_listener_that_does_not_read_is_dropped_and_holds_up_nobody() {
    const EVENTS: usize = 1_500;
    let rig = Plan::with_a_secret().raise_with_a_secret().await;
    let (mut deaf, mut attentive) = (listening(&rig, "checkout").await, listening(&rig, "checkout").await);
    let before = rig.resident_kib();
    let revoke = request("POST", "/providers/stripe/revoke", "Bursar: 1\r\n", "");
    let mut operator = Wire::to(&rig.admin()).await;
    for _ in 0..EVENTS {
        assert_eq!(operator.ask(&revoke).await.unwrap().status, 200);
        assert!(attentive.until("event: revoked").await.is_some());
    }
    assert!(rig.resident_kib() < before + (16 << 10));
    let mut heard = 0;
    while deaf.until("event: revoked").await.is_some() {
        heard += 1;
    }
    assert!(heard < EVENTS, "what it did not take was not kept for it");
    eventually("its place is free", async || (metric(&rig, "bursar_event_listeners").await == Some(1)).then_some(()))
        .await;
}

#[tokio::test]
async fn the_command_prints_each_version_and_survives_a_restart_of_the_agent() {
    let mut rig = Plan::with_a_secret().raise_with_a_secret().await;
    let socket = rig.socket("checkout");
    let mut command = rig.command();
    command.args(["--socket", socket.to_str().unwrap(), "--json", "secret", "get", "api-key", "--watch"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut value = async || {
        let line = within(lines.next_line()).await.unwrap().unwrap();
        serde_json::from_str::<Value>(&line).unwrap()["value"].clone()
    };
    assert_eq!(value().await, json!(SECRET_VALUE));
    put(&rig, "second").await;
    assert_eq!(value().await, json!("second"));
    assert!(rig.stop().await.success());
    assert_eq!(rig.put_by_command("api-key", "third").await.status.code(), Some(0));
    rig.start().await;
    assert_eq!(value().await, json!("third"));
    rig.policy("keys.cedar", "");
    assert!(rig.run(&["reload"]).await.status.success());
    assert_eq!(within(child.wait()).await.unwrap().code(), Some(3));
}

#[tokio::test]
async fn the_command_ends_each_value_as_it_is_told() {
    let rig = Plan::with_a_secret().raise_with_a_secret().await;
    let socket = rig.socket("checkout");
    let mut command = rig.command();
    command.args(["--socket", socket.to_str().unwrap(), "secret", "get", "api-key", "--watch", "--null"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut first = vec![0; SECRET_VALUE.len() + 1];
    within(out.read_exact(&mut first)).await.unwrap();
    assert_eq!(first, [SECRET_VALUE.as_bytes(), b"\0"].concat());
    child.kill().await.unwrap();
    let unheard = rig.run(&["--socket", "/none", "secret", "get", "api-key", "--watch"]).await;
    assert_eq!(unheard.status.code(), Some(4), "an agent that never answered is not waited for");
}

#[tokio::test]
async fn entries_mean_members_and_write_bytes_as_base64() {
    let mut plan = Plan::with_a_secret();
    let entry = |name: &str, more: &str| {
        format!("[secret.{name}]\nstore = \"local\"\npath = \"stripe/api-key\"\ntags = [\"keys\"]\n{more}\n")
    };
    plan.tables.push_str(&entry("password", "field = \"password\""));
    plan.tables.push_str(&entry("port", "field = \"port\""));
    plan.tables.push_str(&entry("none", "field = \"none\""));
    plan.tables.push_str(&entry("bytes", "encoding = \"base64\""));
    let rig = plan.raise_with_a_secret().await;
    put(&rig, r#"{"user":"app","password":"p\"w","port":5432}"#).await;
    let read = async |name: &str| ask(&rig.socket("checkout"), get(&format!("/secret/{name}"))).await;
    assert_eq!(read("password").await.text("value"), "p\"w");
    assert_eq!(read("port").await.text("value"), "5432");
    let bytes = read("bytes").await.json();
    assert_eq!(
        (&bytes["encoding"], &bytes["value"]),
        (&json!("base64"), &json!("eyJ1c2VyIjoiYXBwIiwicGFzc3dvcmQiOiJwXCJ3IiwicG9ydCI6NTQzMn0="))
    );
    let none = read("none").await;
    assert_eq!(none.outcome(), (404, "not_found".into()));
    assert!(rig.record(&none).text("detail").unwrap().contains("`field`"));
    assert_eq!(metric(&rig, "bursar_store_reads_total{store=\"local\",result=\"read\"}").await, Some(1));
    // Each listener hears of every name by which it may have what has changed.
    let mut listener = listening(&rig, "checkout").await;
    put(&rig, "{}").await;
    for name in ["api-key", "bytes", "none", "password", "port"] {
        assert!(listener.until(&format!("{{\"secret\":\"{name}\"}}")).await.is_some());
    }
}

#[tokio::test]
async fn a_file_that_changes_is_seen_by_who_waits_though_nobody_asks() {
    let mounted = crate::private_folder();
    let file = mounted.path().join("key");
    let write = |value: &str| {
        let beside = mounted.path().join(".new");
        std::fs::write(&beside, value).unwrap();
        std::fs::set_permissions(&beside, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::rename(&beside, &file).unwrap();
    };
    write("first");
    let mut plan = Plan::with_a_secret();
    plan.tables = format!(
        "[store.mounted]\nkind = \"files\"\npath = {:?}\nstale_after = \"1s\"\n[secret.api-key]\nstore = \"mounted\"\npath = \"key\"\ntags = [\"keys\"]\n",
        mounted.path()
    );
    let rig = plan.raise().await;
    let reply = ask(&rig.socket("checkout"), get("/secret/api-key")).await;
    assert_eq!(reply.json()["reread_after"], 1);
    let mut wire = waiting(&rig, &reply.text("version"), "25s").await;
    until_waiters(&rig, 1).await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    write("second");
    assert_eq!(wire.reply().await.unwrap().text("value"), "second");
}
