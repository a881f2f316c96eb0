//! Who holds which token: one entry for each key, and what an entry does when it is asked (pure).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::{Held, Unavailable};
use crate::access::{Access, Audiences, Scopes};
use crate::account::Freshness;
use crate::name::Name;
use crate::time::{Deadline, Moment};

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

    /// All entries.
    pub(super) fn entries(&self) -> Vec<Arc<Entry>> {
        lock(&self.0).values().flat_map(HashMap::values).cloned().collect()
    }

    /// What failed may be asked for again at once: what it failed for may have been mended.
    pub(super) fn forgive(&self) {
        lock(&self.0).values().flat_map(HashMap::values).for_each(|entry| lock(&entry.state).failed = None);
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
    Serve(Held, Freshness),
    /// Serve this, and start the flight that refreshes it.
    ServeAndRefresh(Held, Freshness, Takeoff),
    /// Start the flight, and wait for it.
    Fetch(Takeoff, Landed),
    /// Wait for the flight that is under way.
    Join(Landed),
    /// The last flight failed, and the next is not due.
    Refuse(Unavailable),
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

    /// A workload asks.
    pub(super) fn ask(&self, now: Moment) -> Answer {
        self.used.store(micros(now), Ordering::Relaxed);
        let mut state = lock(&self.state);
        let failing = state.failed.is_some();
        let alive = state.held.as_ref().and_then(|held| Some((held.clone(), held.freshness(failing, now)?)));
        match (alive, state.under_way(), state.waits(now)) {
            (Some((held, Freshness::Fresh)), _, _) => Answer::Serve(held, Freshness::Fresh),
            (Some((held, late)), None, None) => Answer::ServeAndRefresh(held, late, state.take_off().0),
            (Some((held, late)), _, _) => Answer::Serve(held, late),
            (None, Some(landed), _) => Answer::Join(landed),
            (None, None, Some(why)) => Answer::Refuse(why),
            (None, None, None) => {
                let (takeoff, landed) = state.take_off();
                Answer::Fetch(takeoff, landed)
            }
        }
    }

    /// The refresh loop asks: the right to fly if a token in use is due, and when to look again.
    pub(super) fn due(&self, now: Moment) -> (Option<Takeoff>, Option<Duration>) {
        let mut state = lock(&self.state);
        let Some(held) = &state.held else { return (None, None) };
        let in_use = self.used() >= micros(held.sent);
        let refresh = held.refresh.left(now);
        let wait = refresh.max(state.failed.as_ref().map_or(Duration::ZERO, |failed| failed.again.left(now)));
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
    /// A failure never overwrites a token that is still alive. That there was no turn is none: nobody was asked.
    pub(super) fn land(&self, takeoff: Takeoff, landing: Landing, now: Moment, again: impl FnOnce(u32) -> Duration) {
        let mut state = lock(&self.state);
        state.flight = None;
        let told = match landing {
            Ok(held) => {
                state.retire(now);
                state.held = held.expires.is_some().then(|| held.clone());
                state.failed = None;
                Ok(held)
            }
            Err(busy @ Unavailable::Busy(_)) => Err(busy),
            Err(why) => {
                let in_a_row = state.failed.as_ref().map_or(0, |failed| failed.in_a_row).saturating_add(1);
                let wait = again(in_a_row);
                state.failed = Some(Failed { why: why.clone(), again: now.deadline(wait), in_a_row });
                Err(why.retry_after(wait))
            }
        };
        drop(state);
        takeoff.0.send_replace(Some(told));
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

    fn is_alive(&self, now: Moment) -> bool {
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

    fn waits(&self, now: Moment) -> Option<Unavailable> {
        let failed = self.failed.as_ref().filter(|failed| !failed.again.passed(now))?;
        Some(failed.why.clone().retry_after(failed.again.left(now)))
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
    use crate::oauth::Grant;
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
        assert!(matches!(entry.ask(clock.now()), Answer::Fetch(..)));
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
                (entry.ask(now), entry)
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
        let (Answer::Fetch(takeoff, _) | Answer::ServeAndRefresh(_, _, takeoff)) = entry.ask(now) else {
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
        let answer = entry.ask(clock.now());
        assert!(matches!(answer, Answer::ServeAndRefresh(_, Freshness::Ahead, _)), "{answer:?}");
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
            assert!(matches!(entries.first().unwrap_or(&entry).ask(clock.now()), Answer::Serve(..)));
            room.clear();
            entries.push(entry);
        }
        let alive: Vec<_> = entries.iter().map(|entry| entry.is_alive(clock.now())).collect();
        assert_eq!(alive, [[true].as_slice(), &[false; 2], &[true; 8]].concat());
        drop((entries, caches));
        assert!(!room.is_beyond(0), "what is dropped gives its room back");
    }
}
