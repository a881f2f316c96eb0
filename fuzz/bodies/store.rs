//! What stores are given and find.

use bursar::kept::member_of;
use bursar::secret::Secret;
use bursar::store::aws::book::{Book as AwsBook, Face};
use bursar::store::files::without_line_end;
use bursar::store::key;
use bursar::store::openbao::answer;
use bursar::store::openbao::book::{Book, Written};
use bursar::store::sealed::bind::parse_notes;
use bursar::store::{Attempt, Posted, Stages, VersionId};

use super::input::reads_back;

/// A store key: 32 bytes, or 64 digits with perhaps a line's end.
pub fn store_key(bytes: &[u8]) {
    let Some(key) = key::parse(&Secret::copy_of(bytes)) else { return };
    assert_eq!(key.len(), 32);
    let digits: String = key.expose().iter().map(|byte| format!("{byte:02x}")).collect();
    let written = String::from_utf8_lossy(bytes).to_ascii_lowercase();
    assert!(key.matches(bytes) || written.trim_end() == digits);
}

/// A value from a file or standard input: at most one line end is taken off, and only of text.
pub fn line_end(bytes: &[u8]) {
    let cut = without_line_end(Secret::copy_of(bytes));
    let (kept, off) = bytes.split_at(cut.len());
    assert!(cut.matches(kept) && matches!(off, b"" | b"\n" | b"\r\n"));
    assert!(off.is_empty() || std::str::from_utf8(bytes).is_ok());
    assert!(!off.is_empty() || !bytes.ends_with(b"\n") || std::str::from_utf8(bytes).is_err());
}

/// The notes of a version, as a row has them.
pub fn store_notes(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(notes) = parse_notes(text) else { return };
    assert!(notes.iter().count() <= 16);
    for (key, value) in notes.iter() {
        assert!((1..=32).contains(&key.len()) && value.len() <= 512 && !value.chars().any(char::is_control));
    }
    let _ = (notes.lease_ends(), notes.promoted());
}

/// The book of a secret at AWS: no error repeats it, one that is read is written as it reads, and stays one whatever labels
/// the secret shows.
pub fn aws_book(bytes: &[u8]) {
    let name = || "n".parse().unwrap();
    let mut book = match AwsBook::read(name(), bytes) {
        Ok(book) => book,
        Err(error) => return assert!(error.to_string().len() < 400 && !error.to_string().contains("hunter2")),
    };
    let text = book.text().unwrap();
    let again = AwsBook::read(name(), text.expose()).unwrap();
    assert_eq!(again.versions(), book.versions());
    assert!(again.text().unwrap().matches(text.expose()));
    let ids: Vec<_> = book.versions().unwrap().iter().map(|version| version.id.to_string()).collect();
    let any = |nth: usize| ids.get(usize::from(bytes[nth % bytes.len()]) % (ids.len() + 1)).cloned();
    let stranger = |id: Option<String>| id.or_else(|| Some("0f0e0d0c-0b0a-4908-8706-050403020100".to_owned()));
    let face = Face { current: stranger(any(0)), previous: any(1), pending: any(2), reserved: any(3) };
    let created = face.current.iter().cloned().map(|id| (id, bursar::time::Wall::default())).collect();
    book.see(&face, &created).unwrap();
    book.versions().unwrap();
}

/// What OpenBao answers: no error repeats it, and a book that is read is written as it reads.
pub fn openbao_answer(bytes: &[u8]) {
    let shown = answer::shown::<Written>(bytes, true).ok().flatten().and_then(|shown| shown.data);
    if let Some(Ok(book)) = shown.map(|written| Book::read("n".parse().unwrap(), written)) {
        let text = serde_json::to_vec(&book.written()).unwrap();
        let again = Book::read("n".parse().unwrap(), serde_json::from_slice(&text).unwrap()).unwrap();
        assert_eq!(again.versions(), book.versions());
        assert_eq!(serde_json::to_vec(&again.written()).unwrap(), text);
    }
    let face = answer::face(bytes, true);
    let (written, keys, granted) = (answer::written(bytes), answer::keys(bytes), answer::granted(bytes));
    let notice = answer::notice(bytes, true);
    assert!(!matches!(&notice, Ok(Some(text)) if text.len() > Posted::MOST_BYTES));
    let errors = [face.err(), written.err(), keys.err(), granted.err(), notice.err()];
    let said = [200, 307, 400, 403, 404, 429, 500, 503].map(|status| answer::said(status, bytes).err());
    for error in errors.into_iter().chain(said).flatten() {
        assert!(error.to_string().len() < 400 && !error.to_string().contains("hunter2"));
    }
    let _ = answer::face(bytes, false);
}

/// A member's name, and behind the first line end the value that it is looked for in. It is what another reader of JSON
/// says; where that one has made a number shorter, it is JSON all the same.
pub fn secret_member(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (Ok(field), value) = (std::str::from_utf8(&bytes[..end]), bytes.get(end + 1..).unwrap_or_default()) else {
        return;
    };
    let Some(member) = member_of(value, field) else { return };
    // Which looks into every member: into a number that it cannot hold, and deeper than it goes.
    let Ok(whole) = serde_json::from_slice::<serde_json::Map<_, _>>(value) else { return };
    match whole[field].as_str() {
        Some(text) => assert_eq!(member.expose(), text.as_bytes()),
        None => assert_eq!(serde_json::from_slice::<serde_json::Value>(member.expose()).unwrap(), whole[field]),
    }
}

/// Stages, the id of a version, an attempt.
pub fn store_words(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    reads_back::<Stages>(text);
    assert!(text.parse::<Stages>().is_ok_and(|stages| stages.iter().count() > 0) || text.parse::<Stages>().is_err());
    assert!(reads_back::<VersionId>(text).is_none_or(|id| id == text && id.len() <= 64));
    assert!(reads_back::<Attempt>(text).is_none_or(|attempt| attempt == text && attempt.len() == 32));
}
