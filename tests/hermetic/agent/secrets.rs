//! Secrets that workloads read: what is served, to whom, with which record, and what happens when the store changes or fails.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::{Value, json};

use super::rig::{Plan, Rig, SECRET_VALUE};
use super::wire::{Reply, ask, eventually, get, request};

async fn read(rig: &Rig, workload: &str, path: &str) -> Reply {
    ask(&rig.socket(workload), get(path)).await
}

/// A read by who says that it has `tag`.
async fn read_again(rig: &Rig, tag: &str) -> Reply {
    let headers = format!("Bursar: 1\r\nIf-None-Match: {tag}\r\n");
    ask(&rig.socket("checkout"), request("GET", "/secret/api-key", &headers, "")).await
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn a_secret_is_served_as_the_page_shows_with_its_record() {
    let rig = Plan::with_a_secret().raise_with_a_secret().await;
    let reply = read(&rig, "checkout", "/secret/api-key").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let (version, created) = (reply.text("version"), reply.text("created_at"));
    let whole = format!(
        r#"{{"name":"api-key","version":"{version}","value":"a \"key\"\n\\ of the rig: \u0007é","created_at":"{created}","rotates_at":null,"reread_after":300,"age":0,"stale":false}}"#
    );
    assert_eq!(text(&reply.body), whole);
    assert_eq!(reply.text("value"), SECRET_VALUE);
    assert_eq!(reply.header("etag"), Some(format!("W/\"{version}\"").as_str()));
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    let record = rig.record(&reply);
    for (key, value) in [
        ("kind", "release"),
        ("who", "checkout"),
        ("action", "secret"),
        ("resource_type", "Secret"),
        ("resource", "api-key"),
        ("freshness", "fresh"),
        ("version", version.as_str()),
    ] {
        assert_eq!(record.text(key), Some(value), "{key}");
    }
    assert!(["fingerprint", "intent", "granted", "expires"].iter().all(|key| record.get(key) == Some(&Value::Null)));
}

#[tokio::test]
async fn who_has_the_version_already_is_told_so_and_judged_and_recorded_all_the_same() {
    let rig = Plan::with_a_secret().raise_with_a_secret().await;
    let tag = read(&rig, "checkout", "/secret/api-key").await.header("etag").unwrap().to_owned();
    for tags in [tag.as_str(), tag.trim_start_matches("W/"), &format!("\"other\", {tag}")] {
        let reply = read_again(&rig, tags).await;
        assert_eq!((reply.status, reply.body.len()), (304, 0), "{tags}");
        assert_eq!((reply.header("etag"), reply.header("cache-control")), (Some(tag.as_str()), Some("no-store")));
        assert_eq!(rig.record(&reply).kind(), "release");
    }
    for tags in ["\"other\"", "*"] {
        assert_eq!(read_again(&rig, tags).await.status, 200, "{tags}");
    }
    assert_eq!(rig.put_by_command("api-key", "another").await.status.code(), Some(0));
    assert_eq!(read_again(&rig, &tag).await.text("value"), "another");
    rig.policy("keys.cedar", "");
    assert!(rig.run(&["reload"]).await.status.success());
    assert_eq!(read_again(&rig, &tag).await.outcome(), (403, "access_denied".into()), "a tag opens nothing");
}

#[tokio::test]
async fn what_is_put_is_served_at_once_and_the_version_before_by_its_id() {
    let rig = Plan::with_a_secret().raise_with_a_secret().await;
    let first = read(&rig, "checkout", "/secret/api-key").await.text("version");
    let mut former = Vec::new();
    for value in ["second", "third"] {
        former.push(read(&rig, "checkout", "/secret/api-key").await.text("version"));
        assert_eq!(rig.put_by_command("api-key", value).await.status.code(), Some(0));
        assert_eq!(read(&rig, "checkout", "/secret/api-key").await.text("value"), value);
    }
    let by_id = |id: &str| format!("/secret/api-key?version={id}");
    assert_eq!(read(&rig, "checkout", &by_id(&former[1])).await.text("value"), "second");
    for over in [&first, "none-such"] {
        let reply = read(&rig, "checkout", &by_id(over)).await;
        assert_eq!(reply.outcome(), (404, "not_found".into()), "{over}");
        assert_eq!(rig.record(&reply).text("code"), Some("not_found"));
    }
}

#[tokio::test]
async fn a_stranger_hears_the_same_of_a_secret_that_is_there_and_of_one_that_is_not() {
    let rig = Plan::with_a_secret().raise_with_a_secret().await;
    let told = |reply: Reply| {
        let mut body = reply.json();
        body["decision"] = Value::Null;
        (reply.status, body)
    };
    let there = told(read(&rig, "reports", "/secret/api-key").await);
    assert_eq!((there.0, &there.1["error"]), (403, &json!("access_denied")));
    let names = ["none", "unput", "local%2Fclient", "local%2Fstripe%2Fapi-key", "%ff", "A", "..%2Fapi-key"];
    for (workload, name) in names.map(|name| ("reports", name)).into_iter().chain([("checkout", "none")]) {
        assert_eq!(told(read(&rig, workload, &format!("/secret/{name}")).await), there, "{workload} {name}");
    }
    // Bursar's own credentials have no entry: they are no workload's, whatever policy says.
    assert_eq!(told(read(&rig, "checkout", "/secret/local%2Fclient").await), there);
    assert_eq!(read(&rig, "checkout", "/secret/unput").await.outcome(), (404, "not_found".into()));
}

#[tokio::test]
async fn a_request_that_is_not_understood_is_refused_and_recorded() {
    let rig = Plan::with_a_secret().raise_with_a_secret().await;
    for (asked, why) in [
        (request("GET", "/secret/api-key", "", ""), "send the header `Bursar: 1`"),
        (get("/secret/api-key?version=a%20b"), "a `version` is"),
        (get("/secret/api-key?version=a&version=b"), "may be given once"),
        (get("/secret/api-key?wait=6m"), "at most `5m`"),
    ] {
        let reply = ask(&rig.socket("checkout"), &asked).await;
        assert_eq!(reply.outcome(), (400, "invalid_request".into()), "{asked}");
        assert!(rig.record(&reply).text("detail").unwrap().contains(why), "{asked}");
    }
}

#[tokio::test]
async fn a_file_that_changes_is_seen_and_one_that_cannot_be_read_takes_nothing_away() {
    let mounted = crate::private_folder();
    let file = mounted.path().join("key");
    let write = |value: &[u8], mode: u32| {
        fs::write(&file, value).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    };
    write(b"first\n", 0o600);
    let tables = format!(
        "[store.mounted]\nkind = \"files\"\npath = {:?}\n[secret.mounted]\nstore = \"mounted\"\npath = \"key\"\n",
        mounted.path()
    );
    let rule = "@id(\"mounted\") permit (principal, action == Action::\"secret\", resource == Secret::\"mounted\");";
    let mut plan = Plan { tables, ..Plan::default() };
    plan.policies.insert("mounted.cedar".to_owned(), rule.to_owned());
    let rig = plan.raise().await;
    let look = async || read(&rig, "checkout", "/secret/mounted").await;
    assert_eq!(look().await.text("value"), "first");

    write(b"second\n", 0o600);
    let until = async |what: &str, is: fn(&Reply) -> bool| {
        eventually(what, async || {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Some(look().await).filter(is)
        })
        .await
    };
    until("the changed file", |reply| reply.text("value") == "second").await;
    // The store refuses a file that others can read: no value of it is new, and the one that is known stands.
    write(b"third\n", 0o644);
    let stale = until("stale", |reply| reply.json()["stale"] == true).await;
    assert_eq!((stale.status, stale.text("value")), (200, "second".into()));
    assert_eq!(rig.record(&stale).text("freshness"), Some("stale"));
    write(b"fourth\n", 0o600);
    until("its recovery", |reply| reply.text("value") == "fourth" && reply.json()["stale"] == false).await;
    write(b"\xff\xfe", 0o600);
    let bytes = until("bytes", |reply| reply.status == 200 && reply.json()["encoding"] == "base64").await;
    assert_eq!(bytes.text("value"), "//4=");
    fs::remove_file(&file).unwrap();
    until("its end", |reply| reply.outcome() == (404, "not_found".into())).await;
}

#[tokio::test]
async fn the_command_prints_the_value_alone_or_the_whole_answer() {
    let mut rig = Plan::with_a_secret().raise_with_a_secret().await;
    let (checkout, reports) = (rig.socket("checkout"), rig.socket("reports"));
    let (checkout, reports) = (checkout.to_str().unwrap(), reports.to_str().unwrap());
    let output = rig.run(&["--socket", checkout, "secret", "get", "api-key"]).await;
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), format!("{SECRET_VALUE}\n")), "{output:?}");
    let output = rig.run(&["--socket", checkout, "--json", "secret", "get", "api-key"]).await;
    let whole: Value = serde_json::from_slice(&output.stdout).unwrap();
    let version = whole["version"].as_str().unwrap();
    assert_eq!(whole["value"], SECRET_VALUE);
    let output = rig.run(&["--socket", checkout, "secret", "get", "api-key", "--version", version]).await;
    assert_eq!(output.status.code(), Some(0));
    let output = rig.run(&["--socket", reports, "secret", "get", "api-key"]).await;
    assert_eq!((output.status.code(), output.stdout.len()), (Some(3), 0));

    let listed = rig.run(&["secret", "versions", "api-key", "--json"]).await;
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let created = &whole["created_at"];
    assert_eq!(listed, json!([{ "version": version, "stages": ["Current"], "created_at": created, "by": "put" }]));
    let shown = text(&rig.run(&["secret", "versions", "local/stripe/api-key"]).await.stdout);
    assert!(shown.starts_with("VERSION") && shown.contains(version) && !shown.contains("key\""), "{shown}");
    let record = rig.records_of("operation").pop().unwrap();
    assert_eq!((record.text("action"), record.text("result")), (Some("list"), Some("ok")));
    assert_eq!(rig.run(&["secret", "versions", "local/none"]).await.status.code(), Some(1));
    assert!(rig.stop().await.success());
    let offline = rig.run(&["secret", "versions", "api-key", "--json"]).await;
    assert_eq!(serde_json::from_slice::<Value>(&offline.stdout).unwrap(), listed);
}
