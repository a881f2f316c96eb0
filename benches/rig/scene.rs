//! The scene in which the agent runs: its configuration, policies, store and issuer in a directory of their own.

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::issuer::Issuer;
use super::load::{Address, Target};
use super::policies::Policies;
use super::server::{Server, ask};

/// The agent's program, built with the bench.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_bursar");

/// A directory that holds all that an agent needs.
pub(crate) struct Scene {
    program: PathBuf,
    dir: tempfile::TempDir,
    sockets: tempfile::TempDir,
    notify: UnixDatagram,
    rules: usize,
}

/// When a record counts as kept.
#[derive(Clone, Copy)]
pub(crate) enum Durability {
    /// After `fdatasync`.
    Disk,
    /// After `write`.
    Os,
}

impl Durability {
    /// The word in the configuration.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Os => "os",
        }
    }
}

impl Scene {
    /// Lays out a scene with `rules` rules, whose providers are all at `issuer`; the client secret is in a sealed store.
    pub(crate) fn lay(rules: usize, durability: Durability, issuer: &Issuer) -> Self {
        Self::of(Path::new(PROGRAM), rules, durability, issuer)
    }

    /// The same, for another build of the agent.
    pub(crate) fn of(program: &Path, rules: usize, durability: Durability, issuer: &Issuer) -> Self {
        // Whatever the umask: an agent refuses a configuration that others may write.
        let owners: std::fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        let dir = tempfile::Builder::new().permissions(owners).tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let sockets = tempfile::tempdir().unwrap();
        let notify = UnixDatagram::bind(sockets.path().join("notify")).unwrap();
        notify.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let scene = Self { program: program.to_owned(), dir, sockets, notify, rules };
        scene.write(&Policies::of(rules), durability, issuer);
        scene.put("client", b"the-client-secret-of-the-bench");
        scene.put("key", &[b'v'; 1500]);
        scene
    }

    fn write(&self, policies: &Policies, durability: Durability, issuer: &Issuer) {
        let uid = rustix::process::getuid().as_raw();
        let directory = self.dir.path().join("policies");
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join("rules.cedar"), &policies.cedar).unwrap();
        std::fs::write(directory.join("operators.cedar"), OPERATORS).unwrap();
        let workloads = policies.workloads_toml(uid) + &format!("[operator.root]\nuid = {uid}\n");
        std::fs::write(directory.join("workloads.toml"), workloads).unwrap();
        let mut text = self.agent_toml(durability);
        for provider in 0..policies.providers {
            let tag = Policies::tag_of(provider);
            write!(
                text,
                "[provider.provider-{provider}]\ntoken_endpoint = \"http://{}/token\"\nclient_id = \"bursar\"\n\
                 client_secret = {{ store = \"local\", name = \"client\" }}\nscopes = {SCOPES}\ntags = [\"{tag}\"]\n\n",
                issuer.address
            )
            .unwrap();
        }
        std::fs::write(self.configuration(), text).unwrap();
    }

    fn agent_toml(&self, durability: Durability) -> String {
        let (socket, admin) = (self.socket(), self.sockets.path().join("admin.sock"));
        let durability = durability.as_str();
        format!(
            "[agent]\nsocket = {socket:?}\nadmin_socket = {admin:?}\nstate_dir = \"state\"\npolicies = \"policies\"\n\n\
             [audit]\ndir = \"audit\"\ndurability = \"{durability}\"\n\n\
             [limits]\nconnections = 10000\nconnections_per_uid = 10000\nmints_per_workload = \"off\"\n\n\
             [store.local]\nkind = \"sealed\"\n\n[secret.key]\nstore = \"local\"\n\n"
        )
    }

    fn put(&self, name: &str, value: &[u8]) {
        let mut command = self.command(["secret", "put", &format!("local/{name}")]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(value).unwrap();
        assert!(child.wait().unwrap().success(), "`bursar secret put` failed");
    }

    /// Starts the agent and waits until it says that it is ready; how long that took.
    pub(crate) fn start(&self, name: &str) -> (Server, Duration) {
        let began = Instant::now();
        let child = self.command(["agent"]).spawn().unwrap();
        let target = Target { address: Address::Unix(self.socket()), request: ask("read") };
        let server = Server::of(name, child, target);
        self.await_ready();
        (server, began.elapsed())
    }

    fn await_ready(&self) {
        let mut message = [0; 512];
        loop {
            let length = self.notify.recv(&mut message).expect("the agent did not say READY=1 within 10 s");
            if message[..length].split(|byte| *byte == b'\n').any(|line| line == b"READY=1") {
                return;
            }
        }
    }

    fn command<const N: usize>(&self, arguments: [&str; N]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--config").arg(self.configuration()).args(arguments);
        command.env("NOTIFY_SOCKET", self.sockets.path().join("notify")).stderr(self.log());
        command
    }

    fn log(&self) -> std::fs::File {
        std::fs::File::options().create(true).append(true).open(self.dir.path().join("log")).unwrap()
    }

    fn configuration(&self) -> PathBuf {
        self.dir.path().join("bursar.toml")
    }

    /// Where applications ask.
    pub(crate) fn socket(&self) -> PathBuf {
        self.sockets.path().join("bursar.sock")
    }

    /// How many bytes of audit log there are.
    pub(crate) fn log_bytes(&self) -> u64 {
        let entries = std::fs::read_dir(self.dir.path().join("audit")).unwrap();
        entries.map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
    }

    /// How many rules the agent judges by, without the ones for operators and the secret.
    pub(crate) fn rules(&self) -> usize {
        self.rules
    }

    /// Where disk files of the bench may stand: beside the agent's own.
    pub(crate) fn disk(&self) -> &Path {
        self.dir.path()
    }
}

/// The size of the agent's program, in bytes, as the release profile strips it.
pub(crate) fn program_bytes() -> u64 {
    std::fs::metadata(PROGRAM).unwrap().len()
}

const SCOPES: &str = r#"["read", "write", "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9"]"#;

const OPERATORS: &str = "@id(\"root-operates\")\npermit (principal == Operator::\"root\", action, resource);\n\
                         @id(\"key\")\npermit (principal, action == Action::\"secret\", resource == Secret::\"key\");\n";
