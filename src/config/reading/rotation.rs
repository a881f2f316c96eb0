//! `[secret.NAME.rotation]`.

mod of_provider;

use std::time::Duration;

use super::Reader;
use crate::config::meant::{Rotation, Rotator, SecretRef};
use crate::config::said;
use crate::config::words::Period;
use crate::name::Name;
use crate::rotation::random::Alphabet;
use crate::rotation::{Overlap, Schedule};
use crate::time::calendar::{NotOfTheCalendar, Zone};

/// How long the former version stays valid where nobody says.
const GRACE: Duration = Duration::from_secs(3_600);
/// How long readers are waited for where nobody says.
const UPTAKE_DEADLINE: Duration = Duration::from_secs(86_400);

impl Reader<'_> {
    /// The rotation of the secret at `at`, whose readers may hold what they have for `reread_after` twice: once in the
    /// agent's memory, and once in their own.
    pub(super) fn rotation(
        &mut self,
        entry: &str,
        said: said::Rotation,
        at: &SecretRef,
        reread_after: Duration,
        stores: &[Name],
    ) -> Option<Rotation> {
        let key = format!("{entry}.rotation");
        let schedule = self.schedule(&key, &said);
        let period = |said: Option<Period>, default| said.map_or(default, |Period(period)| period);
        let uptake_deadline = period(said.uptake_deadline, UPTAKE_DEADLINE);
        let grace = said.grace;
        let rotator = self.rotator(&key, said, at, stores)?;
        let grace = match (rotator.overlap(), grace) {
            (Overlap::One, None) => Duration::ZERO,
            (Overlap::One, Some(_)) => {
                let what =
                    format!("`{key}.grace` has no effect: what this rotator sets ends the former version at once");
                self.fault(&format!("{key}.grace"), what, Some("take it out".into()));
                Duration::ZERO
            }
            (Overlap::Two, grace) => {
                let (grace, least) = (period(grace, GRACE), reread_after * 2);
                if grace < least {
                    let what = format!("`{key}.grace` is shorter than a reader may hold what it has");
                    let help = format!(
                        "give it at least `{}`: a value is kept in memory for `{}`, and its readers are told to keep it for as long",
                        Period(least),
                        Period(reread_after)
                    );
                    self.fault(&format!("{key}.grace"), what, Some(help));
                }
                grace
            }
        };
        Some(Rotation { schedule, grace, uptake_deadline, rotator })
    }

    fn schedule(&mut self, key: &str, said: &said::Rotation) -> Schedule {
        if said.every.is_some() && said.cron.is_some() {
            let what = format!("`{key}` has both `every` and `cron`");
            self.fault(&format!("{key}.cron"), what, Some("keep one of them".into()));
        }
        let zone: Zone = self.calendar(&format!("{key}.timezone"), said.timezone.as_deref()).unwrap_or_default();
        Schedule {
            every: said.every.map(|Period(every)| every),
            cron: self.calendar(&format!("{key}.cron"), said.cron.as_deref()),
            zone,
            window: self.calendar(&format!("{key}.window"), said.window.as_deref()),
            jitter: said.jitter.map_or(Duration::ZERO, |Period(jitter)| jitter),
            max_age: said.max_age.map(|Period(age)| age),
        }
    }

    fn calendar<T: std::str::FromStr<Err = NotOfTheCalendar>>(&mut self, key: &str, said: Option<&str>) -> Option<T> {
        match said?.parse() {
            Ok(meant) => Some(meant),
            Err(why) => {
                self.fault(key, why.to_string(), None);
                None
            }
        }
    }

    /// The one rotator that has a table.
    fn rotator(&mut self, key: &str, said: said::Rotation, at: &SecretRef, stores: &[Name]) -> Option<Rotator> {
        let (mut tables, mut rotators) = (0, Vec::new());
        let mut table = |rotator: Option<Option<Rotator>>| {
            tables += usize::from(rotator.is_some());
            rotators.extend(rotator.flatten());
        };
        table(said.random.map(|said| Some(random(said))));
        let client = said.oauth_client_secret;
        table(client.map(|said| self.client_secret(&format!("{key}.oauth-client-secret"), said, at, stores)));
        table(said.signing_key.map(|said| self.signing_key(&format!("{key}.signing-key"), said)));
        if tables != 1 {
            let what = format!("`{key}` needs one rotator, and has {tables}");
            let help = format!("give it one table, such as `[{key}.random]`");
            self.fault(key, what, Some(help));
        }
        rotators.pop()
    }
}

fn random(said: said::Random) -> Rotator {
    let alphabet = match said.alphabet {
        said::Alphabet::Alphanumeric => Alphabet::Alphanumeric,
        said::Alphabet::Hex => Alphabet::Hex,
        said::Alphabet::Base64url => Alphabet::Base64url,
    };
    Rotator::Random { alphabet, length: said.length as usize }
}
