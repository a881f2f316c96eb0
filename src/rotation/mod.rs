//! Rotation: long-lived credentials that change on schedule, and survive any crash.
//!
//! ```text
//!             ┌──────────── Undo ◄───────────┐
//!             ▼                              │ refused, or never accepted
//! due ──► Reserve ──► Create ──► Set ──► Test ──► Promote ──► (grace, uptake) ──► Revoke ──► Retire
//!         Pending     filled      the far side     Current,      both work         Previous   Retired
//!                                 accepts it       Previous
//! ```
//!
//! What has been done stands in the versions and their notes, and at the far side, and nowhere else: [`step`] looks at
//! both and says what comes next, so that a start after a crash, another agent that takes over, and the ordinary next
//! step are one and the same.

pub mod access_key;
mod admin;
pub mod client_secret;
mod engine;
pub mod exec;
mod holders;
pub mod http;
pub mod login;
#[doc(hidden)]
pub mod notice;
pub mod postgres;
pub mod random;
pub mod redis_acl;
mod rotator;
pub mod schedule;
pub mod signing_key;
mod status;
#[cfg(test)]
mod tests;
pub mod trial;

use std::time::Duration;

use crate::crypto::Digest;
use crate::store::{Attempt, Notes, Stage, StoreError, Version, Versions};
use crate::time::Wall;

pub use admin::Admin;
pub use engine::{Engine, Happened, Rotation, Told, Why, keep_telling, keep_turning};
pub use holders::{Holder, Holders, Lives};
pub use rotator::{Created, Ended, FarId, Found, Held, Invents, Label, Overlap, Rotator, Trouble};
pub use schedule::Schedule;
pub use status::{State, Status, rehearsal};

/// How long one act at the far side may take.
pub const ACT_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a reservation holds without being renewed: it is renewed before each act, so that an act always ends within it.
pub const LEASE: Duration = Duration::from_secs(60);
/// How long the agent that promoted is left alone with what is to be revoked, before another does it.
const REVOKER_ABSENT: Duration = Duration::from_secs(600);
/// How soon at the earliest, and at the latest, the far side is asked again whether it accepts a value by now.
const SETTLING_ASKED: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// The word of a version that a rotation made, in the note [`Notes::BY`].
pub const BY_ROTATION: &str = "rotation";
/// The note that names, by its attempt, the version that was Current when the reservation was decided on.
const REPLACES: &str = "replaces";
/// Stands in it where there was none.
const NOTHING: &str = "nothing";
/// The note that says, with its attempt, that the version it replaces ends without grace: readers are waited for.
const WITHOUT_GRACE: &str = "without_grace";
/// The note of a version that has leaked, as an operator says: it is replaced at once, and then nobody is waited for.
const LEAKED: &str = "leaked";
/// The note that holds what the far side held before: a short digest of each id.
const BEFORE: &str = "before";
/// How many credentials at the far side a note remembers.
const MOST_BEFORE: usize = 56;

/// What a rotation may count on, and how patient it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How many values the far side accepts at once.
    pub overlap: Overlap,
    /// Who chooses the value.
    pub invents: Invents,
    /// How long the far side may take to accept a value.
    pub settles_within: Duration,
    /// How long the former version stays valid after another was promoted.
    pub grace: Duration,
    /// How long after the promotion readers are waited for that still hold the former version.
    pub uptake_deadline: Duration,
    /// Whether nobody else makes credentials there, so that what belongs to no version is ours.
    pub exclusive: bool,
}

/// Whose readers are waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uptake {
    /// Those of this agent.
    Local,
    /// Those of every agent that shares the secret: they tell each other on the board of its store.
    Store,
}

/// What is known beside the versions.
#[derive(Clone, Debug, Default)]
pub struct Probe {
    /// Who we are, as the note [`Notes::AGENT`] names a holder.
    pub us: Box<str>,
    /// When the next rotation is due; none: it is not.
    pub due: Option<Wall>,
    /// The attempt with which we hold the reservation.
    pub attempt: Option<Attempt>,
    /// What of ours is at the far side and belongs to no version that will be; none: it was not asked.
    pub strays: Option<Vec<FarId>>,
    /// Whether the far side accepts the Pending version; none: it was not asked.
    pub accepted: Option<bool>,
    /// Whether it was told to accept it, by us, since we began.
    pub set: bool,
    /// Since when it has been asked to accept the Pending version.
    pub settling: Option<Wall>,
    /// Whether it has refused for good to make or to accept one.
    pub refused: bool,
    /// Whether readers are known, or must be supposed, to hold the Previous version.
    pub held: bool,
    /// Whether we were told that the Previous version has leaked: nobody is waited for.
    pub leaked: bool,
    /// Whether the Previous version has been ended at the far side.
    pub revoked: bool,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing, before `until`.
    Rest {
        /// When to look again; none: when something changes.
        until: Option<Wall>,
        /// What for.
        waiting: Waiting,
    },
    /// Make the reservation.
    Reserve,
    /// Take over a reservation whose lease has passed.
    TakeOver,
    /// Ask the far side what it holds.
    List,
    /// End what a lost reply left at the far side.
    Clear(FarId),
    /// Make the value, and store it.
    Create,
    /// Make the far side accept it.
    Set,
    /// Ask whether the far side accepts it.
    Test,
    /// Make it Current.
    Promote,
    /// End the Previous version at the far side.
    Revoke,
    /// Say in the store that the Previous version is over.
    Retire {
        /// Whether it was left as it is at the far side, since bursar did not make it.
        left: bool,
    },
    /// Give the Pending version up: end it at the far side where that may know it, and retire it.
    Undo,
    /// The far side was told to accept the value, and does not: begin again, later.
    Baffled,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// The schedule, or an operator.
    Due,
    /// Another agent, or a `put`, that holds the reservation.
    Reserved,
    /// The far side, which accepts the value after a while.
    Settling,
    /// The grace period.
    Grace,
    /// Readers that hold the former version.
    Readers,
    /// The agent that promoted, which revokes.
    Revoker,
}

/// What comes next, given the versions in the store and what is known beside them.
#[must_use]
pub fn step(versions: &Versions, probe: &Probe, plan: &Plan, now: Wall) -> Step {
    let current = versions.at(Stage::Current);
    match (versions.at(Stage::Pending), versions.at(Stage::Previous)) {
        // Only the last step of a promotion is missing.
        (Some(pending), _) if pending.stages.has(Stage::Current) => Step::Promote,
        (Some(pending), _) => unfinished(pending, current, probe, plan, now),
        (None, Some(previous)) if is_ours(previous) || current.is_some_and(is_ours) => {
            replaced(previous, current, probe, plan, now)
        }
        (None, _) if current.is_some_and(has_leaked) => Step::Reserve,
        (None, _) => match probe.due {
            Some(due) if due <= now => Step::Reserve,
            until => Step::Rest { until, waiting: Waiting::Due },
        },
    }
}

/// A version is Pending.
fn unfinished(pending: &Version, current: Option<&Version>, probe: &Probe, plan: &Plan, now: Wall) -> Step {
    if probe.attempt.as_ref() != Some(&pending.attempt) {
        return match pending.notes.lease_ends().filter(|ends| now < *ends) {
            until @ Some(_) => Step::Rest { until, waiting: Waiting::Reserved },
            None => Step::TakeOver,
        };
    }
    // A `put` that never came to its end promised nothing to anybody.
    if !is_ours(pending) || !pending.filled && is_overtaken(pending, current) {
        return Step::Undo;
    }
    match (pending.filled, &probe.strays) {
        (true, _) => filled(probe, plan, now),
        (false, _) if probe.refused => Step::Undo,
        (false, _) if plan.invents == Invents::Us => Step::Create,
        (false, None) => Step::List,
        (false, Some(strays)) => strays.first().map_or(Step::Create, |stray| Step::Clear(stray.clone())),
    }
}

/// Whether another version became Current between the decision to rotate and the reservation: what was due is done.
fn is_overtaken(pending: &Version, current: Option<&Version>) -> bool {
    pending.notes.get(REPLACES).is_some_and(|replaced| replaced != word_of(current))
}

/// How the note [`REPLACES`] names a version.
fn word_of(current: Option<&Version>) -> &str {
    current.map_or(NOTHING, |version| version.attempt.as_str())
}

/// The Pending version has its value.
fn filled(probe: &Probe, plan: &Plan, now: Wall) -> Step {
    let since = probe.settling.unwrap_or(now);
    let settled = since + plan.settles_within;
    match (probe.accepted, plan.invents) {
        (Some(true), _) => Step::Promote,
        (None, _) => Step::Test,
        (Some(false), _) if probe.refused => Step::Undo,
        (Some(false), Invents::Us) if !probe.set => Step::Set,
        (Some(false), _) if now < settled => {
            // Who keeps what it knows for an hour is not asked each second.
            let again = ((now - since) / 4).clamp(SETTLING_ASKED.0, SETTLING_ASKED.1);
            Step::Rest { until: Some((now + again).min(settled)), waiting: Waiting::Settling }
        }
        // What we set is perhaps all that works by now: it is not given up.
        (Some(false), Invents::Us) => Step::Baffled,
        (Some(false), Invents::FarSide) => Step::Undo,
    }
}

/// A version is Previous: another was promoted in its place.
fn replaced(previous: &Version, current: Option<&Version>, probe: &Probe, plan: &Plan, now: Wall) -> Step {
    if plan.overlap == Overlap::One || probe.revoked {
        return Step::Retire { left: false };
    }
    if !is_ours(previous) && !plan.exclusive {
        return Step::Retire { left: true };
    }
    if probe.leaked {
        return Step::Revoke;
    }
    let promoted = current.and_then(|version| version.notes.promoted()).unwrap_or(now);
    let without_grace = current.and_then(|version| version.notes.get(WITHOUT_GRACE)) == Some(previous.attempt.as_str());
    let (over, deadline) = match (has_leaked(previous), without_grace) {
        (true, _) => (now, promoted),
        (false, true) => (now, promoted + plan.uptake_deadline),
        (false, false) => (promoted + plan.grace, promoted + plan.uptake_deadline.max(plan.grace)),
    };
    if now < over {
        return Step::Rest { until: Some(over), waiting: Waiting::Grace };
    }
    if probe.held && now < deadline {
        return Step::Rest { until: Some(deadline), waiting: Waiting::Readers };
    }
    let revoker = current.and_then(|version| version.notes.get(Notes::AGENT));
    let absent = deadline + REVOKER_ABSENT;
    if revoker.is_some_and(|revoker| *revoker != *probe.us) && now < absent {
        return Step::Rest { until: Some(absent), waiting: Waiting::Revoker };
    }
    Step::Revoke
}

/// Whether a version that is the rotation's to end is not over: Pending, or Previous. What is put over it would be forgotten,
/// and work on at the far side.
#[must_use]
pub fn is_unfinished(versions: &Versions, overlap: Overlap, exclusive: bool) -> bool {
    versions.at(Stage::Pending).is_some_and(is_ours) || overlap == Overlap::Two && former(versions, exclusive).is_some()
}

/// The Previous version that is the rotation's to end: one of its own, or one made by hand that it has replaced, where nobody
/// else makes any.
fn former(versions: &Versions, exclusive: bool) -> Option<&Version> {
    let has_replaced = versions.at(Stage::Current).is_some_and(is_ours);
    versions.at(Stage::Previous).filter(|version| is_ours(version) || exclusive && has_replaced)
}

/// Whether a rotation made it.
#[must_use]
pub fn is_ours(version: &Version) -> bool {
    version.notes.get(Notes::BY) == Some(BY_ROTATION)
}

/// Whether it has leaked, as an operator says.
fn has_leaked(version: &Version) -> bool {
    version.notes.get(LEAKED).is_some()
}

/// What is at the far side and is to be ended before another is made there: what was made for `pending` and got lost,
/// and what belongs to a version of ours that is over.
#[must_use]
pub fn strays(found: &[Found], versions: &Versions, pending: &Version, exclusive: bool) -> Vec<FarId> {
    let label = Label::of(pending);
    let before = pending.notes.get(BEFORE);
    let is_stray = |found: &&Found| {
        let owner = versions.iter().find(|version| FarId::of(version).as_ref() == Some(&found.far_id));
        match owner {
            Some(version) => is_ours(version) && version.stages.has(Stage::Retired),
            None if found.label.is_some() => found.label == label || is_left_over(found.label.as_ref(), versions),
            None => exclusive && before.is_some_and(|before| !before.split(',').any(|one| one == short(&found.far_id))),
        }
    };
    found.iter().filter(is_stray).map(|found| found.far_id.clone()).collect()
}

/// Whether a reservation of ours that came to nothing, or that a `put` took over, left what bears its label.
fn is_left_over(label: Option<&Label>, versions: &Versions) -> bool {
    let owner = versions.iter().find(|version| Label::of(version).as_ref() == label);
    owner.is_some_and(|version| version.stages.has(Stage::Retired) || !is_ours(version))
}

/// The notes of a new reservation: by whom, in place of what and whether that ends without grace, under which label, and
/// what the far side held before.
///
/// # Errors
/// [`StoreError::Invalid`] where a bound is passed.
pub fn reservation(
    us: &str,
    attempt: &Attempt,
    current: Option<&Version>,
    without_grace: bool,
    found: Option<&[Found]>,
) -> Result<Notes, StoreError> {
    let mut notes = Notes::default()
        .with(Notes::BY, BY_ROTATION)?
        .with(Notes::AGENT, us)?
        .with(REPLACES, word_of(current))?
        .with(Label::NOTE, Label::new(attempt).as_str())?;
    if without_grace {
        notes = notes.with(WITHOUT_GRACE, word_of(current))?;
    }
    match found {
        // More than a note holds: what belongs to no version is then nobody's.
        Some(found) if found.len() <= MOST_BEFORE => {
            let before: Vec<_> = found.iter().map(|found| short(&found.far_id)).collect();
            notes.with(BEFORE, &before.join(","))
        }
        Some(_) | None => Ok(notes),
    }
}

/// 8 hexadecimal digits of SHA-256 of an id.
fn short(far_id: &FarId) -> String {
    let digest = Digest::of(far_id.as_str().as_bytes());
    digest.bytes().iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}
