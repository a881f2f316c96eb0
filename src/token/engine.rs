//! The engine: a permit in, a lease out; one flight for each key; refresh ahead of expiry.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Notify;

use super::cache::{Answer, Cache, Entry, Good, Key, Landed, Landing, Takeoff};
use super::room::{MOST_BYTES, Room};
use super::turns::{Turn, Turns};
use super::upstream::{Health, Pass, Upstream};
use super::{Catalogue, Counts, Held, Unavailable, Unobtained};
use crate::access::{Access, Action, Permit, Resource, Workload};
use crate::account::{Freshness, Lease, Terms};
use crate::audit::{Actor, Effect, Intent, Journal, NotDurable, Outcome, OutcomeOf, Record};
use crate::crypto::{FingerprintKey, Random};
use crate::name::Name;
use crate::oauth::{Ask, Failure, Grant, TokenEndpoint};
use crate::retry::{Backoff, Quotas, Rate};
use crate::secret::Secret;
use crate::telemetry::trace::{Kind, Tracer};
use crate::time::{Clock, Moment, Wall};

/// The longest time between two looks at what is due, so that refresh resumes after suspend.
const TICK: Duration = Duration::from_secs(30);
/// How long a key is left alone for which the provider failed: at most a tick, so that recovery is found out within one.
const BACKOFF: Backoff = Backoff { first: Duration::from_secs(1), most: TICK };
/// How many tokens are ended at once.
const MOST_ENDINGS: usize = 8;

/// What every provider's tokens need of the world.
pub struct Engine {
    /// Where intents and outcomes are recorded.
    pub journal: Journal,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where jitter comes from.
    pub random: Arc<dyn Random>,
    /// How tokens are named in records.
    pub fingerprints: FingerprintKey,
    /// Where flights are traced.
    pub tracer: Tracer,
    /// Wakes the refresh loop when a token has landed.
    landed: Notify,
    /// The memory for the tokens of all providers.
    room: Room,
    /// What each workload has had of its requests that reach providers.
    mints: Mutex<Quotas>,
}

/// How a provider's tokens are kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// What may be asked of it.
    pub catalogue: Catalogue,
    /// The fraction of a lifetime after which a token in use is refreshed: above 0, below 1.
    pub refresh_at: f64,
    /// Who shares a token.
    pub share: Share,
    /// How many requests may go to the provider.
    pub budget: Option<Rate>,
    /// How many requests of one workload may reach providers.
    pub mints_per_workload: Option<Rate>,
    /// The time for one request: a further attempt begins within it, or not at all.
    pub timeout: Duration,
    /// Whether what is held is ended at the provider when the agent stops.
    pub revoke_at_shutdown: bool,
}

/// What became of a provider's tokens that were to be ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// How many are no longer served, and may have been alive at the provider.
    pub tokens: usize,
    /// How many of them the provider has ended.
    pub ended: usize,
    /// Why it did not end another: the last failure.
    pub failure: Option<Failure>,
}

/// Who shares a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// Each workload has its own, so that it can be attributed, revoked and rejected for one service.
    Workload,
    /// All workloads of the host share one: for servers that meter tokens.
    Host,
}

impl Share {
    /// The word in the configuration and in what operators see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Workload => "workload",
            Self::Host => "host",
        }
    }
}

/// A provider and the tokens that are held of it.
pub struct Provider {
    /// Its name.
    pub name: Name,
    /// What policy calls it.
    pub resource: Resource,
    /// How its tokens are kept.
    pub settings: Settings,
    /// What is counted of it.
    pub counts: Arc<Counts>,
    upstream: Upstream,
    engine: Arc<Engine>,
    cache: Arc<Cache>,
    turns: Turns,
}

/// What became of a token that an API refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// Another is being fetched.
    Refreshed,
    /// It is known, and another is on the way, or was fetched in vain just before.
    Known,
    /// It is not held, or no longer: whoever asks gets another.
    Unknown,
}

impl Rejection {
    /// The word in replies and records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refreshed => "refreshed",
            Self::Known => "known",
            Self::Unknown => "unknown",
        }
    }
}

impl Engine {
    /// An engine that records in `journal`.
    #[must_use]
    pub fn new(journal: Journal, clock: Arc<dyn Clock>, random: Arc<dyn Random>, fingerprints: FingerprintKey) -> Self {
        let (landed, mints, tracer) = Default::default();
        Self { journal, clock, random, fingerprints, tracer, landed, room: Room::new(MOST_BYTES), mints }
    }

    fn mints(&self) -> MutexGuard<'_, Quotas> {
        self.mints.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dice(&self) -> Result<u16, Unavailable> {
        let mut dice = [0; 2];
        self.random.fill(&mut dice).map_err(|_| Unavailable::Internal("the random generator failed"))?;
        Ok(u16::from_ne_bytes(dice))
    }
}

impl Provider {
    /// A provider of which no token is held yet.
    #[must_use]
    pub fn new(name: Name, settings: Settings, endpoints: Vec<Arc<dyn TokenEndpoint>>, engine: Arc<Engine>) -> Self {
        let resource = Resource::Provider(name.clone());
        let (cache, turns, counts) = <(_, _, Arc<Counts>)>::default();
        engine.room.share(&cache);
        let limits = (settings.timeout, settings.budget);
        let (clock, random) = (Arc::clone(&engine.clock), Arc::clone(&engine.random));
        let upstream = Upstream::new(endpoints, limits, clock, random, Arc::clone(&counts));
        Self { name, resource, settings, counts, upstream, engine, cache, turns }
    }

    /// The token that `permit` allows, alive for `min_ttl` at least: held, or fetched, in one flight for all who ask for
    /// the same.
    ///
    /// A token that is alive is served at once, whatever the provider does; a dead one never.
    ///
    /// # Errors
    /// [`Unobtained`], when no such token is alive and the provider gives none.
    pub async fn obtain(self: &Arc<Self>, permit: Permit, min_ttl: Duration) -> Result<Lease, Unobtained> {
        match self.alive(permit.access(), min_ttl).await {
            Ok(Good { held, freshness, rejected }) => {
                let terms = Terms::Token(held.terms(freshness, rejected));
                Ok(Lease::grant(permit, Arc::clone(&held.value), terms))
            }
            Err(why) => Err(Unobtained { permit: Box::new(permit), why }),
        }
    }

    async fn alive(self: &Arc<Self>, access: &Access, min_ttl: Duration) -> Result<Good, Unavailable> {
        if access.action != Action::Token || access.resource != self.resource {
            return Err(Unavailable::Internal("the permit is for something else"));
        }
        let now = self.engine.clock.now();
        let key = Key::of(access, self.settings.share == Share::Host);
        let entry = self.cache.entry(key, &access.who.name, now)?;
        let answer = entry.ask(min_ttl, now, || self.charge(&access.who));
        self.counts.cache.count(answer.as_str());
        let landed = match answer {
            Answer::Serve(good) => return Ok(good),
            Answer::ServeAndRefresh(good, takeoff) => {
                self.launch(entry, takeoff, None);
                return Ok(good);
            }
            Answer::Fetch(takeoff, landed) => {
                self.launch(Arc::clone(&entry), takeoff, Some(Arc::clone(&access.who)));
                landed
            }
            Answer::Join(landed) => landed,
            Answer::Refuse(why) => return Err(why),
        };
        self.landed(&entry, landing_of(landed).await, min_ttl)
    }

    /// What a flight that was waited for comes to.
    fn landed(&self, entry: &Entry, landing: Landing, min_ttl: Duration) -> Result<Good, Unavailable> {
        let now = self.engine.clock.now();
        let held = match landing {
            Ok(held) => held,
            Err(why) => return entry.after_all(min_ttl, now).ok_or(why),
        };
        match held.expires {
            Some(expires) if expires.left(now) < min_ttl => Err(Unavailable::TooShort(expires.wall - held.sent.wall)),
            // A token without a stated lifetime is served to those who waited for it, unless they demand one.
            None if !min_ttl.is_zero() => Err(Unavailable::TooShort(Duration::ZERO)),
            Some(_) | None => {
                Ok(Good { rejected: entry.has_rejected(held.fingerprint), freshness: Freshness::Fresh, held })
            }
        }
    }

    /// The API refused `token`, which `who` was given: what is done about it. Some providers give the same token for
    /// different scopes: then each is replaced.
    pub fn reject(self: &Arc<Self>, who: &Arc<Workload>, token: &Secret) -> Rejection {
        let (now, fingerprint) = (self.engine.clock.now(), self.engine.fingerprints.of(token.expose()));
        let mut rejection = Rejection::Unknown;
        for entry in self.cache.of(self.whose(who)) {
            match entry.reject(fingerprint, now, || self.charge(who)) {
                None => {}
                Some(None) if rejection == Rejection::Refreshed => {}
                Some(None) => rejection = Rejection::Known,
                Some(Some(takeoff)) => {
                    self.launch(entry, takeoff, Some(Arc::clone(who)));
                    rejection = Rejection::Refreshed;
                }
            }
        }
        rejection
    }

    /// Under whose name tokens of `who` are held: nobody's, where all share them.
    fn whose<'a>(&self, who: &'a Workload) -> Option<&'a Name> {
        (self.settings.share == Share::Workload).then_some(&who.name)
    }

    /// Takes one of the requests that `who` may make.
    fn charge(&self, who: &Workload) -> Result<(), Unavailable> {
        let Some(rate) = self.settings.mints_per_workload else { return Ok(()) };
        self.engine.mints().take(&who.name, rate, self.engine.clock.now().boot).map_err(Unavailable::Mints)
    }

    /// Forgets what failed, so that the next who asks is not told of a failure that may have been mended.
    pub fn forgive(&self) {
        self.upstream.forgive();
        self.cache.forgive();
    }

    /// How the provider does.
    #[must_use]
    pub fn health(&self) -> Health {
        self.upstream.health(self.engine.clock.now())
    }

    /// If the provider died now: how long the tokens in use would still serve, the first of them to end; none where
    /// none is held.
    #[must_use]
    pub fn outage_budget(&self) -> Option<Duration> {
        self.cache.ends_first(self.engine.clock.now())
    }

    /// When the first of the tokens that are held ends, in use or not.
    #[must_use]
    pub fn expires_first(&self) -> Option<Wall> {
        self.cache.expires_first(self.engine.clock.now())
    }

    /// Takes every token out of service, and ends each at the provider; none is begun any more after `within`. What could
    /// not be ended is remembered while it lives, and tried again the next time.
    ///
    /// # Errors
    /// [`NotDurable`], when an intent could not be recorded: that token and those behind it were not ended.
    pub async fn revoke(&self, by: Actor<'_>, within: Duration) -> Result<Revoked, NotDurable> {
        let clock = &self.engine.clock;
        let (until, retired) = (clock.now().deadline(within), self.cache.retire(clock.now()));
        let mut revoked = Revoked { tokens: retired.len(), ended: 0, failure: None };
        for some in retired.chunks(MOST_ENDINGS) {
            if revoked.failure == Some(Failure::Unsupported) || until.passed(clock.now()) {
                break;
            }
            let mut endings = Vec::with_capacity(some.len());
            for (entry, held) in some {
                endings.push(self.end(by, entry, held));
            }
            for ending in join_all(endings).await {
                match ending? {
                    Ok(()) => revoked.ended += 1,
                    Err(failure) => revoked.failure = Some(failure),
                }
            }
        }
        Ok(revoked)
    }

    /// Ends one token: intent, request, outcome.
    async fn end(&self, by: Actor<'_>, entry: &Entry, held: &Held) -> Result<Result<(), Failure>, NotDurable> {
        let (engine, key) = (&*self.engine, &entry.key);
        let effect = Effect::Revoke { provider: &self.name, scopes: &key.scopes, audience: &key.audience };
        let intent = engine.journal.append(&Record::Intent(Intent { actor: by, effect })).await?.decision().index;
        let asked = engine.clock.now();
        let ended = self.upstream.revoke(&held.value).await;
        // A crash here leaves an intent without outcome: the token is served nowhere, and expires by itself.
        let took = engine.clock.now().since(asked);
        let result = match &ended {
            Ok(()) => OutcomeOf::Revoked { fingerprint: held.fingerprint },
            Err(failure) => {
                let (code, detail) = (failure.code(), failure.detail());
                OutcomeOf::NotRevoked { fingerprint: held.fingerprint, code, detail }
            }
        };
        drop(engine.journal.enqueue(&Record::Outcome(Outcome { intent, result, took })));
        if ended.is_ok() {
            entry.ended(held);
        }
        Ok(ended)
    }

    /// How many tokens are held that are alive.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.cache.alive(self.engine.clock.now())
    }

    /// Whether a token is held that is alive, and that `who` may be given.
    #[must_use]
    pub fn has_token_of(&self, who: &Workload) -> bool {
        self.cache.of(self.whose(who)).iter().any(|entry| entry.is_alive(self.engine.clock.now()))
    }

    /// Launches what is due, forgets what is dead; how long until the next look, if anything is held.
    fn look_ahead(self: &Arc<Self>) -> Option<Duration> {
        let now = self.engine.clock.now();
        let mut soonest = None;
        for entry in self.cache.sweep(now) {
            let (takeoff, wait) = entry.due(now);
            soonest = [soonest, wait].into_iter().flatten().min();
            if let Some(takeoff) = takeoff {
                self.launch(entry, takeoff, None);
            }
        }
        soonest
    }

    /// Starts a flight of its own task: a caller that goes away does not take it along.
    fn launch(self: &Arc<Self>, entry: Arc<Entry>, takeoff: Takeoff, for_whom: Option<Arc<Workload>>) {
        let provider = Arc::clone(self);
        tokio::spawn(async move {
            let landing = provider.fly(&entry.key, for_whom.as_deref()).await;
            let retry_after = landing.as_ref().err().map_or(Duration::ZERO, Unavailable::asked_to_wait);
            let again = |in_a_row| provider.again(in_a_row, retry_after);
            entry.land(takeoff, landing, provider.engine.clock.now(), again);
            provider.engine.room.clear();
            provider.engine.landed.notify_one();
        });
    }

    /// One flight: intent, request, outcome. It is charged to `for_whom` already, who gets that back if nothing is asked.
    async fn fly(&self, key: &Key, for_whom: Option<&Workload>) -> Landing {
        let engine = &*self.engine;
        let cleared = self.clear(key, for_whom).await;
        let (_turn, pass, dice, intent) = cleared.inspect_err(|_| {
            let charged = for_whom.filter(|_| self.settings.mints_per_workload.is_some());
            charged.into_iter().for_each(|who| engine.mints().give_back(&who.name));
        })?;

        let asked = engine.clock.now();
        let ask = Ask { scopes: key.scopes.clone(), audience: key.audience.clone() };
        let answer = self.upstream.fetch(&ask, pass, for_whom.is_some()).await;
        // A crash here leaves an intent without outcome: the token is lost, serves nobody, and expires by itself.
        let took = engine.clock.now().since(asked);
        self.traced(asked, intent, for_whom, &answer);
        let landing = answer.map(|grant| {
            let fingerprint = engine.fingerprints.of(grant.token.expose());
            Held::new(grant, self.settings.refresh_at, dice, fingerprint, intent).within(&engine.room)
        });
        // Not awaited: the release that follows stands behind it in the same batch, so one sync covers both.
        drop(engine.journal.enqueue(&Record::Outcome(Outcome { intent, result: outcome_of(&landing), took })));
        landing.map_err(|failure| Unavailable::Provider { failure, retry_after: Duration::ZERO })
    }

    /// What a flight needs before anything is asked: a turn, a pass, dice, and the index of its intent.
    async fn clear(
        &self,
        key: &Key,
        for_whom: Option<&Workload>,
    ) -> Result<(Turn<'_>, Pass<'_>, u16, u64), Unavailable> {
        let turn = self.turns.take(key.workload.as_ref().or(for_whom.map(|who| &who.name))).await?;
        let (dice, pass) = (self.engine.dice()?, self.upstream.admit()?);
        let effect = Effect::Mint { provider: &self.name, scopes: &key.scopes, audience: &key.audience };
        let actor = for_whom.map_or(Actor::Bursar, Actor::Workload);
        let intent = Record::Intent(Intent { actor, effect });
        let intent = self.engine.journal.append(&intent).await?.decision().index;
        Ok((turn, pass, dice, intent))
    }

    /// Traces a flight of its own: its `bursar.intent` is that of the requests that were answered from it.
    fn traced(&self, asked: Moment, intent: u64, for_whom: Option<&Workload>, answer: &Result<Grant, Failure>) {
        let engine = &*self.engine;
        let Some(mut trail) = engine.tracer.begin("flight", Kind::Client, None, asked) else { return };
        trail.note("bursar.provider", self.name.as_str());
        trail.note("bursar.actor", for_whom.map_or("bursar", |who| who.name.as_str()));
        trail.note("bursar.intent", intent.to_string());
        if let Err(failure) = answer {
            trail.note("error.type", failure.code());
        }
        engine.tracer.end(Some(trail), engine.clock.now());
    }

    /// How long the provider is left alone after so many failures in a row: no longer than all of its endpoints rest,
    /// whatever one of them asked for.
    fn again(&self, in_a_row: u32, asked_to_wait: Duration) -> Duration {
        let dice = self.engine.dice().unwrap_or(u16::MAX);
        BACKOFF.after(in_a_row, dice).max(asked_to_wait.min(self.upstream.rests()))
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider").field("name", &self.name).field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Unavailable {
    fn asked_to_wait(&self) -> Duration {
        match self {
            Self::Provider { failure: Failure::Unavailable { retry_after, .. }, .. } => retry_after.unwrap_or_default(),
            Self::Provider { .. }
            | Self::Resting { .. }
            | Self::Budget(_)
            | Self::Mints(_)
            | Self::TooShort(_)
            | Self::Audit(_)
            | Self::Full(_)
            | Self::Busy(_)
            | Self::Internal(_) => Duration::ZERO,
        }
    }
}

/// Keeps tokens in use ahead of their expiry, for as long as it is polled.
///
/// `providers` gives those of the moment: a reload may change them between two looks.
pub async fn keep_ahead(engine: Arc<Engine>, providers: impl Fn() -> Vec<Arc<Provider>> + Send) {
    loop {
        let soonest = providers().iter().filter_map(Provider::look_ahead).min().unwrap_or(TICK);
        tokio::select! {
            () = tokio::time::sleep(soonest.min(TICK)) => {}
            () = engine.landed.notified() => {}
        }
    }
}

async fn landing_of(mut landed: Landed) -> Landing {
    let landing = landed.wait_for(Option::is_some).await.ok().and_then(|landing| landing.clone());
    landing.unwrap_or(Err(Unavailable::Internal("the task that asked the provider ended early")))
}

fn outcome_of(landing: &Result<Held, Failure>) -> OutcomeOf<'_> {
    match landing {
        Ok(held) => OutcomeOf::Minted {
            fingerprint: held.fingerprint,
            scopes: &held.scopes,
            lifetime: held.expires.map(|expires| expires.wall - held.sent.wall),
        },
        Err(failure) => OutcomeOf::Failed { code: failure.code(), detail: failure.detail() },
    }
}
