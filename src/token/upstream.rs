//! Whom a flight asks, and how often: the endpoints of one provider, each behind its breaker, under one budget.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::crypto::Random;
use crate::oauth::{Ask, Failure, Grant, TokenEndpoint};
use crate::retry::{Backoff, Breaker, Budget, Rate, State};
use crate::secret::Secret;
use crate::time::{Clock, Deadline, Moment};

use super::{Counts, Unavailable};

/// How often one flight asks, at most.
const MOST_ATTEMPTS: u32 = 3;
/// How long a flight waits before it asks the same endpoint again.
const BETWEEN_ATTEMPTS: Backoff = Backoff { first: Duration::from_millis(200), most: Duration::from_secs(1) };
/// How long the provider is left alone for all once it has refused bursar itself.
const DENIED: Backoff = Backoff { first: Duration::from_secs(5), most: Duration::from_secs(60) };

/// The way to one provider.
pub(super) struct Upstream {
    routes: Vec<Route>,
    /// The time for one request.
    timeout: Duration,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    counts: Arc<Counts>,
    state: Mutex<Shared>,
}

/// What all flights share.
#[derive(Debug)]
struct Shared {
    breakers: Vec<Breaker>,
    budget: Option<Budget>,
    /// It refused bursar itself, whatever was asked for.
    denied: Option<Denied>,
    last_failure: Option<Failure>,
    last_success: Option<Moment>,
    failures: u32,
}

#[derive(Debug)]
struct Denied {
    failure: Failure,
    until: Deadline,
}

struct Route {
    endpoint: Arc<dyn TokenEndpoint>,
}

/// The right to ask one endpoint once.
#[derive(Debug)]
#[must_use]
pub(super) struct Pass {
    route: usize,
}

/// How a provider does.
#[derive(Clone, Debug)]
pub struct Health {
    /// Its endpoints in the order in which they are tried: where each is, and what its breaker does.
    pub endpoints: Vec<(String, State)>,
    /// When it last gave a token.
    pub last_success: Option<Moment>,
    /// How many requests in a row have failed.
    pub failures: u32,
    /// What failed last, if nothing has succeeded since.
    pub last_failure: Option<Failure>,
    /// How long until it is asked again; zero if it may be asked now.
    pub rests: Duration,
    /// How many requests it may get at once; none where it has no `budget`.
    pub budget_left: Option<u32>,
}

impl Upstream {
    pub(super) fn new(
        endpoints: Vec<Arc<dyn TokenEndpoint>>,
        (timeout, budget): (Duration, Option<Rate>),
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        counts: Arc<Counts>,
    ) -> Self {
        let routes: Vec<_> = endpoints.into_iter().map(|endpoint| Route { endpoint }).collect();
        let state = Shared {
            breakers: vec![Breaker::default(); routes.len()],
            budget: budget.map(Budget::of),
            denied: None,
            last_failure: None,
            last_success: None,
            failures: 0,
        };
        Self { routes, timeout, clock, random, counts, state: Mutex::new(state) }
    }

    /// The right to ask the first endpoint that may be asked. Nothing is to be recorded before there is one.
    ///
    /// # Errors
    /// [`Unavailable::Resting`], [`Unavailable::Budget`].
    pub(super) fn admit(&self) -> Result<Pass, Unavailable> {
        self.pass(None, self.clock.now())
    }

    /// Asks, and asks again where that may help: another endpoint at once, the same one after a rest if somebody waits and
    /// is still there by then.
    pub(super) async fn fetch(&self, ask: &Ask, pass: Pass, is_awaited: bool) -> Result<Grant, Failure> {
        let began = self.clock.now();
        let patience = if is_awaited { self.timeout } else { Duration::ZERO };
        let (mut pass, mut attempt) = (pass, 1);
        loop {
            let asked = self.clock.now();
            let answer = self.route(&pass)?.endpoint.fetch(ask).await;
            let came = self.clock.now();
            let answer = answer.and_then(|grant| not_dead_on_arrival(grant, came));
            self.counts.took.observe(came.since(asked));
            self.counts.requests.count(answer.as_ref().map_or_else(Failure::kind, |_| "granted"));
            self.settle(&pass, &answer);
            let Err(failure) = answer else { return answer };
            let other = self.has_other(&pass);
            if !may_help(&failure, other) || attempt >= MOST_ATTEMPTS {
                return Err(failure);
            }
            let wait = if other { Duration::ZERO } else { BETWEEN_ATTEMPTS.after(attempt, self.dice()) };
            if !other && self.clock.now().since(began) + wait > patience {
                return Err(failure);
            }
            tokio::time::sleep(wait).await;
            match self.pass(Some(pass.route), self.clock.now()) {
                Ok(next) => pass = next,
                Err(_) => return Err(failure),
            }
            attempt += 1;
        }
    }

    /// Ends `token`, at the first endpoint that does.
    pub(super) async fn revoke(&self, token: &Secret) -> Result<(), Failure> {
        let mut ended = Err(Failure::Unsupported);
        for route in &self.routes {
            ended = route.endpoint.revoke(token).await;
            if ended.is_ok() {
                break;
            }
        }
        ended
    }

    /// Lets the provider be asked at once: what it failed for may have been mended.
    pub(super) fn forgive(&self) {
        let mut state = self.lock();
        state.denied = None;
        state.breakers.iter_mut().for_each(Breaker::forgive);
    }

    /// How it does.
    pub(super) fn health(&self, now: Moment) -> Health {
        let state = self.lock();
        let places = self.routes.iter().map(|route| route.endpoint.place());
        Health {
            endpoints: places.zip(state.breakers.iter().map(Breaker::state)).collect(),
            last_success: state.last_success,
            failures: state.failures,
            last_failure: state.last_failure.clone().filter(|_| state.failures > 0),
            rests: state.rests(now),
            budget_left: state.budget.as_ref().map(|budget| budget.left(now.boot)),
        }
    }

    fn route(&self, pass: &Pass) -> Result<&Route, Failure> {
        self.routes.get(pass.route).ok_or_else(|| Failure::Nonsense("no endpoint is configured".into()))
    }

    /// The next right, at another endpoint than the one that `failed`, if another may be asked.
    fn pass(&self, failed: Option<usize>, now: Moment) -> Result<Pass, Unavailable> {
        let mut state = self.lock();
        if let Some(denied) = state.denied.as_ref().filter(|denied| !denied.until.passed(now)) {
            return Err(Unavailable::Resting { failure: denied.failure.clone(), wait: denied.until.left(now) });
        }
        if let Some(wait) = state.budget.as_ref().map(|budget| budget.wait(now.boot)).filter(|wait| !wait.is_zero()) {
            return Err(Unavailable::Budget(wait));
        }
        let others = (0..self.routes.len()).filter(|route| Some(*route) != failed).chain(failed);
        let route =
            others.into_iter().find(|route| state.breakers.get_mut(*route).is_some_and(|it| it.pass(now).is_ok()));
        let Some(route) = route else {
            let failure = state.last_failure.clone().unwrap_or(Failure::Nonsense("no endpoint is configured".into()));
            return Err(Unavailable::Resting { failure, wait: state.rests(now) });
        };
        // There is one to take: it was looked at above, under the same lock.
        let _ = state.budget.as_mut().map(|budget| budget.take(now.boot));
        Ok(Pass { route })
    }

    fn has_other(&self, pass: &Pass) -> bool {
        let (state, now) = (self.lock(), self.clock.now());
        (0..)
            .zip(&state.breakers)
            .any(|(route, breaker): (usize, _)| route != pass.route && breaker.wait(now).is_zero())
    }

    fn settle(&self, pass: &Pass, answer: &Result<Grant, Failure>) {
        let (now, dice) = (self.clock.now(), self.dice());
        let mut state = self.lock();
        let failed = answer.as_ref().err();
        if let Some(breaker) = state.breakers.get_mut(pass.route) {
            match failed {
                Some(Failure::Unavailable { retry_after, .. }) => breaker.failed(*retry_after, dice, now),
                Some(Failure::Nonsense(_)) => breaker.failed(None, dice, now),
                // An endpoint that refuses is well; a credential that cannot be read never reached it.
                Some(Failure::Refused { .. } | Failure::Credential(_) | Failure::Unsupported) | None => {
                    breaker.succeeded()
                }
            }
        }
        match failed {
            None => (state.last_success, state.failures, state.denied) = (Some(now), 0, None),
            Some(failure) => {
                state.failures = state.failures.saturating_add(1);
                if failure.concerns_bursar() {
                    let until = now.deadline(DENIED.after(state.failures, dice));
                    state.denied = Some(Denied { failure: failure.clone(), until });
                }
                state.last_failure = Some(failure.clone());
            }
        }
    }

    fn dice(&self) -> u16 {
        let mut dice = [0; 2];
        // Without randomness there is no jitter.
        self.random.fill(&mut dice).map_or(u16::MAX, |()| u16::from_ne_bytes(dice))
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn rests(&self, now: Moment) -> Duration {
        let denied = self.denied.as_ref().map_or(Duration::ZERO, |denied| denied.until.left(now));
        denied.max(self.breakers.iter().map(|breaker| breaker.wait(now)).min().unwrap_or_default())
    }
}

/// Whether asking again at once may bring a token: the same endpoint only where it did not answer and did not say when
/// it will, an `other` one unless it was a refusal.
const fn may_help(failure: &Failure, other: bool) -> bool {
    match failure {
        Failure::Unavailable { retry_after, .. } => other || retry_after.is_none(),
        Failure::Nonsense(_) => other,
        Failure::Refused { .. } | Failure::Credential(_) | Failure::Unsupported => false,
    }
}

/// Its life counts from the question: a slow answer may be slept through, or fall on both sides of a clock's step.
fn not_dead_on_arrival(grant: Grant, now: Moment) -> Result<Grant, Failure> {
    match grant.lifetime {
        Some(Duration::ZERO) => Err(Failure::Nonsense("the token has a lifetime of 0 seconds".into())),
        Some(lifetime) if grant.sent.deadline(lifetime).passed(now) => {
            let what = format!("the token lives for {} s and had ended when the answer came", lifetime.as_secs());
            Err(Failure::Unavailable { what, retry_after: None })
        }
        Some(_) | None => Ok(grant),
    }
}
