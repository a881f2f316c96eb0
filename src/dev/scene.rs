//! (E) The scene of the tour: a folder of its own with a configuration, policies, an issuer and an agent that runs
//! from them, exactly as an installed one would.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::issuer::{Client, Issuer, Settings};
use crate::access::Scopes;
use crate::agent::{Agent, NotStarted};
use crate::broker::Broker;
use crate::config;
use crate::crypto::{NoRandomness, Random, SystemRandom};
use crate::fault::Faults;
use crate::time::SystemClock;

/// The shipped policies: what the tour runs is what is installed.
const POLICIES: [(&str, &str); 5] = [
    ("bursar.cedarschema", include_str!("../../policies/bursar.cedarschema")),
    ("checkout.cedar", include_str!("../../policies/checkout.cedar")),
    ("operators.cedar", include_str!("../../policies/operators.cedar")),
    ("reports.cedar", include_str!("../../policies/reports.cedar")),
    ("workloads.toml", include_str!("../../policies/workloads.toml")),
];

/// The rule of the tour's own secret, which no installed configuration has.
const KEYS: &str = r#"// A secret that `checkout` may read.
@id("checkout-webhook-key")
@owner("payments")
permit (principal == Workload::"checkout", action == Action::"secret", resource == Secret::"webhook-key");
"#;

/// Why the scene is not set.
#[derive(Debug, thiserror::Error)]
pub enum NotSet {
    /// Its folder or a file in it cannot be written.
    #[error("`{path}` cannot be written: {error}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The issuer does not start.
    #[error("the embedded issuer cannot be started: {0}")]
    Issuer(std::io::Error),
    /// The embedded configuration is at fault, which is bursar's own.
    #[error("the embedded configuration: {0}")]
    Faults(#[from] Faults),
    /// The agent does not start.
    #[error(transparent)]
    Agent(#[from] NotStarted),
    /// The random generator failed.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

/// Everything that the tour acts on. The folder goes when it is dropped.
pub struct Scene {
    /// Where everything stands.
    pub folder: PathBuf,
    clients: BTreeMap<String, Client>,
    address: SocketAddr,
    issuer: Option<Issuer>,
    agent: Option<Agent>,
}

impl Scene {
    /// Sets the scene in a new folder below `parent`.
    ///
    /// # Errors
    /// [`NotSet`].
    pub async fn set(parent: &Path) -> Result<Self, NotSet> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |error| NotSet::Io { path, error }
        };
        let folder = own_folder(parent)?;
        let clients = clients()?;
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut scene = Self { folder, clients, address: any_port, issuer: None, agent: None };
        scene.start_issuer().await?;
        for (name, text) in scene.files() {
            let path = scene.folder.join(name);
            let parent = path.parent().unwrap_or(&scene.folder);
            fs::create_dir_all(parent).map_err(io(parent))?;
            fs::write(&path, text).map_err(io(&path))?;
        }
        let file = scene.config();
        scene.agent = Some(Agent::start(&file, config::load(&file)?, None).await?);
        Ok(scene)
    }

    /// The configuration's file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.folder.join("bursar.toml")
    }

    /// The socket that is bound to `workload`.
    #[must_use]
    pub fn socket_of(&self, workload: &str) -> PathBuf {
        self.folder.join(workload).join("bursar.sock")
    }

    /// The operators' socket.
    #[must_use]
    pub fn admin(&self) -> PathBuf {
        self.folder.join("admin.sock")
    }

    /// The log's folder.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.folder.join("state/audit")
    }

    /// The client secret that the issuer expects of `client`; the tour puts it into the store.
    #[must_use]
    pub fn client_secret(&self, client: &str) -> &str {
        self.clients.get(client).map_or("", |client| &client.secret)
    }

    /// How many tokens the issuer that runs now has issued.
    #[must_use]
    pub fn issued(&self) -> u64 {
        self.issuer.as_ref().map_or(0, Issuer::issued)
    }

    /// How often a store was read for a workload.
    #[must_use]
    pub fn reads(&self) -> u64 {
        let broker = self.agent.as_ref().map(Agent::broker);
        let count = |broker: &Arc<Broker>| {
            let stores = broker.rules().shelf.stores.keys().cloned().collect::<Vec<_>>();
            stores
                .iter()
                .flat_map(|store| broker.kept().desk(store).reads.iter().map(|(_, count)| count).collect::<Vec<_>>())
                .sum()
        };
        broker.map_or(0, count)
    }

    /// The issuer goes, as if its machine had died.
    pub fn stop_issuer(&mut self) {
        self.issuer = None;
    }

    /// The issuer comes, at the address where it was.
    ///
    /// # Errors
    /// [`NotSet::Issuer`].
    pub async fn start_issuer(&mut self) -> Result<(), NotSet> {
        let settings =
            Settings { clients: self.clients.clone(), clock: Arc::new(SystemClock), random: Arc::new(SystemRandom) };
        let issuer = Issuer::start(self.address, settings).await.map_err(NotSet::Issuer)?;
        self.address = issuer.address();
        self.issuer = Some(issuer);
        Ok(())
    }

    /// Stops the agent in order.
    pub async fn strike(mut self) {
        if let Some(agent) = self.agent.take() {
            agent.drain().await;
        }
    }

    fn files(&self) -> impl Iterator<Item = (String, String)> {
        let own_uid = format!("uid = {}", rustix::process::getuid().as_raw());
        let policies = POLICIES.into_iter().map(move |(name, text)| {
            let text = if name == "workloads.toml" { text.replace("uid = 0", &own_uid) } else { text.to_owned() };
            (format!("policies/{name}"), text)
        });
        let folders =
            ["checkout", "reports"].map(|workload| (format!("{workload}/.socket-stands-here"), String::new()));
        let own = [("bursar.toml", self.configuration()), ("policies/keys.cedar", KEYS.to_owned())];
        own.into_iter().map(|(name, text)| (name.to_owned(), text)).chain(policies).chain(folders)
    }

    fn configuration(&self) -> String {
        let issuer = self.issuer.as_ref().map_or("", Issuer::url);
        format!(
            r#"# The configuration of `bursar dev`: edit it, and `bursar reload`.
[agent]
socket       = "bursar.sock"
admin_socket = "admin.sock"
state_dir    = "state"
policies     = "policies"

[[agent.listener]]              # whoever can open this socket is `checkout`
socket   = "checkout/bursar.sock"
workload = "checkout"

[[agent.listener]]
socket   = "reports/bursar.sock"
workload = "reports"

[store.local]
kind = "sealed"

[secret.webhook-key]            # what `checkout` may read as it is
store = "local"

[provider.stripe]
issuer         = "{issuer}"
client_id      = "bursar-stripe"
client_secret  = {{ store = "local", name = "stripe-client" }}
scopes         = ["charges:read", "charges:write", "refunds:write"]
default_scopes = ["charges:read"]
owner          = "payments"

[provider.crm]                  # its tokens live for {CRM_LIFETIME} s only, so that staleness can be seen soon
issuer        = "{issuer}"
client_id     = "bursar-crm"
client_secret = {{ store = "local", name = "crm-client" }}
scopes        = ["customers:read"]
default_scopes = ["customers:read"]
refresh_at    = 0.1

[audit]
dir     = "state/audit"
segment = "16MiB"
reserve = "1MiB"
"#
        )
    }
}

/// How long the tokens of the tour's second provider live, in seconds.
const CRM_LIFETIME: u64 = 12;

impl Drop for Scene {
    fn drop(&mut self) {
        // What cannot be removed stands in the folder for temporary files, which is emptied in time.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn clients() -> Result<BTreeMap<String, Client>, NotSet> {
    let client = |scopes: &str, seconds| {
        let scopes = Scopes::parse(scopes).unwrap_or_default();
        let secret = random_hex()?;
        Ok::<_, NoRandomness>(Client { secret, scopes, lifetime: Duration::from_secs(seconds) })
    };
    Ok(BTreeMap::from([
        ("bursar-stripe".to_owned(), client("charges:read charges:write refunds:write", 300)?),
        ("bursar-crm".to_owned(), client("customers:read", CRM_LIFETIME)?),
    ]))
}

/// 16 random bytes as 32 hexadecimal digits.
fn random_hex() -> Result<String, NoRandomness> {
    let mut bytes = [0; 16];
    SystemRandom.fill(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}

/// A new folder below `parent` that only this user can enter. Nobody can know its name before and lay something out
/// in its place, and where something stands it is not made.
fn own_folder(parent: &Path) -> Result<PathBuf, NotSet> {
    // Half of it: the path of a socket below may have 107 bytes.
    let path = parent.join(format!("bursar-dev-{:.16}", random_hex()?));
    match fs::DirBuilder::new().mode(0o700).create(&path) {
        Ok(()) => Ok(path),
        Err(error) => Err(NotSet::Io { path, error }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn each_scene_has_a_folder_that_nobody_else_can_enter_or_foresee() {
        let parent = tempfile::tempdir().unwrap();
        let [one, other] = [(); 2].map(|()| own_folder(parent.path()).unwrap());
        assert_ne!(one, other);
        assert_eq!(fs::metadata(&one).unwrap().mode() & 0o7777, 0o700);
    }
}
