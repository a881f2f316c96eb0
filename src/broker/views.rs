//! What is shown of the agent: to an operator, and to a workload of itself.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Broker, Rules};
use crate::name::Name;

/// The state of the agent.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// bursar's version.
    pub version: &'static str,
    /// Whether requests are served.
    pub ready: bool,
    /// SHA-256 of the policy snapshot in force.
    pub policy: String,
    /// How many rules it has.
    pub rules: usize,
    /// The providers, by name.
    pub providers: Vec<ProviderStatus>,
    /// The stores, by name.
    pub stores: Vec<Name>,
}

/// The state of a provider.
#[derive(Clone, Debug, Serialize)]
pub struct ProviderStatus {
    /// Its name.
    pub name: Name,
    /// How many tokens of it are held and alive.
    pub tokens: usize,
    /// Whether all workloads share one token.
    pub shared: bool,
}

/// What bursar sees of a peer.
#[derive(Clone, Debug, Serialize)]
pub struct Whoami {
    /// The workload that the peer maps to.
    pub workload: Option<Name>,
    /// The facts, by the names that `workloads.toml` uses.
    pub seen: BTreeMap<&'static str, String>,
    /// The providers of which some token may be permitted.
    pub providers: Vec<Name>,
    /// Why it maps to none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<&'static str>,
}

impl Status {
    pub(super) fn of(broker: &Broker, rules: &Rules) -> Self {
        let provider = |provider: &std::sync::Arc<crate::token::Provider>| ProviderStatus {
            name: provider.name.clone(),
            tokens: provider.tokens(),
            shared: provider.settings.share == crate::token::Share::Host,
        };
        Self {
            version: env!("CARGO_PKG_VERSION"),
            ready: broker.ready().is_ok(),
            policy: rules.policy.digest().to_string(),
            rules: rules.policy.rules().len(),
            providers: rules.providers.values().map(provider).collect(),
            stores: rules.shelf.stores.keys().cloned().collect(),
        }
    }
}
