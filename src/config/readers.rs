//! (E) Whether the agent's user can read what root has just read: root reads everything, and would see no fault.

use std::ffi::CString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{Uid, User, getgrouplist};

use super::meant::{Provider, Store};
use super::reading::Read;
use super::writable::deciding;
use crate::fault::{AS_THE_AGENT, Fault, Place};

/// As whom the shipped unit runs the agent.
const SHIPPED: &str = "bursar";

/// The user as whom the agent runs, and its groups.
struct Reader {
    name: String,
    uid: u32,
    gids: Vec<u32>,
}

/// A warning for each file and folder that the agent's user may not read, where root looks; none where another does.
#[must_use]
pub fn kept_out(read: &Read) -> Vec<Fault> {
    let Some(agent) = Uid::effective().is_root().then(|| agent_of(read)).flatten() else { return Vec::new() };
    let files = read.settings.providers.values().flat_map(Provider::files);
    let of_stores = read.settings.stores.values().flat_map(Store::files);
    let rotations = read.settings.secrets.values().filter_map(|secret| secret.rotation.as_ref());
    let of_rotators = rotations.filter_map(|rotation| rotation.rotator.ca_file());
    let files = files.chain(of_stores).chain(of_rotators).map(Path::to_owned);
    let kept_out = deciding(read).into_iter().chain(files).filter(|path| !agent.may_read(path));
    let fault = |path| {
        let what = format!("`{}`, as whom the agent runs, may not read this", agent.name);
        Fault::new(Place::file(path), what).help(AS_THE_AGENT)
    };
    kept_out.map(fault).collect()
}

/// Whose the state is runs the agent; before its first start, the user of the shipped unit.
fn agent_of(read: &Read) -> Option<Reader> {
    let user = match fs::metadata(&read.settings.agent.state_dir) {
        Ok(state) => User::from_uid(Uid::from_raw(state.uid())),
        Err(_) => User::from_name(SHIPPED),
    };
    let user = user.ok().flatten().filter(|user| !user.uid.is_root())?;
    let gids = getgrouplist(&CString::new(user.name.as_str()).ok()?, user.gid).ok()?;
    Some(Reader { name: user.name, uid: user.uid.as_raw(), gids: gids.into_iter().map(|gid| gid.as_raw()).collect() })
}

impl Reader {
    fn may_read(&self, path: &Path) -> bool {
        let Ok(path) = path.canonicalize() else { return true };
        let wanted = if path.is_dir() { 0o5 } else { 0o4 };
        self.may(&path, wanted) && path.ancestors().skip(1).all(|folder| self.may(folder, 0o1))
    }

    /// Whether the mode grants the bits of `wanted`. An access list (acl(5)) may grant more: this is for a warning.
    fn may(&self, path: &Path, wanted: u32) -> bool {
        let Ok(about) = fs::metadata(path) else { return true };
        let mode = if about.uid() == self.uid {
            about.mode() >> 6
        } else if self.gids.contains(&about.gid()) {
            about.mode() >> 3
        } else {
            about.mode()
        };
        mode & wanted == wanted
    }
}
