//! What was said: the configuration file as it is written, with every key, its meaning and its default.
//!
//! This is the one place where a default stands; the schema, the documentation and the example derive from
//! it. A key or value marked `x-later` belongs to the format and is refused: its effect is not built yet.

mod deliver;
mod provider;
mod rotation;
mod secret;
mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use deliver::{DEFAULT_TIMEOUT, Deliver, DeliverToken, OnDenied, Signal, Then};
pub use provider::{ClientAuth, OneOrMany, Provider, Share, SigningAlg};
pub use rotation::{
    AccessKey, Alphabet, Exec, ExecInvents, Http, HttpCall, HttpFound, HttpMade, HttpMethod, HttpOverlap, KeyAlgorithm,
    Method, OauthClientSecret, Persist, Postgres, Preset, Random, RedisAcl, Register, Rotation, SigningKey, TwoSecrets,
    Uptake,
};
pub use secret::{Encoding, Secret};
pub use store::{AppRole, KeySource, OpenbaoAuth, SecretRef, Store};

use super::words::{Mode, Period, Rate, Size};
use crate::name::Name;
pub use crate::telemetry::{Format, Level};

/// Where the agent keeps what it must not lose, unless the configuration says otherwise.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/bursar";

/// The configuration of bursar: `/etc/bursar/bursar.toml`, and `conf.d/*.toml` beside it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "bursar.toml")]
pub struct Said {
    /// The agent itself: its sockets, its state, its policies.
    pub agent: Agent,
    /// How applications are told apart.
    pub attest: Attest,
    /// What is written to standard error for operators.
    pub log: Log,
    /// Prometheus metrics.
    pub metrics: Metrics,
    /// Traces.
    pub telemetry: Telemetry,
    /// Where secrets live. Each store has a name: `[store.local]`.
    pub store: BTreeMap<Name, Store>,
    /// Authorization servers, and our registration there. Each has a name: `[provider.stripe]`.
    pub provider: BTreeMap<Name, Provider>,
    /// Secrets that policy speaks of by a name of their own: `[secret.stripe-api-key]`.
    pub secret: BTreeMap<Name, Secret>,
    /// Files for programs that cannot ask. Each has a name: `[deliver.checkout-key]`.
    pub deliver: BTreeMap<Name, Deliver>,
    /// The audit log.
    pub audit: Audit,
    /// What one application or one uid may take up.
    pub limits: Limits,
}

/// The agent itself: its sockets, its state, its policies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Agent {
    /// What records call this agent. Without one, an id is made at first start and kept in `state_dir`.
    pub id: Option<Name>,
    /// Where applications ask. A socket that systemd passes under the name `bursar` is used instead.
    pub socket: PathBuf,
    /// The mode of `socket`. The kernel says who connects; the mode only limits who may ask.
    pub socket_mode: Mode,
    /// Where operators ask. A socket that systemd passes under the name `admin` is used instead.
    pub admin_socket: PathBuf,
    /// The mode of `admin_socket`.
    pub admin_mode: Mode,
    /// The group of `admin_socket`. Without one it is `bursar-admin` if that group exists, else the agent's own.
    #[schemars(length(min = 1, max = 63))]
    pub admin_group: Option<String>,
    /// Where the agent keeps what it must not lose.
    pub state_dir: PathBuf,
    /// The directory of `workloads.toml` and the policies.
    pub policies: PathBuf,
    /// What happens when a policy names a provider, secret or workload that this host does not have.
    pub unknown_ids: UnknownIds,
    /// More sockets for applications, each bound to one workload: the path is the identity.
    pub listener: Vec<Listener>,
}

impl Default for Agent {
    fn default() -> Self {
        Self {
            id: None,
            socket: "/run/bursar/bursar.sock".into(),
            socket_mode: Mode(0o666),
            admin_socket: "/run/bursar/admin.sock".into(),
            admin_mode: Mode(0o660),
            admin_group: None,
            state_dir: DEFAULT_STATE_DIR.into(),
            policies: "/etc/bursar/policies".into(),
            unknown_ids: UnknownIds::Refuse,
            listener: Vec::new(),
        }
    }
}

/// What happens when a policy names what this host does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum UnknownIds {
    /// It is a fault.
    #[default]
    Refuse,
    /// It is a warning: the policy set is shared by a fleet.
    Warn,
}

/// A socket for one workload. Who may open the path is that workload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Where the workload asks. A socket that systemd passes under the name `listener-WORKLOAD` is used instead.
    #[schemars(extend("examples" = ["/run/bursar/checkout/bursar.sock"]))]
    pub socket: PathBuf,
    /// The workload that is asking, whoever it is.
    #[schemars(extend("examples" = ["checkout"]))]
    pub workload: Name,
    /// The mode of the socket.
    #[serde(default = "owner_only")]
    pub mode: Mode,
    /// The user that owns the socket: a name or a uid. Needs CAP_CHOWN; without it, let a systemd socket unit own it.
    #[serde(default)]
    #[schemars(length(min = 1, max = 63))]
    pub owner: Option<String>,
    /// The group of the socket: a name or a gid. Needs CAP_CHOWN.
    #[serde(default)]
    #[schemars(length(min = 1, max = 63))]
    pub group: Option<String>,
}

const fn owner_only() -> Mode {
    Mode(0o600)
}

/// How applications are told apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Attest {
    /// Below which cgroups a container runtime names containers and pods; `*` stands for any characters but `/`.
    ///
    /// Only a path below one of these says that a process is in a container.
    #[schemars(inner(length(min = 1, max = 4096)))]
    pub container_roots: BTreeSet<String>,
}

impl Default for Attest {
    fn default() -> Self {
        let roots = ["/kubepods", "/kubepods.slice", "/system.slice/docker-*.scope"];
        Self { container_roots: roots.map(str::to_owned).into() }
    }
}

/// What is written to standard error for operators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// How much is written.
    pub level: Level,
    /// How it is written.
    pub format: Format,
}

/// Prometheus metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// The address of this host at which `/metrics` is served over HTTP, to every local user. Off without one.
    #[schemars(extend("examples" = ["127.0.0.1:9464"]))]
    pub listen: Option<String>,
}

/// Traces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// The collector on this host that receives traces by OTLP over HTTP. Off without one.
    #[schemars(extend("examples" = ["http://127.0.0.1:4318"]))]
    pub otlp: Option<String>,
}

/// The audit log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Audit {
    /// Where the segments stand. Without one it is `audit` in `state_dir`.
    pub dir: Option<PathBuf>,
    /// When a record counts as kept, so that the answer may leave.
    pub durability: Durability,
    /// How large a segment grows before the next one begins.
    pub segment: Size,
    /// How much disk is reserved ahead, so that the log can go on when the disk is full.
    pub reserve: Size,
    /// How long segments are kept. For ever without one.
    #[schemars(extend("x-later" = true, "examples" = ["400d"]))]
    pub retention: Option<Period>,
    /// How soon after a record a signed checkpoint follows.
    #[schemars(extend("x-later" = true, "examples" = ["1s"]))]
    pub checkpoint_every: Option<Period>,
    /// Where records are sent as well.
    #[schemars(extend("x-later" = true))]
    pub forward: Vec<Forward>,
    /// Who cosigns checkpoints.
    #[schemars(extend("x-later" = true))]
    pub witness: Vec<Witness>,
}

impl Default for Audit {
    fn default() -> Self {
        Self {
            dir: None,
            durability: Durability::Disk,
            segment: Size(256 << 20),
            reserve: Size(16 << 20),
            retention: None,
            checkpoint_every: None,
            forward: Vec::new(),
            witness: Vec::new(),
        }
    }
}

/// When a record counts as kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// After `fdatasync`: it survives a power failure.
    #[default]
    Disk,
    /// After `write`: it survives the end of the process, not a power failure.
    Os,
}

/// Where records are sent as well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Forward {
    /// The journal of this host: a mirror.
    Journal {},
    /// Syslog (RFC 5424) over TLS.
    Syslog {
        /// Where to.
        #[schemars(extend("examples" = ["tls://siem.example.com:6514"]))]
        address: String,
    },
    /// An OpenTelemetry collector.
    Otlp {
        /// Where to.
        #[schemars(extend("examples" = ["http://127.0.0.1:4318"]))]
        address: String,
    },
}

/// Who cosigns checkpoints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Witness {
    /// Where it is.
    pub url: String,
    /// Its verifier key (C2SP vkey).
    pub key: String,
}

/// What one application or one uid may take up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// How many connections at once. Lowered at start to what the descriptor limit carries.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connections: u32,
    /// How many of them one uid may hold. Without one, a quarter.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connections_per_uid: Option<u32>,
    /// How many requests one workload may make.
    pub per_workload: Limit,
    /// How many requests of one workload may reach a provider.
    pub mints_per_workload: Limit,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            connections_per_uid: None,
            per_workload: Limit::OFF,
            mints_per_workload: Limit::At(Rate { count: 60, every: Duration::from_secs(60) }),
        }
    }
}

/// A rate, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Limit {
    /// No limit.
    Off(Off),
    /// At most so many.
    At(Rate),
}

impl Limit {
    /// No limit.
    pub const OFF: Self = Self::Off(Off::Off);

    /// The rate, if there is one.
    #[must_use]
    pub fn rate(self) -> Option<crate::retry::Rate> {
        match self {
            Self::Off(Off::Off) => None,
            Self::At(Rate { count, every }) => Some(crate::retry::Rate { count, every }),
        }
    }
}

/// The word for no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Off {
    /// No limit.
    Off,
}
