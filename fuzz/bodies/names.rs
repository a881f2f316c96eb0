//! Names and words that stand in requests, files and paths.

use bursar::access::{Audience, Scope, Scopes, SecretId};
use bursar::name::{Name, StoredName};

use super::input::reads_back;

/// Names. None leads out of a folder, needs quoting, or reads as something else.
pub fn names(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(name) = reads_back::<Name>(text) {
        assert!(name == text && name.len() <= Name::MAX_BYTES && !name.starts_with('.') && !name.contains('/'));
    }
    if let Some(name) = reads_back::<StoredName>(text) {
        assert!(name == text && !name.starts_with('/'));
        assert!(name.split('/').all(|part| !matches!(part, "" | "." | "..")));
    }
    assert!(reads_back::<SecretId>(text).is_none_or(|id| id == text));
}

/// Scopes and audiences. None holds what would end a parameter, a header or a log line.
pub fn scopes(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for word in [reads_back::<Scope>(text), reads_back::<Audience>(text)].into_iter().flatten() {
        assert!(word == text && word.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"'));
    }
    if let Ok(scopes) = Scopes::parse(text) {
        assert_eq!(Scopes::parse(&scopes.to_string()), Ok(scopes));
    }
}
