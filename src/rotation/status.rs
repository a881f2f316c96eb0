//! What is shown of a rotation, and what a rotation would do.

use serde::{Deserialize, Serialize};

use super::{Invents, Overlap, Plan, Probe, Step, Waiting, step};
use crate::store::{Attempt, Notes, Reserved, Stage, StoreError, VersionId, Versions};
use crate::time::Wall;

/// How a rotation does, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nobody has looked yet.
    Unknown,
    /// Nothing is to be done before it is due.
    Idle,
    /// A step is being done.
    Running,
    /// Somebody or something is waited for.
    Waiting,
    /// The last step failed; it is tried again.
    Failing,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Unknown, Self::Idle, Self::Running, Self::Waiting, Self::Failing];

    /// The word in status and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Idle => "idle",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Failing => "failing",
        }
    }
}

/// How the rotation of one secret stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The secret's entry.
    pub secret: String,
    /// What performs it.
    pub rotator: String,
    /// How it does.
    pub state: State,
    /// What is waited for, in words; none: nothing.
    pub waiting_for: Option<String>,
    /// Who still holds the former version: the laggards, those of other agents too where they count.
    pub holders: Vec<String>,
    /// When it goes on by itself (RFC 3339).
    pub next_at: Option<String>,
    /// When the next rotation is due (RFC 3339); none: an operator starts it.
    pub due_at: Option<String>,
    /// Whether the Current version is older than `max_age`, or a rotation that is due has failed.
    pub overdue: bool,
    /// The Current version.
    pub current: Option<String>,
    /// When it became so (RFC 3339).
    pub current_since: Option<String>,
    /// The former version, while it is not over.
    pub previous: Option<String>,
    /// The version that is being made.
    pub pending: Option<String>,
    /// How many times in a row it has failed.
    pub failures: u32,
    /// What failed last, since the last success.
    pub last_error: Option<String>,
}

impl Waiting {
    /// In words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Due => "its time",
            Self::Reserved => "whoever holds the reservation",
            Self::Settling => "the far side to accept it",
            Self::Grace => "the end of the grace period",
            Self::Readers => "readers that hold the former version",
            Self::Revoker => "the agent that promoted, which revokes",
        }
    }
}

impl Step {
    /// What it does, for an operator who asks beforehand.
    #[must_use]
    pub fn text(&self, plan: &Plan) -> String {
        let far_invents = plan.invents == Invents::FarSide;
        match self {
            Self::Rest { until, waiting } => {
                let until =
                    until.map(|at| format!(", until {at} at the latest", at = at.rfc3339())).unwrap_or_default();
                format!("wait for {}{until}", waiting.as_str())
            }
            Self::Reserve => "reserve a new version in the store".into(),
            Self::TakeOver => "take over the reservation whose lease has passed".into(),
            Self::List => "ask the far side what it holds".into(),
            Self::Clear(far_id) => format!("end `{far_id}` at the far side, which a lost reply left there"),
            Self::Create if far_invents => "have the far side make a credential, and store it".into(),
            Self::Create => "make a value, and store it".into(),
            Self::Set if plan.overlap == Overlap::One => "set it at the far side: the former one ends with that".into(),
            Self::Set => "set it at the far side, beside the former one".into(),
            Self::Test => "use it at the far side, as a reader would".into(),
            Self::Promote => "make it Current: readers get it from here on".into(),
            Self::Revoke => "end the former one at the far side".into(),
            Self::Retire { left: false } => "retire the former version in the store".into(),
            Self::Retire { left: true } => {
                "retire the former version in the store; at the far side it is left, since bursar did not make it"
                    .into()
            }
            Self::Undo => "give the new version up".into(),
            Self::Baffled => "begin again later".into(),
        }
    }
}

/// What a rotation that began now would do, if every act succeeded and no reader held on: the rehearsal of `--dry-run`.
/// It touches nothing.
///
/// # Errors
/// The store's, where its versions do not allow a step.
pub fn rehearsal(versions: &Versions, plan: &Plan, us: &str, now: Wall) -> Result<Vec<Step>, StoreError> {
    let (mut versions, mut now, mut steps) = (versions.clone(), now, Vec::new());
    let mut probe = Probe { us: us.into(), due: Some(now), ..Probe::default() };
    for nth in 0..64_u8 {
        let next = step(&versions, &probe, plan, now);
        if let Step::Rest { until, waiting } = next {
            match until.filter(|_| waiting != Waiting::Due) {
                Some(until) => now = until,
                None => break,
            }
        } else {
            rehearse(&next, nth, &mut versions, &mut probe, plan, now)?;
        }
        steps.push(next);
    }
    Ok(steps)
}

fn rehearse(
    step: &Step,
    nth: u8,
    versions: &mut Versions,
    probe: &mut Probe,
    plan: &Plan,
    now: Wall,
) -> Result<(), StoreError> {
    let attempt = probe.attempt.clone().unwrap_or(Attempt::from_bytes([nth; 16]));
    let previous = versions.at(Stage::Previous).map(|version| (version.id.clone(), version.attempt.clone()));
    let pending = versions.at(Stage::Pending).map(|version| (version.id.clone(), version.attempt.clone()));
    match step {
        Step::Reserve | Step::TakeOver => {
            let id: VersionId = format!("rehearsed-{nth}").parse()?;
            let notes = super::reservation(&probe.us, &attempt, versions.at(Stage::Current), false, None)?;
            if let Reserved::Ours(ours) = versions.reserve(now, id, &attempt, now + super::LEASE, &notes)? {
                (probe.attempt, probe.due) = (Some(ours.attempt), None);
            }
        }
        Step::List | Step::Clear(_) => probe.strays = Some(Vec::new()),
        Step::Create => {
            versions.fill(&attempt, &Notes::default())?;
            probe.accepted = (plan.invents == Invents::Us).then_some(false);
        }
        Step::Set => (probe.set, probe.accepted) = (true, None),
        Step::Test => probe.accepted = Some(true),
        Step::Promote => {
            versions.promote(now, &attempt)?;
        }
        Step::Revoke => probe.revoked = true,
        Step::Retire { .. } => {
            if let Some((id, attempt)) = previous {
                versions.retire(&id, &attempt)?;
            }
        }
        Step::Undo => {
            if let Some((id, attempt)) = pending {
                versions.retire(&id, &attempt)?;
            }
        }
        Step::Rest { .. } | Step::Baffled => {}
    }
    Ok(())
}
