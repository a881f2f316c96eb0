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
/// How long the provider is left alone for all once it has refused bursar itself: at most a tick of the refresh, since it
/// may be mended where nobody tells us.
const DENIED: Backoff = Backoff { first: Duration::from_secs(5), most: Duration::from_secs(30) };
/// The most that a provider's `Retry-After` can ask of us.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(600);

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
    /// How often all was forgiven: what was asked before says nothing of what has been mended since.
    forgiven: u64,
}

#[derive(Debug)]
struct Denied {
    failure: Failure,
    until: Deadline,
    in_a_row: u32,
}

struct Route {
    endpoint: Arc<dyn TokenEndpoint>,
}

/// The right to ask one endpoint once. Dropped without an answer it lets another probe, and gives its part of the budget
/// back if nothing was asked.
#[must_use]
pub(super) struct Pass<'a> {
    of: &'a Upstream,
    route: usize,
    forgiven: u64,
    is_used: bool,
    is_settled: bool,
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.is_settled {
            return;
        }
        let (mut state, now) = (self.of.lock(), self.of.clock.now());
        if let Some(breaker) = state.breakers.get_mut(self.route) {
            breaker.abandoned(now);
        }
        if let Some(budget) = state.budget.as_mut().filter(|_| !self.is_used) {
            budget.give_back();
        }
    }
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
            forgiven: 0,
        };
        Self { routes, timeout, clock, random, counts, state: Mutex::new(state) }
    }

    /// The right to ask the first endpoint that may be asked. Nothing is to be recorded before there is one.
    ///
    /// # Errors
    /// [`Unavailable::Resting`], [`Unavailable::Budget`].
    pub(super) fn admit(&self) -> Result<Pass<'_>, Unavailable> {
        self.pass(None, self.clock.now())
    }

    /// Asks, and asks again where that may help: another endpoint at once, the same one after a rest if somebody waits and
    /// is still there by then.
    pub(super) async fn fetch(&self, ask: &Ask, pass: Pass<'_>, is_awaited: bool) -> Result<Grant, Failure> {
        let began = self.clock.now();
        let patience = if is_awaited { self.timeout } else { Duration::ZERO };
        let (mut pass, mut attempt) = (pass, 1);
        loop {
            let (route, asked) = (pass.route, self.clock.now());
            pass.is_used = true;
            let answer = self.route(route)?.endpoint.fetch(ask).await;
            let came = self.clock.now();
            let answer = answer.and_then(|grant| not_dead_on_arrival(grant, came));
            self.counts.took.observe(came.since(asked));
            self.counts.requests.count(answer.as_ref().map_or_else(Failure::kind, |_| "granted"));
            self.settle(pass, &answer);
            let Err(failure) = answer else { return answer };
            let other = self.has_other(route);
            if !may_help(&failure, other) || attempt >= MOST_ATTEMPTS {
                return Err(failure);
            }
            let wait = if other { Duration::ZERO } else { BETWEEN_ATTEMPTS.after(attempt, self.dice()) };
            if !other && self.clock.now().since(began) + wait > patience {
                return Err(failure);
            }
            tokio::time::sleep(wait).await;
            match self.pass(Some(route), self.clock.now()) {
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
        state.forgiven += 1;
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

    /// How long until it is asked again; zero if it may be asked now.
    pub(super) fn rests(&self) -> Duration {
        self.lock().rests(self.clock.now())
    }

    fn route(&self, route: usize) -> Result<&Route, Failure> {
        self.routes.get(route).ok_or_else(|| Failure::Nonsense("no endpoint is configured".into()))
    }

    /// The next right, at another endpoint than the one that `failed`, if another may be asked.
    fn pass(&self, failed: Option<usize>, now: Moment) -> Result<Pass<'_>, Unavailable> {
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
        Ok(Pass { of: self, route, forgiven: state.forgiven, is_used: false, is_settled: false })
    }

    fn has_other(&self, asked: usize) -> bool {
        let (state, now) = (self.lock(), self.clock.now());
        (0..).zip(&state.breakers).any(|(route, breaker): (usize, _)| route != asked && breaker.wait(now).is_zero())
    }

    fn settle(&self, mut pass: Pass<'_>, answer: &Result<Grant, Failure>) {
        let (now, dice) = (self.clock.now(), self.dice());
        let mut state = self.lock();
        pass.is_settled = true;
        let failed = answer.as_ref().err();
        if let Some(breaker) = state.breakers.get_mut(pass.route) {
            match failed {
                Some(Failure::Unavailable { retry_after, .. }) => {
                    breaker.failed(retry_after.map(|rest| rest.min(LONGEST_RETRY_AFTER)), dice, now);
                }
                Some(Failure::Nonsense(_)) => breaker.failed(None, dice, now),
                // A credential that cannot be read never reached it.
                Some(Failure::Credential(_) | Failure::Unsupported) => breaker.abandoned(now),
                // An endpoint that refuses is well.
                Some(Failure::Refused { .. }) | None => breaker.succeeded(),
            }
        }
        match failed {
            None => (state.last_success, state.failures, state.denied) = (Some(now), 0, None),
            Some(failure) => {
                state.failures = state.failures.saturating_add(1);
                if failure.concerns_bursar() && pass.forgiven == state.forgiven {
                    state.deny(failure, dice, now);
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
    /// From here on nothing is asked for a while. Those who asked beside each other are refused once.
    fn deny(&mut self, failure: &Failure, dice: u16, now: Moment) {
        let before = self.denied.take();
        self.denied = Some(match before {
            Some(denied) if !denied.until.passed(now) => denied,
            before => {
                let in_a_row = before.map_or(0, |denied| denied.in_a_row).saturating_add(1);
                Denied { failure: failure.clone(), until: now.deadline(DENIED.after(in_a_row, dice)), in_a_row }
            }
        });
    }

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

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use futures_util::future::{BoxFuture, ready};

    use super::*;
    use crate::crypto::SystemRandom;
    use crate::oauth::NoCredential;
    use crate::time::ManualClock;

    /// An endpoint that answers every request the same.
    struct Same(Option<Failure>);

    impl TokenEndpoint for Same {
        fn place(&self) -> String {
            "here".to_owned()
        }

        fn fetch<'a>(&'a self, ask: &'a Ask) -> BoxFuture<'a, Result<Grant, Failure>> {
            let (token, lifetime) = (Secret::copy_of(b"token"), Some(Duration::from_secs(60)));
            let grant = || Grant { token, scopes: ask.scopes.clone(), lifetime, sent: Moment::default() };
            ready(self.0.clone().map_or_else(|| Ok(grant()), Err)).boxed()
        }
    }

    fn upstream(endpoints: &[Option<Failure>], budget: Option<Rate>) -> (Upstream, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::default());
        let endpoints = endpoints.iter().map(|failure| Arc::new(Same(failure.clone())) as Arc<dyn TokenEndpoint>);
        let limits = (Duration::ZERO, budget);
        let upstream =
            Upstream::new(endpoints.collect(), limits, Arc::clone(&clock) as _, Arc::new(SystemRandom), Arc::default());
        (upstream, clock)
    }

    fn ask() -> Ask {
        Ask { scopes: Default::default(), audience: Default::default() }
    }

    fn asked(upstream: &Upstream) -> Result<(), Unavailable> {
        let pass = upstream.admit()?;
        let answer = upstream.fetch(&ask(), pass, false).now_or_never().unwrap();
        answer.map(drop).map_err(|failure| Unavailable::Provider { failure, retry_after: Duration::ZERO })
    }

    fn down(retry_after: Option<u64>) -> Failure {
        Failure::Unavailable { what: "down".into(), retry_after: retry_after.map(Duration::from_secs) }
    }

    fn unknown() -> Failure {
        Failure::Refused { status: 401, error: Some("invalid_client"), what: "unknown".into() }
    }

    #[test]
    fn who_goes_away_before_he_asks_takes_neither_the_probe_nor_a_part_of_the_budget_along() {
        let (upstream, clock) =
            upstream(&[Some(down(Some(1)))], Some(Rate { count: 2, every: Duration::from_secs(600) }));
        assert!(asked(&upstream).is_err());
        clock.advance(Duration::from_secs(1));
        for _ in 0..10 {
            drop(upstream.admit().ok().unwrap());
        }
        assert_eq!(upstream.rests(), Duration::ZERO);
        assert!(matches!(asked(&upstream), Err(Unavailable::Provider { .. })));
        clock.advance(Duration::from_secs(30));
        assert!(matches!(asked(&upstream), Err(Unavailable::Budget(_))));
    }

    #[test]
    fn a_probe_holds_the_others_back_for_a_second_at_a_time() {
        let (upstream, clock) = upstream(&[Some(down(Some(5)))], None);
        assert!(asked(&upstream).is_err());
        clock.advance(Duration::from_secs(5));
        let _probe = upstream.admit().ok().unwrap();
        let wait = upstream.admit().map(drop);
        assert!(matches!(wait, Err(Unavailable::Resting { wait, .. }) if wait <= Duration::from_secs(1)), "{wait:?}");
    }

    #[test]
    fn a_provider_can_ask_for_ten_minutes_of_rest_and_no_more() {
        let (upstream, _) = upstream(&[Some(down(Some(3_600)))], None);
        assert!(asked(&upstream).is_err());
        assert_eq!(upstream.rests(), LONGEST_RETRY_AFTER);
    }

    #[tokio::test(start_paused = true)]
    async fn one_endpoint_that_asks_for_rest_asks_for_itself() {
        let (upstream, _) = upstream(&[Some(Failure::Nonsense("odd".into())), Some(down(Some(600)))], None);
        let pass = upstream.admit().ok().unwrap();
        assert!(upstream.fetch(&ask(), pass, false).await.is_err());
        assert_eq!(upstream.rests(), Duration::ZERO);
    }

    #[test]
    fn refusals_of_one_moment_are_one_and_the_rest_after_them_ends_within_a_tick() {
        let (upstream, clock) = upstream(&[Some(unknown())], None);
        let passes: Vec<_> = (0..32).map(|_| upstream.admit().ok().unwrap()).collect();
        for pass in passes {
            assert!(upstream.fetch(&ask(), pass, false).now_or_never().unwrap().is_err());
        }
        assert!(upstream.rests() <= Duration::from_secs(5), "{:?}", upstream.rests());
        for _ in 0..10 {
            clock.advance(upstream.rests());
            assert!(matches!(asked(&upstream), Err(Unavailable::Provider { .. })));
        }
        assert!(upstream.rests() <= Duration::from_secs(30), "{:?}", upstream.rests());
    }

    #[test]
    fn a_refusal_of_what_was_sent_before_the_secret_was_mended_says_nothing_of_it() {
        let (upstream, _) = upstream(&[Some(unknown())], None);
        let pass = upstream.admit().ok().unwrap();
        upstream.forgive();
        assert!(upstream.fetch(&ask(), pass, false).now_or_never().unwrap().is_err());
        assert!(upstream.admit().is_ok());
    }

    #[test]
    fn a_credential_that_cannot_be_read_does_not_make_an_endpoint_well() {
        let missing = Failure::Credential(NoCredential::Missing("no secret".into()));
        let (upstream, clock) = upstream(&[Some(missing)], None);
        for _ in 0..3 {
            let pass = upstream.admit().ok().unwrap();
            upstream.settle(pass, &Err(down(None)));
        }
        clock.advance(Duration::from_secs(30));
        assert!(asked(&upstream).is_err());
        assert_eq!(upstream.lock().breakers[0].failures(), 3);
    }
}
