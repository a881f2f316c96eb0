//! (E) Account and group names, resolved to ids through the host's name service.
//!
//! The name service may ask a network; it is asked off the event loop, once for all connections, and what it
//! said is kept for [`KEPT`]. An account may come into being at any moment (a dynamic user of systemd has none
//! until its unit starts), so that a name without an id does not stand for long: a uid that is not known is asked
//! for by itself.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::{Group, Uid, User};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use super::Registry;
use crate::time::{Clock, Moment};

/// How long an answer is used. A dynamic user's uid can be given to another unit after its end.
const KEPT: Duration = Duration::from_secs(5);
/// How long a connection waits for the name service. After that the names are absent facts, for [`KEPT`].
const PATIENCE: Duration = Duration::from_secs(2);

/// How many accounts are asked for at once: a name service that hangs holds no more threads than these.
const MOST_ASKED: usize = 8;

/// The most uids that are remembered to have no name that anybody asks for.
const MOST_NAMELESS: usize = 1_024;

/// What the names of a registry stand for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    users: HashMap<u32, Vec<Box<str>>>,
    groups: HashMap<Box<str>, u32>,
}

impl Ids {
    /// Of (account, uid) and (group, gid) pairs.
    #[must_use]
    pub fn of(
        users: impl IntoIterator<Item = (Box<str>, u32)>,
        groups: impl IntoIterator<Item = (Box<str>, u32)>,
    ) -> Self {
        let mut ids = Self { groups: groups.into_iter().collect(), users: HashMap::new() };
        for (name, uid) in users {
            ids.users.entry(uid).or_default().push(name);
        }
        ids
    }

    /// The account names that stand for `uid`.
    #[must_use]
    pub fn users(&self, uid: u32) -> &[Box<str>] {
        self.users.get(&uid).map_or(&[], Vec::as_slice)
    }

    /// The gid that `group` stands for.
    #[must_use]
    pub fn gid(&self, group: &str) -> Option<u32> {
        self.groups.get(group).copied()
    }
}

/// The name service, with what it said last.
#[derive(Debug)]
pub(super) struct Names(Mutex<State>, Arc<Semaphore>);

impl Default for Names {
    fn default() -> Self {
        Self(Mutex::default(), Arc::new(Semaphore::new(MOST_ASKED)))
    }
}

#[derive(Debug, Default)]
struct State {
    known: Option<Known>,
    asking: Option<(u64, JoinHandle<Ids>)>,
}

#[derive(Debug)]
struct Known {
    generation: u64,
    at: Moment,
    ids: Arc<Ids>,
    /// The uids that were asked for by themselves, and have no name of the registry.
    nameless: HashSet<u32>,
}

impl Known {
    /// Whether `uid` may have a name of `registry` that had no id when it was asked for.
    fn may_have_a_name(&self, registry: &Registry, uid: u32) -> bool {
        let named: usize = self.ids.users.values().map(Vec::len).sum();
        named < registry.users().len() && self.ids.users(uid).is_empty() && !self.nameless.contains(&uid)
    }

    /// `uid` was asked for by itself.
    fn learn(&mut self, registry: &Registry, uid: u32, account: Option<String>) {
        match registry.users().iter().find(|name| account.as_deref() == Some(name)) {
            // Two connections may have asked at once, and a name that stands twice would be two matches.
            Some(name) if self.ids.users(uid).contains(name) => {}
            Some(name) => Arc::make_mut(&mut self.ids).users.entry(uid).or_default().push(name.clone()),
            None if self.nameless.len() < MOST_NAMELESS => drop(self.nameless.insert(uid)),
            None => {}
        }
    }
}

impl Names {
    /// What the names of `registry` stand for, now or at most [`KEPT`] ago, for a peer with `uid`.
    pub(super) async fn of(&self, registry: &Registry, uid: u32, clock: &dyn Clock) -> Arc<Ids> {
        if registry.users().is_empty() && registry.groups().is_empty() {
            return Arc::default();
        }
        let mut state = self.0.lock().await;
        let now = clock.now();
        let kept = |known: &Known| known.generation == registry.generation() && now.since(known.at) < KEPT;
        let known = match state.known.take().filter(kept) {
            Some(known) => known,
            None => {
                let ids = Arc::new(state.ask(registry).await);
                Known { generation: registry.generation(), at: now, ids, nameless: HashSet::new() }
            }
        };
        let (ids, may_have_a_name) = (Arc::clone(&known.ids), known.may_have_a_name(registry, uid));
        state.known = Some(known);
        // Others are not kept waiting for this one uid's account.
        drop(state);
        if may_have_a_name { self.learn(registry, uid, ids).await } else { ids }
    }

    /// Asks for `uid` by itself, unless another connection of it just did.
    async fn learn(&self, registry: &Registry, uid: u32, ids: Arc<Ids>) -> Arc<Ids> {
        let Ok(Ok(turn)) = timeout(PATIENCE, Arc::clone(&self.1).acquire_owned()).await else { return ids };
        if let Some(known) = self.0.lock().await.known.as_ref()
            && known.generation == registry.generation()
            && !known.may_have_a_name(registry, uid)
        {
            return Arc::clone(&known.ids);
        }
        let account = account_in(turn, uid).await;
        let mut state = self.0.lock().await;
        match state.known.as_mut().filter(|known| known.generation == registry.generation()) {
            Some(known) => {
                known.learn(registry, uid, account);
                Arc::clone(&known.ids)
            }
            None => ids,
        }
    }

    /// The account name of `uid`: for people to read.
    pub(super) async fn account(&self, uid: u32) -> Option<String> {
        let turn = timeout(PATIENCE, Arc::clone(&self.1).acquire_owned()).await.ok()?.ok()?;
        account_in(turn, uid).await
    }
}

impl State {
    /// A name service that hangs holds one thread, not one for each question.
    async fn ask(&mut self, registry: &Registry) -> Ids {
        let generation = registry.generation();
        let (asked, mut asking) = self.asking.take().unwrap_or_else(|| {
            let (users, groups) = (registry.users().to_vec(), registry.groups().to_vec());
            (generation, spawn_blocking(move || resolve(users, groups)))
        });
        match timeout(PATIENCE, &mut asking).await {
            Ok(Ok(ids)) if asked == generation => ids,
            Ok(_) => Ids::default(),
            Err(_) => {
                self.asking = Some((asked, asking));
                Ids::default()
            }
        }
    }
}

/// A name that does not exist, or of which the name service does not know, is absent.
fn resolve(users: Vec<Box<str>>, groups: Vec<Box<str>>) -> Ids {
    let uid = |name: &str| User::from_name(name).ok().flatten().map(|user| user.uid.as_raw());
    let gid = |name: &str| Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw());
    Ids::of(
        users.into_iter().filter_map(|name| uid(&name).map(|uid| (name, uid))),
        groups.into_iter().filter_map(|name| gid(&name).map(|gid| (name, gid))),
    )
}

/// The account name of `uid`; the turn ends when the name service has answered, however long it is waited for.
async fn account_in(turn: OwnedSemaphorePermit, uid: u32) -> Option<String> {
    let asked = spawn_blocking(move || {
        let account = User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name);
        drop(turn);
        account
    });
    timeout(PATIENCE, asked).await.ok()?.ok()?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::ManualClock;

    #[test]
    fn names_that_exist_stand_for_their_ids() {
        let ids = resolve(vec!["root".into(), "no-such-account".into()], vec!["root".into(), "no-such-group".into()]);
        assert_eq!((ids.users(0), ids.gid("root")), (&["root".into()][..], Some(0)));
        assert_eq!(ids.gid("no-such-group"), None);
    }

    #[tokio::test]
    async fn an_account_that_came_after_the_names_were_asked_for_is_found_by_its_uid() {
        let text = "[workload.a]\nuser = \"root\"\n[workload.b]\nuser = \"no-such-account\"\n";
        let registry = Registry::read("workloads.toml".as_ref(), text, None).unwrap();
        let (names, clock) = (Names::default(), ManualClock::default());
        let before =
            Known { generation: registry.generation(), at: clock.now(), ids: Arc::default(), nameless: HashSet::new() };
        names.0.lock().await.known = Some(before);
        let (one, other) = tokio::join!(names.of(&registry, 0, &clock), names.of(&registry, 0, &clock));
        assert_eq!(
            (one.users(0), other.users(0)),
            (&["root".into()][..], &["root".into()][..]),
            "once, though asked twice"
        );
        assert!(names.of(&registry, 54_321, &clock).await.users(54_321).is_empty());
        assert!(names.0.lock().await.known.as_ref().unwrap().nameless.contains(&54_321), "asked for once");
    }

    #[test]
    fn one_uid_may_have_several_names() {
        let ids = Ids::of([("root".into(), 0), ("toor".into(), 0)], []);
        assert_eq!(ids.users(0), ["root", "toor"].map(Box::<str>::from));
    }
}
