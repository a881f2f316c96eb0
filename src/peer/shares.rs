//! Shares of connections: a local user must not stop the host.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::telemetry::metrics::Tally;

/// How many connections there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// All together.
    pub connections: usize,
    /// Of one uid.
    pub per_uid: usize,
    /// Of all unidentified peers together.
    pub unidentified: usize,
}

impl Shares {
    /// What unidentified peers have together.
    pub const UNIDENTIFIED: usize = 32;
    /// What the operators' socket has for itself; its descriptors are among [`Self::KEPT_DESCRIPTORS`].
    pub const OPERATORS: Self = Self { connections: 32, per_uid: 16, unidentified: 8 };
    /// Descriptors that are kept for everything but connections: files, stores, the operators' socket.
    pub const KEPT_DESCRIPTORS: u64 = 256;

    /// `connections`, lowered to what `descriptors` (`RLIMIT_NOFILE`) carry at `each` descriptors a connection beside
    /// [`Self::KEPT_DESCRIPTORS`] and those for `outgoing` connections, and at least 1. A given `per_uid` is lowered in the same proportion, so that no uid gets the whole host by it;
    /// else it is a quarter.
    #[must_use]
    pub fn carried_by(
        descriptors: u64,
        outgoing: usize,
        each: usize,
        connections: usize,
        per_uid: Option<usize>,
    ) -> Self {
        let left = usize::try_from(descriptors.saturating_sub(Self::KEPT_DESCRIPTORS)).unwrap_or(usize::MAX);
        let carried = connections.min(left.saturating_sub(outgoing) / each.max(1)).max(1);
        let per_uid = per_uid.map_or(carried / 4, |asked| asked.saturating_mul(carried) / connections.max(1));
        let per_uid = per_uid.clamp(1, carried);
        Self { connections: carried, per_uid, unidentified: Self::UNIDENTIFIED.min(carried) }
    }
}

/// Lets connections in, and counts them until they end.
#[derive(Debug)]
pub struct Admission {
    shares: Shares,
    held: Mutex<Held>,
    turned_away: Tally<3>,
}

#[derive(Debug, Default)]
struct Held {
    all: usize,
    unidentified: usize,
    by_uid: HashMap<u32, usize>,
}

impl Admission {
    /// Nobody is in.
    #[must_use]
    pub fn new(shares: Shares) -> Arc<Self> {
        Arc::new(Self { shares, held: Mutex::default(), turned_away: Tally::of(["host", "uid", "unidentified"]) })
    }

    /// The limits.
    #[must_use]
    pub const fn shares(&self) -> Shares {
        self.shares
    }

    /// Connections that were turned away, by whose share was used up.
    #[must_use]
    pub const fn turned_away(&self) -> &Tally<3> {
        &self.turned_away
    }

    /// How many connections there are.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.held().all
    }

    /// Lets a connection of `uid` in, until the guard is dropped. A peer that has not been attested yet counts as
    /// identified; [`Guard::unidentified`] says otherwise later.
    ///
    /// # Errors
    /// A share is used up; nothing is counted.
    pub fn enter(self: &Arc<Self>, uid: u32, identified: bool) -> Result<Guard, Full> {
        self.let_in(uid, identified).inspect_err(|full| self.turned_away.count(full.as_str()))
    }

    fn let_in(self: &Arc<Self>, uid: u32, identified: bool) -> Result<Guard, Full> {
        let mut held = self.held();
        if held.all >= self.shares.connections {
            return Err(Full::Host(self.shares.connections));
        }
        if held.by_uid.get(&uid).is_some_and(|of_uid| *of_uid >= self.shares.per_uid) {
            return Err(Full::Uid(self.shares.per_uid));
        }
        if !identified {
            held.stranger(self.shares.unidentified)?;
        }
        held.all += 1;
        *held.by_uid.entry(uid).or_default() += 1;
        Ok(Guard { admission: Arc::clone(self), uid, identified })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    const fn stranger(&mut self, most: usize) -> Result<(), Full> {
        if self.unidentified >= most {
            return Err(Full::Unidentified(most));
        }
        self.unidentified += 1;
        Ok(())
    }
}

/// A connection that was let in. Its end is its drop.
#[derive(Debug)]
#[must_use]
pub struct Guard {
    admission: Arc<Admission>,
    uid: u32,
    identified: bool,
}

impl Guard {
    /// The peer turned out to be nobody.
    ///
    /// # Errors
    /// Unidentified peers have no share left: the connection is to be closed.
    pub fn unidentified(&mut self) -> Result<(), Full> {
        if self.identified {
            let strangers = self.admission.shares.unidentified;
            let counted = self.admission.held().stranger(strangers);
            counted.inspect_err(|full| self.admission.turned_away.count(full.as_str()))?;
            self.identified = false;
        }
        Ok(())
    }

    /// The peer turned out to be somebody.
    pub fn identified(&mut self) {
        if !self.identified {
            self.admission.held().unidentified -= 1;
            self.identified = true;
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.identified();
        let mut held = self.admission.held();
        held.all -= 1;
        if let Some(of_uid) = held.by_uid.get_mut(&self.uid) {
            *of_uid -= 1;
            if *of_uid == 0 {
                held.by_uid.remove(&self.uid);
            }
        }
    }
}

/// A share is used up; the number is its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// The host's.
    #[error("all {0} connections are in use; raise `limits.connections` and the descriptor limit")]
    Host(usize),
    /// The uid's.
    #[error("this uid has {0} connections, its whole share; raise `limits.connections_per_uid` or reuse connections")]
    Uid(usize),
    /// That of unidentified peers.
    #[error("unidentified peers have {0} connections, their whole share")]
    Unidentified(usize),
}

impl Full {
    /// The word in metrics.
    const fn as_str(&self) -> &'static str {
        match self {
            Self::Host(_) => "host",
            Self::Uid(_) => "uid",
            Self::Unidentified(_) => "unidentified",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(connections: usize, per_uid: usize, unidentified: usize) -> Arc<Admission> {
        Admission::new(Shares { connections, per_uid, unidentified })
    }

    #[test]
    fn one_uid_cannot_use_up_the_host() {
        let admission = admission(4, 2, 4);
        let _held = [admission.enter(1, true).unwrap(), admission.enter(1, true).unwrap()];
        assert_eq!(admission.enter(1, true).unwrap_err(), Full::Uid(2));
        assert!(admission.enter(2, true).is_ok());
    }

    #[test]
    fn a_share_comes_back_with_the_end_of_a_connection() {
        let admission = admission(1, 1, 1);
        drop(admission.enter(1, false).unwrap());
        let _held = admission.enter(1, false).unwrap();
        assert_eq!(admission.enter(2, true).unwrap_err(), Full::Host(1));
        assert_eq!(admission.connections(), 1);
    }

    #[test]
    fn strangers_share_one_small_room() {
        let admission = admission(9, 9, 1);
        let mut first = admission.enter(1, true).unwrap();
        let mut second = admission.enter(2, true).unwrap();
        assert_eq!(first.unidentified(), Ok(()));
        assert_eq!(second.unidentified(), Err(Full::Unidentified(1)));
        first.identified();
        assert_eq!(second.unidentified(), Ok(()));
        assert_eq!(admission.enter(3, false).unwrap_err(), Full::Unidentified(1));
        assert_eq!(admission.connections(), 2, "who was not let in is not counted");
    }

    #[test]
    fn connections_are_lowered_to_what_descriptors_carry() {
        let shares = Shares::carried_by(1024, 0, 2, 10_000, None);
        assert_eq!(shares, Shares { connections: 384, per_uid: 96, unidentified: 32 });
        assert_eq!(Shares::carried_by(1024, 320, 2, 10_000, None).connections, 384 - 160, "with ten providers");
        assert_eq!(Shares::carried_by(1024, 4_000, 2, 10_000, None).connections, 1);
        assert_eq!(Shares::carried_by(100_000, 0, 2, 10_000, None).connections, 10_000);
        assert_eq!(Shares::carried_by(1024, 0, 2, 10_000, Some(2_500)).per_uid, 96, "still a quarter");
        assert_eq!(Shares::carried_by(1024, 0, 2, 10_000, Some(10_000)).per_uid, 384, "as it was asked for");
        assert_eq!(
            Shares::carried_by(0, 0, 2, 10_000, Some(5)),
            Shares { connections: 1, per_uid: 1, unidentified: 1 }
        );
    }
}
