//! The catalogue: what this host depends on, who answers for it, and how it does.

use serde::Serialize;
use url::Url;

use super::{Broker, Rules, Why};
use crate::name::Name;
use crate::token::{Health, Provider};

/// What a provider's entry says for people. It changes nothing of how the provider is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// Who answers for it.
    pub owner: Option<String>,
    /// Where it is written what to do when it fails.
    pub runbook: Option<Url>,
    /// What kind of data its tokens open.
    pub data_class: Option<String>,
    /// What it belongs to. Policy knows these too.
    pub tags: Vec<Name>,
}

/// A provider: what the catalogue says of it, and how it does.
#[derive(Clone, Debug, Serialize)]
pub struct ProviderStatus {
    /// Its name.
    pub name: Name,
    /// `ready`, `stale` or `unready`, as in [`Readiness`].
    pub status: &'static str,
    /// Who answers for it.
    pub owner: Option<String>,
    /// What kind of data its tokens open.
    pub data_class: Option<String>,
    /// Where it is written what to do when it fails.
    pub runbook: Option<String>,
    /// What it belongs to.
    pub tags: Vec<Name>,
    /// Who shares a token: `workload` or `host`.
    pub share: &'static str,
    /// Its endpoints, in the order in which they are tried.
    pub endpoints: Vec<EndpointStatus>,
    /// When it last gave a token (RFC 3339), since the agent started.
    pub last_success: Option<String>,
    /// How many requests in a row have failed.
    pub failures: u32,
    /// What failed last, if nothing has succeeded since: for operators.
    pub last_failure: Option<String>,
    /// How long until it is asked again, in seconds, rounded up; 0: it may be asked now.
    pub asked_again_in: u64,
    /// How many tokens of it are held and alive.
    pub tokens: usize,
    /// When the first of them ends (RFC 3339).
    pub soonest_expiry: Option<String>,
    /// If it died now: how many seconds the tokens in use would serve, the first of them to end.
    pub outage_budget: Option<u64>,
    /// How many requests it may get.
    pub budget: Option<BudgetStatus>,
}

/// An endpoint of a provider.
#[derive(Clone, Debug, Serialize)]
pub struct EndpointStatus {
    /// Where it is.
    pub place: String,
    /// What its breaker does: `passing`, `tripped`, `probing`.
    pub breaker: &'static str,
}

/// What is left of a provider's `budget`.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct BudgetStatus {
    /// How many requests it may get at once.
    pub left: u32,
    /// How many there are in the whole budget.
    pub of: u32,
    /// In how many seconds.
    pub every: u64,
}

/// Every provider of `rules`, by name.
pub(super) fn of(broker: &Broker, rules: &Rules) -> Vec<ProviderStatus> {
    let nothing = About::default();
    let about = |name| rules.about.get(name).unwrap_or(&nothing);
    rules.providers.values().map(|one| ProviderStatus::of(one, about(&one.name), broker.ready())).collect()
}

impl ProviderStatus {
    fn of(provider: &Provider, about: &About, agent: Result<(), Why>) -> Self {
        let health = provider.health();
        let About { owner, runbook, data_class, tags } = about.clone();
        let budget = health.budget_left.zip(provider.settings.budget);
        let endpoint = |(place, state): &(String, crate::retry::State)| EndpointStatus {
            place: place.clone(),
            breaker: state.as_str(),
        };
        Self {
            name: provider.name.clone(),
            status: Readiness::of(provider, provider.tokens() > 0, agent).status,
            owner,
            data_class,
            runbook: runbook.map(Into::into),
            tags,
            share: provider.settings.share.as_str(),
            endpoints: health.endpoints.iter().map(endpoint).collect(),
            last_success: health.last_success.map(|at| at.wall.rfc3339().as_str().to_owned()),
            failures: health.failures,
            last_failure: health.last_failure.as_ref().map(ToString::to_string),
            asked_again_in: rounded_up(health.rests),
            tokens: provider.tokens(),
            soonest_expiry: provider.expires_first().map(|at| at.rfc3339().as_str().to_owned()),
            outage_budget: provider.outage_budget().map(|left| left.as_secs()),
            budget: budget.map(|(left, rate)| BudgetStatus { left, of: rate.count, every: rate.every.as_secs() }),
        }
    }
}

/// Whether tokens of one provider can be had.
#[derive(Clone, Debug, Serialize)]
pub struct Readiness {
    /// `ready`, `stale` (tokens that are held are served, others cannot be had) or `unready`.
    pub status: &'static str,
    /// The provider.
    pub provider: Name,
    /// Why it is not `ready`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether it is not `unready`.
    #[serde(skip)]
    pub ready: bool,
}

impl Readiness {
    /// `serves`: whether there is a token for who asks. What the others hold is not its to know.
    pub(super) fn of(provider: &Provider, serves: bool, agent: Result<(), Why>) -> Self {
        let (health, name) = (provider.health(), provider.name.clone());
        let (status, reason) = match (agent, health.rests.is_zero(), serves) {
            (Err(why), _, _) => ("unready", Some(why.to_string())),
            (Ok(()), true, _) => ("ready", None),
            (Ok(()), false, false) => ("unready", Some(resting(&health))),
            (Ok(()), false, true) => ("stale", Some(resting(&health))),
        };
        Self { status, provider: name, reason, ready: status != "unready" }
    }
}

/// In words for an application: what the provider said is the operator's to read.
fn resting(health: &Health) -> String {
    format!("the provider fails or asked for rest: it is asked again in {} s", rounded_up(health.rests))
}

pub(super) fn rounded_up(left: std::time::Duration) -> u64 {
    left.as_millis().div_ceil(1_000).try_into().unwrap_or(u64::MAX)
}
