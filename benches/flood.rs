//! X8: a flood of one local user beside another workload's requests.
//!
//! `cargo bench --bench flood [-- --quick]`
//!
//! The workload asks at a steady pace over a few connections. Each round it does so in quiet, beside a flood of bare
//! axum (what the machine's two cores take from it, whoever is flooded), and beside a flood of the agent. The flood
//! comes from `nobody` where the bench runs as root, else from the same user with requests that are refused.

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

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rig::figures::{median, micros, print_table};
use rig::floor::{self, Floor};
use rig::issuer::Issuer;
use rig::load::{Address, Connections};
use rig::scene::{Durability, Scene};
use rig::server::{Server, ask};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const CONNECTIONS: usize = 8;
const PAUSE: Duration = Duration::from_millis(10);
const NOBODY: u32 = 65_534;

fn main() {
    floor::serve_if_asked();
    flood_if_asked();
    let quick = std::env::args().any(|argument| argument == "--quick");
    let (rounds, long) = if quick { (3, Duration::from_secs(1)) } else { (7, Duration::from_secs(3)) };
    let issuer = Issuer::start();
    let scene = Scene::lay(50, Durability::Disk, &issuer);
    let (agent, _) = scene.start("agent");
    let sockets = tempfile::tempdir().unwrap();
    let bare = Server::floor(Floor::Bare, sockets.path(), sockets.path());

    let measured: Vec<[f64; 3]> = (0..rounds)
        .map(|_| {
            let quiet = p99(&agent, long);
            let [beside, under] = [&bare, &agent].map(|flooded| {
                let _flood = Flood::of(flooded, long * 2);
                p99(&agent, long)
            });
            [quiet, beside, under]
        })
        .collect();
    let of = |figure: fn(&[f64; 3]) -> f64| format!("{:.0}", median(measured.iter().map(figure)));
    let ratio = |figure: fn(&[f64; 3]) -> f64| format!("{:.2}", median(measured.iter().map(figure)));
    println!("p99 of a workload with {CONNECTIONS} connections, each resting {PAUSE:?} after an answer; bar ≤ 2 ×\n");
    print_table(&[
        ["", "p99 µs", "× quiet", "× beside a flood of bare axum"].map(str::to_owned).to_vec(),
        vec!["in quiet".into(), of(|[quiet, _, _]| *quiet), "1".into(), String::new()],
        vec![
            "beside a flood of bare axum".into(),
            of(|[_, beside, _]| *beside),
            ratio(|[quiet, beside, _]| beside / quiet),
            "1".into(),
        ],
        vec![
            "beside a flood of the agent".into(),
            of(|[_, _, under]| *under),
            ratio(|[quiet, _, under]| under / quiet),
            ratio(|[_, beside, under]| under / beside),
        ],
    ]);
}

fn p99(server: &Server, long: Duration) -> f64 {
    let mut connections = Connections::open(&server.target, CONNECTIONS).unwrap();
    connections.drive(long / 5, PAUSE).unwrap();
    let sample = connections.drive(long, PAUSE).unwrap();
    assert_eq!(sample.failures, 0, "the workload's own requests are answered");
    micros(sample.latencies.quantile(0.99))
}

/// A process that floods; it ends by itself after its time, and is ended when this is dropped.
struct Flood(Child);

impl Flood {
    fn of(server: &Server, long: Duration) -> Self {
        let Address::Unix(socket) = &server.target.address else { panic!("a unix socket is flooded") };
        open_to_all(socket.parent().unwrap());
        open_to_all(socket);
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("--flood").arg(socket).arg(long.as_millis().to_string());
        if rustix::process::getuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        Self(command.spawn().expect("the bench's own program can be executed by `nobody`"))
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn open_to_all(path: &Path) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
}

/// Floods if that is what this process was executed for, and ends then.
fn flood_if_asked() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() != Some("--flood") {
        return;
    }
    let socket = PathBuf::from(arguments.next().unwrap());
    let long = Duration::from_millis(arguments.next().unwrap().parse().unwrap());
    let began = Instant::now();
    std::thread::scope(|scope| {
        for flood in [requests, requests, connections, halves] {
            let socket = &socket;
            scope.spawn(move || {
                while began.elapsed() < long {
                    // What the server closes is begun anew at once.
                    let _ = flood(socket);
                }
            });
        }
    });
    #[expect(clippy::exit, reason = "the child of a bench is done")]
    std::process::exit(0);
}

/// Requests on one connection, as fast as they are refused.
fn requests(socket: &Path) -> std::io::Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    let (request, mut reply) = (ask("not-listed"), [0; 16 * 1024]);
    loop {
        stream.write_all(&request)?;
        if stream.read(&mut reply)? == 0 {
            return Ok(());
        }
    }
}

/// Connections that are left at once.
fn connections(socket: &Path) -> std::io::Result<()> {
    (0..64).try_for_each(|_| UnixStream::connect(socket).map(drop))
}

/// Many connections with half a request each, and a header that does not end.
fn halves(socket: &Path) -> std::io::Result<()> {
    let mut held = Vec::new();
    for _ in 0..200 {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_nonblocking(true)?;
        let _ = stream.write(b"POST /token/provider-0 HTTP/1.1\r\nx: ");
        let _ = stream.write(&[b'a'; 8 * 1024]);
        held.push(stream);
    }
    Ok(())
}
