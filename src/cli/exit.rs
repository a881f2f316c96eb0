//! How a verb ends: the exit codes, and the trouble that leads to each.

use crate::fault::{Fault, Faults};

/// How a verb ended. Scripts rely on the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: it is done.
    Done,
    /// 1: it failed.
    Failed,
    /// 2: it was called in a wrong way.
    Usage,
    /// 3: policy refused it.
    Refused,
    /// 4: it may work later.
    Unavailable,
    /// 5: there is evidence of tampering.
    Tampering,
    /// That of a program that was run.
    Of(u8),
}

impl Exit {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::Unavailable => 4,
            Self::Tampering => 5,
            Self::Of(code) => code,
        }
    }
}

/// Why a verb could not be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Files that a person wrote have faults.
    Faults(Faults),
    /// Something else; what is said of it, and how the verb ends.
    Said(Said),
    /// Nobody reads what we print any more: there is nobody to tell.
    Unheard,
}

/// See [`Trouble::Said`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// How the verb ends.
    pub exit: Exit,
    /// What went wrong: lowercase, names in backticks.
    pub what: String,
    /// What to do next.
    pub help: Option<String>,
    /// The record of it, where there is one.
    pub decision: Option<String>,
    /// After how many seconds to try again, where that is known.
    pub retry_after: Option<u64>,
}

impl Trouble {
    /// It ends with `exit`, since `what`.
    #[must_use]
    pub fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self::Said(Said { exit, what: what.into(), help: None, decision: None, retry_after: None })
    }

    /// What went wrong, in one text.
    #[must_use]
    pub fn what(&self) -> String {
        match self {
            Self::Faults(faults) => faults.to_string(),
            Self::Said(said) => said.what.clone(),
            Self::Unheard => String::new(),
        }
    }

    /// It failed, since `what`.
    #[must_use]
    pub fn failed(what: impl Into<String>) -> Self {
        Self::new(Exit::Failed, what)
    }

    /// The same, with what to do next.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        if let Self::Said(said) = &mut self {
            said.help = Some(help.into());
        }
        self
    }

    /// The same, with the record of it.
    #[must_use]
    pub fn decision(mut self, decision: Option<String>) -> Self {
        if let Self::Said(said) = &mut self {
            said.decision = decision;
        }
        self
    }

    /// The same, with when to try again.
    #[must_use]
    pub fn retry_after(mut self, seconds: Option<u64>) -> Self {
        if let Self::Said(said) = &mut self {
            said.retry_after = seconds;
        }
        self
    }

    /// How the verb ends.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        match self {
            Self::Faults(_) | Self::Unheard => Exit::Failed,
            Self::Said(said) => said.exit,
        }
    }
}

impl From<Faults> for Trouble {
    fn from(faults: Faults) -> Self {
        Self::Faults(faults)
    }
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self::Faults(fault.into())
    }
}
