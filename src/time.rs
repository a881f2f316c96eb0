//! Time: the only file that reads a clock.
//!
//! Two clocks are read together as one [`Moment`]: the wall clock, which people and tokens speak of, and
//! the boot-time clock, which cannot be set and goes on during suspend. A [`Deadline`] has passed when
//! *either* says so, so that a clock that is stepped back never lengthens a token's life.

use std::fmt;
use std::ops::{Add, Sub};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

pub mod calendar;

/// A point on the wall clock: microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Wall(i64);

impl Wall {
    /// The point `micros` microseconds after the epoch.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the epoch.
    #[must_use]
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// The whole UTC minute that this point lies in.
    #[must_use]
    pub const fn minute(self) -> Minute {
        Minute(self.0.div_euclid(60_000_000))
    }

    /// Reads RFC 3339 with a date, a time and an offset: `2026-11-21T06:00:00Z`. Seconds may be left out; what is finer
    /// than a microsecond is cut off.
    ///
    /// # Errors
    /// [`NotATime`] for anything else.
    pub fn parse(text: &str) -> Result<Self, NotATime> {
        let not_a_time = || NotATime(text.chars().take(80).collect());
        text.parse::<jiff::Timestamp>().map(|at| Self(at.as_microsecond())).map_err(|_| not_a_time())
    }

    /// RFC 3339 in UTC with microseconds: `2026-11-21T06:00:00.000000Z`, always 27 bytes.
    #[must_use]
    pub fn rfc3339(self) -> Rfc3339 {
        Rfc3339::of(self)
    }

    /// Reads exactly what [`Self::rfc3339`] writes; none for every other form of RFC 3339 and for a day that is not.
    #[must_use]
    pub fn from_rfc3339(text: &[u8]) -> Option<Self> {
        let number = |range: std::ops::Range<usize>| {
            text.get(range)?.iter().try_fold(0_i64, |sum, b| b.is_ascii_digit().then(|| sum * 10 + i64::from(b - b'0')))
        };
        let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
        let of_day = number(11..13)? * 3_600 + number(14..16)? * 60 + number(17..19)?;
        // Howard Hinnant's days-from-civil algorithm; what is out of range does not come out as it went in.
        let year_from_march = year - i64::from(month <= 2);
        let era = year_from_march.div_euclid(400);
        let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
        let year_of_era = year_from_march.rem_euclid(400);
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = era * 146_097 + day_of_era - 719_468;
        let at = Self((days * 86_400 + of_day) * 1_000_000 + number(20..26)?);
        (at.rfc3339().0 == text).then_some(at)
    }
}

impl Add<Duration> for Wall {
    type Output = Self;

    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
    }
}

impl Sub for Wall {
    type Output = Duration;

    /// How much later `self` is; zero if it is not.
    fn sub(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// A whole UTC minute, counted from the epoch. Policies see no finer time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Minute(i64);

impl Minute {
    /// The minute that begins at `self` × 60 s after the epoch.
    #[must_use]
    pub const fn new(minutes: i64) -> Self {
        Self(minutes)
    }

    /// The wall-clock point at which the minute begins.
    #[must_use]
    pub const fn begins(self) -> Wall {
        Wall(self.0.saturating_mul(60_000_000))
    }
}

/// The text of a [`Wall`] by RFC 3339: 27 bytes of ASCII on the stack.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Rfc3339([u8; 27]);

impl Rfc3339 {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    fn of(at: Wall) -> Self {
        // Howard Hinnant's days-to-civil algorithm, for the proleptic Gregorian calendar.
        let seconds = at.0.div_euclid(1_000_000);
        let days = seconds.div_euclid(86_400) + 719_468;
        let era = days.div_euclid(146_097);
        let day_of_era = days.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let of_day = seconds.rem_euclid(86_400);

        let mut text = *b"0000-00-00T00:00:00.000000Z";
        for (range, value) in [
            (0..4, year.clamp(0, 9_999)),
            (5..7, month),
            (8..10, day),
            (11..13, of_day / 3_600),
            (14..16, of_day / 60 % 60),
            (17..19, of_day % 60),
            (20..26, at.0.rem_euclid(1_000_000)),
        ] {
            let mut rest = value;
            for digit in text.get_mut(range).into_iter().flatten().rev() {
                *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
                rest /= 10;
            }
        }
        Self(text)
    }
}

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A point on the boot-time clock (`CLOCK_BOOTTIME`), since boot: monotonic, and it counts suspend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Boot(Duration);

impl Boot {
    /// The point `since` after boot.
    #[must_use]
    pub const fn from_duration(since: Duration) -> Self {
        Self(since)
    }

    /// How long after boot.
    #[must_use]
    pub const fn since_boot(self) -> Duration {
        self.0
    }
}

impl Add<Duration> for Boot {
    type Output = Self;

    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by))
    }
}

impl Sub for Boot {
    type Output = Duration;

    /// How much later `self` is; zero if it is not.
    fn sub(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Both clocks, read together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Moment {
    /// What people and tokens speak of; it can be stepped.
    pub wall: Wall,
    /// What cannot be stepped.
    pub boot: Boot,
}

impl Moment {
    /// When `after` from here has passed, by whichever clock gets there first.
    #[must_use]
    pub fn deadline(self, after: Duration) -> Deadline {
        Deadline { wall: self.wall + after, boot: self.boot + after }
    }

    /// How long ago `earlier` was, by the boot-time clock.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.boot - earlier.boot
    }
}

/// A point after which something is over, by the earlier of the two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// The point on the wall clock.
    pub wall: Wall,
    /// The point on the boot-time clock.
    pub boot: Boot,
}

impl Deadline {
    /// What is left, by the clock on which less is left; zero once it has passed.
    #[must_use]
    pub fn left(self, now: Moment) -> Duration {
        (self.wall - now.wall).min(self.boot - now.boot)
    }

    /// Whether either clock has reached it.
    #[must_use]
    pub fn passed(self, now: Moment) -> bool {
        self.left(now).is_zero()
    }
}

/// Where time comes from.
pub trait Clock: Send + Sync + 'static {
    /// Both clocks, now.
    fn now(&self) -> Moment;
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        Moment { wall: wall_now(), boot: boot_now() }
    }
}

/// By the C library, so that `tests/real` can step it for one process (libfaketime).
#[expect(clippy::disallowed_methods, reason = "this file reads the clocks for all others")]
fn wall_now() -> Wall {
    let micros = |long: Duration| i64::try_from(long.as_micros()).unwrap_or(i64::MAX);
    match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => Wall(micros(since)),
        Err(before) => Wall(-micros(before.duration())),
    }
}

/// By the kernel: nothing that is loaded into the process reaches it.
fn boot_now() -> Boot {
    use rustix::time::{ClockId, clock_gettime};
    let boot = clock_gettime(ClockId::Boottime);
    let (seconds, nanos) = (u64::try_from(boot.tv_sec), u32::try_from(boot.tv_nsec));
    Boot(Duration::new(seconds.unwrap_or(0), nanos.unwrap_or(0)))
}

/// A clock that stands still until it is told otherwise: for tests and for the simulator.
#[derive(Debug, Default)]
pub struct ManualClock(Mutex<Moment>);

impl ManualClock {
    /// A clock that shows `at`.
    #[must_use]
    pub const fn at(at: Moment) -> Self {
        Self(Mutex::new(at))
    }

    /// Lets `by` pass on both clocks.
    pub fn advance(&self, by: Duration) {
        let mut now = self.lock();
        *now = Moment { wall: now.wall + by, boot: now.boot + by };
    }

    /// Steps the wall clock alone by `micros`, as an administrator or NTP would.
    pub fn step_wall(&self, micros: i64) {
        let mut now = self.lock();
        now.wall = Wall(now.wall.0.saturating_add(micros));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Moment> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Moment {
        *self.lock()
    }
}

/// Reads a duration as configuration writes it: a whole number and one of `us ms s m h d`.
///
/// # Errors
/// [`NotADuration`] for anything else, and for what does not fit 64 bits of microseconds.
pub fn parse_duration(text: &str) -> Result<Duration, NotADuration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let micros_per_unit: u64 = match unit {
        "us" => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        "d" => 86_400_000_000,
        _ => return Err(NotADuration(text.into())),
    };
    let micros = number.parse::<u64>().ok().and_then(|n| n.checked_mul(micros_per_unit));
    micros.map(Duration::from_micros).ok_or_else(|| NotADuration(text.into()))
}

/// The text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a duration: write a whole number and a unit, as in `500ms`, `30s`, `15m`, `24h`, `30d`")]
pub struct NotADuration(String);

/// The text is not a point in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a point in time: write it by RFC 3339, as in `2026-11-21T06:00:00Z`")]
pub struct NotATime(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let at = Wall(1_795_240_800_123_456);
        assert_eq!(Wall::parse(at.rfc3339().as_str()), Ok(at));
        assert_eq!(Wall::parse("2026-11-21T07:00+01:00"), Wall::parse("2026-11-21T06:00:00Z"));
        for bad in ["", "now", "2026-11-21", "2026-11-21T06:00:00", "06:00"] {
            assert!(Wall::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn rfc3339_agrees_with_jiff() {
        for micros in [0, -1, 1_795_240_800_123_456, 951_782_399_999_999, 4_102_444_800_000_000, 68_169_600_000_000] {
            let theirs =
                jiff::Timestamp::from_microsecond(micros).unwrap().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
            assert_eq!(Wall(micros).rfc3339().as_str(), theirs);
            assert_eq!(Wall::from_rfc3339(theirs.as_bytes()), Some(Wall(micros)));
        }
    }

    #[test]
    fn a_time_is_read_in_one_form_only() {
        for bad in [
            "",
            "2026-11-21T06:00:00Z",
            "2026-02-30T06:00:00.000000Z",
            "2026-13-01T06:00:00.000000Z",
            "2026-11-21T24:00:00.000000Z",
            "2026-11-21 06:00:00.000000Z",
            "2026-11-21T06:00:00.000000+",
            "2026-11-21T06:00:00.000000Z ",
        ] {
            assert_eq!(Wall::from_rfc3339(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_deadline_passes_by_the_earlier_clock() {
        let clock = ManualClock::at(Moment { wall: Wall(1_000_000_000), boot: Boot::default() });
        let deadline = clock.now().deadline(Duration::from_secs(60));
        clock.step_wall(-7_200_000_000);
        clock.advance(Duration::from_secs(59));
        assert!(!deadline.passed(clock.now()));
        clock.advance(Duration::from_secs(1));
        assert!(deadline.passed(clock.now()), "a wall clock stepped back must not lengthen a life");
        let deadline = clock.now().deadline(Duration::from_secs(60));
        clock.step_wall(7_200_000_000);
        assert!(deadline.passed(clock.now()), "a wall clock stepped forward ends it");
    }

    #[test]
    fn durations_are_a_number_and_a_unit() {
        assert_eq!(parse_duration("15m"), Ok(Duration::from_secs(900)));
        assert_eq!(parse_duration("0s"), Ok(Duration::ZERO));
        for bad in ["", "15", "m", "-1s", "1.5s", "1 s", "99999999999999999d", "1w"] {
            assert!(parse_duration(bad).is_err(), "{bad:?}");
        }
    }
}
