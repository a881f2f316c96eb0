//! Operators: the admin socket, and the stores themselves while no agent runs.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::rig::{Plan, Rig, left_out, open_to_all, workloads};
use super::wire::{ask, get, post, request, within};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn status_tells_of_rules_providers_and_stores_and_is_recorded() {
    let rig = Rig::new().await;
    rig.token("checkout", "stripe", "").await.token();
    let output = rig.run(&["status", "--json"]).await;
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&status["ready"], &status["stores"]), (&json!(true), &json!(["local"])));
    assert_eq!(status["policy"].as_str().unwrap().len(), 64);
    let stripe = status["providers"].as_array().unwrap().iter().find(|one| one["name"] == "stripe").unwrap();
    assert_eq!(stripe["tokens"], 1);
    let record = rig.records_of("operation").pop().unwrap();
    assert_eq!(
        (record.text("actor"), record.text("who"), record.text("action")),
        (Some("operator"), Some("root"), Some("status"))
    );
    assert_eq!(rig.run(&["status"]).await.status.code(), Some(0));
}

#[tokio::test]
async fn a_secret_that_is_put_is_used_from_the_next_request_on() {
    let rig = Rig::new().await;
    assert_eq!(rig.token("checkout", "wrong", "").await.outcome(), (502, "provider_error".into()));
    let output = rig.put_by_command("local/wrong", super::rig::CLIENT_SECRET).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).starts_with("local/wrong: version "), "{}", text(&output.stdout));
    // The refusal that was remembered is forgotten with the secret for which it was given.
    assert_eq!(rig.token("checkout", "wrong", "").await.status, 200);
    let kinds: Vec<_> =
        rig.records().iter().map(|line| (line.kind().to_owned(), line.get("effect").cloned())).collect();
    let at = kinds.iter().rposition(|(_, effect)| *effect == Some(json!("put"))).unwrap();
    let after: Vec<_> = kinds[at + 1..at + 4].iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(after, ["outcome", "store", "operation"]);
}

#[tokio::test]
async fn secrets_are_listed_by_name_alone() {
    let rig = Rig::new().await;
    let output = rig.run(&["secret", "list", "--json"]).await;
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap(), json!({ "local": ["client", "wrong"] }));
    assert_eq!(text(&rig.run(&["secret", "list"]).await.stdout), "local/client\nlocal/wrong\n");
}

#[tokio::test]
async fn while_no_agent_runs_the_stores_are_written_under_the_log_s_lock_and_recorded() {
    let mut rig = Plan::default().lay().await;
    let put = rig.put_by_command("local/client", "first").await;
    assert_eq!(put.status.code(), Some(0), "{}", text(&put.stderr));
    assert_eq!(text(&rig.run(&["secret", "list"]).await.stdout), "local/client\nlocal/wrong\n");
    let last = rig.records_of("operation");
    let uid = u64::from(rustix::process::getuid().as_raw());
    assert!(last.iter().all(|line| line.text("actor") == Some("offline") && line.number("uid") == Some(uid)));
    let actions: Vec<_> = last.iter().map(|line| line.text("action").unwrap()).collect();
    assert_eq!(actions, ["put", "put", "put", "list"]);
    rig.start().await;
    assert_eq!(rig.records_of("start").last().unwrap().text("mode"), Some("agent"));
    let held = rig.run(&["--admin-socket", "/nonexistent", "secret", "put", "local/client"]).await;
    assert_eq!(held.status.code(), Some(1), "the agent holds the store");
}

#[tokio::test]
async fn the_value_of_a_stranger_is_not_even_read() {
    let mine = format!("uid = {}", rustix::process::getuid().as_raw());
    let head = "PUT /secrets/local/client HTTP/1.1\r\nHost: localhost\r\nBursar: 1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    for (known, first) in [(true, 100), (false, 403)] {
        let mut plan = Plan::default();
        if !known {
            plan.policies.insert("workloads.toml".into(), workloads("").replace(&mine, "uid = 4000000"));
        }
        let rig = plan.raise().await;
        let mut wire = super::wire::Wire::to(&rig.admin()).await;
        wire.send(head).await;
        assert_eq!(wire.interim().await.unwrap().status, first, "known: {known}");
    }
}

#[tokio::test]
async fn who_is_no_operator_or_has_no_permit_puts_nothing() {
    let strangers = Plan::default();
    let uid = rustix::process::getuid().as_raw();
    let mut rig = strangers.raise().await;
    rig.policy("operators.cedar", "");
    assert_eq!(rig.run(&["reload"]).await.status.code(), Some(0));
    for (method, path) in [
        ("PUT", "/secrets/local/client"),
        ("GET", "/secrets"),
        ("GET", "/status"),
        ("POST", "/reload"),
        ("POST", "/providers/stripe/revoke"),
        ("POST", "/providers/there-is-none/revoke"),
    ] {
        let reply = rig.operate(method, path, "value").await;
        assert_eq!(reply.outcome(), (403, "access_denied".into()), "{path}");
        assert_eq!(rig.record(&reply).text("actor"), Some("operator"));
    }
    let output = rig.put_by_command("local/client", "value").await;
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    rig.stop().await;
    rig.policy("workloads.toml", &workloads("").replace(&format!("uid = {uid}"), "uid = 4000000"));
    rig.start().await;
    let reply = rig.operate("PUT", "/secrets/local/client", "value").await;
    assert_eq!(reply.outcome(), (403, "unidentified".into()));
    let told = [reply.text("error_description"), reply.text("remedy")].join("\n");
    assert!(told.contains("`[operator.NAME]`") && !told.contains("whoami") && !told.contains("workload;"), "{told}");
    let puts = rig.records().into_iter().filter(|line| line.text("effect") == Some("put"));
    assert!(puts.into_iter().all(|line| line.text("actor") == Some("offline")), "those of the rig alone");
    assert_eq!(rig.token("checkout", "stripe", "").await.status, 200, "the secret is what it was");
}

/// Where the tokens of `odd` are ended.
const ENDS: &str = "token_endpoint = \"http://ENDPOINT/token\"";

async fn rig_with_an_end() -> Rig {
    let mut rig = Plan::default().lay().await;
    let endpoint = rig.endpoint.address.to_string();
    let ends = ENDS.replace("ENDPOINT", &endpoint);
    rig.reconfigure(&ends, &format!("{ends}\nrevocation_endpoint = \"http://{endpoint}/end\""));
    rig.start().await;
    rig
}

#[tokio::test]
async fn the_operator_s_word_ends_a_token_at_its_provider_with_intent_and_outcome() {
    let rig = rig_with_an_end().await;
    let token = rig.token("checkout", "odd", "").await.token();
    let output = rig.run(&["revoke", "odd"]).await;
    assert_eq!(text(&output.stdout), "tokens of `odd`: 1 taken out of service, 1 ended at the provider\n");
    assert_eq!(output.status.code(), Some(0));
    let asked = rig.endpoint.asked().pop().unwrap();
    assert!(asked.head.starts_with("POST /end HTTP/1.1") && asked.head.contains("Basic "), "{}", asked.head);
    assert_eq!(asked.body, format!("token={token}&token_type_hint=access_token"));
    let last = rig.records();
    let kinds: Vec<_> = last.iter().rev().take(3).map(bursar::audit::form::Line::kind).collect();
    assert_eq!(kinds, ["operation", "outcome", "intent"]);
    assert_ne!(rig.token("checkout", "odd", "").await.token(), token, "it is served no more");
}

#[tokio::test]
async fn a_token_that_lives_on_at_its_provider_is_told_and_is_no_success() {
    let rig = Rig::new().await;
    rig.token("checkout", "stripe", "").await.token();
    let output = rig.run(&["revoke", "stripe"]).await;
    assert!(text(&output.stdout).contains("1 live on there until they expire"), "{}", text(&output.stdout));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(rig.records_of("operation").pop().unwrap().text("result"), Some("unsupported"));
    let failed = rig.records_of("outcome").pop().unwrap();
    assert_eq!((failed.text("result"), failed.text("code")), (Some("failed"), Some("unsupported")));
    assert!(failed.text("fingerprint").is_some(), "which token it was");
}

#[tokio::test]
async fn nothing_is_asked_of_a_provider_without_tokens_or_of_one_that_is_not_there() {
    let rig = rig_with_an_end().await;
    let output = rig.run(&["revoke", "odd", "--json"]).await;
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((told, output.status.code()), (json!({"tokens":0,"ended":0,"failed":null,"why":null}), Some(0)));
    assert!(rig.endpoint.asked().is_empty());
    for (path, action) in [("/providers/there-is-none/revoke", Some("revoke")), ("/providers/UPPER/revoke", None)] {
        let reply = rig.operate("POST", path, "").await;
        assert_eq!(reply.outcome(), (400, "invalid_request".into()), "{path}");
        assert_eq!(rig.record(&reply).text("action"), action);
    }
    assert_eq!(rig.run(&["revoke", "local/client"]).await.status.code(), Some(1), "not in this version");
    let unguarded = ask(&rig.admin(), request("POST", "/providers/odd/revoke", "", "")).await;
    assert_eq!(unguarded.outcome(), (400, "invalid_request".into()));
}

#[tokio::test]
async fn an_agent_that_stops_waits_for_a_provider_that_hangs_and_no_longer() {
    let mut rig = Plan::default().lay().await;
    let endpoint = rig.endpoint.address.to_string();
    let ends = ENDS.replace("ENDPOINT", &endpoint);
    let more = format!("{ends}\nrevocation_endpoint = \"http://{endpoint}/end\"\nrevoke_at_shutdown = true");
    rig.reconfigure(&ends, &more);
    rig.start().await;
    rig.token("checkout", "odd", "").await.token();
    rig.endpoint.plays(|_| super::endpoint::Act::Held(String::new()));
    assert!(rig.stop().await.success());
    let failed = rig.records_of("outcome").pop().unwrap();
    assert_eq!((failed.text("result"), failed.text("code")), (Some("failed"), Some("unavailable")));
    assert_eq!(rig.records_of("intent").pop().unwrap().text("actor"), Some("bursar"));
}

#[tokio::test]
async fn a_put_that_cannot_be_says_why() {
    let rig = Rig::new().await;
    for (path, body, status, error) in [
        ("/secrets/nowhere/a", "value", 400, "invalid_request"),
        ("/secrets/a", "value", 400, "invalid_request"),
        ("/secrets/local/a", "", 400, "invalid_request"),
    ] {
        let reply = rig.operate("PUT", path, body).await;
        assert_eq!(reply.status, status, "{path}: {}", reply.json());
        assert!(reply.text("error").contains(error), "{path}: {}", reply.json());
        assert!(!reply.text("error_description").is_empty(), "{path}");
    }
    let long = "v".repeat(70_000);
    assert_eq!(rig.operate("PUT", "/secrets/local/a", &long).await.outcome(), (413, "too_large".into()));
    let unguarded = ask(&rig.admin(), request("PUT", "/secrets/local/a", "", "value")).await;
    assert_eq!(unguarded.outcome(), (400, "invalid_request".into()));
    assert_eq!(rig.operate("GET", "/secrets", "").await.json(), json!({ "local": ["client", "wrong"] }));
}

#[tokio::test]
async fn the_two_sockets_do_not_serve_each_other_s_requests() {
    let rig = Rig::new().await;
    for path in ["/status", "/secrets", "/reload"] {
        assert_eq!(ask(&rig.socket("checkout"), get(path)).await.outcome(), (404, "not_found".into()), "{path}");
    }
    assert_eq!(ask(&rig.admin(), post("stripe", "")).await.outcome(), (404, "not_found".into()));
    assert_eq!(ask(&rig.admin(), get("/whoami")).await.outcome(), (404, "not_found".into()));
    assert_eq!(ask(&rig.admin(), request("GET", "/status", "", "")).await.outcome(), (400, "invalid_request".into()));
}

#[tokio::test]
async fn whom_the_admin_socket_keeps_out_is_told_so_and_writes_no_store() {
    let test = "whom_the_admin_socket_keeps_out_is_told_so_and_writes_no_store";
    let setpriv = std::process::Command::new("setpriv").arg("--version").output();
    if !rustix::process::getuid().is_root() || setpriv.is_err() {
        return left_out(test, "root and `setpriv`");
    }
    let rig = Rig::new().await;
    open_to_all(rig.folder.path());
    let before = rig.records().len();
    for verb in [&["secret", "put", "local/client"][..], &["secret", "list"], &["status"], &["reload"]] {
        let mut command = tokio::process::Command::new("setpriv");
        command.args(["--reuid", "40001", "--regid", "40001", "--clear-groups", env!("CARGO_BIN_EXE_bursar")]);
        let command = command.arg("--config").arg(rig.config()).args(verb).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let _ = child.stdin.take().unwrap().write_all(b"value").await;
        let output = within(child.wait_with_output()).await.unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{verb:?}: {said}");
        assert!(said.contains("may not connect to") && said.contains("`agent.admin_group`"), "{verb:?}: {said}");
    }
    assert_eq!(rig.records().len(), before);
}
