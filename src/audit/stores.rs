//! What the log knows of stores that count their changes. A file that is older than the log says was put back; one
//! with another id was made anew. Decides; the log is read by [`super::backwards`].

use crate::name::Name;

use super::form::Line;

/// A store as it stands: which it is, and how many changes were ever written to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its name in the configuration.
    pub store: Name,
    /// Its own id, made with its file.
    pub id: Box<str>,
    /// How many changes were ever written to it.
    pub changes: u64,
}

/// Why a store's standing is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    /// It was opened, and is what the log knows or newer.
    Opened,
    /// A verb was done on it.
    Changed,
    /// Nothing happened: the log ends or goes on in another segment, and is to know it there too.
    Restated,
    /// It is not what the log knows, and was not used.
    Refused,
    /// The same, and an operator took it as it is.
    Accepted,
}

impl Noted {
    const ALL: [Self; 5] = [Self::Opened, Self::Changed, Self::Restated, Self::Refused, Self::Accepted];

    /// The word in records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Changed => "changed",
            Self::Restated => "restated",
            Self::Refused => "refused",
            Self::Accepted => "accepted",
        }
    }
}

/// A store is not the one that the log knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAsKnown {
    /// Its file is older than the log says.
    #[error(
        "the store `{store}` was written {found} times, and record {record} of the audit log says {known}: an older \
         file was put back, and what was changed since is not in it; put the newest file back, or take this one as it \
         is with `bursar secret accept {store}`",
        store = found.store, found = found.changes
    )]
    Older {
        /// The store as it stands.
        found: Standing,
        /// How many changes the log knows of.
        known: u64,
        /// The record that says so.
        record: u64,
    },
    /// Its name belonged to another file.
    #[error(
        "the store `{store}` has the id {found}, and record {record} of the audit log says {known}: its file was \
         removed or replaced; put the former file back, or take this one as it is with `bursar secret accept {store}`",
        store = found.store, found = found.id
    )]
    Another {
        /// The store as it stands.
        found: Standing,
        /// The id that the log knows.
        known: Box<str>,
        /// The record that says so.
        record: u64,
    },
}

/// Holds one store against the log, whose records come newest first.
#[derive(Debug)]
pub struct Held {
    found: Standing,
    by_name: bool,
    by_id: bool,
    fault: Option<NotAsKnown>,
    is_noted: bool,
}

impl Held {
    /// Holds `found`.
    #[must_use]
    pub const fn new(found: Standing) -> Self {
        Self { found, by_name: false, by_id: false, fault: None, is_noted: false }
    }

    /// The store.
    #[must_use]
    pub const fn found(&self) -> &Standing {
        &self.found
    }

    /// Takes the next record; whether older ones no longer matter.
    pub fn take(&mut self, line: &Line) -> bool {
        if let Some((known, noted)) = read(line).filter(|_| !self.is_settled()) {
            self.compare(&known, noted, line.index());
        }
        self.is_settled()
    }

    const fn is_settled(&self) -> bool {
        self.fault.is_some() || (self.by_name && self.by_id)
    }

    fn compare(&mut self, known: &Standing, noted: Noted, record: u64) {
        let (same_name, same_id) = (known.store == self.found.store, known.id == self.found.id);
        if noted == Noted::Refused {
            self.is_noted |= *known == self.found && !self.by_name && !self.by_id;
            return;
        }
        let found = || self.found.clone();
        if same_name && !self.by_name && !same_id {
            self.fault = Some(NotAsKnown::Another { found: found(), known: known.id.clone(), record });
        } else if same_id && !self.by_id && known.changes > self.found.changes {
            self.fault = Some(NotAsKnown::Older { found: found(), known: known.changes, record });
        }
        self.by_name |= same_name;
        self.by_id |= same_id;
    }

    /// What is wrong with it, and whether the log has its refusal already.
    #[must_use]
    pub fn fault(&self) -> Option<(&NotAsKnown, bool)> {
        self.fault.as_ref().map(|fault| (fault, self.is_noted))
    }
}

/// The standing that `line` tells of, if it is such a record.
fn read(line: &Line) -> Option<(Standing, Noted)> {
    let text = |key| Some(line).filter(|line| line.kind() == "store")?.text(key);
    let standing =
        Standing { store: text("store")?.parse().ok()?, id: text("id")?.into(), changes: line.number("changes")? };
    let word = text("noted")?;
    Noted::ALL.into_iter().find(|noted| noted.as_str() == word).map(|noted| (standing, noted))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(store: &str, id: &str, changes: u64) -> Standing {
        Standing { store: store.parse().unwrap(), id: id.into(), changes }
    }

    /// What becomes of `found` before a log that tells of `records`, oldest first.
    fn held(found: (&str, &str, u64), records: &[((&str, &str, u64), Noted)]) -> Held {
        let mut held = Held::new(standing(found.0, found.1, found.2));
        for (nth, ((store, id, changes), noted)) in records.iter().enumerate().rev() {
            let line = format!(
                r#"{{"v":1,"i":{nth},"t":"2026-11-21T06:00:00.000000Z","kind":"store","store":"{store}","id":"{id}","changes":{changes},"noted":"{}"}}"#,
                noted.as_str()
            );
            if held.take(&Line::parse(line.as_bytes()).unwrap()) {
                break;
            }
        }
        held
    }

    use Noted::{Accepted, Changed, Opened, Refused};

    #[test]
    fn a_store_that_the_log_does_not_know_is_welcome() {
        assert!(held(("a", "x", 0), &[]).fault().is_none());
        assert!(held(("a", "x", 0), &[(("b", "y", 9), Opened)]).fault().is_none());
    }

    #[test]
    fn the_last_record_counts_and_a_newer_store_is_none_of_its_business() {
        let log = [(("a", "x", 3), Opened), (("a", "x", 6), Changed)];
        assert!(held(("a", "x", 6), &log).fault().is_none());
        assert!(held(("a", "x", 9), &log).fault().is_none(), "the process died between change and record");
        assert!(matches!(
            held(("a", "x", 5), &log).fault(),
            Some((NotAsKnown::Older { known: 6, record: 1, .. }, false))
        ));
    }

    #[test]
    fn another_file_under_a_known_name_is_noticed() {
        let log = [(("a", "x", 3), Opened)];
        assert!(matches!(held(("a", "y", 30), &log).fault(), Some((NotAsKnown::Another { record: 0, .. }, false))));
    }

    #[test]
    fn a_store_is_known_under_a_new_name_too() {
        let log = [(("a", "x", 3), Opened)];
        assert!(held(("b", "x", 3), &log).fault().is_none());
        assert!(matches!(held(("b", "x", 2), &log).fault(), Some((NotAsKnown::Older { .. }, _))));
    }

    #[test]
    fn what_was_refused_is_refused_again_and_noted_once() {
        let log = [(("a", "x", 3), Opened), (("a", "x", 2), Refused)];
        assert!(matches!(held(("a", "x", 2), &log).fault(), Some((_, true))));
        assert!(matches!(held(("a", "x", 1), &log).fault(), Some((_, false))), "another refusal is noted");
        assert!(held(("a", "x", 3), &log).fault().is_none(), "the newest file was put back");
    }

    #[test]
    fn what_was_accepted_is_what_the_log_knows() {
        let log = [(("a", "x", 9), Opened), (("a", "x", 2), Refused), (("a", "x", 2), Accepted)];
        assert!(held(("a", "x", 2), &log).fault().is_none());
        assert!(held(("a", "x", 1), &log).fault().is_some());
    }
}
