//! How a version that we wrote at a secret's path is known again: `VERSION ID` in a member of its data. Pure.
//!
//! The number is in it because `bao kv patch` and `bao kv rollback` copy members into a version that is not ours.

use crate::store::VersionId;

/// The member of the data.
pub(super) const MEMBER: &str = "bursar";

/// The mark of version `id`, written as number `version`.
pub(super) fn text(id: &VersionId, version: u64) -> String {
    format!("{version} {id}")
}

/// The id in a mark that was written as number `version`.
pub(super) fn read(mark: &str, version: u64) -> Option<VersionId> {
    let (number, id) = mark.split_once(' ')?;
    (number == version.to_string()).then(|| id.parse().ok())?
}
