//! (E) Who we are at OpenBao: the AppRole login and its token, renewed in time; or a token that something else keeps
//! fresh in a file. The files are read anew each time they are wanted: what was rotated is used from there on.

use std::fs::OpenOptions;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::OFlags;
use serde_json::json;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use super::answer::{self, Granted, Said};
use super::server::{Asked, Server};
use crate::secret::Secret;
use crate::store::exposure::{Owned, Readers, check_file};
use crate::store::{StoreError, files};
use crate::time::{Clock, Moment};

/// The largest file of a token or secret id, in bytes.
const MOST_FILE_BYTES: usize = 4_096;

/// How we log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// By AppRole, at `auth/approle`.
    AppRole {
        /// The role.
        role_id: String,
        /// The file of the secret id.
        secret_id_file: PathBuf,
    },
    /// By a token that something else keeps fresh in this file.
    TokenFile(PathBuf),
}

/// The token in use. Its lock is held during a login, so that there is one at a time.
pub(super) struct Session {
    auth: Auth,
    held: Mutex<Option<Held>>,
    clock: Arc<dyn Clock>,
}

struct Held {
    token: Arc<Secret>,
    /// When it was granted or renewed last.
    since: Moment,
    /// How long it is good from then; zero: for ever.
    lease: Duration,
    /// What it was granted for: a renewal that gives far less is near the end of what the role allows.
    first_lease: Duration,
    renewable: bool,
}

impl Held {
    fn has_used(&self, thirds: u32, now: Moment) -> bool {
        !self.lease.is_zero() && now.since(self.since) >= self.lease / 3 * thirds
    }
}

impl Session {
    pub(super) fn new(auth: Auth, clock: Arc<dyn Clock>) -> Self {
        Self { auth, held: Mutex::default(), clock }
    }

    /// A token that should be good.
    pub(super) async fn token(&self, server: &Server) -> Result<Arc<Secret>, StoreError> {
        let (role_id, secret_id_file) = match &self.auth {
            Auth::TokenFile(path) => return read(path).await.map(Arc::new),
            Auth::AppRole { role_id, secret_id_file } => (role_id, secret_id_file),
        };
        let mut held = self.held.lock().await;
        if let Some(held) = held.as_mut().filter(|held| !held.has_used(3, self.clock.now()))
            && (!held.has_used(2, self.clock.now()) || self.renew(server, held).await)
        {
            return Ok(Arc::clone(&held.token));
        }
        let now = self.clock.now();
        let Granted { token, lease, renewable } = login(server, role_id, secret_id_file).await?;
        let token = Arc::new(token);
        *held = Some(Held { token: Arc::clone(&token), since: now, lease, first_lease: lease, renewable });
        Ok(token)
    }

    /// Whether the token is good for a while longer. One that cannot be renewed now, but lives, is.
    async fn renew(&self, server: &Server, held: &mut Held) -> bool {
        if !held.renewable {
            return false;
        }
        let now = self.clock.now();
        let asked = Asked::post("auth/token/renew-self", &json!({}));
        match server.ask(asked, Some(&held.token)).await {
            Ok((Said::Done, body)) => match answer::granted(&body) {
                Ok(Granted { lease, renewable, .. }) if lease >= held.first_lease / 2 => {
                    (held.since, held.lease, held.renewable) = (now, lease, renewable);
                    true
                }
                Ok(_) | Err(_) => false,
            },
            Ok(_) => false,
            Err(_) => true,
        }
    }

    /// Whether another token may do what `token` may not: one is then fetched at the next request.
    pub(super) async fn outlived(&self, server: &Server, token: &Arc<Secret>) -> bool {
        if matches!(self.auth, Auth::TokenFile(_)) {
            return false;
        }
        let lives = matches!(server.ask(Asked::get("auth/token/lookup-self"), Some(token)).await, Ok((Said::Done, _)));
        let mut held = self.held.lock().await;
        if !lives && held.as_ref().is_some_and(|held| Arc::ptr_eq(&held.token, token)) {
            *held = None;
        }
        !lives
    }
}

async fn login(server: &Server, role_id: &str, secret_id_file: &Path) -> Result<Granted, StoreError> {
    let secret_id = read(secret_id_file).await?;
    let text = std::str::from_utf8(secret_id.expose()).map_err(|_| not_text(secret_id_file))?;
    let asked = Asked::post("auth/approle/login", &json!({ "role_id": role_id, "secret_id": text }));
    match server.ask(asked, None).await? {
        (Said::Done, body) => answer::granted(&body),
        (Said::Refused | Said::Denied, _) => Err(StoreError::Setup(format!(
            "the AppRole login is refused: the secret id in `{path}` has expired or is used up, or `role_id` is \
             another: write a new one with `bao write -f -field=secret_id auth/approle/role/ROLE/secret-id`",
            path = secret_id_file.display()
        ))),
        (Said::Missing | Said::Conflict, _) => Err(StoreError::Setup(
            "there is no AppRole login at `auth/approle`: enable it with `bao auth enable approle`".into(),
        )),
    }
}

/// The text of a file that holds a token or a secret id, without its line end.
async fn read(path: &Path) -> Result<Secret, StoreError> {
    let path = path.to_owned();
    let read = spawn_blocking(move || read_now(&path)).await;
    read.map_err(|_| StoreError::Unavailable("bursar is shutting down".into()))?
}

fn read_now(path: &Path) -> Result<Secret, StoreError> {
    let unreadable = |error: std::io::Error| StoreError::Setup(format!("`{}` cannot be read: {error}", path.display()));
    // A pipe would wait for whoever writes to it.
    let careful = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(careful).open(path).map_err(unreadable)?;
    let about = file.metadata().map_err(unreadable)?;
    if !about.is_file() {
        return Err(unreadable(std::io::Error::other("it is not a regular file")));
    }
    let owned = Owned { mode: about.mode(), uid: about.uid() };
    check_file(path, owned, rustix::process::geteuid().as_raw(), Readers::Group)?;
    let text = files::without_line_end(Secret::read_from(file, MOST_FILE_BYTES).map_err(unreadable)?);
    let is_word = !text.is_empty() && text.expose().iter().all(u8::is_ascii_graphic);
    if is_word { Ok(text) } else { Err(not_text(path)) }
}

fn not_text(path: &Path) -> StoreError {
    StoreError::Setup(format!(
        "`{}` holds no token or secret id: it is one line of text without spaces",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret-id");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR).unwrap();
        assert!(read_now(&path).unwrap_err().to_string().contains("not a regular file"));
    }
}
