//! A store's outage under load: 64 connections that read a secret all the time, while the OpenBao in which it lies is
//! sealed, killed, and back.
//!
//! Forty seconds here; `BURSAR_OUTAGE_SCALE` stretches every time of it, as for the provider's outage. What is asserted
//! holds on a machine of any speed: nothing is expected to happen within a time, but what has happened is held against the
//! times at which it did.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use crate::bao::Bao;
use crate::counted::Counted;
use crate::outage::{reply, seconds};
use crate::rig::Agent;
use crate::store_agent::{RULE, entries};

const CONNECTIONS: usize = 64;
/// What each of them rests between two requests.
const PACE: Duration = Duration::from_millis(100);
/// What is said to be fresh was the store's so long ago at most: a read may take 5 s, which is longer than `stale_after`.
const FRESH: Duration = Duration::from_secs(5);
/// The longest to wait for what has to come at some time.
const PATIENCE: Duration = Duration::from_secs(60);
/// A read costs two requests.
const A_READ: u64 = 2;

/// One answer: when it was asked for, when it came, and what it said.
#[derive(Clone, Copy, Debug)]
struct Answered {
    sent: Instant,
    at: Instant,
    status: u16,
    stale: bool,
    value: u64,
}

/// A time without the store, and what came of it.
#[derive(Clone, Copy, Debug)]
struct Outage {
    /// What the value was changed to, when the store was back.
    value: u64,
    /// From when on it was not there.
    began: Instant,
    /// From when on it may have been.
    ended: Instant,
    /// When the value had been changed.
    changed: Instant,
    /// When that was served first, as fresh.
    recovered: Instant,
    /// How many requests came to the store while it was not there, and from then until a while after it was served again.
    requests: [u64; 2],
    /// How many may have.
    most: [u64; 2],
}

/// The readers, and what they have seen.
struct Load {
    stop: Arc<AtomicBool>,
    /// The newest value that was served as fresh.
    newest: Arc<AtomicU64>,
    readers: JoinSet<Vec<Answered>>,
}

impl Load {
    fn start(socket: &std::path::Path) -> Self {
        let (stop, newest) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let mut readers = JoinSet::new();
        for _ in 0..CONNECTIONS {
            readers.spawn(keep_reading(socket.to_owned(), Arc::clone(&stop), Arc::clone(&newest)));
        }
        Self { stop, newest, readers }
    }

    /// Waits until `value` is served as fresh.
    async fn until(&self, value: u64) {
        let seen = async {
            while self.newest.load(Ordering::SeqCst) < value {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, seen).await.unwrap();
    }

    /// Every answer, by the time at which it came.
    async fn end(self) -> Vec<Answered> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all: Vec<_> = self.readers.join_all().await.into_iter().flatten().collect();
        all.sort_by_key(|answered| answered.at);
        all
    }
}

/// Reads over one connection until it is told to stop.
async fn keep_reading(socket: PathBuf, stop: Arc<AtomicBool>, newest: Arc<AtomicU64>) -> Vec<Answered> {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    let mut all = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let sent = Instant::now();
        stream.write_all(b"GET /secret/key HTTP/1.1\r\nHost: localhost\r\nBursar: 1\r\n\r\n").await.unwrap();
        let (status, body) = reply(&mut stream).await;
        let value = body["value"].as_str().map_or(0, |value| value.parse().unwrap());
        let stale = body["stale"] == true;
        if !stale {
            newest.fetch_max(value, Ordering::SeqCst);
        }
        all.push(Answered { sent, at: Instant::now(), status, stale, value });
        tokio::time::sleep(PACE).await;
    }
    all
}

/// Somebody else writes the value.
async fn write(bao: &Bao, value: u64) -> Instant {
    bao.root("POST", "kv/data/apps/key", json!({ "data": { "value": value.to_string() } })).await;
    Instant::now()
}

/// The most requests in a time that began then: a read in a second, as the back-off keeps them at least half of one and
/// then one apart, and `stale_after` more; and what remains of both ends.
fn most_since(began: Instant) -> u64 {
    A_READ * (began.elapsed().as_secs() + 4)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_a_store_under_load_refuses_no_known_secret() {
    let mut bao = Bao::start().await;
    let store = Counted::before(bao.plain).await;
    write(&bao, 1).await;
    let agent = Agent::start_with(&entries(&bao, store.address, "stale_after = \"2s\"").await, &[RULE]);
    let load = Load::start(&agent.socket_of("checkout"));
    load.until(1).await;
    tokio::time::sleep(seconds(4)).await;

    let mut outages = Vec::new();
    for value in [2, 3] {
        let is_sealed = value == 2;
        if is_sealed {
            bao.seal().await
        } else {
            bao.kill()
        }
        let (began, before) = (Instant::now(), store.requests());
        tokio::time::sleep(seconds(10)).await;
        let (ended, during) = (Instant::now(), store.requests());
        let most_during = most_since(began);
        if !is_sealed {
            bao.start_again().await;
        }
        bao.unseal().await;
        let changed = write(&bao, value).await;
        load.until(value).await;
        let recovered = Instant::now();
        tokio::time::sleep(seconds(6)).await;
        let requests = [during - before, store.requests() - during];
        outages.push(Outage {
            value,
            began,
            ended,
            changed,
            recovered,
            requests,
            most: [most_during, most_since(ended)],
        });
    }
    let all = load.end().await;
    for outage in &outages {
        let stale =
            |answered: &&Answered| answered.stale && answered.at > outage.began && answered.at < outage.recovered;
        println!(
            "{} answers; away for {:?}: {} stale, {} requests; recovered {:?} after the value was changed, {} requests",
            all.len(),
            outage.ended - outage.began,
            all.iter().filter(stale).count(),
            outage.requests[0],
            outage.recovered.saturating_duration_since(outage.changed),
            outage.requests[1]
        );
    }
    for answered in &all {
        assert_eq!(answered.status, 200, "a known secret is refused: {answered:?}");
    }
    outages.iter().for_each(|outage| hold(outage, &all));
    let last = all.last().unwrap();
    assert_eq!((last.value, last.stale), (3, false));
}

/// What is promised of every outage.
fn hold(outage: &Outage, all: &[Answered]) {
    let without = |answered: &&Answered| answered.sent > outage.began + FRESH && answered.at < outage.ended;
    let without: Vec<_> = all.iter().filter(without).collect();
    assert!(!without.is_empty(), "somebody asked: {outage:?}");
    assert!(without.iter().all(|answered| answered.stale), "it is declared: {outage:?}");
    let old = all.iter().find(|answered| answered.value < outage.value && answered.sent > outage.changed + FRESH);
    assert!(old.is_none_or(|answered| answered.stale), "what is fresh is what the store has by now: {old:?}");
    for (requests, most) in outage.requests.iter().zip(outage.most) {
        assert!(*requests <= most, "{requests} requests instead of {most}: {outage:?}");
    }
}
