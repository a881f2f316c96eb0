//! A rotation with `random` on the sealed store, killed at the calls by which something gets on the disk.

use std::path::Path;
use std::process::{Command, Stdio};

use bursar::rotation::State;
use bursar::store::{Stage, VersionId};

use super::*;
use crate::matrix::House;

/// The calls by which something gets on the disk, and how many are left out between two that are tried.
const CLASSES: [(&str, usize); 6] =
    [("pwrite64", 5), ("fdatasync", 2), ("fsync", 1), ("ftruncate", 1), ("unlink", 1), ("write", 2)];
/// More calls than a rotation makes on one thread.
const MOST: usize = 200;
/// For a class of which there is no end.
const MOST_KILLS: usize = 24;

fn random() -> Subject {
    let rotator = Arc::new(RandomText::new(Alphabet::Alphanumeric, 32, Arc::new(SystemRandom)));
    let works = Arc::new(|_| async { true }.boxed());
    Subject { rotator, exclusive: true, first: None, works }
}

#[tokio::test]
#[ignore = "started by `a_kill_at_any_call_of_a_rotation_is_finished_or_undone`"]
async fn child_that_rotates_once() {
    let house = House::at(Path::new(&std::env::var("BURSAR_TEST_STORE").unwrap()));
    let subject = random();
    let engine = house.engine(&subject, Arc::clone(&subject.rotator), house.store.clone());
    engine.rotate(&house.name(), true).await.unwrap();
}

/// Whether a rotation was killed at the `nth` call of `class`; none where strace cannot be used.
fn killed_at(folder: &Path, class: &str, nth: usize) -> Option<bool> {
    let works = Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).stderr(Stdio::null()).status();
    works.is_ok_and(|it| it.success()).then(|| {
        let inject = format!("inject={class}:signal=KILL:when={nth}");
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-e", &format!("trace={class}"), "-e", &inject, "-o", "/dev/null"]);
        command.arg(std::env::current_exe().unwrap());
        command.args(["--exact", "rotation::killed::child_that_rotates_once", "--ignored"]);
        command.env("BURSAR_TEST_STORE", folder).stdout(Stdio::null()).stderr(Stdio::null());
        !command.status().unwrap().success()
    })
}

/// With what it began gone when it ends, so that the store can be opened again.
fn in_one_life<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn a_kill_at_any_call_of_a_rotation_is_finished_or_undone() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = 0;
    let mut current = in_one_life(comes_to_rest(folder.path(), "at first"));
    for (class, step) in CLASSES {
        let (mut kills, mut finished) = (0, 0);
        for nth in (1..MOST).step_by(step).take(MOST_KILLS) {
            match killed_at(folder.path(), class, nth) {
                None => return println!("LEFT OUT: a_kill_at_any_call_of_a_rotation… needs strace"),
                Some(false) => break,
                Some(true) => kills += 1,
            }
            let after = in_one_life(comes_to_rest(folder.path(), &format!("{class} {nth}")));
            finished += usize::from(after != current);
            current = after;
        }
        println!("{class:<10} {kills:>3} kills: {finished:>3} finished, {:>3} undone or not begun", kills - finished);
        all += kills;
    }
    assert!(all > 20, "{all} kills");
}

/// The next start: the store opens, one version is served at any time, and what was begun is finished or undone.
async fn comes_to_rest(folder: &Path, when: &str) -> VersionId {
    let (house, subject) = (House::at(folder), random());
    if when != "at first" {
        house.current().await;
    }
    let status = house.recover(&subject).await;
    assert_eq!(status.state, State::Idle, "{when}: {status:?}");
    let versions = house.versions().await;
    let count = |stage| versions.iter().filter(|version| version.stages.has(stage)).count();
    assert_eq!([Stage::Pending, Stage::Current, Stage::Previous].map(count), [0, 1, 0], "{when}: {versions:?}");
    house.current().await.0
}
