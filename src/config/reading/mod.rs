//! From what was said to what is meant: every fault at once, each with its place.

mod agent;
mod credential;
mod deliver;
mod provider;
mod rotation;
mod store;
mod warn;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::address::{self, NotUsable};
use super::meant::{Audit, Collector, Durability, Limits, Log, Settings};
use super::said::{self, Said};
use crate::document::{Places, Source, nearest, read_all};
use crate::fault::{Fault, Faults};

/// What was read, and what the reader noticed.
#[derive(Clone, Debug)]
pub struct Read {
    /// What is meant.
    pub settings: Settings,
    /// Where each key stands.
    pub places: Places,
    /// What is allowed and probably not meant.
    pub warnings: Vec<Fault>,
}

/// Reads the text of a configuration: the first source is the main file, the others are its `conf.d`.
///
/// `cwd` is what a relative file name is relative to.
///
/// # Errors
/// Every fault in every file: syntax, keys and kinds first; once these are right, what they mean together.
pub fn read(sources: &[Source], cwd: &Path) -> Result<Read, Faults> {
    let (said, places) = read_all::<Said>(sources)?;
    let mut reader = Reader { places: &places, cwd, faults: Faults::default() };
    let settings = reader.settings(said);
    let faults = reader.faults;
    faults.or(())?;
    let warnings = warn::of(&settings, &places);
    Ok(Read { settings, places, warnings })
}

/// Goes through what was said and collects faults.
struct Reader<'a> {
    places: &'a Places,
    cwd: &'a Path,
    faults: Faults,
}

impl Reader<'_> {
    fn settings(&mut self, said: Said) -> Settings {
        let Said { agent, attest, log, metrics, telemetry, store, provider, secret, deliver, audit, limits } = said;
        let agent = self.agent(agent);
        let known: Vec<_> = store.keys().cloned().collect();
        let fresh_for: Vec<_> = store.iter().map(|(name, store)| (name.clone(), self.fresh_for(name, store))).collect();
        let fresh_for = fresh_for.into_iter().filter_map(|(name, period)| Some((name, period?)));
        let fresh_for = fresh_for.collect::<BTreeMap<_, _>>();
        let stores = store.into_iter().map(|(name, store)| {
            let store = self.store(&name, store, &agent.state_dir);
            (name, store)
        });
        let stores = stores.collect();
        self.stores_differ(&stores);
        let (mut providers, secrets) = (self.providers(provider, &known), self.secrets(secret, &known, &fresh_for));
        self.rotators_fit(&mut providers, &secrets);
        self.stores_carry_notices(&secrets, &stores);
        Settings {
            container_roots: self.container_roots(attest),
            log: Log { level: log.level, format: log.format },
            stores,
            deliveries: self.deliveries(deliver, &secrets, &providers),
            providers,
            secrets,
            fresh_for,
            audit: self.audit(audit, &agent.state_dir),
            otlp: telemetry.otlp.and_then(|text| self.collector("telemetry.otlp", &text)),
            metrics: metrics.listen.and_then(|text| self.loopback("metrics.listen", &text)),
            limits: self.limits(&limits),
            agent,
        }
    }

    /// A collector of this host: what it is told is not encrypted.
    fn collector(&mut self, key: &str, text: &str) -> Option<Collector> {
        let help = "write it as in `http://127.0.0.1:4318`; a collector on this host passes traces on by TLS";
        match address::collector(text) {
            Some((address, path)) if address.ip().is_loopback() => return Some(Collector { address, path }),
            Some(_) => {
                self.fault(key, format!("`{key}` is not an address of this host alone"), Some(help.to_owned()));
            }
            None => {
                self.fault(key, format!("`{key}` is not `http://ADDRESS:PORT`"), Some(help.to_owned()));
            }
        }
        None
    }

    /// An address and port that nobody beyond this host can reach.
    fn loopback(&mut self, key: &str, text: &str) -> Option<SocketAddr> {
        match text.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => return Some(address),
            Ok(_) => {
                let help =
                    "use `127.0.0.1` or `[::1]`; for a scraper elsewhere, let a proxy that knows it stand before";
                self.fault(key, format!("`{key}` is not an address of this host alone"), Some(help.to_owned()));
            }
            Err(_) => {
                let help = "write address and port, as in `127.0.0.1:9464` or `[::1]:9464`";
                self.fault(key, format!("`{key}` is not an address with a port"), Some(help.to_owned()));
            }
        }
        None
    }

    fn audit(&mut self, said: said::Audit, state_dir: &Path) -> Audit {
        let dir = match said.dir {
            Some(dir) => self.path("audit.dir", &dir),
            None => state_dir.join("audit"),
        };
        let (segment, reserve) = (said.segment.0, said.reserve.0);
        if segment < 1 << 20 {
            self.fault("audit.segment", "a segment below `1MiB` would be closed every few seconds".to_owned(), None);
        }
        if reserve > segment {
            let what = format!("`audit.reserve` ({}) is larger than `audit.segment` ({})", said.reserve, said.segment);
            self.fault("audit.reserve", what, Some("blocks are reserved within a segment: lower it".to_owned()));
        }
        let durability = match said.durability {
            said::Durability::Disk => Durability::Disk,
            said::Durability::Os => Durability::Os,
        };
        Audit { dir, durability, segment, reserve }
    }

    fn limits(&mut self, said: &said::Limits) -> Limits {
        let connections_per_uid = said.connections_per_uid.unwrap_or((said.connections / 4).max(1));
        if connections_per_uid > said.connections {
            let what = format!("`limits.connections_per_uid` is more than the {} connections of all", said.connections);
            self.fault("limits.connections_per_uid", what, Some("lower it, or raise `limits.connections`".to_owned()));
        }
        Limits {
            connections: said.connections,
            connections_per_uid,
            per_workload: said.per_workload.rate(),
            mints_per_workload: said.mints_per_workload.rate(),
        }
    }

    /// A path as it is opened: what is relative is relative to the file that said it.
    fn path(&mut self, key: &str, said: &Path) -> PathBuf {
        let bytes = said.as_os_str().as_encoded_bytes();
        if bytes.is_empty() || bytes.contains(&0) {
            self.fault(key, format!("`{key}` is not a path"), None);
        }
        let file = self.cwd.join(self.places.file_of(key));
        file.parent().unwrap_or(self.cwd).join(said)
    }

    fn fault(&mut self, key: &str, what: String, help: Option<String>) {
        self.faults.push(Fault { place: self.places.of(key), what, help });
    }

    /// The address, or a fault that says why it cannot be used.
    fn address<T>(&mut self, key: &str, text: &str, parse: impl Fn(&str) -> Result<T, NotUsable>) -> Option<T> {
        let NotUsable { what, help } = match parse(text) {
            Ok(address) => return Some(address),
            Err(error) => error,
        };
        // Not the text: there may be a password in it.
        self.fault(key, format!("`{key}` {what}"), Some(help.to_owned()));
        None
    }
}

/// "did you mean", where one of `known` is near.
fn guess<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, known).map(|near| format!("did you mean `{near}`? ")).unwrap_or_default()
}
