//! The rig: a folder as an installation has one, an issuer, and the agent as a process of its own.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bursar::access::Scopes;
use bursar::audit::form::Line;
use bursar::audit::query::{self, Filter};
use bursar::audit::verify::verify;
use bursar::crypto::SystemRandom;
use bursar::dev::issuer::{Client, Issuer, Settings};
use bursar::time::SystemClock;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixDatagram;
use tokio::process::{Child, Command};

use super::endpoint::Endpoint;
use super::wire::{self, Reply, Wire, within};

/// The client secret that the issuer expects.
pub(super) const CLIENT_SECRET: &str = "the-client-secret-of-the-rig";

/// The value of the secret `api-key`, where there is one.
pub(super) const SECRET_VALUE: &str = "a \"key\"\n\\ of the rig: \u{7}é";

/// `checkout` may read the secrets of [`Plan::with_a_secret`].
const KEYS: &str = r#"@id("keys")
permit (principal == Workload::"checkout", action == Action::"secret", resource in Tag::"keys");
"#;

/// What a rig is made of; a test changes what it is about.
pub(super) struct Plan {
    /// In `[agent]`.
    pub(super) agent: String,
    /// In `[store.local]`.
    pub(super) store: String,
    /// Tables of `bursar.toml`, beside those of every rig; ISSUER and ENDPOINT stand for the addresses, FOLDER for its place.
    pub(super) tables: String,
    /// Files of the policies directory, by name.
    pub(super) policies: BTreeMap<String, String>,
    /// Where the log is, if not in the rig's folder.
    pub(super) log: Option<PathBuf>,
    /// The secret that is put for the providers.
    pub(super) client_secret: String,
    /// How long the issuer's tokens live.
    pub(super) lifetime: Duration,
}

impl Default for Plan {
    fn default() -> Self {
        let policies = [
            ("checkout.cedar", include_str!("../../../policies/checkout.cedar").to_owned()),
            ("reports.cedar", include_str!("../../../policies/reports.cedar").to_owned()),
            ("operators.cedar", include_str!("../../../policies/operators.cedar").to_owned()),
            ("lab.cedar", LAB.to_owned()),
            ("workloads.toml", workloads("")),
        ];
        Self {
            agent: String::new(),
            store: String::new(),
            tables: String::new(),
            policies: policies.into_iter().map(|(name, text)| (name.to_owned(), text)).collect(),
            log: None,
            client_secret: CLIENT_SECRET.to_owned(),
            lifetime: Duration::from_secs(300),
        }
    }
}

/// `checkout` may have anything of the providers of the lab.
const LAB: &str = r#"@id("lab")
permit (principal == Workload::"checkout", action == Action::"token", resource in Tag::"lab");
"#;

/// Who is who: two workloads by their sockets, this uid as operator, and `more`.
pub(super) fn workloads(more: &str) -> String {
    let uid = rustix::process::getuid().as_raw();
    format!(
        "[workload.checkout]\nlistener = \"checkout\"\n[workload.reports]\nlistener = \"reports\"\n\
         [operator.root]\nuid = {uid}\n{more}"
    )
}

/// The providers of every rig: `stripe`, `crm` and `bare` at the issuer, `odd` at the scripted endpoint, and two whose
/// credentials are wrong and missing.
const PROVIDERS: &str = r#"
[provider.stripe]
issuer = "ISSUER"
client_id = "bursar"
client_secret = { store = "local", name = "client" }
scopes = ["charges:read", "charges:write", "refunds:write"]
default_scopes = ["charges:read"]
resources = ["https://api.example.com", "https://files.example.com"]

[provider.crm]
issuer = "ISSUER"
client_id = "bursar"
client_secret = { store = "local", name = "client" }
scopes = ["customers:read"]
default_scopes = ["customers:read"]

[provider.bare]
issuer = "ISSUER"
client_id = "bursar"
client_secret = { store = "local", name = "client" }
scopes = ["read", "write"]
tags = ["lab"]

[provider.odd]
token_endpoint = "http://ENDPOINT/token"
client_id = "bursar"
client_secret = { store = "local", name = "client" }
scopes = ["read", "write"]
default_scopes = ["read"]
timeout = "8s"
tags = ["lab"]

[provider.wrong]
issuer = "ISSUER"
client_id = "bursar"
client_secret = { store = "local", name = "wrong" }
scopes = ["read"]
default_scopes = ["read"]
tags = ["lab"]

[provider.missing]
issuer = "ISSUER"
client_id = "bursar"
client_secret = { store = "local", name = "missing" }
scopes = ["read"]
default_scopes = ["read"]
tags = ["lab"]
"#;

/// An installation, with an agent that runs from it. All of it goes when it is dropped.
pub(super) struct Rig {
    pub(super) folder: TempDir,
    pub(super) endpoint: Endpoint,
    /// Where the log is.
    pub(super) log: PathBuf,
    agent: Option<Agent>,
    issuer: Option<Issuer>,
    clients: BTreeMap<String, Client>,
    address: SocketAddr,
    /// Tokens of issuers that were stopped.
    issued: u64,
}

/// A process of the agent: killed by its pid when it is dropped.
pub(super) struct Agent {
    child: Child,
}

impl Plan {
    /// With the secret `api-key`, and `unput`, which its store does not have.
    pub(super) fn with_a_secret() -> Self {
        let tables = "[secret.api-key]\nstore = \"local\"\npath = \"stripe/api-key\"\ntags = [\"keys\"]\n\
                      [secret.unput]\nstore = \"local\"\ntags = [\"keys\"]\n";
        let mut plan = Self { tables: tables.to_owned(), ..Self::default() };
        plan.policies.insert("keys.cedar".to_owned(), KEYS.to_owned());
        plan
    }

    /// Raises the rig, with the value of `api-key` put too.
    pub(super) async fn raise_with_a_secret(self) -> Rig {
        let rig = self.raise().await;
        let put = rig.put_by_command("api-key", SECRET_VALUE).await;
        assert!(put.status.success(), "{}", String::from_utf8_lossy(&put.stderr));
        rig
    }

    /// Raises the rig, with its secrets put and the agent serving.
    pub(super) async fn raise(self) -> Rig {
        let mut rig = self.lay().await;
        rig.start().await;
        rig
    }

    /// Raises the rig without an agent.
    pub(super) async fn lay(self) -> Rig {
        // The issuer signs in this process.
        bursar::crypto::install();
        let folder = crate::private_folder();
        let scopes = Scopes::parse("charges:read charges:write refunds:write customers:read read write").unwrap();
        let client = Client { secret: self.client_secret.clone(), scopes, lifetime: self.lifetime };
        let clients = BTreeMap::from([("bursar".to_owned(), client)]);
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let log = self.log.clone().unwrap_or_else(|| folder.path().join("state/audit"));
        let endpoint = Endpoint::start().await;
        let mut rig = Rig { folder, endpoint, log, agent: None, issuer: None, clients, address, issued: 0 };
        rig.start_issuer().await;
        self.write(&rig);
        for (name, value) in [("client", self.client_secret.as_str()), ("wrong", "another-secret")] {
            let put = rig.put_by_command(&format!("local/{name}"), value).await;
            assert!(put.status.success(), "{}", String::from_utf8_lossy(&put.stderr));
        }
        rig
    }

    fn write(&self, rig: &Rig) {
        for folder in ["policies", "checkout", "reports"] {
            fs::create_dir(rig.path(folder)).unwrap();
        }
        for (name, text) in &self.policies {
            rig.policy(name, text);
        }
        let Self { agent, store, tables, .. } = self;
        let log = &rig.log;
        let text = format!(
            "[agent]\nsocket = \"bursar.sock\"\nadmin_socket = \"admin.sock\"\nstate_dir = \"state\"\n\
             policies = \"policies\"\n{agent}\n\
             [[agent.listener]]\nsocket = \"checkout/bursar.sock\"\nworkload = \"checkout\"\n\
             [[agent.listener]]\nsocket = \"reports/bursar.sock\"\nworkload = \"reports\"\n\
             [store.local]\nkind = \"sealed\"\n{store}\n\
             [audit]\ndir = {log:?}\nsegment = \"16MiB\"\nreserve = \"1MiB\"\n{tables}\n{PROVIDERS}"
        );
        let text = text.replace("ISSUER", rig.issuer.as_ref().unwrap().url());
        let text = text.replace("FOLDER", rig.folder.path().to_str().unwrap());
        fs::write(rig.config(), text.replace("ENDPOINT", &rig.endpoint.address.to_string())).unwrap();
    }
}

impl Rig {
    pub(super) async fn new() -> Self {
        Plan::default().raise().await
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn config(&self) -> PathBuf {
        self.path("bursar.toml")
    }

    /// Writes a file of the policies directory.
    pub(super) fn policy(&self, name: &str, text: &str) {
        fs::write(self.path("policies").join(name), text).unwrap();
    }

    /// Changes the configuration's text.
    pub(super) fn reconfigure(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.config()).unwrap();
        assert!(text.contains(from), "no `{from}` in {text}");
        fs::write(self.config(), text.replace(from, to)).unwrap();
    }

    /// The socket that is bound to `workload`; `bursar` is the one for all.
    pub(super) fn socket(&self, workload: &str) -> PathBuf {
        if workload == "bursar" { self.path("bursar.sock") } else { self.path(workload).join("bursar.sock") }
    }

    pub(super) fn admin(&self) -> PathBuf {
        self.path("admin.sock")
    }

    // ── the agent

    /// Starts the agent, and waits until it says that it is ready.
    pub(super) async fn start(&mut self) {
        let mut command = self.command();
        command.arg("agent");
        self.start_as(command).await;
    }

    /// The same through `command`, which runs `bursar agent` in the end.
    pub(super) async fn start_as(&mut self, mut command: Command) {
        let path = self.path("notify");
        let _ = fs::remove_file(&path);
        let notify = UnixDatagram::bind(&path).unwrap();
        let mut child = command.env("NOTIFY_SOCKET", &path).stdin(Stdio::null()).spawn().unwrap();
        let ready = async {
            loop {
                let mut message = [0; 512];
                let length = notify.recv(&mut message).await.unwrap();
                if message[..length].split(|byte| *byte == b'\n').any(|line| line == b"READY=1") {
                    return;
                }
            }
        };
        let ended = tokio::select! {
            () = within(ready) => None,
            ended = child.wait() => Some(ended),
        };
        assert!(ended.is_none(), "the agent ended ({ended:?}):\n{}", self.said());
        self.agent = Some(Agent { child });
    }

    /// `bursar --config …`, its words appended to the rig's.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bursar"));
        command.arg("--config").arg(self.config());
        self.prepare(command)
    }

    /// `program`, as a process of this rig.
    pub(super) fn prepare(&self, mut command: Command) -> Command {
        for name in ["BURSAR_SOCKET", "BURSAR_ADMIN_SOCKET", "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID"] {
            command.env_remove(name);
        }
        let said = fs::File::options().create(true).append(true).open(self.path("stderr")).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said).kill_on_drop(true);
        command
    }

    /// What the agent said on standard error, in all its lives.
    pub(super) fn said(&self) -> String {
        fs::read_to_string(self.path("stderr")).unwrap_or_default()
    }

    pub(super) fn agent(&mut self) -> &mut Agent {
        self.agent.as_mut().expect("an agent runs")
    }

    pub(super) fn pid(&self) -> i32 {
        self.agent.as_ref().map_or(0, Agent::pid)
    }

    /// Ends the agent at once, as the kernel does when memory is out.
    pub(super) async fn kill(&mut self) {
        let mut agent = self.agent.take().expect("an agent runs");
        agent.child.kill().await.unwrap();
    }

    /// Lets the agent drain; how it ended.
    pub(super) async fn stop(&mut self) -> ExitStatus {
        let mut agent = self.agent.take().expect("an agent runs");
        agent.signal(Signal::TERM);
        agent.ended().await
    }

    /// Resident memory of the agent, in KiB.
    pub(super) fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    // ── the issuer

    pub(super) async fn start_issuer(&mut self) {
        let settings =
            Settings { clients: self.clients.clone(), clock: Arc::new(SystemClock), random: Arc::new(SystemRandom) };
        let issuer = Issuer::start(self.address, settings).await.unwrap();
        self.address = issuer.address();
        self.issuer = Some(issuer);
    }

    /// The issuer, which has to run.
    pub(super) fn issuer(&self) -> &Issuer {
        self.issuer.as_ref().expect("an issuer runs")
    }

    pub(super) fn stop_issuer(&mut self) {
        self.issued = self.issued();
        self.issuer = None;
    }

    /// How many tokens were issued in all.
    pub(super) fn issued(&self) -> u64 {
        self.issued + self.issuer.as_ref().map_or(0, Issuer::issued)
    }

    // ── asking

    /// A token of `provider` for `workload`, with `more` in the form.
    pub(super) async fn token(&self, workload: &str, provider: &str, more: &str) -> Reply {
        wire::ask(&self.socket(workload), wire::post(provider, more)).await
    }

    pub(super) async fn wire(&self, workload: &str) -> Wire {
        Wire::to(&self.socket(workload)).await
    }

    /// Asks the admin socket.
    pub(super) async fn operate(&self, method: &str, path: &str, body: &str) -> Reply {
        wire::ask(&self.admin(), wire::request(method, path, "Bursar: 1\r\n", body)).await
    }

    /// Runs a verb of the command line.
    pub(super) async fn run(&self, arguments: &[&str]) -> Output {
        self.run_with(arguments, "").await
    }

    pub(super) async fn put_by_command(&self, name: &str, value: &str) -> Output {
        self.run_with(&["secret", "put", name], value).await
    }

    pub(super) async fn run_with(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = self.command();
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A verb that reads nothing may have ended already.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes()).await;
        within(child.wait_with_output()).await.unwrap()
    }

    // ── the log

    /// All records, by index. Fails unless the log verifies.
    pub(super) fn records(&self) -> Vec<Line> {
        let verified = verify(&self.log).unwrap();
        assert!(verified.holds(), "{:?}", verified.faults);
        query::query(&self.log, Filter::default()).unwrap().map(Result::unwrap).collect()
    }

    /// The records of `kind`.
    pub(super) fn records_of(&self, kind: &str) -> Vec<Line> {
        self.records().into_iter().filter(|line| line.kind() == kind).collect()
    }

    /// The record that `reply` names, found as an operator would.
    pub(super) fn record(&self, reply: &Reply) -> Line {
        let id = reply.decision().unwrap_or_else(|| panic!("no decision is named: {reply:?}"));
        query::find(&self.log, id).unwrap().unwrap_or_else(|| panic!("{id} is not in the log"))
    }

    /// Every record by its decision id.
    pub(super) fn by_decision(&self) -> HashMap<String, Line> {
        let records = self.records();
        let log = records.first().and_then(|line| line.text("log")).unwrap_or_default().replace('-', "");
        let prefix = log.get(..8).unwrap_or_default().to_owned();
        records.into_iter().map(|line| (format!("{prefix}-{}", line.index()), line)).collect()
    }
}

impl Agent {
    fn pid(&self) -> i32 {
        self.child.id().map_or(0, |id| i32::try_from(id).unwrap())
    }

    pub(super) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.pid()).unwrap(), signal).unwrap();
    }

    pub(super) async fn ended(&mut self) -> ExitStatus {
        within(self.child.wait()).await.unwrap()
    }

    /// Whether it still runs.
    pub(super) fn lives(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

/// Every file below `folder`.
pub(super) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        if kind.is_dir() {
            found.extend(files(&path));
        } else if kind.is_file() {
            found.push(path);
        }
    }
    found
}

/// Lets every user reach the sockets.
pub(super) fn open_to_all(folder: &Path) {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Says why a test was left out, where the reader of a test run sees it.
pub(super) fn left_out(test: &str, needs: &str) {
    eprintln!("LEFT OUT: {test} needs {needs}");
}
