//! `[secret.NAME.rotation.exec]`.

use std::time::Duration;

use super::alphabet;
use crate::config::meant::{ExecProgram, Rotator, SecretRef};
use crate::config::reading::Reader;
use crate::config::said;
use crate::config::words::Period;
use crate::name::Name;
use crate::rotation::exec::Settings;
use crate::rotation::{Invents, Overlap};

/// How long one act may take where nobody says.
const TIMEOUT: Duration = Duration::from_secs(15);
/// The longest: an act that takes longer is cut off by the engine.
const MOST_TIMEOUT: Duration = Duration::from_secs(18);

impl Reader<'_> {
    pub(super) fn exec(&mut self, key: &str, said: said::Exec, at: &SecretRef, stores: &[Name]) -> Rotator {
        if !said.program.is_absolute() {
            let what = format!("`{key}.program` is not an absolute path");
            self.fault(&format!("{key}.program"), what, Some("write it whole: no search path is asked".into()));
        }
        let invents = if said.invents == said::ExecInvents::Us { Invents::Us } else { Invents::FarSide };
        if invents == Invents::FarSide && said.random.is_some() {
            let what = format!("`{key}.random` has no effect where the far side invents the value");
            self.fault(&format!("{key}.random"), what, Some("take it out, or set `invents = \"us\"`".into()));
        }
        let timeout = said.timeout.map_or(TIMEOUT, |Period(time)| time);
        if timeout.is_zero() || timeout > MOST_TIMEOUT {
            let what = format!("`{key}.timeout` cannot be `{}`", Period(timeout));
            self.fault(
                &format!("{key}.timeout"),
                what,
                Some(format!("at most `{}`, and not zero", Period(MOST_TIMEOUT))),
            );
        }
        let (alphabet, length) = alphabet(said.random.unwrap_or_default());
        let settings = Settings {
            program: said.program,
            values: said.values,
            overlap: if said.overlap == said::HttpOverlap::One { Overlap::One } else { Overlap::Two },
            invents,
            settles_within: said.settles_within.map_or(Duration::ZERO, |Period(time)| time),
            timeout,
        };
        let admin = said.admin.map(|admin| self.admin(key, admin, at, stores));
        let exclusive = said.exclusive;
        Rotator::Exec(Box::new(ExecProgram { settings, admin, exclusive, alphabet, length }))
    }
}
