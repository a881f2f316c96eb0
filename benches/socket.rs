//! S1 and S3: the agent through its real socket, asked for a token and for a secret, beside its floors, in one run.
//!
//! `cargo bench --bench socket [-- --quick] [--floors] [--rounds N] [--connections N,N…]
//! [--build NAME,PROGRAM]… [--peer NAME,ADDRESS,REQUEST-FILE,PID]…`
//!
//! `--build` takes another build of bursar into the run, so that a change can be seen beside what it changes;
//! `--peer` takes another program's agent that is already running; `benches/peers` starts those that S2 names.
//!
//! In every round each server is driven in turn with the same connections, and its figures are divided by those
//! that the floors had in that round: the machine is noisy, and what slows a round slows it for all.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a bench may panic"
)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints what it measured")]
#![expect(clippy::disallowed_methods, reason = "a bench reads the clock")]

#[expect(dead_code, reason = "each bench uses its part")]
mod rig;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rig::append::Segment;
use rig::figures::{Histogram, median, micros, print_table};
use rig::floor::{self, Floor};
use rig::issuer::Issuer;
use rig::load::{Address, Connections, Target};
use rig::scene::{self, Durability, Scene};
use rig::server::Server;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    floor::serve_if_asked();
    let plan = Plan::of(std::env::args().skip(1));
    let sockets = tempfile::tempdir().unwrap();
    let disk = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let issuer = Issuer::start();
    let mut servers: Vec<Server> =
        [Floor::Bare, Floor::Durable].map(|floor| Server::floor(floor, sockets.path(), disk.path())).into();
    let lay = |build: &Build| Scene::of(&build.program, 50, build.durability, &issuer);
    let scenes: Vec<_> = plan.builds.iter().map(lay).collect();
    for (build, scene) in plan.builds.iter().zip(&scenes) {
        let server = scene.start(&build.name).0;
        let reader = server.read(&format!("{}, GET /secret", build.name));
        servers.extend([server, reader]);
    }
    servers.extend(plan.peers.iter().map(Peer::server));

    for connections in plan.connections {
        let mut rounds = Vec::new();
        let mut syncs = Histogram::new();
        for _ in 0..plan.rounds {
            probe(&disk.path().join("probe"), &mut syncs);
            rounds.push(servers.iter().map(|server| measure(server, connections, plan.long)).collect());
            // What `os` left unwritten would otherwise be written in some later server's time.
            rustix::fs::sync();
        }
        report(connections, &servers, &rounds, &syncs);
        beside(&servers[..servers.len() - plan.peers.len()], &servers, &rounds);
    }
}

/// How long and how often.
struct Plan {
    rounds: usize,
    long: Duration,
    connections: Vec<usize>,
    builds: Vec<Build>,
    peers: Vec<Peer>,
}

impl Plan {
    fn of(mut arguments: impl Iterator<Item = String>) -> Self {
        let (connections, builds) = (vec![1, 8, 64, 256], [Durability::Disk, Durability::Os].map(Build::ours).into());
        let mut plan = Self { rounds: 9, long: Duration::from_secs(1), connections, builds, peers: Vec::new() };
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--quick" => (plan.rounds, plan.long) = (3, Duration::from_millis(400)),
                "--floors" => plan.builds.clear(),
                "--connections" => {
                    plan.connections =
                        arguments.next().unwrap().split(',').map(|count| count.parse().unwrap()).collect();
                }
                "--build" => plan.builds.push(Build::of(&arguments.next().unwrap())),
                "--rounds" => plan.rounds = arguments.next().unwrap().parse().unwrap(),
                "--peer" => plan.peers.push(Peer::of(&arguments.next().unwrap())),
                "--bench" => {}
                unknown => panic!("`{unknown}` is not an argument of this bench"),
            }
        }
        plan
    }
}

/// A build of bursar, and how it is configured.
struct Build {
    name: String,
    program: PathBuf,
    durability: Durability,
}

impl Build {
    /// The one that was built with this bench.
    fn ours(durability: Durability) -> Self {
        Self { name: format!("bursar, {}", durability.as_str()), program: scene::PROGRAM.into(), durability }
    }

    fn of(text: &str) -> Self {
        let (name, program) = text.split_once(',').expect("write a build as NAME,PROGRAM");
        Self { name: name.to_owned(), program: program.into(), durability: Durability::Disk }
    }
}

/// Another program's agent, already running.
struct Peer {
    name: String,
    pid: u32,
    target: Target,
}

impl Peer {
    fn of(text: &str) -> Self {
        let [name, address, request, pid] = text.split(',').collect::<Vec<_>>()[..] else {
            panic!("write a peer as NAME,ADDRESS,REQUEST-FILE,PID")
        };
        let address = match address.parse() {
            Ok(address) => Address::Tcp(address),
            Err(_) => Address::Unix(address.into()),
        };
        let target = Target { address, request: std::fs::read(request).unwrap() };
        Self { name: name.to_owned(), pid: pid.parse().unwrap(), target }
    }

    fn server(&self) -> Server {
        Server::foreign(&self.name, self.pid, self.target.clone())
    }
}

/// What one server did in one round.
struct Cell {
    per_second: f64,
    p50: f64,
    p99: f64,
    /// Processor time of the server for one request, µs.
    processor: f64,
}

fn measure(server: &Server, connections: usize, long: Duration) -> Cell {
    let mut connections = Connections::open(&server.target, connections).unwrap();
    connections.drive(long.mul_f64(0.15), Duration::ZERO).unwrap();
    let before = server.processor_time();
    let sample = connections.drive(long, Duration::ZERO).unwrap();
    let spent = server.processor_time() - before;
    assert_eq!(sample.failures, 0, "{} failed requests", server.name);
    Cell {
        per_second: sample.per_second(),
        p50: micros(sample.latencies.quantile(0.5)),
        p99: micros(sample.latencies.quantile(0.99)),
        processor: micros(spent) / (sample.per_second() * sample.took.as_secs_f64()),
    }
}

/// Appends and syncs as one writer alone would.
fn probe(path: &Path, syncs: &mut Histogram) {
    let mut segment = Segment::create(path).unwrap();
    for _ in 0..100 {
        let began = Instant::now();
        segment.append(floor::record());
        syncs.record(began.elapsed());
    }
}

fn report(connections: usize, servers: &[Server], rounds: &[Vec<Cell>], syncs: &Histogram) {
    println!("\n{connections} connections, {} rounds, medians; ratios are medians of each round's", rounds.len());
    let (half, most) = (micros(syncs.quantile(0.5)), micros(syncs.quantile(0.99)));
    println!("append + fdatasync alone: p50 {half:.0} µs, p99 {most:.0} µs\n");
    let head = [
        "server",
        "req/s",
        "p50 µs",
        "p99 µs",
        "CPU µs",
        "× bare (least–most)",
        "× append",
        "CPU × bare",
        "p99 × bare",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for (nth, server) in servers.iter().enumerate() {
        let of = |figure: fn(&Cell) -> f64| median(rounds.iter().map(|round| figure(&round[nth])));
        let against = |floor: usize, figure: fn(&Cell) -> f64| {
            rounds.iter().map(move |round| figure(&round[nth]) / figure(&round[floor])).collect::<Vec<_>>()
        };
        let speed = against(0, |cell| cell.per_second);
        rows.push(vec![
            server.name.clone(),
            format!("{:.0}", of(|cell| cell.per_second)),
            format!("{:.0}", of(|cell| cell.p50)),
            format!("{:.0}", of(|cell| cell.p99)),
            format!("{:.1}", of(|cell| cell.processor)),
            format!("{:.2} ({:.2}–{:.2})", median(speed.clone()), least(&speed), most_of(&speed)),
            format!("{:.2}", median(against(1, |cell| cell.per_second))),
            format!("{:.2}", median(against(0, |cell| cell.processor))),
            format!("{:.2}", median(against(0, |cell| cell.p99))),
        ]);
    }
    print_table(&rows);
}

/// How each of `ours` but the floors does beside each peer that comes after them.
fn beside(ours: &[Server], servers: &[Server], rounds: &[Vec<Cell>]) {
    if ours.len() == servers.len() {
        return;
    }
    let mut rows = vec![["server", "beside", "× req/s (least–most)", "× p99"].map(str::to_owned).to_vec()];
    for (nth, one) in ours.iter().enumerate().skip(2) {
        for (peer, other) in servers.iter().enumerate().skip(ours.len()) {
            let ratio = |figure: fn(&Cell) -> f64| {
                rounds.iter().map(|round| figure(&round[nth]) / figure(&round[peer])).collect::<Vec<_>>()
            };
            let (speed, p99) = (ratio(|cell| cell.per_second), ratio(|cell| cell.p99));
            rows.push(vec![
                one.name.clone(),
                other.name.clone(),
                format!("{:.2} ({:.2}–{:.2})", median(speed.clone()), least(&speed), most_of(&speed)),
                format!("{:.2}", median(p99)),
            ]);
        }
    }
    println!();
    print_table(&rows);
}

fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

fn most_of(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}
