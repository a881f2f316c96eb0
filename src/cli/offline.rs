//! (E) What a verb does on the stores themselves while no agent runs, with its record.

use super::{Exit, Globals, Trouble};
use crate::access::{Action, Resource};
use crate::agent::Rooms;
use crate::audit::{NotDurable, Offline, Record};
use crate::config::{self, Settings};
use crate::store::StoreError;

/// Does `act` on the open stores, under their locks and the log's, and records it with what `act` says of it.
pub(super) fn on_stores<T>(
    globals: &Globals,
    done_to: (Action, Resource),
    act: impl AsyncFnOnce(&Rooms) -> Result<(T, String), StoreError>,
) -> Result<T, Trouble> {
    let read = config::load(&globals.config)?;
    runtime()?.block_on(async {
        let rooms = Rooms::open(&read.settings, None, None).await.map_err(|why| Trouble::failed(why.to_string()))?;
        let done = act(&rooms).await;
        recorded(rooms, &done_to, done).await
    })
}

/// The same under the log's lock alone: for a store that may not open.
pub(super) fn on_the_log<T>(
    globals: &Globals,
    done_to: (Action, Resource),
    act: impl AsyncFnOnce(&Rooms, &Settings) -> Result<(T, String), StoreError>,
) -> Result<T, Trouble> {
    let read = config::load(&globals.config)?;
    runtime()?.block_on(async {
        let rooms = Rooms::open_log(&read.settings).map_err(|why| Trouble::failed(why.to_string()))?;
        let done = act(&rooms, &read.settings).await;
        recorded(rooms, &done_to, done).await
    })
}

async fn recorded<T>(
    rooms: Rooms,
    (action, resource): &(Action, Resource),
    done: Result<(T, String), StoreError>,
) -> Result<T, Trouble> {
    let (result, detail) = match &done {
        Ok((_, detail)) => ("ok", detail.clone()),
        Err(error) => (error.code(), error.to_string()),
    };
    let uid = rustix::process::getuid().as_raw();
    let record = Record::Offline(Offline { uid, action: *action, resource, result, detail: &detail });
    let unrecorded = |why: NotDurable| Trouble::failed(format!("it is done, but not recorded: {why}"));
    let receipt = rooms.journal.append(&record).await.map_err(unrecorded)?;
    rooms.close("offline").await.map_err(unrecorded)?;
    let decision = receipt.decision().to_string();
    done.map(|(value, _)| value).map_err(|why| failed(&why).decision(Some(decision)))
}

/// What a store's error means: what is damaged may have been tampered with.
pub(super) fn failed(why: &StoreError) -> Trouble {
    let exit = if matches!(why, StoreError::Damaged(_)) { Exit::Tampering } else { Exit::Failed };
    Trouble::new(exit, why.to_string())
}

pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Trouble> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Trouble::failed(format!("the runtime cannot be started: {error}")))
}
