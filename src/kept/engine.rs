//! The engine: a permit in, a lease out; one read of the store at a time for each version that is asked for.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use super::cache::{self, Answer, Cache, Good, Landed, Landing, Takeoff};
use super::desk::Desk;
use super::{Begun, Kept, Look, Unavailable, Unobtained};
use crate::access::{Access, Action, Permit, Resource, SecretId};
use crate::account::{Freshness, Lease, SecretTerms, Terms};
use crate::crypto::Random;
use crate::events::{Bus, What};
use crate::name::Name;
use crate::retry::Backoff;
use crate::secret::Secret;
use crate::store::{Entry, Place, Shelf, Stage, StoreError, VersionId, Which};
use crate::time::Clock;

/// The longest time between two looks at what is due, so that refresh resumes after suspend.
const TICK: Duration = Duration::from_secs(30);
/// The shortest: a store that is read anew each second would keep the loop busy.
const SHORTEST_TICK: Duration = Duration::from_secs(1);
/// How long a secret is left alone that could not be read: at most a tick, or what its store's values are taken for.
const BACKOFF: Backoff = Backoff { first: Duration::from_secs(1), most: TICK };
/// How long a store may take, the turn included. Who waits for a value that is known has it after that.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// The secrets that are held in memory.
pub struct Engine {
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    events: Bus,
    cache: Cache,
    /// By store.
    desks: Mutex<HashMap<Name, Arc<Desk>>>,
    /// Wakes the refresh loop when a value has landed, or somebody begins to wait for one.
    landed: Notify,
}

impl Engine {
    /// An engine that holds nothing yet, and tells `events` of what it sees to have changed.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, random: Arc<dyn Random>, events: Bus) -> Self {
        let (cache, desks, landed) = Default::default();
        Self { clock, random, events, cache, desks, landed }
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
        match self.part(permit.access(), shelf, which).await {
            Ok((value, terms)) => Ok(Lease::grant(permit, value, Terms::Secret(terms))),
            Err(why) => Err(Unobtained { permit: Box::new(permit), why }),
        }
    }

    async fn part(
        self: &Arc<Self>,
        access: &Access,
        shelf: &Shelf,
        which: &Which,
    ) -> Result<(Arc<Secret>, SecretTerms), Unavailable> {
        let (place, entry) = place_of(access, shelf)?;
        let Good { kept, freshness } = self.good(&place, which).await?;
        self.desk(&place.store_name).served.count(freshness.as_str());
        let (value, encoding) = kept.parts.part(entry)?;
        let (created, obtained, reread_after) = (kept.created, kept.asked, place.reread_after());
        Ok((value, SecretTerms { version: kept.version, created, obtained, freshness, encoding, reread_after }))
    }

    /// Returns once the current version of what `permit` allows is none of `held`, or cannot be had. Nothing of it is
    /// handed over, and while somebody waits it is read anew at its own pace, as while it is asked for.
    pub async fn other_than(self: &Arc<Self>, permit: &Permit, shelf: &Shelf, held: &[VersionId]) {
        let Ok((place, _)) = place_of(permit.access(), shelf) else { return };
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
    fn launch(self: &Arc<Self>, entry: Arc<cache::Entry>, takeoff: Takeoff) {
        let engine = Arc::clone(self);
        tokio::spawn(async move {
            // Before the read: what changes during it is read again.
            let (changes, reread_after) = (entry.changes(), entry.place.taken_for());
            let begun = Begun { at: engine.clock.now(), changes, reread_after, dice: engine.dice() };
            let landing = engine.read(&entry, begun).await;
            let desk = engine.desk(&entry.place.store_name);
            desk.landed(&landing);
            desk.took.observe(engine.clock.now().since(begun.at));
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

    async fn read(&self, entry: &cache::Entry, begun: Begun) -> Landing {
        let Place { store_name, store, name, .. } = &entry.place;
        let desk = self.desk(store_name);
        let read = async {
            let _turn = desk.turn().await;
            store.read(name, &entry.which).await
        };
        let late = || StoreError::Unavailable(format!("`{store_name}` did not answer within {READ_TIMEOUT:?}"));
        let (version, value) =
            timeout(READ_TIMEOUT, read).await.unwrap_or_else(|_| Err(late())).map_err(Unavailable::of)?;
        if !version.stages.has(Stage::Current) && !version.stages.has(Stage::Previous) {
            let what = format!("version {} of `{name}` that is served", version.id);
            return Err(Unavailable::Missing(StoreError::NotFound(what)));
        }
        Ok(Kept::new(&version, value, begun))
    }

    /// What is counted of a store's reads.
    #[must_use]
    pub fn desk(&self, store: &Name) -> Arc<Desk> {
        let mut desks = self.desks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(desk) = desks.get(store) {
            return Arc::clone(desk);
        }
        Arc::clone(desks.entry(store.clone()).or_default())
    }

    /// How the current version of what stands at `place` is, if it is held or was read in vain.
    #[must_use]
    pub fn look(&self, place: &Place) -> Option<Look> {
        let entry = self.cache.of(place).into_iter().find(|entry| entry.which == Which::Current)?;
        Some(entry.look(self.clock.now()))
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

/// Where the secret stands that was allowed, and no other; what its entry says of it.
fn place_of<'a>(access: &Access, shelf: &'a Shelf) -> Result<(Place, Option<&'a Entry>), Unavailable> {
    let id: &SecretId = match &access.resource {
        Resource::Secret(id) if access.action == Action::Secret => id,
        Resource::Secret(_) | Resource::Provider(_) | Resource::Agent => {
            return Err(Unavailable::Internal("the permit is for something else"));
        }
    };
    let place = shelf.find(id).ok_or(Unavailable::Internal("the permit is for a secret that is not configured"))?;
    Ok((place, shelf.entry(id)))
}

async fn landing_of(mut landed: Landed) -> Landing {
    let landing = landed.wait_for(Option::is_some).await.ok().and_then(|landing| landing.clone());
    landing.unwrap_or(Err(Unavailable::Internal("the task that read the store ended early")))
}
