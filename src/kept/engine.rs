//! The engine: a permit in, a lease out; one read of the store at a time for each version that is asked for.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;

use super::cache::{Answer, Cache, Entry, Good, Landed, Landing, Takeoff};
use super::{Begun, Kept, Unavailable, Unobtained};
use crate::access::{Access, Action, Permit, Resource, SecretId};
use crate::account::{Freshness, Lease, Terms};
use crate::crypto::Random;
use crate::events::{Bus, What};
use crate::name::Name;
use crate::retry::Backoff;
use crate::store::{Place, Shelf, Stage, StoreError, VersionId, Which};
use crate::time::Clock;

/// The longest time between two looks at what is due, so that refresh resumes after suspend.
const TICK: Duration = Duration::from_secs(30);
/// The shortest: a store that is read anew each second would keep the loop busy.
const SHORTEST_TICK: Duration = Duration::from_secs(1);
/// How long a secret is left alone that could not be read: at most a tick, or what its store's values are taken for.
const BACKOFF: Backoff = Backoff { first: Duration::from_secs(1), most: TICK };
/// How long a store may take, the turn included. Who waits for a value that is known has it after that.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// How many reads of one store are under way at once.
const MOST_READS: usize = 32;

/// The secrets that are held in memory.
pub struct Engine {
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    events: Bus,
    cache: Cache,
    /// By store: one that hangs does not take the turns of the others.
    turns: Mutex<HashMap<Name, Arc<Semaphore>>>,
    /// Wakes the refresh loop when a value has landed, or somebody begins to wait for one.
    landed: Notify,
}

impl Engine {
    /// An engine that holds nothing yet, and tells `events` of what it sees to have changed.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, random: Arc<dyn Random>, events: Bus) -> Self {
        let (cache, turns, landed) = Default::default();
        Self { clock, random, events, cache, turns, landed }
    }

    /// bursar itself has written to `place`: what is held of it is read anew, and who waits or listens hears of it.
    pub fn written(self: &Arc<Self>, place: &Place) {
        let held = self.cache.of(place);
        if !held.iter().any(|entry| entry.which == Which::Current) {
            self.events.publish(What::Rotated, resource(place));
        }
        for entry in held {
            if let Some(takeoff) = entry.written() {
                self.launch(entry, takeoff);
            }
        }
    }

    /// The value that `permit` allows: held, or read from the store, in one read for all who ask for the same.
    ///
    /// What is handed over was the store's within its [`reread_after`](crate::store::Store::reread_after), or it is
    /// declared stale, and then within [`super::MOST_STALE`].
    ///
    /// # Errors
    /// [`Unobtained`], when no such value is known and the store gives none.
    pub async fn obtain(self: &Arc<Self>, permit: Permit, shelf: &Shelf, which: &Which) -> Result<Lease, Unobtained> {
        let good = match place_of(permit.access(), shelf) {
            Ok(place) => self.good(&place, which).await,
            Err(why) => Err(why),
        };
        match good {
            Ok(Good { kept, freshness }) => {
                let terms = Terms::Secret(kept.terms(freshness));
                Ok(Lease::grant(permit, kept.value, terms))
            }
            Err(why) => Err(Unobtained { permit: Box::new(permit), why }),
        }
    }

    /// Returns once the current version of what `permit` allows is none of `held`, or cannot be had. Nothing of it is
    /// handed over, and while somebody waits it is read anew at its own pace, as while it is asked for.
    pub async fn other_than(self: &Arc<Self>, permit: &Permit, shelf: &Shelf, held: &[VersionId]) {
        let Ok(place) = place_of(permit.access(), shelf) else { return };
        let mut landings = self.cache.entry(&place, &Which::Current).landings();
        self.landed.notify_one();
        while let Ok(good) = self.good(&place, &Which::Current).await {
            let is_held = held.iter().any(|id| id.as_str() == &*good.kept.version);
            if !is_held || landings.changed().await.is_err() {
                return;
            }
        }
    }

    async fn good(self: &Arc<Self>, place: &Place, which: &Which) -> Result<Good, Unavailable> {
        let entry = self.cache.entry(place, which);
        let landed = match entry.ask(self.clock.now()) {
            Answer::Serve(good) => return Ok(good),
            Answer::ServeAndRead(good, takeoff) => {
                self.launch(entry, takeoff);
                return Ok(good);
            }
            Answer::Read(takeoff, landed) => {
                self.launch(Arc::clone(&entry), takeoff);
                landed
            }
            Answer::Join(landed) => landed,
            Answer::Refuse(why) => return Err(why),
        };
        match landing_of(landed).await {
            Ok(kept) => Ok(Good { kept, freshness: Freshness::Fresh }),
            Err(why) => entry.after_all(self.clock.now()).ok_or(why),
        }
    }

    /// Starts to read what is due, forgets what is unused; how long until the next look, if anything is held.
    pub(super) fn look_ahead(self: &Arc<Self>) -> Option<Duration> {
        let now = self.clock.now();
        let mut soonest = None;
        for entry in self.cache.sweep(now) {
            let (takeoff, wait) = entry.due(now);
            soonest = [soonest, wait].into_iter().flatten().min();
            if let Some(takeoff) = takeoff {
                self.launch(entry, takeoff);
            }
        }
        soonest
    }

    /// Starts a read of its own task: a caller that goes away does not take it along.
    fn launch(self: &Arc<Self>, entry: Arc<Entry>, takeoff: Takeoff) {
        let engine = Arc::clone(self);
        tokio::spawn(async move {
            let store = &entry.place.store;
            // Before the read: what changes during it is read again.
            let (changes, reread_after) = (entry.changes(), store.reread_after());
            let begun = Begun { at: engine.clock.now(), changes, reread_after, dice: engine.dice() };
            let landing = engine.read(&entry, begun).await;
            let unknown = matches!((&landing, &entry.which), (Err(_), Which::Id(_)));
            let backoff = Backoff { most: BACKOFF.most.min(reread_after), ..BACKOFF };
            let again = |in_a_row| backoff.after(in_a_row, engine.dice());
            let news = entry.land(takeoff, landing, changes, engine.clock.now(), again);
            if let (Some(what), Which::Current) = (news, &entry.which) {
                engine.events.publish(what, resource(&entry.place));
            }
            if unknown {
                // Anybody may name any version: what is none takes no room.
                engine.cache.forget(&entry);
            }
            engine.landed.notify_one();
            // What bursar wrote meanwhile may have come too late for this read.
            if entry.changes().ours != changes.ours
                && let Some(takeoff) = entry.take_off()
            {
                engine.launch(entry, takeoff);
            }
        });
    }

    async fn read(&self, entry: &Entry, begun: Begun) -> Landing {
        let Place { store_name, store, name } = &entry.place;
        let turns = self.turns(store_name);
        let read = async {
            let _turn = turns.acquire().await;
            store.read(name, &entry.which).await
        };
        let late = || StoreError::Unavailable(format!("`{store_name}` did not answer within {READ_TIMEOUT:?}"));
        let (version, value) =
            timeout(READ_TIMEOUT, read).await.unwrap_or_else(|_| Err(late())).map_err(Unavailable::of)?;
        if !version.stages.has(Stage::Current) && !version.stages.has(Stage::Previous) {
            let what = format!("version {} of `{name}` that is served", version.id);
            return Err(Unavailable::Missing(StoreError::NotFound(what)));
        }
        Kept::new(&version, value, begun)
    }

    fn turns(&self, store: &Name) -> Arc<Semaphore> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry(store.clone()).or_insert_with(|| Arc::new(Semaphore::new(MOST_READS))))
    }

    fn dice(&self) -> u16 {
        let mut dice = [0; 2];
        // Without randomness there is no jitter.
        self.random.fill(&mut dice).map_or(u16::MAX, |()| u16::from_ne_bytes(dice))
    }

    #[cfg(test)]
    pub(super) fn entries(&self) -> usize {
        self.cache.len()
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

/// Keeps secrets in use ahead of the moment from which they would have to be read anew, for as long as it is polled.
pub async fn keep_ahead(engine: Arc<Engine>) {
    loop {
        let soonest = engine.look_ahead().unwrap_or(TICK);
        tokio::select! {
            () = tokio::time::sleep(soonest.clamp(SHORTEST_TICK, TICK)) => {}
            () = engine.landed.notified() => {}
        }
    }
}

/// What is told of: whatever entries name that place.
fn resource(place: &Place) -> Resource {
    Resource::Secret(SecretId::Stored(place.store_name.clone(), place.name.clone()))
}

/// Where the secret stands that was allowed, and no other.
fn place_of(access: &Access, shelf: &Shelf) -> Result<Place, Unavailable> {
    let id: &SecretId = match &access.resource {
        Resource::Secret(id) if access.action == Action::Secret => id,
        Resource::Secret(_) | Resource::Provider(_) | Resource::Agent => {
            return Err(Unavailable::Internal("the permit is for something else"));
        }
    };
    shelf.find(id).ok_or(Unavailable::Internal("the permit is for a secret that is not configured"))
}

async fn landing_of(mut landed: Landed) -> Landing {
    let landing = landed.wait_for(Option::is_some).await.ok().and_then(|landing| landing.clone());
    landing.unwrap_or(Err(Unavailable::Internal("the task that read the store ended early")))
}
