//! S5: five thousand readers of one cold token, beside bare axum answering as many connections that wait.
//!
//! `cargo bench --bench cold [-- --quick] [--readers N]`
//!
//! The issuer is held until every reader has asked; then it answers its one request. What is measured is the time
//! from there to the last reader's answer. The floor's handler waits at a gate that is opened at the same point.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a bench may panic")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints what it measured")]
#![expect(clippy::disallowed_methods, reason = "a bench reads the clock")]

#[expect(dead_code, reason = "each bench uses its part")]
mod rig;

use std::io::Write;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use rig::figures::{median, micros, print_table};
use rig::floor::{self, Floor};
use rig::issuer::Issuer;
use rig::load::Connections;
use rig::scene::{Durability, Scene};
use rig::server::Server;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    floor::serve_if_asked();
    let arguments: Vec<String> = std::env::args().collect();
    let after = |flag: &str| arguments.iter().skip_while(|argument| *argument != flag).nth(1);
    let readers = after("--readers").map_or(5_000, |count| count.parse().unwrap());
    let rounds = if arguments.iter().any(|argument| argument == "--quick") { 3 } else { 9 };
    raise_descriptor_limit();

    let mut figures = Vec::new();
    for _ in 0..rounds {
        figures.push([bare(readers), agent(readers)]);
    }
    let of = |nth: usize, figure: fn(&Wake) -> f64| median(figures.iter().map(|round| figure(&round[nth])));
    let ratio = |figure: fn(&Wake) -> f64| median(figures.iter().map(|[bare, agent]| figure(agent) / figure(bare)));
    println!("{readers} readers of one cold token, {rounds} rounds, medians; bar: answering ≤ 2.5 × bare axum\n");
    let row = |name: &str, asking: f64, answering: f64, unit: &str| {
        vec![name.to_owned(), format!("{asking:.1}{unit}"), format!("{answering:.1}{unit}")]
    };
    print_table(&[
        ["", "connecting and asking", "answering"].map(str::to_owned).to_vec(),
        row("bare axum behind a gate", of(0, Wake::asked_ms), of(0, Wake::answered_ms), " ms"),
        row("agent", of(1, Wake::asked_ms), of(1, Wake::answered_ms), " ms"),
        row("ratio", ratio(Wake::asked_ms), ratio(Wake::answered_ms), " ×"),
    ]);
}

/// One round: how long until all had asked, and from the release to the last answer.
struct Wake {
    asked: Duration,
    answered: Duration,
}

impl Wake {
    fn of(server: &Server, readers: usize, release: impl FnOnce()) -> Self {
        let began = Instant::now();
        let mut connections = Connections::open(&server.target, readers).unwrap();
        connections.send_all().unwrap();
        let asked = began.elapsed();
        await_rest(server);
        let began = Instant::now();
        release();
        let sample = connections.receive_all().unwrap();
        assert_eq!((sample.failures, sample.latencies.count()), (0, readers as u64), "{}", server.name);
        Self { asked, answered: began.elapsed() }
    }

    fn asked_ms(&self) -> f64 {
        micros(self.asked) / 1e3
    }

    fn answered_ms(&self) -> f64 {
        micros(self.answered) / 1e3
    }
}

fn bare(readers: usize) -> Wake {
    let sockets = tempfile::tempdir().unwrap();
    let mut server = Server::floor(Floor::Gated, sockets.path(), sockets.path());
    let mut gate = server.stdin();
    Wake::of(&server, readers, || gate.write_all(b"!").unwrap())
}

fn agent(readers: usize) -> Wake {
    let issuer = Issuer::start();
    let scene = Scene::lay(50, Durability::Disk, &issuer);
    issuer.hold();
    let (server, _) = scene.start("agent");
    let wake = Wake::of(&server, readers, || issuer.release());
    assert_eq!(issuer.requests(), 1, "one request upstream for all readers");
    wake
}

/// Waits until the server has taken every request in: until it spends no more processor time.
fn await_rest(server: &Server) {
    let mut spent = server.processor_time();
    loop {
        std::thread::sleep(Duration::from_millis(60));
        let now = server.processor_time();
        if now == spent {
            return;
        }
        spent = now;
    }
}

fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
}
