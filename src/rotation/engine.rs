//! The engine: looks what comes next, has it done, and waits. What is done stands in `acts`.

mod acts;
mod notices;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use notices::Said;

pub use notices::keep_telling;

use super::status::rehearsal;
use super::{
    ACT_TIMEOUT, Holder, Holders, LEAKED, Lives, Plan, Probe, Rotator, Schedule, State, Status, Step, Trouble, Uptake,
    Waiting, former, is_unfinished, step,
};
use crate::audit::{Journal, NotDurable};
use crate::crypto::Random;
use crate::name::Name;
use crate::retry::Backoff;
use crate::store::{Notes, Place, Stage, StoreError, Version, VersionId, Versions};
use crate::telemetry::metrics::Tally;
use crate::time::{Clock, Deadline, Wall};

/// The longest time between two looks at what is due, so that rotation resumes after suspend.
const TICK: Duration = Duration::from_secs(30);
/// How often the store is looked at while nothing is expected.
const LOOK: Duration = Duration::from_secs(3_600);
/// The same, where readers of other agents are waited for.
const LOOK_WITH_OTHERS: Duration = Duration::from_secs(200);
/// How often readers are looked for that are waited for.
const LOOK_FOR_READERS: Duration = Duration::from_secs(5);
/// How long a rotation that failed is left alone.
const BACKOFF: Backoff = Backoff { first: Duration::from_secs(5), most: Duration::from_secs(600) };
/// More steps than any rotation has.
const MOST_STEPS: usize = 64;

/// The words under which acts are counted.
const ACTS: [&str; 12] = [
    "create",
    "set",
    "test",
    "promote",
    "revoke",
    "undo",
    "create_failed",
    "set_failed",
    "test_failed",
    "promote_failed",
    "revoke_failed",
    "undo_failed",
];

/// The rotation of one secret.
pub struct Rotation {
    /// The secret's entry.
    pub name: Name,
    /// Where it stands.
    pub place: Place,
    /// What may be counted on.
    pub plan: Plan,
    /// Whose readers are waited for.
    pub uptake: Uptake,
    /// When it is due.
    pub schedule: Schedule,
    /// What performs it.
    pub rotator: Arc<dyn Rotator>,
}

/// What has happened to a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// Another version is Current.
    Promoted(VersionId),
    /// A version was ended at the far side.
    Revoked(VersionId),
    /// A version is over.
    Retired(VersionId),
}

/// Why a rotation does not go on.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Why {
    /// There is no such rotation.
    #[error("`[secret.{0}]` has no `rotation`")]
    Unknown(Name),
    /// One is under way.
    #[error("a rotation of `{0}` is unfinished: it waits for {1}; `bursar rotations` shows it")]
    Unfinished(Name, &'static str),
    /// It is not the time of day.
    #[error("`{0}` is rotated between {1} only, next at {2}; `--now` goes past that")]
    OutsideItsWindow(Name, String, String),
    /// The far side, or our way to it.
    #[error(transparent)]
    FarSide(#[from] Trouble),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log: what cannot be recorded is not done.
    #[error(transparent)]
    NotDurable(#[from] NotDurable),
    /// The reservation ran out between its renewal and the act: somebody else may be at it by now.
    #[error("the reservation of `{0}` ran out before the far side could be asked: it is renewed first")]
    Late(Name),
    /// Our own fault.
    #[error("internal: {0}")]
    Internal(&'static str),
}

impl Why {
    /// The word in records.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unknown(_) => "not_found",
            Self::Unfinished(..) => "unfinished",
            Self::OutsideItsWindow(..) => "outside_window",
            Self::FarSide(trouble) => trouble.code(),
            Self::Store(error) => error.code(),
            Self::NotDurable(_) => "audit_unavailable",
            Self::Late(_) => "unavailable",
            Self::Internal(_) => "internal_error",
        }
    }
}

/// What is told of a rotation as it happens.
pub type Told = Box<dyn Fn(&Name, &Happened) + Send + Sync>;

/// The engine of all rotations.
pub struct Engine {
    journal: Journal,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    /// Who we are in the notes of a reservation: unique for what holds this log.
    us: Box<str>,
    /// Who holds what.
    pub holders: Holders,
    /// Told when a former version waits for [`Self::recall`].
    recall: Notify,
    told: Told,
    /// What was done, by act; what was done in vain is counted as `ACT_failed`.
    pub acts: Tally<12>,
    turning: Mutex<BTreeMap<Name, Arc<Turning>>>,
    /// Of all rotations there ever were: one that is taken out may be at its last step, and come back before that ends.
    memories: Mutex<BTreeMap<Name, Arc<tokio::sync::Mutex<Memory>>>>,
    changed: Notify,
    /// Wakes who tells other agents when a version is handed out that nobody held, or it is known who held one before.
    handed: Notify,
}

/// One rotation as it turns.
struct Turning {
    rotation: Rotation,
    /// Held while a step is done.
    memory: Arc<tokio::sync::Mutex<Memory>>,
    shown: Arc<Mutex<Shown>>,
    said: tokio::sync::Mutex<Said>,
}

/// What is remembered from one step to the next; a crash may lose it.
#[derive(Default)]
struct Memory {
    probe: Probe,
    /// The rotation that an operator has asked for.
    asked: Option<Asked>,
    /// The version that has leaked, as an operator has told us.
    leaked: Option<VersionId>,
    /// The version that we have ended at the far side, and perhaps not yet in the store.
    revoked: Option<VersionId>,
    /// Who holds the Previous version at other agents, by what they told last.
    elsewhere: Option<(VersionId, Vec<String>)>,
    /// What the Pending version is given up for.
    given_up_for: Option<Trouble>,
    /// Whether the reservation was found, so that somebody may have had a credential made for it.
    found: bool,
    failures: u32,
}

/// A rotation that was asked for, until it is reserved.
struct Asked {
    /// What was Current then: another agent may do what was asked for.
    of: Option<VersionId>,
    /// Whether that is to end without grace.
    without_grace: bool,
}

/// What is shown of it, without waiting for a step to end.
#[derive(Clone, Debug)]
struct Shown {
    state: State,
    waiting: Option<Waiting>,
    next: Option<Wall>,
    due: Option<Wall>,
    current: Option<(VersionId, Wall)>,
    previous: Option<VersionId>,
    pending: Option<VersionId>,
    /// Who holds the previous one at other agents.
    elsewhere: Vec<String>,
    failures: u32,
    last_error: Option<String>,
    /// When it is looked at again.
    again: Option<Deadline>,
}

impl Default for Shown {
    fn default() -> Self {
        let state = State::Unknown;
        let (waiting, next, due, current, previous, pending) = Default::default();
        let (elsewhere, failures, last_error, again) = Default::default();
        Self { state, waiting, next, due, current, previous, pending, elsewhere, failures, last_error, again }
    }
}

impl Shown {
    /// Whether readers are waited for, and whether `version` is another than those of the last look.
    fn at_a_read_of(&self, version: &VersionId) -> (bool, bool) {
        let is_new =
            self.current.as_ref().is_some_and(|(id, _)| id != version) && self.previous.as_ref() != Some(version);
        (self.waiting == Some(Waiting::Readers), is_new)
    }
}

impl Engine {
    /// An engine without rotations; `us` names it to others that share a store.
    #[must_use]
    pub fn new(journal: Journal, clock: Arc<dyn Clock>, random: Arc<dyn Random>, us: &str, told: Told) -> Self {
        let (holders, recall, turning, memories, changed, handed) = Default::default();
        let acts = Tally::of(ACTS);
        Self { journal, clock, random, us: us.into(), holders, recall, told, acts, turning, memories, changed, handed }
    }

    /// Comes to its end when a former version waits for [`Self::recall`].
    pub async fn recall_wanted(&self) {
        self.recall.notified().await;
    }

    /// Reads with `recall` who was handed a former version before its holders were watched, as before this start, and since
    /// when it was served; until it has, it is not ended. Where `recall` cannot say, somebody is supposed to hold it.
    pub async fn recall<F>(&self, recall: impl Fn(Name, VersionId, Wall) -> F)
    where
        F: Future<Output = Option<Vec<Name>>>,
    {
        let turning: Vec<_> = self.lock().values().cloned().collect();
        for it in turning {
            let (name, Some(version)) = (&it.rotation.name, it.shown().previous.clone()) else { continue };
            let Some(since) = self.holders.not_recalled(name, &version) else { continue };
            match recall(name.clone(), version.clone(), since).await {
                Some(workloads) => {
                    workloads.into_iter().for_each(|workload| self.holders.suppose(name, workload, version.clone()));
                }
                None => self.holders.suppose_somebody(name, version.clone()),
            }
            self.holders.recalled(name, &version);
            look_again(&it.shown);
        }
        self.changed.notify_one();
        self.handed.notify_one();
    }

    /// From here on these are the rotations. One that is under way goes on where it stands.
    pub fn keep(&self, rotations: Vec<Rotation>) {
        let mut turning = self.lock();
        let mut memories = self.memories.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept = BTreeMap::new();
        for rotation in rotations {
            let memory = Arc::clone(memories.entry(rotation.name.clone()).or_default());
            let shown = turning.get(&rotation.name).map(|it| Arc::clone(&it.shown)).unwrap_or_default();
            look_again(&shown);
            // What was told is told once more: it may be of another place.
            let said = tokio::sync::Mutex::default();
            kept.insert(rotation.name.clone(), Arc::new(Turning { rotation, memory, shown, said }));
        }
        *turning = kept;
        self.holders.watch(turning.keys());
        drop(turning);
        self.changed.notify_one();
    }

    /// Starts a rotation for an operator, and follows it as far as it goes without waiting: to the grace period, mostly.
    /// `now` goes past its window, and past the grace period of what it replaces.
    ///
    /// # Errors
    /// [`Why`]; the former version stays Current, unless the far side ended it.
    pub async fn rotate(self: &Arc<Self>, name: &Name, now: bool) -> Result<Status, Why> {
        let it = self.of(name)?;
        let mut memory = it.memory.lock().await;
        let versions = self.versions(&it).await?;
        if let Some(waiting) = self.unfinished(&it, &versions, &mut memory) {
            return Err(Why::Unfinished(name.clone(), waiting));
        }
        if let Some(window) = it.rotation.schedule.window.filter(|_| !now) {
            let at = self.clock.now().wall;
            let opens = window.next(at, &it.rotation.schedule.zone);
            if opens > at {
                return Err(Why::OutsideItsWindow(name.clone(), window.to_string(), opens.rfc3339().to_string()));
            }
        }
        let of = versions.at(Stage::Current).map(|version| version.id.clone());
        memory.asked = Some(Asked { of, without_grace: now });
        self.follow(&it, &mut memory).await?;
        Ok(self.status_of(&it))
    }

    /// Ends a version that has leaked: the former one, if it is not over yet, else the Current one after another has taken
    /// its place. Nobody is waited for. Who held it is in the answer.
    ///
    /// # Errors
    /// [`Why`]; what has been done by then stands.
    pub async fn revoke(self: &Arc<Self>, name: &Name) -> Result<(Vec<String>, Status), Why> {
        let it = self.of(name)?;
        let mut memory = it.memory.lock().await;
        let versions = self.versions(&it).await?;
        let leaked = former(&versions, it.rotation.plan.exclusive).or_else(|| versions.at(Stage::Current));
        let leaked = leaked.ok_or(Why::Internal("there is no version that could have leaked"))?;
        self.note(&it, leaked, &Notes::default().with(LEAKED, "yes")?).await?;
        let leaked = leaked.id.clone();
        let held = self.holders.of(name, &leaked).0.into_iter().map(|holder| holder.to_string());
        let mut held: Vec<_> = held.collect();
        memory.leaked = Some(leaked.clone());
        self.follow(&it, &mut memory).await?;
        // Who is merely named is asked for last.
        if it.rotation.uptake == Uptake::Store {
            held.extend(self.elsewhere(&it, &leaked).await);
        }
        Ok((held, self.status_of(&it)))
    }

    /// What a rotation would do now.
    ///
    /// # Errors
    /// [`Why::Unknown`], [`Why::Store`].
    pub async fn rehearse(&self, name: &Name) -> Result<Vec<String>, Why> {
        let it = self.of(name)?;
        let (plan, now) = (&it.rotation.plan, self.clock.now().wall);
        let steps = rehearsal(&self.versions(&it).await?, plan, &self.us, now)?;
        Ok(steps.iter().map(|step| step.text(plan)).collect())
    }

    /// A process was handed a version: it holds nothing that it was handed before, and who waits for that goes on. Of a
    /// version that is new here another agent has been at work.
    pub fn took(&self, secret: &Name, holder: Holder, lives: Lives) {
        let Some(it) = self.lock().get(secret).cloned() else { return };
        let (waits, is_new) = it.shown().at_a_read_of(&holder.version);
        let is_first = self.holders.took(secret, holder, lives);
        if is_first && it.rotation.uptake == Uptake::Store {
            self.handed.notify_one();
        }
        if waits || is_new && is_first {
            look_again(&it.shown);
            self.changed.notify_one();
        }
    }

    /// Whether `secret` is rotated.
    #[must_use]
    pub fn rotates(&self, secret: &Name) -> bool {
        self.lock().contains_key(secret)
    }

    /// When `secret` is rotated next by itself; none: it is not.
    #[must_use]
    pub fn due(&self, secret: &Name) -> Option<Wall> {
        self.lock().get(secret)?.shown().due
    }

    /// The entry that is rotated at `place`, if that is unfinished.
    ///
    /// # Errors
    /// The store's: whether one is unfinished cannot be said then.
    pub async fn unfinished_at(&self, place: &Place) -> Result<Option<Name>, StoreError> {
        let here = |it: &&Arc<Turning>| {
            let there = &it.rotation.place;
            (&there.store_name, &there.name) == (&place.store_name, &place.name)
        };
        let Some(it) = self.lock().values().find(here).cloned() else { return Ok(None) };
        let versions = self.versions(&it).await?;
        let Plan { overlap, exclusive, .. } = it.rotation.plan;
        Ok(is_unfinished(&versions, overlap, exclusive).then(|| it.rotation.name.clone()))
    }

    /// How every rotation stands, by name.
    #[must_use]
    pub fn status(&self) -> Vec<Status> {
        let turning: Vec<_> = self.lock().values().cloned().collect();
        turning.iter().map(|it| self.status_of(it)).collect()
    }

    /// Goes on once with every rotation as far as it goes, for who drives the clock; [`keep_turning`] does it in time.
    pub async fn turn_all(&self) {
        let turning: Vec<_> = self.lock().values().cloned().collect();
        for it in turning {
            self.turn(&it).await;
        }
    }

    /// Does what is due; how long until the next look.
    fn look(self: &Arc<Self>) -> Duration {
        let now = self.clock.now();
        let turning: Vec<_> = self.lock().values().cloned().collect();
        let mut soonest = TICK;
        for it in turning {
            let left = it.shown().again.map_or(Duration::ZERO, |again| again.left(now));
            if left.is_zero() {
                let engine = Arc::clone(self);
                tokio::spawn(async move { engine.turn(&it).await });
            } else {
                soonest = soonest.min(left);
            }
        }
        soonest.max(Duration::from_millis(100))
    }

    /// Goes on with a rotation, unless somebody is at it.
    async fn turn(&self, it: &Turning) {
        let Ok(mut memory) = it.memory.try_lock() else { return };
        // What failed is in the status, in the log and in the records.
        drop(self.follow(it, &mut memory).await);
    }

    /// Does one step after the other until there is something to wait for.
    async fn follow(&self, it: &Turning, memory: &mut Memory) -> Result<(), Why> {
        it.shown().state = State::Running;
        (memory.probe.accepted, memory.probe.strays) = (None, None);
        let rests = self.steps(it, memory).await;
        let now = self.clock.now();
        let mut shown = it.shown();
        match &rests {
            Ok((until, waiting)) => {
                shown.state = if *waiting == Waiting::Due { State::Idle } else { State::Waiting };
                (shown.waiting, shown.next) = (Some(*waiting), *until);
                let most = longest(*waiting, it.rotation.uptake);
                let wait = until.map_or(most, |until| (until - now.wall).min(most));
                shown.again = Some(now.deadline(wait));
                if *waiting == Waiting::Due {
                    (memory.failures, shown.failures, shown.last_error) = (0, 0, None);
                }
            }
            Err(why) => {
                memory.failures = memory.failures.saturating_add(1);
                let wait = BACKOFF.after(memory.failures, self.dice());
                (shown.state, shown.waiting, shown.failures) = (State::Failing, None, memory.failures);
                (shown.next, shown.again) = (Some(now.wall + wait), Some(now.deadline(wait)));
                shown.last_error = Some(why.to_string());
                tracing::error!(secret = %it.rotation.name, failures = memory.failures, "its rotation failed: {why}");
            }
        }
        drop(shown);
        self.changed.notify_one();
        rests.map(drop)
    }

    async fn steps(&self, it: &Turning, memory: &mut Memory) -> Result<(Option<Wall>, Waiting), Why> {
        for _ in 0..MOST_STEPS {
            let versions = self.versions(it).await?;
            let mut next = self.next(it, &versions, memory);
            if let Some(previous) = versions.at(Stage::Previous)
                && self.asks_others(it, &versions, &next)
            {
                memory.elsewhere = Some((previous.id.clone(), self.elsewhere(it, &previous.id).await));
                next = self.next(it, &versions, memory);
            }
            if let Step::Rest { until, waiting } = next {
                return Ok((until, waiting));
            }
            tracing::info!(secret = %it.rotation.name, "rotation: {}", next.text(&it.rotation.plan));
            self.perform(it, next, &versions, memory).await?;
        }
        Err(Why::Internal("a rotation does not come to its end"))
    }

    async fn note(&self, it: &Turning, version: &Version, notes: &Notes) -> Result<(), StoreError> {
        let Place { store, name, .. } = &it.rotation.place;
        let noted = timeout(ACT_TIMEOUT, store.note(name, &version.id, &version.attempt, notes)).await;
        noted.unwrap_or_else(|_| Err(StoreError::Unavailable("it did not answer".into())))
    }

    async fn versions(&self, it: &Turning) -> Result<Versions, StoreError> {
        let Place { store, name, .. } = &it.rotation.place;
        match timeout(ACT_TIMEOUT, store.versions(name)).await {
            Ok(Err(StoreError::NotFound(_))) => Ok(Versions::none(name.clone())),
            Ok(versions) => versions,
            Err(_) => Err(StoreError::Unavailable("it did not answer".into())),
        }
    }

    /// What comes next, after all that can be known without asking has been looked at.
    fn next(&self, it: &Turning, versions: &Versions, memory: &mut Memory) -> Step {
        let (rotation, now) = (&it.rotation, self.clock.now().wall);
        let (pending, previous) = (versions.at(Stage::Pending), versions.at(Stage::Previous));
        let current = versions.at(Stage::Current).map(|version| (version.id.clone(), since(version)));
        let scheduled = match &current {
            Some((_, since)) => rotation.schedule.due(&rotation.name, *since),
            None => Some(now),
        };
        memory.asked = memory.asked.take().filter(|asked| asked.of.as_ref() == current.as_ref().map(|(id, _)| id));
        let probe = &mut memory.probe;
        if probe.attempt.as_ref() != pending.map(|version| &version.attempt) {
            // What is known is of a reservation that is over.
            *probe = Probe::default();
        }
        probe.us = self.us.clone();
        probe.due = if memory.asked.is_some() { Some(now) } else { scheduled };
        // What this log's agent reserved is its own after a restart too: nobody else holds this log.
        let ours = pending.filter(|version| version.notes.get(Notes::AGENT) == Some(&*self.us));
        if let Some(ours) = ours.filter(|_| probe.attempt.is_none()) {
            (probe.attempt, memory.found) = (Some(ours.attempt.clone()), true);
        }
        let is_previous = |id: &Option<VersionId>| id.is_some() && id.as_ref() == previous.map(|version| &version.id);
        let told = memory.elsewhere.as_ref().filter(|(id, _)| previous.is_some_and(|version| version.id == *id));
        let elsewhere = told.map(|(_, who)| who.clone()).unwrap_or_default();
        probe.held = !elsewhere.is_empty() || self.is_held_here(&rotation.name, versions);
        (probe.leaked, probe.revoked) = (is_previous(&memory.leaked), is_previous(&memory.revoked));
        let mut shown = it.shown();
        (shown.due, shown.current, shown.elsewhere) = (scheduled, current, elsewhere);
        shown.previous = previous.map(|version| version.id.clone());
        shown.pending = pending.map(|version| version.id.clone());
        if previous.is_some_and(|version| self.holders.not_recalled(&rotation.name, &version.id).is_some()) {
            self.recall.notify_one();
        }
        step(versions, &memory.probe, &rotation.plan, now)
    }

    /// Whether readers of ours hold the Previous version, or must be supposed to.
    fn is_held_here(&self, name: &Name, versions: &Versions) -> bool {
        // Another agent may have ended what was held.
        let over = versions.iter().filter(|version| version.stages.has(Stage::Retired));
        over.for_each(|version| self.holders.ended(name, &version.id));
        let served = [Stage::Current, Stage::Previous].into_iter().filter_map(|stage| versions.at(stage));
        self.holders.looked(name, served.map(|version| (version.id.clone(), since(version))));
        versions.at(Stage::Previous).is_some_and(|previous| {
            let (holders, more) = self.holders.of(name, &previous.id);
            more || !holders.is_empty()
        })
    }

    /// What an unfinished rotation waits for, if there is one.
    fn unfinished(&self, it: &Turning, versions: &Versions, memory: &mut Memory) -> Option<&'static str> {
        let next = self.next(it, versions, memory);
        if let Step::Rest { waiting, .. } = next {
            return (waiting != Waiting::Due).then_some(waiting.as_str());
        }
        (next != Step::Reserve).then_some("its next step")
    }

    fn status_of(&self, it: &Turning) -> Status {
        let (shown, now) = (it.shown().clone(), self.clock.now().wall);
        let Rotation { name, rotator, schedule, .. } = &it.rotation;
        let holders = shown.previous.as_ref().map(|version| self.holders.of(name, version).0).unwrap_or_default();
        let too_old = shown.current.as_ref().and_then(|(_, since)| schedule.overdue(*since));
        let failing = shown.failures > 0 && shown.due.is_some_and(|due| due <= now);
        let time = |at: Wall| at.rfc3339().to_string();
        Status {
            secret: name.to_string(),
            rotator: rotator.kind().into(),
            state: shown.state,
            waiting_for: shown.waiting.filter(|_| shown.state == State::Waiting).map(|it| it.as_str().into()),
            holders: holders.iter().map(ToString::to_string).chain(shown.elsewhere).collect(),
            next_at: shown.next.map(time),
            due_at: shown.due.map(time),
            overdue: failing || too_old.is_some_and(|at| at <= now),
            current: shown.current.as_ref().map(|(id, _)| id.to_string()),
            current_since: shown.current.as_ref().map(|(_, since)| time(*since)),
            previous: shown.previous.map(|id| id.to_string()),
            pending: shown.pending.map(|id| id.to_string()),
            failures: shown.failures,
            last_error: shown.last_error,
        }
    }

    fn of(&self, name: &Name) -> Result<Arc<Turning>, Why> {
        self.lock().get(name).cloned().ok_or_else(|| Why::Unknown(name.clone()))
    }

    fn dice(&self) -> u16 {
        let mut dice = [0; 2];
        // Without randomness there is no jitter.
        self.random.fill(&mut dice).map_or(u16::MAX, |()| u16::from_ne_bytes(dice))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Name, Arc<Turning>>> {
        self.turning.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turning {
    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("us", &self.us).finish_non_exhaustive()
    }
}

/// Rotates what is due, for as long as it is polled.
pub async fn keep_turning(engine: Arc<Engine>) {
    loop {
        let soonest = engine.look();
        tokio::select! {
            () = tokio::time::sleep(soonest) => {}
            () = engine.changed.notified() => {}
        }
    }
}

/// Since when a version is served.
fn since(version: &Version) -> Wall {
    version.notes.promoted().unwrap_or(version.created)
}

/// How long to wait at most before the store is looked at again.
const fn longest(waiting: Waiting, uptake: Uptake) -> Duration {
    match (waiting, uptake) {
        (Waiting::Due | Waiting::Grace, Uptake::Local) => LOOK,
        // Another agent may wait to hear who holds here what it has replaced.
        (Waiting::Due | Waiting::Grace, Uptake::Store) => LOOK_WITH_OTHERS,
        (Waiting::Reserved | Waiting::Revoker | Waiting::Settling, _) => TICK,
        (Waiting::Readers, _) => LOOK_FOR_READERS,
    }
}

fn look_again(shown: &Mutex<Shown>) {
    shown.lock().unwrap_or_else(PoisonError::into_inner).again = None;
}
