//! The engine: does what [`step`] says, one act after the other, each between its intent and its outcome.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use super::status::rehearsal;
use super::{
    ACT_TIMEOUT, Ended, FarId, Held, Holder, Holders, Invents, LEASE, Lives, Overlap, Plan, Probe, Rotator, Schedule,
    State, Status, Step, Trouble, Waiting, is_ours, reservation, step, strays,
};
use crate::access::SecretId;
use crate::audit::{Act, Actor, Effect, Intent, Journal, NotDurable, Noted, Outcome, OutcomeOf, Record, Standing};
use crate::crypto::Random;
use crate::name::{Name, StoredName};
use crate::retry::Backoff;
use crate::store::{Attempt, Notes, Place, Reserved, Stage, StoreError, Version, VersionId, Versions, Which};
use crate::telemetry::metrics::Tally;
use crate::time::{Clock, Deadline, Wall};

/// The longest time between two looks at what is due, so that rotation resumes after suspend.
const TICK: Duration = Duration::from_secs(30);
/// How often the store is looked at while nothing is expected.
const LOOK: Duration = Duration::from_secs(3_600);
/// How often readers are looked for that are waited for.
const LOOK_FOR_READERS: Duration = Duration::from_secs(5);
/// How long a rotation that failed is left alone.
const BACKOFF: Backoff = Backoff { first: Duration::from_secs(5), most: Duration::from_secs(600) };
/// How often a value that the far side has made is offered to a store that cannot be written, a second apart.
const MOST_FILLS: u32 = 20;
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
    /// Whether it is still being read in the log who held what before this start: until then somebody is supposed to.
    recalling: AtomicBool,
    told: Told,
    /// What was done, by act; what was done in vain is counted as `ACT_failed`.
    pub acts: Tally<12>,
    turning: Mutex<BTreeMap<Name, Arc<Turning>>>,
    changed: Notify,
}

/// One rotation as it turns.
struct Turning {
    rotation: Rotation,
    /// Held while a step is done.
    memory: Arc<tokio::sync::Mutex<Memory>>,
    shown: Arc<Mutex<Shown>>,
}

/// What is remembered from one step to the next; a crash may lose it.
#[derive(Default)]
struct Memory {
    probe: Probe,
    /// An operator has asked for a rotation.
    asked: bool,
    /// What was Current then: another agent may do what was asked for.
    asked_of: Option<VersionId>,
    /// The version past whose grace period the operator goes.
    without_grace: Option<VersionId>,
    /// The version that has leaked.
    leaked: Option<VersionId>,
    /// The version that we have ended at the far side, and perhaps not yet in the store.
    revoked: Option<VersionId>,
    /// What the Pending version is given up for.
    given_up_for: Option<Trouble>,
    /// Whether the reservation was found, so that somebody may have had a credential made for it.
    found: bool,
    failures: u32,
}

/// A reservation that was just renewed.
struct Hold {
    attempt: Attempt,
    /// No act at the far side begins later: a process that slept may have been replaced.
    until: Deadline,
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
    failures: u32,
    last_error: Option<String>,
    /// When it is looked at again.
    again: Option<Deadline>,
}

impl Default for Shown {
    fn default() -> Self {
        let state = State::Unknown;
        let (waiting, next, due, current, previous, pending, failures, last_error, again) = Default::default();
        Self { state, waiting, next, due, current, previous, pending, failures, last_error, again }
    }
}

impl Engine {
    /// An engine without rotations; `us` names it to others that share a store.
    #[must_use]
    pub fn new(journal: Journal, clock: Arc<dyn Clock>, random: Arc<dyn Random>, us: &str, told: Told) -> Self {
        let (holders, recalling, turning, changed) = Default::default();
        let acts = Tally::of(ACTS);
        Self { journal, clock, random, us: us.into(), holders, recalling, told, acts, turning, changed }
    }

    /// Reads with `recall` who was handed a former version that is not over yet before this start, and since when it was
    /// served; until it has, no former version is ended. Where it fails, nobody is waited for but those who ask from now on.
    pub async fn recall<F>(self: &Arc<Self>, recall: impl Fn(Name, VersionId, Wall) -> F)
    where
        F: Future<Output = Vec<Name>>,
    {
        let turning: Vec<_> = self.lock().values().cloned().collect();
        for it in turning {
            let Ok(versions) = self.versions(&it).await else { continue };
            let Some(previous) = versions.at(Stage::Previous) else { continue };
            let name = &it.rotation.name;
            for workload in recall(name.clone(), previous.id.clone(), since(previous)).await {
                self.holders.suppose(name, workload, previous.id.clone());
            }
        }
        self.recalling.store(false, Ordering::Release);
        self.changed.notify_one();
    }

    /// Nothing is ended before [`Self::recall`] has come to its end.
    pub fn wait_for_recall(&self) {
        self.recalling.store(true, Ordering::Release);
    }

    /// From here on these are the rotations. One that is under way goes on where it stands.
    pub fn keep(&self, rotations: Vec<Rotation>) {
        let mut turning = self.lock();
        let mut kept = BTreeMap::new();
        for rotation in rotations {
            let before = turning.remove(&rotation.name);
            let (memory, shown) = before.map(|it| (Arc::clone(&it.memory), Arc::clone(&it.shown))).unwrap_or_default();
            look_again(&shown);
            kept.insert(rotation.name.clone(), Arc::new(Turning { rotation, memory, shown }));
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
        memory.asked = true;
        memory.asked_of = versions.at(Stage::Current).map(|version| version.id.clone());
        memory.without_grace = versions.at(Stage::Current).filter(|_| now).map(|version| version.id.clone());
        self.follow(&it, &mut memory).await?;
        Ok(self.status_of(&it))
    }

    /// Ends a version that has leaked: the former one, if it is not over yet, else the Current one after another has taken
    /// its place. Nobody is waited for. Who held it is in the answer.
    ///
    /// # Errors
    /// [`Why`]; what has been done by then stands.
    pub async fn revoke(self: &Arc<Self>, name: &Name) -> Result<(Vec<Holder>, Status), Why> {
        let it = self.of(name)?;
        let mut memory = it.memory.lock().await;
        let versions = self.versions(&it).await?;
        let previous = versions.at(Stage::Previous).filter(|version| is_ours(version) || it.rotation.plan.exclusive);
        let leaked = previous.or_else(|| versions.at(Stage::Current));
        let leaked = leaked.ok_or(Why::Internal("there is no version that could have leaked"))?.id.clone();
        let (held, _) = self.holders.of(name, &leaked);
        memory.asked = previous.is_none();
        memory.asked_of = Some(leaked.clone());
        memory.leaked = Some(leaked);
        self.follow(&it, &mut memory).await?;
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

    /// A process was handed a version: it holds nothing that it was handed before, and who waits for that goes on.
    pub fn took(&self, secret: &Name, holder: Holder, lives: Lives) {
        self.holders.took(secret, holder, lives);
        let Some(it) = self.lock().get(secret).cloned() else { return };
        if it.shown().waiting == Some(Waiting::Readers) {
            look_again(&it.shown);
            self.changed.notify_one();
        }
    }

    /// When `secret` is rotated next by itself; none: it is not.
    #[must_use]
    pub fn due(&self, secret: &Name) -> Option<Wall> {
        self.lock().get(secret)?.shown().due
    }

    /// The entry that is rotated at `place`, if a version that a rotation made is unfinished there: Pending, or Previous and
    /// not ended yet. What is put over it would be forgotten, and work on at the far side.
    pub async fn unfinished_at(&self, place: &Place) -> Option<Name> {
        let here = |it: &&Arc<Turning>| {
            let there = &it.rotation.place;
            (&there.store_name, &there.name) == (&place.store_name, &place.name)
        };
        let it = self.lock().values().find(here).cloned()?;
        let versions = self.versions(&it).await.ok()?;
        let ours = |stage| versions.at(stage).is_some_and(is_ours);
        let works_on = it.rotation.plan.overlap == Overlap::Two && ours(Stage::Previous);
        (ours(Stage::Pending) || works_on).then(|| it.rotation.name.clone())
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
                let most = longest(*waiting);
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
            let next = self.next(it, &versions, memory);
            if let Step::Rest { until, waiting } = next {
                return Ok((until, waiting));
            }
            tracing::info!(secret = %it.rotation.name, "rotation: {}", next.text(&it.rotation.plan));
            self.perform(it, next, &versions, memory).await?;
        }
        Err(Why::Internal("a rotation does not come to its end"))
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
        memory.asked &= memory.asked_of.as_ref() == current.as_ref().map(|(id, _)| id);
        let probe = &mut memory.probe;
        probe.us = self.us.clone();
        probe.due = if memory.asked { Some(now) } else { scheduled };
        // What this log's agent reserved is its own after a restart too: nobody else holds this log.
        let ours = pending.filter(|version| version.notes.get(Notes::AGENT) == Some(&*self.us));
        if let Some(ours) = ours.filter(|_| probe.attempt.is_none()) {
            (probe.attempt, memory.found) = (Some(ours.attempt.clone()), true);
        }
        probe.held = previous.is_some_and(|version| {
            let (holders, more) = self.holders.of(&rotation.name, &version.id);
            more || !holders.is_empty() || self.recalling.load(Ordering::Acquire)
        });
        let is_previous = |id: &Option<VersionId>| id.is_some() && id.as_ref() == previous.map(|version| &version.id);
        (probe.leaked, probe.revoked) = (is_previous(&memory.leaked), is_previous(&memory.revoked));
        let grace = if is_previous(&memory.without_grace) { Duration::ZERO } else { rotation.plan.grace };
        let plan = Plan { grace, ..rotation.plan.clone() };
        let mut shown = it.shown();
        (shown.due, shown.current) = (scheduled, current);
        shown.previous = previous.map(|version| version.id.clone());
        shown.pending = pending.map(|version| version.id.clone());
        step(versions, &memory.probe, &plan, now)
    }

    /// What an unfinished rotation waits for, if there is one.
    fn unfinished(&self, it: &Turning, versions: &Versions, memory: &mut Memory) -> Option<&'static str> {
        let next = self.next(it, versions, memory);
        if let Step::Rest { waiting, .. } = next {
            return (waiting != Waiting::Due).then_some(waiting.as_str());
        }
        (next != Step::Reserve).then_some("its next step")
    }

    async fn perform(&self, it: &Turning, next: Step, versions: &Versions, memory: &mut Memory) -> Result<(), Why> {
        match next {
            Step::Rest { .. } => Ok(()),
            Step::Reserve | Step::TakeOver => self.reserve(it, versions, memory).await,
            Step::List => self.list(it, versions, memory).await,
            Step::Clear(far_id) => self.clear(it, far_id, versions, memory).await,
            Step::Create => self.create(it, versions, memory).await,
            Step::Set => self.set(it, versions, memory).await,
            Step::Test => self.test(it, versions, memory).await,
            Step::Promote => self.promote(it, versions, memory).await,
            Step::Revoke => self.end(it, versions, memory).await,
            Step::Retire { left } => self.retire(it, versions, memory, left).await,
            Step::Undo => self.undo(it, versions, memory).await,
            Step::Baffled => {
                memory.probe.set = false;
                Err(Trouble::Refused("it was given a value, and does not accept it".into()).into())
            }
        }
    }

    async fn reserve(&self, it: &Turning, versions: &Versions, memory: &mut Memory) -> Result<(), Why> {
        let Rotation { rotator, place, plan, .. } = &it.rotation;
        let found = match plan.invents {
            Invents::Us => None,
            Invents::FarSide => within(rotator.list()).await?,
        };
        let attempt = Attempt::new(&*self.random).map_err(|_| Why::Internal("there is no randomness"))?;
        let notes = reservation(&self.us, &attempt, versions.at(Stage::Current), found.as_deref())?;
        let lease_ends = self.clock.now().wall + LEASE;
        if let Reserved::Ours(ours) = place.store.reserve(&place.name, &attempt, lease_ends, &notes).await? {
            let found = ours.notes.get(super::Label::NOTE) != notes.get(super::Label::NOTE);
            *memory = Memory {
                found,
                asked: false,
                probe: Probe { attempt: Some(attempt), ..Probe::default() },
                ..std::mem::take(memory)
            };
        }
        Ok(())
    }

    /// Renews the reservation: who has lost it is fenced off here, before the far side is touched.
    async fn hold(&self, it: &Turning, versions: &Versions, memory: &mut Memory) -> Result<Hold, Why> {
        let Place { store, name, .. } = &it.rotation.place;
        // An act that begins by then ends within the lease.
        let until = self.clock.now().deadline(LEASE.saturating_sub(ACT_TIMEOUT));
        let attempt = memory.probe.attempt.clone().ok_or(Why::Internal("no reservation is held"))?;
        let notes = Notes::default().with(Notes::AGENT, &self.us)?;
        match store.reserve(name, &attempt, self.clock.now().wall + LEASE, &notes).await {
            Ok(Reserved::Ours(ours)) => {
                let known = versions.at(Stage::Pending).map(|version| (super::Label::of(version), version.filled));
                let label = super::Label::of(&ours);
                if label.is_none() {
                    // Ours was over, and nothing stood in its place: this has made an empty one.
                    drop(store.retire(name, &ours.id, &attempt).await);
                } else if known == Some((label, ours.filled)) {
                    return Ok(Hold { attempt, until });
                }
                // Or it was another's in between: what we know of it is not what it is.
                Err(fenced(name, memory))
            }
            Ok(Reserved::Taken(_)) | Err(StoreError::Fenced(_)) => Err(fenced(name, memory)),
            Err(why) => Err(why.into()),
        }
    }

    async fn list(&self, it: &Turning, versions: &Versions, memory: &mut Memory) -> Result<(), Why> {
        let Rotation { rotator, plan, name, .. } = &it.rotation;
        let pending = versions.at(Stage::Pending).ok_or(Why::Internal("nothing is Pending"))?;
        let found = within(rotator.list()).await?;
        if found.is_none() && memory.found {
            let label = super::Label::of(pending).map(|label| label.to_string()).unwrap_or_default();
            tracing::error!(
                secret = %name,
                "the far side may have made a credential whose reply was lost, and does not tell what it holds: look there \
                 for `{label}` and end it"
            );
        }
        let found = found.unwrap_or_default();
        memory.probe.strays = Some(strays(&found, versions, pending, plan.exclusive));
        Ok(())
    }

    async fn clear(&self, it: &Turning, far_id: FarId, versions: &Versions, memory: &mut Memory) -> Result<(), Why> {
        let hold = self.hold(it, versions, memory).await?;
        let ended = Ended { far_id: Some(far_id.clone()), value: None };
        let current = self.held(it, versions.at(Stage::Current)).await?;
        self.act(it, Act::Undo, None, Some(&hold), it.rotation.rotator.revoke(&ended, current.as_ref())).await?;
        memory.probe.strays.iter_mut().for_each(|strays| strays.retain(|stray| *stray != far_id));
        Ok(())
    }

    async fn create(&self, it: &Turning, versions: &Versions, memory: &mut Memory) -> Result<(), Why> {
        let Rotation { rotator, plan, .. } = &it.rotation;
        let hold = self.hold(it, versions, memory).await?;
        let pending = versions.at(Stage::Pending).ok_or(Why::Internal("nothing is Pending"))?;
        let label = super::Label::of(pending).ok_or(Why::Internal("the reservation has no label"))?;
        let current = self.held(it, versions.at(Stage::Current)).await?;
        memory.found = true;
        let creating = rotator.create(&label, current.as_ref());
        let made = self.act(it, Act::Create, Some(&pending.id), Some(&hold), creating).await;
        let made = match made {
            Ok(made) => made,
            Err(Why::FarSide(trouble @ Trouble::Refused(_))) => {
                (memory.probe.refused, memory.given_up_for) = (true, Some(trouble));
                return Ok(());
            }
            Err(why) => return Err(why),
        };
        // A crash here leaves a credential that nobody knows where the far side has made it: it is looked for by its label.
        let mut notes = Notes::default();
        if let Some(far_id) = &made.far_id {
            notes = notes.with(FarId::NOTE, far_id.as_str())?;
        }
        if let Err(why) = self.fill(it, &hold.attempt, &made.value, &notes).await {
            if plan.invents == Invents::FarSide {
                let ended = Ended { far_id: made.far_id, value: Some(Arc::new(made.value)) };
                let revoking = rotator.revoke(&ended, current.as_ref());
                drop(self.act(it, Act::Undo, Some(&pending.id), None, revoking).await);
            }
            return Err(why);
        }
        memory.probe.accepted = (plan.invents == Invents::Us).then_some(false);
        memory.probe.settling = Some(self.clock.now().wall);
        Ok(())
    }

    /// Stores what was made, and does not give up soon: the far side may say it only once.
    async fn fill(
        &self,
        it: &Turning,
        attempt: &Attempt,
        value: &crate::secret::Secret,
        notes: &Notes,
    ) -> Result<(), Why> {
        let Place { store, name, .. } = &it.rotation.place;
        for _ in 1..MOST_FILLS {
            match store.fill(name, attempt, value, notes).await {
                Err(StoreError::Unavailable(_)) => tokio::time::sleep(Duration::from_secs(1)).await,
                filled => return filled.map(drop).map_err(Why::from),
            }
        }
        store.fill(name, attempt, value, notes).await.map(drop).map_err(Why::from)
    }

    async fn set(&self, it: &Turning, versions: &Versions, memory: &mut Memory) -> Result<(), Why> {
        let hold = self.hold(it, versions, memory).await?;
        let (new, current) = self.pending_and_current(it, versions).await?;
        let setting = it.rotation.rotator.set(&new, current.as_ref());
        match self.act(it, Act::Set, Some(&new.version), Some(&hold), setting).await {
            Ok(()) => {
                (memory.probe.set, memory.probe.accepted) = (true, None);
                memory.probe.settling = Some(self.clock.now().wall);
                Ok(())
            }
            Err(Why::FarSide(trouble @ Trouble::Refused(_))) => {
                (memory.probe.refused, memory.given_up_for) = (true, Some(trouble));
                Ok(())
            }
            Err(why) => Err(why),
        }
    }

    async fn test(&self, it: &Turning, versions: &Versions, memory: &mut Memory) -> Result<(), Why> {
        let hold = self.hold(it, versions, memory).await?;
        let (new, _) = self.pending_and_current(it, versions).await?;
        let accepted = self.act(it, Act::Test, Some(&new.version), Some(&hold), it.rotation.rotator.test(&new)).await?;
        memory.probe.accepted = Some(accepted);
        memory.probe.settling.get_or_insert(self.clock.now().wall);
        Ok(())
    }

    async fn promote(&self, it: &Turning, versions: &Versions, memory: &mut Memory) -> Result<(), Why> {
        let Rotation { name, place, .. } = &it.rotation;
        let pending = versions.at(Stage::Pending).ok_or(Why::Internal("nothing is Pending"))?;
        let promoting = place.store.promote(&place.name, &pending.attempt);
        let current = self.act(it, Act::Promote, Some(&pending.id), None, promoting).await?;
        let stands = (place.store.id(), place.store.change_counter());
        if let (Some(id), Some(changes)) = stands {
            let standing = Standing { store: place.store_name.clone(), id: id.into(), changes };
            drop(self.journal.enqueue(&Record::Store(&standing, Noted::Changed)));
        }
        (self.told)(name, &Happened::Promoted(current));
        memory.probe = Probe::default();
        // What was asked for is done, also where the reply to its reservation was lost.
        (memory.given_up_for, memory.found, memory.asked) = (None, false, false);
        Ok(())
    }

    async fn end(&self, it: &Turning, versions: &Versions, memory: &mut Memory) -> Result<(), Why> {
        let Rotation { name, rotator, .. } = &it.rotation;
        let previous = versions.at(Stage::Previous).ok_or(Why::Internal("nothing is Previous"))?;
        let (laggards, more) = self.holders.of(name, &previous.id);
        let former = self.held(it, Some(previous)).await?;
        let current = self.held(it, versions.at(Stage::Current)).await?;
        let ended = Ended { far_id: FarId::of(previous), value: former.map(|held| held.value) };
        if !laggards.is_empty() || more {
            let who: Vec<_> = laggards.iter().map(ToString::to_string).collect();
            tracing::warn!(secret = %name, version = %previous.id, "it is ended while these still hold it: {}", who.join(", "));
        }
        let revoking = rotator.revoke(&ended, current.as_ref());
        self.act(it, Act::Revoke, Some(&previous.id), None, revoking).await?;
        memory.revoked = Some(previous.id.clone());
        (self.told)(name, &Happened::Revoked(previous.id.clone()));
        Ok(())
    }

    async fn retire(&self, it: &Turning, versions: &Versions, memory: &mut Memory, left: bool) -> Result<(), Why> {
        let Rotation { name, place, .. } = &it.rotation;
        let previous = versions.at(Stage::Previous).ok_or(Why::Internal("nothing is Previous"))?;
        if left {
            tracing::warn!(
                secret = %name,
                "the former version was not made by bursar and is left at the far side: end it there, or set \
                 `exclusive = true` if nobody else makes credentials there"
            );
        }
        place.store.retire(&place.name, &previous.id, &previous.attempt).await?;
        self.holders.ended(name, &previous.id);
        (self.told)(name, &Happened::Retired(previous.id.clone()));
        (memory.probe, memory.leaked, memory.without_grace, memory.revoked) = (Probe::default(), None, None, None);
        Ok(())
    }

    async fn undo(&self, it: &Turning, versions: &Versions, memory: &mut Memory) -> Result<(), Why> {
        let Rotation { rotator, place, plan, .. } = &it.rotation;
        let hold = self.hold(it, versions, memory).await?;
        let pending = versions.at(Stage::Pending).ok_or(Why::Internal("nothing is Pending"))?;
        if pending.filled && is_ours(pending) {
            let (new, current) = self.pending_and_current(it, versions).await?;
            if plan.overlap == Overlap::Two {
                let ended = Ended { far_id: new.far_id, value: Some(new.value) };
                let revoking = rotator.revoke(&ended, current.as_ref());
                self.act(it, Act::Undo, Some(&pending.id), Some(&hold), revoking).await?;
            } else if plan.invents == Invents::Us {
                self.must_still_work(it, current.as_ref(), &hold, memory).await?;
            }
        }
        place.store.retire(&place.name, &pending.id, &hold.attempt).await?;
        memory.probe = Probe::default();
        let nothing_lost = !pending.filled || !is_ours(pending);
        match memory.given_up_for.take() {
            Some(why) => Err(why.into()),
            None if nothing_lost => Ok(()),
            None => Err(Trouble::Refused("it does not accept what it has made".into()).into()),
        }
    }

    /// A value that was set is given up only while the one before it works: it may be all that does.
    async fn must_still_work(
        &self,
        it: &Turning,
        current: Option<&Held>,
        hold: &Hold,
        memory: &mut Memory,
    ) -> Result<(), Why> {
        let Some(current) = current else { return Ok(()) };
        let works = it.rotation.rotator.test(current);
        if self.act(it, Act::Test, Some(&current.version), Some(hold), works).await? {
            return Ok(());
        }
        memory.probe.refused = false;
        let why = memory.given_up_for.take();
        Err(why
            .unwrap_or_else(|| Trouble::Refused("it accepts neither the new value nor the one before".into()))
            .into())
    }

    /// One act at the far side or on the store: intent, act, outcome. Not begun later than `hold` allows.
    async fn act<T, E: Into<Why>>(
        &self,
        it: &Turning,
        act: Act,
        version: Option<&VersionId>,
        hold: Option<&Hold>,
        doing: impl Future<Output = Result<T, E>> + Send,
    ) -> Result<T, Why> {
        let secret = SecretId::Entry(it.rotation.name.clone());
        let effect = Effect::Rotate { act, secret: &secret, version: version.map(VersionId::as_str) };
        let intent = Intent { actor: Actor::Bursar, effect };
        let intent = self.journal.append(&Record::Intent(intent)).await?.decision().index;
        let began = self.clock.now();
        let late = hold.is_some_and(|hold| hold.until.passed(began));
        let done = if late { Err(Why::Late(it.rotation.name.clone())) } else { within(doing).await };
        // A crash here leaves an intent without outcome: the next step asks the far side and the store.
        let took = self.clock.now().since(began);
        let detail = done.as_ref().map_or_else(ToString::to_string, |_| "done".into());
        self.count(act, done.is_ok());
        let result = match &done {
            Ok(_) => OutcomeOf::Done { detail: &detail },
            Err(why) => OutcomeOf::Failed { code: why.code(), detail: &detail },
        };
        drop(self.journal.enqueue(&Record::Outcome(Outcome { intent, result, took })));
        done
    }

    fn count(&self, act: Act, done: bool) {
        self.acts.count(match (act, done) {
            (act, true) => act.as_str(),
            (Act::Create, false) => "create_failed",
            (Act::Set, false) => "set_failed",
            (Act::Test, false) => "test_failed",
            (Act::Promote, false) => "promote_failed",
            (Act::Revoke, false) => "revoke_failed",
            (Act::Undo, false) => "undo_failed",
        });
    }

    async fn pending_and_current(&self, it: &Turning, versions: &Versions) -> Result<(Held, Option<Held>), Why> {
        let new = self.held(it, versions.at(Stage::Pending)).await?.ok_or(Why::Internal("nothing is Pending"))?;
        Ok((new, self.held(it, versions.at(Stage::Current)).await?))
    }

    /// A version with its value, if it has one.
    async fn held(&self, it: &Turning, version: Option<&Version>) -> Result<Option<Held>, Why> {
        let Some(version) = version.filter(|version| version.filled) else { return Ok(None) };
        let Place { store, name, .. } = &it.rotation.place;
        let (version, value) = store.read(name, &Which::Id(version.id.clone())).await?;
        Ok(Some(Held::of(&version, value)))
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
            holders: holders.iter().map(ToString::to_string).collect(),
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

/// `doing`, for as long as an act may take. What is cut off may have taken place.
async fn within<T, E: Into<Why>>(doing: impl Future<Output = Result<T, E>> + Send) -> Result<T, Why> {
    let late = || Trouble::Unavailable(format!("it did not answer within {} s", ACT_TIMEOUT.as_secs()));
    timeout(ACT_TIMEOUT, doing).await.map_or_else(|_| Err(late().into()), |done| done.map_err(Into::into))
}

/// The reservation is somebody else's by now: nothing that was known of it counts.
fn fenced(name: &StoredName, memory: &mut Memory) -> Why {
    (memory.probe, memory.given_up_for) = (Probe::default(), None);
    StoreError::Fenced(name.clone()).into()
}

/// Since when a version is served.
fn since(version: &Version) -> Wall {
    version.notes.promoted().unwrap_or(version.created)
}

/// How long to wait at most before the store is looked at again.
const fn longest(waiting: Waiting) -> Duration {
    match waiting {
        Waiting::Due | Waiting::Grace => LOOK,
        Waiting::Reserved | Waiting::Revoker | Waiting::Settling => TICK,
        Waiting::Readers => LOOK_FOR_READERS,
    }
}

fn look_again(shown: &Mutex<Shown>) {
    shown.lock().unwrap_or_else(PoisonError::into_inner).again = None;
}
