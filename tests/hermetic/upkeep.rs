//! Stores as a whole, and secrets on their way into them, by commands while no agent runs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use bursar::crypto::SystemRandom;
use bursar::store::key::KeySource;
use bursar::store::sealed::{Locked, SealedStore};
use bursar::store::{Store, Which};
use bursar::time::SystemClock;

use crate::rollback::{Home, STORE, told_of};

const KEY: &str = "state/store.key";

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

fn done(home: &Home, arguments: &[&str]) -> String {
    let output = home.bursar(arguments, "");
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    said(&output)
}

/// How it ended, and what was said.
fn failed(home: &Home, arguments: &[&str]) -> (i32, String) {
    let output = home.bursar(arguments, "");
    assert!(!output.status.success(), "{arguments:?}: {}", said(&output));
    (output.status.code().unwrap(), said(&output))
}

/// The value of a secret, as only a test can read it without an agent.
fn value(home: &Home, name: &str) -> Option<Vec<u8>> {
    let lock = Locked::take(&home.path(STORE)).unwrap();
    let source = KeySource::File { path: home.path(KEY), make: false };
    let store = SealedStore::open(lock, source, Arc::new(SystemClock), Arc::new(SystemRandom)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let read = runtime.block_on(store.read(&name.parse().unwrap(), &Which::Current));
    read.ok().map(|(_, value)| value.expose().to_vec())
}

fn write_private(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_rekey_is_announced_told_and_changes_no_value() {
    let home = Home::new();
    home.put("one");
    let old = fs::read(home.path(KEY)).unwrap();
    let told = done(&home, &["store", "rekey", "local"]);
    assert!(told.contains("1 value under the new key") && told.contains("store.key"), "{told}");
    assert_ne!(fs::read(home.path(KEY)).unwrap(), old);
    assert_eq!(told_of(&home, "rekey")[..4], ["intent", "outcome", "store", "operation"]);
    assert_eq!(value(&home, "a"), Some(b"one".to_vec()));
    write_private(&home.path("mine.key"), "ab".repeat(32).as_bytes());
    let mine = home.path("mine.key");
    let told: serde_json::Value =
        serde_json::from_str(&done(&home, &["--json", "store", "rekey", "local", "--key", text(&mine)])).unwrap();
    assert_eq!((&told["values"], &told["to_do"]), (&1.into(), &serde_json::Value::Null));
    assert_eq!(fs::read_to_string(home.path(KEY)).unwrap().trim(), "ab".repeat(32));
    for (arguments, what) in [
        (&["store", "rekey", "local", "--key", text(&mine)][..], "the one that the store has"),
        (&["store", "rekey", "other"], "there is no store `other`"),
        (&["store", "rekey", "local", "--key-credential"], "stands in the file"),
        (&["store", "rekey", "local", "--key", "/dev/null"], "is not a store key"),
    ] {
        let (code, told) = failed(&home, arguments);
        assert!(code == 1 && told.contains(what), "{arguments:?}: {code} {told}");
    }
    assert_eq!(value(&home, "a"), Some(b"one".to_vec()));
}

/// `bursar` under strace, killed at the `nth` call of `class`; none where strace cannot be used. Whether it was killed.
fn killed_at(home: &Home, class: &str, nth: usize, arguments: &[&str]) -> Option<bool> {
    let works = Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).output();
    works.is_ok_and(|it| it.status.success()).then(|| {
        let inject = format!("inject={class}:signal=KILL:when={nth}");
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-e", &format!("trace={class}"), "-e", &inject, "-o", "/dev/null"]);
        command.arg(env!("CARGO_BIN_EXE_bursar")).arg("--config").arg(home.path("bursar.toml")).args(arguments);
        command.env_remove("BURSAR_SOCKET").env_remove("BURSAR_ADMIN_SOCKET");
        !command.output().unwrap().status.success()
    })
}

/// The calls by which something gets on the disk.
const CLASSES: [&str; 7] = ["pwrite64", "fdatasync", "fsync", "rename", "ftruncate", "unlink", "write"];

#[test]
fn a_kill_at_any_step_of_a_rekey_leaves_a_store_that_opens() {
    let home = Home::new();
    home.put("one");
    let mut kills = 0;
    for class in CLASSES {
        for nth in 1..10 {
            match killed_at(&home, class, nth, &["store", "rekey", "local"]) {
                None => return eprintln!("LEFT OUT: a_kill_at_any_step_of_a_rekey… needs strace"),
                Some(false) => break,
                Some(true) => kills += 1,
            }
            let checked = done(&home, &["store", "check", "local"]);
            assert!(checked.contains("key `") && checked.contains("store.key"), "it says which: {checked}");
            assert_eq!(value(&home, "a"), Some(b"one".to_vec()), "{class} {nth}");
        }
    }
    assert_eq!(home.opens(), Ok(()));
    println!("{kills} kills");
    assert!(kills > 30);
}

#[test]
fn a_backup_is_its_owner_s_alone_is_written_once_and_comes_back() {
    let home = Home::new();
    home.put("one");
    let backup = home.path("backup.db");
    let told = done(&home, &["store", "backup", "local", "--out", text(&backup)]);
    assert!(told.contains("1 secret with 1 value"), "{told}");
    assert_eq!(fs::metadata(&backup).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(told_of(&home, "backup")[..4], ["intent", "outcome", "store", "operation"]);
    let (_, told) = failed(&home, &["store", "backup", "local", "--out", text(&backup)]);
    assert!(told.contains("is there already"), "{told}");
    assert!(!home.path("backup.db.part").exists());

    home.put("two");
    let told = done(&home, &["store", "restore", "local", "--from", text(&backup)]);
    assert!(told.contains("restored with 1 value") && told.contains("local.db.replaced-"), "{told}");
    assert_eq!(value(&home, "a"), Some(b"one".to_vec()));
    assert_eq!(told_of(&home, "restore")[..4], ["intent", "store", "outcome", "operation"]);
    assert!(home.noted().iter().any(|(word, _)| word == "accepted"));
    assert_eq!(home.opens(), Ok(()), "nothing is left to be accepted");
    assert!(done(&home, &["store", "check", "local"]).starts_with("ok: local: 1 secret with 1 value"));
    home.put("three");
}

#[test]
fn a_backup_that_is_not_whole_or_of_another_key_replaces_nothing() {
    let home = Home::new();
    home.put("one");
    let backup = home.path("backup.db");
    done(&home, &["store", "backup", "local", "--out", text(&backup)]);
    let whole = fs::read(&backup).unwrap();
    let restore = ["store", "restore", "local", "--from", text(&backup)];
    home.put("two");
    for change in [whole[..whole.len() / 2].to_vec(), b"not a store".to_vec(), Vec::new()] {
        fs::write(&backup, change).unwrap();
        let (code, told) = failed(&home, &restore);
        assert!(code == 5 && told.contains("backup.db") && told.contains("give another backup"), "{code} {told}");
    }
    fs::write(&backup, &whole).unwrap();
    let change = "UPDATE version SET text = zeroblob(length(text))";
    rusqlite::Connection::open(&backup).unwrap().execute_batch(change).unwrap();
    let (code, told) = failed(&home, &restore);
    assert!(code == 5 && told.contains("`a`: the value of version"), "{code} {told}");
    fs::write(&backup, &whole).unwrap();
    rusqlite::Connection::open(&backup).unwrap().execute_batch("PRAGMA user_version = 2").unwrap();
    let (code, told) = failed(&home, &restore);
    assert!(code == 1 && told.contains("use the newer bursar"), "{code} {told}");

    fs::write(&backup, &whole).unwrap();
    let old = home.path("old.key");
    fs::copy(home.path(KEY), &old).unwrap();
    done(&home, &["store", "rekey", "local"]);
    let (code, told) = failed(&home, &restore);
    assert!(code == 5 && told.contains("another key") && told.contains("`--key`"), "{code} {told}");
    assert_eq!(value(&home, "a"), Some(b"two".to_vec()));
    done(&home, &["store", "restore", "local", "--from", text(&backup), "--key", text(&old)]);
    assert_eq!(value(&home, "a"), Some(b"one".to_vec()), "under the key of now");
    let left = fs::read_dir(home.path("state")).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(!left.into_iter().any(|name| name.to_string_lossy().contains(".restore")));
}

#[test]
fn a_kill_at_any_step_of_a_restore_leaves_the_old_store_or_the_new_one() {
    let home = Home::new();
    home.put("one");
    let backup = home.path("backup.db");
    done(&home, &["store", "backup", "local", "--out", text(&backup)]);
    let mut kills = 0;
    for class in ["rename", "link", "fsync", "unlink", "fdatasync"] {
        for nth in 1..9 {
            home.put("two");
            match killed_at(&home, class, nth, &["store", "restore", "local", "--from", text(&backup)]) {
                None => return eprintln!("LEFT OUT: a_kill_at_any_step_of_a_restore… needs strace"),
                Some(false) => break,
                Some(true) => kills += 1,
            }
            if let Err(why) = home.opens() {
                assert!(why.contains("bursar secret accept local"), "{class} {nth}: {why}");
                done(&home, &["secret", "accept", "local"]);
                assert_eq!(value(&home, "a"), Some(b"one".to_vec()));
            }
            assert!(matches!(value(&home, "a").as_deref(), Some(b"one" | b"two")), "{class} {nth}");
        }
    }
    println!("{kills} kills");
    assert!(kills > 5);
}

#[test]
fn a_store_that_is_lost_or_damaged_is_told_and_restored() {
    let home = Home::new();
    home.put("one");
    let backup = home.path("backup.db");
    done(&home, &["store", "backup", "local", "--out", text(&backup)]);
    let change = "UPDATE secret SET tag = zeroblob(32)";
    rusqlite::Connection::open(home.path(STORE)).unwrap().execute_batch(change).unwrap();
    assert!(home.opens().unwrap_err().contains("`bursar store restore`"));
    let (code, told) = failed(&home, &["store", "check", "local"]);
    assert!(code == 5 && told.contains("damaged: local/a: its versions have been changed"), "{code} {told}");
    done(&home, &["store", "restore", "local", "--from", text(&backup)]);
    assert_eq!(value(&home, "a"), Some(b"one".to_vec()));
    fs::remove_file(home.path(STORE)).unwrap();
    let (code, told) = failed(&home, &["store", "check", "local"]);
    assert!(code == 1 && told.contains("there is no store at"), "{code} {told}");
    done(&home, &["store", "restore", "local", "--from", text(&backup)]);
    assert_eq!(value(&home, "a"), Some(b"one".to_vec()));
    fs::write(home.path(STORE), b"").unwrap();
    assert_eq!(failed(&home, &["store", "check", "local"]).0, 5);
}

#[test]
fn the_file_of_yesterday_is_found_by_a_look() {
    let home = Home::new();
    home.put("one");
    let yesterday = fs::read(home.path(STORE)).unwrap();
    home.put("two");
    fs::write(home.path(STORE), yesterday).unwrap();
    let (code, told) = failed(&home, &["--json", "store", "check", "local"]);
    assert!(code == 5 && told.contains("an older file was put back"), "{code} {told}");
}

// ── secrets on their way

/// A directory as a `files` store reads it.
fn directory(home: &Home, secrets: &[(&str, &str)]) -> PathBuf {
    let folder = home.path("mounted");
    fs::create_dir_all(folder.join("deep")).unwrap();
    for (name, value) in secrets {
        write_private(&folder.join(name), value.as_bytes());
    }
    folder
}

#[test]
fn an_import_puts_what_differs_and_can_be_run_again() {
    let home = Home::new();
    let folder = directory(&home, &[("a", "canary-one\n"), ("deep/b", "canary-two")]);
    let import = ["secret", "import", "--from", text(&folder), "local/app"];
    let told = done(&home, &[&import[..], &["--dry-run"]].concat());
    assert!(told.contains("local/app/a: would put") && told.contains("2 secrets: 2 would put"), "{told}");
    assert_eq!(value(&home, "app/a"), None);
    let told = done(&home, &import);
    assert!(told.contains("local/app/deep/b: put, version") && !told.contains("canary"), "{told}");
    assert_eq!(value(&home, "app/a"), Some(b"canary-one".to_vec()));
    assert!(done(&home, &import).contains("2 secrets: 2 unchanged"));
    directory(&home, &[("a", "canary-three")]);
    let told: serde_json::Value = serde_json::from_str(&done(&home, &[&["--json"], &import[..]].concat())).unwrap();
    let outcomes: Vec<_> = told["secrets"].as_array().unwrap().iter().map(|one| &one["outcome"]).collect();
    assert_eq!(outcomes, ["put", "unchanged"]);
}

#[test]
fn an_import_that_fails_in_part_says_what_was_done() {
    let home = Home::new();
    let folder = directory(&home, &[("a", "canary-one"), ("b", "canary-two"), ("c", "")]);
    fs::set_permissions(folder.join("b"), fs::Permissions::from_mode(0o644)).unwrap();
    let (code, told) = failed(&home, &["secret", "import", "--from", text(&folder), "local"]);
    assert_eq!(code, 1);
    for what in ["local/a: put, version", "local/b: failed: ", "chmod", "local/c: failed: ", "1 put, 2 failed"] {
        assert!(told.contains(what), "no `{what}` in {told}");
    }
    assert!(!told.contains("canary") && value(&home, "a").is_some() && value(&home, "b").is_none());
    let (code, told) = failed(&home, &["secret", "import", "--from", "nowhere", "local"]);
    assert!(code == 1 && told.contains("nowhere"), "{told}");
}

#[test]
fn secrets_move_from_one_store_to_another() {
    let home = Home::new();
    directory(&home, &[("a", "canary-one")]);
    let text = fs::read_to_string(home.path("bursar.toml")).unwrap();
    let more = "[store.mounted]\nkind = \"files\"\npath = \"mounted\"\n[store.other]\nkind = \"sealed\"\n";
    fs::write(home.path("bursar.toml"), text + more).unwrap();
    assert!(done(&home, &["secret", "import", "--from", "mounted", "local/x"]).contains("local/x/a: put"));
    assert!(done(&home, &["secret", "import", "--from", "local", "other"]).contains("other/x/a: put"));
    assert!(done(&home, &["secret", "import", "--from", "local", "other"]).contains("1 unchanged"));
    let (code, told) = failed(&home, &["secret", "import", "--from", "local", "mounted"]);
    assert!(code == 1 && told.contains("mounted/x/a: failed"), "{told}");
    let (_, told) = failed(&home, &["store", "check", "mounted"]);
    assert!(told.contains("is no sealed store"), "{told}");
}

#[test]
fn a_version_that_is_not_served_can_be_retired() {
    let home = Home::new();
    home.put("one");
    home.put("two");
    let listed = done(&home, &["--json", "secret", "versions", "local/a"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let id = |nth: usize| listed[nth]["version"].as_str().unwrap().to_owned();
    let told = done(&home, &["secret", "retire", "local/a", "--version", &id(1)]);
    assert!(told.contains("is retired, its value is gone"), "{told}");
    assert_eq!(told_of(&home, "retire")[..4], ["intent", "outcome", "store", "operation"]);
    assert!(done(&home, &["secret", "versions", "local/a"]).contains("Retired"));
    assert_eq!(failed(&home, &["secret", "retire", "local/a", "--version", &id(0)]).0, 1, "it is served");
    assert_eq!(failed(&home, &["secret", "retire", "local/a", "--version", "none"]).0, 1);
    assert_eq!(value(&home, "a"), Some(b"two".to_vec()));
}

/// An editor that does `script`, with the file as `$1`.
fn edited(home: &Home, script: &str) -> Output {
    let editor = home.path("editor");
    fs::write(&editor, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&editor, fs::Permissions::from_mode(0o700)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bursar"));
    command.arg("--config").arg(home.path("bursar.toml")).args(["secret", "put", "local/edited", "--edit"]);
    command.env_remove("VISUAL").env("EDITOR", editor.as_os_str()).env("OUT", home.path("seen"));
    command.env_remove("BURSAR_SOCKET").env_remove("BURSAR_ADMIN_SOCKET").output().unwrap()
}

#[test]
fn what_is_written_in_an_editor_leaves_no_trace() {
    let home = Home::new();
    let script = "printf 'canary-edited\\n' > \"$1\"; printf swap-canary > .value.swp; printf x > ~/.viminfo
                  stat -c '%a %U' \"$(dirname \"$1\")\" > \"$OUT\"; stat -f -c %T . >> \"$OUT\"; pwd >> \"$OUT\"; cat \"$1\" | wc -c >> \"$OUT\"";
    let output = edited(&home, script);
    assert!(output.status.success(), "{}", said(&output));
    assert!(!said(&output).contains("canary"));
    let seen = fs::read_to_string(home.path("seen")).unwrap();
    let seen: Vec<_> = seen.lines().collect();
    assert!(seen[0].starts_with("700 ") && matches!(seen[1], "tmpfs" | "ramfs"), "{seen:?}");
    assert!(!Path::new(seen[2]).exists(), "the folder is gone");
    assert_eq!(value(&home, "edited"), Some(b"canary-edited".to_vec()));
    for (script, what) in [
        ("exit 3", "nothing is put"),
        (":", "the value is empty"),
        ("printf canary > \"$1\"; kill -9 $$", "nothing is put"),
    ] {
        let output = edited(&home, &format!("pwd > \"$OUT\"; {script}"));
        assert!(output.status.code() == Some(1) && said(&output).contains(what), "{script}: {}", said(&output));
        assert!(!said(&output).contains("canary"));
        assert!(!Path::new(fs::read_to_string(home.path("seen")).unwrap().trim()).exists());
    }
    assert_eq!(value(&home, "edited"), Some(b"canary-edited".to_vec()), "it is what it was");
    let mut command = Command::new(env!("CARGO_BIN_EXE_bursar"));
    command.arg("--config").arg(home.path("bursar.toml")).args(["secret", "put", "local/a", "--edit"]);
    let output = command.env_remove("VISUAL").env("EDITOR", "").output().unwrap();
    assert!(!output.status.success() && said(&output).contains("neither `$VISUAL` nor `$EDITOR`"));
}
