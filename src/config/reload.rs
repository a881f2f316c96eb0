//! What a reload may change, and what only a restart may.

use super::meant::{Agent, Settings};
use crate::document::{Places, below};
use crate::fault::{Fault, Faults};

/// A fault for every key that differs and that a running agent cannot change: a socket, the state, a store, the log's place.
///
/// # Errors
/// These faults. The old configuration stays as it is.
pub fn allowed(old: &Settings, new: &Settings, places: &Places) -> Result<(), Faults> {
    let mut faults = Faults::default();
    for key in changed(old, new) {
        let fault = Fault::new(places.of(&key), format!("`{key}` cannot be changed by a reload"));
        faults.push(fault.help("restart the agent (`systemctl restart bursar`), or put the old value back"));
    }
    faults.or(())
}

/// The keys that differ and that only a restart may change, sorted.
fn changed(old: &Settings, new: &Settings) -> Vec<String> {
    let mut keys: Vec<String> = fixed(old, new).filter(|(_, same)| !same).map(|(key, _)| key.to_owned()).collect();
    let mut names: Vec<_> = old.stores.keys().chain(new.stores.keys()).collect();
    names.sort();
    names.dedup();
    let same =
        |name| old.stores.get(name) == new.stores.get(name) && old.fresh_for.get(name) == new.fresh_for.get(name);
    names.retain(|name| !same(*name));
    keys.extend(names.into_iter().map(|name| below("store", name.as_str())));
    keys.sort();
    keys
}

fn fixed(old: &Settings, new: &Settings) -> impl Iterator<Item = (&'static str, bool)> {
    let (was, is): (&Agent, &Agent) = (&old.agent, &new.agent);
    [
        ("agent.id", was.id == is.id),
        ("agent.socket", was.socket == is.socket),
        ("agent.socket_mode", was.socket_mode == is.socket_mode),
        ("agent.admin_socket", was.admin_socket == is.admin_socket),
        ("agent.admin_mode", was.admin_mode == is.admin_mode),
        ("agent.admin_group", was.admin_group == is.admin_group),
        ("agent.listener", was.listeners == is.listeners),
        ("agent.state_dir", was.state_dir == is.state_dir),
        ("attest.container_roots", old.container_roots == new.container_roots),
        ("log.format", old.log.format == new.log.format),
        ("audit.dir", old.audit.dir == new.audit.dir),
        ("audit.durability", old.audit.durability == new.audit.durability),
        ("audit.segment", old.audit.segment == new.audit.segment),
        ("audit.reserve", old.audit.reserve == new.audit.reserve),
        ("telemetry.otlp", old.otlp == new.otlp),
        ("metrics.listen", old.metrics == new.metrics),
        ("limits.connections", old.limits.connections == new.limits.connections),
        ("limits.connections_per_uid", old.limits.connections_per_uid == new.limits.connections_per_uid),
    ]
    .into_iter()
}
