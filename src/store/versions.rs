//! The life of a secret's versions: what each verb does to them, pure.
//!
//! ```text
//! reserve ──► Pending ── fill ──► Pending (filled) ── promote ──► Current ──► Previous ──► Retired
//!                └──────── retire ───────┴───────────────────────── (the next promotions) ──┘
//! ```

use super::{Attempt, Notes, Reserved, Stage, Stages, StoreError, Version, VersionId, Which};
use crate::name::StoredName;
use crate::time::Wall;

/// How many Retired versions are remembered; the oldest are forgotten.
pub const MOST_RETIRED: usize = 16;

/// All versions of one secret, newest first.
///
/// At most one is Pending, one Previous, one Current, and one *is* Current where one is Previous. Only Pending ones
/// may lack a value; Retired ones always do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions {
    name: StoredName,
    all: Vec<Version>,
}

impl Versions {
    /// A secret that has none yet.
    #[must_use]
    pub const fn none(name: StoredName) -> Self {
        Self { name, all: Vec::new() }
    }

    /// The versions of `name`, newest first.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when they break the rules above.
    pub fn new(name: StoredName, all: Vec<Version>) -> Result<Self, StoreError> {
        let versions = Self { name, all };
        match versions.broken_rule() {
            None => Ok(versions),
            Some(rule) => Err(StoreError::Damaged(format!(
                "the versions of `{}` break a rule ({rule}): restore the store from a backup",
                versions.name
            ))),
        }
    }

    fn broken_rule(&self) -> Option<&'static str> {
        let count = |stage| self.all.iter().filter(|version| version.stages.has(stage)).count();
        let over = |version: &Version| version.stages == Stages::of(Stage::Retired);
        let rules = [
            (count(Stage::Pending) <= 1, "at most one is Pending"),
            (count(Stage::Current) <= 1, "at most one is Current"),
            (count(Stage::Previous) <= 1, "at most one is Previous"),
            (count(Stage::Previous) <= count(Stage::Current), "none is Previous where none is Current"),
            (self.all.iter().all(|v| over(v) || !v.stages.has(Stage::Retired)), "Retired excludes every other stage"),
            (self.all.iter().all(|v| !(over(v) && v.filled)), "a Retired one has no value"),
            (
                self.all.iter().all(|v| v.filled || over(v) || v.stages == Stages::of(Stage::Pending)),
                "what is served has a value",
            ),
        ];
        rules.into_iter().find(|(kept, _)| !kept).map(|(_, rule)| rule)
    }

    /// Whose versions these are.
    #[must_use]
    pub const fn name(&self) -> &StoredName {
        &self.name
    }

    /// The versions, newest first.
    pub fn iter(&self) -> std::slice::Iter<'_, Version> {
        self.all.iter()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The version at `stage`; for Retired, the newest.
    #[must_use]
    pub fn at(&self, stage: Stage) -> Option<&Version> {
        self.all.iter().find(|version| version.stages.has(stage))
    }

    /// The version with `id`.
    #[must_use]
    pub fn get(&self, id: &VersionId) -> Option<&Version> {
        self.all.iter().find(|version| version.id == *id)
    }

    /// The version that `attempt` made or took over.
    #[must_use]
    pub fn of(&self, attempt: &Attempt) -> Option<&Version> {
        self.all.iter().find(|version| version.attempt == *attempt)
    }

    /// The version that `which` names, for reading: it has a value.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub fn find(&self, which: &Which) -> Result<&Version, StoreError> {
        let found = match which {
            Which::Current => self.at(Stage::Current),
            Which::Id(id) => self.get(id),
        };
        found.filter(|version| version.filled).ok_or_else(|| {
            StoreError::NotFound(match which {
                Which::Current => format!("Current version of `{}`", self.name),
                Which::Id(id) => format!("version {id} of `{}` with a value", self.name),
            })
        })
    }

    /// Reserves; `fresh` is the id of the new version, if one is made. See [`super::Store::reserve`].
    ///
    /// # Errors
    /// [`StoreError::Fenced`] for an attempt that is over; [`StoreError::Invalid`] for notes that do not fit.
    pub fn reserve(
        &mut self,
        now: Wall,
        fresh: VersionId,
        attempt: &Attempt,
        lease_ends: Wall,
        notes: &Notes,
    ) -> Result<Reserved, StoreError> {
        let ours = self.of(attempt).map(|version| version.stages.has(Stage::Pending));
        if ours == Some(false) {
            return Err(self.fenced());
        }
        if let Some(pending) = self.all.iter_mut().find(|version| version.stages.has(Stage::Pending)) {
            if ours.is_none() && pending.notes.lease_ends().is_some_and(|ends| now < ends) {
                return Ok(Reserved::Taken(pending.clone()));
            }
            pending.notes = taken_over(&pending.notes, notes)?.with_time(Notes::LEASE_ENDS, lease_ends)?;
            pending.attempt = attempt.clone();
            return Ok(Reserved::Ours(pending.clone()));
        }
        let version = Version {
            id: fresh,
            stages: Stages::of(Stage::Pending),
            attempt: attempt.clone(),
            notes: notes.clone().with_time(Notes::LEASE_ENDS, lease_ends)?,
            created: now,
            filled: false,
        };
        self.all.insert(0, version.clone());
        Ok(Reserved::Ours(version))
    }

    /// Says that the reserved version has its value. See [`super::Store::fill`].
    ///
    /// # Errors
    /// [`StoreError::Fenced`] where `attempt` holds no reservation; [`StoreError::Invalid`] for notes that do not fit.
    pub fn fill(&mut self, attempt: &Attempt, notes: &Notes) -> Result<VersionId, StoreError> {
        let fenced = self.fenced();
        // Not `has`: what is Current too is being served, and is filled no more.
        let pending = self.all.iter_mut().find(|version| version.stages == Stages::of(Stage::Pending));
        let ours = pending.filter(|version| version.attempt == *attempt).ok_or(fenced)?;
        ours.notes = added(&ours.notes, notes)?;
        ours.filled = true;
        Ok(ours.id.clone())
    }

    /// Promotes. See [`super::Store::promote`].
    ///
    /// # Errors
    /// [`StoreError::Fenced`] where `attempt` holds no reservation; [`StoreError::Invalid`] where it is not filled.
    pub fn promote(&mut self, now: Wall, attempt: &Attempt) -> Result<VersionId, StoreError> {
        let ours = self.of(attempt).ok_or_else(|| self.fenced())?;
        let id = ours.id.clone();
        if ours.stages == Stages::of(Stage::Current) {
            return Ok(id);
        }
        if !ours.stages.has(Stage::Pending) {
            return Err(self.fenced());
        }
        if !ours.filled {
            return Err(StoreError::Invalid(format!(
                "version {id} of `{}` has no value yet: fill it first",
                self.name
            )));
        }
        let promoted = ours.notes.clone().with_time(Notes::PROMOTED, now)?;
        // Where only the last step was missing, the others have made way already.
        if !ours.stages.has(Stage::Current) {
            self.make_way();
        }
        for version in self.all.iter_mut().filter(|version| version.id == id) {
            version.stages = Stages::of(Stage::Current);
            version.notes = promoted.clone();
        }
        Ok(id)
    }

    /// Current becomes Previous, and Previous Retired.
    fn make_way(&mut self) {
        for version in &mut self.all {
            if version.stages.has(Stage::Current) {
                version.stages = Stages::of(Stage::Previous);
            } else if version.stages.has(Stage::Previous) {
                end(version);
            }
        }
        self.forget();
    }

    /// Retires. See [`super::Store::retire`].
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Fenced`] where the version is another attempt's, and
    /// [`StoreError::Invalid`] where it is Current.
    pub fn retire(&mut self, id: &VersionId, attempt: &Attempt) -> Result<(), StoreError> {
        let missing = StoreError::NotFound(format!("version {id} of `{}`", self.name));
        let fenced = self.fenced();
        let version = self.all.iter_mut().find(|version| version.id == *id).ok_or(missing)?;
        if version.attempt != *attempt {
            return Err(fenced);
        }
        if version.stages.has(Stage::Current) {
            return Err(StoreError::Invalid(format!(
                "version {id} of `{}` is Current: promote another before it is retired",
                self.name
            )));
        }
        end(version);
        self.forget();
        Ok(())
    }

    /// Adds notes. See [`super::Store::note`].
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Fenced`] where the version is another attempt's, and
    /// [`StoreError::Invalid`] for notes that do not fit.
    pub fn note(&mut self, id: &VersionId, attempt: &Attempt, notes: &Notes) -> Result<(), StoreError> {
        let version = self.all.iter_mut().find(|version| version.id == *id);
        let version = version.ok_or_else(|| StoreError::NotFound(format!("version {id} of `{}`", self.name)))?;
        if version.attempt != *attempt {
            return Err(self.fenced());
        }
        version.notes = added(&version.notes, notes)?;
        Ok(())
    }

    /// Whether `put` may go on as `attempt`; the id of the version where it is done already.
    ///
    /// # Errors
    /// [`StoreError::Taken`] where a rotation left a value that the far side may know.
    pub(super) fn may_put(&self, attempt: &Attempt) -> Result<Option<VersionId>, StoreError> {
        if let Some(ours) = self.of(attempt).filter(|version| version.stages.has(Stage::Current)) {
            return Ok(Some(ours.id.clone()));
        }
        match self.at(Stage::Pending).filter(|version| version.filled && version.notes.get(Notes::BY) != Some("put")) {
            Some(pending) => Err(StoreError::Taken(self.name.clone(), pending.notes.lease_ends())),
            None => Ok(None),
        }
    }

    fn fenced(&self) -> StoreError {
        StoreError::Fenced(self.name.clone())
    }

    fn forget(&mut self) {
        let mut retired = 0;
        self.all.retain(|version| {
            retired += usize::from(version.stages.has(Stage::Retired));
            !version.stages.has(Stage::Retired) || retired <= MOST_RETIRED
        });
    }
}

fn added(before: &Notes, new: &Notes) -> Result<Notes, StoreError> {
    new.iter().try_fold(before.clone(), |all, (key, value)| all.with(key, value))
}

fn end(version: &mut Version) {
    version.stages = Stages::of(Stage::Retired);
    version.filled = false;
}

/// The notes of a reservation that is taken over: what the first owner noted of the far side stands, who holds it is
/// new, and further notes are taken as far as there is room.
fn taken_over(before: &Notes, new: &Notes) -> Result<Notes, StoreError> {
    let joined = new.iter().filter(|(key, _)| before.get(key).is_none());
    let joined = joined.fold(before.clone(), |notes, (key, value)| notes.clone().with(key, value).unwrap_or(notes));
    match new.get(Notes::AGENT) {
        Some(agent) => joined.with_stored(Notes::AGENT, agent),
        None => Ok(joined),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(nth: u8, stages: &str, filled: bool) -> Version {
        Version {
            id: nth.to_string().parse().unwrap(),
            stages: stages.parse().unwrap(),
            attempt: Attempt::from_bytes([nth; 16]),
            notes: Notes::default(),
            created: Wall::default(),
            filled,
        }
    }

    fn stands(stages: &[(&str, bool)]) -> bool {
        let all = (0..).zip(stages).map(|(nth, (stages, filled))| version(nth, stages, *filled)).collect();
        Versions::new("n".parse().unwrap(), all).is_ok()
    }

    #[test]
    fn versions_that_break_a_rule_are_damaged() {
        assert!(stands(&[]));
        assert!(stands(&[("Pending", false)]));
        assert!(stands(&[("Pending", true), ("Current", true), ("Previous", true), ("Retired", false)]));
        assert!(stands(&[("Pending,Current", true), ("Previous", true)]), "a promotion whose last step is missing");
        for broken in [
            &[("Current", true), ("Current", true)][..],
            &[("Pending", false), ("Pending", true)],
            &[("Current", true), ("Previous", true), ("Previous", true)],
            &[("Previous", true)],
            &[("Current", false)],
            &[("Current", true), ("Retired", true)],
            &[("Current,Retired", true)],
        ] {
            assert!(!stands(broken), "{broken:?}");
        }
    }

    #[test]
    fn a_promotion_whose_last_step_is_missing_is_finished() {
        let all = vec![version(2, "Pending,Current", true), version(1, "Previous", true)];
        let mut versions = Versions::new("n".parse().unwrap(), all).unwrap();
        versions.promote(Wall::default(), &Attempt::from_bytes([2; 16])).unwrap();
        assert_eq!(versions.at(Stage::Current).unwrap().stages, Stages::of(Stage::Current));
        assert_eq!(
            versions.at(Stage::Previous).unwrap().id.as_str(),
            "1",
            "what was Previous was made so by this promotion"
        );
    }

    #[test]
    fn a_take_over_always_has_room_for_its_lease() {
        let full =
            |prefix| (0..12).fold(Notes::default(), |notes, nth| notes.with(&format!("{prefix}{nth}"), "v").unwrap());
        let mut versions = Versions::none("n".parse().unwrap());
        let (first, second) = (Attempt::from_bytes([1; 16]), Attempt::from_bytes([2; 16]));
        let id: VersionId = "1".parse().unwrap();
        versions.reserve(Wall::default(), id.clone(), &first, Wall::default(), &full("a")).unwrap();
        let theirs = full("b").with("agent", "x");
        assert!(theirs.is_err(), "twelve are the caller's");
        versions.reserve(Wall::default(), id, &second, Wall::from_micros(9), &full("b")).unwrap();
        versions.fill(&second, &Notes::default()).unwrap();
        versions.promote(Wall::default(), &second).unwrap();
        assert_eq!(versions.at(Stage::Current).unwrap().notes.lease_ends(), Some(Wall::from_micros(9)));
    }
}
