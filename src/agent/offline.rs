//! (E) What a command does on the rooms while no agent runs, with the records of it.

use rustix::process::getuid;

use super::Rooms;
use crate::access::SecretId;
use crate::audit::{Actor, Effect, Intent, Noted, Outcome, OutcomeOf, Record};
use crate::broker::{PUT_LEASE, standing};
use crate::secret::Secret;
use crate::store::{self, Attempt, Place, StoreError, VersionId};

impl Rooms {
    /// Puts `value` as a new version of `id`, which stands at `place`, with the records of an intent and its outcome.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Unavailable`] also where the intent cannot be recorded, and nothing is done then.
    pub async fn put(&self, id: &SecretId, place: &Place, value: &Secret) -> Result<VersionId, StoreError> {
        let (actor, effect) = (Actor::Offline(getuid().as_raw()), Effect::Put { secret: id });
        let unavailable = |why: &dyn std::fmt::Display| StoreError::Unavailable(why.to_string());
        let intent = self.journal.append(&Record::Intent(Intent { actor, effect })).await;
        let intent = intent.map_err(|why| unavailable(&why))?.decision().index;
        let attempt = Attempt::new(&*self.random).map_err(|why| unavailable(&why))?;
        let began = self.clock.now();
        let stored = store::put(&*place.store, &place.name, value, &attempt, began.wall + PUT_LEASE).await;
        let took = self.clock.now().since(began);
        let detail = stored.as_ref().map_or_else(ToString::to_string, ToString::to_string);
        let result = match &stored {
            Ok(_) => OutcomeOf::Stored { version: &detail },
            Err(error) => OutcomeOf::Failed { code: error.code(), detail: &detail },
        };
        drop(self.journal.enqueue(&Record::Outcome(Outcome { intent, result, took })));
        // Also where it failed: a part of it may have been written.
        if let Some(standing) = standing(&place.store_name, &*place.store) {
            drop(self.journal.enqueue(&Record::Store(&standing, Noted::Changed)));
        }
        stored
    }
}
