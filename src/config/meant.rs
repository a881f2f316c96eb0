//! What is meant: the settings that the rooms receive, parsed into types. Past this point nothing is validated again.
//!
//! Paths are as the rooms open them: what was relative stands below the folder of the file that said it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::access::{Audiences, Scopes, SecretId};
use crate::crypto::keys::Curve;
use crate::name::{Name, StoredName};
use crate::policy::UnknownIds;
use crate::retry::Rate;
use crate::rotation::client_secret::Call;
use crate::rotation::random::Alphabet;
use crate::rotation::{Overlap, Schedule, Uptake, access_key, exec, http, postgres, redis_acl};
use crate::store::openbao;

pub use super::said::{Format, Level};
pub use crate::account::Encoding;
pub use crate::audit::Durability;
pub use crate::broker::{About, Want};
pub use crate::deliver::Then;
pub use crate::oauth::assertion::{KeyId, Signing};
pub use crate::oauth::client_auth::ClientAuth;
pub use crate::oauth::settings::{AudienceParameter, ClientId, EndpointUrl, Issuer, Rules, Server};
pub use crate::oauth::signing_key::SigningAlgorithm;
pub use crate::token::Share;

/// Everything that is configured.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The agent itself.
    pub agent: Agent,
    /// Below which cgroups containers and pods are named, sorted; `*` stands for any characters but `/`.
    pub container_roots: Vec<Box<str>>,
    /// The operators' log.
    pub log: Log,
    /// Where secrets live.
    pub stores: BTreeMap<Name, Store>,
    /// How long a value of a store is taken for the one that it has, where that is said: 1 s to a day.
    pub fresh_for: BTreeMap<Name, Duration>,
    /// Where tokens come from.
    pub providers: BTreeMap<Name, Provider>,
    /// Secrets that have a name of their own.
    pub secrets: BTreeMap<Name, Secret>,
    /// Files for programs that cannot ask.
    pub deliveries: BTreeMap<Name, Delivery>,
    /// The audit log.
    pub audit: Audit,
    /// Where `/metrics` is served over HTTP: an address of this host alone.
    pub metrics: Option<SocketAddr>,
    /// The collector of this host that receives traces.
    pub otlp: Option<Collector>,
    /// What one application or one uid may take up.
    pub limits: Limits,
}

/// Where traces go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector {
    /// An address of this host alone.
    pub address: SocketAddr,
    /// What its paths begin with, without the last `/`.
    pub path: String,
}

/// The agent's sockets, state and policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// What records call it; none: the id that was made at first start.
    pub id: Option<Name>,
    /// Where applications ask.
    pub socket: PathBuf,
    /// The permission bits of `socket`.
    pub socket_mode: u32,
    /// Where operators ask.
    pub admin_socket: PathBuf,
    /// The permission bits of `admin_socket`.
    pub admin_mode: u32,
    /// The group of `admin_socket`; none: `bursar-admin` if it exists, else the agent's own.
    pub admin_group: Option<String>,
    /// The sockets that are bound to one workload each.
    pub listeners: Vec<Listener>,
    /// Where the agent keeps what it must not lose.
    pub state_dir: PathBuf,
    /// The directory of `workloads.toml` and the policies.
    pub policies: PathBuf,
    /// What happens to ids in policies that this host does not have.
    pub unknown_ids: UnknownIds,
}

/// The group of the admin socket where none is configured, if it exists.
pub const ADMIN_GROUP: &str = "bursar-admin";

/// A socket that is bound to one workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where it is.
    pub socket: PathBuf,
    /// Who asks there.
    pub workload: Name,
    /// Its permission bits.
    pub mode: u32,
    /// Its owner: a user name or a uid.
    pub owner: Option<String>,
    /// Its group: a group name or a gid.
    pub group: Option<String>,
}

/// The operators' log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// How much is written.
    pub level: Level,
    /// How it is written.
    pub format: Format,
}

/// A place where secrets live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// A file of this host, sealed at rest.
    Sealed {
        /// The file.
        path: PathBuf,
        /// What seals it.
        key: StoreKey,
    },
    /// A directory of this host, one file a secret, read-only.
    Files {
        /// The directory.
        path: PathBuf,
    },
    /// AWS Secrets Manager.
    Aws(Box<Aws>),
    /// OpenBao, or HashiCorp Vault: KV version 2.
    OpenBao(Box<OpenBao>),
}

impl Store {
    /// Whether agents that share it can tell each other of its secrets there.
    #[must_use]
    pub const fn carries_notices(&self) -> bool {
        match self {
            Self::OpenBao(_) => true,
            Self::Sealed { .. } | Self::Files { .. } | Self::Aws(_) => false,
        }
    }

    /// The files that the agent reads to reach it.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let bao = match self {
            Self::OpenBao(bao) => Some(bao),
            Self::Sealed { .. } | Self::Files { .. } | Self::Aws(_) => None,
        };
        bao.into_iter().flat_map(|bao| bao.ca_file.as_deref().into_iter().chain([bao.login_file()]))
    }
}

/// AWS Secrets Manager. Who we are there is found where AWS's own tools look for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aws {
    /// The region.
    pub region: String,
    /// Another endpoint than the region's.
    pub endpoint: Option<EndpointUrl>,
    /// What the names of our secrets begin with; may be empty.
    pub prefix: String,
    /// Where secrets are read while the region cannot answer.
    pub replica_region: Option<String>,
}

/// A KV engine of OpenBao.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenBao {
    /// Where it is.
    pub address: EndpointUrl,
    /// The mount of the KV engine.
    pub mount: StoredName,
    /// What the paths of our secrets begin with.
    pub prefix: Option<StoredName>,
    /// The namespace.
    pub namespace: Option<StoredName>,
    /// The certificate authorities that vouch for it (PEM); none: the system's.
    pub ca_file: Option<PathBuf>,
    /// How we log in.
    pub auth: openbao::Auth,
}

impl OpenBao {
    /// The file with which the agent logs in: of a secret id or of a token.
    #[must_use]
    pub fn login_file(&self) -> &Path {
        match &self.auth {
            openbao::Auth::AppRole { secret_id_file, .. } => secret_id_file,
            openbao::Auth::TokenFile(path) => path,
        }
    }
}

/// Where the key of a sealed store comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreKey {
    /// A file.
    File {
        /// Where it is.
        path: PathBuf,
        /// Whether it lies in `state_dir` and is made at first start; elsewhere a missing one is a fault.
        made: bool,
    },
    /// A credential that systemd passes.
    Credential(String),
}

/// A secret in a store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretRef {
    /// The store.
    pub store: Name,
    /// Its name there.
    pub name: StoredName,
}

/// A secret that policy speaks of by a name of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Secret {
    /// Where it is.
    pub at: SecretRef,
    /// What it belongs to.
    pub tags: Vec<Name>,
    /// The member that is meant, where the value is a JSON object.
    pub field: Option<Box<str>>,
    /// How its value is written.
    pub encoding: Option<Encoding>,
    /// How it is rotated, if it is.
    pub rotation: Option<Rotation>,
}

/// How a secret is rotated.
#[derive(Clone, Debug, PartialEq)]
pub struct Rotation {
    /// When.
    pub schedule: Schedule,
    /// How long the former version stays valid.
    pub grace: Duration,
    /// Whose readers are waited for.
    pub uptake: Uptake,
    /// How long after the promotion they are.
    pub uptake_deadline: Duration,
    /// By what.
    pub rotator: Rotator,
}

/// What rotates a secret.
#[derive(Clone, Debug, PartialEq)]
pub enum Rotator {
    /// A random text.
    Random {
        /// Of which characters.
        alphabet: Alphabet,
        /// Of how many.
        length: usize,
    },
    /// The password of a PostgreSQL role, or of two.
    Postgres {
        /// Where.
        server: postgres::Server,
        /// Of whom.
        roles: postgres::Roles,
        /// With which login.
        admin: SecretRef,
    },
    /// A password of a Redis user.
    RedisAcl {
        /// Where, and of whom.
        user: redis_acl::User,
        /// With which login.
        admin: SecretRef,
        /// Whether a password that was put is bursar's to end.
        exclusive: bool,
    },
    /// Calls to an HTTP service.
    Http(Box<HttpCalls>),
    /// A program.
    Exec(Box<ExecProgram>),
    /// Access keys of an IAM user.
    AccessKey(Box<IamKeys>),
    /// The client secret of a provider entry.
    ClientSecret(Box<ClientSecret>),
    /// The private key of a provider entry.
    SigningKey(Box<SigningKey>),
}

/// How the client secret of a provider entry is rotated.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientSecret {
    /// Whose.
    pub provider: Name,
    /// The token with which the server is told.
    pub admin: Option<SecretRef>,
    /// What the server allows.
    pub by: ClientSecretBy,
}

/// What a server allows for the rotation of a client secret.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientSecretBy {
    /// Two secrets of a client at once.
    TwoSecrets(Call),
    /// The registration of another client.
    Registration {
        /// Where (RFC 7591).
        endpoint: EndpointUrl,
        /// What is said of it beside what bursar says.
        metadata: serde_json::Map<String, serde_json::Value>,
        /// Whether a client that was put is bursar's to delete.
        exclusive: bool,
    },
}

/// How the private key of a provider entry is rotated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKey {
    /// Whose.
    pub provider: Name,
    /// Which keys are made.
    pub curve: Curve,
    /// The file of the key set.
    pub jwks_file: Option<PathBuf>,
    /// Where the key set is served: an address of this host alone.
    pub jwks_listen: Option<SocketAddr>,
    /// How long the provider may keep an older key set.
    pub settles_within: Duration,
}

/// Access keys of an IAM user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IamKeys {
    /// Whose, and where.
    pub settings: access_key::Settings,
    /// The key with which they are changed.
    pub admin: SecretRef,
    /// Whether nobody else makes keys there.
    pub exclusive: bool,
    /// The certificate authorities that vouch for the endpoint (PEM); none: the system's.
    pub ca_file: Option<PathBuf>,
    /// Whether it is reached without TLS, which only loopback is.
    pub is_plain: bool,
}

/// A program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecProgram {
    /// How it is started.
    pub settings: exec::Settings,
    /// The credential with which it acts.
    pub admin: Option<SecretRef>,
    /// Whether nobody else makes credentials there.
    pub exclusive: bool,
    /// Of which characters a value is made, where we make it.
    pub alphabet: Alphabet,
    /// Of how many.
    pub length: usize,
}

/// Calls to an HTTP service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpCalls {
    /// The calls.
    pub definition: http::Definition,
    /// The credential with which they are made.
    pub admin: Option<SecretRef>,
    /// Whether nobody else makes credentials there.
    pub exclusive: bool,
    /// The certificate authorities that vouch for the service (PEM); none: the system's.
    pub ca_file: Option<PathBuf>,
    /// Whether it is reached without TLS, which only loopback is.
    pub is_plain: bool,
    /// Of which characters a value is made, where we make it.
    pub alphabet: Alphabet,
    /// Of how many.
    pub length: usize,
}

impl Rotator {
    /// Its table in the configuration.
    #[must_use]
    pub const fn table(&self) -> &'static str {
        match self {
            Self::Random { .. } => "random",
            Self::Postgres { .. } => "postgres",
            Self::RedisAcl { .. } => "redis-acl",
            Self::Http(_) => "http",
            Self::Exec(_) => "exec",
            Self::AccessKey(_) => "aws-iam-access-key",
            Self::ClientSecret(_) => "oauth-client-secret",
            Self::SigningKey(_) => "signing-key",
        }
    }

    /// The provider entry whose own credential it rotates.
    #[must_use]
    pub const fn provider(&self) -> Option<&Name> {
        match self {
            Self::ClientSecret(it) => Some(&it.provider),
            Self::SigningKey(it) => Some(&it.provider),
            Self::Random { .. }
            | Self::Postgres { .. }
            | Self::RedisAcl { .. }
            | Self::Http(_)
            | Self::Exec(_)
            | Self::AccessKey(_) => None,
        }
    }

    /// How many values its far side accepts at once.
    #[must_use]
    pub const fn overlap(&self) -> Overlap {
        match self {
            Self::Random { .. }
            | Self::RedisAcl { .. }
            | Self::AccessKey(_)
            | Self::ClientSecret(_)
            | Self::SigningKey(_) => Overlap::Two,
            Self::Postgres { roles, .. } => roles.overlap(),
            Self::Http(calls) => calls.definition.overlap,
            Self::Exec(program) => program.settings.overlap,
        }
    }

    /// Whether nobody else makes credentials there.
    #[must_use]
    pub fn exclusive(&self) -> bool {
        match self {
            // A role that is named here has the passwords that bursar gives it.
            Self::Random { .. } | Self::Postgres { .. } => true,
            // What is published is what the store says.
            Self::SigningKey(_) => true,
            Self::ClientSecret(it) => match it.by {
                // A call says which secrets are valid, whoever made the others.
                ClientSecretBy::TwoSecrets(_) => true,
                ClientSecretBy::Registration { exclusive, .. } => exclusive,
            },
            Self::RedisAcl { exclusive, .. } => *exclusive,
            Self::Http(calls) => calls.exclusive,
            Self::Exec(program) => program.exclusive,
            Self::AccessKey(keys) => keys.exclusive,
        }
    }

    /// The credential with which it acts, if it has one.
    #[must_use]
    pub const fn admin(&self) -> Option<&SecretRef> {
        match self {
            Self::Random { .. } | Self::SigningKey(_) => None,
            Self::ClientSecret(it) => it.admin.as_ref(),
            Self::Postgres { admin, .. } | Self::RedisAcl { admin, .. } => Some(admin),
            Self::Http(calls) => calls.admin.as_ref(),
            Self::Exec(program) => program.admin.as_ref(),
            Self::AccessKey(keys) => Some(&keys.admin),
        }
    }

    /// The certificate authorities that vouch for its far side, where they have a file of their own.
    #[must_use]
    pub fn ca_file(&self) -> Option<&Path> {
        match self {
            Self::Random { .. } | Self::Exec(_) | Self::ClientSecret(_) | Self::SigningKey(_) => None,
            Self::Postgres { server, .. } => server.line.ca_file.as_deref(),
            Self::RedisAcl { user, .. } => user.line.ca_file.as_deref(),
            Self::Http(calls) => calls.ca_file.as_deref(),
            Self::AccessKey(keys) => keys.ca_file.as_deref(),
        }
    }
}

/// A file for a program that cannot ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// For whom.
    pub workload: Name,
    /// The file: absolute.
    pub path: PathBuf,
    /// Its permission bits.
    pub mode: u32,
    /// Its owner: a user name or a uid; none: the agent's own.
    pub owner: Option<String>,
    /// Its group: a group name or a gid; none: the agent's own.
    pub group: Option<String>,
    /// What stands in it.
    pub content: Delivered,
    /// How its reader is told.
    pub then: Option<Then>,
    /// Whether it is taken away when policy does not allow it any more.
    pub remove_if_denied: bool,
}

/// What stands in a delivered file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// One value, and nothing else.
    One(Want),
    /// What the template in this file gives.
    Template(PathBuf),
}

impl Delivered {
    /// The file of the template, if it is one.
    #[must_use]
    pub fn template(&self) -> Option<&Path> {
        match self {
            Self::One(_) => None,
            Self::Template(file) => Some(file),
        }
    }
}

/// An authorization server, and our registration there.
#[derive(Clone, Debug, PartialEq)]
pub struct Provider {
    /// Where it is: the first that is well is asked. Several only where they are token endpoints.
    pub servers: Vec<Server>,
    /// Who we are there; none: the registration says it.
    pub client_id: Option<ClientId>,
    /// How we prove it.
    pub client_auth: ClientAuth,
    /// With what.
    pub credential: Credential,
    /// How our assertions are signed, where we prove it by one.
    pub signing: Signing,
    /// Where tokens are ended; none: where metadata says, if it does.
    pub revocation_endpoint: Option<EndpointUrl>,
    /// Whether held tokens are ended when the agent stops.
    pub revoke_at_shutdown: bool,
    /// The most that is ever asked for; empty: a server without scopes.
    pub scopes: Scopes,
    /// What a request without scope asks for.
    pub default_scopes: Scopes,
    /// Whom tokens are for; a request without one asks for all of them.
    pub audience: Audiences,
    /// By which parameter the provider is told.
    pub audience_as: AudienceParameter,
    /// What is accepted from it.
    pub rules: Rules,
    /// Who shares a token.
    pub share: Share,
    /// The certificate authorities that vouch for it (PEM); none: the system's.
    pub ca_file: Option<PathBuf>,
    /// The most time for name resolution, connection and TLS handshake together.
    pub connect_timeout: Duration,
    /// The most time for one request.
    pub timeout: Duration,
    /// After which part of its lifetime a token in use is refreshed: 0.05 to 0.95.
    pub refresh_at: f64,
    /// How many token requests it gets.
    pub budget: Option<Rate>,
    /// What the catalogue says of it.
    pub about: About,
}

impl Provider {
    /// The files that the agent reads for it.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let own = match &self.credential {
            Credential::Certificate { file, .. } | Credential::Assertion(file) => Some(file),
            Credential::ClientSecret(_) | Credential::Registration(_) | Credential::PrivateKey(_) => None,
        };
        self.ca_file.iter().chain(own).map(PathBuf::as_path)
    }
}

/// With what we prove to a provider who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A client secret.
    ClientSecret(SecretRef),
    /// A client id and a client secret.
    Registration(SecretRef),
    /// A private key that signs assertions.
    PrivateKey(SecretRef),
    /// A certificate.
    Certificate {
        /// Its file.
        file: PathBuf,
        /// Its private key.
        key: SecretRef,
    },
    /// The file of an assertion that somebody else made.
    Assertion(PathBuf),
}

impl Credential {
    /// The secret that it takes from a store, with the key of the configuration that says so.
    #[must_use]
    pub fn stored(&self) -> Option<(&'static str, &SecretRef)> {
        match self {
            Self::ClientSecret(at) => Some(("client_secret", at)),
            Self::Registration(at) => Some(("registration", at)),
            Self::PrivateKey(at) => Some(("private_key", at)),
            Self::Certificate { key, .. } => Some(("certificate_key", key)),
            Self::Assertion(_) => None,
        }
    }
}

/// The audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// Where the segments stand.
    pub dir: PathBuf,
    /// When a record counts as kept.
    pub durability: Durability,
    /// How many bytes a segment holds before the next one begins.
    pub segment: u64,
    /// How many bytes are reserved ahead.
    pub reserve: u64,
}

/// What one application or one uid may take up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many connections at once, before it is lowered to what the descriptor limit carries.
    pub connections: u32,
    /// How many of them one uid may hold.
    pub connections_per_uid: u32,
    /// How many requests one workload may make.
    pub per_workload: Option<Rate>,
    /// How many requests of one workload may reach providers.
    pub mints_per_workload: Option<Rate>,
}

impl Settings {
    /// Every secret that the configuration speaks of, as policy names it, with its tags.
    ///
    /// Entries stand under their own name; what is only referred to stands as `STORE/NAME`.
    #[must_use]
    pub fn secret_ids(&self) -> BTreeMap<SecretId, Vec<Name>> {
        let stored = self.providers.values().filter_map(|provider| provider.credential.stored());
        let rotators = self.secrets.values().filter_map(|secret| secret.rotation.as_ref()?.rotator.admin());
        let referred = stored.map(|(_, at)| at).chain(rotators);
        let referred = referred.chain(self.secrets.values().map(|secret| &secret.at));
        let referred: BTreeSet<_> = referred.map(|at| SecretId::Stored(at.store.clone(), at.name.clone())).collect();
        let named = self.secrets.iter().map(|(name, secret)| (SecretId::Entry(name.clone()), secret.tags.clone()));
        referred.into_iter().map(|id| (id, Vec::new())).chain(named).collect()
    }

    /// Where a secret is, by the name that operators and policy use; none where no such store or entry is configured.
    #[must_use]
    pub fn locate(&self, id: &SecretId) -> Option<SecretRef> {
        match id {
            SecretId::Entry(name) => self.secrets.get(name).map(|secret| secret.at.clone()),
            SecretId::Stored(store, name) => {
                self.stores.contains_key(store).then(|| SecretRef { store: store.clone(), name: name.clone() })
            }
        }
    }

    /// Every provider, with its tags.
    #[must_use]
    pub fn provider_tags(&self) -> BTreeMap<Name, Vec<Name>> {
        self.providers.iter().map(|(name, provider)| (name.clone(), provider.about.tags.clone())).collect()
    }
}
