//! What has happened to what workloads have: published by the engines, heard by those who listen.
//!
//! An event says that something is another now and holds nothing of it: whoever hears it asks, and is judged. One change
//! may be told more than once. What is allowed to hear which event is the broker's to judge.

use tokio::sync::broadcast;

use crate::access::Resource;

/// How many events a listener may be behind before it has lost some. All listeners share them.
pub const MOST_UNHEARD: usize = 256;

/// Something has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What.
    pub what: What,
    /// To what. A secret stands as its entry, or as `STORE/NAME` for every entry of that place; rules are the agent's.
    pub resource: Resource,
}

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Another version is served.
    Rotated,
    /// No version is served any more.
    Retired,
    /// What was handed out before has been ended at the far side.
    Revoked,
    /// Configuration and policies were read anew: what is allowed may be another.
    Reloaded,
}

impl What {
    /// The name of the event on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rotated => "rotated",
            Self::Retired => "retired",
            Self::Revoked => "revoked",
            Self::Reloaded => "reloaded",
        }
    }
}

/// Where events are published. Its clones are the same bus.
#[derive(Clone, Debug)]
pub struct Bus(broadcast::Sender<Event>);

impl Default for Bus {
    fn default() -> Self {
        Self(broadcast::Sender::new(MOST_UNHEARD))
    }
}

impl Bus {
    /// Tells everybody who listens. It waits for nobody: who is behind by [`MOST_UNHEARD`] loses the oldest, and hears that.
    pub fn publish(&self, what: What, resource: Resource) {
        // Nobody listens: nobody is to be told.
        let _ = self.0.send(Event { what, resource });
    }

    /// Hears everything that is published from here on.
    #[must_use]
    pub fn listen(&self) -> Hearing {
        Hearing(self.0.subscribe())
    }
}

/// One listener's place at the bus.
#[derive(Debug)]
pub struct Hearing(broadcast::Receiver<Event>);

impl Hearing {
    /// The next event; none once this listener has lost one, being too slow. It may be dropped while it is awaited.
    pub async fn next(&mut self) -> Option<Event> {
        self.0.recv().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn each_listener_hears_all_from_its_beginning_and_in_order() {
        let bus = Bus::default();
        bus.publish(What::Reloaded, Resource::Agent);
        let mut all = [bus.listen(), bus.clone().listen()];
        for what in [What::Rotated, What::Retired] {
            bus.publish(what, Resource::Agent);
        }
        for one in &mut all {
            assert_eq!(one.next().now_or_never().unwrap().unwrap().what, What::Rotated);
            assert_eq!(one.next().now_or_never().unwrap().unwrap().what, What::Retired);
            assert!(one.next().now_or_never().is_none());
        }
    }

    #[test]
    fn who_is_too_slow_hears_that_it_has_lost_some() {
        let bus = Bus::default();
        let mut slow = bus.listen();
        (0..=MOST_UNHEARD).for_each(|_| bus.publish(What::Reloaded, Resource::Agent));
        assert_eq!(slow.next().now_or_never(), Some(None));
    }
}
