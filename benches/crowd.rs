//! R6: as many connections as descriptors carry, each of a kind that costs the most it can, beside another workload.
//!
//! `cargo bench --bench crowd [-- --quick]`
//!
//! Each kind of crowd comes to an agent of its own. The workload asks at a steady pace over a few connections, in each round
//! first an agent that nobody else asks, then the one with the crowd; none of its requests may fail. What a crowd's connections take in the kernel (the
//! buffers of their sockets) is not in the agent's resident memory.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a bench may panic"
)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints what it measured")]
#![expect(clippy::disallowed_methods, reason = "a bench reads the clock")]

#[expect(dead_code, reason = "each bench uses its part")]
mod rig;

use std::io::{ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bursar::peer::Peer;
use bursar::peer::shares::Shares;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use rig::figures::{median, micros, print_table};
use rig::floor;
use rig::issuer::Issuer;
use rig::load::{Address, Connections};
use rig::scene::{Durability, Scene};
use rig::server::{Server, ask};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What the workload has; the crowd leaves them free.
const CONNECTIONS: usize = 8;
const PAUSE: Duration = Duration::from_millis(10);
/// The providers of a scene with 50 rules.
const PROVIDERS: usize = 20;

/// What each connection of a crowd sends before it rests; it never reads.
enum Kind {
    Silent,
    /// A head, and half of the body that it announces.
    HalfABody,
    /// A head of 15 KiB that does not end: the most that is waited for is 16 KiB.
    HalfAHead,
    /// 200 requests at once: the answers are more than the kernel keeps for a reader.
    SlowReader,
    /// A head of 1 MiB: refused and closed, and at once another comes.
    LongHead,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Silent, Self::HalfABody, Self::HalfAHead, Self::SlowReader, Self::LongHead];

    fn as_str(&self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::HalfABody => "half a body",
            Self::HalfAHead => "15 KiB of a head",
            Self::SlowReader => "200 requests, no answer read",
            Self::LongHead => "heads of 1 MiB, again and again",
        }
    }

    /// How many come where `carried` find room.
    fn count(&self, carried: usize) -> usize {
        match self {
            Self::Silent | Self::HalfABody | Self::HalfAHead => carried - 2 * CONNECTIONS,
            // Each makes some hundred records, and they have to be made before the agent cuts who does not read.
            Self::SlowReader => carried / 20,
            Self::LongHead => 100,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        const HEAD: &[u8] = b"POST /token/provider-0 HTTP/1.1\r\ncontent-type: application/x-www-form-urlencoded\r\n";
        let long = |length| [HEAD, b"x: ", &vec![b'a'; length][..]].concat();
        match self {
            Self::Silent => Vec::new(),
            Self::HalfABody => [HEAD, b"content-length: 99\r\n\r\ngrant_type="].concat(),
            Self::HalfAHead => long(15 << 10),
            Self::SlowReader => ask("read").repeat(200),
            Self::LongHead => long(1 << 20),
        }
    }

    /// The crowd: all of its connections, for as long as they are held.
    fn gather(&self, socket: &Path, carried: usize) -> Vec<UnixStream> {
        let bytes = self.bytes();
        (0..self.count(carried)).map(|_| Self::one(socket, &bytes)).collect()
    }

    fn one(socket: &Path, bytes: &[u8]) -> UnixStream {
        let mut stream = loop {
            match UnixStream::connect(socket) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                connected => break connected.unwrap(),
            }
        };
        stream.set_nonblocking(true).unwrap();
        // As much as the kernel takes, and as the agent wants to read.
        let _ = stream.write(bytes);
        stream
    }
}

fn main() {
    floor::serve_if_asked();
    let quick = std::env::args().any(|argument| argument == "--quick");
    // All rounds of a crowd have to be over before the agent cuts who makes no progress: after 30 s.
    let (rounds, long) = if quick { (3, Duration::from_secs(1)) } else { (5, Duration::from_millis(1_500)) };
    let carried = raise_descriptor_limit();
    let issuer = Issuer::start();
    let [scene, elsewhere] = [(); 2].map(|()| Scene::lay(50, Durability::Disk, &issuer));
    let (calm, _) = elsewhere.start("agent in quiet");
    let rounds = Rounds { calm, rounds, long };
    let head = ["crowd", "connections", "descriptors", "resident", "more for each", "p99 of a workload", "× in quiet"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(Kind::ALL.iter().map(|kind| beside(kind, &scene, carried, &rounds)));
    println!("{carried} connections are what the limit of descriptors carries\n");
    print_table(&rows);
}

/// One row: what the agent takes with this crowd, and what the workload feels of it.
fn beside(kind: &Kind, scene: &Scene, carried: usize, rounds: &Rounds) -> Vec<String> {
    let (agent, _) = scene.start("agent");
    let Address::Unix(socket) = &agent.target.address else { panic!("the agent is at a unix socket") };
    p99(&agent, rounds.long);
    let before = agent.resident_kib();
    let over = AtomicBool::new(false);
    let (descriptors, [beside, ratio], resident) = std::thread::scope(|scope| {
        let held = kind.gather(socket, carried);
        await_rest(&agent);
        if matches!(kind, Kind::LongHead) {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    drop(kind.gather(socket, carried));
                }
            });
        }
        let descriptors = std::fs::read_dir(format!("/proc/{}/fd", agent.pid)).unwrap().count();
        let measured = (descriptors, rounds.of(&agent), agent.resident_kib());
        over.store(true, Ordering::Relaxed);
        drop(held);
        measured
    });
    let count = kind.count(carried);
    #[expect(clippy::cast_precision_loss, reason = "kibibytes and connections")]
    let (megabytes, each) = (resident as f64 / 1e3, resident.saturating_sub(before) as f64 / count as f64);
    vec![
        kind.as_str().into(),
        count.to_string(),
        descriptors.to_string(),
        format!("{megabytes:.0} MB"),
        format!("{each:.1} KB"),
        format!("{beside:.0} µs"),
        format!("{ratio:.2}"),
    ]
}

/// How the workload is measured.
struct Rounds {
    calm: Server,
    rounds: usize,
    long: Duration,
}

impl Rounds {
    /// The workload's p99 at `agent` in microseconds, and its ratio to that in quiet: medians.
    fn of(&self, agent: &Server) -> [f64; 2] {
        let round = |_| [&self.calm, agent].map(|server| p99(server, self.long));
        let measured: Vec<_> = (0..self.rounds).map(round).collect();
        [
            median(measured.iter().map(|[_, beside]| *beside)),
            median(measured.iter().map(|[quiet, beside]| beside / quiet)),
        ]
    }
}

fn p99(server: &Server, long: Duration) -> f64 {
    let mut connections = Connections::open(&server.target, CONNECTIONS).unwrap();
    connections.drive(long / 5, PAUSE).unwrap();
    let sample = connections.drive(long, PAUSE).unwrap();
    assert_eq!(sample.failures, 0, "the workload's own requests are answered");
    micros(sample.latencies.quantile(0.99))
}

/// Waits until the server has taken everything in: until it spends next to no more processor time, also where it has to
/// wait for a processor.
fn await_rest(server: &Server) {
    let mut spent = server.processor_time();
    loop {
        std::thread::sleep(Duration::from_millis(500));
        let now = server.processor_time();
        if now.saturating_sub(spent) <= Duration::from_millis(10) {
            return;
        }
        spent = now;
    }
}

/// Raises the limit for this process and its children; how many connections the agent will then take.
fn raise_descriptor_limit() -> usize {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    let outgoing = PROVIDERS * bursar::token::MOST_FLIGHTS;
    Shares::carried_by(maximum.unwrap_or(u64::MAX), outgoing, Peer::DESCRIPTORS, 10_000, Some(10_000)).connections
}
