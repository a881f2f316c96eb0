//! Reload: all or nothing, at once, and said in the log.

use std::process::Output;

use rustix::process::Signal;

use super::rig::{Rig, workloads};
use super::wire::{eventually, get, post};

/// `reports` may have stripe.
const REPORTS_TOO: &str = r#"@id("reports-too")
permit (principal == Workload::"reports", action == Action::"token", resource == Provider::"stripe");
"#;

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

async fn digest(rig: &Rig) -> String {
    rig.operate("GET", "/status", "").await.text("policy")
}

#[tokio::test]
async fn faults_are_named_with_their_places_and_the_old_rules_stay() {
    let mut rig = Rig::new().await;
    let (token, before) = (rig.token("checkout", "stripe", "").await.token(), digest(&rig).await);
    rig.policy(
        "checkout.cedar",
        "// nothing\n@id(\"a\")\npermit (principal == Workload::\"nobody\", action, resource);\n",
    );
    rig.policy("lab.cedar", "@id(\"b\")\npermit (principal action);\n");
    let output = rig.run(&["reload"]).await;
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    for place in ["checkout.cedar:3:22", "lab.cedar:2:19"] {
        assert!(stderr(&output).contains(place), "no `{place}` in {}", stderr(&output));
    }
    let json = rig.run(&["reload", "--json"]).await;
    let said: serde_json::Value = serde_json::from_slice(&json.stderr).unwrap();
    assert_eq!((said["faults"][0]["place"]["line"].as_u64(), json.status.code()), (Some(3), Some(1)));
    assert_eq!(rig.token("checkout", "stripe", "").await.token(), token);
    assert_eq!(digest(&rig).await, before);
    let reload = rig.records_of("reload").pop().unwrap();
    assert_eq!((reload.text("result"), reload.text("policy_digest")), (Some("kept"), Some(before.as_str())));
    let said = rig.said();
    let line = said.lines().find(|line| line.contains("not reloaded by `root`")).unwrap_or_else(|| panic!("{said}"));
    assert!(line.contains("WARN") && line.contains("2 faults; the first: "), "{line}");
    assert!(line.contains("checkout.cedar:3:22"), "{line}");
    assert!(rig.agent().lives());
}

#[tokio::test]
async fn a_pipe_in_the_place_of_a_file_does_not_hold_up_a_reload() {
    let mut rig = Rig::new().await;
    for name in ["workloads.toml", "pipe.cedar"] {
        let path = rig.path("policies").join(name);
        let _ = std::fs::remove_file(&path);
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    }
    let output = rig.run(&["reload"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("it is not a regular file"), "{}", stderr(&output));
    assert_eq!(rig.token("checkout", "stripe", "").await.status, 200);
    assert!(rig.agent().lives());
}

#[tokio::test]
async fn a_configuration_with_faults_changes_nothing_at_all() {
    let mut rig = Rig::new().await;
    rig.policy("more.cedar", REPORTS_TOO);
    rig.reconfigure("[provider.crm]\n", "[provider.crm]\nscope = 5\n");
    rig.reconfigure("[provider.bare]\n", "[provider.bare]\nno toml\n");
    let output = rig.run(&["reload"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("bursar.toml:") && stderr(&output).contains("`scope`"), "{}", stderr(&output));
    assert_eq!(rig.token("reports", "stripe", "").await.status, 403, "the good half does not come into force either");
    assert!(rig.agent().lives());
}

#[tokio::test]
async fn new_rules_hold_at_once_on_connections_that_are_open() {
    let rig = Rig::new().await;
    let (mut reports, mut checkout) = (rig.wire("reports").await, rig.wire("checkout").await);
    assert_eq!(reports.ask(post("stripe", "")).await.unwrap().status, 403);
    assert_eq!(checkout.ask(post("stripe", "")).await.unwrap().status, 200);
    rig.policy("more.cedar", REPORTS_TOO);
    rig.policy("checkout.cedar", "");
    let output = rig.run(&["reload"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(reports.ask(post("stripe", "")).await.unwrap().status, 200);
    let refused = checkout.ask(post("stripe", "")).await.unwrap();
    assert_eq!(refused.outcome(), (403, "access_denied".into()), "although its token is held and alive");
    let reload = rig.records_of("reload").pop().unwrap();
    assert_eq!((reload.text("result"), reload.text("policy_digest")), (Some("ok"), Some(digest(&rig).await.as_str())));
    assert_eq!(rig.record(&refused).text("policy_digest"), reload.text("policy_digest"));
    let said = rig.said();
    assert!(said.lines().any(|line| line.contains("INFO") && line.contains("reloaded by `root`")), "{said}");
}

#[tokio::test]
async fn who_is_no_workload_any_more_is_nobody_on_its_open_connection_too() {
    let rig = Rig::new().await;
    let mut wire = rig.wire("reports").await;
    assert_eq!(wire.ask(post("crm", "")).await.unwrap().status, 200);
    rig.policy("workloads.toml", &workloads("").replace("[workload.reports]\n", "[workload.reports]\nuid = 4000000\n"));
    assert_eq!(rig.run(&["reload"]).await.status.code(), Some(0));
    assert_eq!(wire.ask(post("crm", "")).await.unwrap().outcome(), (403, "unidentified".into()));
}

#[tokio::test]
async fn a_provider_that_changed_loses_its_tokens_and_another_keeps_them() {
    let rig = Rig::new().await;
    let kept = rig.token("checkout", "stripe", "").await.token();
    let crm = rig.token("reports", "crm", "").await.token();
    assert_eq!(rig.issued(), 2);
    rig.reconfigure("[provider.crm]\n", "[provider.crm]\nrefresh_at = 0.5\n");
    assert_eq!(rig.run(&["reload"]).await.status.code(), Some(0));
    assert_eq!(rig.token("checkout", "stripe", "").await.token(), kept);
    assert_ne!(rig.token("reports", "crm", "").await.token(), crm);
    assert_eq!(rig.issued(), 3);
    rig.reconfigure("[provider.stripe]\n", "[provider.other]\n");
    rig.policy("checkout.cedar", "");
    assert_eq!(rig.run(&["reload"]).await.status.code(), Some(0));
    assert_eq!(rig.token("checkout", "stripe", "").await.status, 403, "a provider that is gone is unknown");
}

#[tokio::test]
async fn sighup_reloads_and_says_what_is_wrong_on_standard_error() {
    let mut rig = Rig::new().await;
    rig.policy("more.cedar", REPORTS_TOO);
    rig.agent().signal(Signal::HUP);
    eventually("the new rules hold", || async {
        (rig.token("reports", "stripe", "").await.status == 200).then_some(())
    })
    .await;
    rig.policy("more.cedar", "permit (");
    rig.agent().signal(Signal::HUP);
    eventually("the fault is said", || async { rig.said().contains("more.cedar:1:").then_some(()) }).await;
    eventually("it is recorded", || async { (rig.records_of("reload").len() == 2).then_some(()) }).await;
    assert_eq!(rig.token("reports", "stripe", "").await.status, 200);
}

#[tokio::test]
async fn what_only_a_restart_may_change_is_refused_by_its_key() {
    let rig = Rig::new().await;
    let log = format!("{:?}", rig.log);
    for (from, to, key) in [
        ("socket = \"bursar.sock\"", "socket = \"other.sock\"", "agent.socket"),
        ("admin_socket = \"admin.sock\"", "admin_socket = \"other.sock\"", "agent.admin_socket"),
        ("state_dir = \"state\"", "state_dir = \"elsewhere\"", "agent.state_dir"),
        ("\"reports/bursar.sock\"", "\"reports/other.sock\"", "agent.listener"),
        ("[store.local]\nkind = \"sealed\"", "[store.local]\nkind = \"sealed\"\npath = \"other.db\"", "store.local"),
        (&format!("dir = {log}"), "dir = \"elsewhere\"", "audit.dir"),
    ] {
        rig.reconfigure(from, to);
        let output = rig.run(&["--admin-socket", rig.admin().to_str().unwrap(), "reload"]).await;
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{key}: {said}");
        assert!(said.contains(&format!("`{key}` cannot be changed by a reload")), "{key}: {said}");
        assert!(said.contains("bursar.toml:"), "{key}: {said}");
        rig.reconfigure(to, from);
    }
    assert_eq!(rig.run(&["reload"]).await.status.code(), Some(0), "the old values are good again");
    assert!(!rig.path("elsewhere").exists() && !rig.path("other.db").exists());
}

#[tokio::test]
async fn reloads_under_load_lose_no_request() {
    let rig = Rig::new().await;
    assert_eq!(rig.token("checkout", "stripe", "").await.status, 200);
    let asking = async {
        let mut wire = rig.wire("checkout").await;
        for _ in 0..300 {
            assert_eq!(wire.ask(get("/token/stripe")).await.unwrap().status, 200);
        }
    };
    let reloading = async {
        for nth in 0..10 {
            rig.policy("more.cedar", if nth % 2 == 0 { REPORTS_TOO } else { "" });
            assert_eq!(rig.operate("POST", "/reload", "").await.json()["reloaded"], true);
        }
    };
    tokio::join!(asking, reloading);
    assert_eq!(rig.issued(), 1);
    assert_eq!(rig.records_of("reload").len(), 10);
}
