//! The calendar: times of day, cron patterns and time zones. Pure but for the zones, which the system's database names.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};

use super::Wall;

/// A time zone of the system's database (`/usr/share/zoneinfo`), or `UTC`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(TimeZone);

/// A cron pattern of five fields: minute, hour, day of month, month, day of week.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron(Box<croner::Cron>);

/// A part of each day, `02:00-05:00`; it may go over midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Minutes since midnight.
    from: i64,
    /// How long it is, in minutes: above 0, below a day.
    minutes: i64,
}

/// A text does not speak of the calendar.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotOfTheCalendar {
    /// No zone.
    #[error("`{0}` is no time zone of this host: write one of /usr/share/zoneinfo, such as `Europe/Berlin`, or `UTC`")]
    Zone(String),
    /// No pattern.
    #[error("`{0}` is no cron pattern: write minute, hour, day of month, month and day of week, as in `0 3 * * SUN`")]
    Cron(String),
    /// No window.
    #[error("`{0}` is no part of a day: write two times of day, as in `02:00-05:00`")]
    Window(String),
}

impl Default for Zone {
    fn default() -> Self {
        Self(TimeZone::UTC)
    }
}

impl FromStr for Zone {
    type Err = NotOfTheCalendar;

    fn from_str(text: &str) -> Result<Self, NotOfTheCalendar> {
        if text == "UTC" {
            return Ok(Self::default());
        }
        TimeZone::get(text).map(Self).map_err(|_| NotOfTheCalendar::Zone(shortened(text)))
    }
}

impl Zone {
    fn at(&self, at: Wall) -> Option<Zoned> {
        Some(Timestamp::from_microsecond(at.micros()).ok()?.to_zoned(self.0.clone()))
    }
}

impl FromStr for Cron {
    type Err = NotOfTheCalendar;

    fn from_str(text: &str) -> Result<Self, NotOfTheCalendar> {
        let parser = croner::parser::CronParser::builder()
            .seconds(croner::parser::Seconds::Disallowed)
            .year(croner::parser::Year::Disallowed)
            .build();
        parser.parse(text).map(|cron| Self(Box::new(cron))).map_err(|_| NotOfTheCalendar::Cron(shortened(text)))
    }
}

impl Cron {
    /// The first time after `after` that the pattern names in `zone`; none: there is none.
    #[must_use]
    pub fn next(&self, after: Wall, zone: &Zone) -> Option<Wall> {
        let next = self.0.find_next_occurrence(&zone.at(after)?, false).ok()?;
        Some(Wall::from_micros(next.timestamp().as_microsecond()))
    }
}

impl FromStr for Window {
    type Err = NotOfTheCalendar;

    fn from_str(text: &str) -> Result<Self, NotOfTheCalendar> {
        let window = || {
            let (from, to) = text.split_once('-')?;
            let (from, to) = (minute_of_day(from)?, minute_of_day(to)?);
            let minutes = (to - from).rem_euclid(24 * 60);
            (minutes > 0).then_some(Self { from, minutes })
        };
        window().ok_or_else(|| NotOfTheCalendar::Window(shortened(text)))
    }
}

impl Window {
    /// The first moment from `at` on that lies in it, in `zone`: `at` itself, or when it next opens. Around a change of
    /// the clocks it is as long as on other days.
    #[must_use]
    pub fn next(self, at: Wall, zone: &Zone) -> Wall {
        let length = Duration::from_secs(self.minutes.unsigned_abs() * 60);
        // The one that opened yesterday may still be open.
        for day in -1..=1 {
            if let Some(opens) = self.opens(at, day, zone).filter(|opens| at < *opens + length) {
                return at.max(opens);
            }
        }
        at
    }

    fn opens(self, at: Wall, day: i64, zone: &Zone) -> Option<Wall> {
        let date = zone.at(at)?.date().checked_add(SignedDuration::from_hours(24 * day)).ok()?;
        let (hour, minute) = (i8::try_from(self.from / 60).ok()?, i8::try_from(self.from % 60).ok()?);
        // In a gap it opens when the clocks have gone forward.
        let opens = date.at(hour, minute, 0, 0).to_zoned(zone.0.clone()).ok()?;
        Some(Wall::from_micros(opens.timestamp().as_microsecond()))
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let to = (self.from + self.minutes) % (24 * 60);
        write!(f, "{:02}:{:02}-{:02}:{:02}", self.from / 60, self.from % 60, to / 60, to % 60)
    }
}

fn minute_of_day(text: &str) -> Option<i64> {
    let (hour, minute) = text.split_once(':')?;
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u8>().ok()).flatten();
    let (hour, minute) = (number(hour)?, number(minute)?);
    (text.len() == 5 && hour < 24 && minute < 60).then(|| i64::from(hour) * 60 + i64::from(minute))
}

fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Wall {
        Wall::parse(text).unwrap()
    }

    #[test]
    fn a_pattern_names_times_of_its_zone() {
        let cron: Cron = "0 3 * * SUN".parse().unwrap();
        let next = |zone: &str| cron.next(at("2026-11-21T06:00:00Z"), &zone.parse().unwrap()).unwrap();
        assert_eq!(next("UTC"), at("2026-11-22T03:00:00Z"));
        assert_eq!(next("Europe/Berlin"), at("2026-11-22T02:00:00Z"));
        for bad in ["", "* * * *", "0 3 * * * SUN", "61 * * * *", "@reboot now"] {
            assert!(bad.parse::<Cron>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_window_is_where_one_stands_or_the_next_that_opens() {
        let next = |window: &str, from: &str| window.parse::<Window>().unwrap().next(at(from), &Zone::default());
        assert_eq!(next("02:00-05:00", "2026-11-21T01:00:00Z"), at("2026-11-21T02:00:00Z"));
        assert_eq!(next("02:00-05:00", "2026-11-21T03:30:00Z"), at("2026-11-21T03:30:00Z"));
        assert_eq!(next("02:00-05:00", "2026-11-21T05:00:00Z"), at("2026-11-22T02:00:00Z"));
        assert_eq!(next("23:00-01:00", "2026-11-21T00:30:00Z"), at("2026-11-21T00:30:00Z"), "over midnight");
        for bad in ["", "02:00", "2:00-3:00", "02:00-24:00", "02:00-02:00", "+2:00-03:00"] {
            assert!(bad.parse::<Window>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_window_stands_where_the_clocks_go_forward() {
        // On 2026-03-29 there is no 02:30 in Berlin.
        let zone = "Europe/Berlin".parse().unwrap();
        let window: Window = "02:30-04:00".parse().unwrap();
        assert_eq!(window.next(at("2026-03-28T23:30:00Z"), &zone), at("2026-03-29T01:30:00Z"));
        assert!("Europe/Nowhere".parse::<Zone>().is_err());
    }
}
