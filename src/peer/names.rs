//! (E) Account and group names, resolved to ids through the host's name service.
//!
//! The name service may ask a network; it is asked off the event loop, once for all connections, and what it
//! said is kept for [`KEPT`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::{Group, Uid, User};
use tokio::sync::Mutex;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use super::Registry;
use crate::time::{Clock, Moment};

/// How long an answer is used. A dynamic user's uid can be given to another unit after its end.
const KEPT: Duration = Duration::from_secs(5);
/// How long a connection waits for the name service. After that the names are absent facts, for [`KEPT`].
const PATIENCE: Duration = Duration::from_secs(2);

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
#[derive(Debug, Default)]
pub(super) struct Names(Mutex<State>);

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
}

impl Names {
    /// What the names of `registry` stand for, now or at most [`KEPT`] ago.
    pub(super) async fn of(&self, registry: &Registry, clock: &dyn Clock) -> Arc<Ids> {
        if registry.users().is_empty() && registry.groups().is_empty() {
            return Arc::default();
        }
        let mut state = self.0.lock().await;
        let now = clock.now();
        if let Some(known) = &state.known
            && known.generation == registry.generation()
            && now.since(known.at) < KEPT
        {
            return Arc::clone(&known.ids);
        }
        let ids = Arc::new(state.ask(registry).await);
        state.known = Some(Known { generation: registry.generation(), at: now, ids: Arc::clone(&ids) });
        ids
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

/// The account name of `uid`: for people to read.
pub(super) async fn account(uid: u32) -> Option<String> {
    let asked = spawn_blocking(move || User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name));
    timeout(PATIENCE, asked).await.ok()?.ok()?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_exist_stand_for_their_ids() {
        let ids = resolve(vec!["root".into(), "no-such-account".into()], vec!["root".into(), "no-such-group".into()]);
        assert_eq!((ids.users(0), ids.gid("root")), (&["root".into()][..], Some(0)));
        assert_eq!(ids.gid("no-such-group"), None);
    }

    #[test]
    fn one_uid_may_have_several_names() {
        let ids = Ids::of([("root".into(), 0), ("toor".into(), 0)], []);
        assert_eq!(ids.users(0), ["root".into(), "toor".into()]);
    }
}
