//! (E) A session at a Redis server: logged in, and one command after the other.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::resp::{MOST_REPLY, Reply, command, reply};
use crate::rotation::Trouble;
use crate::rotation::login::Login;
use crate::wire::line::{Duplex, Line};

/// The errors that are known by their first word. Nothing else of an error is shown: the server was told a password, and
/// could say it again.
const ERRORS: [&str; 9] = ["WRONGPASS", "NOAUTH", "NOPERM", "DENIED", "LOADING", "BUSY", "READONLY", "MISCONF", "OOM"];

/// A session.
pub(super) struct Session {
    stream: Box<dyn Duplex>,
}

/// What a login led to.
pub(super) enum Opened {
    /// A session.
    Session(Session),
    /// The server does not take the login.
    WrongLogin,
}

impl Session {
    /// Logs in.
    pub(super) async fn open(line: &Line, login: &Login) -> Result<Opened, Trouble> {
        let stream = line.open().await.map_err(|why| Trouble::Unavailable(why.to_string()))?;
        let mut session = Self { stream };
        let words = [b"AUTH", login.username.as_bytes(), login.password.expose()];
        match session.ask(&words).await? {
            Reply::Text(text) if text == b"OK" => Ok(Opened::Session(session)),
            Reply::Error(text) if kind(&text) == Some("WRONGPASS") => Ok(Opened::WrongLogin),
            Reply::Error(text) => Err(refused("AUTH", &text)),
            Reply::Text(_) | Reply::Number(_) | Reply::Nothing | Reply::List(_) => Err(nonsense("AUTH")),
        }
    }

    /// Sends a command that is answered with `OK`. `what` names it in errors.
    pub(super) async fn order(&mut self, what: &str, words: &[&[u8]]) -> Result<(), Trouble> {
        match self.ask(words).await? {
            Reply::Text(text) if text == b"OK" => Ok(()),
            Reply::Error(text) => Err(refused(what, &text)),
            Reply::Text(_) | Reply::Number(_) | Reply::Nothing | Reply::List(_) => Err(nonsense(what)),
        }
    }

    /// Sends a command; the reply, whatever it is.
    pub(super) async fn ask(&mut self, words: &[&[u8]]) -> Result<Reply, Trouble> {
        let broken = |why: std::io::Error| Trouble::Unavailable(format!("the session broke off: {why}"));
        self.stream.write_all(&command(words)).await.map_err(broken)?;
        self.stream.flush().await.map_err(broken)?;
        let mut read = Vec::new();
        loop {
            // A server that says more than the reply is not waited for: nothing that was not asked for is a reply.
            match reply(&read).map_err(|why| Trouble::Nonsense(why.to_string()))? {
                Some((reply, length)) if length == read.len() => return Ok(reply),
                Some(_) => return Err(Trouble::Nonsense("the server says more than it was asked".into())),
                None => {}
            }
            let most = MOST_REPLY.saturating_sub(read.len());
            if (&mut self.stream).take(most as u64).read_buf(&mut read).await.map_err(broken)? == 0 {
                return Err(Trouble::Unavailable("the server closed the session".into()));
            }
        }
    }
}

/// Which error it is, where that is known.
pub(super) fn kind(text: &[u8]) -> Option<&'static str> {
    let word = text.split(|byte| *byte == b' ').next()?;
    ERRORS.into_iter().find(|known| known.as_bytes() == word)
}

/// An error of the server, to `what`.
pub(super) fn refused(what: &str, text: &[u8]) -> Trouble {
    match kind(text) {
        Some("NOPERM") => {
            Trouble::Refused(format!("`{what}`: the login may not do that; `ACL SETUSER … +{}`", may(what)))
        }
        Some("DENIED") => Trouble::Setup("it is in protected mode, and talks to its own host alone".into()),
        Some(busy @ ("LOADING" | "BUSY" | "MISCONF" | "OOM")) => Trouble::Unavailable(format!("`{what}`: {busy}")),
        Some(other) => Trouble::Refused(format!("`{what}`: {other}")),
        None => Trouble::Refused(format!("`{what}`: an error that is not known")),
    }
}

/// The permission that a command needs: `acl|setuser`.
fn may(what: &str) -> String {
    what.to_ascii_lowercase().replace(' ', "|")
}

fn nonsense(what: &str) -> Trouble {
    Trouble::Nonsense(format!("it answers `{what}` with neither `OK` nor an error"))
}
