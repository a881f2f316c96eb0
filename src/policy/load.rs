//! (E) The files of a policies directory: read, bounded, and nothing decided here.

use std::io;
use std::path::{Path, PathBuf};

use super::archive::{self, Entries, MAX_FILE_BYTES, MAX_FILES, Part};
use super::scenario::ScenarioFile;
use super::{Known, Snapshot, set, with_room};
use crate::document::bytes_of;
use crate::fault::{AS_THE_AGENT, Fault, Faults, Place};

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
        let files = read_files(dir, of_set)?;
        let (snapshot, warnings) = with_room(|| set::read(dir, files, known))?;
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
    let bytes = bytes_of(path, MAX_FILE_BYTES)?;
    if bytes.len() > MAX_FILE_BYTES { Err(io::Error::other(archive::too_large(MAX_FILE_BYTES))) } else { Ok(bytes) }
}

fn fault(path: &Path, error: &io::Error) -> Fault {
    let place = Place::file(PathBuf::from(path));
    if error.kind() == io::ErrorKind::PermissionDenied {
        return Fault::new(place, "may not be read by this user").help(AS_THE_AGENT);
    }
    Fault::new(place, format!("cannot be read: {error}"))
        .help("see that it is there and that the agent's user may read it")
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: &str = "@id(\"one\") permit (principal, action, resource);";

    fn dir(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        files.iter().for_each(|(name, text)| std::fs::write(dir.path().join(name), text).unwrap());
        dir
    }

    #[test]
    fn only_the_parts_of_a_set_are_read() {
        let files = [
            ("a.cedar", RULE),
            ("workloads.toml", "#"),
            (".b.cedar", RULE),
            ("a.cedar~", RULE),
            ("entities.json", "[]"),
        ];
        let dir = dir(&files);
        std::fs::create_dir(dir.path().join("drafts")).unwrap();
        std::fs::write(dir.path().join("drafts/c.cedar"), RULE).unwrap();
        let snapshot = Snapshot::load(dir.path(), &Known::default()).unwrap().snapshot;
        let names: Vec<_> = snapshot.archive().iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a.cedar", "bursar.cedarschema", "entities.json", "workloads.toml"]);
    }

    #[test]
    fn a_fault_names_the_file_with_its_directory() {
        let dir = dir(&[("a.cedar", "\n  permit;")]);
        let faults = Snapshot::load(dir.path(), &Known::default()).unwrap_err();
        assert!(faults.to_string().starts_with(&format!("{}/a.cedar:2:9: ", dir.path().display())), "{faults}");
    }

    #[test]
    fn a_directory_that_is_not_there_is_a_fault() {
        let faults = Snapshot::load(Path::new("/nowhere/at/all"), &Known::default()).unwrap_err();
        assert!(faults.to_string().starts_with("/nowhere/at/all: cannot be read: "), "{faults}");
    }

    #[test]
    fn what_is_not_a_regular_file_is_a_fault_and_does_not_block() {
        let dir = dir(&[]);
        rustix::fs::mknodat(
            rustix::fs::CWD,
            dir.path().join("pipe.cedar"),
            rustix::fs::FileType::Fifo,
            0o600.into(),
            0,
        )
        .unwrap();
        std::fs::create_dir(dir.path().join("dir.cedar")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", dir.path().join("zero.cedar")).unwrap();
        std::os::unix::fs::symlink("gone", dir.path().join("dangling.cedar")).unwrap();
        let faults = Snapshot::load(dir.path(), &Known::default()).unwrap_err();
        assert_eq!(faults.iter().count(), 4, "{faults}");
    }

    #[test]
    fn a_link_to_a_regular_file_is_read() {
        let dir = dir(&[("..data", RULE)]);
        std::os::unix::fs::symlink("..data", dir.path().join("a.cedar")).unwrap();
        assert_eq!(Snapshot::load(dir.path(), &Known::default()).unwrap().snapshot.rules().len(), 1);
    }

    #[test]
    fn a_file_that_is_too_large_is_a_fault() {
        let dir = dir(&[("a.cedar", &" ".repeat(MAX_FILE_BYTES + 1))]);
        let faults = Snapshot::load(dir.path(), &Known::default()).unwrap_err();
        assert!(faults.to_string().contains("more than 1048576 bytes, which is the limit"), "{faults}");
    }

    #[test]
    fn no_scenarios_are_no_fault() {
        assert_eq!(scenarios(dir(&[]).path()).unwrap().len(), 0);
    }
}
