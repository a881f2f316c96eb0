//! A server under measurement: a child process, its socket, and what the kernel says of it.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::floor::Floor;
use super::load::{Address, Target};

/// A running server. A child is ended and reaped when this is dropped.
pub(crate) struct Server {
    /// Its name in tables.
    pub(crate) name: String,
    /// Where it answers, and what it is asked.
    pub(crate) target: Target,
    /// Its process.
    pub(crate) pid: u32,
    child: Option<Child>,
}

impl Server {
    /// Starts a floor on a socket in `sockets`, its file in `scratch`.
    pub(crate) fn floor(floor: Floor, sockets: &Path, scratch: &Path) -> Self {
        let socket = sockets.join(format!("{}.sock", floor.name().replace(' ', "-")));
        let file = scratch.join(floor.name().replace(' ', "-"));
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("--floor").arg(floor.name()).args([&socket, &file]);
        let child = command.stdin(Stdio::piped()).spawn().unwrap();
        let server = Self::of(floor.name(), child, Target { address: Address::Unix(socket), request: ask("read") });
        server.await_socket();
        server
    }

    /// Takes charge of `child`.
    pub(crate) fn of(name: &str, child: Child, target: Target) -> Self {
        Self { name: name.to_owned(), target, pid: child.id(), child: Some(child) }
    }

    /// A server that somebody else started.
    pub(crate) fn foreign(name: &str, pid: u32, target: Target) -> Self {
        Self { name: name.to_owned(), target, pid, child: None }
    }

    /// The same program, asked for a secret.
    pub(crate) fn read(&self, name: &str) -> Self {
        let request = b"GET /secret/key HTTP/1.1\r\nhost: localhost\r\nbursar: 1\r\n\r\n".to_vec();
        Self::foreign(name, self.pid, Target { request, ..self.target.clone() })
    }

    /// The child's standard input.
    pub(crate) fn stdin(&mut self) -> std::process::ChildStdin {
        self.child.as_mut().and_then(|child| child.stdin.take()).unwrap()
    }

    /// Processor time so far, user and system; the kernel counts it in ticks, mostly of 10 ms.
    pub(crate) fn processor_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap();
        let (_, after_name) = stat.rsplit_once(')').unwrap();
        let ticks: u64 =
            after_name.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        Duration::from_micros(ticks * 1_000_000 / rustix::param::clock_ticks_per_second())
    }

    /// Resident memory in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Waits until it accepts connections.
    fn await_socket(&self) {
        let Address::Unix(path) = &self.target.address else { return };
        let began = Instant::now();
        while UnixStream::connect(path).is_err() {
            assert!(began.elapsed() < Duration::from_secs(10), "{} did not start", self.name);
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(child) = &mut self.child else { return };
        let _ = rustix::process::kill_process(Pid::from_child(child), Signal::TERM);
        let asked = Instant::now();
        while asked.elapsed() < Duration::from_secs(5) {
            if !matches!(child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        eprintln!("{} did not end when it was asked to, and is killed", self.name);
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// A token request as a stock OAuth client sends it (RFC 6749 §4.4.2).
pub(crate) fn ask(scope: &str) -> Vec<u8> {
    let form = format!("grant_type=client_credentials&scope={scope}");
    let head = "POST /token/provider-0 HTTP/1.1\r\nhost: localhost\r\naccept: */*\r\n\
                content-type: application/x-www-form-urlencoded\r\n";
    format!("{head}content-length: {}\r\n\r\n{form}", form.len()).into_bytes()
}
