//! A rotation with `random` on the sealed store, killed with SIGKILL at each of its system calls that names a file of the
//! house: store, key and log. A kill at any other call leaves the disk as a kill at the next of these does.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::{Command, Stdio};

use bursar::audit::Durability;
use bursar::rotation::State;
use bursar::store::{Stage, VersionId, Versions};
use rustix::fs::{FlockOperation, flock};

use super::*;
use crate::matrix::House;

/// The calls by which something gets on the disk, or is locked: without a kill at each of them the test would show nothing.
/// The store cuts its journal and removes no file: neither `unlink` nor `rename` comes up.
const EXPECTED: [&str; 8] = ["pwrite64", "write", "fsync", "fdatasync", "ftruncate", "fallocate", "fcntl", "openat"];
const CHILD: [&str; 3] = ["--exact", "rotation::killed::child_that_rotates_once", "--ignored"];

/// The `nth` system call of this name that one thread makes at a file of the house.
struct Point {
    call: String,
    file: String,
    nth: usize,
}

/// What became of the kills at one system call.
#[derive(Default)]
struct Kills {
    finished: usize,
    undone: usize,
    /// Where the rotation came to its end before: the log writes as many records at once as there are.
    not_reached: usize,
}

fn random() -> Subject {
    let rotator = Arc::new(RandomText::new(Alphabet::Alphanumeric, 32, Arc::new(SystemRandom)));
    let works = Arc::new(|value: Vec<u8>| async move { value.len() == 32 }.boxed());
    Subject { rotator, exclusive: true, first: None, works }
}

#[tokio::test]
#[ignore = "started by `a_kill_at_any_call_of_a_rotation_is_finished_or_undone`"]
async fn child_that_rotates_once() {
    let house = house(Path::new(&std::env::var("BURSAR_TEST_STORE").unwrap()));
    let subject = random();
    let engine = house.engine(&subject, Arc::clone(&subject.rotator), house.store.clone());
    engine.rotate(&house.name(), true).await.unwrap();
}

fn house(folder: &Path) -> House {
    House::at(folder, Durability::Disk)
}

/// The child that rotates in `folder`, under strace.
fn child(folder: &Path, options: &[&str]) -> Command {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-y"]).args(options).arg(std::env::current_exe().unwrap()).args(CHILD);
    command.env("BURSAR_TEST_STORE", folder).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn has_strace() -> bool {
    let works = Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).stderr(Stdio::null()).status();
    works.is_ok_and(|it| it.success())
}

/// Each call of a whole rotation that names a file of the house.
fn points(template: &Path) -> Vec<Point> {
    let (copy, log) = (copy_of(template), tempfile::NamedTempFile::new().unwrap());
    assert!(child(copy.path(), &["-o", log.path().to_str().unwrap()]).status().unwrap().success());
    let log = String::from_utf8_lossy(&std::fs::read(log.path()).unwrap()).into_owned();
    let folder = copy.path().to_str().unwrap();
    let (mut made, mut points) = (HashMap::<_, usize>::new(), BTreeSet::new());
    for line in log.lines() {
        let Some((before, after)) = line.split_once(folder) else { continue };
        let Some((call, _)) = before.split_once('(') else { continue };
        let (thread, call) = call.split_once(' ').unwrap();
        let (call, file) = (call.trim(), after.split(['>', '"']).next().unwrap());
        // strace counts the calls of each thread for itself: where two make the same at one file, as who opens the log and who
        // writes it, it kills whoever comes so far first.
        let nth = made.entry((thread, call, file)).or_default();
        *nth += 1;
        points.insert((call, file, *nth));
    }
    points.into_iter().map(|(call, file, nth)| Point { call: call.into(), file: file.into(), nth }).collect()
}

fn copy_of(template: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let went = Command::new("cp").args(["-a", "--"]).arg(template.join(".")).arg(copy.path()).status().unwrap();
    assert!(went.success());
    copy
}

/// With what it began gone when it ends, so that the store can be opened again.
fn in_one_life<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn a_kill_at_any_call_of_a_rotation_is_finished_or_undone() {
    if !has_strace() {
        return println!("LEFT OUT: a_kill_at_any_call_of_a_rotation… needs strace");
    }
    let template = tempfile::tempdir().unwrap();
    let before = in_one_life(comes_to_rest(template.path(), "at first"));
    // Its log closes by itself, a little later.
    flock(File::open(template.path().join("audit/lock")).unwrap(), FlockOperation::LockExclusive).unwrap();
    let (left, kills) = (Mutex::new(points(template.path())), Mutex::new(BTreeMap::<_, Kills>::new()));
    let at_once = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some(point) = { left.lock().unwrap().pop() } {
                    let after = killed_at(template.path(), &point);
                    let mut kills = kills.lock().unwrap();
                    let kills = kills.entry(point.call).or_default();
                    *match after {
                        None => &mut kills.not_reached,
                        Some(after) if after == before => &mut kills.undone,
                        Some(_) => &mut kills.finished,
                    } += 1;
                }
            });
        }
    });
    let kills = kills.into_inner().unwrap();
    for (call, Kills { finished, undone, not_reached }) in &kills {
        let killed = finished + undone;
        println!(
            "{call:<12} {killed:>3} of {:>3} killed: {finished:>3} finished, {undone:>3} not",
            killed + not_reached
        );
    }
    for call in EXPECTED {
        assert!(kills.get(call).is_some_and(|kills| kills.finished + kills.undone > 0), "no kill at `{call}`");
    }
}

/// What is Current after a rotation was killed there and started again; none where it came to its end before.
fn killed_at(template: &Path, Point { call, file, nth }: &Point) -> Option<VersionId> {
    let copy = copy_of(template);
    let path = format!("{}{file}", copy.path().display());
    let (trace, inject) = (format!("trace={call}"), format!("inject={call}:signal=KILL:when={nth}"));
    let went = child(copy.path(), &["-P", &path, "-e", &trace, "-e", &inject, "-o", "/dev/null"]).status().unwrap();
    let at = format!("{call} {file} {nth}");
    assert!(!went.success() || file.starts_with("/audit"), "{at}: it is not reached");
    (!went.success()).then(|| in_one_life(comes_to_rest(copy.path(), &at)))
}

/// The next start: the store opens, one version is served at any time, and what was begun is finished or undone.
async fn comes_to_rest(folder: &Path, when: &str) -> VersionId {
    let (house, subject) = (house(folder), random());
    if when != "at first" {
        one_is_current(&house, when).await;
    }
    let status = house.recover(&subject).await;
    assert_eq!(status.state, State::Idle, "{when}: {status:?}");
    let versions = one_is_current(&house, when).await;
    assert!(versions.at(Stage::Pending).is_none() && versions.at(Stage::Previous).is_none(), "{when}: {versions:?}");
    house.current().await.0
}

async fn one_is_current(house: &House, when: &str) -> Versions {
    let (versions, (_, value)) = (house.versions().await, house.current().await);
    let count = versions.iter().filter(|version| version.stages.has(Stage::Current)).count();
    assert!(count == 1 && (random().works)(value).await, "{when}: {versions:?}");
    versions
}
