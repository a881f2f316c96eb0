//! Files for programs that cannot ask: what stands in them, when it changes, and what becomes of them when anything goes
//! wrong on the way.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use bursar::audit::form::Line;
use serde_json::Value;

use super::crashes::Small;
use super::rig::{Plan, Rig, SECRET_VALUE, left_out};
use super::wire::eventually;

/// A plan that delivers `entries` for `checkout`, with the folder `out` in the rig's.
fn plan(entries: &str) -> Plan {
    let mut plan = Plan::with_a_secret();
    plan.tables += entries;
    plan
}

async fn raise(plan: Plan) -> Rig {
    let mut rig = plan.lay().await;
    fs::create_dir(rig.path("out")).unwrap();
    fs::set_permissions(rig.path("out"), fs::Permissions::from_mode(0o755)).unwrap();
    assert!(rig.put_by_command("api-key", SECRET_VALUE).await.status.success());
    rig.start().await;
    rig
}

const KEY: &str = "[deliver.key]\nworkload = \"checkout\"\npath = \"FOLDER/out/key\"\nsecret = \"api-key\"\n";

async fn holds(path: &Path, wanted: &str) {
    let text = || fs::read_to_string(path).unwrap_or_default();
    eventually(wanted, || async { (text() == wanted).then_some(()) }).await;
}

async fn status(rig: &Rig, name: &str) -> Value {
    let all = rig.operate("GET", "/status", "").await.json();
    let all = all["deliveries"].as_array().cloned().unwrap_or_default();
    all.into_iter().find(|one| one["name"] == name).unwrap_or_default()
}

async fn comes_to(rig: &Rig, name: &str, state: &str, error: &str) {
    eventually(&format!("{name} is {state}: {error}"), || async {
        let one = status(rig, name).await;
        let said = one["error"].as_str().unwrap_or_default();
        (one["state"] == state && said.contains(error)).then_some(())
    })
    .await;
}

/// The intents of the delivery `name` with `effect`, each with its outcome.
fn acts(rig: &Rig, name: &str, effect: &str) -> Vec<(Line, Option<Line>)> {
    let records = rig.records();
    let outcome = |intent: u64| {
        records.iter().find(|one| one.kind() == "outcome" && one.number("intent") == Some(intent)).cloned()
    };
    let is_one = |line: &&Line| line.text("effect") == Some(effect) && line.text("resource") == Some(name);
    records.iter().filter(is_one).map(|line| (line.clone(), outcome(line.index()))).collect()
}

fn result(acts: &[(Line, Option<Line>)], nth: usize) -> (String, String) {
    let outcome = acts[nth].1.as_ref().expect("an outcome");
    let text = |key| outcome.text(key).unwrap_or_default().to_owned();
    (text("result"), if text("result") == "ok" { text("detail") } else { text("code") })
}

#[tokio::test]
async fn a_secret_a_token_and_a_template_are_put_recorded_first_and_follow_their_values() {
    let entries = "[deliver.token]\nworkload = \"checkout\"\npath = \"FOLDER/out/token\"\nmode = \"0440\"\n\
                   token = { provider = \"stripe\", scopes = [\"charges:read\"] }\n\
                   [deliver.conf]\nworkload = \"checkout\"\npath = \"FOLDER/out/conf\"\ntemplate = \"conf.j2\"\n";
    let template = "key={{ secret('api-key') }}\ntoken={{ token('stripe', scopes=['charges:read']) }}\n";
    let plan = plan(&(KEY.to_owned() + entries));
    let mut rig = plan.lay().await;
    fs::create_dir(rig.path("out")).unwrap();
    fs::write(rig.path("conf.j2"), template).unwrap();
    assert!(rig.put_by_command("api-key", SECRET_VALUE).await.status.success());
    rig.start().await;
    let key = rig.path("out/key");
    holds(&key, SECRET_VALUE).await;
    assert_eq!(fs::metadata(&key).unwrap().mode() & 0o7777, 0o400);
    comes_to(&rig, "token", "current", "").await;
    let token = fs::read_to_string(rig.path("out/token")).unwrap();
    assert_eq!(fs::metadata(rig.path("out/token")).unwrap().mode() & 0o7777, 0o440);
    assert!(token.len() > 20, "{token}");
    comes_to(&rig, "conf", "current", "").await;
    holds(&rig.path("out/conf"), &format!("key={SECRET_VALUE}\ntoken={token}\n")).await;

    // The record of each value stands between the intent and the outcome of its delivery.
    let acts = acts(&rig, "key", "deliver");
    assert_eq!(result(&acts, 0), ("ok".into(), "written".into()));
    let (intent, outcome) = (&acts[0].0, acts[0].1.as_ref().unwrap());
    assert_eq!((intent.text("who"), intent.text("path")), (Some("checkout"), key.to_str()));
    let release = rig.records_of("release").into_iter().find(|line| line.get("facts").unwrap()["delivery"] == "key");
    let release = release.unwrap();
    assert!((intent.index()..outcome.index()).contains(&release.index()));
    assert_eq!((release.text("resource"), release.text("verdict")), (Some("api-key"), Some("permit")));

    let before = fs::metadata(&key).unwrap();
    assert!(rig.put_by_command("api-key", "another").await.status.success());
    holds(&key, "another").await;
    holds(&rig.path("out/conf"), &format!("key=another\ntoken={token}\n")).await;
    assert_ne!(before.ino(), fs::metadata(&key).unwrap().ino(), "it is another file, not another content");
    let metrics = String::from_utf8(rig.operate("GET", "/metrics", "").await.body).unwrap();
    assert!(metrics.contains("bursar_deliveries{state=\"current\"} 3"), "{metrics}");
    assert!(metrics.contains("bursar_delivery_acts_total{act=\"deliver\"} 5"), "{metrics}");
}

#[tokio::test]
async fn what_did_not_change_is_not_rewritten_not_even_by_another_agent() {
    let mut rig = raise(plan(KEY)).await;
    let key = rig.path("out/key");
    holds(&key, SECRET_VALUE).await;
    comes_to(&rig, "key", "current", "").await;
    let before = fs::metadata(&key).unwrap();
    assert!(rig.stop().await.success());
    rig.start().await;
    comes_to(&rig, "key", "current", "").await;
    let after = fs::metadata(&key).unwrap();
    assert_eq!((before.ino(), before.mtime_nsec()), (after.ino(), after.mtime_nsec()));
    let acts = acts(&rig, "key", "deliver");
    assert_eq!((acts.len(), result(&acts, 1)), (2, ("ok".into(), "unchanged".into())));
    fs::remove_file(&key).unwrap();
    holds(&key, SECRET_VALUE).await;
}

#[tokio::test]
async fn a_reader_sees_the_old_or_the_new_and_never_half() {
    let rig = raise(plan(KEY)).await;
    let key = rig.path("out/key");
    holds(&key, SECRET_VALUE).await;
    let values: Vec<String> = ('a'..='d').map(|letter| letter.to_string().repeat(60_000)).collect();
    let (path, done) = (key.clone(), std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false)));
    let stop = std::sync::Arc::clone(&done);
    let reader = std::thread::spawn(move || {
        let mut seen = std::collections::BTreeSet::new();
        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
            let read = fs::read(&path).unwrap();
            let whole =
                read == SECRET_VALUE.as_bytes() || (read.len() == 60_000 && read.iter().all(|one| *one == read[0]));
            assert!(whole, "half of a value, of {} bytes", read.len());
            seen.insert(read[0]);
        }
        seen.len()
    });
    for value in &values {
        assert!(rig.put_by_command("api-key", value).await.status.success());
        holds(&key, value).await;
    }
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(reader.join().unwrap() > 1);
}

#[tokio::test]
async fn a_template_with_a_missing_secret_leaves_the_old_file() {
    let entry = "[deliver.conf]\nworkload = \"checkout\"\npath = \"FOLDER/out/conf\"\ntemplate = \"conf.j2\"\n";
    let mut rig = plan(entry).lay().await;
    fs::create_dir(rig.path("out")).unwrap();
    fs::write(rig.path("conf.j2"), "{{ secret('api-key') }}{{ secret('unput') }}").unwrap();
    fs::write(rig.path("out/conf"), "the old one").unwrap();
    assert!(rig.put_by_command("api-key", "{}").await.status.success());
    rig.start().await;
    comes_to(&rig, "conf", "failing", "no such version of this secret").await;
    assert_eq!(fs::read(rig.path("out/conf")).unwrap(), b"the old one");
    // Nothing was released for it: what is missing was asked for before anything left.
    assert!(rig.records_of("release").is_empty() && acts(&rig, "conf", "deliver").is_empty());
    assert!(rig.put_by_command("unput", "!").await.status.success());
    holds(&rig.path("out/conf"), "{}!").await;

    fs::write(rig.path("conf.j2"), "{{ secret_json('api-key').none }}").unwrap();
    assert!(rig.run(&["reload"]).await.status.success());
    comes_to(&rig, "conf", "failing", "the template is wrong in line 1: undefined value").await;
    assert_eq!(fs::read(rig.path("out/conf")).unwrap(), b"{}!");
    assert_eq!(result(&acts(&rig, "conf", "deliver"), 1), ("failed".into(), "template".into()));
    fs::write(rig.path("conf.j2"), "{{ secret('apikey') }}{{").unwrap();
    let reload = rig.run(&["reload"]).await;
    let said = String::from_utf8_lossy(&reload.stderr).into_owned();
    assert!(!reload.status.success() && said.contains("conf.j2:1") && said.contains("syntax error"), "{said}");
    fs::write(rig.path("conf.j2"), "{{ secret('apikey') }}").unwrap();
    let said = String::from_utf8_lossy(&rig.run(&["check"]).await.stdout).into_owned();
    assert!(said.contains("wants the secret `apikey`, and there is none"), "{said}");
}

#[tokio::test]
async fn a_full_file_system_leaves_the_old_file_until_there_is_room() {
    let test = "a_full_file_system_leaves_the_old_file_until_there_is_room";
    let mut rig = plan(KEY).lay().await;
    let Some(small) = Small::mount(&rig.path("out"), "64k") else { return left_out(test, "root that may mount") };
    fs::set_permissions(&small.0, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(rig.put_by_command("api-key", "old").await.status.success());
    rig.start().await;
    let key = rig.path("out/key");
    holds(&key, "old").await;
    assert!(fs::write(small.0.join("ballast"), vec![0; 1 << 20]).is_err(), "it is full");
    let value = "n".repeat(30_000);
    assert!(rig.put_by_command("api-key", &value).await.status.success());
    comes_to(&rig, "key", "failing", "make room on that file system").await;
    assert_eq!(fs::read(&key).unwrap(), b"old");
    assert_eq!(fs::read_dir(&small.0).unwrap().count(), 2, "nothing is left beside it");
    assert_eq!(result(&acts(&rig, "key", "deliver"), 1), ("failed".into(), "disk_full".into()));
    fs::remove_file(small.0.join("ballast")).unwrap();
    holds(&key, &value).await;
    eventually("that it is well again", async || {
        rig.said().contains("the file is as it should be again").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_read_only_file_system_leaves_the_old_file() {
    let test = "a_read_only_file_system_leaves_the_old_file";
    let mut rig = plan(KEY).lay().await;
    let Some(small) = Small::mount(&rig.path("out"), "64k") else { return left_out(test, "root that may mount") };
    fs::set_permissions(&small.0, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(rig.put_by_command("api-key", "old").await.status.success());
    rig.start().await;
    let key = rig.path("out/key");
    holds(&key, "old").await;
    let remount = |how: &str| {
        let mut mount = std::process::Command::new("mount");
        assert!(mount.args(["-o", &format!("remount,{how}")]).arg(&small.0).status().unwrap().success());
    };
    remount("ro");
    assert!(rig.put_by_command("api-key", "new").await.status.success());
    comes_to(&rig, "key", "failing", "`ReadWritePaths=`").await;
    assert_eq!(fs::read(&key).unwrap(), b"old");
    assert_eq!(result(&acts(&rig, "key", "deliver"), 1), ("failed".into(), "read_only".into()));
    remount("rw");
    holds(&key, "new").await;
}

#[tokio::test]
async fn nothing_is_put_through_a_symbolic_link_or_where_others_write() {
    let entries = "[deliver.open]\nworkload = \"checkout\"\npath = \"FOLDER/open/key\"\nsecret = \"api-key\"\n";
    let mut rig = plan(&(KEY.to_owned() + entries)).lay().await;
    for (folder, mode) in [("out", 0o755), ("open", 0o777)] {
        fs::create_dir(rig.path(folder)).unwrap();
        fs::set_permissions(rig.path(folder), fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::write(rig.path("victim"), "theirs").unwrap();
    for beside in ["out/key", "out/.key.bursar"] {
        symlink(rig.path("victim"), rig.path(beside)).unwrap();
    }
    assert!(rig.put_by_command("api-key", SECRET_VALUE).await.status.success());
    rig.start().await;
    comes_to(&rig, "key", "failing", "a symbolic link, and stays").await;
    comes_to(&rig, "open", "failing", "not only its owner may write in this folder").await;
    assert_eq!(fs::read(rig.path("victim")).unwrap(), b"theirs");
    assert_eq!(fs::read_dir(rig.path("open")).unwrap().count(), 0);
    assert_eq!(result(&acts(&rig, "open", "deliver"), 0), ("failed".into(), "unsafe_folder".into()));
    fs::remove_file(rig.path("out/key")).unwrap();
    holds(&rig.path("out/key"), SECRET_VALUE).await;
    assert_eq!(fs::read(rig.path("victim")).unwrap(), b"theirs");
}

#[tokio::test]
async fn what_policy_takes_back_is_removed_and_what_is_to_stay_stays() {
    let entries = "[deliver.kept]\nworkload = \"checkout\"\npath = \"FOLDER/out/kept\"\nsecret = \"api-key\"\n\
                   on_denied = \"keep\"\n";
    let rig = raise(plan(&(KEY.to_owned() + entries))).await;
    for name in ["out/key", "out/kept"] {
        holds(&rig.path(name), SECRET_VALUE).await;
    }
    let rule = fs::read_to_string(rig.path("policies/keys.cedar")).unwrap();
    rig.policy("keys.cedar", "");
    assert!(rig.run(&["reload"]).await.status.success());
    eventually("the file is gone", || async { (!rig.path("out/key").exists()).then_some(()) }).await;
    comes_to(&rig, "key", "denied", "policy does not allow this").await;
    comes_to(&rig, "kept", "denied", "policy does not allow this").await;
    assert!(rig.path("out/kept").exists());
    assert_eq!(result(&acts(&rig, "key", "withdraw"), 0), ("ok".into(), "removed".into()));
    let refused = rig.records_of("refusal");
    assert_eq!(refused.len(), 2, "a denial is recorded, and not again each second: {refused:?}");
    assert_eq!(refused[0].text("verdict"), Some("no_permit"));
    assert!(rig.said().contains("the file was removed: policy does not allow it any more"));

    rig.policy("keys.cedar", &rule);
    assert!(rig.run(&["reload"]).await.status.success());
    holds(&rig.path("out/key"), SECRET_VALUE).await;
    // An entry that is taken out takes its file along.
    rig.reconfigure("[deliver.key]", "[deliver.other]");
    rig.reconfigure("out/key", "out/other");
    assert!(rig.run(&["reload"]).await.status.success());
    holds(&rig.path("out/other"), SECRET_VALUE).await;
    eventually("the file is gone", || async { (!rig.path("out/key").exists()).then_some(()) }).await;
    eventually("it is not shown", || async { status(&rig, "key").await.is_null().then_some(()) }).await;
}

#[tokio::test]
async fn a_token_is_renewed_in_the_file_and_one_that_cannot_be_is_told_of() {
    let entry =
        "[deliver.token]\nworkload = \"checkout\"\npath = \"FOLDER/out/token\"\ntoken = { provider = \"stripe\" }\n";
    let mut rig = raise(Plan { lifetime: Duration::from_secs(4), ..plan(entry) }).await;
    let path = rig.path("out/token");
    let text = || fs::read_to_string(&path).unwrap_or_default();
    let first = eventually("a token", || async { Some(text()).filter(|text| !text.is_empty()) }).await;
    eventually("another", || async { (text() != first).then_some(()) }).await;
    rig.stop_issuer();
    comes_to(&rig, "token", "failing", "temporarily_unavailable").await;
    eventually("its end is seen", || async { status(&rig, "token").await["expired"].as_bool().filter(|it| *it) }).await;
    assert!(path.exists(), "the file stays");
    let metrics = String::from_utf8(rig.operate("GET", "/metrics", "").await.body).unwrap();
    assert!(metrics.contains("bursar_deliveries_expired 1"), "{metrics}");
    assert!(rig.said().contains("a token in the file has ended and could not be renewed"), "{}", rig.said());
    let last = text();
    rig.start_issuer().await;
    eventually("another", || async { (text() != last).then_some(()) }).await;
    comes_to(&rig, "token", "current", "").await;
}

#[tokio::test]
async fn a_reader_is_told_by_command_and_by_signal() {
    let entries = "then = { command = [\"/bin/sh\", \"-c\", \"env > FOLDER/told; cat FOLDER/out/key >> FOLDER/told\"] }\n\
                   [deliver.signal]\nworkload = \"checkout\"\npath = \"FOLDER/out/signal\"\nsecret = \"api-key\"\n\
                   then = { signal = \"TERM\", pid_file = \"FOLDER/pid\" }\n";
    let mut rig = plan(&(KEY.to_owned() + entries)).lay().await;
    fs::create_dir(rig.path("out")).unwrap();
    let mut reader = tokio::process::Command::new("sleep").arg("600").kill_on_drop(true).spawn().unwrap();
    fs::write(rig.path("pid"), format!("{}\n", reader.id().unwrap())).unwrap();
    assert!(rig.put_by_command("api-key", "value").await.status.success());
    rig.start().await;
    let told = eventually("it is told", || async {
        Some(fs::read_to_string(rig.path("told")).unwrap_or_default()).filter(|told| told.ends_with("value"))
    })
    .await;
    assert!(told.contains("BURSAR_DELIVERY=key\n") && told.contains(rig.path("out/key").to_str().unwrap()), "{told}");
    assert!(!told.contains("NOTIFY_SOCKET"), "{told}");
    let ended = super::wire::within(reader.wait()).await.unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended), Some(15));
    for (name, how) in [("key", "run"), ("signal", "signalled")] {
        comes_to(&rig, name, "current", "").await;
        assert_eq!(result(&acts(&rig, name, "notify"), 0), ("ok".into(), how.into()));
    }
}

#[tokio::test]
async fn a_command_that_fails_or_hangs_is_tried_again_and_the_file_stays_new() {
    let entries = "then = { command = [\"/bin/sh\", \"-c\", \"cat FOLDER/out/key; test -e FOLDER/well\"] }\n\
                   [deliver.hangs]\nworkload = \"checkout\"\npath = \"FOLDER/out/hangs\"\nsecret = \"api-key\"\n\
                   then = { command = [\"/bin/sh\", \"-c\", \"sleep 600 & echo $! > FOLDER/child; wait\"], timeout = \"1s\" }\n\
                   [deliver.none]\nworkload = \"checkout\"\npath = \"FOLDER/out/none\"\nsecret = \"api-key\"\n\
                   then = { command = [\"/does/not/exist\"] }\n";
    let began = SystemTime::now();
    let rig = raise(plan(&(KEY.to_owned() + entries))).await;
    comes_to(&rig, "key", "failing", "the command failed: exit status: 1").await;
    comes_to(&rig, "none", "failing", "the command cannot be run").await;
    comes_to(&rig, "hangs", "failing", "longer than 1 s").await;
    assert!(began.elapsed().unwrap() < Duration::from_secs(25), "the hanging one held up no other");
    holds(&rig.path("out/key"), SECRET_VALUE).await;
    let child = fs::read_to_string(rig.path("child")).unwrap();
    eventually("what it had started is gone", || async {
        let status = fs::read_to_string(format!("/proc/{}/status", child.trim())).unwrap_or_default();
        (status.is_empty() || status.contains("State:\tZ")).then_some(())
    })
    .await;
    assert_eq!(result(&acts(&rig, "hangs", "notify"), 0), ("failed".into(), "command_late".into()));
    assert_eq!(acts(&rig, "key", "deliver").len(), 1, "the file is not written again for it");
    fs::write(rig.path("well"), "").unwrap();
    comes_to(&rig, "key", "current", "").await;
    assert!(!rig.said().contains(SECRET_VALUE), "what the command says is not logged");
}

#[tokio::test]
async fn who_was_told_in_vain_is_told_when_a_reload_mends_it() {
    let then = "then = { command = [\"/bin/sh\", \"-c\", \"exit 9; touch FOLDER/told\"] }\n";
    let rig = raise(plan(&(KEY.to_owned() + then))).await;
    comes_to(&rig, "key", "failing", "exit status: 9").await;
    rig.reconfigure("exit 9; touch", "touch");
    assert!(rig.run(&["reload"]).await.status.success());
    eventually("it is told", || async { rig.path("told").exists().then_some(()) }).await;
    comes_to(&rig, "key", "current", "").await;
    let acts = acts(&rig, "key", "deliver");
    let results: Vec<_> = (0..acts.len()).map(|nth| result(&acts, nth).1).collect();
    assert_eq!(results, ["written", "unchanged"], "nothing else was new");
}

#[tokio::test]
async fn a_file_that_cannot_be_taken_away_is_not_forgotten() {
    let rig = raise(plan(KEY)).await;
    let key = rig.path("out/key");
    holds(&key, SECRET_VALUE).await;
    let mode = |mode| fs::set_permissions(rig.path("out"), fs::Permissions::from_mode(mode)).unwrap();
    mode(0o777);
    rig.reconfigure("[deliver.key]\n", "[deliver.moved]\n");
    rig.reconfigure("out/key", "other/moved");
    assert!(rig.run(&["reload"]).await.status.success());
    comes_to(&rig, "key", "failing", "could not be removed").await;
    assert!(key.exists() && rig.said().contains("not only its owner may write in this folder"));
    mode(0o755);
    eventually("the file is gone", || async { (!key.exists()).then_some(()) }).await;
    eventually("it is not shown", || async { status(&rig, "key").await.is_null().then_some(()) }).await;
}

#[tokio::test]
async fn what_is_wrong_with_a_delivery_is_said_by_check_with_its_place() {
    let entries = "[deliver.a]\nworkload = \"nobody\"\npath = \"relative\"\nsecret = \"none\"\nmode = \"0666\"\n\
                   [deliver.b]\nworkload = \"checkout\"\npath = \"FOLDER/out/b\"\n\
                   [deliver.c]\nworkload = \"checkout\"\npath = \"FOLDER/out/b\"\nsecret = \"api-key\"\n\
                   then = { signal = \"HUP\" }\n\
                   [deliver.d]\nworkload = \"checkout\"\npath = \"FOLDER/out/b\"\nsecret = \"api-key\"\n\
                   then = { command = [\"systemctl\"], timeout = \"2h\" }\n\
                   [deliver.e]\nworkload = \"checkout\"\npath = \"FOLDER/out/e\"\n\
                   token = { provider = \"stripe\", scopes = [\"no\"], audience = [\"no\"] }\n";
    let rig = Rig::new().await;
    let text = fs::read_to_string(rig.config()).unwrap();
    let secret = "[secret.api-key]\nstore = \"local\"\n";
    let entries = entries.replace("FOLDER", rig.folder.path().to_str().unwrap());
    fs::write(rig.config(), format!("{text}{secret}{entries}")).unwrap();
    let said = String::from_utf8_lossy(&rig.run(&["check"]).await.stdout).into_owned();
    for what in [
        "`deliver.a.path` is not the plain absolute path",
        "there is no secret `none`",
        "the mode 0666",
        "`[deliver.b]` does not say in one way what stands in the file",
        "`deliver.c.then` is neither a signal nor a command",
        "does not begin with an absolute path",
        "between a moment and ten minutes",
        "the deliveries `c` and `d` are one file",
        "does not list the scope `no`",
        "does not list the audience `no`",
    ] {
        assert!(said.contains(what), "no `{what}` in {said}");
    }
    let good = format!(
        "{text}{secret}[deliver.a]\nworkload = \"nobody\"\npath = \"/x\"\nsecret = \"api-key\"\nowner = \"no-such\"\n"
    );
    fs::write(rig.config(), good).unwrap();
    let said = String::from_utf8_lossy(&rig.run(&["check"]).await.stdout).into_owned();
    for what in ["`workloads.toml` has no workload `nobody`", "there is no user `no-such`"] {
        assert!(said.contains(what), "no `{what}` in {said}");
    }
}

#[test]
fn the_example_templates_are_filled() {
    use std::collections::BTreeMap;

    use bursar::broker::Want;
    use bursar::deliver::Content;
    use bursar::secret::Secret;

    for (file, value, text) in [
        (
            "examples/pgpass.j2",
            r#"{"host":"db.example.com","user":"checkout","password":"a:b\\c"}"#,
            "db.example.com:5432:checkout:checkout:a\\:b\\\\c\n",
        ),
        ("examples/nginx-upstream.j2", "a\"b", "proxy_set_header X-Api-Key \"a\\\"b\";\n"),
    ] {
        let content = Content::Template(fs::read_to_string(file).unwrap().into());
        let wants = content.wants().unwrap();
        let value = Secret::copy_of(value.as_bytes());
        let values: BTreeMap<Want, &Secret> = wants.into_iter().map(|want| (want, &value)).collect();
        let filled = String::from_utf8(content.render(&values).unwrap().expose().to_vec()).unwrap();
        assert!(filled.ends_with(text), "{file}: {filled}");
    }
}
