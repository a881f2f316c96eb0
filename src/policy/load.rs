//! (E) The files of a policies directory: read, bounded, and nothing decided here.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::archive::{self, Entries, MAX_FILE_BYTES, MAX_FILES, Part};
use super::scenario::ScenarioFile;
use super::{Known, Snapshot, set};
use crate::fault::{Fault, Faults, Place};

/// The directory of scenarios in a policies directory.
const SCENARIOS: &str = "scenarios";

/// A policy set that was loaded, and what should be said although it does not stand in the way.
#[derive(Debug)]
pub struct Loaded {
    /// The set.
    pub snapshot: Snapshot,
    /// Warnings, sorted by place.
    pub warnings: Vec<Fault>,
}

impl Snapshot {
    /// Reads the policies directory `dir`: its `*.cedar`, `bursar.cedarschema` and `workloads.toml`. Other files,
    /// hidden ones and sub-directories are not part of the set.
    ///
    /// # Errors
    /// Everything that cannot be read, and everything that is wrong with the set ([`Snapshot::from_entries`]).
    pub fn load(dir: &Path, known: &Known) -> Result<Loaded, Faults> {
        let of_set = |name: &str| Part::of(name).is_some_and(|part| part != Part::Entities);
        let (snapshot, warnings) = set::read(dir, read_files(dir, of_set)?, known)?;
        Ok(Loaded { snapshot, warnings })
    }
}

/// Reads `scenarios/*.toml` of the policies directory `dir`, sorted by name; none where there is no such directory.
///
/// # Errors
/// Everything that cannot be read, and everything that is wrong in a file.
pub fn scenarios(dir: &Path) -> Result<Vec<ScenarioFile>, Faults> {
    let dir = dir.join(SCENARIOS);
    if !dir.try_exists().map_err(|error| fault(&dir, &error))? {
        return Ok(Vec::new());
    }
    let mut entries = read_files(&dir, |name| name.ends_with(".toml") && !name.starts_with('.'))?;
    entries.sort();
    let (mut files, mut faults) = (Vec::new(), Faults::default());
    for (name, bytes) in entries {
        match ScenarioFile::parse(&dir.join(name), &bytes) {
            Ok(file) => files.push(file),
            Err(more) => faults.append(more),
        }
    }
    faults.or(files)
}

fn read_files(dir: &Path, wanted: impl Fn(&str) -> bool) -> Result<Entries, Faults> {
    let (mut entries, mut faults) = (Entries::new(), Faults::default());
    for name in names(dir, wanted)? {
        let path = dir.join(&name);
        match read_file(&path) {
            Ok(bytes) => entries.push((name, bytes)),
            Err(error) => faults.push(fault(&path, &error)),
        }
    }
    faults.or(entries)
}

fn names(dir: &Path, wanted: impl Fn(&str) -> bool) -> Result<Vec<String>, Fault> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|error| fault(dir, &error))? {
        let name = entry.map_err(|error| fault(dir, &error))?.file_name();
        // A name that is not UTF-8 is none of those that are wanted.
        names.extend(name.into_string().ok().filter(|name| wanted(name)));
        if names.len() > MAX_FILES {
            return Err(Fault::new(Place::file(dir), format!("more than {MAX_FILES} files, which is the limit")));
        }
    }
    Ok(names)
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    // Without NONBLOCK, opening a named pipe would wait for a writer.
    let flags = OFlags::NONBLOCK.bits();
    let file: File = OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_FILE_BYTES { Err(io::Error::other(archive::too_large(MAX_FILE_BYTES))) } else { Ok(bytes) }
}

fn fault(path: &Path, error: &io::Error) -> Fault {
    let place = Place::file(PathBuf::from(path));
    Fault::new(place, format!("cannot be read: {error}"))
        .help("see that it is there and that the agent's user may read it")
}
