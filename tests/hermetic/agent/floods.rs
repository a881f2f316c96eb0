//! A flood of refusals fills no disk, loses no count, and holds nobody up.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use futures_util::future::select_all;
use serde_json::Value;

use super::rig::Rig;
use super::wire::{eventually, post};

/// How long the flood lasts.
const FLOOD: Duration = Duration::from_secs(3);
/// What X8 leaves a flood, in bytes a second: 1 MiB a minute.
const BYTES_A_SECOND: u64 = (1 << 20) / 60;

type Counts = BTreeMap<String, u64>;

/// Asks for `provider` over and over; what was refused, by code.
async fn flood(rig: &Rig, workload: &str, asked: &str) -> Counts {
    let (began, mut counts) = (Instant::now(), Counts::new());
    let mut wire = rig.wire(workload).await;
    while began.elapsed() < FLOOD {
        let reply = wire.ask(asked).await.unwrap();
        assert!(reply.decision().is_some(), "a refusal that is counted names the record under which it is");
        *counts.entry(reply.text("error")).or_default() += 1;
    }
    counts
}

fn added(all: impl IntoIterator<Item = Counts>) -> Counts {
    let mut sum = Counts::new();
    all.into_iter().flatten().for_each(|(code, count)| *sum.entry(code).or_default() += count);
    sum
}

/// The refusals that the log tells of, singly and counted, by code.
fn told(rig: &Rig) -> Counts {
    added(rig.records().iter().map(|line| match line.kind() {
        "refusal" => Counts::from([(line.text("code").unwrap().to_owned(), 1)]),
        "suppressed" => {
            let counts: Counts = serde_json::from_value(line.get("counts").cloned().unwrap_or(Value::Null)).unwrap();
            assert_eq!(line.number("total"), Some(counts.values().sum()));
            counts
        }
        _ => Counts::new(),
    }))
}

fn log_bytes(rig: &Rig) -> u64 {
    let entries = std::fs::read_dir(&rig.log).unwrap().map(|entry| entry.unwrap().metadata().unwrap());
    entries.filter(std::fs::Metadata::is_file).map(|about| about.len()).sum()
}

#[tokio::test]
async fn a_flood_of_refusals_costs_little_log_and_every_one_is_counted() {
    let rig = Rig::new().await;
    assert_eq!(rig.token("checkout", "stripe", "").await.status, 200);
    let (before, began) = (log_bytes(&rig), Instant::now());
    let asked = post("stripe", "");
    let malformed = asked.replace("client_credentials", "clientXcredentials");
    let served = async {
        let (mut wire, mut bytes) = (rig.wire("checkout").await, 0);
        for _ in 0..30 {
            let reply = wire.ask(post("stripe", "")).await.unwrap();
            assert_eq!(reply.status, 200);
            bytes += u64::try_from(rig.record(&reply).as_str().len()).unwrap() + 1;
        }
        bytes
    };
    let (first, second, third, fourth, released) = tokio::join!(
        flood(&rig, "bursar", &asked),
        flood(&rig, "bursar", &malformed),
        flood(&rig, "reports", &asked),
        flood(&rig, "reports", &malformed),
        served,
    );
    let refused = added([first, second, third, fourth]);
    assert!(refused.values().sum::<u64>() > 200, "a flood: {refused:?}");
    assert_eq!(refused.keys().collect::<Vec<_>>(), ["access_denied", "unidentified", "unsupported_grant_type"]);
    eventually("all are told of", || async { (told(&rig) == refused).then_some(()) }).await;
    let (grown, seconds) = (log_bytes(&rig) - before - released, began.elapsed().as_secs() + 1);
    assert!(grown < seconds * BYTES_A_SECOND, "{grown} bytes in {seconds} s");
}

#[tokio::test]
async fn connections_that_come_and_go_leave_nothing_in_log_or_memory() {
    let rig = Rig::new().await;
    let mut wire = rig.wire("checkout").await;
    assert_eq!(wire.ask(post("stripe", "")).await.unwrap().status, 200);
    let (before, memory, began) = (log_bytes(&rig), rig.resident_kib(), Instant::now());
    let mut held = Vec::new();
    for nth in 0..2_000 {
        let wire = rig.wire("bursar").await;
        // Some of them stay: no more than the share of those who are nobody.
        if nth % 20 == 0 {
            held.push(wire);
        }
    }
    assert_eq!(wire.ask(post("stripe", "")).await.unwrap().status, 200);
    assert!(log_bytes(&rig) - before < (began.elapsed().as_secs() + 1) * BYTES_A_SECOND);
    assert!(rig.resident_kib() < memory + 16 * 1024, "{} after {memory} KiB", rig.resident_kib());
    assert!(rig.said().len() < 16 * 1024, "and little in the operators' log");
    let (turned_away, ..) = select_all(held.iter_mut().map(|wire| Box::pin(wire.reply()))).await;
    assert_eq!(turned_away.unwrap().outcome(), (429, "slow_down".into()));
}

#[tokio::test]
async fn connections_that_come_faster_than_they_are_taken_leave_nothing_behind() {
    let rig = Rig::new().await;
    assert_eq!(rig.token("checkout", "stripe", "").await.status, 200);
    let before = rig.resident_kib();
    let socket = rig.socket("checkout");
    // Two at once, so that there is always one to take.
    let come_and_go = || {
        let socket = socket.clone();
        tokio::task::spawn_blocking(move || (0..20_000).for_each(|_| drop(UnixStream::connect(&socket).unwrap())))
    };
    let (one, two) = tokio::join!(come_and_go(), come_and_go());
    (one.unwrap(), two.unwrap());
    assert_eq!(rig.token("checkout", "stripe", "").await.status, 200);
    // What each left behind, when it did, was 750 bytes: 30 MB in all.
    assert!(rig.resident_kib() < before + 8 * 1024, "{} after {before} KiB", rig.resident_kib());
}
