//! Which refusals are written singly, and which are counted: so that a local user who is refused as fast as
//! it can ask does not fill the disk. Pure.
//!
//! Per uid at most five refusal records a second, over all codes and resources; all unidentified peers
//! together ten. The rest is counted, and once a second the counts are one record.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::time::Boot;

use super::Whose;

/// Refusal records a second, for the workloads of one uid.
pub const PER_UID: u32 = 5;
/// Refusal records a second, for all unidentified peers together.
pub const UNIDENTIFIED: u32 = 10;
/// How many uids are counted singly; the others are counted together.
pub const MAX_UIDS: usize = 1_024;
/// How many different codes are counted singly.
const MAX_CODES: usize = 32;
const WINDOW: Duration = Duration::from_secs(1);

/// What becomes of a refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate<T> {
    /// It is written singly. Whoever writes it says so by [`Refusals::wrote`].
    Write(Whose),
    /// It is counted, and named by the last one that was written: `T` is that one's ticket.
    Count(T),
}

/// Counts that are due to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due<T> {
    /// Whose refusals.
    pub whose: Whose,
    /// How many, by code, sorted by code.
    pub counts: Vec<(&'static str, u64)>,
    /// The record that was named to those who were counted.
    pub under: Option<T>,
}

/// The refusals of the running second. `T` stands for a written record.
#[derive(Debug)]
pub struct Refusals<T> {
    windows: BTreeMap<Whose, Window<T>>,
    counting: bool,
}

#[derive(Debug)]
struct Window<T> {
    ends: Boot,
    written: u32,
    last: Option<T>,
    counts: BTreeMap<&'static str, u64>,
}

impl<T> Default for Refusals<T> {
    fn default() -> Self {
        Self { windows: BTreeMap::new(), counting: false }
    }
}

impl<T: Clone> Refusals<T> {
    /// Decides on a refusal with `code`: of the workloads of `uid`, or of a peer that is no workload.
    pub fn decide(&mut self, uid: Option<u32>, code: &'static str, now: Boot) -> Fate<T> {
        let whose = self.whose(uid);
        let window = self.windows.entry(whose).or_insert_with(|| Window::from(now));
        if window.ends <= now && window.counts.is_empty() {
            *window = Window::from(now);
        }
        let most = match whose {
            Whose::Uid(_) | Whose::Others => PER_UID,
            Whose::Unidentified => UNIDENTIFIED,
        };
        match &window.last {
            Some(last) if window.written >= most => {
                let last = last.clone();
                window.count(code, 1);
                self.counting = true;
                Fate::Count(last)
            }
            Some(_) | None => {
                window.written += 1;
                Fate::Write(whose)
            }
        }
    }

    /// Says that the refusal was written, as `ticket`.
    pub fn wrote(&mut self, whose: Whose, ticket: T) {
        if let Some(window) = self.windows.get_mut(&whose) {
            window.last = Some(ticket);
        }
    }

    /// Whether anything is counted that was not written yet.
    #[must_use]
    pub const fn is_counting(&self) -> bool {
        self.counting
    }

    /// Takes the counts of the windows that have ended by `now`, and forgets those windows.
    pub fn due(&mut self, now: Boot) -> Vec<Due<T>> {
        let mut due = Vec::new();
        self.windows.retain(|whose, window| {
            let over = window.ends <= now;
            if over && !window.counts.is_empty() {
                let counts = std::mem::take(&mut window.counts).into_iter().collect();
                due.push(Due { whose: *whose, counts, under: window.last.take() });
            }
            !over
        });
        self.counting = self.windows.values().any(|window| !window.counts.is_empty());
        due
    }

    /// Takes back what could not be written: it is due again at the next look, with what has been counted since.
    pub fn again(&mut self, due: Due<T>, now: Boot) {
        let window = self.windows.entry(due.whose).or_insert_with(|| Window { ends: now, ..Window::from(now) });
        due.counts.into_iter().for_each(|(code, times)| window.count(code, times));
        // Who asks again meanwhile is counted, or has a record of its own with what is left of the share.
        window.last = window.last.take().or(due.under);
        self.counting = true;
    }

    /// Takes all counts: the journal stops.
    pub fn rest(&mut self) -> Vec<Due<T>> {
        self.due(Boot::from_duration(Duration::MAX))
    }

    fn whose(&self, uid: Option<u32>) -> Whose {
        match uid.map(Whose::Uid) {
            None => Whose::Unidentified,
            Some(single) if self.windows.len() < MAX_UIDS || self.windows.contains_key(&single) => single,
            Some(_) => Whose::Others,
        }
    }
}

impl<T> Window<T> {
    fn from(now: Boot) -> Self {
        Self { ends: now + WINDOW, written: 0, last: None, counts: BTreeMap::new() }
    }

    fn count(&mut self, code: &'static str, times: u64) {
        let code = if self.counts.len() < MAX_CODES || self.counts.contains_key(code) { code } else { "other" };
        *self.counts.entry(code).or_default() += times;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Boot = Boot::from_duration(Duration::from_secs(100));

    /// Asks `times` times; the number of refusals that were written.
    fn ask(refusals: &mut Refusals<u64>, uid: Option<u32>, times: u64, now: Boot) -> u64 {
        let mut written = 0;
        for nth in 0..times {
            if let Fate::Write(whose) = refusals.decide(uid, "access_denied", now) {
                refusals.wrote(whose, nth);
                written += 1;
            }
        }
        written
    }

    #[test]
    fn beyond_five_a_second_a_uid_is_counted_under_the_last_that_was_written() {
        let mut refusals = Refusals::default();
        assert_eq!(ask(&mut refusals, Some(7), 1_000, START), 5);
        assert_eq!(refusals.decide(Some(7), "not_found", START), Fate::Count(4));
        assert_eq!(refusals.due(START + Duration::from_millis(999)), []);
        let counts = vec![("access_denied", 995), ("not_found", 1)];
        assert_eq!(refusals.due(START + WINDOW), [Due { whose: Whose::Uid(7), counts, under: Some(4) }]);
        assert_eq!(ask(&mut refusals, Some(7), 1_000, START + WINDOW), 5);
    }

    #[test]
    fn one_uid_does_not_hide_another() {
        let mut refusals = Refusals::default();
        ask(&mut refusals, Some(7), 1_000, START);
        ask(&mut refusals, None, 1_000, START);
        assert_eq!(ask(&mut refusals, Some(8), 1, START), 1);
    }

    #[test]
    fn unidentified_peers_share_ten() {
        let mut refusals = Refusals::default();
        assert_eq!(ask(&mut refusals, None, 1_000, START), 10);
    }

    #[test]
    fn the_number_of_uids_is_bounded_and_the_others_share() {
        let mut refusals = Refusals::default();
        let written: u64 = (0..5_000).map(|uid| ask(&mut refusals, Some(uid), 10, START)).sum();
        assert_eq!(written, u64::try_from(MAX_UIDS + 1).unwrap() * 5);
        assert_eq!(refusals.rest().len(), MAX_UIDS + 1);
        assert!(!refusals.is_counting());
    }

    #[test]
    fn what_could_not_be_written_is_kept_for_the_next_look() {
        let mut refusals = Refusals::default();
        ask(&mut refusals, Some(7), 8, START);
        let [due] = refusals.due(START + WINDOW).try_into().unwrap();
        ask(&mut refusals, Some(7), 7, START + WINDOW);
        refusals.again(due.clone(), START + WINDOW);
        assert!(refusals.is_counting());
        let counts = vec![("access_denied", 3 + 2)];
        assert_eq!(
            refusals.due(START + WINDOW * 2),
            [Due { counts, ..due.clone() }],
            "also with those of a new window"
        );
        refusals.again(due.clone(), START + WINDOW * 2);
        assert_eq!(refusals.due(START + WINDOW * 2), [due]);
        assert!(!refusals.is_counting());
    }

    #[test]
    fn a_late_tick_loses_no_count() {
        let mut refusals = Refusals::default();
        ask(&mut refusals, Some(7), 6, START);
        assert_eq!(ask(&mut refusals, Some(7), 1, START + WINDOW * 5), 0, "counted with the window that was not taken");
        assert_eq!(refusals.due(START + WINDOW * 5).first().unwrap().counts, [("access_denied", 2)]);
    }
}
