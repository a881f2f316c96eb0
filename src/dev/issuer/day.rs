//! A bad day: the faults that are in force at once, and what they make of a request. Pure.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::fault::{Endpoint, Fault, Instead, Kind, Lifetime, NotAFault, Reach};

/// The most faults at once.
const MOST_FAULTS: usize = 32;

/// Faults in force. None of them, by default: a good day.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BadDay(Vec<Fault>);

/// What becomes of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Course {
    /// How long the answer waits.
    pub wait: Duration,
    /// What comes in its place.
    pub instead: Option<Instead>,
    /// What `expires_in` says, if not the truth.
    pub lifetime: Option<Lifetime>,
    /// Whether the token is the one that was given before.
    pub same_token: bool,
    /// What is granted, if not what was asked for.
    pub reach: Option<Reach>,
    /// How far ahead the clock is, in minutes.
    pub minutes_ahead: i32,
    /// The names of the faults that strike it.
    pub struck: Vec<String>,
}

/// Why these faults cannot be in force together. All that is wrong is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct NotADay(Vec<Wrong>);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Wrong {
    #[error(transparent)]
    Fault(#[from] NotAFault),
    #[error("`{0}` never strikes: `{1}`, which stands before it, always does; give that one `for=N` or `every=N`")]
    Hidden(Fault, Fault),
    #[error("more than 32 faults at once")]
    TooMany,
    #[error("the body starts as JSON does and is no array of texts: write one, or one fault a line")]
    Json,
}

impl BadDay {
    /// The day with these faults.
    ///
    /// # Errors
    /// [`NotADay`] where one of them could never strike, or they are too many.
    pub fn of(faults: Vec<Fault>) -> Result<Self, NotADay> {
        let hidden = faults.iter().enumerate().filter_map(|(nth, later)| {
            let before = faults.iter().take(nth).find(|earlier| earlier.hides(later))?;
            Some(Wrong::Hidden(*later, *before))
        });
        let too_many = (faults.len() > MOST_FAULTS).then_some(Wrong::TooMany);
        let wrong: Vec<_> = too_many.into_iter().chain(hidden).take(MOST_FAULTS).collect();
        if wrong.is_empty() { Ok(Self(faults)) } else { Err(NotADay(wrong)) }
    }

    /// Whether it begins with a new key; and the day without that, which happens once.
    #[must_use]
    pub fn without_rolling(mut self) -> (bool, Self) {
        let all = self.0.len();
        self.0.retain(|fault| fault.kind != Kind::RollKeys);
        (self.0.len() < all, self)
    }

    /// What becomes of the request at `endpoint` that `before` others came before: of faults of one kind the first counts.
    #[must_use]
    pub fn course(&self, endpoint: Endpoint, before: u64) -> Course {
        let mut course = Course::default();
        let mut counted: Vec<&Kind> = Vec::new();
        for fault in self.0.iter().filter(|fault| fault.strikes(endpoint, before)) {
            let kind = std::mem::discriminant(&fault.kind);
            if !counted.iter().any(|other| std::mem::discriminant(*other) == kind) {
                counted.push(&fault.kind);
                course.take(fault);
            }
        }
        course
    }

    /// Each as it is written.
    #[must_use]
    pub fn written(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }
}

impl Course {
    fn take(&mut self, fault: &Fault) {
        match fault.kind {
            Kind::Slow(wait) => self.wait = wait,
            Kind::Instead(instead) => self.instead = Some(instead),
            Kind::Lifetime(lifetime) => self.lifetime = Some(lifetime),
            Kind::SameToken => self.same_token = true,
            Kind::Reach(reach) => self.reach = Some(reach),
            Kind::Clock(minutes) => self.minutes_ahead = minutes,
            Kind::RollKeys => {}
        }
        self.struck.push(fault.name());
    }
}

impl FromStr for BadDay {
    type Err = NotADay;

    /// One fault a line, or a JSON array of them. Nothing is a good day.
    fn from_str(text: &str) -> Result<Self, NotADay> {
        let written: Vec<String> = if text.trim_start().starts_with(['[', '{', '"']) {
            serde_json::from_str(text).map_err(|_| NotADay(vec![Wrong::Json]))?
        } else {
            text.lines().map(str::trim).filter(|line| !line.is_empty()).map(ToOwned::to_owned).collect()
        };
        if written.len() > MOST_FAULTS {
            return Err(NotADay(vec![Wrong::TooMany]));
        }
        let (mut faults, mut wrong) = (Vec::new(), Vec::new());
        for text in written {
            match text.parse() {
                Ok(fault) => faults.push(fault),
                Err(why) => wrong.push(Wrong::Fault(why)),
            }
        }
        if wrong.is_empty() { Self::of(faults) } else { Err(NotADay(wrong)) }
    }
}

impl fmt::Display for BadDay {
    /// One fault a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|fault| writeln!(f, "{fault}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> BadDay {
        text.parse().unwrap()
    }

    fn instead(day: &BadDay, before: u64) -> Option<String> {
        day.course(Endpoint::Token, before).instead.map(|instead| instead.to_string())
    }

    #[test]
    fn of_faults_of_one_kind_the_first_that_strikes_counts() {
        let day = day("429=1,for=1\nreset,for=2\nslow=1s\n503,every=4");
        let told: Vec<_> = (0..5).map(|before| instead(&day, before).unwrap_or_default()).collect();
        assert_eq!(told, ["429=1", "reset", "", "503", ""]);
        assert_eq!(day.course(Endpoint::Token, 0).struck, ["429", "slow"]);
    }

    #[test]
    fn faults_of_several_kinds_strike_together() {
        let course = day("same-token\nwider-scope\nclock=-5\nexpires_in=huge\nslow=1ms").course(Endpoint::Token, 0);
        assert!(course.same_token && course.instead.is_none());
        assert_eq!((course.reach, course.minutes_ahead), (Some(Reach::Wider), -5));
        assert_eq!((course.lifetime, course.wait), (Some(Lifetime::Huge), Duration::from_millis(1)));
    }

    #[test]
    fn lines_and_json_say_the_same() {
        assert_eq!(day("503=2\n\n  reset,at=keys \n"), day(r#" ["503=2", "reset,at=keys"]"#));
        assert_eq!((day(""), day("[]")), (BadDay::default(), BadDay::default()));
    }

    #[test]
    fn all_that_is_wrong_is_told() {
        let said = "slwo\n503\n503,for=x".parse::<BadDay>().unwrap_err().to_string();
        assert!(said.contains("`slwo`") && said.contains("`for=x`"), "{said}");
        let said = "503\nslow=1s\nreset".parse::<BadDay>().unwrap_err().to_string();
        assert!(said.starts_with("`reset` never strikes: `503`"), "{said}");
        assert!(r#"{"fault":"503"}"#.parse::<BadDay>().is_err());
        assert!("reset,for=1\n".repeat(33).parse::<BadDay>().is_err());
    }

    #[test]
    fn keys_roll_once() {
        assert_eq!(day("roll-keys\n503").without_rolling(), (true, day("503")));
        assert_eq!(day("503").without_rolling(), (false, day("503")));
    }
}
