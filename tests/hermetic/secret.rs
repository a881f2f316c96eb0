//! Secrets in memory: where they lie while they live, and that they are nowhere afterwards.
//!
//! Each test starts this program again as a child, lets it come to a point, and reads the child's memory from
//! outside. The allocator below is the product's; the child can switch its wiping off, to show that the search finds
//! what was not wiped.

mod allocator;
pub(crate) mod memory;

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};

use bursar::crypto::SystemRandom;
use bursar::crypto::seal::SealKey;
use bursar::secret::{Secret, process, stats};

use memory::Memory;

/// 48 bytes that stand nowhere in this program: both sides compute them.
fn canary() -> Vec<u8> {
    (1..=48_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 11) as u8).collect()
}

/// Starts this program again to run `child` alone, and waits until it says that it is there.
fn at_its_point(child: &str, wiping: &str) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("secret::{child}"), "--ignored", "--nocapture", "--test-threads=1"])
        .env("BURSAR_TEST_WIPING", wiping)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line == "here"), "the child did not come to its point");
    child
}

/// Says that the point is reached, and waits until the parent has looked.
fn here() {
    println!("\nhere");
    let _ = std::io::stdin().read(&mut [0]);
}

fn found(mut child: Child) -> usize {
    let found = Memory::of(child.id()).count(&canary());
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    found
}

#[test]
#[ignore = "a child of the tests below"]
fn child_with_a_living_secret() {
    let secret = Secret::new(canary());
    here();
    assert!(secret.matches(&canary()));
}

/// A secret on the ways that secrets take: taken over, grown in a buffer, formatted, sealed, opened, compared.
#[test]
#[ignore = "a child of the tests below"]
fn child_with_a_dead_secret() {
    allocator::set_wiping(std::env::var("BURSAR_TEST_WIPING").unwrap() == "on");
    {
        let secret = Secret::new(canary());
        let mut body = b"token=".to_vec();
        for byte in secret.expose() {
            body.push(*byte);
        }
        let longer = body.repeat(400);
        let key = SealKey::derive(&Secret::new(vec![7; 32]), "canary").unwrap();
        let sealed = key.seal(&SystemRandom, &secret, b"").unwrap();
        let opened = key.open(&sealed, b"").unwrap();
        assert!(opened.matches(secret.expose()) && longer.ends_with(opened.expose()));
        let cut = Secret::read_from(&longer[..], 1 << 20).unwrap();
        assert_eq!(cut.len(), longer.len());
    }
    here();
}

#[test]
fn a_living_secret_is_found_in_the_arena_and_nowhere_else() {
    assert_eq!(found(at_its_point("child_with_a_living_secret", "on")), 1);
}

#[test]
fn a_dead_secret_is_nowhere() {
    assert_eq!(found(at_its_point("child_with_a_dead_secret", "on")), 0);
}

#[test]
fn without_the_wiping_allocator_the_search_finds_it() {
    assert!(found(at_its_point("child_with_a_dead_secret", "off")) > 0);
}

#[test]
fn the_arena_is_locked_and_left_out_of_dumps_and_forks() {
    let secret = Secret::new(canary());
    let flags = Memory::of(std::process::id()).flags(secret.expose().as_ptr() as usize);
    for (flag, meaning) in [("dd", "not dumped"), ("wf", "wiped on fork")] {
        assert!(flags.contains(&flag.to_owned()), "{meaning}: {flags:?}");
    }
    assert_eq!(stats().dumpable_bytes, 0);
    assert_eq!(flags.contains(&"lo".to_owned()), stats().locked_bytes > 0, "locked as far as the limit lets it");
}

#[test]
#[ignore = "a child of the test below"]
fn child_beyond_its_lock_limit() {
    use rustix::process::{Gid, Resource, Rlimit, Uid, setrlimit};
    // Root may lock without limit; nobody may not.
    if rustix::process::geteuid().is_root() {
        rustix::thread::set_thread_res_gid(Gid::from_raw(65_534), Gid::from_raw(65_534), Gid::from_raw(65_534))
            .unwrap();
        rustix::thread::set_thread_res_uid(Uid::from_raw(65_534), Uid::from_raw(65_534), Uid::from_raw(65_534))
            .unwrap();
    }
    setrlimit(Resource::Memlock, Rlimit { current: Some(1 << 20), maximum: Some(1 << 20) }).unwrap();
    let before = stats();
    let secrets = (0..2_000).map(|_| Secret::new(vec![1; 1_500])).collect::<Vec<_>>();
    let after = stats();
    assert!(after.locked_bytes <= 1 << 20 && after.mapped_bytes - after.locked_bytes >= 2 << 20, "{after:?}");
    assert!(after.mapped_bytes * 5 <= after.in_use_bytes * 6 + (1 << 20), "an arena costs at most 1.2 × its values");
    drop(secrets);
    assert!(stats().mapped_bytes <= before.mapped_bytes + (1 << 19), "what is free is given back");
    here();
}

#[test]
fn beyond_the_lock_limit_secrets_are_kept_and_counted() {
    assert_eq!(found(at_its_point("child_beyond_its_lock_limit", "on")), 0);
}

#[test]
#[ignore = "a child of the test below"]
fn child_that_is_hardened_and_aborts() {
    rustix::process::umask(rustix::fs::Mode::from(0o027));
    let hardening = process::harden();
    assert_eq!(hardening.missing().count(), 0, "{hardening:?}");
    assert_eq!(hardening.umask_before, 0o027);
    assert_eq!(rustix::process::dumpable_behavior().unwrap(), rustix::process::DumpableBehavior::NotDumpable);
    let _secret = Secret::new(canary());
    // Other programs are still started, and are not bound.
    assert!(Command::new("true").status().unwrap().success());
    here();
    std::process::abort();
}

#[test]
fn a_hardened_process_leaves_no_core() {
    let mut child = at_its_point("child_that_is_hardened_and_aborts", "on");
    drop(child.stdin.take());
    let status = child.wait().unwrap();
    assert_eq!((status.signal(), status.core_dumped()), (Some(6), false));
}
