//! The notices: what this agent tells others that share a secret of who holds it here, and what it hears of them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::future::join_all;
use tokio::time::timeout;

use super::{Engine, LOOK_FOR_READERS, Turning, Uptake};
use crate::rotation::notice::{self, NOTICE_LEASE, Notice};
use crate::rotation::{ACT_TIMEOUT, Step, Waiting, has_leaked};
use crate::store::{Author, Notes, Noticeboard, Place, Posted, Stage, StoreError, VersionId, Versions};
use crate::time::Moment;

/// How many notices that ended long ago are taken down at a time.
const MOST_TAKEN_DOWN: usize = 16;

/// What this agent has told of one secret.
#[derive(Default)]
pub(super) struct Said {
    standing: Option<(Notice, Moment)>,
    /// Whether it could not be told last time, which was said.
    is_failing: bool,
}

impl Engine {
    /// Tells once of every secret whose readers count elsewhere too, for who drives the clock; [`keep_telling`] does it in
    /// time.
    pub async fn tell_all(&self) {
        let turning: Vec<_> = self.lock().values().cloned().collect();
        join_all(turning.iter().map(|it| self.tell(it))).await;
    }

    /// Puts up who holds what here, where that is due. A read never waits for it.
    async fn tell(&self, it: &Turning) {
        let Place { store, name, .. } = &it.rotation.place;
        let Some(board) = store.noticeboard().filter(|_| it.rotation.uptake == Uptake::Store) else { return };
        let mut said = it.said.lock().await;
        let now = self.clock.now();
        let (holders, others) = self.holders.all(&it.rotation.name);
        let until = now.wall + NOTICE_LEASE;
        let notice = Notice::new(&self.us, until, holders, others, self.recalling.load(Ordering::Acquire));
        let standing = said.standing.as_ref().map(|(standing, at)| (standing, now.since(*at)));
        if !notice.is_due(standing) {
            return;
        }
        match in_time(board.put_up(name, &Author::of(&self.us), &notice.text())).await {
            Ok(()) => *said = Said { standing: Some((notice, now)), is_failing: false },
            Err(why) if said.is_failing => tracing::debug!(secret = %it.rotation.name, "still untold: {why}"),
            Err(why) => {
                said.is_failing = true;
                tracing::warn!(
                    secret = %it.rotation.name,
                    "other agents cannot be told who holds it here, and may end what is held: {why}"
                );
            }
        }
    }

    /// Whether what comes `next` depends on who holds the former version at other agents. Only who revokes asks them.
    pub(super) fn asks_others(&self, it: &Turning, versions: &Versions, next: &Step) -> bool {
        let (current, previous) = (versions.at(Stage::Current), versions.at(Stage::Previous));
        let promoted_here = current.is_some_and(|version| version.notes.get(Notes::AGENT) == Some(&*self.us));
        let waits = matches!(next, Step::Rest { waiting: Waiting::Readers, .. });
        let may_wait = *next == Step::Revoke && !previous.is_some_and(has_leaked);
        it.rotation.uptake == Uptake::Store && (may_wait || waits && promoted_here)
    }

    /// Who holds `version` at other agents, in words. Where that cannot be heard, somebody is supposed to.
    pub(super) async fn elsewhere(&self, it: &Turning, version: &VersionId) -> Vec<String> {
        let Place { store, name, .. } = &it.rotation.place;
        let Some(board) = store.noticeboard() else { return vec!["somebody: its store carries no notices".to_owned()] };
        let (us, now) = (Author::of(&self.us), self.clock.now().wall);
        match in_time(board.posted(name)).await {
            Ok(posted) => {
                let who = notice::told_of(version, &posted, &us, now);
                if who.is_empty() {
                    self.clear_away(it, board, &posted).await;
                }
                who
            }
            Err(why) => vec![format!("somebody, perhaps: who holds it at other agents cannot be read: {why}")],
        }
    }

    /// Takes down what agents told that are long gone. What is left there counts as nobody all the same.
    async fn clear_away(&self, it: &Turning, board: &dyn Noticeboard, posted: &[Posted]) {
        for author in notice::long_over(posted, self.clock.now().wall).take(MOST_TAKEN_DOWN) {
            if let Err(why) = in_time(board.take_down(&it.rotation.place.name, author)).await {
                tracing::warn!(secret = %it.rotation.name, "the notice `{author}` of an agent that is gone stays: {why}");
                return;
            }
        }
    }
}

async fn in_time<T>(doing: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let late = |_| Err(StoreError::Unavailable("it did not answer".into()));
    timeout(ACT_TIMEOUT, doing).await.unwrap_or_else(late)
}

/// Tells others who holds what here, for as long as it is polled.
pub async fn keep_telling(engine: Arc<Engine>) {
    loop {
        engine.tell_all().await;
        tokio::select! {
            () = tokio::time::sleep(LOOK_FOR_READERS) => {}
            () = engine.handed.notified() => {}
        }
    }
}
