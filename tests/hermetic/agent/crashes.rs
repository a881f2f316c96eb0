//! R2: whatever happens to the process or the disk, no answer is out without its record, and the log verifies.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bursar::audit::query;
use bursar::audit::verify::verify;
use tokio::process::Command;
use tokio::task::JoinSet;

use super::rig::{Plan, Rig, left_out};
use super::wire::{Reply, Wire, ask, eventually, get, post};

/// What clients were answered.
#[derive(Clone, Default)]
struct Answers {
    all: Arc<Mutex<Vec<Reply>>>,
    grants: Arc<AtomicUsize>,
}

impl Answers {
    fn add(&self, reply: Reply) {
        self.grants.fetch_add(usize::from(reply.status == 200), Ordering::Relaxed);
        self.all.lock().unwrap().push(reply);
    }

    fn grants(&self) -> usize {
        self.grants.load(Ordering::Relaxed)
    }

    fn take(&self) -> Vec<Reply> {
        std::mem::take(&mut self.all.lock().unwrap())
    }
}

/// Asks on one connection after the other, until it is aborted.
async fn client(socket: PathBuf, asked: String, answers: Answers) {
    loop {
        // Where nobody listens at the moment, somebody will.
        let Some(mut wire) = Wire::try_to(&socket).await else {
            tokio::time::sleep(Duration::from_millis(2)).await;
            continue;
        };
        while let Some(reply) = wire.ask(&asked).await {
            answers.add(reply);
        }
    }
}

/// Clients of all kinds: cached, cold, refused by policy, and unidentified.
fn load(rig: &Rig, answers: &Answers) -> JoinSet<()> {
    let mut clients = JoinSet::new();
    for (workload, asked) in [
        ("checkout", get("/token/stripe")),
        ("checkout", post("stripe", "scope=charges:write")),
        ("checkout", post("bare", "scope=read")),
        ("reports", post("crm", "")),
        ("reports", post("stripe", "")),
        ("bursar", post("stripe", "")),
    ] {
        clients.spawn(client(rig.socket(workload), asked, answers.clone()));
    }
    clients
}

/// Holds every answer against the log.
fn hold(rig: &Rig, answers: &[Reply]) {
    let records = rig.by_decision();
    for reply in answers {
        let id = reply.header("bursar-decision");
        match (reply.status, id.map(|id| records.get(id).unwrap_or_else(|| panic!("{id} is not in the log")).kind())) {
            (200, Some("release")) | (400..=502, Some("refusal")) => {}
            (503, id) => assert!(id.is_none_or(|kind| kind == "refusal")),
            (status, kind) => panic!("{status} with {kind:?}"),
        }
    }
    let ids: BTreeSet<_> = answers
        .iter()
        .filter(|reply| reply.status == 200)
        .filter_map(|reply| reply.header("bursar-decision"))
        .collect();
    let granted = answers.iter().filter(|reply| reply.status == 200).count();
    assert_eq!(ids.len(), granted, "each release has a record of its own");
    for id in ids.iter().rev().take(3) {
        assert!(query::find(&rig.log, id.parse().unwrap()).unwrap().is_some());
    }
}

#[tokio::test]
async fn killed_under_load_twenty_times_no_answer_is_without_its_record() {
    const ROUNDS: usize = 20;
    let mut rig = Rig::new().await;
    let answers = Answers::default();
    let _clients = load(&rig, &answers);
    let (mut granted, mut torn) = (0, 0);
    for round in 0..ROUNDS {
        let enough = answers.grants() + 25 + round * 4;
        eventually("there is load", || async { (answers.grants() >= enough).then_some(()) }).await;
        rig.kill().await;
        torn += usize::from(!verify(&rig.log).unwrap().notes.is_empty());
        rig.start().await;
        let heard = answers.take();
        granted += heard.iter().filter(|reply| reply.status == 200).count();
        hold(&rig, &heard);
    }
    assert!(granted > ROUNDS, "{granted} grants");
    println!("{granted} grants over {ROUNDS} kills, {torn} of which left a torn tail");
}

// ── the disk

/// `bursar agent` under strace, as which the agent keeps its own pid; none where strace cannot be used.
fn under_strace(rig: &Rig, inject: &str) -> Option<Command> {
    let works = std::process::Command::new("strace").args(["-D", "-f", "-o", "/dev/null", "true"]).output();
    works.is_ok_and(|it| it.status.success()).then(|| {
        let mut command = Command::new("strace");
        command.args(["-D", "-f", "-qq", "--seccomp-bpf", "-e", "trace=fdatasync,fallocate", "-e", inject, "-o"]);
        command
            .arg(rig.path("strace"))
            .arg(env!("CARGO_BIN_EXE_bursar"))
            .arg("--config")
            .arg(rig.config())
            .arg("agent");
        rig.prepare(command)
    })
}

#[tokio::test]
async fn a_sync_that_fails_refuses_those_who_wait_for_it_and_the_next_one_serves() {
    let mut rig = Plan::default().lay().await;
    // Each tenth sync fails, beginning after those of the start.
    let Some(command) = under_strace(&rig, "inject=fdatasync:error=EIO:when=15+10") else {
        return left_out("a_sync_that_fails_refuses_those_who_wait_for_it_and_the_next_one_serves", "strace");
    };
    rig.start_as(command).await;
    let answers = Answers::default();
    let clients = load(&rig, &answers);
    eventually("syncs fail, and work again", || async { (rig.records_of("reopen").len() >= 3).then_some(()) }).await;
    let enough = answers.grants() + 20;
    eventually("it serves on", || async { (answers.grants() >= enough).then_some(()) }).await;
    assert!(rig.agent().lives());
    drop(clients);
    let heard = answers.take();
    assert!(heard.iter().any(|reply| reply.status == 503), "somebody waited for a sync that failed");
    for reply in heard.iter().filter(|reply| reply.status == 503) {
        assert_eq!((reply.text("error").as_str(), reply.decision()), ("audit_unavailable", None));
        assert!(reply.header("retry-after").is_some());
    }
    rig.kill().await;
    hold(&rig, &heard);
    let reopened = rig.records_of("reopen");
    assert!(reopened.iter().all(|line| (line.text("cause"), line.number("errno")) == (Some("sync"), Some(5))));
}

/// A small file system in memory. It goes when it is dropped.
pub(super) struct Small(pub(super) PathBuf);

impl Small {
    pub(super) fn mount(at: &Path, size: &str) -> Option<Self> {
        if !rustix::process::getuid().is_root() {
            return None;
        }
        std::fs::create_dir(at).unwrap();
        let mut mount = std::process::Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "bursar-test"]).arg(at);
        mounted.stderr(Stdio::null()).status().is_ok_and(|it| it.success()).then(|| Self(at.to_owned()))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_full_disk_refuses_until_there_is_space_again() {
    let folder = tempfile::tempdir().unwrap();
    let Some(small) = Small::mount(&folder.path().join("small"), "4m") else {
        return left_out("a_full_disk_refuses_until_there_is_space_again", "root that may mount");
    };
    let mut rig = Plan { log: Some(small.0.join("audit")), ..Plan::default() }.lay().await;
    rig.reconfigure("reserve = \"1MiB\"", "reserve = \"64KiB\"");
    rig.start().await;
    let answers = Answers::default();
    let clients = load(&rig, &answers);
    eventually("there is load", || async { (answers.grants() >= 50).then_some(()) }).await;
    let ballast = small.0.join("ballast");
    // Until nothing more fits: what is set aside for the log is used up first.
    let filled = std::fs::write(&ballast, vec![0; 8 << 20]);
    assert!(filled.is_err(), "the file system is full");
    let unready = async || ask(&rig.socket("checkout"), get("/readyz")).await.outcome();
    eventually("the log has no space", || async {
        (unready().await == (503, "audit_unavailable".into())).then_some(())
    })
    .await;
    let full = rig.token("checkout", "stripe", "").await;
    assert_eq!((full.outcome(), full.decision()), ((503, "audit_unavailable".into()), None));
    std::fs::remove_file(&ballast).unwrap();
    eventually("it serves again", || async { (rig.token("checkout", "stripe", "").await.status == 200).then_some(()) })
        .await;
    assert_eq!(ask(&rig.socket("checkout"), get("/readyz")).await.status, 200);
    drop(clients);
    let heard = answers.take();
    assert!(heard.iter().any(|reply| reply.status == 503) && heard.iter().any(|reply| reply.status == 200));
    hold(&rig, &heard);
    assert!(rig.records_of("reopen").is_empty(), "a full disk is found out before a byte is written");
    assert!(rig.stop().await.success());
}
