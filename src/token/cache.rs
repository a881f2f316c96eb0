//! Who holds which token: one entry for each key, and what an entry does when it is asked (pure).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::{Held, Unavailable};
use crate::access::{Access, Audiences, Scopes};
use crate::account::Freshness;
use crate::crypto::Fingerprint;
use crate::name::Name;
use crate::time::{Deadline, Moment, Wall};

/// The shortest time between two flights for one key that a caller forces, with a token that was rejected or too short.
const BETWEEN_FORCED: Duration = Duration::from_secs(30);
/// The most keys that one provider's cache holds.
const MOST_KEYS: usize = 10_000;
/// The most of them that one workload has made. Of n scopes it may ask for 2^n sets, and what it takes others cannot have.
const MOST_KEYS_OF_ONE: usize = 1_000;

/// What makes two requests share a token. A wider token never answers a narrower request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Whose token it is; `None` where the provider entry says `share = "host"`.
    pub workload: Option<Name>,
    /// The scopes that are sent.
    pub scopes: Scopes,
    /// The audiences that are sent.
    pub audience: Audiences,
}

impl Key {
    pub(super) fn of(access: &Access, shared: bool) -> Self {
        Self {
            workload: (!shared).then(|| access.who.name.clone()),
            scopes: access.scopes.clone(),
            audience: access.audience.clone(),
        }
    }
}

/// How a flight ended.
pub(super) type Landing = Result<Held, Unavailable>;
/// Where those who wait for a flight hear how it ended.
pub(super) type Landed = watch::Receiver<Option<Landing>>;

/// The tokens of one provider.
#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<Entries>);

/// How many tokens that are no longer served one entry remembers: those of a whole life, at the earliest refresh point.
const MOST_FORMER: usize = 20;

/// By whose they are.
type Entries = HashMap<Option<Name>, HashMap<Key, Arc<Entry>>>;

impl Cache {
    /// The entry of `key`, made on behalf of `maker` if there is none.
    pub(super) fn entry(&self, key: Key, maker: &Name, now: Moment) -> Result<Arc<Entry>, Unavailable> {
        let mut all = lock(&self.0);
        if let Some(entry) = all.get(&key.workload).and_then(|own| own.get(&key)) {
            return Ok(Arc::clone(entry));
        }
        let held: usize = all.values().map(HashMap::len).sum();
        let own = all.entry(key.workload.clone()).or_default();
        if made_by(maker, own) >= MOST_KEYS_OF_ONE {
            own.retain(|_, entry| is_in_use(entry, now));
        }
        if made_by(maker, own) >= MOST_KEYS_OF_ONE {
            return Err(Unavailable::Full(MOST_KEYS_OF_ONE));
        }
        if held >= MOST_KEYS && retain(&mut all, now) >= MOST_KEYS {
            return Err(Unavailable::Full(MOST_KEYS));
        }
        let own = all.entry(key.workload.clone()).or_default();
        Ok(Arc::clone(own.entry(key.clone()).or_insert_with(|| Arc::new(Entry::new(key, maker.clone())))))
    }

    /// Drops what is dead and unused; the other entries.
    pub(super) fn sweep(&self, now: Moment) -> Vec<Arc<Entry>> {
        retain(&mut lock(&self.0), now);
        self.entries()
    }

    /// The entries of one workload, or those that all share.
    pub(super) fn of(&self, whose: Option<&Name>) -> Vec<Arc<Entry>> {
        lock(&self.0).get(&whose.cloned()).into_iter().flat_map(HashMap::values).cloned().collect()
    }

    /// How long until the first of the tokens in use ends, if it is not refreshed.
    pub(super) fn ends_first(&self, now: Moment) -> Option<Duration> {
        self.entries().iter().filter_map(|entry| entry.ends(now)).min()
    }

    /// When the first of the tokens that are held ends, in use or not.
    pub(super) fn expires_first(&self, now: Moment) -> Option<Wall> {
        self.entries().iter().filter_map(|entry| entry.expires(now)).min()
    }

    /// All entries.
    pub(super) fn entries(&self) -> Vec<Arc<Entry>> {
        lock(&self.0).values().flat_map(HashMap::values).cloned().collect()
    }

    /// What failed may be asked for again at once: what it failed for may have been mended.
    pub(super) fn forgive(&self) {
        lock(&self.0).values().flat_map(HashMap::values).for_each(|entry| {
            let mut state = lock(&entry.state);
            (state.failed, state.held_back) = (None, None);
        });
    }

    /// Takes every token out of service. Those that are alive at the provider, with those that were refreshed before.
    pub(super) fn retire(&self, now: Moment) -> Vec<(Arc<Entry>, Held)> {
        let all = lock(&self.0);
        let of = |entry: &Arc<Entry>| {
            entry.retire(now).into_iter().map(|held| (Arc::clone(entry), held)).collect::<Vec<_>>()
        };
        all.values().flat_map(HashMap::values).flat_map(of).collect()
    }

    /// How many tokens are held that are still alive.
    pub(super) fn alive(&self, now: Moment) -> usize {
        lock(&self.0).values().flat_map(HashMap::values).filter(|entry| entry.is_alive(now)).count()
    }
}

/// How many of `own` were made on behalf of `maker`: all, unless all workloads share them.
fn made_by(maker: &Name, own: &HashMap<Key, Arc<Entry>>) -> usize {
    own.values().filter(|entry| entry.maker == *maker).count()
}

/// Who was just given an entry has yet to take off from it: dropped now, it would fly beside the next who asks.
fn is_in_use(entry: &Arc<Entry>, now: Moment) -> bool {
    Arc::strong_count(entry) > 1 || !entry.is_idle(now)
}

/// Drops what is dead and unused; how many entries are left.
fn retain(all: &mut Entries, now: Moment) -> usize {
    all.retain(|_, own| {
        own.retain(|_, entry| is_in_use(entry, now));
        !own.is_empty()
    });
    all.values().map(HashMap::len).sum()
}

/// One key's token, its flight, and its last failure.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: Key,
    /// The workload that asked for it first.
    maker: Name,
    /// Microseconds since boot at which it was last asked for.
    used: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    held: Option<Held>,
    /// What is no longer served, and may be alive at the provider: to be ended with the rest.
    former: Vec<Held>,
    flight: Option<Landed>,
    failed: Option<Failed>,
    /// A limit of ours that kept the last flight on the ground, and until when.
    held_back: Option<(Unavailable, Deadline)>,
    /// The token that the API it is for has rejected.
    rejected: Option<Fingerprint>,
    /// When a flight was last launched for a token that was rejected.
    forced: Option<Moment>,
}

#[derive(Debug)]
struct Failed {
    why: Unavailable,
    again: Deadline,
    in_a_row: u32,
}

/// What an entry does when it is asked.
#[derive(Debug)]
pub(super) enum Answer {
    /// Serve this, and nothing else.
    Serve(Good),
    /// Serve this, and start the flight that refreshes it.
    ServeAndRefresh(Good, Takeoff),
    /// Start the flight, and wait for it.
    Fetch(Takeoff, Landed),
    /// Wait for the flight that is under way.
    Join(Landed),
    /// The last flight failed, and the next is not due.
    Refuse(Unavailable),
}

impl Answer {
    /// The word in metrics.
    pub(super) const fn as_str(&self) -> &'static str {
        match self {
            Self::Serve(good) | Self::ServeAndRefresh(good, _) => match good.freshness {
                Freshness::Fresh => "hit",
                Freshness::Ahead => "ahead",
                Freshness::Stale => "stale",
            },
            Self::Fetch(..) => "fetch",
            Self::Join(_) => "join",
            Self::Refuse(_) => "refuse",
        }
    }
}

/// A token that may be served.
#[derive(Debug)]
pub(super) struct Good {
    pub(super) held: Held,
    pub(super) freshness: Freshness,
    /// Whether the API that it is for has rejected it.
    pub(super) rejected: bool,
}

/// The right to fly for one entry: while it lives there is no other. Dropped without landing, it lets its waiters go.
#[derive(Debug)]
pub(super) struct Takeoff(watch::Sender<Option<Landing>>);

impl Entry {
    fn new(key: Key, maker: Name) -> Self {
        Self { key, maker, used: AtomicU64::new(0), state: Mutex::default() }
    }

    /// Microseconds since boot at which it was last asked for.
    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Lets the token go, though it may be alive: whoever asks next has it fetched. What could be ended with it goes too.
    pub(super) fn forget(&self) {
        let mut state = lock(&self.state);
        state.held = None;
        state.former.clear();
    }

    /// A workload asks, for a token that lives for `min_ttl` at least; `charge` takes a flight of what it has. That it has
    /// none left is its own matter, and nothing that the entry keeps: others may share it.
    pub(super) fn ask(
        &self,
        min_ttl: Duration,
        now: Moment,
        charge: impl FnOnce() -> Result<(), Unavailable>,
    ) -> Answer {
        self.used.store(micros(now), Ordering::Relaxed);
        let mut state = lock(&self.state);
        let flight = state.under_way();
        match (state.good(min_ttl, now), flight, state.waits(now)) {
            // One that is rejected is served again only when it is known that there is no other.
            (Some(Good { rejected: true, .. }), Some(landed), _) => Answer::Join(landed),
            (Some(good), _, _) if good.rejected || good.freshness == Freshness::Fresh => Answer::Serve(good),
            (Some(good), None, None) => Answer::ServeAndRefresh(good, state.take_off().0),
            (Some(good), _, _) => Answer::Serve(good),
            (None, Some(landed), _) => Answer::Join(landed),
            (None, None, Some(why)) => Answer::Refuse(why),
            (None, None, None) => match state.just_given(now) {
                Some(lifetime) => Answer::Refuse(Unavailable::TooShort(lifetime)),
                None => match charge() {
                    Err(why) => Answer::Refuse(why),
                    Ok(()) => {
                        let (takeoff, landed) = state.take_off();
                        Answer::Fetch(takeoff, landed)
                    }
                },
            },
        }
    }

    /// What may be served to those who waited in vain.
    pub(super) fn after_all(&self, min_ttl: Duration, now: Moment) -> Option<Good> {
        lock(&self.state).good(min_ttl, now)
    }

    /// The API refused the token `fingerprint`: whether it is the one that is held, and the right to fly for another,
    /// unless one is on the way or was forced just before, or who rejects has none left by `charge`.
    pub(super) fn reject(
        &self,
        fingerprint: Fingerprint,
        now: Moment,
        charge: impl FnOnce() -> Result<(), Unavailable>,
    ) -> Option<Option<Takeoff>> {
        let mut state = lock(&self.state);
        state.held.as_ref().filter(|held| held.fingerprint == fingerprint && held.freshness(false, now).is_some())?;
        state.rejected = Some(fingerprint);
        let recent = state.forced.is_some_and(|forced| now.since(forced) < BETWEEN_FORCED);
        if recent || state.under_way().is_some() || charge().is_err() {
            return Some(None);
        }
        state.forced = Some(now);
        Some(Some(state.take_off().0))
    }

    /// The refresh loop asks: the right to fly if a token in use is due, and when to look again.
    pub(super) fn due(&self, now: Moment) -> (Option<Takeoff>, Option<Duration>) {
        let mut state = lock(&self.state);
        let Some(held) = &state.held else { return (None, None) };
        let in_use = self.used() >= micros(held.sent);
        let refresh = held.refresh.left(now);
        let left = |until: Deadline| until.left(now);
        let failed = state.failed.as_ref().map_or(Duration::ZERO, |failed| left(failed.again));
        let held_back = state.held_back.as_ref().map_or(Duration::ZERO, |(_, until)| left(*until));
        let wait = refresh.max(failed).max(held_back);
        match (state.under_way().is_some(), wait.is_zero(), in_use) {
            // It may come into use before it is due.
            (false, false, _) => (None, Some(wait)),
            (false, true, true) => (Some(state.take_off().0), None),
            (false, true, false) | (true, _, _) => (None, None),
        }
    }

    /// A flight has landed: what it brought is kept, and those who wait are told. After a failure the next is due
    /// when `again` has passed, which is given the number of failures in a row.
    ///
    /// A failure never overwrites a token that is still alive. A limit of ours is none: nobody was asked.
    pub(super) fn land(&self, takeoff: Takeoff, landing: Landing, now: Moment, again: impl FnOnce(u32) -> Duration) {
        let mut state = lock(&self.state);
        state.flight = None;
        let told = landing.map_err(|why| state.failed(why, now, again)).inspect(|held| {
            state.retire(now);
            state.held = held.expires.is_some().then(|| held.clone());
            (state.failed, state.held_back) = (None, None);
            // The same token again stays what it is: rejected.
            state.rejected = state.rejected.filter(|rejected| *rejected == held.fingerprint);
        });
        drop(state);
        takeoff.0.send_replace(Some(told));
    }

    /// Whether the API that it is for has rejected the token `fingerprint`.
    pub(super) fn has_rejected(&self, fingerprint: Fingerprint) -> bool {
        lock(&self.state).rejected == Some(fingerprint)
    }

    /// How long its token lives, if it is alive and in use.
    fn ends(&self, now: Moment) -> Option<Duration> {
        let state = lock(&self.state);
        let held = state.held.as_ref().filter(|held| self.used() >= micros(held.sent))?;
        held.expires.map(|expires| expires.left(now)).filter(|left| !left.is_zero())
    }

    /// When its token ends, if it is alive.
    fn expires(&self, now: Moment) -> Option<Wall> {
        lock(&self.state).held.as_ref()?.expires.filter(|expires| !expires.passed(now)).map(|expires| expires.wall)
    }

    /// Takes the token out of service; what is alive at the provider.
    fn retire(&self, now: Moment) -> Vec<Held> {
        let mut state = lock(&self.state);
        state.retire(now);
        state.failed = None;
        state.former.clone()
    }

    /// A token that was taken out of service is ended.
    pub(super) fn ended(&self, ended: &Held) {
        lock(&self.state).former.retain(|held| held.fingerprint != ended.fingerprint);
    }

    /// Whether its token lives.
    pub(super) fn is_alive(&self, now: Moment) -> bool {
        lock(&self.state).held.as_ref().is_some_and(|held| held.freshness(false, now).is_some())
    }

    /// Whether nothing would be lost by forgetting it.
    fn is_idle(&self, now: Moment) -> bool {
        let mut state = lock(&self.state);
        state.former.retain(|held| held.freshness(false, now).is_some());
        let alive = state.held.as_ref().is_some_and(|held| held.freshness(false, now).is_some());
        let alive = alive || !state.former.is_empty();
        !alive && state.under_way().is_none() && state.waits(now).is_none()
    }
}

impl State {
    fn retire(&mut self, now: Moment) {
        self.former.extend(self.held.take());
        self.former.retain(|held| held.freshness(false, now).is_some());
        let beyond = self.former.len().saturating_sub(MOST_FORMER);
        self.former.drain(..beyond);
    }

    fn under_way(&mut self) -> Option<Landed> {
        // A flight whose task died without landing has dropped its sender: it counts as over.
        self.flight = self.flight.take().filter(|landed| landed.has_changed().is_ok());
        self.flight.clone()
    }

    /// The token, if it is alive and lives for `min_ttl`.
    fn good(&self, min_ttl: Duration, now: Moment) -> Option<Good> {
        let held = self.held.as_ref()?;
        let freshness = held.freshness(self.failed.is_some(), now)?;
        let lives_on = min_ttl.is_zero() || held.expires.is_some_and(|expires| expires.left(now) >= min_ttl);
        let rejected = self.rejected == Some(held.fingerprint);
        lives_on.then(|| Good { held: held.clone(), freshness, rejected })
    }

    /// The lifetime of the token that is held, if it came just before: another would not live longer.
    fn just_given(&self, now: Moment) -> Option<Duration> {
        let held = self.held.as_ref().filter(|held| now.since(held.sent) < BETWEEN_FORCED)?;
        held.freshness(false, now)?;
        held.expires.map(|expires| expires.wall - held.sent.wall)
    }

    fn waits(&self, now: Moment) -> Option<Unavailable> {
        let failed = self.failed.as_ref().map(|failed| (&failed.why, failed.again));
        let held_back = self.held_back.as_ref().map(|(why, until)| (why, *until));
        let (why, until) = [failed, held_back].into_iter().flatten().find(|(_, until)| !until.passed(now))?;
        Some(why.clone().retry_after(until.left(now)))
    }

    /// Keeps what went wrong, and until when nothing is tried; as it is told to those who wait.
    fn failed(&mut self, why: Unavailable, now: Moment, again: impl FnOnce(u32) -> Duration) -> Unavailable {
        if let Some(wait) = why.of_ours() {
            self.held_back = Some((why.clone(), now.deadline(wait)));
            return why;
        }
        let before = self.failed.as_ref().map_or(0, |failed| failed.in_a_row);
        let (in_a_row, wait) = match &why {
            // Nobody was asked, and it is known when somebody will be.
            Unavailable::Resting { wait, .. } => (before, *wait),
            Unavailable::Provider { .. }
            | Unavailable::Budget(_)
            | Unavailable::Mints(_)
            | Unavailable::TooShort(_)
            | Unavailable::Audit(_)
            | Unavailable::Full(_)
            | Unavailable::Busy(_)
            | Unavailable::Internal(_) => (before.saturating_add(1), again(before.saturating_add(1))),
        };
        self.failed = Some(Failed { why: why.clone(), again: now.deadline(wait), in_a_row });
        why.retry_after(wait)
    }

    fn take_off(&mut self) -> (Takeoff, Landed) {
        let (sender, landed) = watch::channel(None);
        self.flight = Some(landed.clone());
        (Takeoff(sender), landed)
    }
}

fn micros(at: Moment) -> u64 {
    u64::try_from(at.boot.since_boot().as_micros()).unwrap_or(u64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::room::Room;
    use super::*;
    use crate::crypto::FingerprintKey;
    use crate::oauth::{Failure, Grant};
    use crate::secret::Secret;
    use crate::time::{Clock, ManualClock};

    #[test]
    fn what_was_refreshed_is_ended_with_the_rest_and_nothing_twice() {
        let (cache, clock) = (Cache::default(), ManualClock::default());
        let entry = cache.entry(key(Some("checkout"), 0), &"checkout".parse().unwrap(), clock.now()).unwrap();
        for (token, seconds) in [("dead by then", 5), ("refreshed", 100), ("current", 100)] {
            let takeoff = lock(&entry.state).take_off().0;
            entry.land(takeoff, Ok(named(token, seconds, &clock)), clock.now(), |_| Duration::ZERO);
            clock.advance(Duration::from_secs(10));
        }
        let retired = |now| cache.retire(now).into_iter().map(|(_, held)| held).collect::<Vec<_>>();
        let alive = retired(clock.now());
        assert_eq!(alive.iter().map(|held| held.value.expose()).collect::<Vec<_>>(), [&b"refreshed"[..], b"current"]);
        assert_eq!(cache.alive(clock.now()), 0, "none is served");
        assert!(matches!(entry.ask(Duration::ZERO, clock.now(), free), Answer::Fetch(..)));
        entry.ended(&alive[0]);
        assert_eq!(retired(clock.now()).len(), 1, "what could not be ended is tried again");
        clock.advance(Duration::from_secs(100));
        assert_eq!(retired(clock.now()).len(), 0, "and is let go once it is dead");
    }

    #[test]
    fn one_workload_does_not_fill_the_cache_for_the_others() {
        let (cache, now) = (Cache::default(), ManualClock::default().now());
        for shared in [false, true] {
            let entry = |workload: &str, scope: usize| {
                let maker: Name = workload.parse().unwrap();
                cache.entry(key((!shared).then_some(workload), scope), &maker, now)
            };
            let flying = |nth| {
                let entry = entry("greedy", nth).unwrap();
                (entry.ask(Duration::ZERO, now, free), entry)
            };
            let flights: Vec<_> = (0..MOST_KEYS_OF_ONE).map(flying).collect();
            let refused = entry("greedy", MOST_KEYS_OF_ONE);
            assert!(matches!(refused, Err(Unavailable::Full(MOST_KEYS_OF_ONE))), "shared: {shared}");
            assert!(entry("greedy", 0).is_ok(), "what it has, it has");
            assert!(entry("modest", MOST_KEYS_OF_ONE + 1).is_ok());
            drop(flights);
            assert!(entry("greedy", MOST_KEYS_OF_ONE).is_ok(), "flights that are over leave room");
        }
    }

    /// What a flight costs.
    fn free() -> Result<(), Unavailable> {
        Ok(())
    }

    #[test]
    fn who_has_no_flight_left_holds_nobody_else_back() {
        let (clock, room) = (ManualClock::default(), Room::new(usize::MAX));
        let none_left = || Err(Unavailable::Mints(Duration::from_secs(3_600)));
        let entry = entry(&clock, Ok(held(&clock, &room)));
        let fingerprint = FingerprintKey::new(1, &[0; 32]).of(b"t");
        assert!(matches!(entry.reject(fingerprint, clock.now(), none_left), Some(None)));
        assert!(matches!(entry.reject(fingerprint, clock.now(), free), Some(Some(_))), "another may");
        clock.advance(Duration::from_secs(100));
        assert!(matches!(entry.ask(Duration::ZERO, clock.now(), none_left), Answer::Refuse(Unavailable::Mints(_))));
        assert_eq!(entry.due(clock.now()).1, None, "it is as due as before");
        assert!(matches!(entry.ask(Duration::ZERO, clock.now(), free), Answer::Fetch(..)));
    }

    fn key(workload: Option<&str>, scope: usize) -> Key {
        let workload = workload.map(|name| name.parse().unwrap());
        Key { workload, scopes: Scopes::parse(&format!("s{scope}")).unwrap(), audience: Audiences::default() }
    }

    fn named(token: &str, seconds: u64, clock: &ManualClock) -> Held {
        let fingerprint = FingerprintKey::new(1, &[0; 32]).of(token.as_bytes());
        let (token, lifetime) = (Secret::copy_of(token.as_bytes()), Some(Duration::from_secs(seconds)));
        Held::new(Grant { token, scopes: Scopes::default(), lifetime, sent: clock.now() }, 0.7, 0, fingerprint, 0)
    }

    fn held(clock: &ManualClock, room: &Room) -> Held {
        let (token, lifetime) = (Secret::new(vec![b't'; 1_000]), Some(Duration::from_secs(100)));
        let grant = Grant { token, scopes: Scopes::default(), lifetime, sent: clock.now() };
        Held::new(grant, 0.7, 0, FingerprintKey::new(1, &[0; 32]).of(b"t"), 0).within(room)
    }

    fn land(entry: &Entry, landing: Landing, now: Moment) {
        let (Answer::Fetch(takeoff, _) | Answer::ServeAndRefresh(_, takeoff)) = entry.ask(Duration::ZERO, now, free)
        else {
            panic!("nothing takes off")
        };
        entry.land(takeoff, landing, now, |_| Duration::from_secs(1));
    }

    #[test]
    fn that_there_was_no_turn_is_not_a_failed_refresh() {
        let (cache, clock, room) = (Cache::default(), ManualClock::default(), Room::new(usize::MAX));
        let maker: Name = "checkout".parse().unwrap();
        let entry = cache.entry(key(Some("checkout"), 0), &maker, clock.now()).unwrap();
        land(&entry, Err(Unavailable::Busy(32)), clock.now());
        land(&entry, Ok(held(&clock, &room)), clock.now());
        clock.advance(Duration::from_secs(70));
        land(&entry, Err(Unavailable::Busy(32)), clock.now());
        let answer = entry.ask(Duration::ZERO, clock.now(), free);
        assert!(
            matches!(&answer, Answer::ServeAndRefresh(good, _) if good.freshness == Freshness::Ahead),
            "{answer:?}"
        );
    }

    #[test]
    fn without_room_the_tokens_go_that_were_asked_for_longest_ago_whoever_has_them() {
        let (clock, room) = (ManualClock::default(), Room::new(32_000));
        let caches = [(); 2].map(|()| Arc::new(Cache::default()));
        caches.iter().for_each(|cache| room.share(cache));
        let (maker, mut entries): (Name, Vec<_>) = ("checkout".parse().unwrap(), Vec::new());
        for nth in 0..11 {
            let entry = caches[nth % 2].entry(key(Some("checkout"), nth), &maker, clock.now()).unwrap();
            land(&entry, Ok(held(&clock, &room)), clock.now());
            clock.advance(Duration::from_secs(1));
            // The first stays in use.
            assert!(matches!(
                entries.first().unwrap_or(&entry).ask(Duration::ZERO, clock.now(), free),
                Answer::Serve(..)
            ));
            room.clear();
            entries.push(entry);
        }
        let alive: Vec<_> = entries.iter().map(|entry| entry.is_alive(clock.now())).collect();
        assert_eq!(alive, [[true].as_slice(), &[false; 2], &[true; 8]].concat());
        drop((entries, caches));
        assert!(!room.is_beyond(0), "what is dropped gives its room back");
    }

    fn entry(clock: &ManualClock, landing: Landing) -> Arc<Entry> {
        let maker: Name = "checkout".parse().unwrap();
        let entry = Cache::default().entry(key(Some("checkout"), 0), &maker, clock.now()).unwrap();
        land(&entry, landing, clock.now());
        entry
    }

    fn failure() -> Unavailable {
        let failure = Failure::Unavailable { what: "down".into(), retry_after: None };
        Unavailable::Provider { failure, retry_after: Duration::ZERO }
    }

    #[test]
    fn who_demands_a_longer_life_gets_another_token_or_hears_that_there_is_none() {
        let (clock, room) = (ManualClock::default(), Room::new(usize::MAX));
        let entry = entry(&clock, Ok(held(&clock, &room)));
        let demands = |seconds| entry.ask(Duration::from_secs(seconds), clock.now(), free);
        assert!(matches!(demands(100), Answer::Serve(_)));
        assert!(matches!(demands(101), Answer::Refuse(Unavailable::TooShort(lifetime)) if lifetime.as_secs() == 100));
        clock.advance(BETWEEN_FORCED);
        assert!(matches!(demands(70), Answer::Serve(_)));
        let Answer::Fetch(takeoff, _) = demands(71) else { panic!("nothing takes off") };
        assert!(matches!(demands(71), Answer::Join(_)));
        assert!(matches!(demands(70), Answer::Serve(_)), "for who demands less nothing has changed");
        entry.land(takeoff, Err(failure()), clock.now(), |_| Duration::from_secs(1));
        assert!(matches!(demands(71), Answer::Refuse(Unavailable::Provider { .. })));
        assert!(matches!(demands(70), Answer::Serve(_)));
    }

    #[test]
    fn a_rejected_token_is_served_again_only_when_there_is_no_other() {
        let (clock, room) = (ManualClock::default(), Room::new(usize::MAX));
        let first = held(&clock, &room);
        let (entry, fingerprint) = (entry(&clock, Ok(first.clone())), first.fingerprint);
        let other = FingerprintKey::new(1, &[0; 32]).of(b"another");
        let ask = || entry.ask(Duration::ZERO, clock.now(), free);
        assert!(entry.reject(other, clock.now(), free).is_none(), "that is not the one");
        let Some(Some(takeoff)) = entry.reject(fingerprint, clock.now(), free) else { panic!("nothing takes off") };
        assert!(matches!(entry.reject(fingerprint, clock.now(), free), Some(None)), "one flight at a time");
        assert!(matches!(ask(), Answer::Join(_)));
        entry.land(takeoff, Ok(first), clock.now(), |_| Duration::ZERO);
        assert!(matches!(ask(), Answer::Serve(Good { rejected: true, .. })), "the provider gave the same again");
        assert!(matches!(entry.reject(fingerprint, clock.now(), free), Some(None)), "once in a while");
        clock.advance(BETWEEN_FORCED);
        let Some(Some(takeoff)) = entry.reject(fingerprint, clock.now(), free) else { panic!("nothing takes off") };
        entry.land(takeoff, Ok(Held { fingerprint: other, ..held(&clock, &room) }), clock.now(), |_| Duration::ZERO);
        assert!(matches!(ask(), Answer::Serve(Good { rejected: false, .. })));
    }

    #[test]
    fn a_limit_of_ours_is_waited_for_and_is_no_failure_of_the_provider() {
        let (clock, room) = (ManualClock::default(), Room::new(usize::MAX));
        let entry = entry(&clock, Ok(held(&clock, &room)));
        clock.advance(Duration::from_secs(70));
        land(&entry, Err(Unavailable::Budget(Duration::from_secs(5))), clock.now());
        let answer = entry.ask(Duration::ZERO, clock.now(), free);
        assert!(matches!(answer, Answer::Serve(Good { freshness: Freshness::Ahead, .. })), "{answer:?}");
        assert_eq!(entry.due(clock.now()).1, Some(Duration::from_secs(5)));
    }
}
