//! `[secret.NAME.rotation]`.

mod access_key;
mod exec;
mod http;
mod of_provider;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::Reader;
use crate::config::meant::{Rotation, Rotator, Secret, SecretRef, Store};
use crate::config::said;
use crate::config::words::Period;
use crate::document::below;
use crate::name::Name;
use crate::rotation::random::Alphabet;
use crate::rotation::{Overlap, Schedule, Uptake, postgres, redis_acl};
use crate::time::calendar::{NotOfTheCalendar, Zone};
use crate::wire::line::{Endpoint, Line, NotAnEndpoint};

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
        let (grace, uptake) = (said.grace, said.uptake);
        let rotator = self.rotator(&key, said, at, stores)?;
        let uptake = match (uptake, rotator.overlap()) {
            (said::Uptake::Local, _) => Uptake::Local,
            (said::Uptake::Store, Overlap::Two) => Uptake::Store,
            (said::Uptake::Store, Overlap::One) => {
                let what =
                    format!("`{key}.uptake` has no effect: what this rotator sets ends the former version at once");
                self.fault(&format!("{key}.uptake"), what, Some("take it out".into()));
                Uptake::Local
            }
        };
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
        Some(Rotation { schedule, grace, uptake, uptake_deadline, rotator })
    }

    /// Where readers of other agents count, the store has to carry what they tell.
    pub(super) fn stores_carry_notices(&mut self, secrets: &BTreeMap<Name, Secret>, stores: &BTreeMap<Name, Store>) {
        for (name, secret) in secrets {
            let tells = secret.rotation.as_ref().is_some_and(|rotation| rotation.uptake == Uptake::Store);
            let carries = stores.get(&secret.at.store).is_none_or(Store::carries_notices);
            if tells && !carries {
                let key = format!("{}.rotation.uptake", below("secret", name.as_str()));
                let what = format!(
                    "`{key}` is `store`, and the store `{}` carries no notices of other agents",
                    secret.at.store
                );
                let help = "use `local`, with a `grace` in which every reader asks again; or keep the secret in a store of kind `openbao`";
                self.fault(&key, what, Some(help.into()));
            }
        }
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
        table(said.http.map(|said| self.http(&format!("{key}.http"), *said, at, stores)));
        table(said.exec.map(|said| Some(self.exec(&format!("{key}.exec"), *said, at, stores))));
        let iam = said.aws_iam_access_key;
        table(iam.map(|said| self.access_key(&format!("{key}.aws-iam-access-key"), *said, at, stores)));
        table(said.postgres.map(|said| self.postgres(&format!("{key}.postgres"), said, at, stores)));
        table(said.redis_acl.map(|said| self.redis_acl(&format!("{key}.redis-acl"), said, at, stores)));
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

    fn postgres(&mut self, key: &str, said: said::Postgres, at: &SecretRef, stores: &[Name]) -> Option<Rotator> {
        let admin = self.admin(key, said.admin, at, stores);
        let endpoint = self.endpoint(key, &said.address);
        let ca_file = said.ca_file.map(|path: PathBuf| self.path(&format!("{key}.ca_file"), &path));
        if said.database.is_empty() || said.database.chars().any(char::is_control) {
            let what = format!("`{key}.database` is not the name of a database");
            self.fault(&format!("{key}.database"), what, None);
        }
        let roles = self.roles(key, said.user, said.users);
        Some(Rotator::Postgres {
            server: postgres::Server::new(endpoint?, ca_file, said.database),
            roles: roles?,
            admin,
        })
    }

    fn roles(&mut self, key: &str, user: Option<String>, users: Vec<String>) -> Option<postgres::Roles> {
        let mut role = |key: &str, text: &str| match text.parse::<postgres::RoleName>() {
            Ok(role) => Some(role),
            Err(why) => {
                self.fault(key, format!("`{key}` {why}"), None);
                None
            }
        };
        match (user.as_deref(), &users[..]) {
            (Some(user), []) => role(&format!("{key}.user"), user).map(postgres::Roles::One),
            (None, [first, second]) if first != second => {
                let key = format!("{key}.users");
                Some(postgres::Roles::Pair([role(&key, first)?, role(&key, second)?]))
            }
            _ => {
                let what = format!("`{key}` needs either `user`, or `users` with two different roles");
                let help =
                    "two roles that take turns let readers move on in their time: `users = [\"app_a\", \"app_b\"]`";
                self.fault(key, what, Some(help.into()));
                None
            }
        }
    }

    fn redis_acl(&mut self, key: &str, said: said::RedisAcl, at: &SecretRef, stores: &[Name]) -> Option<Rotator> {
        let admin = self.admin(key, said.admin, at, stores);
        let endpoint = self.endpoint(key, &said.address);
        let ca_file = said.ca_file.map(|path: PathBuf| self.path(&format!("{key}.ca_file"), &path));
        let persist = match said.persist {
            said::Persist::AclSave => redis_acl::Persist::AclSave,
            said::Persist::ConfigRewrite => redis_acl::Persist::ConfigRewrite,
            said::Persist::Nothing => redis_acl::Persist::Nothing,
        };
        let name = match said.user.parse() {
            Ok(name) => Some(name),
            Err(why) => {
                let why: redis_acl::NotAUser = why;
                self.fault(&format!("{key}.user"), format!("`{key}.user` {why}"), None);
                None
            }
        };
        let user = redis_acl::User { line: Line { endpoint: endpoint?, ca_file }, name: name?, persist };
        Some(Rotator::RedisAcl { user, admin, exclusive: said.exclusive })
    }

    /// The credential with which a rotator acts: never the one that it rotates.
    fn admin(&mut self, key: &str, said: said::SecretRef, at: &SecretRef, stores: &[Name]) -> SecretRef {
        let key = format!("{key}.admin");
        let admin = self.secret_ref(&key, said, stores);
        if admin == *at {
            let what = format!("`{key}` is the secret that it rotates: what goes wrong could not be mended with it");
            self.fault(&key, what, Some("give bursar a login of its own at the server".into()));
        }
        admin
    }

    fn endpoint(&mut self, key: &str, said: &str) -> Option<Endpoint> {
        let key = format!("{key}.address");
        match said.parse() {
            Ok(endpoint) => Some(endpoint),
            Err(NotAnEndpoint) => {
                let help = "write it as in `db.example.com:5432`, `[::1]:5432` or `/run/postgresql`";
                self.fault(&key, format!("`{key}` {NotAnEndpoint}"), Some(help.into()));
                None
            }
        }
    }
}

fn random(said: said::Random) -> Rotator {
    let (alphabet, length) = alphabet(said);
    Rotator::Random { alphabet, length }
}

fn alphabet(said: said::Random) -> (Alphabet, usize) {
    let alphabet = match said.alphabet {
        said::Alphabet::Alphanumeric => Alphabet::Alphanumeric,
        said::Alphabet::Hex => Alphabet::Hex,
        said::Alphabet::Base64url => Alphabet::Base64url,
    };
    (alphabet, said.length as usize)
}
