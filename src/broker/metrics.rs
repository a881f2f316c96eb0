//! What is counted of requests, and what a scraper reads of the agent. No label holds anything that a workload wrote: a
//! provider that does not exist is none.

use std::fmt::Display;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use super::{Broker, Refused, Released, Rules, Why};
use crate::access::{Access, Resource, SecretId};
use crate::account::{SecretTerms, Terms, TokenTerms};
use crate::kept::{Desk, Look};
use crate::name::Name;
use crate::retry::State;
use crate::secret;
use crate::telemetry::metrics::{Family, Histogram, Metric, Page, Tally, seconds};
use crate::telemetry::trace::Trail;
use crate::time::Wall;
use crate::token::{Health, Provider};

const BUILD: Metric = Metric::gauge("bursar_build_info", "Always 1; the label `version` is bursar's.");
const READY: Metric = Metric::gauge("bursar_ready", "1 while requests are served, as `/readyz` says.");
const REQUESTS: Metric = Metric::histogram(
    "bursar_request_seconds",
    "How long requests for a token took until the answer could leave, its record durable, by outcome: granted, refused.",
);
const SECRET_REQUESTS: Metric = Metric::histogram(
    "bursar_secret_request_seconds",
    "How long requests for a secret took until the answer could leave, its record durable, by outcome: granted, refused; \
     without the time that a reader let it wait for another version.",
);
const WAITING: Metric =
    Metric::gauge("bursar_secret_waits", "How many readers wait for another version of a secret (`wait=`).");
const LISTENING: Metric = Metric::gauge("bursar_event_listeners", "How many listen to `GET /events`.");
const REFUSALS: Metric = Metric::counter("bursar_refusals_total", "Refused requests of both sockets, by error code.");
const VERDICTS: Metric = Metric::counter("bursar_verdicts_total", "What policy said, by verdict: permit, deny.");
const JUDGED: Metric = Metric::counter(
    "bursar_judged_total",
    "Where verdicts came from since the policies were loaded: memory (asked in the same minute), rules.",
);
const POLICY: Metric =
    Metric::gauge("bursar_policy_info", "Always 1; the label `digest` is that of the policy snapshot.");
const RULES: Metric = Metric::gauge("bursar_policy_rules", "How many rules the policy snapshot has.");
const RELOADS: Metric = Metric::counter("bursar_reloads_total", "Reloads, by result: done, refused.");
const RELOADED: Metric = Metric::gauge("bursar_reload_successful", "1 unless the last reload was refused.");
const RELOADED_AT: Metric = Metric::gauge(
    "bursar_reload_success_timestamp_seconds",
    "When configuration and policies last came into force by a reload; 0: they are those of the start.",
);
const SERVED: Metric = Metric::counter(
    "bursar_tokens_served_total",
    "Tokens handed over, by provider and freshness: fresh, ahead, stale.",
);
const CACHE: Metric = Metric::counter(
    "bursar_cache_results_total",
    "What askers found, by provider: hit, ahead (being refreshed), stale (the provider fails), fetch, join (another's fetch), refuse.",
);
const HELD: Metric = Metric::gauge("bursar_tokens_held", "How many tokens are held and alive, by provider.");
const UPSTREAM: Metric = Metric::counter(
    "bursar_upstream_requests_total",
    "Requests to providers by outcome: granted, refused, nonsense, unavailable, credential (ours could not be read).",
);
const UPSTREAM_TOOK: Metric = Metric::histogram("bursar_upstream_seconds", "How long requests to providers took.");
const HARD_STOP: Metric = Metric::gauge(
    "bursar_provider_hard_stop_seconds",
    "If the provider died now: how long its tokens in use would serve, the first of them to end. Absent where none is in use.",
);
const SUCCESS: Metric = Metric::gauge(
    "bursar_provider_success_timestamp_seconds",
    "When the provider last gave a token. Absent where it has not since the agent started.",
);
const FAILURES: Metric =
    Metric::gauge("bursar_provider_failures", "How many requests to the provider have failed in a row.");
const BREAKER: Metric = Metric::gauge(
    "bursar_provider_breaker",
    "1 for what an endpoint's breaker does: passing, tripped, probing; else 0. `endpoint` is its place in the entry, from 0.",
);
const BUDGET: Metric = Metric::gauge(
    "bursar_provider_budget_left",
    "How many requests the provider may get at once. Absent where it has no `budget`.",
);
const READS: Metric = Metric::counter(
    "bursar_store_reads_total",
    "Reads of secrets that workloads may have, by store and result: read, missing (the store has none), failed.",
);
const READ_TOOK: Metric = Metric::histogram("bursar_store_read_seconds", "How long these reads took, by store.");
const READING: Metric =
    Metric::gauge("bursar_store_reads_under_way", "How many of these reads are under way, by store; at most 32 are.");
const SECRETS_SERVED: Metric = Metric::counter(
    "bursar_secrets_served_total",
    "Secrets that were found for requests, by store and freshness: fresh, ahead, stale (the store cannot be read).",
);
const SECRETS_FAILING: Metric = Metric::gauge(
    "bursar_store_secrets_failing",
    "How many secrets of the store could not be read when that was last tried.",
);
const SECRET_AGE: Metric = Metric::gauge(
    "bursar_secret_age_seconds",
    "How long ago the store was asked for the secret that it was not asked for the longest, of those that are held. Absent where none is.",
);
const RECORDS: Metric = Metric::counter("bursar_journal_records_total", "How many records the audit log holds.");
const SEGMENT: Metric = Metric::gauge("bursar_journal_segment_bytes", "The length of the segment that is written.");
const RESERVE: Metric =
    Metric::gauge("bursar_journal_reserve_bytes", "How much disk is set aside for further records.");
const FAILING: Metric =
    Metric::gauge("bursar_journal_failing", "1 while the disk of the audit log fails: nothing is handed out.");
const HANGING: Metric = Metric::gauge(
    "bursar_journal_hanging",
    "1 while the disk of the audit log does not answer: nothing is handed out.",
);
const COMMITS: Metric =
    Metric::histogram("bursar_journal_commit_seconds", "How long a batch of records took to be written and synced.");
const UNTRACED: Metric = Metric::counter(
    "bursar_traces_dropped_total",
    "Traces that were not sent: too many waited, or the collector did not take them.",
);
const SECRETS: Metric = Metric::gauge("bursar_secrets_held", "How many secrets and tokens lie in memory.");
const MAPPED: Metric = Metric::gauge("bursar_secrets_mapped_bytes", "How much memory secrets and tokens lie in.");
const UNLOCKED: Metric = Metric::gauge(
    "bursar_secrets_unlocked_bytes",
    "How much of it may be swapped out, since `RLIMIT_MEMLOCK` is reached.",
);

/// What the broker counts.
#[derive(Debug)]
pub(super) struct Counts {
    granted: Histogram,
    refused: Histogram,
    secret_granted: Histogram,
    secret_refused: Histogram,
    refusals: Tally<{ Why::CODES.len() }>,
    pub(super) verdicts: Tally<2>,
    reloads: Tally<2>,
    reload_refused: AtomicBool,
    /// In microseconds; 0: never.
    reloaded_at: AtomicI64,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            granted: Histogram::default(),
            refused: Histogram::default(),
            secret_granted: Histogram::default(),
            secret_refused: Histogram::default(),
            refusals: Tally::of(Why::CODES),
            verdicts: Tally::of(["permit", "deny"]),
            reloads: Tally::of(["done", "refused"]),
            reload_refused: AtomicBool::new(false),
            reloaded_at: AtomicI64::new(0),
        }
    }
}

impl Counts {
    /// A request for a token was answered.
    pub(super) fn answered(&self, answer: &Result<Released, Refused>, took: Duration) {
        if answer.is_ok() { &self.granted } else { &self.refused }.observe(took);
    }

    /// A request for a secret was answered.
    pub(super) fn answered_secret(&self, answer: &Result<Released, Refused>, took: Duration) {
        if answer.is_ok() { &self.secret_granted } else { &self.secret_refused }.observe(took);
    }

    /// A request was refused.
    pub(super) fn refused(&self, refused: &Refused) {
        self.refusals.count(refused.why.code());
    }

    /// A reload came into force, or did not.
    pub(super) fn reloaded(&self, done: bool, now: Wall) {
        self.reloads.count(if done { "done" } else { "refused" });
        self.reload_refused.store(!done, Ordering::Relaxed);
        if done {
            self.reloaded_at.store(now.micros(), Ordering::Relaxed);
        }
    }

    fn write(&self, page: &mut Page) {
        let mut requests = page.family(&REQUESTS);
        requests.histogram(&[("outcome", "granted")], &self.granted);
        requests.histogram(&[("outcome", "refused")], &self.refused);
        let mut reads = page.family(&SECRET_REQUESTS);
        reads.histogram(&[("outcome", "granted")], &self.secret_granted);
        reads.histogram(&[("outcome", "refused")], &self.secret_refused);
        page.family(&REFUSALS).tally(&[], "code", &self.refusals);
        page.family(&VERDICTS).tally(&[], "verdict", &self.verdicts);
        page.family(&RELOADS).tally(&[], "result", &self.reloads);
        page.single(&RELOADED, u8::from(!self.reload_refused.load(Ordering::Relaxed)));
        page.single(&RELOADED_AT, timestamp(Wall::from_micros(self.reloaded_at.load(Ordering::Relaxed))));
    }
}

impl Broker {
    /// Writes how the agent is onto `page`, for a scraper. It tells of no workload.
    pub fn metrics(&self, page: &mut Page) {
        let rules = self.rules.load_full();
        page.family(&BUILD).sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
        page.single(&READY, u8::from(self.ready().is_ok()));
        self.counts.write(page);
        page.family(&POLICY).sample(&[("digest", &rules.policy.digest().to_string())], 1);
        page.single(&RULES, rules.policy.rules().len());
        let judged = &rules.policy.judged;
        let mut family = page.family(&JUDGED);
        family.sample(&[("from", "memory")], judged.remembered.get());
        family.sample(&[("from", "rules")], judged.decided.get());
        page.single(&WAITING, self.waiting.taken());
        page.single(&LISTENING, self.listening.taken());
        providers(&rules, page);
        self.deliveries.write(page);
        self.store_metrics(&rules, page);
        self.journal_metrics(page);
        page.single(&UNTRACED, self.tracer.dropped().map_or(0, |dropped| dropped.get()));
        let stats = secret::stats();
        page.single(&SECRETS, stats.secrets);
        page.single(&MAPPED, stats.mapped_bytes);
        page.single(&UNLOCKED, stats.mapped_bytes.saturating_sub(stats.locked_bytes));
    }

    /// By store, and by no name of a secret: every local user may read the page.
    fn store_metrics(&self, rules: &Rules, page: &mut Page) {
        let names: Vec<_> = rules.shelf.stores.keys().collect();
        let places = rules.shelf.entries.keys().filter_map(|name| rules.shelf.find(&SecretId::Entry(name.clone())));
        let looks: Vec<_> = places.filter_map(|one| Some((self.kept.look(&one)?, one.store_name))).collect();
        let mut each = |metric, write: &dyn Fn(&mut Family<'_>, &Labels<'_>, &Name, &Desk)| {
            let mut family = page.family(metric);
            names.iter().for_each(|name| write(&mut family, &[("store", name.as_str())], name, &self.kept.desk(name)));
        };
        each(&READS, &|family, labels, _, desk| family.tally(labels, "result", &desk.reads));
        each(&READ_TOOK, &|family, labels, _, desk| family.histogram(labels, &desk.took));
        each(&READING, &|family, labels, _, desk| family.sample(labels, desk.under_way()));
        each(&SECRETS_SERVED, &|family, labels, _, desk| family.tally(labels, "freshness", &desk.served));
        each(&SECRETS_FAILING, &|family, labels, name, _| {
            family.sample(labels, of(&looks, name).filter(|look| look.failed.is_some()).count());
        });
        each(&SECRET_AGE, &|family, labels, name, _| {
            let ages = of(&looks, name).filter_map(|look| look.known.as_ref().map(|(.., age)| *age));
            some(family, labels, ages.max().map(seconds));
        });
    }

    fn journal_metrics(&self, page: &mut Page) {
        let status = self.journal.status();
        page.single(&RECORDS, status.size);
        page.single(&SEGMENT, status.segment_bytes);
        page.single(&RESERVE, status.reserve_left);
        page.single(&FAILING, u8::from(status.failing.is_some()));
        page.single(&HANGING, u8::from(status.hangs(self.clock.now().boot)));
        page.family(&COMMITS).histogram(&[], self.journal.commits());
    }
}

/// Notes what was asked, once it is known to be of the configuration.
pub(super) fn note(trail: &mut Option<Trail>, access: &Access) {
    let Some(trail) = trail else { return };
    trail.note("bursar.workload", access.who.name.as_str());
    match &access.resource {
        Resource::Provider(provider) => trail.note("bursar.provider", provider.as_str()),
        Resource::Secret(id) => trail.note("bursar.secret", id.to_string()),
        Resource::Agent => {}
    }
}

/// Notes how it ended.
pub(super) fn noted(trail: Option<Trail>, answer: &Result<Released, Refused>) -> Option<Trail> {
    let mut trail = trail?;
    let decision = match answer {
        Ok(released) => {
            trail.note("bursar.freshness", released.terms().freshness().as_str());
            match released.terms() {
                Terms::Token(TokenTerms { intent, .. }) => trail.note("bursar.intent", intent.to_string()),
                Terms::Secret(SecretTerms { version, .. }) => trail.note("bursar.version", version.to_string()),
            }
            Some(released.decision())
        }
        Err(refused) => {
            trail.note("error.type", refused.why.code());
            refused.decision
        }
    };
    decision.into_iter().for_each(|id| trail.note("bursar.decision", id.to_string()));
    Some(trail)
}

/// One family after the other, each with all providers, as the format wants it.
fn providers(rules: &Rules, page: &mut Page) {
    let all: Vec<_> = rules.providers.values().map(|provider| (&**provider, provider.health())).collect();
    let mut each = |metric, write: &dyn Fn(&mut Family<'_>, &Labels<'_>, &Provider, &Health)| {
        let mut family = page.family(metric);
        all.iter().for_each(|(one, health)| write(&mut family, &[("provider", one.name.as_str())], one, health));
    };
    each(&SERVED, &|family, labels, one, _| family.tally(labels, "freshness", &one.counts.served));
    each(&CACHE, &|family, labels, one, _| family.tally(labels, "result", &one.counts.cache));
    each(&HELD, &|family, labels, one, _| family.sample(labels, one.tokens()));
    each(&UPSTREAM, &|family, labels, one, _| family.tally(labels, "outcome", &one.counts.requests));
    each(&UPSTREAM_TOOK, &|family, labels, one, _| family.histogram(labels, &one.counts.took));
    each(&HARD_STOP, &|family, labels, one, _| some(family, labels, one.outage_budget().map(seconds)));
    each(&SUCCESS, &|family, labels, _, health| some(family, labels, health.last_success.map(|at| timestamp(at.wall))));
    each(&FAILURES, &|family, labels, _, health| family.sample(labels, health.failures));
    each(&BREAKER, &|family, [provider], _, health| breakers(family, *provider, health));
    each(&BUDGET, &|family, labels, _, health| some(family, labels, health.budget_left));
}

type Labels<'a> = [(&'a str, &'a str); 1];

/// The looks at secrets of one store.
fn of<'a>(looks: &'a [(Look, Name)], store: &'a Name) -> impl Iterator<Item = &'a Look> {
    looks.iter().filter(move |(_, name)| name == store).map(|(look, _)| look)
}

fn some(family: &mut Family<'_>, labels: &Labels<'_>, value: Option<impl Display>) {
    value.into_iter().for_each(|value| family.sample(labels, value));
}

fn breakers(family: &mut Family<'_>, provider: (&str, &str), health: &Health) {
    for ((_, now), endpoint) in health.endpoints.iter().zip(0_usize..) {
        let endpoint = endpoint.to_string();
        for state in [State::Passing, State::Tripped, State::Probing] {
            let labels = [provider, ("endpoint", endpoint.as_str()), ("state", state.as_str())];
            family.sample(&labels, u8::from(*now == state));
        }
    }
}

fn timestamp(at: Wall) -> f64 {
    Duration::from_micros(at.micros().max(0).unsigned_abs()).as_secs_f64()
}
