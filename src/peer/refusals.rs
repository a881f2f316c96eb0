//! Coalesced refusals: which are recorded singly, and which are counted, so that a local flood cannot fill the log.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::time::{Boot, Moment};

/// Refusals of one uid that are recorded singly in one window, over all codes.
pub const PER_UID: u32 = 5;
/// Refusals of all unidentified peers together that are recorded singly in one window.
pub const UNIDENTIFIED: u32 = 10;
/// How long a window is.
pub const WINDOW: Duration = Duration::from_secs(1);
/// Uids that have a window of their own at one time; refusals of more are counted with those of unidentified peers.
const MAX_UIDS: usize = 1024;

/// Counts refusals.
///
/// Every refusal is either recorded, or counted in exactly one [`Tally`], whose record names it.
#[derive(Debug, Default)]
pub struct Refusals {
    windows: HashMap<Option<u32>, Window>,
    next: u64,
}

#[derive(Debug)]
struct Window {
    number: u64,
    opened: Boot,
    single: u32,
    counts: BTreeMap<&'static str, u64>,
}

/// What becomes of one refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It gets a record of its own.
    Single,
    /// It is counted, and the record of the [`Tally`] with this number stands for it.
    Counted(u64),
}

/// The refusals of one window that were counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    /// The number of the window.
    pub window: u64,
    /// Whose they were; none: unidentified peers together.
    pub uid: Option<u32>,
    /// How many, by error code, sorted by code.
    pub counts: Vec<(&'static str, u64)>,
}

impl Refusals {
    /// Notes a refusal with error `code` of a peer of `uid`.
    pub fn note(&mut self, uid: u32, identified: bool, code: &'static str, now: Moment) -> Fate {
        let room = self.windows.contains_key(&Some(uid)) || self.windows.len() < MAX_UIDS;
        let own = room.then_some(uid);
        if own.is_some() && self.window(own, now).is_full(PER_UID) {
            return self.window(own, now).count(code);
        }
        if !(identified && own.is_some()) {
            let shared = self.window(None, now);
            if shared.is_full(UNIDENTIFIED) {
                return shared.count(code);
            }
            shared.single += 1;
        }
        if own.is_some() {
            self.window(own, now).single += 1;
        }
        Fate::Single
    }

    /// Closes the windows that are over. What they counted is to be recorded now.
    #[must_use]
    pub fn due(&mut self, now: Moment) -> Vec<Tally> {
        self.close(|window| now.boot - window.opened >= WINDOW)
    }

    /// Closes all windows: the agent stops.
    #[must_use]
    pub fn rest(&mut self) -> Vec<Tally> {
        self.close(|_| true)
    }

    fn close(&mut self, is_over: impl Fn(&Window) -> bool) -> Vec<Tally> {
        let over: Vec<_> = self.windows.extract_if(|_, window| is_over(window)).collect();
        let counted = over.into_iter().filter(|(_, window)| !window.counts.is_empty());
        let mut tallies: Vec<_> = counted
            .map(|(uid, window)| Tally { window: window.number, uid, counts: window.counts.into_iter().collect() })
            .collect();
        tallies.sort_by_key(|tally| tally.window);
        tallies
    }

    /// A window stays open until it is closed by [`Refusals::due`], so that what it counted is never lost.
    fn window(&mut self, uid: Option<u32>, now: Moment) -> &mut Window {
        let next = &mut self.next;
        self.windows.entry(uid).or_insert_with(|| {
            *next += 1;
            Window { number: *next, opened: now.boot, single: 0, counts: BTreeMap::new() }
        })
    }
}

impl Window {
    const fn is_full(&self, most: u32) -> bool {
        self.single >= most
    }

    fn count(&mut self, code: &'static str) -> Fate {
        *self.counts.entry(code).or_default() += 1;
        Fate::Counted(self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment { boot: Boot::from_duration(Duration::from_millis(millis)), ..Moment::default() }
    }

    fn singles(refusals: &mut Refusals, uid: u32, identified: bool, times: usize) -> usize {
        (0..times).filter(|_| refusals.note(uid, identified, "access_denied", at(0)) == Fate::Single).count()
    }

    #[test]
    fn a_flood_of_one_uid_is_five_records_and_a_tally() {
        let mut refusals = Refusals::default();
        assert_eq!(singles(&mut refusals, 7, true, 1000), 5);
        assert!(matches!(refusals.note(7, true, "invalid_scope", at(1)), Fate::Counted(_)));
        assert_eq!(refusals.due(at(999)), []);
        let counts = vec![("access_denied", 995), ("invalid_scope", 1)];
        assert_eq!(refusals.due(at(1000)), [Tally { window: 1, uid: Some(7), counts }]);
        assert_eq!(singles(&mut refusals, 7, true, 1), 1);
    }

    #[test]
    fn strangers_together_have_ten() {
        let mut refusals = Refusals::default();
        let singles: usize = (0..100).map(|uid| singles(&mut refusals, uid, false, 10)).sum();
        assert_eq!(singles, 10);
        let tallies = refusals.rest();
        let counted: u64 = tallies.iter().flat_map(|tally| &tally.counts).map(|(_, count)| count).sum();
        assert_eq!(counted, 990, "every refusal is recorded or counted");
    }

    #[test]
    fn another_uid_is_not_silenced_by_a_flood() {
        let mut refusals = Refusals::default();
        singles(&mut refusals, 7, true, 1000);
        assert_eq!(singles(&mut refusals, 8, true, 3), 3);
    }

    #[test]
    fn the_number_of_windows_is_bounded() {
        let mut refusals = Refusals::default();
        (0..5000).for_each(|uid| _ = refusals.note(uid, true, "access_denied", at(0)));
        assert!(refusals.windows.len() <= MAX_UIDS + 1);
    }

    #[test]
    fn a_quiet_second_leaves_nothing() {
        let mut refusals = Refusals::default();
        singles(&mut refusals, 7, true, 5);
        assert_eq!(refusals.due(at(1000)), []);
        assert!(refusals.windows.is_empty());
    }
}
