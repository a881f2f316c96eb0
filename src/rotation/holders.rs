//! Who holds which version of a secret: the processes that were handed one, until they end or are handed another.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::name::Name;
use crate::store::VersionId;

/// How many holders of one secret are known one by one. Beyond it somebody is supposed to hold every version.
const MOST_HOLDERS: usize = 512;

/// Says whether a process still lives.
pub type Lives = Box<dyn Fn() -> bool + Send + Sync>;

/// The holders of the secrets that are rotated.
#[derive(Default)]
pub struct Holders(Mutex<HashMap<Name, Known>>);

#[derive(Default)]
struct Known {
    holders: Vec<Kept>,
    /// Versions of which somebody may hold one that is not among the holders.
    untold: Vec<VersionId>,
}

struct Kept {
    holder: Holder,
    lives: Option<Lives>,
}

/// Who holds a version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holder {
    /// The workload.
    pub workload: Name,
    /// Its process; none: one that was handed it before this agent started, and may have ended since.
    pub pid: Option<i32>,
    /// The version.
    pub version: VersionId,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "{} (process {pid})", self.workload),
            None => write!(f, "{} (a process of before the restart, if it still runs)", self.workload),
        }
    }
}

impl Holders {
    /// From here on the holders of `secrets` are known, and those of no others.
    pub fn watch<'a>(&self, secrets: impl Iterator<Item = &'a Name>) {
        let mut all = self.lock();
        let mut watched = HashMap::new();
        for name in secrets {
            watched.insert(name.clone(), all.remove(name).unwrap_or_default());
        }
        *all = watched;
    }

    /// A process was handed a version: what it held before it holds no more. Whether that version was held by nobody.
    pub fn took(&self, secret: &Name, holder: Holder, lives: Lives) -> bool {
        let mut all = self.lock();
        let Some(known) = all.get_mut(secret) else { return false };
        let version = &holder.version;
        let is_held =
            known.untold.contains(version) || known.holders.iter().any(|kept| kept.holder.version == *version);
        // In a foreign pid namespace all have the number 0: one is not the other.
        if holder.pid != Some(0) {
            let it = |kept: &Kept| (&kept.holder.workload, kept.holder.pid) == (&holder.workload, holder.pid);
            known.holders.retain(|kept| !it(kept));
        }
        known.add(Kept { holder, lives: Some(lives) });
        !is_held
    }

    /// A process of `workload` was handed `version` before this agent started: nobody can say whether it has ended.
    pub fn suppose(&self, secret: &Name, workload: Name, version: VersionId) {
        let mut all = self.lock();
        let Some(known) = all.get_mut(secret) else { return };
        let holder = Holder { workload, pid: None, version };
        if !known.holders.iter().any(|kept| kept.holder == holder) {
            known.add(Kept { holder, lives: None });
        }
    }

    /// Nobody can say who was handed `version` before this agent started.
    pub fn suppose_somebody(&self, secret: &Name, version: VersionId) {
        self.lock().get_mut(secret).into_iter().for_each(|known| known.untold(version.clone()));
    }

    /// Who still holds `version`, and whether others may that are not known.
    #[must_use]
    pub fn of(&self, secret: &Name, version: &VersionId) -> (Vec<Holder>, bool) {
        let (mut holders, untold) = self.all(secret);
        holders.retain(|holder| holder.version == *version);
        (holders, untold.contains(version))
    }

    /// Who holds what, and the versions that others may hold who are not known.
    #[must_use]
    pub fn all(&self, secret: &Name) -> (Vec<Holder>, Vec<VersionId>) {
        let mut all = self.lock();
        let Some(known) = all.get_mut(secret) else { return <_>::default() };
        known.holders.retain(may_live);
        let mut holders: Vec<_> = known.holders.iter().map(|kept| kept.holder.clone()).collect();
        holders.sort();
        (holders, known.untold.clone())
    }

    /// `version` has been ended: nobody holds anything by it.
    pub fn ended(&self, secret: &Name, version: &VersionId) {
        let mut all = self.lock();
        let Some(known) = all.get_mut(secret) else { return };
        known.holders.retain(|kept| kept.holder.version != *version);
        known.untold.retain(|one| one != version);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Name, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether it is to be kept: it lives, or nobody can say.
fn may_live(kept: &Kept) -> bool {
    kept.lives.as_ref().is_none_or(|lives| lives())
}

impl Known {
    fn add(&mut self, kept: Kept) {
        // Whether each lives is asked only when there is no room: a read is not to pay for all other readers.
        if self.holders.len() >= MOST_HOLDERS {
            self.holders.retain(may_live);
        }
        if self.holders.len() < MOST_HOLDERS {
            self.holders.push(kept);
        } else {
            self.untold(kept.holder.version);
        }
    }

    fn untold(&mut self, version: VersionId) {
        if !self.untold.contains(&version) {
            self.untold.push(version);
        }
    }
}

impl fmt::Debug for Holders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Holders").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn holder(pid: i32, version: &str) -> Holder {
        Holder { workload: "checkout".parse().unwrap(), pid: Some(pid), version: version.parse().unwrap() }
    }

    fn pids(holders: &Holders, version: &str) -> Vec<Option<i32>> {
        let (of, _) = holders.of(&"key".parse().unwrap(), &version.parse().unwrap());
        of.iter().map(|holder| holder.pid).collect()
    }

    #[test]
    fn a_process_holds_what_it_was_handed_last_until_it_ends() {
        let (holders, key) = (Holders::default(), "key".parse().unwrap());
        holders.took(&key, holder(1, "v1"), Box::new(|| true));
        assert!(pids(&holders, "v1").is_empty(), "nobody asked to know");
        holders.watch([&key].into_iter());
        let lives = Arc::new(AtomicBool::new(true));
        let two = Arc::clone(&lives);
        holders.took(&key, holder(1, "v1"), Box::new(|| true));
        holders.took(&key, holder(2, "v1"), Box::new(move || two.load(Ordering::Relaxed)));
        assert_eq!(pids(&holders, "v1"), [Some(1), Some(2)]);
        holders.took(&key, holder(1, "v2"), Box::new(|| true));
        assert_eq!((pids(&holders, "v1"), pids(&holders, "v2")), (vec![Some(2)], vec![Some(1)]));
        lives.store(false, Ordering::Relaxed);
        assert!(pids(&holders, "v1").is_empty());
    }

    #[test]
    fn processes_of_a_foreign_namespace_are_not_taken_for_one() {
        let (holders, key) = (Holders::default(), "key".parse().unwrap());
        holders.watch([&key].into_iter());
        holders.took(&key, holder(0, "v1"), Box::new(|| true));
        holders.took(&key, holder(0, "v2"), Box::new(|| true));
        assert_eq!(pids(&holders, "v1"), [Some(0)], "another may have been handed the new one");
    }

    #[test]
    fn the_dead_make_room() {
        let (holders, key) = (Holders::default(), "key".parse().unwrap());
        holders.watch([&key].into_iter());
        for pid in 1..=1_000 {
            holders.took(&key, holder(pid, "v1"), Box::new(move || pid > 999));
        }
        assert_eq!(holders.of(&key, &"v1".parse().unwrap()), (vec![holder(1_000, "v1")], false));
    }

    #[test]
    fn of_before_a_restart_one_can_only_suppose() {
        let (holders, key) = (Holders::default(), "key".parse().unwrap());
        holders.watch([&key].into_iter());
        for _ in 0..2 {
            holders.suppose(&key, "checkout".parse().unwrap(), "v1".parse().unwrap());
        }
        holders.took(&key, holder(1, "v2"), Box::new(|| true));
        assert_eq!(pids(&holders, "v1"), [None], "the process that asks now may be another");
        holders.ended(&key, &"v1".parse().unwrap());
        assert!(pids(&holders, "v1").is_empty());
    }

    #[test]
    fn beyond_the_bound_somebody_is_supposed_to_hold_it() {
        let (holders, key) = (Holders::default(), "key".parse().unwrap());
        holders.watch([&key].into_iter());
        for pid in 1..=1_000 {
            holders.took(&key, holder(pid, "v1"), Box::new(|| true));
        }
        let (known, more) = holders.of(&key, &"v1".parse().unwrap());
        assert_eq!((known.len(), more), (MOST_HOLDERS, true));
    }
}
