//! The rotator `redis-acl`: a password of a Redis user, who may have several at once.
//!
//! The server is told the SHA-256 of a new password, never the password: that travels when somebody logs in, since Redis
//! has no other login, and then in TLS or within this host. What the server does not keep over its own restart does not
//! count as accepted.

pub mod resp;
mod session;

use std::str::FromStr;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::Admin;
use super::login::{Login, Written, with_new_password};
use super::{Created, Ended, Held, Invents, Label, Overlap, Rotator, Trouble};
use crate::crypto::{Digest, Random};
use crate::wire::line::{Endpoint, Line};

use resp::Reply;
use session::{Opened, Session, refused};

/// A user of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The way to the server.
    pub line: Line,
    /// The user's name.
    pub name: UserName,
    /// How the server keeps its passwords.
    pub persist: Persist,
}

/// How a server keeps what it was told over its own restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persist {
    /// In its `aclfile`.
    AclSave,
    /// In its configuration file.
    ConfigRewrite,
    /// It does not.
    Nothing,
}

/// The name of a user: 1 to 128 bytes of printable ASCII without space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserName(Box<str>);

/// A text is no name of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not the name of a user: it has 1 to 128 printable ASCII characters, and no space")]
pub struct NotAUser;

impl FromStr for UserName {
    type Err = NotAUser;

    fn from_str(text: &str) -> Result<Self, NotAUser> {
        let valid = (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        valid.then(|| Self(text.into())).ok_or(NotAUser)
    }
}

impl UserName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Rotates a password of a user.
pub struct RedisAcl {
    /// Of whom.
    pub user: User,
    /// With which login.
    pub admin: Admin,
    /// From which passwords are made.
    pub random: Arc<dyn Random>,
}

/// A user as the server knows it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Known {
    is_on: bool,
    /// Whether any password is taken.
    takes_any: bool,
    /// The SHA-256 of each password, in lower-case hexadecimal digits.
    passwords: Vec<Vec<u8>>,
}

impl RedisAcl {
    /// A session with the admin's login, which is not the one that is rotated.
    async fn administer(&self) -> Result<Session, Trouble> {
        let login = self.admin.login().await?;
        if login.username == self.user.name.as_str() {
            return Err(self.admin.refused("it is the login of the user that it would rotate: make a user for bursar"));
        }
        match Session::open(&self.user.line, &login).await? {
            Opened::Session(session) => Ok(session),
            Opened::WrongLogin => Err(self.admin.refused("WRONGPASS")),
        }
    }

    /// The user, who has to be there: `ACL SETUSER` would make one that is not.
    async fn known(&self, session: &mut Session) -> Result<Known, Trouble> {
        let name = self.user.name.as_str();
        let known = match session.ask(&[b"ACL", b"GETUSER", name.as_bytes()]).await? {
            Reply::Nothing => Err(format!("there is no user `{name}`: bursar makes none")),
            Reply::Error(text) => return Err(refused("ACL GETUSER", &text)),
            reply @ (Reply::List(_) | Reply::Text(_) | Reply::Number(_)) => match known(&reply) {
                None => return Err(Trouble::Nonsense("it tells of a user what is no user".into())),
                Some(known) if !known.is_on => Err(format!("the user `{name}` is off: `ACL SETUSER {name} on`")),
                Some(known) if known.takes_any => Err(format!(
                    "the user `{name}` is let in with any password, and readers may count on that: `ACL SETUSER {name} \
                     resetpass`, and give it one"
                )),
                Some(known) => Ok(known),
            },
        };
        known.map_err(Trouble::Refused)
    }

    /// Has the server keep what it was told. What has no effect after all is told so before anything is made.
    async fn save(&self, session: &mut Session) -> Result<(), Trouble> {
        let (what, words, help): (_, [&[u8]; 2], _) = match self.user.persist {
            Persist::AclSave => {
                ("ACL SAVE", [b"ACL", b"SAVE"], "set `aclfile` there, or `persist = \"config-rewrite\"` here")
            }
            Persist::ConfigRewrite => {
                ("CONFIG REWRITE", [b"CONFIG", b"REWRITE"], "start it with a configuration file that it may write")
            }
            Persist::Nothing => return Ok(()),
        };
        session.order(what, &words).await.map_err(|trouble| match trouble {
            Trouble::Refused(why) => Trouble::Refused(format!("{why}; the server has to keep passwords: {help}")),
            other @ (Trouble::Unavailable(_) | Trouble::Nonsense(_) | Trouble::Setup(_)) => other,
        })
    }

    /// Tells the server of a password, by the sign before its SHA-256: `#` it is valid, `!` it is not any more.
    async fn tell(&self, session: &mut Session, sign: char, digest: &str) -> Result<(), Trouble> {
        let (name, rule) = (self.user.name.as_str(), format!("{sign}{digest}"));
        session.order("ACL SETUSER", &[b"ACL", b"SETUSER", name.as_bytes(), rule.as_bytes()]).await
    }

    fn value(&self) -> Result<crate::secret::Secret, Trouble> {
        let endpoint = &self.user.line.endpoint;
        let port = match endpoint {
            Endpoint::Tcp { port, .. } => *port,
            Endpoint::Unix(_) => 0,
        };
        with_new_password(&self.random, |password| {
            let username = self.user.name.as_str();
            Written { username, password, host: &endpoint.host(), port, dbname: None }.value()
        })
    }
}

/// What `ACL GETUSER` tells.
fn known(reply: &Reply) -> Option<Known> {
    let Reply::List(members) = reply else { return None };
    let list = |of: &str| {
        let at = members.iter().step_by(2).position(|key| *key == Reply::Text(of.into()))?;
        let Reply::List(list) = members.get(2 * at + 1)? else { return None };
        Some(list.iter().filter_map(|one| if let Reply::Text(text) = one { Some(text.clone()) } else { None }))
    };
    let flags: Vec<_> = list("flags")?.collect();
    let has = |flag: &[u8]| flags.iter().any(|one| one == flag);
    Some(Known { is_on: has(b"on"), takes_any: has(b"nopass"), passwords: list("passwords")?.collect() })
}

fn digest(login: &Login) -> String {
    Digest::of(login.password.expose()).to_string()
}

impl Rotator for RedisAcl {
    fn kind(&self) -> &'static str {
        "redis-acl"
    }

    fn overlap(&self) -> Overlap {
        Overlap::Two
    }

    fn invents(&self) -> Invents {
        Invents::Us
    }

    fn create<'a>(&'a self, _: &'a Label, _: Option<&'a Held>) -> BoxFuture<'a, Result<Created, Trouble>> {
        async move {
            let mut session = self.administer().await?;
            self.known(&mut session).await?;
            self.save(&mut session).await?;
            Ok(Created { value: self.value()?, far_id: None })
        }
        .boxed()
    }

    fn set<'a>(&'a self, new: &'a Held, _: Option<&'a Held>) -> BoxFuture<'a, Result<(), Trouble>> {
        async move {
            let login = Login::read(&new.value)?;
            let mut session = self.administer().await?;
            self.known(&mut session).await?;
            self.tell(&mut session, '#', &digest(&login)).await
        }
        .boxed()
    }

    fn test<'a>(&'a self, held: &'a Held) -> BoxFuture<'a, Result<bool, Trouble>> {
        async move {
            let login = Login::read(&held.value)?;
            let Opened::Session(_) = Session::open(&self.user.line, &login).await? else { return Ok(false) };
            // Only now: what the server takes and would forget must not be promoted, whoever told it, and when.
            self.save(&mut self.administer().await?).await.map_err(|trouble| match trouble {
                // It works until a restart, so that it cannot be said that nothing has happened.
                Trouble::Refused(why) => Trouble::Unavailable(why),
                other @ (Trouble::Unavailable(_) | Trouble::Nonsense(_) | Trouble::Setup(_)) => other,
            })?;
            Ok(true)
        }
        .boxed()
    }

    fn revoke<'a>(&'a self, ended: &'a Ended, current: Option<&'a Held>) -> BoxFuture<'a, Result<(), Trouble>> {
        async move {
            let Some(value) = &ended.value else { return Ok(()) };
            let Ok(login) = Login::read(value) else {
                tracing::warn!("the former version is no login, and is left as it is at the server");
                return Ok(());
            };
            let former = digest(&login);
            let served = current.and_then(|held| Login::read(&held.value).ok());
            // Another user's password is not ours to end, and one that is served again is not over.
            if login.username != self.user.name.as_str() || served.is_some_and(|login| digest(&login) == former) {
                return Ok(());
            }
            let mut session = self.administer().await?;
            if self.known(&mut session).await?.passwords.iter().any(|one| one == former.as_bytes()) {
                self.tell(&mut session, '!', &former).await?;
            }
            // A crash before this leaves a password that would come back with a restart: it is saved when this is repeated.
            self.save(&mut session).await
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Reply {
        Reply::Text(text.into())
    }

    #[test]
    fn a_user_is_read_from_what_the_server_tells() {
        let told = Reply::List(vec![
            text("flags"),
            Reply::List(vec![text("on"), text("sanitize-payload")]),
            text("passwords"),
            Reply::List(vec![text("aa"), text("bb")]),
            text("commands"),
            text("+@all"),
        ]);
        let passwords = vec![b"aa".to_vec(), b"bb".to_vec()];
        assert_eq!(known(&told), Some(Known { is_on: true, takes_any: false, passwords }));
        for no in [text("OK"), Reply::List(vec![]), Reply::List(vec![text("flags"), text("on")])] {
            assert_eq!(known(&no), None);
        }
    }

    #[test]
    fn a_user_has_a_name_without_space() {
        assert!("app:1".parse::<UserName>().is_ok());
        for no in ["", "a b", "a\n", "é", &"x".repeat(129)] {
            assert_eq!(no.parse::<UserName>(), Err(NotAUser));
        }
    }

    #[test]
    fn an_error_of_the_server_is_not_quoted() {
        let trouble = refused("AUTH", b"hunter2 is no password").to_string();
        assert!(!trouble.contains("hunter2"), "{trouble}");
    }
}
