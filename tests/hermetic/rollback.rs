//! The sealed store's change counter in the audit log: an older file, or another, is not used unnoticed.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use bursar::audit::form::Line;
use bursar::audit::query::{Filter, query};
use tempfile::TempDir;

/// A configuration with one store, and the command line on it without an agent.
pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        let folder = crate::private_folder();
        let text = "[agent]\nstate_dir = \"state\"\nsocket = \"s\"\nadmin_socket = \"a\"\n[store.local]\nkind = \"sealed\"\nkey = { file = \"state/store.key\" }\n";
        fs::write(folder.path().join("bursar.toml"), text).unwrap();
        Self(folder)
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.0.path().join(below)
    }

    pub(crate) fn bursar(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bursar"));
        command.args(["--config", self.path("bursar.toml").to_str().unwrap()]).args(arguments);
        command.env_remove("BURSAR_SOCKET").env_remove("BURSAR_ADMIN_SOCKET");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    pub(crate) fn put(&self, value: &str) {
        let output = self.bursar(&["secret", "put", "local/a"], value);
        assert!(output.status.success(), "{output:?}");
    }

    /// Whether the store is taken; else what was said.
    pub(crate) fn opens(&self) -> Result<(), String> {
        let output = self.bursar(&["secret", "list"], "");
        if output.status.success() { Ok(()) } else { Err(String::from_utf8(output.stderr).unwrap()) }
    }

    fn keep(&self, what: &str) -> PathBuf {
        let kept = self.path("kept");
        fs::copy(self.path(what), &kept).unwrap();
        kept
    }

    fn segment(&self) -> PathBuf {
        let files = fs::read_dir(self.path("state/audit")).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|extension| extension == "jsonl")).max().unwrap()
    }

    pub(crate) fn records(&self) -> Vec<Line> {
        query(&self.path("state/audit"), Filter::default()).unwrap().map(Result::unwrap).collect()
    }

    /// What the log says of the store, as words and counters.
    pub(crate) fn noted(&self) -> Vec<(String, u64)> {
        let of_stores = self.records().into_iter().filter(|line| line.kind() == "store");
        of_stores.map(|line| (line.text("noted").unwrap().to_owned(), line.number("changes").unwrap())).collect()
    }
}

pub(crate) const STORE: &str = "state/local.db";

#[test]
fn each_opening_each_change_and_each_end_is_in_the_log() {
    let home = Home::new();
    home.put("one");
    let noted = home.noted();
    let words: Vec<_> = noted.iter().map(|(word, _)| word.as_str()).collect();
    assert_eq!(words, ["opened", "changed", "restated"]);
    assert!(noted[0].1 == 0 && noted[1].1 > 0 && noted[1].1 == noted[2].1, "{noted:?}");
    assert_eq!(home.opens(), Ok(()));
    assert_eq!(home.opens(), Ok(()), "a normal restart is no false alarm");
}

#[test]
fn yesterdays_file_is_noticed_and_refused_until_it_is_accepted() {
    let home = Home::new();
    home.put("one");
    let yesterday = home.keep(STORE);
    home.put("two");
    let newest = home.noted().last().unwrap().1;
    fs::copy(yesterday, home.path(STORE)).unwrap();
    let why = home.opens().unwrap_err();
    assert!(why.contains("an older file was put back") && why.contains("bursar secret accept local"), "{why}");
    let (word, older) = home.noted().last().unwrap().clone();
    assert!(word == "refused" && older < newest);
    let accepted = home.bursar(&["secret", "accept", "local"], "");
    assert!(accepted.status.success(), "{accepted:?}");
    assert!(home.noted().contains(&("accepted".to_owned(), older)));
    assert_eq!(home.opens(), Ok(()));
}

#[test]
fn a_refusal_is_recorded_once_and_the_newest_file_mends_it() {
    let home = Home::new();
    home.put("one");
    let yesterday = home.keep(STORE);
    home.put("two");
    let newest = fs::read(home.path(STORE)).unwrap();
    fs::copy(yesterday, home.path(STORE)).unwrap();
    assert!(home.opens().is_err());
    let size = home.records().len();
    assert!(home.opens().is_err());
    assert_eq!(home.records().len(), size, "an agent that systemd starts every second does not fill the log");
    fs::write(home.path(STORE), newest).unwrap();
    assert_eq!(home.opens(), Ok(()));
}

#[test]
fn a_removed_store_is_noticed() {
    let home = Home::new();
    home.put("one");
    fs::remove_file(home.path(STORE)).unwrap();
    let why = home.opens().unwrap_err();
    assert!(why.contains("its file was removed or replaced"), "{why}");
}

#[test]
fn a_crash_between_change_and_record_is_no_alarm() {
    let home = Home::new();
    home.put("one");
    let log = fs::read(home.segment()).unwrap();
    home.put("two");
    fs::write(home.segment(), log).unwrap();
    assert_eq!(home.opens(), Ok(()), "the store may be ahead of the log");
}

#[test]
fn a_crash_hides_no_older_file() {
    let home = Home::new();
    home.put("one");
    let yesterday = home.keep(STORE);
    home.put("two");
    let log = fs::read_to_string(home.segment()).unwrap();
    let lines: Vec<_> = log.lines().collect();
    let without_the_end = lines[..lines.len() - 2].join("\n") + "\n{\"v\":1,\"i\":9,\"t\":\"20";
    fs::write(home.segment(), without_the_end).unwrap();
    fs::copy(yesterday, home.path(STORE)).unwrap();
    assert!(home.opens().unwrap_err().contains("an older file was put back"));
}

/// The records from the intent of `effect` on, by kind; the intent and its outcome are whose they should be.
pub(crate) fn told_of(home: &Home, effect: &str) -> Vec<String> {
    let records = home.records();
    let at = records.iter().position(|line| line.text("effect") == Some(effect)).unwrap();
    let uid = rustix::process::getuid().as_raw();
    let outcome = records[at..].iter().find(|line| line.kind() == "outcome").unwrap();
    assert_eq!((records[at].text("actor"), records[at].number("uid")), (Some("offline"), Some(uid.into())));
    assert_eq!((outcome.number("intent"), outcome.text("result")), (Some(records[at].index()), Some("ok")));
    records[at..].iter().map(|line| line.kind().to_owned()).collect()
}

#[test]
fn what_is_done_without_an_agent_is_announced_before_and_told_after() {
    let home = Home::new();
    home.put("one");
    assert_eq!(told_of(&home, "put")[..4], ["intent", "outcome", "store", "operation"]);
    fs::remove_file(home.path(STORE)).unwrap();
    assert!(home.bursar(&["secret", "accept", "local"], "").status.success());
    assert_eq!(told_of(&home, "accept")[..3], ["intent", "store", "outcome"]);
}

#[test]
fn who_does_not_own_the_state_is_told_who_does() {
    if !rustix::process::getuid().is_root() {
        return eprintln!("LEFT OUT: who_does_not_own_the_state_is_told_who_does needs root");
    }
    let home = Home::new();
    fs::create_dir(home.path("state")).unwrap();
    std::os::unix::fs::chown(home.path("state"), Some(40_001), Some(40_001)).unwrap();
    for verb in [["secret", "put", "local/a"].as_slice(), &["secret", "list"], &["secret", "accept", "local"]] {
        let output = home.bursar(verb, "value");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains("`sudo -u '#40001' bursar …`"), "{verb:?}: {said}");
    }
    assert_eq!(fs::read_dir(home.path("state")).unwrap().count(), 0, "nothing was made there");
}

#[test]
fn what_does_not_exist_cannot_be_accepted() {
    let output = Home::new().bursar(&["secret", "accept", "other"], "");
    assert!(!output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().contains("there is no store `other`"));
}
