//! The agent as its users run it: the binary as a child with a configuration of its own, asked by curl.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::peers::Oidc;

/// The longest that anything here may take, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// Two applications that are told by their sockets, and two by their accounts.
const WORKLOADS: &str = r#"
[workload.checkout]
listener = "checkout"
[workload.reports]
listener = "reports"
[workload.billing]
uid = 61001
[workload.backup]
uid = 61002
[operator.tester]
uid = OWN_UID
"#;

/// One of each may write, the other may only read.
const RULES: &str = r#"
@id("checkout-charges")
permit (principal == Workload::"checkout", action == Action::"token", resource);
@id("billing-charges")
permit (principal == Workload::"billing", action == Action::"token", resource);
@id("reports-read")
permit (principal == Workload::"reports", action == Action::"token", resource)
when { ["charges:read"].containsAll(context.scopes) };
@id("backup-read")
permit (principal == Workload::"backup", action == Action::"token", resource)
when { ["charges:read"].containsAll(context.scopes) };
@id("tester-operates")
permit (principal == Operator::"tester", action, resource);
"#;

const CONFIGURATION: &str = r#"
[agent]
socket       = "bursar.sock"
admin_socket = "admin.sock"
state_dir    = "state"
policies     = "policies"
[[agent.listener]]
socket   = "checkout.sock"
workload = "checkout"
[[agent.listener]]
socket   = "reports.sock"
workload = "reports"
[store.local]
kind = "sealed"
[audit]
segment = "16MiB"
reserve = "1MiB"
"#;

/// A registration at the authorization server.
pub(crate) struct Registration {
    pub(crate) id: &'static str,
    pub(crate) secret: &'static str,
    pub(crate) auth: &'static str,
}

/// The one that most tests use.
pub(crate) const BASIC: Registration =
    Registration { id: "basic", secret: "basic-secret", auth: "client_secret_basic" };

impl Registration {
    /// Its entry as the provider `name`, found by its issuer; which has `timeout` for a request.
    pub(crate) fn entry(&self, name: &str, oidc: &Oidc, timeout: &str) -> String {
        format!(
            r#"
[provider.{name}]
issuer         = "{}"
ca_file        = "{}"
client_id      = "{}"
client_auth    = "{}"
client_secret  = {{ store = "local", name = "{name}-client" }}
scopes         = ["charges:read", "charges:write"]
default_scopes = ["charges:read"]
refresh_at     = 0.05
connect_timeout = "{timeout}"
timeout        = "{timeout}"
"#,
            oidc.issuer(),
            oidc.ca_file().display(),
            self.id,
            self.auth,
        )
    }
}

/// An entry for the provider `name`, found by its issuer, where bursar is `client` and proves it as `lines` say.
pub(crate) fn entry(name: &str, oidc: &Oidc, client: &str, lines: &str) -> String {
    let registration = Registration { id: "", secret: "", auth: "" }.entry(name, oidc, "20s");
    let other = |line: &&str| !line.starts_with("client_");
    let kept: Vec<_> = registration.lines().filter(other).collect();
    format!("{}\nclient_id = \"{client}\"\n{lines}\n", kept.join("\n"))
}

/// The agent as a child. When it is dropped it has to end in order, and its log to be whole.
pub(crate) struct Agent {
    folder: TempDir,
    child: Child,
}

impl Agent {
    /// An agent with the one provider `stripe`, registered as [`BASIC`].
    pub(crate) fn for_stripe(oidc: &Oidc) -> Self {
        Self::for_hasty_stripe(oidc, "20s")
    }

    /// The same, where a request has only `timeout`.
    pub(crate) fn for_hasty_stripe(oidc: &Oidc, timeout: &str) -> Self {
        let agent = Self::start(&BASIC.entry("stripe", oidc, timeout));
        agent.put("stripe-client", BASIC.secret);
        agent
    }

    /// An agent with these providers, whose secrets have to be put.
    pub(crate) fn start(providers: &str) -> Self {
        Self::start_with(providers, &[])
    }

    /// The same, with these files beside the configuration.
    pub(crate) fn start_with(providers: &str, files: &[(&str, &str)]) -> Self {
        Self::start_as(bursar, providers, files)
    }

    /// The same, its wall clock shifted by what the file `offset` says, in seconds, through `libfaketime`.
    pub(crate) fn start_under(libfaketime: &Path, providers: &str, files: &[(&str, &str)]) -> Self {
        let shifted = |folder: &Path| {
            let mut command = bursar(folder);
            command.env("LD_PRELOAD", libfaketime).env("FAKETIME_TIMESTAMP_FILE", folder.join("offset"));
            command.envs([("FAKETIME_NO_CACHE", "1"), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")]);
            command
        };
        Self::start_as(shifted, providers, files)
    }

    /// The same, with more in its environment.
    pub(crate) fn start_in(environment: &[(&str, &str)], tables: &str, files: &[(&str, &str)]) -> Self {
        let command = |folder: &Path| {
            let mut command = bursar(folder);
            command.envs(environment.iter().copied());
            command
        };
        Self::start_as(command, tables, files)
    }

    fn start_as(command: impl Fn(&Path) -> Command, providers: &str, files: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path();
        // Others come as far as the sockets, as in /run/bursar.
        fs::set_permissions(path, Permissions::from_mode(0o711)).unwrap();
        fs::create_dir(path.join("policies")).unwrap();
        let workloads = WORKLOADS.replace("OWN_UID", &geteuid().as_raw().to_string());
        fs::write(path.join("policies/workloads.toml"), workloads).unwrap();
        fs::write(path.join("policies/rules.cedar"), RULES).unwrap();
        fs::write(path.join("bursar.toml"), format!("{CONFIGURATION}{providers}")).unwrap();
        // Whatever the umask: an agent refuses a configuration that others may write.
        fs::set_permissions(path.join("policies"), Permissions::from_mode(0o700)).unwrap();
        fs::set_permissions(path.join("bursar.toml"), Permissions::from_mode(0o600)).unwrap();

        for (name, text) in files {
            fs::write(path.join(name), text).unwrap();
        }
        let told = UnixDatagram::bind(path.join("notify.sock")).unwrap();
        told.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let child = command(path)
            .arg("agent")
            .env("NOTIFY_SOCKET", path.join("notify.sock"))
            .stdin(Stdio::null())
            .stderr(File::create(path.join("agent.log")).unwrap())
            .spawn()
            .unwrap();
        let mut agent = Self { folder, child };
        agent.wait_until_ready(&told);
        agent
    }

    /// As systemd does: until it says READY=1.
    fn wait_until_ready(&mut self, told: &UnixDatagram) {
        let mut said = [0; 4096];
        loop {
            match told.recv(&mut said) {
                Ok(length) if said[..length].starts_with(b"READY=1") => return,
                _ => assert_eq!(self.child.try_wait().unwrap(), None, "the agent did not start: {}", self.log()),
            }
        }
    }

    /// What it wrote for its operator.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("agent.log")).unwrap()
    }

    /// The socket of all.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("bursar.sock")
    }

    /// The socket that is bound to `workload`.
    pub(crate) fn socket_of(&self, workload: &str) -> PathBuf {
        self.folder.path().join(format!("{workload}.sock"))
    }

    /// Puts a secret into its store, as its operator.
    pub(crate) fn put(&self, name: &str, secret: &str) {
        let mut put = bursar(self.folder.path())
            .args(["secret", "put", &format!("local/{name}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        put.stdin.take().unwrap().write_all(secret.as_bytes()).unwrap();
        assert!(put.wait().unwrap().success());
    }

    /// Writes a file beside its configuration, as others do it: whole, and then in its place.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        fs::write(path.with_extension("new"), text).unwrap();
        fs::rename(path.with_extension("new"), path).unwrap();
    }

    /// Runs a verb of its command line, as its operator.
    pub(crate) fn operate(&self, arguments: &[&str]) -> Output {
        bursar(self.folder.path()).args(arguments).output().unwrap()
    }

    /// Ends it in order; its log stays.
    pub(crate) fn stop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        assert!(self.child.wait().unwrap().success(), "{}", self.log());
    }

    /// `workload` asks for a token of `provider`, at its own socket.
    pub(crate) fn ask(&self, workload: &str, provider: &str, scope: &str) -> Answer {
        ask(Command::new("curl"), &self.socket_of(workload), provider, scope)
    }

    /// `workload` reads the secret `name`, at its own socket.
    pub(crate) fn read(&self, workload: &str, name: &str) -> Answer {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--include", "--max-time", "60", "--header", "Bursar: 1"]);
        curl.arg("--unix-socket").arg(self.socket_of(workload)).arg(format!("http://localhost/secret/{name}"));
        Answer::read(&curl.output().unwrap())
    }

    /// The same until the answer is as it should be.
    pub(crate) async fn read_until(&self, workload: &str, name: &str, right: impl Fn(&Answer) -> bool) -> Answer {
        let reading = async {
            loop {
                let answer = self.read(workload, name);
                if right(&answer) {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.unwrap_or_else(|_| panic!("not in a minute: {}", self.log()))
    }

    /// Its files, its logs among them, in which `text` stands.
    pub(crate) fn files_with(&self, text: &str) -> Vec<PathBuf> {
        let holds = |path: &PathBuf| {
            let bytes = fs::read(path).unwrap_or_default();
            bytes.windows(text.len()).any(|part| part == text.as_bytes())
        };
        files(self.folder.path()).into_iter().filter(holds).collect()
    }

    /// The account `uid` asks, at the socket of all. Needs root.
    pub(crate) fn ask_as(&self, uid: u32, provider: &str, scope: &str) -> Answer {
        let mut curl = Command::new("setpriv");
        curl.args([format!("--reuid={uid}"), format!("--regid={uid}")]).args(["--clear-groups", "curl"]);
        ask(curl, &self.socket(), provider, scope)
    }

    /// `workload` asks until the answer is as it should be, as `Retry-After` says or a few times a second.
    pub(crate) async fn ask_until(&self, workload: &str, right: impl Fn(&Answer) -> bool) -> Answer {
        self.ask_of_until(workload, "stripe", right).await
    }

    /// The same, of another provider.
    pub(crate) async fn ask_of_until(&self, workload: &str, provider: &str, right: impl Fn(&Answer) -> bool) -> Answer {
        let asking = async {
            loop {
                let answer = self.ask(workload, provider, "charges:read");
                if right(&answer) {
                    return answer;
                }
                let wait = answer.retry_after().map_or(Duration::from_millis(100), Duration::from_secs);
                tokio::time::sleep(wait).await;
            }
        };
        tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("not in a minute: {}", self.log()))
    }

    /// The record that an answer names.
    pub(crate) fn record(&self, answer: &Answer) -> Value {
        let decision = answer.header("bursar-decision").unwrap();
        serde_json::from_slice(&self.query(&[decision])).unwrap()
    }

    /// Every record of a kind that is about a provider.
    pub(crate) fn records(&self, kind: &str) -> Vec<Value> {
        let lines = self.query(&["--kind", kind, "--provider", "stripe"]);
        serde_json::Deserializer::from_slice(&lines).into_iter().collect::<Result<_, _>>().unwrap()
    }

    /// How each attempt to get a token upstream ended.
    pub(crate) fn attempts(&self) -> Vec<Value> {
        let intents = self.records("intent");
        let outcomes = self.query(&["--kind", "outcome"]);
        let outcomes: Vec<Value> =
            serde_json::Deserializer::from_slice(&outcomes).into_iter().collect::<Result<_, _>>().unwrap();
        let of = |intent: &Value| outcomes.iter().find(|outcome| outcome["intent"] == intent["i"]).unwrap().clone();
        intents.iter().map(of).collect()
    }

    fn query(&self, what: &[&str]) -> Vec<u8> {
        let output = bursar(self.folder.path()).args(["--json", "audit", "query"]).args(what).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        output.stdout
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Where it was stopped already, its end is known, and its pid may be another's.
        if let Ok(None) = self.child.try_wait() {
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        }
        let ended = self.child.wait().unwrap();
        let verified = bursar(self.folder.path()).args(["audit", "verify"]).output().unwrap();
        // A test that has failed already has said why.
        if !std::thread::panicking() {
            assert!(ended.success(), "{ended}: {}", self.log());
            assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// The binary with the configuration of `folder`, and no environment that could lead it elsewhere.
fn bursar(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bursar"));
    command
        .env_remove("BURSAR_SOCKET")
        .env_remove("BURSAR_ADMIN_SOCKET")
        .arg("--config")
        .arg(folder.join("bursar.toml"));
    command
}

fn ask(mut curl: Command, socket: &Path, provider: &str, scope: &str) -> Answer {
    curl.args(["--silent", "--show-error", "--include", "--max-time", "60", "--unix-socket"]).arg(socket);
    curl.args(["--data", "grant_type=client_credentials", "--data-urlencode", &format!("scope={scope}")]);
    Answer::read(&curl.arg(format!("http://localhost/token/{provider}")).output().unwrap())
}

/// What curl was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Value,
}

impl Answer {
    fn read(output: &Output) -> Self {
        let text = String::from_utf8(output.stdout.clone()).unwrap();
        let whole = text.split_once("\r\n\r\n");
        let (head, body) = whole.unwrap_or_else(|| panic!("no answer: {}", String::from_utf8_lossy(&output.stderr)));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head: head.to_owned(), body: serde_json::from_str(body).unwrap() }
    }

    /// A header, by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        headers.find(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// `Retry-After`, in seconds.
    pub(crate) fn retry_after(&self) -> Option<u64> {
        self.header("retry-after").map(|value| value.parse().unwrap())
    }

    /// The token that was served.
    pub(crate) fn token(&self) -> &str {
        self.body["access_token"].as_str().unwrap_or_else(|| panic!("no token: {self:?}"))
    }
}

/// Says aloud that a test was left out, unless root runs it.
pub(crate) fn needs_root(test: &str) -> bool {
    let left_out = !geteuid().is_root();
    if left_out {
        // Past the test harness, which keeps what a passing test prints.
        writeln!(std::io::stderr(), "needs root: {test} was left out").unwrap();
    }
    left_out
}
