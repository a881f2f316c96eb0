//! (E) Who beside their owner may write the files that decide: the configuration and the policies.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{StatVfsMountFlags, statvfs};

use super::load::FOLDER;
use super::reading::Read;
use crate::fault::{Fault, Faults, Place};

/// Group and others may write.
const WRITE: u32 = 0o022;
/// Group and others may pass through a folder.
const PASS: u32 = 0o011;

/// A fault for each file and folder of the configuration and the policies that not only its owner may change.
///
/// What cannot be looked at is passed over: whoever has to read it says so.
pub(super) fn by_others(read: &Read) -> Faults {
    let mut faults = Faults::default();
    for path in deciding(read) {
        if let Some(mode) = open_to_others(&path) {
            faults.push(fault(&path, mode));
        }
    }
    faults
}

/// Whether nobody but its owner and root can get at what stands at `path`: some folder above lets no one else through.
pub(super) fn is_shielded(path: &Path) -> bool {
    let Ok(real) = path.canonicalize() else { return false };
    real.ancestors().skip(1).any(|folder| mode_of(folder).is_some_and(|mode| mode & PASS == 0))
}

pub(super) fn mode_of(path: &Path) -> Option<u32> {
    fs::metadata(path).ok().map(|about| about.permissions().mode() & 0o7777)
}

/// What decides what the agent does, beside the agent itself; `conf.d` though it may not be there.
pub(super) fn deciding(read: &Read) -> Vec<PathBuf> {
    let files: Vec<_> = read.places.files().map(Path::to_owned).collect();
    let beside = files.first().and_then(|file| file.parent()).map(|folder| Path::new(".").join(folder));
    let conf_d = beside.iter().map(|folder| folder.join(FOLDER));
    let policies = &read.settings.agent.policies;
    let rules = fs::read_dir(policies).into_iter().flatten().flatten().map(|entry| entry.path());
    let rules: Vec<_> = rules.filter(|path| decides(path)).collect();
    let folders = beside.iter().cloned().chain(conf_d).chain([policies.clone()]);
    let all: std::collections::BTreeSet<_> = folders.collect();
    let templates = read.settings.deliveries.values().filter_map(|delivery| delivery.content.template());
    let templates: Vec<_> = templates.map(Path::to_owned).collect();
    files.into_iter().chain(all).chain(rules).chain(templates).collect()
}

fn decides(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "cedar" || extension == "toml")
}

/// The mode of what others can write; none where they cannot.
fn open_to_others(path: &Path) -> Option<u32> {
    let mode = mode_of(path).filter(|mode| mode & WRITE != 0)?;
    // A folder of a read-only mount, as Kubernetes gives for a ConfigMap, is written by nobody here. For a file the mount
    // does not count: a sandbox may show one read-only that others write outside of it.
    let read_only = path.is_dir() && statvfs(path).is_ok_and(|fs| fs.f_flag.contains(StatVfsMountFlags::RDONLY));
    (!read_only && !is_shielded(path)).then_some(mode)
}

fn fault(path: &Path, mode: u32) -> Fault {
    let kind = if path.is_dir() { "folder" } else { "file" };
    let what = format!("not only its owner may write this {kind} (mode {mode:04o}), and who writes it decides");
    Fault::new(Place::file(path), what).help(format!("take the permission away: `chmod go-w {}`", path.display()))
}
