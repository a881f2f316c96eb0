//! One fault of the simulator: how it is written, and when it strikes. Pure.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::config::words::Period;

/// What can be wrong with the issuer, for how many requests and at which endpoint: `503=2,for=3,at=metadata`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong.
    pub kind: Kind,
    /// How often it strikes in all (`for=N`), if not for ever.
    pub times: Option<u32>,
    /// It strikes each request that is a multiple of this (`every=N`); 1 strikes each.
    pub every: u32,
    /// Where it strikes (`at=`); none is everywhere.
    pub at: Option<Endpoint>,
}

/// What is wrong. Of several faults of one kind, the first that strikes a request counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It answers after this time.
    Slow(Duration),
    /// Something comes in the place of the answer.
    Instead(Instead),
    /// `expires_in` is odd.
    Lifetime(Lifetime),
    /// The token is the one it gave before, as long as that lives.
    SameToken,
    /// Another scope is granted than was asked for.
    Reach(Reach),
    /// Its clock is ahead by so many minutes; behind, if negative.
    Clock(i32),
    /// It signs with a new key from now on. This happens once, when it is said.
    RollKeys,
}

/// What comes in the place of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instead {
    /// A status, with `Retry-After` in seconds if it is there.
    Status(u16, Option<u32>),
    /// A TCP reset.
    Reset,
    /// Nothing, and the connection stays open.
    Blackhole,
    /// A page, with status 200.
    Html,
    /// Nothing, with status 200.
    Empty,
    /// A 307 to another path.
    Redirect,
    /// 401, `invalid_client` (RFC 6749 §5.2).
    InvalidClient,
}

/// What `expires_in` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// The seconds as a text.
    Text,
    /// The seconds and a half.
    Fraction,
    /// -1.
    Negative,
    /// `null`.
    Null,
    /// It is not there.
    Missing,
    /// 2⁶⁴ − 1.
    Huge,
    /// These seconds, whatever the token says.
    Seconds(u32),
}

/// What scope is granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// What was asked for, and [`WIDER`].
    Wider,
    /// What was asked for, without the last scope of it.
    Narrower,
}

/// Where a request comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Endpoint {
    /// The token endpoint.
    Token,
    /// The issuer's metadata, at either place.
    Metadata,
    /// Its keys.
    Keys,
}

/// The scope that nobody asked for.
pub const WIDER: &str = "simulator:wider";

/// Every fault as it is written, and what it does.
pub const CATALOGUE: [(&str, &str); 16] = [
    ("slow=DURATION", "answers after this time"),
    ("429[=SECONDS]", "too many requests; with `Retry-After: SECONDS`"),
    ("503[=SECONDS]", "not available; with `Retry-After: SECONDS`"),
    ("5xx[=SECONDS]", "any other status from 500 to 599, as in `500`"),
    ("reset", "a TCP reset before an answer"),
    ("blackhole", "takes the request, and never answers"),
    ("html", "200 with a page"),
    ("empty", "200 with nothing"),
    ("redirect", "307 to `/elsewhere`"),
    ("invalid_client", "401, as if the secret were wrong"),
    ("expires_in=VALUE", "string, float, negative, null, missing, huge, or seconds that the token does not live"),
    ("same-token", "the token that it gave before, as long as that lives"),
    ("wider-scope", "grants `simulator:wider` too"),
    ("narrower-scope", "grants one scope less"),
    ("clock=MINUTES", "its clock is ahead, or behind as in `clock=-5`: `iat` and `exp`"),
    ("roll-keys", "signs with a new key from now on; the keys list it and the one before"),
];

/// What may follow a fault.
pub const MODIFIERS: [(&str, &str); 3] = [
    ("for=N", "strikes N requests, then no more"),
    ("every=N", "strikes each Nth request"),
    ("at=WHERE", "token (the default), metadata, keys, or all"),
];

/// The furthest that its clock may be off: a year, in minutes.
const FURTHEST: i32 = 527_040;

/// A text is no fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAFault {
    /// There is none of this name.
    #[error("there is no fault `{0}`: there are {catalogue}", catalogue = listed(CATALOGUE))]
    Unknown(String),
    /// It is told too much, too little, or something else.
    #[error("`{written}` is not written so: write `{form}`")]
    Form {
        /// What was written.
        written: String,
        /// How it is written.
        form: &'static str,
    },
    /// What follows the fault is nothing that may.
    #[error("`{0}` cannot follow a fault: what can is {modifiers}", modifiers = listed(MODIFIERS))]
    Modifier(String),
    /// The fault is about something that only the token endpoint does, or only happens at once.
    #[error("`{0}` takes no `{1}`")]
    NotHere(String, &'static str),
}

fn listed<const N: usize>(table: [(&str, &str); N]) -> String {
    table.map(|(form, _)| format!("`{form}`")).join(", ")
}

impl Fault {
    /// The fault without any limit, at its usual place.
    #[must_use]
    pub const fn always(kind: Kind) -> Self {
        Self { kind, times: None, every: 1, at: Some(Endpoint::Token) }
    }

    /// Whether it strikes the request at `endpoint` that `before` others came before.
    #[must_use]
    pub fn strikes(&self, endpoint: Endpoint, before: u64) -> bool {
        let (nth, every) = (before.saturating_add(1), u64::from(self.every.max(1)));
        let in_turn = nth.is_multiple_of(every) && self.times.is_none_or(|times| nth / every <= u64::from(times));
        in_turn && self.at.is_none_or(|at| at == endpoint)
    }

    /// Whether `other`, which stands behind this one, can never strike.
    #[must_use]
    pub fn hides(&self, other: &Self) -> bool {
        let same_kind = std::mem::discriminant(&self.kind) == std::mem::discriminant(&other.kind);
        let for_ever = self.times.is_none() && self.every == 1;
        same_kind && for_ever && (self.at.is_none() || self.at == other.at)
    }

    /// What it is called, without what it is told: `503`, `slow`.
    #[must_use]
    pub fn name(&self) -> String {
        let written = self.kind.to_string();
        written.split('=').next().unwrap_or_default().to_owned()
    }

    fn told(mut self, modifier: &str) -> Result<Self, NotAFault> {
        let count = |text: &str| text.parse::<u32>().ok().filter(|count| *count > 0);
        let not = || NotAFault::Modifier(shown(modifier));
        match modifier.trim().split_once('=').ok_or_else(not)? {
            ("for", times) => self.times = Some(count(times).ok_or_else(not)?),
            ("every", every) => self.every = count(every).ok_or_else(not)?,
            ("at", place) => self.at = where_at(place).ok_or_else(not)?,
            _ => return Err(not()),
        }
        Ok(self)
    }

    fn checked(self) -> Result<Self, NotAFault> {
        let usual = Self::always(self.kind);
        match self.kind {
            Kind::Slow(_) | Kind::Instead(_) => Ok(self),
            Kind::Lifetime(_) | Kind::SameToken | Kind::Reach(_) | Kind::Clock(_) if self.at == usual.at => Ok(self),
            Kind::RollKeys if self == usual => Ok(self),
            Kind::RollKeys => Err(NotAFault::NotHere(self.name(), "for`, `every` or `at")),
            Kind::Lifetime(_) | Kind::SameToken | Kind::Reach(_) | Kind::Clock(_) => {
                Err(NotAFault::NotHere(self.name(), "at"))
            }
        }
    }
}

fn where_at(place: &str) -> Option<Option<Endpoint>> {
    match place {
        "token" => Some(Some(Endpoint::Token)),
        "metadata" => Some(Some(Endpoint::Metadata)),
        "keys" => Some(Some(Endpoint::Keys)),
        "all" => Some(None),
        _ => None,
    }
}

impl FromStr for Fault {
    type Err = NotAFault;

    fn from_str(text: &str) -> Result<Self, NotAFault> {
        let mut parts = text.trim().split(',');
        let kind = parts.next().unwrap_or_default().trim().parse()?;
        parts.try_fold(Self::always(kind), Self::told)?.checked()
    }
}

impl FromStr for Kind {
    type Err = NotAFault;

    fn from_str(text: &str) -> Result<Self, NotAFault> {
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        let read = match (name, value) {
            ("slow", Some(wait)) => wait.parse().ok().map(|Period(wait)| Self::Slow(wait)),
            ("expires_in", Some(value)) => lifetime(value).map(Self::Lifetime),
            ("clock", Some(minutes)) => minutes_off(minutes).map(Self::Clock),
            (name, value) => match (status(name), value) {
                (Some(status), None) => Some(Self::Instead(Instead::Status(status, None))),
                (Some(status), Some(wait)) => {
                    wait.parse().ok().map(|wait| Self::Instead(Instead::Status(status, Some(wait))))
                }
                (None, None) => plain(name),
                (None, Some(_)) => None,
            },
        };
        read.ok_or_else(|| why_not(text, name))
    }
}

/// 429 and 500 to 599, in three digits.
fn status(name: &str) -> Option<u16> {
    let status = name.parse().ok()?;
    (name.len() == 3 && matches!(status, 429 | 500..=599)).then_some(status)
}

fn lifetime(value: &str) -> Option<Lifetime> {
    Some(match value {
        "string" => Lifetime::Text,
        "float" => Lifetime::Fraction,
        "negative" => Lifetime::Negative,
        "null" => Lifetime::Null,
        "missing" => Lifetime::Missing,
        "huge" => Lifetime::Huge,
        seconds => Lifetime::Seconds(seconds.parse().ok()?),
    })
}

fn minutes_off(text: &str) -> Option<i32> {
    text.parse().ok().filter(|minutes| (-FURTHEST..=FURTHEST).contains(minutes))
}

fn plain(name: &str) -> Option<Kind> {
    Some(match name {
        "reset" => Kind::Instead(Instead::Reset),
        "blackhole" => Kind::Instead(Instead::Blackhole),
        "html" => Kind::Instead(Instead::Html),
        "empty" => Kind::Instead(Instead::Empty),
        "redirect" => Kind::Instead(Instead::Redirect),
        "invalid_client" => Kind::Instead(Instead::InvalidClient),
        "same-token" => Kind::SameToken,
        "wider-scope" => Kind::Reach(Reach::Wider),
        "narrower-scope" => Kind::Reach(Reach::Narrower),
        "roll-keys" => Kind::RollKeys,
        _ => return None,
    })
}

fn why_not(text: &str, name: &str) -> NotAFault {
    let is_called = |form: &str| form.split(['=', '[']).next() == Some(name);
    match CATALOGUE.iter().find(|(form, _)| is_called(form) || (form.starts_with("5xx") && status(name).is_some())) {
        Some((form, _)) => NotAFault::Form { written: shown(text), form },
        None => NotAFault::Unknown(shown(text)),
    }
}

/// What was written, as far as it is shown: printable and not long.
fn shown(text: &str) -> String {
    text.chars().take(40).flat_map(char::escape_debug).collect()
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        if let Some(times) = self.times {
            write!(f, ",for={times}")?;
        }
        if self.every != 1 {
            write!(f, ",every={}", self.every)?;
        }
        match self.at {
            Some(Endpoint::Token) => Ok(()),
            Some(Endpoint::Metadata) => f.write_str(",at=metadata"),
            Some(Endpoint::Keys) => f.write_str(",at=keys"),
            None => f.write_str(",at=all"),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slow(wait) => write!(f, "slow={}", Period(*wait)),
            Self::Instead(instead) => write!(f, "{instead}"),
            Self::Lifetime(lifetime) => write!(f, "expires_in={lifetime}"),
            Self::SameToken => f.write_str("same-token"),
            Self::Reach(Reach::Wider) => f.write_str("wider-scope"),
            Self::Reach(Reach::Narrower) => f.write_str("narrower-scope"),
            Self::Clock(minutes) => write!(f, "clock={minutes:+}"),
            Self::RollKeys => f.write_str("roll-keys"),
        }
    }
}

impl fmt::Display for Instead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Status(status, None) => return write!(f, "{status}"),
            Self::Status(status, Some(wait)) => return write!(f, "{status}={wait}"),
            Self::Reset => "reset",
            Self::Blackhole => "blackhole",
            Self::Html => "html",
            Self::Empty => "empty",
            Self::Redirect => "redirect",
            Self::InvalidClient => "invalid_client",
        })
    }
}

impl fmt::Display for Lifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "string",
            Self::Fraction => "float",
            Self::Negative => "negative",
            Self::Null => "null",
            Self::Missing => "missing",
            Self::Huge => "huge",
            Self::Seconds(seconds) => return write!(f, "{seconds}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> Fault {
        text.parse().unwrap()
    }

    #[test]
    fn a_fault_is_shown_as_it_is_written() {
        for text in [
            "slow=2s",
            "429",
            "503=7",
            "599=0",
            "reset,for=2",
            "expires_in=missing",
            "expires_in=5",
            "clock=-5",
            "clock=+3",
            "html,for=1,every=3",
            "blackhole,at=all",
            "empty,at=metadata",
            "slow=5ms,at=keys",
            "roll-keys",
        ] {
            assert_eq!(fault(text).to_string(), text);
        }
        assert_eq!(fault(" 503 , for=1 "), fault("503,for=1"));
    }

    #[test]
    fn every_line_of_the_catalogue_can_be_written() {
        for (form, _) in CATALOGUE {
            let written = form.replace("5xx", "502").replace("DURATION", "1s").replace("VALUE", "huge");
            let written = written.replace("MINUTES", "5").replace("[=SECONDS]", "=3");
            assert!(written.parse::<Fault>().is_ok(), "{written}");
        }
    }

    #[test]
    fn the_page_for_application_teams_tells_of_every_fault() {
        let page = include_str!("../../../docs/simulator.md");
        for (form, _) in CATALOGUE.iter().chain(&MODIFIERS) {
            let form = form.replace("5xx[=SECONDS]", "500").replace("=VALUE", "=huge");
            assert!(page.contains(&format!("`{form}")), "{form}");
        }
    }

    #[test]
    fn a_fault_that_is_none_is_named_with_all_there_are() {
        let said = "slwo=2s".parse::<Fault>().unwrap_err().to_string();
        assert!(CATALOGUE.iter().all(|(form, _)| said.contains(form)), "{said}");
        let said = "503,fro=2".parse::<Fault>().unwrap_err().to_string();
        assert!(MODIFIERS.iter().all(|(form, _)| said.contains(form)), "{said}");
        for (text, form) in [
            ("slow", "slow=DURATION"),
            ("slow=fast", "slow=DURATION"),
            ("503=soon", "503[=SECONDS]"),
            ("502=soon", "5xx[=SECONDS]"),
            ("reset=1", "reset"),
            ("clock=9999999", "clock=MINUTES"),
            ("expires_in=odd", "expires_in=VALUE"),
        ] {
            let said = text.parse::<Fault>();
            assert!(matches!(&said, Err(NotAFault::Form { form: told, .. }) if *told == form), "{text}: {said:?}");
        }
        for text in ["404", "0503", "600", ""] {
            assert!(matches!(text.parse::<Fault>(), Err(NotAFault::Unknown(_))), "{text}");
        }
        for text in ["same-token,at=keys", "roll-keys,for=1", "roll-keys,at=all"] {
            assert!(matches!(text.parse::<Fault>(), Err(NotAFault::NotHere(..))), "{text}");
        }
    }

    fn struck(text: &str) -> Vec<u64> {
        (0..8).filter(|before| fault(text).strikes(Endpoint::Token, *before)).collect()
    }

    #[test]
    fn a_fault_strikes_as_often_as_it_says() {
        assert_eq!(struck("503"), (0..8).collect::<Vec<_>>());
        assert_eq!(struck("503,for=2"), [0, 1]);
        assert_eq!(struck("503,every=3"), [2, 5]);
        assert_eq!(struck("503,every=2,for=2"), [1, 3]);
    }

    #[test]
    fn a_fault_strikes_where_it_says() {
        let places = |text| {
            [Endpoint::Token, Endpoint::Metadata, Endpoint::Keys].map(|endpoint| fault(text).strikes(endpoint, 0))
        };
        assert_eq!(places("503"), [true, false, false]);
        assert_eq!(places("503,at=metadata"), [false, true, false]);
        assert_eq!(places("503,at=all"), [true; 3]);
    }
}
