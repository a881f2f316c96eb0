//! The names of logs and of records.

use std::fmt;
use std::str::FromStr;

use crate::crypto::{NoRandomness, Random};

use super::MAX_NUMBER;

/// Names a log: a version 4 UUID (RFC 9562 §5.4), made at first start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LogId([u8; 16]);

impl LogId {
    /// A new one.
    ///
    /// # Errors
    /// [`NoRandomness`] when the source fails.
    pub fn make(random: &dyn Random) -> Result<Self, NoRandomness> {
        let mut bits = [0; 16];
        random.fill(&mut bits)?;
        let bits = u128::from_be_bytes(bits);
        let bits = bits & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
        Ok(Self(bits.to_be_bytes()))
    }

    /// Its first four bytes, with which decision ids begin.
    #[must_use]
    pub const fn prefix(self) -> [u8; 4] {
        let [a, b, c, d, ..] = self.0;
        [a, b, c, d]
    }

    /// The name of record `index`.
    #[must_use]
    pub const fn decision(self, index: u64) -> DecisionId {
        DecisionId { log: self.prefix(), index }
    }
}

impl fmt::Display for LogId {
    /// `6ba7b810-9dad-41d1-80b4-00c04fd430c8`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, byte) in self.0.iter().enumerate() {
            let hyphen = if matches!(nth, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(f, "{hyphen}{byte:02x}")?;
        }
        Ok(())
    }
}

impl FromStr for LogId {
    type Err = NotALogId;

    fn from_str(text: &str) -> Result<Self, NotALogId> {
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        let bits = u128::from_str_radix(&digits, 16).map_err(|_| NotALogId)?;
        let id = Self(bits.to_be_bytes());
        if id.to_string() == text { Ok(id) } else { Err(NotALogId) }
    }
}

/// The text is not the id of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a log id is a UUID in lower-case hexadecimal digits")]
pub struct NotALogId;

/// Names a record: the first 8 hexadecimal digits of the log id, a hyphen, and the record's index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DecisionId {
    /// The first 4 bytes of the log id.
    pub log: [u8; 4],
    /// The index of the record: its line number over the valid part of all segments, from 0.
    pub index: u64,
}

impl fmt::Display for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{}", u32::from_be_bytes(self.log), self.index)
    }
}

impl FromStr for DecisionId {
    type Err = NotADecisionId;

    fn from_str(text: &str) -> Result<Self, NotADecisionId> {
        let (log, index) = text.split_once('-').ok_or(NotADecisionId)?;
        let log = u32::from_str_radix(log, 16).map_err(|_| NotADecisionId)?;
        let index = index.parse().map_err(|_| NotADecisionId)?;
        let id = Self { log: log.to_be_bytes(), index };
        if index < MAX_NUMBER && id.to_string() == text { Ok(id) } else { Err(NotADecisionId) }
    }
}

/// The text is not a decision id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a decision id is 8 hexadecimal digits, a hyphen and a number, as in `6ba7b810-42`")]
pub struct NotADecisionId;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back_what_they_show() {
        let log = LogId::make(&crate::crypto::SystemRandom).unwrap();
        assert_eq!(log.to_string().parse(), Ok(log));
        assert_eq!(log.to_string().as_bytes()[14], b'4', "{log}");
        let decision = log.decision(42);
        assert_eq!(decision.to_string().parse(), Ok(decision));
        for bad in ["", "6ba7b810", "6BA7B810-1", "6ba7b810-+1", "6ba7b810-01", "6ba7b810-9007199254740992"] {
            assert_eq!(bad.parse::<DecisionId>(), Err(NotADecisionId), "{bad}");
        }
    }
}
