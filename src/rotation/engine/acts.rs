//! The acts: each step of a rotation, between its intent and its outcome.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::{Engine, Happened, Memory, Rotation, Turning, Why};
use crate::access::SecretId;
use crate::audit::{Act, Actor, Effect, Intent, Noted, Outcome, OutcomeOf, Record, Standing};
use crate::name::StoredName;
use crate::rotation::{
    ACT_TIMEOUT, Ended, FarId, Held, Invents, LEASE, Label, Overlap, Probe, Step, Trouble, is_ours, reservation, strays,
};
use crate::secret::Secret;
use crate::store::{Attempt, Notes, Place, Reserved, Stage, StoreError, Version, VersionId, Versions, Which};
use crate::time::Deadline;

/// How often a value that the far side has made is offered to a store that cannot be written, a second apart.
const MOST_FILLS: u32 = 20;

/// A reservation that was just renewed.
struct Hold {
    attempt: Attempt,
    /// No act at the far side begins later: a process that slept may have been replaced.
    until: Deadline,
}

impl Engine {
    /// Does one step.
    pub(super) async fn perform(
        &self,
        it: &Turning,
        next: Step,
        versions: &Versions,
        memory: &mut Memory,
    ) -> Result<(), Why> {
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
        let current = versions.at(Stage::Current);
        let without_grace = memory.asked.as_ref().is_some_and(|asked| asked.without_grace);
        let notes = reservation(&self.us, &attempt, current, without_grace, found.as_deref())?;
        let lease_ends = self.clock.now().wall + LEASE;
        if let Reserved::Ours(ours) = place.store.reserve(&place.name, &attempt, lease_ends, &notes).await? {
            let found = ours.notes.get(Label::NOTE) != notes.get(Label::NOTE);
            *memory = Memory {
                found,
                asked: None,
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
                let known = versions.at(Stage::Pending).map(|version| (Label::of(version), version.filled));
                let label = Label::of(&ours);
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
            let label = Label::of(pending).map(|label| label.to_string()).unwrap_or_default();
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
        let label = Label::of(pending).ok_or(Why::Internal("the reservation has no label"))?;
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
    async fn fill(&self, it: &Turning, attempt: &Attempt, value: &Secret, notes: &Notes) -> Result<(), Why> {
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
        (memory.given_up_for, memory.found, memory.asked) = (None, false, None);
        Ok(())
    }

    async fn end(&self, it: &Turning, versions: &Versions, memory: &mut Memory) -> Result<(), Why> {
        let Rotation { name, rotator, .. } = &it.rotation;
        let previous = versions.at(Stage::Previous).ok_or(Why::Internal("nothing is Previous"))?;
        let (laggards, more) = self.holders.of(name, &previous.id);
        let who = laggards.iter().map(ToString::to_string).chain(it.shown().elsewhere.clone());
        let who = who.chain(more.then(|| "others".into())).collect::<Vec<_>>().join(", ");
        let former = self.held(it, Some(previous)).await?;
        let current = self.held(it, versions.at(Stage::Current)).await?;
        let ended = Ended { far_id: FarId::of(previous), value: former.map(|held| held.value) };
        let mut done = "done".to_owned();
        if !who.is_empty() {
            tracing::warn!(secret = %name, version = %previous.id, "it is ended while these still hold it: {who}");
            done = format!("done; it was still held by {who}");
        }
        let revoking = rotator.revoke(&ended, current.as_ref());
        self.act_as(it, Act::Revoke, Some(&previous.id), None, &done, revoking).await?;
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
        (memory.probe, memory.leaked, memory.revoked) = (Probe::default(), None, None);
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
        self.act_as(it, act, version, hold, "done", doing).await
    }

    /// The same, of which the outcome says `said` where it was done.
    async fn act_as<T, E: Into<Why>>(
        &self,
        it: &Turning,
        act: Act,
        version: Option<&VersionId>,
        hold: Option<&Hold>,
        said: &str,
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
        let detail = done.as_ref().map_or_else(ToString::to_string, |_| said.to_owned());
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
