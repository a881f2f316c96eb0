//! The deliverer: keeps every delivered file as it should be, each on its own, so that one that hangs or fails holds up no
//! other. What it does is announced and recorded by the broker; here is when.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet, spawn_blocking};

use super::file::{NotPut, Put, Stamp};
use super::{Delivery, NotRendered, notify};
use crate::audit::DeliveryAct;
use crate::broker::{Broker, DeliveryState, DeliveryStatus, Handover, Mark, Refused, Rules, Want};
use crate::crypto::Random;
use crate::name::Name;
use crate::retry::Backoff;
use crate::secret::Secret;
use crate::time::{Clock, Deadline, Moment, Wall};

/// How often it is looked whether a value changed, or the file did.
const LOOK: Duration = Duration::from_secs(1);
/// When what failed is tried again.
const FAILING: Backoff = Backoff { first: Duration::from_secs(1), most: Duration::from_secs(30) };
/// When policy is asked again that has refused; a reload asks at once.
const DENIED: Backoff = Backoff { first: Duration::from_secs(60), most: Duration::from_secs(900) };
/// How often in a row a template may want another value than it said before it is tried again later.
const MOST_ROUNDS: usize = super::template::MOST_WANTS;

/// The deliveries that are in force.
pub type Deliveries = Arc<[Arc<Delivery>]>;

/// What keeps files as they should be.
pub struct Deliverer {
    /// Who judges and records.
    pub broker: Arc<Broker>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Jitter.
    pub random: Arc<dyn Random>,
    /// The deliveries that are in force.
    pub wanted: watch::Receiver<Deliveries>,
}

/// What is remembered of one delivery.
struct Memory {
    delivery: Arc<Delivery>,
    /// What it is known to want; empty: not looked at yet.
    wants: Vec<Want>,
    /// The values in the file; none: it is not known what stands there.
    marks: Option<Vec<Mark>>,
    /// The file that was put.
    stamp: Option<Stamp>,
    /// When the first token in it ends.
    ends: Option<Deadline>,
    written: Option<Wall>,
    /// Whether its reader has to be told.
    untold: bool,
    /// Why it was told in vain.
    untold_why: Option<String>,
    /// Whether the configuration names it no more, and its file could not be taken away yet.
    leaving: bool,
    failures: u32,
    unnotified: u32,
    again: Option<Deadline>,
    tell_again: Option<Deadline>,
    state: DeliveryState,
    error: Option<String>,
    expired: bool,
}

/// A delivery that is worked on.
struct Busy {
    name: Name,
    /// Whether the rules changed meanwhile: what it comes to is of the old ones.
    reloaded: bool,
}

/// Why a file is not what it should be.
enum Trouble {
    /// Policy refuses.
    Denied(Refused),
    /// It was refused otherwise, and is recorded so.
    Refused(Refused),
    /// Its outcome is recorded.
    Failed(String),
}

impl Memory {
    fn new(delivery: Arc<Delivery>) -> Self {
        Self {
            delivery,
            wants: Vec::new(),
            marks: None,
            stamp: None,
            ends: None,
            written: None,
            untold: false,
            untold_why: None,
            leaving: false,
            failures: 0,
            unnotified: 0,
            again: None,
            tell_again: None,
            state: DeliveryState::Waiting,
            error: None,
            expired: false,
        }
    }

    fn status(&self) -> DeliveryStatus {
        let order = &self.delivery.order;
        DeliveryStatus {
            name: order.name.clone(),
            workload: order.workload.clone(),
            path: order.path.clone(),
            state: self.state,
            written_at: self.written.map(|at| at.rfc3339().as_str().to_owned()),
            error: self.error.clone(),
            expired: self.expired,
        }
    }

    /// It is looked at now, whatever it was refused before.
    fn begin_anew(&mut self) {
        (self.again, self.failures) = (None, 0);
    }

    fn is_due(&self, now: Moment) -> bool {
        self.again.is_none_or(|again| again.passed(now))
    }
}

/// Keeps the files of `deliverer` as they should be, for as long as it is polled.
pub async fn keep_delivered(deliverer: Deliverer) {
    let deliverer = Arc::new(deliverer);
    let (mut idle, mut busy) = (BTreeMap::<Name, Memory>::new(), HashMap::<Id, Busy>::new());
    let mut at_work = JoinSet::new();
    let mut rules: Option<Arc<Rules>> = None;
    loop {
        let wanted = deliverer.wanted.borrow().clone();
        let now_in_force = deliverer.broker.rules();
        let reloaded = rules.replace(Arc::clone(&now_in_force)).is_none_or(|old| !Arc::ptr_eq(&old, &now_in_force));
        if reloaded {
            // What was refused may be allowed, and what was allowed may be refused.
            idle.values_mut().for_each(Memory::begin_anew);
            busy.values_mut().for_each(|busy| busy.reloaded = true);
        }
        for memory in due(&deliverer, &wanted, &mut idle, &busy) {
            let (name, deliverer) = (memory.delivery.order.name.clone(), Arc::clone(&deliverer));
            let wanted = wanted.iter().find(|one| one.order.name == name).cloned();
            let work = at_work.spawn(async move { deliverer.work(memory, wanted).await });
            busy.insert(work.id(), Busy { name, reloaded: false });
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            Some(done) = at_work.join_next_with_id() => landed(done, &mut idle, &mut busy),
        }
    }
}

/// Takes back what was worked on. What died in its task is begun anew.
fn landed(
    done: Result<(Id, Option<Memory>), JoinError>,
    idle: &mut BTreeMap<Name, Memory>,
    busy: &mut HashMap<Id, Busy>,
) {
    let (id, memory) = match done {
        Ok((id, memory)) => (id, memory),
        Err(died) => (died.id(), None),
    };
    let was = busy.remove(&id);
    if let Some(mut memory) = memory {
        if was.is_some_and(|busy| busy.reloaded) {
            memory.begin_anew();
        }
        idle.insert(memory.delivery.order.name.clone(), memory);
    }
}

/// What is to be worked on now: what is new, what is due, what is not wanted any more.
fn due(
    deliverer: &Deliverer,
    wanted: &Deliveries,
    idle: &mut BTreeMap<Name, Memory>,
    busy: &HashMap<Id, Busy>,
) -> Vec<Memory> {
    let now = deliverer.clock.now();
    for delivery in wanted.iter().filter(|one| !busy.values().any(|busy| busy.name == one.order.name)) {
        idle.entry(delivery.order.name.clone()).or_insert_with(|| Memory::new(Arc::clone(delivery)));
    }
    let is_as_wanted = |memory: &Memory| wanted.iter().any(|one| **one == *memory.delivery);
    let names: Vec<_> = idle
        .iter()
        .filter(|(_, memory)| memory.is_due(now) || !memory.leaving && !is_as_wanted(memory))
        .map(|(name, _)| name.clone())
        .collect();
    names.iter().filter_map(|name| idle.remove(name)).collect()
}

impl Deliverer {
    /// Sees to one delivery once; `wanted` is what the configuration says of it now. None: it is forgotten.
    async fn work(&self, mut memory: Memory, wanted: Option<Arc<Delivery>>) -> Option<Memory> {
        match wanted {
            None => return self.leave(memory).await,
            Some(wanted) if wanted != memory.delivery => {
                if wanted.target.path != memory.delivery.target.path {
                    // What stays there is in the log: it does not keep the file from its new place.
                    self.withdraw(&mut memory, "the configuration names another path").await;
                }
                // Who was told in vain may be told now.
                memory = Memory { untold: memory.untold && wanted.then.is_some(), ..Memory::new(wanted) };
            }
            Some(_) => memory.leaving = false,
        }
        let before = (memory.state, memory.error.take());
        match self.bring(&mut memory).await {
            Ok(()) => {
                (memory.state, memory.failures) = (DeliveryState::Current, 0);
                memory.again = Some(self.clock.now().deadline(LOOK));
            }
            Err(trouble) => self.trouble(&mut memory, trouble).await,
        }
        self.notify(&mut memory).await;
        if let (DeliveryState::Current, Some(why)) = (memory.state, &memory.untold_why) {
            (memory.state, memory.error) = (DeliveryState::Failing, Some(why.clone()));
        }
        self.look_at_the_end(&mut memory);
        tell(&memory, &before);
        self.broker.show_delivery(memory.status());
        Some(memory)
    }

    /// Takes the file of a delivery away that the configuration does not name any more, and forgets it; what cannot be taken
    /// away is shown, and tried again.
    async fn leave(&self, mut memory: Memory) -> Option<Memory> {
        if self.withdraw(&mut memory, "the configuration does not name it any more").await {
            self.broker.forget_delivery(&memory.delivery.order.name);
            return None;
        }
        let before = (memory.state, memory.error.take());
        let what = "it is taken out of the configuration, and its file could not be removed: see the agent's log";
        (memory.leaving, memory.state, memory.error) = (true, DeliveryState::Failing, Some(what.to_owned()));
        memory.failures = memory.failures.saturating_add(1);
        memory.again = Some(self.clock.now().deadline(FAILING.after(memory.failures, self.dice())));
        tell(&memory, &before);
        self.broker.show_delivery(memory.status());
        Some(memory)
    }

    /// Makes the file what it should be.
    async fn bring(&self, memory: &mut Memory) -> Result<(), Trouble> {
        let delivery = Arc::clone(&memory.delivery);
        if memory.wants.is_empty() {
            memory.wants = delivery.content.wants().map_err(|why| Trouble::Failed(why.to_string()))?;
        }
        let stands = blocking(&delivery, |delivery| delivery.target.stamp()).await;
        if memory.stamp.is_some() && stands != Some(memory.stamp) {
            // It was taken away or changed: it is put anew.
            memory.marks = None;
        }
        for _ in 0..MOST_ROUNDS {
            let before = memory.marks.as_deref();
            let handed = self.broker.deliver(&delivery.order, &memory.wants, before).await.map_err(|refused| {
                if refused.is_denial() { Trouble::Denied(refused) } else { Trouble::Refused(refused) }
            })?;
            let Some(handover) = handed else { return Ok(()) };
            match self.put(memory, handover).await? {
                None => return Ok(()),
                Some(want) => memory.wants.push(want),
            }
        }
        Err(Trouble::Failed("the template wants another value each time".to_owned()))
    }

    /// Puts the values that were handed over into the file; the value that turned out to be wanted too.
    async fn put(&self, memory: &mut Memory, handover: Handover) -> Result<Option<Want>, Trouble> {
        let began = self.clock.now();
        let Handover { intent, values } = handover;
        let known: BTreeMap<Want, &Secret> =
            memory.wants.iter().cloned().zip(values.iter().map(|value| value.value())).collect();
        let took = |clock: &dyn Clock| clock.now().since(began);
        let content = match memory.delivery.content.render(&known) {
            Ok(content) => content,
            Err(NotRendered::Wants(want)) => {
                let what = ("template", "it wants another value, which is asked for");
                self.broker.acted(DeliveryAct::Deliver, intent, Err(what), took(&*self.clock));
                return Ok(Some(*want));
            }
            Err(why @ NotRendered::Template { .. }) => {
                let why = why.to_string();
                self.broker.acted(DeliveryAct::Deliver, intent, Err(("template", &why)), took(&*self.clock));
                return Err(Trouble::Failed(why));
            }
        };
        let put = blocking(&memory.delivery, move |delivery| delivery.target.put(&content)).await;
        let put = match put.unwrap_or_else(|| Err(ended_early(&memory.delivery))) {
            Ok(put) => put,
            Err(why) => {
                let (code, why) = (why.code(), why.to_string());
                self.broker.acted(DeliveryAct::Deliver, intent, Err((code, &why)), took(&*self.clock));
                return Err(Trouble::Failed(why));
            }
        };
        let (how, stamp) = match put {
            Put::Written(stamp) => ("written", stamp),
            Put::Unchanged(stamp) => ("unchanged", stamp),
        };
        self.broker.acted(DeliveryAct::Deliver, intent, Ok(how), took(&*self.clock));
        if how == "written" {
            (memory.untold, memory.untold_why) = (memory.delivery.then.is_some(), None);
            (memory.unnotified, memory.tell_again) = (0, None);
            tracing::info!(delivery = %memory.delivery.order.name, path = %memory.delivery.order.path, "the file is new");
        }
        memory.stamp = Some(stamp);
        memory.written = Some(self.clock.now().wall);
        memory.marks = Some(values.iter().map(|value| Mark::of(value.terms())).collect());
        memory.ends = values.iter().filter_map(|value| value.terms().expires()).min_by_key(|end| end.wall);
        Ok(None)
    }

    async fn trouble(&self, memory: &mut Memory, trouble: Trouble) {
        memory.failures = memory.failures.saturating_add(1);
        let (backoff, hint) = match trouble {
            Trouble::Denied(refused) => {
                memory.state = DeliveryState::Denied;
                let decision =
                    refused.decision.map(|id| format!(" (`bursar audit query` shows {id})")).unwrap_or_default();
                memory.error = Some(format!("{}{decision}", refused.why));
                if memory.delivery.remove_if_denied {
                    self.withdraw(memory, "policy does not allow it any more").await;
                }
                (DENIED, None)
            }
            Trouble::Refused(refused) => {
                memory.state = DeliveryState::Failing;
                memory.error = Some(format!("`{}`: {}", refused.why.code(), refused.why));
                (FAILING, refused.why.retry_after())
            }
            Trouble::Failed(why) => {
                memory.state = DeliveryState::Failing;
                memory.error = Some(why);
                (FAILING, None)
            }
        };
        let wait = backoff.after(memory.failures, self.dice()).max(hint.unwrap_or_default());
        memory.again = Some(self.clock.now().deadline(wait.min(DENIED.most)));
    }

    /// Takes the file away, if it is there; false where that is still to be done.
    async fn withdraw(&self, memory: &mut Memory, why: &str) -> bool {
        let delivery = Arc::clone(&memory.delivery);
        (memory.marks, memory.untold, memory.untold_why) = (None, false, None);
        if !delivery.remove_if_denied || blocking(&delivery, |one| one.target.stamp()).await.flatten().is_none() {
            return true;
        }
        let began = self.clock.now();
        let (name, path) = (&delivery.order.name, &delivery.order.path);
        let Ok(intent) = self.broker.announce(&delivery.order, DeliveryAct::Withdraw).await else {
            tracing::error!(delivery = %name, %path, "the file was not removed, and should be: {why}: it cannot be recorded");
            return false;
        };
        let removed = blocking(&delivery, |one| one.target.remove()).await;
        let took = self.clock.now().since(began);
        match removed.unwrap_or_else(|| Err(ended_early(&delivery))) {
            Ok(true) => {
                tracing::warn!(delivery = %name, %path, "the file was removed: {why}");
                self.broker.acted(DeliveryAct::Withdraw, intent, Ok("removed"), took);
            }
            Ok(false) => {
                let what = "its mode or owner is another than that of a delivered file, so it was left";
                self.broker.acted(DeliveryAct::Withdraw, intent, Err(("not_ours", what)), took);
            }
            Err(error) => {
                tracing::error!(delivery = %name, %path, "the file was not removed, and should be: {why}: {error}");
                self.broker.acted(DeliveryAct::Withdraw, intent, Err((error.code(), &error.to_string())), took);
                return false;
            }
        }
        (memory.stamp, memory.ends) = (None, None);
        true
    }

    /// Tells the reader of a file that is new. In vain: again later; the file stays new.
    async fn notify(&self, memory: &mut Memory) {
        let delivery = Arc::clone(&memory.delivery);
        let Some(then) = delivery.then.as_ref().filter(|_| memory.untold) else { return };
        let began = self.clock.now();
        if memory.tell_again.is_some_and(|again| !again.passed(began)) {
            return;
        }
        let told = match self.broker.announce(&delivery.order, DeliveryAct::Notify).await {
            Ok(intent) => {
                let told = notify::tell(&delivery, then).await;
                let done = told.as_ref().copied().map_err(|why| (why.code(), why.to_string()));
                let done = done.as_ref().copied().map_err(|(code, why)| (*code, why.as_str()));
                self.broker.acted(DeliveryAct::Notify, intent, done, self.clock.now().since(began));
                told.map_err(|why| why.to_string())
            }
            Err(refused) => Err(refused.why.to_string()),
        };
        match told {
            Ok(_) => (memory.untold, memory.untold_why) = (false, None),
            Err(why) => {
                memory.unnotified = memory.unnotified.saturating_add(1);
                let wait = FAILING.after(memory.unnotified, self.dice());
                memory.tell_again = Some(self.clock.now().deadline(wait));
                memory.untold_why = Some(format!("the file is new, and its reader was not told: {why}"));
            }
        }
    }

    /// Whether a token in the file has ended: nobody who reads it gets anywhere then.
    fn look_at_the_end(&self, memory: &mut Memory) {
        let ended = memory.ends.is_some_and(|end| end.passed(self.clock.now()));
        if ended && !memory.expired {
            let Delivery { order, .. } = &*memory.delivery;
            let why = memory.error.as_deref().unwrap_or_default();
            tracing::error!(
                delivery = %order.name, path = %order.path,
                "a token in the file has ended and could not be renewed: who reads it is refused; the file stays: {why}"
            );
        }
        memory.expired = ended;
    }

    fn dice(&self) -> u16 {
        let mut dice = [0; 2];
        // Without randomness there is no jitter.
        self.random.fill(&mut dice).map_or(u16::MAX, |()| u16::from_ne_bytes(dice))
    }
}

fn ended_early(delivery: &Delivery) -> NotPut {
    let error = std::io::Error::other("the task that did it ended early");
    NotPut::Os { path: delivery.target.path.clone(), what: "written", error }
}

/// Does `act` where a file system that hangs holds up nobody else; none where it died.
async fn blocking<T: Send + 'static>(
    delivery: &Arc<Delivery>,
    act: impl FnOnce(&Delivery) -> T + Send + 'static,
) -> Option<T> {
    let delivery = Arc::clone(delivery);
    spawn_blocking(move || act(&delivery)).await.ok()
}

/// Says what changed, once, and what to do.
fn tell(memory: &Memory, before: &(DeliveryState, Option<String>)) {
    let Delivery { order, .. } = &*memory.delivery;
    let (name, path) = (&order.name, &order.path);
    match (&before.1, &memory.error) {
        (old, Some(error)) if old.as_ref() != Some(error) => {
            let stays = if memory.state == DeliveryState::Denied {
                ""
            } else {
                "; what stands there stays, and it is tried again"
            };
            tracing::warn!(delivery = %name, %path, workload = %order.workload, "the file is not as it should be: {error}{stays}");
        }
        (Some(_), None) => tracing::info!(delivery = %name, %path, "the file is as it should be again"),
        (_, _) => {}
    }
}
