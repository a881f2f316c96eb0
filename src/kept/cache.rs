//! Who holds which value: one entry for each version that is asked for, and what an entry does when it is asked (pure).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::{Changes, Kept, Look, MOST_STALE, Unavailable};
use crate::account::Freshness;
use crate::events::What;
use crate::name::{Name, StoredName};
use crate::store::{Place, VersionId, Which};
use crate::time::{Deadline, Moment};

/// The most values that are held: with the longest of all, 64 MiB.
pub(super) const MOST_KEPT: usize = 1_024;

/// What makes two requests share a value: the store, the secret's name there, and the version if one was named.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    store: Name,
    name: StoredName,
    version: Option<VersionId>,
}

impl Key {
    pub(super) fn of(place: &Place, which: &Which) -> Self {
        let version = match which {
            Which::Current => None,
            Which::Id(id) => Some(id.clone()),
        };
        Self { store: place.store_name.clone(), name: place.name.clone(), version }
    }
}

/// How a read ended.
pub(super) type Landing = Result<Kept, Unavailable>;
/// Where those who wait for a read hear how it ended.
pub(super) type Landed = watch::Receiver<Option<Landing>>;

/// The values that are held.
#[derive(Default)]
pub(super) struct Cache(Mutex<HashMap<Key, Arc<Entry>>>);

impl Cache {
    /// The entry of a version, made if there is none; then the one that was asked for longest ago makes way.
    pub(super) fn entry(&self, place: &Place, which: &Which) -> Arc<Entry> {
        let key = Key::of(place, which);
        let mut all = lock(&self.0);
        if all.len() >= MOST_KEPT && !all.contains_key(&key) {
            // Who was just given an entry has yet to take off from it: it stays.
            let free = all.iter().filter(|(_, entry)| Arc::strong_count(entry) == 1);
            let oldest = free.min_by_key(|(_, entry)| entry.used()).map(|(key, _)| key.clone());
            oldest.map(|key| all.remove(&key));
        }
        let made = || Arc::new(Entry::new(place.clone(), which.clone()));
        Arc::clone(all.entry(key).or_insert_with(made))
    }

    /// Forgets what nobody has asked for as long as a value may be served; the other entries.
    pub(super) fn sweep(&self, now: Moment) -> Vec<Arc<Entry>> {
        let mut all = lock(&self.0);
        all.retain(|_, entry| Arc::strong_count(entry) > 1 || !entry.is_idle(now));
        all.values().cloned().collect()
    }

    /// Forgets an entry without a value. Whoever has just been given it reads beside the next who asks.
    pub(super) fn forget(&self, entry: &Arc<Entry>) {
        let key = Key::of(&entry.place, &entry.which);
        let mut all = lock(&self.0);
        if all.get(&key).is_some_and(|held| Arc::ptr_eq(held, entry)) {
            all.remove(&key);
        }
    }

    /// What is held of a secret, each version that was asked for.
    pub(super) fn of(&self, place: &Place) -> Vec<Arc<Entry>> {
        let is_of = |key: &&Key| (&key.store, &key.name) == (&place.store_name, &place.name);
        lock(&self.0).iter().filter(|(key, _)| is_of(key)).map(|(_, entry)| Arc::clone(entry)).collect()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        lock(&self.0).len()
    }
}

/// One version's value, its read that is under way, and its last failure.
pub(super) struct Entry {
    pub(super) place: Place,
    pub(super) which: Which,
    /// Microseconds since boot at which it was last asked for.
    used: AtomicU64,
    /// How many changes bursar itself has written since the entry was made.
    written: AtomicU64,
    /// Sends at each landing; who waits for another version listens, and while somebody does the value is in use.
    landings: watch::Sender<()>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    kept: Option<Kept>,
    flight: Option<Landed>,
    failed: Option<Failed>,
    known: Known,
}

/// What the store said last: by this a change is noticed.
#[derive(Debug, Default, PartialEq, Eq)]
enum Known {
    #[default]
    Nothing,
    Version(Arc<str>),
    Gone,
}

#[derive(Debug)]
struct Failed {
    why: Unavailable,
    again: Deadline,
    in_a_row: u32,
    /// What had been written then: once more has been, the failure is of the past.
    changes: Changes,
}

/// What an entry does when it is asked.
#[derive(Debug)]
pub(super) enum Answer {
    /// Serve this, and nothing else.
    Serve(Good),
    /// Serve this, and start to read it anew.
    ServeAndRead(Good, Takeoff),
    /// Start to read it, and wait for that.
    Read(Takeoff, Landed),
    /// Wait for the read that is under way.
    Join(Landed),
    /// It was read in vain, and the next time is not due.
    Refuse(Unavailable),
}

/// A value that may be served.
#[derive(Debug)]
pub(super) struct Good {
    pub(super) kept: Kept,
    pub(super) freshness: Freshness,
}

/// The right to read for one entry: while it lives there is no other. Dropped without landing, it lets its waiters go.
#[derive(Debug)]
pub(super) struct Takeoff(watch::Sender<Option<Landing>>);

impl Entry {
    pub(super) fn new(place: Place, which: Which) -> Self {
        let (used, written, landings, state) = Default::default();
        Self { place, which, used, written, landings, state }
    }

    /// What has been written to its place by now.
    pub(super) fn changes(&self) -> Changes {
        Changes { counted: self.place.store.change_counter(), ours: self.written.load(Ordering::SeqCst) }
    }

    /// bursar has written to its place: the right to read it, unless a read is under way.
    pub(super) fn written(&self) -> Option<Takeoff> {
        self.written.fetch_add(1, Ordering::SeqCst);
        self.take_off()
    }

    /// The right to read, unless a read is under way.
    pub(super) fn take_off(&self) -> Option<Takeoff> {
        let mut state = lock(&self.state);
        state.under_way().is_none().then(|| state.take_off().0)
    }

    /// Hears of each landing from here on. While it lives the value counts as in use.
    pub(super) fn landings(&self) -> watch::Receiver<()> {
        self.landings.subscribe()
    }

    fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// A workload asks.
    pub(super) fn ask(&self, now: Moment) -> Answer {
        let changes = self.changes();
        self.used.store(micros(now), Ordering::Relaxed);
        let mut state = lock(&self.state);
        let flight = state.under_way();
        match (state.good(changes, now), flight, state.rests(changes, now)) {
            (Some(good), _, _) if good.freshness == Freshness::Fresh => Answer::Serve(good),
            (Some(good), None, None) => Answer::ServeAndRead(good, state.take_off().0),
            (Some(good), _, _) => Answer::Serve(good),
            (None, Some(landed), _) => Answer::Join(landed),
            (None, None, Some(why)) => Answer::Refuse(why),
            (None, None, None) => {
                let (takeoff, landed) = state.take_off();
                Answer::Read(takeoff, landed)
            }
        }
    }

    /// What may be served to those who waited in vain.
    pub(super) fn after_all(&self, now: Moment) -> Option<Good> {
        let changes = self.changes();
        lock(&self.state).good(changes, now)
    }

    /// The refresh loop asks: the right to read if a value in use is due for it, and when to look again.
    pub(super) fn due(&self, now: Moment) -> (Option<Takeoff>, Option<Duration>) {
        let changes = self.changes();
        let mut state = lock(&self.state);
        let Some(kept) = &state.kept else { return (None, None) };
        let in_use = self.used() >= micros(kept.asked) || self.landings.receiver_count() > 0;
        let rests = state.failed.as_ref().map_or(Duration::ZERO, |failed| failed.again.left(now));
        let ahead = if kept.changes == changes { kept.ahead.left(now) } else { Duration::ZERO };
        let wait = ahead.max(rests);
        match (state.under_way().is_some() || !in_use, wait.is_zero()) {
            (true, _) => (None, None),
            (false, true) => (Some(state.take_off().0), None),
            (false, false) => (None, Some(wait)),
        }
    }

    /// A read has landed: what it brought is kept, and those who wait are told. After a failure the next is due when
    /// `again` has passed, which is given the number of failures in a row. What has changed by it is returned.
    ///
    /// A store that cannot be read takes nothing away; one that says that there is nothing does.
    pub(super) fn land(
        &self,
        takeoff: Takeoff,
        landing: Landing,
        changes: Changes,
        now: Moment,
        again: impl FnOnce(u32) -> Duration,
    ) -> Option<What> {
        let mut state = lock(&self.state);
        state.flight = None;
        let news = state.news(&landing, changes);
        let told = landing.map_err(|why| state.failed(why, changes, now, again)).inspect(|kept| {
            (state.kept, state.failed) = (Some(kept.clone()), None);
        });
        drop(state);
        takeoff.0.send_replace(Some(told));
        self.landings.send_replace(());
        news
    }

    /// How it is now.
    pub(super) fn look(&self, now: Moment) -> Look {
        let changes = self.changes();
        let state = lock(&self.state);
        let failed = state.last_failure(changes);
        let known = state.kept.as_ref().filter(|kept| !kept.ends.passed(now));
        Look {
            known: known.map(|kept| (Arc::clone(&kept.version), kept.created, now.since(kept.asked))),
            freshness: state.good(changes, now).map(|good| good.freshness),
            failures: failed.map_or(0, |failed| failed.in_a_row),
            failed: failed.map(|failed| (failed.why.clone(), failed.again.left(now))),
            waiting: self.landings.receiver_count(),
        }
    }

    /// Whether there is nothing in it that could be served, or nobody asked for it in the time that it could be.
    fn is_idle(&self, now: Moment) -> bool {
        let mut state = lock(&self.state);
        let unused = micros(now).saturating_sub(self.used()) >= MOST_STALE.as_micros() as u64;
        let alive = state.kept.as_ref().is_some_and(|kept| !kept.ends.passed(now));
        let rests = state.failed.as_ref().is_some_and(|failed| !failed.again.passed(now));
        state.under_way().is_none() && (unused || !(alive || rests))
    }
}

impl State {
    fn under_way(&mut self) -> Option<Landed> {
        // A read whose task died without landing has dropped its sender: it counts as over.
        self.flight = self.flight.take().filter(|landed| landed.has_changed().is_ok());
        self.flight.clone()
    }

    fn good(&self, changes: Changes, now: Moment) -> Option<Good> {
        let kept = self.kept.as_ref()?;
        let freshness = kept.freshness(changes, self.last_failure(changes).is_some(), now)?;
        Some(Good { kept: kept.clone(), freshness })
    }

    fn last_failure(&self, changes: Changes) -> Option<&Failed> {
        self.failed.as_ref().filter(|failed| failed.changes == changes)
    }

    fn rests(&self, changes: Changes, now: Moment) -> Option<Unavailable> {
        let failed = self.last_failure(changes).filter(|failed| !failed.again.passed(now))?;
        Some(failed.why.clone().retry_after(failed.again.left(now)))
    }

    fn failed(
        &mut self,
        why: Unavailable,
        changes: Changes,
        now: Moment,
        again: impl FnOnce(u32) -> Duration,
    ) -> Unavailable {
        if why.is_final() {
            self.kept = None;
        }
        let in_a_row = self.last_failure(changes).map_or(0, |failed| failed.in_a_row).saturating_add(1);
        let wait = again(in_a_row);
        self.failed = Some(Failed { why: why.clone(), again: now.deadline(wait), in_a_row, changes });
        why.retry_after(wait)
    }

    /// What has changed by what has landed. What was never known is no news, unless bursar itself has just written it.
    fn news(&mut self, landing: &Landing, changes: Changes) -> Option<What> {
        let now = match landing {
            Ok(kept) => Known::Version(Arc::clone(&kept.version)),
            Err(why) if why.is_final() => Known::Gone,
            Err(_) => return None,
        };
        let before = std::mem::replace(&mut self.known, now);
        match (before, &self.known) {
            (Known::Nothing, Known::Version(_)) if changes.ours > 0 => Some(What::Rotated),
            (Known::Nothing, _) => None,
            (before, now) if before == *now => None,
            (Known::Version(_) | Known::Gone, Known::Version(_)) => Some(What::Rotated),
            (Known::Version(_) | Known::Gone, Known::Gone | Known::Nothing) => Some(What::Retired),
        }
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
