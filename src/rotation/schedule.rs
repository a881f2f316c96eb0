//! When a rotation is due: pure, and the same on every agent of a fleet.

use std::time::Duration;

use crate::crypto::Digest;
use crate::name::Name;
use crate::time::Wall;
use crate::time::calendar::{Cron, Window, Zone};

/// When a credential is rotated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// How long after the last rotation.
    pub every: Option<Duration>,
    /// At which times of the calendar, instead.
    pub cron: Option<Cron>,
    /// Where `cron` and `window` are.
    pub zone: Zone,
    /// Only in this part of a day.
    pub window: Option<Window>,
    /// Up to how much later, so that not all are rotated at once.
    pub jitter: Duration,
    /// How old a version may get at most: from then on the window is not waited for, and it is overdue.
    pub max_age: Option<Duration>,
}

impl Schedule {
    /// When `name` is due, its Current version being of `promoted`; none: only an operator rotates it.
    ///
    /// The jitter comes from the name and that time, so that all agents which share a store agree.
    #[must_use]
    pub fn due(&self, name: &Name, promoted: Wall) -> Option<Wall> {
        let by_interval = self.every.map(|every| promoted + every);
        let by_calendar = || self.cron.as_ref().and_then(|cron| cron.next(promoted, &self.zone));
        let regular = by_interval.or_else(by_calendar).map(|due| {
            let due = due + self.jitter.mul_f64(lot(name, promoted));
            self.window.map_or(due, |window| window.next(due, &self.zone))
        });
        let latest = self.overdue(promoted);
        [regular, latest].into_iter().flatten().min()
    }

    /// From when on a version of `promoted` is too old.
    #[must_use]
    pub fn overdue(&self, promoted: Wall) -> Option<Wall> {
        self.max_age.map(|age| promoted + age)
    }
}

/// Uniform in 0..1, and the same wherever it is drawn.
fn lot(name: &Name, promoted: Wall) -> f64 {
    let digest = Digest::of(format!("{name} {}", promoted.micros()).as_bytes());
    let first = digest.bytes().iter().take(4).fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
    f64::from(first) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn at(text: &str) -> Wall {
        Wall::parse(text).unwrap()
    }

    fn due(schedule: &Schedule) -> Option<Wall> {
        schedule.due(&"stripe".parse().unwrap(), at("2026-11-01T12:00:00Z"))
    }

    #[test]
    fn an_interval_counts_from_the_last_rotation_and_waits_for_the_window() {
        let every = Schedule { every: Some(30 * DAY), ..Schedule::default() };
        assert_eq!(due(&every), Some(at("2026-12-01T12:00:00Z")));
        let window = Schedule { window: Some("02:00-05:00".parse().unwrap()), ..every };
        assert_eq!(due(&window), Some(at("2026-12-02T02:00:00Z")));
        assert_eq!(due(&Schedule::default()), None);
    }

    #[test]
    fn no_window_makes_a_version_older_than_it_may_get() {
        let window = Some("02:00-05:00".parse().unwrap());
        let schedule = Schedule { every: Some(30 * DAY), window, max_age: Some(30 * DAY), ..Schedule::default() };
        assert_eq!(due(&schedule), Some(at("2026-12-01T12:00:00Z")));
    }

    #[test]
    fn jitter_is_the_same_on_every_agent_and_another_for_each_secret() {
        let schedule = Schedule { every: Some(DAY), jitter: DAY, ..Schedule::default() };
        let of = |name: &str| schedule.due(&name.parse().unwrap(), Wall::default()).unwrap();
        assert_eq!(of("a"), of("a"));
        assert_ne!(of("a"), of("b"));
        assert!((0..50).all(|n| of(&format!("n{n}")) < Wall::default() + 2 * DAY));
    }
}
