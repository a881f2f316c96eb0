//! (E) A session at a PostgreSQL server: a login by SCRAM-SHA-256, and what is asked and changed in it.

use std::error::Error as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, Error, NoTls};

use super::watch::{Unfit, Watch};
use super::{Fact, RoleName, Server};
use crate::rotation::admin::READ_TIMEOUT;
use crate::rotation::login::Login;
use crate::rotation::{ACT_TIMEOUT, Trouble};
use crate::wire::NoAnswer;
use crate::wire::line::Duplex;

/// The request to go on with TLS ("SSLRequest" of the protocol).
const TLS_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
/// A server that hangs is not waited for.
const LIMITS: &str = "-c statement_timeout=15000 -c lock_timeout=5000";
/// The most time for a login.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(8);
/// The most time for a change: with what comes before it, and a second for the way, less than an act may take. So the server
/// gives it up before we do, and nothing takes place later than we believe.
const CHANGE_TIMEOUT: Duration =
    ACT_TIMEOUT.saturating_sub(READ_TIMEOUT).saturating_sub(LOGIN_TIMEOUT).saturating_sub(Duration::from_secs(1));
/// The most that is shown of what a server says.
const MOST_SHOWN: usize = 200;

/// Which roles there are of these, and whether they may log in.
const ROLES: &str = "SELECT rolname::text, rolcanlogin, coalesce(rolvaliduntil < now(), false) \
     FROM pg_catalog.pg_roles WHERE rolname = ANY ($1::text[]::name[])";

/// What is true of one of two roles and not of the other.
const UNLIKE: &str = include_str!("unlike.sql");

/// Why there is no session.
#[derive(Debug)]
pub(super) enum NoSession {
    /// The server does not take the login.
    Login(String),
    /// It could not be asked.
    Trouble(Trouble),
}

/// A role as the server knows it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Role {
    pub(super) name: String,
    pub(super) may_log_in: bool,
    pub(super) has_expired: bool,
}

/// A session.
pub(super) struct Session(Client);

impl Session {
    /// Logs in.
    pub(super) async fn open(server: &Server, login: &Login) -> Result<Self, NoSession> {
        let late = || Trouble::Unavailable(format!("the login took longer than {} s", LOGIN_TIMEOUT.as_secs()));
        timeout(LOGIN_TIMEOUT, Self::log_in(server, login)).await.unwrap_or_else(|_| Err(NoSession::Trouble(late())))
    }

    async fn log_in(server: &Server, login: &Login) -> Result<Self, NoSession> {
        let stream = stream(server).await.map_err(|why| NoSession::Trouble(Trouble::Unavailable(why.to_string())))?;
        let mut config = Config::new();
        config
            .user(&login.username)
            .password(login.password.expose())
            .dbname(&server.database)
            .application_name("bursar")
            .options(LIMITS)
            // What is to be encrypted is so already.
            .ssl_mode(SslMode::Disable);
        let watched = Watched { stream, watch: Watch::default() };
        let (client, connection) = config.connect_raw(watched, NoTls).await.map_err(|why| no_session(&why))?;
        // It ends with its client, and tells it what went wrong; a server that hangs does not keep it.
        tokio::spawn(async move { drop(timeout(ACT_TIMEOUT * 2, connection).await) });
        Ok(Self(client))
    }

    /// The roles of these names that there are.
    pub(super) async fn roles(&self, names: &[&RoleName]) -> Result<Vec<Role>, Trouble> {
        let rows = self.0.query(ROLES, &[&texts(names)]).await.map_err(|why| trouble(&why))?;
        let role = |row: &tokio_postgres::Row| {
            Ok(Role { name: row.try_get(0)?, may_log_in: row.try_get(1)?, has_expired: row.try_get(2)? })
        };
        rows.iter().map(role).collect::<Result<_, Error>>().map_err(|why| trouble(&why))
    }

    /// What is true of one of the pair and not of the other: the first ten.
    pub(super) async fn unlike(&self, pair: &[&RoleName]) -> Result<Vec<Fact>, Trouble> {
        let rows = self.0.query(UNLIKE, &[&texts(pair)]).await.map_err(|why| trouble(&why))?;
        let fact = |row: &tokio_postgres::Row| Ok(Fact { role: row.try_get(0)?, fact: row.try_get(1)? });
        rows.iter().map(fact).collect::<Result<_, Error>>().map_err(|why| trouble(&why))
    }

    /// Carries `statement` out.
    pub(super) async fn execute(&self, statement: &str) -> Result<(), Trouble> {
        let limit = format!("SET statement_timeout = {}", CHANGE_TIMEOUT.as_millis());
        for statement in [&limit, statement] {
            self.0.batch_execute(statement).await.map_err(|why| trouble(&why))?;
        }
        Ok(())
    }
}

fn texts<'a>(names: &[&'a RoleName]) -> Vec<&'a str> {
    names.iter().map(|name| name.as_str()).collect()
}

async fn stream(server: &Server) -> Result<Box<dyn Duplex>, NoAnswer> {
    let mut plain = server.line.connect().await?;
    if !server.line.is_encrypted() {
        return Ok(plain);
    }
    let mut answer = [0];
    let asking = async {
        plain.write_all(&TLS_REQUEST).await?;
        // Not a byte more: what a third party puts behind it must not be taken for the server's.
        plain.read_exact(&mut answer).await
    };
    asking.await.map_err(|why| NoAnswer(format!("`{}`: {why}", server.line.endpoint)))?;
    match answer {
        [b'S'] => server.line.encrypt(plain).await,
        _ => Err(NoAnswer(format!("`{}` offers no TLS: set `ssl = on` there", server.line.endpoint))),
    }
}

/// A stream that is looked at.
struct Watched {
    stream: Box<dyn Duplex>,
    watch: Watch,
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, into))?;
        let new = into.filled().get(before..).unwrap_or_default();
        Poll::Ready(self.watch.see(new).map_err(io::Error::other))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

fn no_session(error: &Error) -> NoSession {
    match (unfit(error), error.code().map(|code| code.code())) {
        (Some(unfit @ Unfit::Md5), _) => NoSession::Login(unfit.to_string()),
        // invalid_password: a wrong one, one that has expired, and a role that is not there look the same.
        (None, Some("28P01")) => NoSession::Login(in_words(error)),
        // The server answered that it will not have us: as a rule somebody has to change something there.
        (None, Some(code)) if code.starts_with("28") || ["3D000", "42501"].contains(&code) => {
            NoSession::Trouble(Trouble::Setup(format!("the server refuses the session: {}", in_words(error))))
        }
        _ => NoSession::Trouble(trouble(error)),
    }
}

fn trouble(error: &Error) -> Trouble {
    match (unfit(error), error.code().map(|code| code.code())) {
        (Some(unfit @ (Unfit::TooLong | Unfit::Nonsense | Unfit::Laborious)), _) => {
            Trouble::Nonsense(unfit.to_string())
        }
        (Some(unfit), _) => Trouble::Setup(unfit.to_string()),
        // A statement that is wrong, not allowed, or of what is not there: it was rolled back. A standby takes none.
        (None, Some(code)) if ["22", "25", "2B", "42"].iter().any(|class| code.starts_with(class)) => {
            Trouble::Refused(in_words(error))
        }
        (None, _) => Trouble::Unavailable(in_words(error)),
    }
}

fn unfit(error: &Error) -> Option<Unfit> {
    error.source()?.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref().copied()
}

/// What the server said: it was never told a password that it could say again.
fn in_words(error: &Error) -> String {
    let said = match error.as_db_error() {
        Some(said) => format!("{} ({})", said.message(), said.code().code()),
        None => error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}")),
    };
    said.chars().map(|one| if one.is_control() { ' ' } else { one }).take(MOST_SHOWN).collect()
}
