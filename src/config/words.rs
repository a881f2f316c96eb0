//! The words in which configuration speaks of time, size, mode and rate.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::time::{NotADuration, parse_duration};

/// A duration as configuration writes it: `"500ms"`, `"30s"`, `"15m"`, `"24h"`, `"30d"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Period(pub Duration);

/// A number of bytes as configuration writes it: `"64KiB"`, `"256MiB"`, `"1GiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size(pub u64);

/// The permission bits of a file as configuration writes them: `"0660"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mode(pub u32);

/// So many in a second, minute or hour, as configuration writes it: `"60/m"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rate {
    /// How many.
    pub count: u32,
    /// In how long.
    pub every: Duration,
}

/// A text does not follow the grammar of its word.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is {complaint}")]
pub struct NotAWord {
    text: String,
    complaint: &'static str,
}

const PERIOD: &str = "^[0-9]{1,8}(us|ms|s|m|h|d)$";
const NOT_A_PERIOD: &str = "not a duration: write a whole number and a unit, as in `500ms`, `30s`, `15m`, `24h`, `30d`";
const SIZE: &str = "^[0-9]{1,6}(B|KiB|MiB|GiB)$";
const NOT_A_SIZE: &str = "not a size: write a whole number and a unit, as in `64KiB`, `256MiB`, `1GiB`";
const MODE: &str = "^0[0-7]{3}$";
const NOT_A_MODE: &str = "not a mode: write four octal digits, as in `0600`";
const RATE: &str = "^[1-9][0-9]{0,8}/(s|m|h)$";
const NOT_A_RATE: &str = "not a rate: write a whole number and a unit of time, as in `60/m`";

impl FromStr for Period {
    type Err = NotADuration;

    fn from_str(text: &str) -> Result<Self, NotADuration> {
        parse_duration(text).map(Self)
    }
}

impl fmt::Display for Period {
    /// In the largest unit that leaves a whole number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u128, &str); 5] =
            [(86_400_000_000, "d"), (3_600_000_000, "h"), (60_000_000, "m"), (1_000_000, "s"), (1_000, "ms")];
        let micros = self.0.as_micros();
        let whole = UNITS.iter().find(|(unit, _)| micros >= *unit && micros.is_multiple_of(*unit));
        match whole {
            Some((unit, name)) => write!(f, "{}{name}", micros / unit),
            None if micros == 0 => f.write_str("0s"),
            None => write!(f, "{micros}us"),
        }
    }
}

impl FromStr for Size {
    type Err = NotAWord;

    fn from_str(text: &str) -> Result<Self, NotAWord> {
        let (number, unit) = split(text);
        let bytes: u64 = match unit {
            "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(not(text, NOT_A_SIZE)),
        };
        let size = number.parse::<u64>().ok().and_then(|number| number.checked_mul(bytes));
        size.map(Self).ok_or_else(|| not(text, NOT_A_SIZE))
    }
}

impl fmt::Display for Size {
    /// In the largest unit that leaves a whole number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        let whole = units.into_iter().find(|(unit, _)| self.0 >= *unit && self.0.is_multiple_of(*unit));
        let (unit, name) = whole.unwrap_or((1, "B"));
        write!(f, "{}{name}", self.0 / unit)
    }
}

impl FromStr for Mode {
    type Err = NotAWord;

    fn from_str(text: &str) -> Result<Self, NotAWord> {
        let octal = text.len() == 4 && text.starts_with('0') && text.bytes().all(|b| matches!(b, b'0'..=b'7'));
        let mode = u32::from_str_radix(text, 8).ok().filter(|_| octal);
        mode.map(Self).ok_or_else(|| not(text, NOT_A_MODE))
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl FromStr for Rate {
    type Err = NotAWord;

    fn from_str(text: &str) -> Result<Self, NotAWord> {
        let no = || not(text, NOT_A_RATE);
        let (count, unit) = text.split_once('/').ok_or_else(no)?;
        let every = match unit {
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(3600),
            _ => return Err(no()),
        };
        let plain = count.bytes().all(|b| b.is_ascii_digit());
        let count = count.parse().ok().filter(|count| plain && *count > 0).ok_or_else(no)?;
        Ok(Self { count, every })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.every.as_secs() {
            1 => "s",
            60 => "m",
            _ => "h",
        };
        write!(f, "{}/{unit}", self.count)
    }
}

fn split(text: &str) -> (&str, &str) {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    text.split_at(digits)
}

fn not(text: &str, complaint: &'static str) -> NotAWord {
    NotAWord { text: text.chars().take(40).collect(), complaint }
}

macro_rules! word {
    ($type:ident, $error:ty, $pattern:ident, $complaint:ident) => {
        impl TryFrom<String> for $type {
            type Error = $error;

            fn try_from(text: String) -> Result<Self, $error> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(word: $type) -> Self {
                word.to_string()
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern, "patternErrorMessage": $complaint })
            }
        }
    };
}

word!(Period, NotADuration, PERIOD, NOT_A_PERIOD);
word!(Size, NotAWord, SIZE, NOT_A_SIZE);
word!(Mode, NotAWord, MODE, NOT_A_MODE);
word!(Rate, NotAWord, RATE, NOT_A_RATE);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_shown_as_it_is_written() {
        for text in ["0s", "500ms", "30s", "15m", "24h".replace("24h", "1d").as_str(), "90s", "7us"] {
            assert_eq!(text.parse::<Period>().unwrap().to_string(), text);
        }
        for text in ["1B", "64KiB", "256MiB", "1GiB"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
        for text in ["0600", "0666", "0000"] {
            assert_eq!(text.parse::<Mode>().unwrap().to_string(), text);
        }
        for text in ["60/m", "1/s", "2000/h"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_a_pattern_admits_is_a_word() {
        let texts = ["99999999d", "999999GiB", "0777", "999999999/h", "00000000us"];
        assert!(texts[0].parse::<Period>().is_ok() && texts[4].parse::<Period>().is_ok());
        assert!(texts[1].parse::<Size>().is_ok());
        assert!(texts[2].parse::<Mode>().is_ok());
        assert!(texts[3].parse::<Rate>().is_ok());
    }

    #[test]
    fn other_texts_are_no_words() {
        for bad in ["", "600", "0888", "00600", "+600", "rw"] {
            assert!(bad.parse::<Mode>().is_err(), "{bad:?}");
        }
        for bad in ["", "1", "1MB", "-1B", "1.5MiB", "99999999999999999999B"] {
            assert!(bad.parse::<Size>().is_err(), "{bad:?}");
        }
        for bad in ["", "60", "0/m", "60/d", "+6/m", "-1/s", "/m"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad:?}");
        }
    }
}
