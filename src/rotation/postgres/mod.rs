//! The rotator `postgres`: the password of one role, or of two roles that take turns.
//!
//! One role has one password: what is set ends the one before at once. Of a pair, one role serves while the other is given
//! its new password, so that two logins work at once. The server is told verifiers alone, never a password.

mod scram;
mod session;
pub mod watch;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::Admin;
use super::login::{Login, Written, with_new_password};
use super::{Created, Ended, Held, Invents, Label, Overlap, Rotator, Trouble};
use crate::crypto::Random;
use crate::wire::line::{Endpoint, Line};

pub use scram::verifier;

use session::{NoSession, Role, Session};

/// The port where nobody says.
const PORT: u16 = 5_432;
/// What the name of a server's unix socket begins with, before its port.
const SOCKET: &str = ".s.PGSQL.";

/// A server, and a database of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// What readers are told to connect to: a host name, an address, or the directory of the unix socket.
    pub host: String,
    /// The port, which also names the unix socket in its directory.
    pub port: u16,
    /// The way to it.
    pub line: Line,
    /// The database: to log in is to connect to one.
    pub database: String,
}

impl Server {
    /// The server at `endpoint`: of a unix socket, the directory that it is in, or itself where its port is another than
    /// 5432.
    #[must_use]
    pub fn new(endpoint: Endpoint, ca_file: Option<PathBuf>, database: String) -> Self {
        let (host, port, endpoint) = match endpoint {
            Endpoint::Tcp { port, .. } => (endpoint.host(), port, endpoint),
            Endpoint::Unix(path) => {
                let port = path.file_name().and_then(|name| name.to_str()?.strip_prefix(SOCKET)?.parse().ok());
                let folder = if port.is_some() { path.parent().unwrap_or(&path).to_owned() } else { path };
                let port = port.unwrap_or(PORT);
                let socket = folder.join(format!("{SOCKET}{port}"));
                (folder.display().to_string(), port, Endpoint::Unix(socket))
            }
        };
        Self { host, port, line: Line { endpoint, ca_file }, database }
    }
}

/// The name of a role: 1 to 63 bytes of text without control characters, as the server keeps it.
#[derive(Clone, PartialEq, Eq)]
pub struct RoleName(Box<str>);

/// A text is no name of a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not the name of a role: it has 1 to 63 bytes of text")]
pub struct NotARole;

impl FromStr for RoleName {
    type Err = NotARole;

    fn from_str(text: &str) -> Result<Self, NotARole> {
        let valid = (1..=63).contains(&text.len()) && !text.chars().any(char::is_control);
        valid.then(|| Self(text.into())).ok_or(NotARole)
    }
}

impl RoleName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as SQL writes it, whatever it holds.
    #[must_use]
    pub fn quoted(&self) -> String {
        format!("\"{}\"", self.0.replace('"', "\"\""))
    }
}

impl fmt::Debug for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.quoted())
    }
}

/// Whose password it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Roles {
    /// One role.
    One(RoleName),
    /// Two that take turns, and are alike.
    Pair([RoleName; 2]),
}

impl Roles {
    /// How many logins work at once.
    #[must_use]
    pub const fn overlap(&self) -> Overlap {
        match self {
            Self::One(_) => Overlap::One,
            Self::Pair(_) => Overlap::Two,
        }
    }

    fn all(&self) -> Vec<&RoleName> {
        match self {
            Self::One(one) => vec![one],
            Self::Pair(pair) => pair.iter().collect(),
        }
    }

    fn named(&self, name: &str) -> Option<&RoleName> {
        self.all().into_iter().find(|role| role.as_str() == name)
    }

    /// Whose turn it is after `current`.
    fn next(&self, current: Option<&Login>) -> &RoleName {
        match (self, current) {
            (Self::One(one), _) => one,
            (Self::Pair([first, second]), Some(current)) if current.username == first.as_str() => second,
            (Self::Pair([first, _]), _) => first,
        }
    }
}

/// What is true of one role, and should be of another.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fact {
    role: String,
    fact: String,
}

/// Rotates the passwords of roles.
pub struct Postgres {
    /// Where.
    pub server: Server,
    /// Of whom.
    pub roles: Roles,
    /// With which login.
    pub admin: Admin,
    /// From which passwords and salts are made.
    pub random: Arc<dyn Random>,
}

impl Postgres {
    /// A session with the admin's login, which is none of those that are rotated.
    async fn administer(&self) -> Result<Session, Trouble> {
        let login = self.admin.login().await?;
        if self.roles.named(&login.username).is_some() {
            return Err(self.admin.refused("it is the login of a role that it would rotate: make a role for bursar"));
        }
        Session::open(&self.server, &login).await.map_err(|why| match why {
            NoSession::Login(why) => self.admin.refused(&why),
            NoSession::Trouble(trouble) => trouble,
        })
    }

    /// That the roles are there, may log in, and are alike. Asked before anything is made.
    async fn check(&self) -> Result<(), Trouble> {
        let (session, roles) = (self.administer().await?, self.roles.all());
        let known = session.roles(&roles).await?;
        roles.iter().try_for_each(|role| usable(role, &known))?;
        match &self.roles {
            Roles::One(_) => Ok(()),
            Roles::Pair(_) => alike(&session.unlike(&roles).await?),
        }
    }

    fn value(&self, role: &RoleName) -> Result<crate::secret::Secret, Trouble> {
        let Server { host, port, database, .. } = &self.server;
        with_new_password(&self.random, |password| {
            Written { username: role.as_str(), password, host, port: *port, dbname: Some(database) }.value()
        })
    }

    /// Our role that `held` is a login of.
    fn role_of(&self, login: &Login) -> Result<&RoleName, Trouble> {
        self.roles.named(&login.username).ok_or_else(|| {
            Trouble::Setup("the new version is the login of a role that is not configured any more".into())
        })
    }
}

/// The login that is served. Of a pair it has to be known whose turn it was.
fn served(current: Option<&Held>, overlap: Overlap) -> Result<Option<Login>, Trouble> {
    match (current.map(|held| Login::read(&held.value)), overlap) {
        (Some(Err(why)), Overlap::Two) => Err(Trouble::Setup(format!(
            "the version that is served tells not which role its readers use, so that neither can be changed: {why}"
        ))),
        (Some(Err(_)) | None, _) => Ok(None),
        (Some(Ok(login)), _) => Ok(Some(login)),
    }
}

fn usable(role: &RoleName, known: &[Role]) -> Result<(), Trouble> {
    let quoted = role.quoted();
    let lacks = match known.iter().find(|known| known.name == role.as_str()) {
        None => format!("there is no role {quoted}: bursar makes none; `CREATE ROLE {quoted} LOGIN`"),
        Some(known) if !known.may_log_in => format!("the role {quoted} may not log in: `ALTER ROLE {quoted} LOGIN`"),
        Some(known) if known.has_expired => format!(
            "the password of the role {quoted} is past its `VALID UNTIL`, and so would be the next: `ALTER ROLE {quoted} \
             VALID UNTIL 'infinity'`"
        ),
        Some(_) => return Ok(()),
    };
    Err(Trouble::Refused(lacks))
}

fn alike(facts: &[Fact]) -> Result<(), Trouble> {
    if facts.is_empty() {
        return Ok(());
    }
    let facts: Vec<_> = facts.iter().map(|Fact { role, fact }| format!("`{role}` alone {fact}")).collect();
    Err(Trouble::Refused(format!(
        "the two roles are not alike, so that a reader may do with one what it may not with the other: {}; let both have all \
         through a role that both are members of (`GRANT`, `REASSIGN OWNED`)",
        facts.join(", ")
    )))
}

impl Rotator for Postgres {
    fn kind(&self) -> &'static str {
        "postgres"
    }

    fn overlap(&self) -> Overlap {
        self.roles.overlap()
    }

    fn invents(&self) -> Invents {
        Invents::Us
    }

    fn create<'a>(&'a self, _: &'a Label, current: Option<&'a Held>) -> BoxFuture<'a, Result<Created, Trouble>> {
        async move {
            let current = served(current, self.overlap())?;
            self.check().await?;
            Ok(Created { value: self.value(self.roles.next(current.as_ref()))?, far_id: None })
        }
        .boxed()
    }

    fn set<'a>(&'a self, new: &'a Held, current: Option<&'a Held>) -> BoxFuture<'a, Result<(), Trouble>> {
        async move {
            let (login, current) = (Login::read(&new.value)?, served(current, self.overlap())?);
            let role = self.role_of(&login)?;
            if self.overlap() == Overlap::Two && current.is_some_and(|current| current.username == login.username) {
                return Err(Trouble::Refused("the new version is a login of the role whose login is served".into()));
            }
            let mut salt = [0; 16];
            self.random.fill(&mut salt).map_err(|why| Trouble::Setup(why.to_string()))?;
            let verifier = verifier(login.password.expose(), &salt);
            let session = self.administer().await?;
            session.execute(&format!("ALTER ROLE {} PASSWORD '{verifier}'", role.quoted())).await
        }
        .boxed()
    }

    fn test<'a>(&'a self, held: &'a Held) -> BoxFuture<'a, Result<bool, Trouble>> {
        async move {
            match Session::open(&self.server, &Login::read(&held.value)?).await {
                Ok(_) => Ok(true),
                Err(NoSession::Login(_)) => Ok(false),
                Err(NoSession::Trouble(trouble)) => Err(trouble),
            }
        }
        .boxed()
    }

    fn revoke<'a>(&'a self, ended: &'a Ended, current: Option<&'a Held>) -> BoxFuture<'a, Result<(), Trouble>> {
        async move {
            // One role has no password but the one that is served.
            let (Overlap::Two, Some(value)) = (self.overlap(), &ended.value) else { return Ok(()) };
            let (login, current) = (Login::read(value), served(current, Overlap::Two)?);
            let Some(role) = login.as_ref().ok().and_then(|login| self.roles.named(&login.username)) else {
                tracing::warn!(
                    "the former version is no login of a role that bursar rotates, and is left as it is at the server"
                );
                return Ok(());
            };
            // Its password was replaced by the one that is served.
            if current.is_some_and(|current| current.username == role.as_str()) {
                return Ok(());
            }
            self.administer().await?.execute(&format!("ALTER ROLE {} PASSWORD NULL", role.quoted())).await
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(username: &str) -> Login {
        Login { username: username.into(), password: crate::secret::Secret::copy_of(b"x") }
    }

    fn role(name: &str) -> RoleName {
        name.parse().unwrap()
    }

    #[test]
    fn a_name_stays_a_name_in_sql() {
        assert_eq!(role("app").quoted(), r#""app""#);
        assert_eq!(role(r#"a" SUPERUSER; --"#).quoted(), r#""a"" SUPERUSER; --""#);
        for no in ["", "a\0b", "a\nb", &"x".repeat(64)] {
            assert_eq!(no.parse::<RoleName>(), Err(NotARole));
        }
    }

    #[test]
    fn the_roles_of_a_pair_take_turns() {
        let pair = Roles::Pair([role("a"), role("b")]);
        for (current, next) in [(None, "a"), (Some("a"), "b"), (Some("b"), "a"), (Some("before"), "a")] {
            assert_eq!(pair.next(current.map(login).as_ref()).as_str(), next);
        }
    }

    #[test]
    fn a_socket_is_found_in_its_directory() {
        let server = |text: &str| Server::new(text.parse().unwrap(), None, "app".into());
        let shown = |server: Server| (server.host, server.port, server.line.endpoint.to_string());
        let at = |host: &str, port, line: &str| (host.to_owned(), port, line.to_owned());
        assert_eq!(shown(server("/run/pg")), at("/run/pg", 5_432, "/run/pg/.s.PGSQL.5432"));
        assert_eq!(shown(server("/run/pg/.s.PGSQL.5433")), at("/run/pg", 5_433, "/run/pg/.s.PGSQL.5433"));
        assert_eq!(shown(server("[::1]:5434")), at("::1", 5_434, "[::1]:5434"));
    }

    #[test]
    fn a_role_that_is_missing_or_cannot_log_in_is_named() {
        let known = |may_log_in, has_expired| [Role { name: "app".into(), may_log_in, has_expired }];
        assert_eq!(usable(&role("app"), &known(true, false)), Ok(()));
        for (known, why) in
            [(&known(false, false)[..], "LOGIN`"), (&known(true, true), "VALID UNTIL"), (&[], "CREATE ROLE")]
        {
            assert!(usable(&role("app"), known).unwrap_err().to_string().contains(why));
        }
    }
}
