//! What every store keeps: the rules of `docs/formats.md`, run against a store of any kind.
//!
//! Each rule uses names of its own below `prefix`, so that a store shared with others will do.

use std::collections::BTreeSet;
use std::time::Duration;

use bursar::crypto::SystemRandom;
use bursar::name::StoredName;
use bursar::secret::Secret;
use bursar::store::{self, Attempt, Notes, Reserved, Stage, Stages, Store, StoreError, Version, Versions, Which};
use bursar::time::{Clock, ManualClock, Wall};
use proptest::prelude::*;

pub(crate) const LEASE: Duration = Duration::from_secs(60);

/// A store under test, the clock it reads, and the part of it that is ours.
pub(crate) struct Bench<'a> {
    pub(crate) store: &'a dyn Store,
    pub(crate) clock: &'a ManualClock,
    pub(crate) prefix: &'a str,
}

pub(crate) async fn every_rule(bench: &Bench<'_>) {
    what_is_not_there_is_not_found(bench).await;
    a_version_lives_from_pending_to_retired(bench).await;
    a_lease_keeps_others_out_until_it_ends(bench).await;
    a_late_owner_is_fenced(bench).await;
    a_value_that_was_taken_over_is_kept(bench).await;
    each_verb_may_be_repeated(bench).await;
    an_empty_reservation_is_not_promoted(bench).await;
    current_is_not_retired(bench).await;
    notes_of_the_first_owner_stand(bench).await;
    a_note_is_added_at_any_stage_and_stands_from_then_on(bench).await;
    any_bytes_up_to_the_bound_are_a_value(bench).await;
    put_replaces_and_keeps_the_previous(bench).await;
    put_waits_for_a_change_under_way(bench).await;
    put_takes_over_from_a_put_and_not_from_a_rotation(bench).await;
    one_of_many_reserves(bench).await;
}

impl Bench<'_> {
    pub(crate) fn name(&self, name: &str) -> StoredName {
        format!("{}{name}", self.prefix).parse().unwrap()
    }

    fn lease_ends(&self) -> Wall {
        self.clock.now().wall + LEASE
    }

    async fn reserve(&self, name: &StoredName, attempt: &Attempt) -> Result<Reserved, StoreError> {
        self.store.reserve(name, attempt, self.lease_ends(), &Notes::default()).await
    }

    async fn fill(&self, name: &StoredName, attempt: &Attempt, value: &str) -> Result<(), StoreError> {
        self.store.fill(name, attempt, &secret(value), &Notes::default()).await.map(|_| ())
    }

    pub(crate) async fn put(&self, name: &StoredName, value: &str) -> Result<Attempt, StoreError> {
        let attempt = attempt();
        store::put(self.store, name, &secret(value), &attempt, self.lease_ends()).await.map(|_| attempt)
    }

    pub(crate) async fn current(&self, name: &StoredName) -> Option<String> {
        match self.store.read(name, &Which::Current).await {
            Ok((_, value)) => Some(text(&value)),
            Err(StoreError::NotFound(_)) => None,
            Err(error) => panic!("{error}"),
        }
    }

    async fn version(&self, name: &StoredName, attempt: &Attempt) -> Version {
        self.store.versions(name).await.unwrap().of(attempt).cloned().unwrap()
    }

    async fn stage(&self, name: &StoredName, attempt: &Attempt) -> String {
        self.version(name, attempt).await.stages.to_string()
    }
}

pub(crate) fn attempt() -> Attempt {
    Attempt::new(&SystemRandom).unwrap()
}

fn secret(value: &str) -> Secret {
    Secret::new(value.as_bytes().to_vec())
}

fn text(value: &Secret) -> String {
    String::from_utf8(value.expose().to_vec()).unwrap()
}

fn is_fenced<T>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Fenced(_)))
}

async fn what_is_not_there_is_not_found(bench: &Bench<'_>) {
    let name = bench.name("nothing");
    assert!(!bench.store.list().await.unwrap().contains(&name));
    assert!(matches!(bench.store.versions(&name).await, Err(StoreError::NotFound(_))));
    assert_eq!(bench.current(&name).await, None);
    assert!(is_fenced(&bench.fill(&name, &attempt(), "v").await));
    assert!(is_fenced(&bench.store.promote(&name, &attempt()).await));
    let nobody = bench.store.retire(&name, &"1".parse().unwrap(), &attempt()).await;
    assert!(matches!(nobody, Err(StoreError::NotFound(_))));
}

async fn a_version_lives_from_pending_to_retired(bench: &Bench<'_>) {
    let name = bench.name("life");
    let attempts = [attempt(), attempt(), attempt()];
    for (nth, attempt) in attempts.iter().enumerate() {
        let before = bench.current(&name).await;
        assert!(matches!(bench.reserve(&name, attempt).await, Ok(Reserved::Ours(_))));
        let reserved = bench.version(&name, attempt).await;
        assert_eq!((reserved.stages, reserved.filled), (Stages::of(Stage::Pending), false));
        assert_eq!(reserved.created, bench.clock.now().wall);
        bench.fill(&name, attempt, &format!("value {nth}")).await.unwrap();
        assert_eq!(bench.current(&name).await, before, "a filled version is not served yet");
        bench.store.promote(&name, attempt).await.unwrap();
        assert_eq!(bench.current(&name).await, Some(format!("value {nth}")));
    }
    let [first, second, third] = &attempts;
    assert_eq!(bench.stage(&name, third).await, "Current");
    assert_eq!(bench.stage(&name, second).await, "Previous");
    let previous = Which::Id(bench.version(&name, second).await.id);
    assert_eq!(text(&bench.store.read(&name, &previous).await.unwrap().1), "value 1");
    let retired = bench.version(&name, first).await;
    assert_eq!((retired.stages, retired.filled), (Stages::of(Stage::Retired), false));
    assert!(matches!(bench.store.read(&name, &Which::Id(retired.id)).await, Err(StoreError::NotFound(_))));
    assert!(bench.store.list().await.unwrap().contains(&name));
}

async fn a_lease_keeps_others_out_until_it_ends(bench: &Bench<'_>) {
    let (name, first, second) = (bench.name("lease"), attempt(), attempt());
    bench.reserve(&name, &first).await.unwrap();
    bench.clock.advance(LEASE - Duration::from_micros(1));
    let Ok(Reserved::Taken(version)) = bench.reserve(&name, &second).await else { panic!("it was not taken") };
    assert_eq!(version.attempt, first);
    bench.clock.advance(Duration::from_micros(1));
    assert!(matches!(bench.reserve(&name, &second).await, Ok(Reserved::Ours(version)) if version.attempt == second));
    bench.clock.advance(LEASE / 2);
    bench.reserve(&name, &second).await.unwrap();
    bench.clock.advance(LEASE / 2);
    assert!(matches!(bench.reserve(&name, &first).await, Ok(Reserved::Taken(_))), "the owner moved its lease");
}

async fn a_late_owner_is_fenced(bench: &Bench<'_>) {
    let (name, late, next) = (bench.name("late"), attempt(), attempt());
    let Ok(Reserved::Ours(version)) = bench.reserve(&name, &late).await else { panic!("it was not ours") };
    bench.clock.advance(LEASE);
    bench.reserve(&name, &next).await.unwrap();
    assert!(is_fenced(&bench.fill(&name, &late, "late").await));
    assert!(is_fenced(&bench.store.promote(&name, &late).await));
    let retired = bench.store.retire(&name, &version.id, &late).await;
    assert!(matches!(retired, Err(StoreError::Fenced(_) | StoreError::NotFound(_))));
    bench.fill(&name, &next, "next").await.unwrap();
    bench.store.promote(&name, &next).await.unwrap();
    assert!(is_fenced(&bench.store.promote(&name, &late).await));
    assert_eq!(bench.current(&name).await.as_deref(), Some("next"));
}

async fn a_value_that_was_taken_over_is_kept(bench: &Bench<'_>) {
    let (name, first, second) = (bench.name("heir"), attempt(), attempt());
    bench.reserve(&name, &first).await.unwrap();
    bench.fill(&name, &first, "known to the far side").await.unwrap();
    bench.clock.advance(LEASE);
    assert!(matches!(bench.reserve(&name, &second).await, Ok(Reserved::Ours(version)) if version.filled));
    assert!(is_fenced(&bench.store.promote(&name, &first).await));
    bench.store.promote(&name, &second).await.unwrap();
    assert_eq!(bench.current(&name).await.as_deref(), Some("known to the far side"));
}

async fn each_verb_may_be_repeated(bench: &Bench<'_>) {
    let (name, ours) = (bench.name("again"), attempt());
    for _ in 0..2 {
        assert!(matches!(bench.reserve(&name, &ours).await, Ok(Reserved::Ours(_))));
    }
    for _ in 0..2 {
        bench.fill(&name, &ours, "v").await.unwrap();
    }
    let id = bench.store.promote(&name, &ours).await.unwrap();
    assert_eq!(bench.store.promote(&name, &ours).await.unwrap(), id);
    assert!(is_fenced(&bench.reserve(&name, &ours).await), "an attempt is one change, not two");
    assert!(is_fenced(&bench.fill(&name, &ours, "w").await));
    bench.put(&name, "w").await.unwrap();
    for _ in 0..2 {
        bench.store.retire(&name, &bench.version(&name, &ours).await.id, &ours).await.unwrap();
    }
    assert_eq!(bench.stage(&name, &ours).await, "Retired");
}

async fn an_empty_reservation_is_not_promoted(bench: &Bench<'_>) {
    let (name, ours) = (bench.name("empty"), attempt());
    let old = bench.put(&name, "old").await.unwrap();
    bench.reserve(&name, &ours).await.unwrap();
    assert!(matches!(bench.store.promote(&name, &ours).await, Err(StoreError::Invalid(_))));
    assert_eq!(bench.stage(&name, &old).await, "Current");
    bench.store.retire(&name, &bench.version(&name, &ours).await.id, &ours).await.unwrap();
    assert_eq!(bench.stage(&name, &old).await, "Current", "an undone change leaves what was");
}

async fn current_is_not_retired(bench: &Bench<'_>) {
    let name = bench.name("kept");
    let ours = bench.put(&name, "v").await.unwrap();
    let id = bench.version(&name, &ours).await.id;
    assert!(matches!(bench.store.retire(&name, &id, &ours).await, Err(StoreError::Invalid(_))));
    assert!(is_fenced(&bench.store.retire(&name, &id, &attempt()).await), "the attempt is compared");
    assert_eq!(bench.current(&name).await.as_deref(), Some("v"));
}

async fn notes_of_the_first_owner_stand(bench: &Bench<'_>) {
    let (name, first, second) = (bench.name("notes"), attempt(), attempt());
    let note = |agent, before| Notes::default().with("agent", agent).unwrap().with("before", before).unwrap();
    bench.store.reserve(&name, &first, bench.lease_ends(), &note("a", "key 1")).await.unwrap();
    bench.clock.advance(LEASE);
    bench.store.reserve(&name, &second, bench.lease_ends(), &note("b", "key 1, key 2")).await.unwrap();
    let made = Notes::default().with("made", "key 2").unwrap();
    bench.store.fill(&name, &second, &secret("v"), &made).await.unwrap();
    bench.store.promote(&name, &second).await.unwrap();
    let notes = bench.version(&name, &second).await.notes;
    assert_eq!((notes.get("agent"), notes.get("before"), notes.get("made")), (Some("b"), Some("key 1"), Some("key 2")));
    assert_eq!(notes.promoted(), Some(bench.clock.now().wall));
}

async fn a_note_is_added_at_any_stage_and_stands_from_then_on(bench: &Bench<'_>) {
    let name = bench.name("noted");
    let (first, by) = (bench.put(&name, "v").await.unwrap(), Notes::default().with("leaked", "yes").unwrap());
    let id = bench.version(&name, &first).await.id;
    assert!(is_fenced(&bench.store.note(&name, &id, &attempt(), &by).await), "the attempt is compared");
    for nth in 0..3 {
        let also = Notes::default().with(&format!("n{nth}"), "yes").unwrap();
        bench.store.note(&name, &id, &first, &also).await.unwrap();
        bench.store.note(&name, &id, &first, &by).await.unwrap();
        let version = bench.version(&name, &first).await;
        let noted = [version.notes.get("leaked"), version.notes.get("n0"), version.notes.get("by")];
        assert_eq!(noted, [Some("yes"), Some("yes"), Some("put")], "{}", version.stages);
        assert_eq!(version.stages, Stages::of([Stage::Current, Stage::Previous, Stage::Retired][nth]));
        bench.put(&name, "w").await.unwrap();
    }
    assert_eq!(bench.current(&name).await.as_deref(), Some("w"));
    let missing = bench.store.note(&name, &"none".parse().unwrap(), &first, &by).await;
    assert!(matches!(missing, Err(StoreError::NotFound(_))), "{missing:?}");
}

async fn any_bytes_up_to_the_bound_are_a_value(bench: &Bench<'_>) {
    let name = bench.name("bytes");
    let put = async |bytes: Vec<u8>| {
        store::put(bench.store, &name, &Secret::new(bytes), &attempt(), bench.lease_ends()).await
    };
    let longest = (0..=255).cycle().take(store::MOST_VALUE_BYTES).collect::<Vec<u8>>();
    for good in [vec![0], b"\xff\xfe\n".to_vec(), longest.clone()] {
        put(good.clone()).await.unwrap();
        let (_, read) = bench.store.read(&name, &Which::Current).await.unwrap();
        assert!(read.matches(&good));
    }
    for bad in [vec![], [&longest[..], b"x"].concat()] {
        assert!(matches!(put(bad).await, Err(StoreError::Invalid(_))));
    }
}

async fn put_replaces_and_keeps_the_previous(bench: &Bench<'_>) {
    let name = bench.name("put");
    let first = bench.put(&name, "one").await.unwrap();
    let second = bench.put(&name, "two").await.unwrap();
    assert_eq!(bench.current(&name).await.as_deref(), Some("two"));
    assert_eq!(bench.stage(&name, &first).await, "Previous");
    let id = bench.version(&name, &second).await.id;
    let again = store::put(bench.store, &name, &secret("two"), &second, bench.lease_ends()).await;
    assert_eq!(again, Ok(id), "after a lost reply the same attempt finds it done");
    assert_eq!(bench.stage(&name, &first).await, "Previous");
}

async fn put_waits_for_a_change_under_way(bench: &Bench<'_>) {
    let name = bench.name("busy");
    bench.put(&name, "old").await.unwrap();
    bench.reserve(&name, &attempt()).await.unwrap();
    let refused = bench.put(&name, "new").await;
    assert_eq!(refused, Err(StoreError::Taken(name.clone(), Some(bench.lease_ends()))));
    assert_eq!(bench.current(&name).await.as_deref(), Some("old"));
}

async fn put_takes_over_from_a_put_and_not_from_a_rotation(bench: &Bench<'_>) {
    for (by, taken_over) in [("put", true), ("rotation", false)] {
        let (name, first) = (bench.name(&format!("by-{by}")), attempt());
        let notes = Notes::default().with(Notes::BY, by).unwrap();
        bench.store.reserve(&name, &first, bench.lease_ends(), &notes).await.unwrap();
        bench.fill(&name, &first, "left behind").await.unwrap();
        bench.clock.advance(LEASE);
        assert_eq!(bench.put(&name, "new").await.is_ok(), taken_over, "{by}");
        assert_eq!(bench.current(&name).await.is_some(), taken_over, "{by}");
    }
}

async fn one_of_many_reserves(bench: &Bench<'_>) {
    let name = bench.name("race");
    let attempts = (0..16).map(|_| attempt()).collect::<Vec<_>>();
    let results = futures_util::future::join_all(attempts.iter().map(|attempt| bench.reserve(&name, attempt))).await;
    assert_eq!(results.iter().filter(|result| matches!(result, Ok(Reserved::Ours(_)))).count(), 1);
    assert_eq!(bench.store.versions(&name).await.unwrap().iter().count(), 1);
}

/// One step of a random history; attempts and versions by number.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Reserve(usize),
    Fill(usize, u8),
    Promote(usize),
    Retire(usize, usize),
    Wait(u64),
}

pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let attempts = 0..6_usize;
    let step = prop_oneof![
        4 => attempts.clone().prop_map(Step::Reserve),
        4 => (attempts.clone(), any::<u8>()).prop_map(|(attempt, value)| Step::Fill(attempt, value)),
        4 => attempts.clone().prop_map(Step::Promote),
        1 => (attempts.clone(), attempts).prop_map(|(version, attempt)| Step::Retire(version, attempt)),
        2 => (1..90_u64).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 1..40)
}

/// What a history should lead to, told without stages: who holds the reservation, and who was promoted in which order.
#[derive(Default)]
struct Model {
    pending: Option<(usize, Option<u8>, Wall)>,
    promoted: Vec<(usize, u8)>,
    over: BTreeSet<usize>,
    previous_retired: bool,
}

impl Model {
    fn reserve(&mut self, who: usize, now: Wall) -> &'static str {
        if self.over.contains(&who) {
            return "fenced";
        }
        match self.pending {
            Some((owner, _, ends)) if owner != who && now < ends => "taken",
            // Whose reservation was taken over may ask again, as anybody may.
            before => {
                self.pending = Some((who, before.and_then(|(_, value, _)| value), now + LEASE));
                "ok"
            }
        }
    }

    fn fill(&mut self, who: usize, value: u8) -> &'static str {
        match &mut self.pending {
            Some((owner, filled, _)) if *owner == who => {
                *filled = Some(value);
                "ok"
            }
            _ => "fenced",
        }
    }

    fn promote(&mut self, who: usize) -> &'static str {
        match self.pending {
            Some((owner, Some(value), _)) if owner == who => {
                self.promoted.push((who, value));
                self.over.insert(who);
                self.pending = None;
                self.previous_retired = false;
                "ok"
            }
            Some((owner, None, _)) if owner == who => "invalid",
            _ if self.promoted.last().is_some_and(|(current, _)| *current == who) => "ok",
            _ => "fenced",
        }
    }

    fn retire_own(&mut self, who: usize) -> &'static str {
        if self.pending.is_some_and(|(owner, ..)| owner == who) {
            self.pending = None;
            self.over.insert(who);
            return "ok";
        }
        match self.promoted.iter().rev().position(|(promoted, _)| *promoted == who) {
            Some(0) => "invalid",
            Some(1) => {
                self.previous_retired = true;
                "ok"
            }
            Some(_) | None => "ok",
        }
    }
}

/// Runs `steps` on the store and on the model, and compares each answer and each state.
pub(crate) async fn agrees_with_the_model(bench: &Bench<'_>, name: &StoredName, steps: &[Step]) {
    let attempts = (0..6).map(|_| attempt()).collect::<Vec<_>>();
    let mut model = Model::default();
    for step in steps {
        let (expected, answered) = match *step {
            Step::Reserve(who) => {
                (model.reserve(who, bench.clock.now().wall), word(bench.reserve(name, &attempts[who]).await))
            }
            Step::Fill(who, value) => {
                (model.fill(who, value), word(bench.fill(name, &attempts[who], &format!("value {value}")).await))
            }
            Step::Promote(who) => (model.promote(who), word(bench.store.promote(name, &attempts[who]).await)),
            Step::Retire(version, who) => {
                let versions = bench.store.versions(name).await.ok();
                let Some(version_of) = versions.as_ref().and_then(|v| v.of(&attempts[version])) else { continue };
                let answered = word(bench.store.retire(name, &version_of.id, &attempts[who]).await);
                (if version == who { model.retire_own(who) } else { "fenced" }, answered)
            }
            Step::Wait(seconds) => {
                bench.clock.advance(Duration::from_secs(seconds));
                continue;
            }
        };
        assert_eq!(answered, expected, "{step:?}");
        compare(bench, name, &model, &attempts).await;
    }
}

async fn compare(bench: &Bench<'_>, name: &StoredName, model: &Model, attempts: &[Attempt]) {
    let current = model.promoted.last();
    assert_eq!(bench.current(name).await, current.map(|(_, value)| format!("value {value}")));
    let versions = match bench.store.versions(name).await {
        Ok(versions) => versions,
        Err(StoreError::NotFound(_)) => Versions::none(name.clone()),
        Err(error) => panic!("{error}"),
    };
    let owner = |stage| versions.at(stage).map(|version| version.attempt.clone());
    assert_eq!(versions.iter().filter(|v| v.stages.has(Stage::Current)).count(), usize::from(current.is_some()));
    assert_eq!(owner(Stage::Current), current.map(|(who, _)| attempts[*who].clone()));
    assert_eq!(owner(Stage::Pending), model.pending.map(|(who, ..)| attempts[who].clone()));
    let previous = model.promoted.iter().rev().nth(1).filter(|_| !model.previous_retired);
    assert_eq!(owner(Stage::Previous), previous.map(|(who, _)| attempts[*who].clone()));
}

fn word<T: Into<Answer>>(result: Result<T, StoreError>) -> &'static str {
    match result.map(Into::into) {
        Ok(Answer(word)) => word,
        Err(StoreError::Fenced(_)) => "fenced",
        Err(StoreError::Invalid(_)) => "invalid",
        Err(error) => panic!("{error}"),
    }
}

struct Answer(&'static str);

impl From<Reserved> for Answer {
    fn from(reserved: Reserved) -> Self {
        Self(match reserved {
            Reserved::Ours(_) => "ok",
            Reserved::Taken(_) => "taken",
        })
    }
}

impl From<()> for Answer {
    fn from((): ()) -> Self {
        Self("ok")
    }
}

impl From<store::VersionId> for Answer {
    fn from(_: store::VersionId) -> Self {
        Self("ok")
    }
}
