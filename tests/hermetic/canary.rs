//! A canary through the agent that is shipped: a client secret goes in, tokens come out, and the agent's memory is read
//! from outside. While they live they lie in the locked arena; when their life has ended they are nowhere.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::secret::memory::{Memory, Place};

/// Text of 40 characters that stands in no program and no file of this test: it is computed.
fn canary(seed: u32) -> String {
    let bytes = (seed..seed + 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8);
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

const CLIENT_SECRET: u32 = 100;
const TOKEN: u32 = 200;

/// The parts that are looked for: each half, so that what was overwritten in part is found too.
fn halves(text: &str) -> [&[u8]; 2] {
    let (first, second) = text.as_bytes().split_at(text.len() / 2);
    [first, second]
}

/// What goes out in `Authorization`, as it stands there.
fn basic() -> String {
    STANDARD.encode(format!("bursar:{}", canary(CLIENT_SECRET)))
}

/// A token endpoint that gives the canary to everybody, and closes or keeps its connections.
fn issuer(keep: bool) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        listener.incoming().for_each(|stream| drop(thread::spawn(move || answer(&stream.unwrap(), keep))))
    });
    port
}

fn answer(stream: &TcpStream, keep: bool) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut length = 0;
        for line in reader.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty()) {
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        if length == 0 || reader.read_exact(&mut body).is_err() {
            return;
        }
        let body = format!(r#"{{"access_token":"{}","token_type":"Bearer","expires_in":300}}"#, canary(TOKEN));
        let connection = if keep { "keep-alive" } else { "close" };
        let head = format!(
            "HTTP/1.1 200 OK\r\nconnection: {connection}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        (&mut &*stream).write_all((head + &body).as_bytes()).unwrap();
        if !keep {
            return;
        }
    }
}

/// The agent as a child, in a folder of its own.
struct Agent {
    folder: TempDir,
    child: Child,
}

impl Agent {
    fn start(port: u16) -> Self {
        Self::start_as(port, rustix::process::getuid().as_raw())
    }

    fn start_as(port: u16, uid: u32) -> Self {
        let folder = crate::private_folder();
        let at = |below: &str| folder.path().join(below);
        fs::create_dir(at("policies")).unwrap();
        fs::write(
            at("policies/workloads.toml"),
            format!("[workload.canary]\nuid = {uid}\n[operator.canary]\nuid = {uid}\n"),
        )
        .unwrap();
        fs::write(at("policies/all.cedar"), "@id(\"all\") permit (principal, action, resource);").unwrap();
        fs::write(at("bursar.toml"), settings(port)).unwrap();
        let ready = UnixDatagram::bind(at("notify")).unwrap();
        for below in ["", "policies", "notify"] {
            chown(at(below), Some(uid), None).unwrap();
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_bursar"));
        command.args(["--config", at("bursar.toml").to_str().unwrap(), "agent"]).current_dir(folder.path()).uid(uid);
        command.env("NOTIFY_SOCKET", at("notify")).env_remove("RUST_BACKTRACE");
        let output = |name: &str| Stdio::from(fs::File::create(at(name)).unwrap());
        let child = command.stdin(Stdio::null()).stdout(output("out")).stderr(output("err")).spawn().unwrap();
        let mut agent = Self { folder, child };
        ready.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let mut told = [0; 1_024];
        loop {
            let length = ready.recv(&mut told).unwrap_or(0);
            if String::from_utf8_lossy(&told[..length]).contains("READY=1") {
                return agent;
            }
            assert!(agent.child.try_wait().unwrap().is_none(), "the agent ended: {}", agent.said());
        }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    fn said(&self) -> String {
        ["out", "err"].map(|name| fs::read_to_string(self.path(name)).unwrap_or_default()).concat()
    }

    fn bursar(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bursar"));
        command.args(["--config", self.path("bursar.toml").to_str().unwrap()]).args(arguments);
        command.env("BURSAR_ADMIN_SOCKET", self.path("admin.sock")).env("BURSAR_SOCKET", self.path("bursar.sock"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?} {}", self.said());
        output
    }

    /// Asks for a token on a connection, which stays open as long as it is held.
    fn token(&self) -> UnixStream {
        let mut stream = UnixStream::connect(self.path("bursar.sock")).unwrap();
        stream.write_all(b"GET /token/canary HTTP/1.1\r\nhost: x\r\nbursar: 1\r\n\r\n").unwrap();
        let mut came = Vec::new();
        while !came.ends_with(b"}") {
            let mut more = [0; 4_096];
            let length = stream.read(&mut more).unwrap();
            assert!(length > 0, "{}", String::from_utf8_lossy(&came));
            came.extend_from_slice(&more[..length]);
        }
        assert!(String::from_utf8_lossy(&came).contains(&canary(TOKEN)), "{}", String::from_utf8_lossy(&came));
        stream
    }

    fn memory(&self) -> Memory {
        Memory::of(self.child.id())
    }

    /// Waits until no part of `text` is in the agent's memory.
    fn forgets(&self, text: &str) {
        soon(|| {
            let found: Vec<_> = halves(text).into_iter().flat_map(|half| self.memory().find(half)).collect();
            if found.is_empty() { Ok(()) } else { Err(found) }
        });
    }
}

/// Waits until `look` is content: buffers of connections live some seconds longer than what was asked on them.
fn soon(look: impl Fn() -> Result<(), Vec<Place>>) {
    for _ in 0..100 {
        if look().is_ok() {
            return;
        }
        thread::sleep(Duration::from_millis(100));
    }
    panic!("it is still there: {:#?}", look());
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn settings(port: u16) -> String {
    let provider = format!(
        "[provider.canary]\ntoken_endpoint = \"http://127.0.0.1:{port}/token\"\nclient_id = \"bursar\"\n\
         client_secret = {{ store = \"local\", name = \"canary\" }}\nscopes = [\"read\"]\ndefault_scopes = [\"read\"]\n"
    );
    without_provider() + &provider
}

fn without_provider() -> String {
    "[agent]\nsocket = \"bursar.sock\"\nadmin_socket = \"admin.sock\"\nstate_dir = \"state\"\npolicies = \"policies\"\n\
     unknown_ids = \"warn\"\n[store.local]\nkind = \"sealed\"\n[audit]\nsegment = \"1MiB\"\nreserve = \"64KiB\"\n"
        .to_owned()
}

/// Only root reads the memory of a process that cannot be dumped.
fn may_look() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("SKIPPED: the agent's memory can be read by root alone; run this test as root");
    }
    is_root
}

#[test]
fn a_secret_and_a_token_lie_in_the_arena_and_after_their_life_nowhere() {
    if !may_look() {
        return;
    }
    let agent = Agent::start(issuer(true));
    agent.bursar(&["secret", "put", "local/canary"], &canary(CLIENT_SECRET));
    agent.forgets(&canary(CLIENT_SECRET));

    let connection = agent.token();
    // The client secret is read from the store for one request.
    agent.forgets(&canary(CLIENT_SECRET));
    agent.forgets(&basic());
    // The token is cached: the search must find it, once, in the arena, though the caller's connection is still open.
    let in_the_arena_alone = || {
        let found = agent.memory().find(canary(TOKEN).as_bytes());
        let [place] = found.as_slice() else { return Err(found) };
        if place.is_arena() && place.count == 1 { Ok(()) } else { Err(found) }
    };
    soon(in_the_arena_alone);

    drop(connection);
    fs::write(agent.path("bursar.toml"), without_provider()).unwrap();
    agent.bursar(&["reload"], "");
    agent.forgets(&canary(TOKEN));
}

#[test]
fn nothing_that_is_written_holds_them() {
    let agent = Agent::start(issuer(true));
    agent.bursar(&["secret", "put", "local/canary"], &canary(CLIENT_SECRET));
    drop(agent.token());
    agent.bursar(&["status"], "");
    agent.bursar(&["--json", "status"], "");
    let mut files = vec![agent.folder.path().to_owned()];
    let mut seen = 0;
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.is_file() {
            let bytes = fs::read(&path).unwrap();
            seen += 1;
            for text in [canary(CLIENT_SECRET), canary(TOKEN), basic()] {
                assert!(
                    !halves(&text).iter().any(|half| bytes.windows(half.len()).any(|at| at == *half)),
                    "{}",
                    path.display()
                );
            }
        }
    }
    assert!(seen > 8, "store, key, log, output and the rest");
    let arguments = fs::read(format!("/proc/{}/cmdline", agent.child.id())).unwrap();
    assert!(!String::from_utf8_lossy(&arguments).contains(&canary(CLIENT_SECRET)));
}

/// Kills `child` by a signal that dumps core; whether a core was left.
fn dumps_core(child: &mut Child) -> bool {
    kill_process(Pid::from_child(child), Signal::ABORT).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(6));
    status.core_dumped()
}

/// Who may open the memory of `child`: its own uid, or root where it cannot be dumped (proc(5)).
fn owner(child: &Child) -> u32 {
    fs::metadata(format!("/proc/{}/mem", child.id())).unwrap().uid()
}

#[test]
fn the_agent_leaves_no_core_and_its_memory_is_roots_alone() {
    let mut agent = Agent::start_as(issuer(false), unprivileged());
    let mut control = Command::new("sh");
    control.args(["-c", "ulimit -c unlimited; exec sleep 600"]).current_dir(agent.folder.path()).uid(unprivileged());
    let mut control = control.spawn().unwrap();
    assert_eq!((owner(&control), owner(&agent.child)), (unprivileged(), 0), "of the control, and of the agent");
    let limits = fs::read_to_string(format!("/proc/{}/limits", agent.child.id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
    assert!(!dumps_core(&mut agent.child));
    if !dumps_core(&mut control) {
        eprintln!("SKIPPED: this machine leaves no core of any process, so that the agent's is missing shows nothing");
    }
}

/// Another uid than root's, for a process whose memory then is its own.
fn unprivileged() -> u32 {
    let own = rustix::process::geteuid();
    if own.is_root() { 4_242 } else { own.as_raw() }
}
