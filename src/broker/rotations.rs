//! What rotation means to the broker: who holds what was released, and what is in force once another version is.

use serde::Serialize;

use super::Broker;
use crate::access::{Resource, SecretId};
use crate::account::{SecretTerms, Terms};
use crate::events::What;
use crate::name::Name;
use crate::peer::Peer;
use crate::rotation::{self, Happened, Holder, State};
use crate::telemetry::metrics::{Metric, Page};
use crate::time::Wall;

/// What an operator wants done about a rotated secret.
#[derive(Clone, Copy, Debug)]
pub struct RotateAsk<'a> {
    /// Its entry.
    pub name: &'a Name,
    /// What is to be done.
    pub how: How,
    /// Why, in the operator's words: it stands in the record.
    pub reason: &'a str,
}

/// What is to be done about a rotated secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Say what a rotation would do.
    Rehearsed,
    /// Rotate it.
    Ordinary,
    /// Rotate it past its window, and end the former version without grace.
    Now,
    /// End the version that has leaked, at once.
    Leaked,
}

impl How {
    /// All there is.
    pub const ALL: [Self; 4] = [Self::Rehearsed, Self::Ordinary, Self::Now, Self::Leaked];

    /// The word on the admin socket.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Rehearsed => "rehearse",
            Self::Ordinary => "rotate",
            Self::Now => "now",
            Self::Leaked => "revoke",
        }
    }

    /// What stands in the record.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Rehearsed => "a rehearsal",
            Self::Ordinary => "a rotation",
            Self::Now => "a rotation past window and grace",
            Self::Leaked => "the end of a leaked version",
        }
    }
}

/// What became of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Rotated {
    /// What a rotation would do, where that was asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<String>,
    /// Who held the version that has leaked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub held_by: Vec<String>,
    /// How the rotation stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<rotation::Status>,
}

const STATES: Metric =
    Metric::gauge("bursar_rotations", "How many rotations are so: unknown, idle, running, waiting, failing.");
const OVERDUE: Metric = Metric::gauge(
    "bursar_rotations_overdue",
    "How many rotations are overdue: their version is older than `max_age`, or they are due and fail.",
);
const ACTS: Metric = Metric::counter(
    "bursar_rotation_acts_total",
    "What was done for rotations: create, set, test, promote, revoke, undo; and each in vain.",
);

impl Broker {
    /// Writes how rotations do onto `page`.
    pub(super) fn rotation_metrics(&self, page: &mut Page) {
        let Some(engine) = &self.rotation else { return };
        let all = engine.status();
        let mut family = page.family(&STATES);
        for state in State::ALL {
            family.sample(&[("state", state.as_str())], all.iter().filter(|one| one.state == state).count());
        }
        page.single(&OVERDUE, all.iter().filter(|one| one.overdue).count());
        page.family(&ACTS).tally(&[], "act", &engine.acts);
    }

    /// What a rotation has done is in force here at once: held values are read anew, those who wait or listen hear of it,
    /// and providers that refused what was replaced are asked again.
    pub fn rotated(&self, name: &Name, happened: &Happened) {
        let (rules, id) = (self.rules.load_full(), SecretId::Entry(name.clone()));
        match happened {
            Happened::Promoted(_) => {
                rules.shelf.find(&id).iter().for_each(|place| self.kept.written(place));
                rules.providers.values().for_each(|provider| provider.forgive());
            }
            Happened::Revoked(_) => self.events.publish(What::Revoked, Resource::Secret(id)),
            Happened::Retired(_) => {}
        }
    }

    /// From here on the peer's process holds the version of `secret` that `terms` tell of, if that is rotated; when that is
    /// due next by itself.
    pub(super) fn holds(&self, peer: &Peer, workload: Name, secret: &str, terms: &Terms) -> Option<Wall> {
        let (engine, secret): (_, Name) = self.rotation.as_ref().zip(secret.parse().ok())?;
        let Terms::Secret(SecretTerms { version, .. }) = terms else { return None };
        if !engine.rotates(&secret) {
            return None;
        }
        if let Ok(version) = version.parse() {
            engine.took(&secret, Holder { workload, pid: Some(peer.pid()), version }, peer.lives());
        }
        engine.due(&secret)
    }

    /// Does what was asked, which has been allowed.
    pub(super) async fn rotated_as(&self, ask: &RotateAsk<'_>) -> Result<Rotated, rotation::Why> {
        let unknown = || rotation::Why::Unknown(ask.name.clone());
        let engine = self.rotation.as_ref().ok_or_else(unknown)?;
        Ok(match ask.how {
            How::Rehearsed => Rotated { steps: engine.rehearse(ask.name).await?, ..Rotated::default() },
            How::Ordinary => Rotated { status: Some(engine.rotate(ask.name, false).await?), ..Rotated::default() },
            How::Now => Rotated { status: Some(engine.rotate(ask.name, true).await?), ..Rotated::default() },
            How::Leaked => {
                let (held_by, status) = engine.revoke(ask.name).await?;
                Rotated { held_by, status: Some(status), ..Rotated::default() }
            }
        })
    }
}
