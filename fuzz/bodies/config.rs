//! The configuration.

use std::path::Path;

use bursar::config::said::Said;
use bursar::config::words::{Mode, Period, Rate, Size};
use bursar::config::{self, address};
use bursar::document::{self, Source};
use bursar::time::{Wall, parse_duration};

use super::input::{faults_are_told, reads_back};

const FILE: &str = "/etc/bursar/bursar.toml";

/// The walk over a document. What it passes is exactly what is then read.
pub fn config_document(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let walked = document::check::<Said>(Path::new(FILE), text);
    let read = document::read::<Said>(Path::new(FILE), text);
    assert_eq!(walked.is_ok(), read.is_ok(), "{walked:?} {:?}", read.err());
    if let Err(faults) = walked {
        faults_are_told(&faults, text);
    }
}

/// Whole settings, of two files where a form feed stands between them.
pub fn config_settings(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut texts = text.splitn(2, '\u{c}');
    let main = texts.next().map(|text| Source { file: FILE.into(), text: text.to_owned() });
    let more = texts.next().map(|text| Source { file: "/etc/bursar/conf.d/a.toml".into(), text: text.to_owned() });
    let sources: Vec<_> = main.into_iter().chain(more).collect();
    if let Err(faults) = config::read(&sources, Path::new("/")) {
        assert!(faults.iter().next().is_some());
        if let [only] = sources.as_slice() {
            faults_are_told(&faults, &only.text);
        }
    }
}

/// Words for time, size, mode and rate, and addresses.
pub fn config_words(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    reads_back::<Period>(text);
    reads_back::<Size>(text);
    reads_back::<Mode>(text);
    reads_back::<Rate>(text);
    for url in [address::page(text)].into_iter().flatten() {
        assert!(url.username().is_empty() && url.password().is_none(), "a credential in {url}");
    }
    let _ = address::resource(text);
}

/// Points in time and durations.
pub fn times(bytes: &[u8]) {
    if let Some(at) = Wall::from_rfc3339(bytes) {
        assert_eq!(at.rfc3339().as_str().as_bytes(), bytes);
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(at) = Wall::parse(text) {
        let shown = at.rfc3339();
        assert_eq!(shown.as_str().len(), 27);
        // Years before 0000 and after 9999 have no place in these 27 bytes.
        if (-62_167_219_200_000_000..253_402_300_800_000_000).contains(&at.micros()) {
            assert_eq!(Wall::from_rfc3339(shown.as_str().as_bytes()), Some(at), "{text:?}");
        }
    }
    let _ = parse_duration(text);
}
