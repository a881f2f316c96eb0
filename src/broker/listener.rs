//! Who listens: each event is judged again for the one who would hear it, at the moment at which it is told.

use std::sync::Arc;

use tokio::sync::watch;

use super::seats::Seat;
use super::{Broker, Rules};
use crate::access::{Access, Action, Resource, Role, SecretId, Verdict, Workload};
use crate::events::{Event, Hearing, What};
use crate::name::Name;
use crate::peer::Peer;
use crate::time::Wall;

/// A workload that listens. Its end is its drop.
pub struct Listener {
    pub(super) broker: Arc<Broker>,
    pub(super) peer: Arc<Peer>,
    pub(super) hearing: Hearing,
    /// What was heard and is not told yet.
    pub(super) heard: Option<Event>,
    pub(super) draining: watch::Receiver<bool>,
    pub(super) _seat: Seat,
}

/// What a listener is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// What has happened.
    pub what: What,
    /// To what.
    pub of: Subject,
}

/// What news are about, by the name that a workload asks for it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A `[secret.NAME]`.
    Secret(Name),
    /// A provider.
    Provider(Name),
    /// The agent's rules, of which nothing more is told.
    Agent,
}

impl Listener {
    /// What happens next to what this workload may have at that moment; none when there will be no more: it was too slow,
    /// is nobody by now, or the agent stops. It may be dropped while it is awaited: nothing is lost by it.
    pub async fn next(&mut self) -> Option<Vec<News>> {
        loop {
            if self.heard.is_none() {
                self.heard = Some(tokio::select! {
                    event = self.hearing.next() => event?,
                    _ = self.draining.wait_for(|draining| *draining) => return None,
                });
            }
            let rules = self.broker.rules();
            let who = self.peer.attest(&rules.registry, Role::Workload).await.ok()?;
            let now = self.broker.clock.now().wall;
            let news = self.heard.take().map(|event| news(&rules, &who, &event, now)).unwrap_or_default();
            if !news.is_empty() {
                return Some(news);
            }
        }
    }
}

/// What `who` may hear of `event` by `rules`: one for each name by which it may have what has changed.
fn news(rules: &Rules, who: &Arc<Workload>, Event { what, resource }: &Event, now: Wall) -> Vec<News> {
    let may_read = |name: &&Name| {
        let (scopes, audience) = Default::default();
        let resource = Resource::Secret(SecretId::Entry((*name).clone()));
        let access = Access { who: Arc::clone(who), action: Action::Secret, resource, scopes, audience };
        matches!(rules.policy.judge(access, now), Verdict::Permit(_))
    };
    let subjects: Vec<_> = match resource {
        Resource::Secret(id) => {
            rules.shelf.entries_of(id).filter(may_read).map(|name| Subject::Secret(name.clone())).collect()
        }
        Resource::Provider(name) if rules.policy.may_ever(who, Action::Token, resource) => {
            vec![Subject::Provider(name.clone())]
        }
        Resource::Provider(_) => Vec::new(),
        Resource::Agent => vec![Subject::Agent],
    };
    subjects.into_iter().map(|of| News { what: *what, of }).collect()
}
