//! Stores as a whole, and secrets on their way into them, through an agent that serves.

use std::fs;

use serde_json::{Value, json};

use super::rig::{Plan, Rig};
use super::wire::{ask, get, request};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

async fn done(rig: &Rig, arguments: &[&str]) -> String {
    let output = rig.run(arguments).await;
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

#[tokio::test]
async fn the_key_is_changed_under_load_and_the_next_start_has_it() {
    let mut rig = Plan::with_a_secret().raise_with_a_secret().await;
    let key = || fs::read(rig.path("state/local.key")).unwrap();
    let old = key();
    let (readers, rekeys) = (
        async {
            for _ in 0..60 {
                assert_eq!(ask(&rig.socket("checkout"), get("/secret/api-key")).await.status, 200);
                assert!(rig.put_by_command("local/other", "value").await.status.success());
            }
        },
        async {
            for _ in 0..5 {
                assert!(done(&rig, &["store", "rekey", "local"]).await.contains("under the new key"));
            }
        },
    );
    tokio::join!(readers, rekeys);
    assert_ne!(key(), old);
    let records = rig.records();
    let at = records.iter().position(|line| line.text("effect") == Some("rekey")).unwrap();
    assert_eq!((records[at].text("actor"), records[at].text("resource")), (Some("operator"), Some("local")));
    assert!(records.iter().any(|line| line.text("action") == Some("maintain") && line.text("result") == Some("ok")));
    rig.kill().await;
    rig.start().await;
    assert_eq!(ask(&rig.socket("checkout"), get("/secret/api-key")).await.status, 200);
    assert!(done(&rig, &["store", "check", "local"]).await.starts_with("ok: local: "));
}

#[tokio::test]
async fn a_backup_of_a_store_in_use_is_restored_when_the_agent_has_stopped() {
    let mut rig = Plan::with_a_secret().raise_with_a_secret().await;
    let backup = rig.path("backup.db");
    let backup = backup.to_str().unwrap();
    let told: Value =
        serde_json::from_str(&done(&rig, &["--json", "store", "backup", "local", "--out", backup]).await).unwrap();
    assert_eq!((&told["checked"]["secrets"], &told["checked"]["damage"]), (&json!(3), &json!([])));
    assert!(rig.put_by_command("api-key", "another value").await.status.success());
    let output = rig.run(&["store", "restore", "local", "--from", backup]).await;
    assert!(output.status.code() == Some(1) && text(&output.stderr).contains("systemctl stop bursar"));
    rig.stop().await;
    done(&rig, &["store", "restore", "local", "--from", backup]).await;
    rig.start().await;
    assert_eq!(ask(&rig.socket("checkout"), get("/secret/api-key")).await.text("value"), super::rig::SECRET_VALUE);
    let left: Vec<_> = fs::read_dir(rig.path("state")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| text(name.as_encoded_bytes()).contains(".copy")), "{left:?}");
}

#[tokio::test]
async fn who_may_not_look_after_stores_does_not_and_the_key_is_not_even_read() {
    let mut plan = Plan::default();
    let rule = "@id(\"put\") permit (principal, action in [Action::\"put\", Action::\"list\"], resource);";
    plan.policies.insert("operators.cedar".into(), rule.into());
    let rig = plan.raise().await;
    let before = fs::read(rig.path("state/local.key")).unwrap();
    for path in ["/stores/local/rekey", "/stores/local/backup", "/stores/local/check", "/stores/nowhere/check"] {
        assert_eq!(rig.operate("POST", path, "").await.outcome(), (403, "access_denied".into()), "{path}");
        assert_eq!(ask(&rig.admin(), request("POST", path, "", "")).await.outcome(), (400, "invalid_request".into()));
    }
    // To copy is to read: who may put does not get at a value of another name by it.
    let copy = rig.operate("POST", "/secrets/local/mine?from=local/client", "").await;
    assert_eq!(copy.outcome(), (403, "access_denied".into()));
    assert_eq!(
        rig.operate("DELETE", "/secrets/local/client?version=x", "").await.outcome(),
        (403, "access_denied".into())
    );
    let output = rig.run(&["store", "check", "local"]).await;
    assert_eq!(output.status.code(), Some(3));
    let head = "POST /stores/local/rekey HTTP/1.1\r\nHost: localhost\r\nBursar: 1\r\nExpect: 100-continue\r\nContent-Length: 64\r\n\r\n";
    let mut wire = super::wire::Wire::to(&rig.admin()).await;
    wire.send(head).await;
    assert_eq!(wire.interim().await.unwrap().status, 403);
    assert_eq!(fs::read(rig.path("state/local.key")).unwrap(), before);
}

#[tokio::test]
async fn what_cannot_be_looked_after_says_why() {
    let mounted = crate::private_folder();
    let tables = format!("[store.mounted]\nkind = \"files\"\npath = {:?}\n", mounted.path());
    let rig = Plan { tables, ..Plan::default() }.raise().await;
    for (method, path, body) in [
        ("POST", "/stores/nowhere/check", ""),
        ("POST", "/stores/mounted/rekey", ""),
        ("POST", "/stores/local/rekey", "no key"),
        ("POST", "/stores/UPPER/check", ""),
        ("POST", "/secrets/local/a", ""),
        ("POST", "/secrets/local/a?from=%2F", ""),
        ("DELETE", "/secrets/local/client", ""),
    ] {
        let reply = rig.operate(method, path, body).await;
        assert_eq!(reply.outcome(), (400, "invalid_request".into()), "{path}: {}", reply.json());
        assert_eq!(rig.record(&reply).text("actor"), Some("operator"));
    }
    assert_eq!(rig.operate("POST", "/stores/local/rekey", &"0".repeat(80)).await.outcome(), (413, "too_large".into()));
    assert_eq!(rig.operate("POST", "/stores/local/rekey?credential=1", "").await.outcome().1, "store_setup");
    let missing = rig.operate("POST", "/secrets/local/a?from=local/none", "").await;
    assert_eq!(missing.outcome().1, "store_not_found");
}

#[tokio::test]
async fn an_import_through_the_agent_is_repeatable_and_served() {
    let mounted = crate::private_folder();
    let tables = format!("[store.mounted]\nkind = \"files\"\npath = {:?}\n", mounted.path());
    fs::create_dir(mounted.path().join("stripe")).unwrap();
    let file = mounted.path().join("stripe/api-key");
    fs::write(&file, "imported\n").unwrap();
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let plan = Plan::with_a_secret();
    let rig = Plan { tables: plan.tables.clone() + &tables, ..plan }.raise().await;
    let told = done(&rig, &["secret", "import", "--from", "mounted", "local", "--dry-run"]).await;
    assert!(told.contains("local/stripe/api-key: would put"), "{told}");
    assert_eq!(ask(&rig.socket("checkout"), get("/secret/api-key")).await.status, 404);
    assert!(done(&rig, &["secret", "import", "--from", "mounted", "local"]).await.contains("1 put"));
    assert_eq!(ask(&rig.socket("checkout"), get("/secret/api-key")).await.text("value"), "imported");
    let intents = |rig: &Rig| rig.records_of("intent").iter().filter(|line| line.text("effect") == Some("put")).count();
    let before = intents(&rig);
    for from in ["mounted", mounted.path().to_str().unwrap()] {
        let told = done(&rig, &["secret", "import", "--from", from, "local"]).await;
        assert!(told.contains("1 unchanged") && !told.contains("imported"), "{told}");
    }
    assert_eq!(intents(&rig), before, "nothing was put again");

    assert!(rig.put_by_command("api-key", "newer").await.status.success());
    let listed: Value = serde_json::from_str(&done(&rig, &["--json", "secret", "versions", "api-key"]).await).unwrap();
    let id = listed[1]["version"].as_str().unwrap();
    assert!(done(&rig, &["secret", "retire", "api-key", "--version", id]).await.contains("is retired"));
    assert_eq!(rig.run(&["secret", "retire", "api-key", "--version", id]).await.status.code(), Some(0), "again");
}
