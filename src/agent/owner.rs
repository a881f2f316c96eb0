//! (E) Whose the state is: what a command makes there while no agent runs is the agent's to read and write later.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};
use rustix::process::geteuid;

use crate::config::said::DEFAULT_STATE_DIR;

/// The user as which the agent that is installed with systemd runs.
const SERVICE_USER: &str = "bursar";

/// What this process makes in `state_dir` would belong to another user than the agent's.
#[derive(Debug, thiserror::Error)]
pub enum NotTheOwner {
    /// The directory is another user's.
    #[error(
        "`{dir}` belongs to {owner}, and what this command makes in it would not: run it as that user, \
         `sudo -u {owner} bursar …`"
    )]
    Another {
        /// The directory.
        dir: PathBuf,
        /// Its owner, as `sudo -u` takes it.
        owner: String,
    },
    /// There is none, and root would make it.
    #[error(
        "there is no `{0}` yet, and what root makes would not be the agent's: start the agent once, which makes it \
         (`systemctl start bursar`); while it does not run, `sudo -u {SERVICE_USER} bursar …` does this"
    )]
    NotThere(PathBuf),
}

/// Refuses where `dir` is not of this process's user, or would not be the installed agent's.
///
/// # Errors
/// [`NotTheOwner`].
pub(super) fn refuse_other_than(dir: &Path) -> Result<(), NotTheOwner> {
    let (owner, own) = (std::fs::metadata(dir).ok().map(|about| about.uid()), geteuid().as_raw());
    let is_installed = || dir == Path::new(DEFAULT_STATE_DIR) && matches!(User::from_name(SERVICE_USER), Ok(Some(_)));
    match owner {
        Some(owner) if owner != own => Err(NotTheOwner::Another { dir: dir.to_owned(), owner: shown(owner) }),
        None if own == 0 && is_installed() => Err(NotTheOwner::NotThere(dir.to_owned())),
        // What else keeps it from being read is said by who reads it.
        Some(_) | None => Ok(()),
    }
}

/// As `sudo -u` takes it: a name, or `#` and the number of a user without one.
fn shown(uid: u32) -> String {
    match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => user.name,
        Ok(None) | Err(_) => format!("'#{uid}'"),
    }
}
