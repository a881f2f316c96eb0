//! A policy set as bytes: what is archived beside the log, and its digest. The framing is in `docs/formats.md`.

use std::path::Path;

use super::{known, schema};
use crate::crypto::Digest;
use crate::fault::{Fault, Faults, Place};

/// The files of a policy set: name and bytes, sorted by name, each name once.
pub type Entries = Vec<(String, Vec<u8>)>;

/// The name of the file that says who is who. Read by the room `peer`; here it is only kept.
pub const WORKLOADS: &str = "workloads.toml";

/// The most `.cedar` files in a set.
pub const MAX_FILES: usize = 1_000;
/// The most bytes in one file.
pub const MAX_FILE_BYTES: usize = 1 << 20;
/// The most bytes in a set.
pub const MAX_BYTES: usize = 16 << 20;

/// The digest of a policy set: SHA-256 over its entries, sorted by name, each as the name, a zero byte, the number
/// of its bytes (8 bytes, big-endian), and the bytes.
#[must_use]
pub fn snapshot_digest(entries: &[(String, Vec<u8>)]) -> Digest {
    let mut sorted: Vec<_> = entries.iter().collect();
    sorted.sort();
    let mut framed = Vec::new();
    for (name, bytes) in sorted {
        framed.extend_from_slice(name.as_bytes());
        framed.push(0);
        framed.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        framed.extend_from_slice(bytes);
    }
    Digest::of(&framed)
}

/// What an entry of a set is for, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Policies,
    Schema,
    Workloads,
    Entities,
}

impl Part {
    /// What the entry `name` is for; none where nothing of that name belongs to a set.
    pub(super) fn of(name: &str) -> Option<Self> {
        let plain = !name.starts_with('.') && name.len() <= 255 && !name.contains(['/', '\0']);
        match name {
            schema::FILE => Some(Self::Schema),
            WORKLOADS => Some(Self::Workloads),
            known::FILE => Some(Self::Entities),
            _ if plain && name.ends_with(".cedar") => Some(Self::Policies),
            _ => None,
        }
    }
}

/// `entries` sorted, where they are within bounds, each of a known part, and none twice.
pub(super) fn ordered(mut entries: Entries, dir: &Path) -> Result<Entries, Faults> {
    entries.sort();
    let mut faults = Faults::default();
    for pair in entries.windows(2) {
        if let [(one, _), (other, _)] = pair
            && one == other
        {
            faults.push(Fault::new(Place::file(dir.join(one)), "the policy set has this file twice"));
        }
    }
    for (name, bytes) in &entries {
        let place = Place::file(dir.join(name));
        if Part::of(name).is_none() {
            faults.push(Fault::new(place, "this file is not part of a policy set"));
        } else if bytes.len() > MAX_FILE_BYTES && Part::of(name) != Some(Part::Entities) {
            faults.push(Fault::new(place, too_large(MAX_FILE_BYTES)).help("split the file"));
        }
    }
    let files = entries.iter().filter(|(name, _)| Part::of(name) == Some(Part::Policies)).count();
    if files > MAX_FILES {
        faults.push(Fault::new(Place::file(dir), format!("{files} policy files; {MAX_FILES} are allowed")));
    }
    if entries.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() > MAX_BYTES {
        faults.push(Fault::new(Place::file(dir), too_large(MAX_BYTES)));
    }
    faults.or(entries)
}

/// What is said of a file or set of more than `limit` bytes.
pub(super) fn too_large(limit: usize) -> String {
    format!("more than {limit} bytes, which is the limit")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_of_the_framed_entries_in_the_order_of_their_names() {
        let entry = |name: &str, bytes: &[u8]| (name.to_owned(), bytes.to_vec());
        let framed = b"a.cedar\0\0\0\0\0\0\0\0\x02xyb.cedar\0\0\0\0\0\0\0\0\x00";
        let entries = [entry("b.cedar", b""), entry("a.cedar", b"xy")];
        assert_eq!(snapshot_digest(&entries), Digest::of(framed));
    }

    #[test]
    fn what_is_no_part_of_a_set_is_refused() {
        let entry = |name: &str| (name.to_owned(), Vec::new());
        for bad in [".hidden.cedar", "../x.cedar", "a\0.cedar", "notes.txt"] {
            assert!(ordered(vec![entry(bad)], Path::new("")).is_err(), "{bad:?}");
        }
        assert!(ordered(vec![entry("a.cedar"), entry("a.cedar")], Path::new("")).is_err());
        assert!(ordered(vec![entry("b.cedar"), entry("a.cedar"), entry(WORKLOADS)], Path::new("")).is_ok());
    }
}
