//! The kill matrix and the invariant, at far sides of ours: they show what a real server cannot be made to show, such as
//! one that invents the only value there is. The rotators themselves are tested at real servers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bursar::crypto::SystemRandom;
use bursar::rotation::{
    Created, Ended, Engine, FarId, Found, Held, Invents, Label, Overlap, Plan, Rotator, Trouble, random::Alphabet,
    random::RandomText,
};
use bursar::secret::Secret;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::matrix::{self, Subject};

mod histories;
mod killed;
mod uptake;

/// By id: a label and a value.
type Credentials = BTreeMap<u32, (String, Vec<u8>)>;

static NEXT_ID: AtomicU32 = AtomicU32::new(1);

/// A far side in memory.
struct FarSide {
    overlap: Overlap,
    invents: Invents,
    tells: bool,
    held: Arc<Mutex<Credentials>>,
}

impl FarSide {
    fn subject(overlap: Overlap, invents: Invents, tells: bool) -> Subject {
        let held = Arc::default();
        let far = Self { overlap, invents, tells, held: Arc::clone(&held) };
        let works = move |value: Vec<u8>| {
            let works = held.lock().unwrap().values().any(|(_, one)| *one == value);
            async move { works }.boxed()
        };
        Subject { rotator: Arc::new(far), exclusive: true, first: None, works: Arc::new(works) }
    }

    fn accept(&self, label: &str, value: &[u8]) -> u32 {
        let mut held = self.held.lock().unwrap();
        if let Some((id, _)) = held.iter().find(|(_, (_, one))| *one == value) {
            return *id;
        }
        // Never one that was another's: who wakes late would end it by its id.
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        if self.overlap == Overlap::One {
            held.clear();
        }
        held.insert(id, (label.to_owned(), value.to_vec()));
        assert!(held.len() <= 3 || !self.tells, "more than the far side allows: {held:?}");
        id
    }
}

impl Rotator for FarSide {
    fn kind(&self) -> &'static str {
        "memory"
    }

    fn overlap(&self) -> Overlap {
        self.overlap
    }

    fn invents(&self) -> Invents {
        self.invents
    }

    fn list(&self) -> BoxFuture<'_, Result<Option<Vec<Found>>, Trouble>> {
        let held = self.held.lock().unwrap();
        let found = |(id, (label, _)): (&u32, &(String, Vec<u8>))| Found {
            far_id: id.to_string().parse().unwrap(),
            label: Label::in_text(label),
        };
        let found = held.iter().map(found).collect();
        let told = self.tells.then_some(found);
        async { Ok(told) }.boxed()
    }

    fn create<'a>(&'a self, label: &'a Label, _: Option<&'a Held>) -> BoxFuture<'a, Result<Created, Trouble>> {
        async move {
            let value = RandomText::new(Alphabet::Hex, 16, Arc::new(SystemRandom)).make()?;
            let far_id = match self.invents {
                Invents::Us => None,
                Invents::FarSide => Some(self.accept(label.as_str(), value.expose()).to_string().parse::<FarId>()?),
            };
            Ok(Created { value, far_id })
        }
        .boxed()
    }

    fn set<'a>(&'a self, new: &'a Held, _: Option<&'a Held>) -> BoxFuture<'a, Result<(), Trouble>> {
        async move {
            self.accept("", new.value.expose());
            Ok(())
        }
        .boxed()
    }

    fn test<'a>(&'a self, held: &'a Held) -> BoxFuture<'a, Result<bool, Trouble>> {
        let works = self.held.lock().unwrap().values().any(|(_, one)| held.value.matches(one));
        async move { Ok(works) }.boxed()
    }

    fn revoke<'a>(&'a self, ended: &'a Ended, _: Option<&'a Held>) -> BoxFuture<'a, Result<(), Trouble>> {
        let is_it = |id: &u32, value: &[u8]| {
            ended.far_id.as_ref().is_some_and(|far_id| far_id.as_str() == id.to_string())
                || ended.value.as_deref().is_some_and(|ended: &Secret| ended.matches(value))
        };
        self.held.lock().unwrap().retain(|id, (_, value)| !is_it(id, value));
        async { Ok(()) }.boxed()
    }
}

/// A rotation whose former version may be held by readers of before a restart.
async fn restarted() -> (matrix::House, Arc<Engine>) {
    let (house, subject) = (matrix::House::new(), FarSide::subject(Overlap::Two, Invents::Us, false));
    house.recover(&subject).await;
    let plan = Plan { uptake_deadline: Duration::from_secs(3_600), ..subject.plan() };
    let engine = house.engine_by(plan, Arc::clone(&subject.rotator), house.store.clone());
    engine.wait_for_recall();
    let status = engine.rotate(&house.name(), true).await.unwrap();
    assert!(status.previous.is_some(), "it is not ended before the log was read: {status:?}");
    (house, engine)
}

#[tokio::test]
async fn where_the_log_tells_of_nobody_the_former_version_is_ended() {
    let (_house, engine) = restarted().await;
    engine.recall(|_, _, _| async { Some(Vec::new()) }).await;
    engine.turn_all().await;
    assert_eq!(engine.status()[0].previous, None);
}

#[tokio::test]
async fn where_the_log_cannot_be_read_somebody_is_supposed_to_hold_the_former_version() {
    let (_house, engine) = restarted().await;
    engine.recall(|_, _, _| async { None }).await;
    engine.turn_all().await;
    let status = engine.status().remove(0);
    assert_eq!(status.waiting_for.as_deref(), Some("readers that hold the former version"), "{status:?}");
}

#[tokio::test]
async fn two_values_of_our_own_survive_everything() {
    matrix::holds(&FarSide::subject(Overlap::Two, Invents::Us, false)).await;
}

#[tokio::test]
async fn one_value_of_our_own_survives_everything() {
    matrix::holds(&FarSide::subject(Overlap::One, Invents::Us, false)).await;
}

#[tokio::test]
async fn what_the_far_side_invents_survives_where_it_tells_what_it_has() {
    matrix::holds(&FarSide::subject(Overlap::Two, Invents::FarSide, true)).await;
}

#[tokio::test]
async fn what_a_silent_far_side_invents_survives_but_for_a_lost_reply() {
    matrix::holds(&FarSide::subject(Overlap::Two, Invents::FarSide, false)).await;
}

#[tokio::test]
async fn the_only_value_of_a_far_side_that_invents_is_made_again() {
    matrix::holds(&FarSide::subject(Overlap::One, Invents::FarSide, false)).await;
}
