//! The stores that need nobody else: sealed and files; and what `docs/formats.md` says of all of them.

mod files;
mod openbao;
mod sealed;

use std::time::Duration;

use bursar::name::StoredName;
use bursar::store::{Attempt, Notes, Reserved, Stages, StoreError, VersionId, Versions};
use bursar::time::Wall;

const FORMATS: &str = include_str!("../../docs/formats.md");

/// The blocks of a kind in the section on versions.
fn block(kind: &str) -> &'static str {
    let (_, section) = FORMATS.split_once("## Secret versions and the verbs of a store").unwrap();
    section.split_once(&format!("```{kind}\n")).unwrap().1.split_once("```").unwrap().0
}

#[test]
fn the_version_in_the_formats_is_a_version() {
    let version: serde_json::Value = serde_json::from_str(block("json")).unwrap();
    let text = |key: &str| version[key].as_str().unwrap();
    assert!(text("id").parse::<VersionId>().is_ok());
    assert!(text("attempt").parse::<Attempt>().is_ok());
    for stage in version["stages"].as_array().unwrap() {
        assert!(stage.as_str().unwrap().parse::<Stages>().is_ok());
    }
    let notes = version["notes"].as_object().unwrap();
    let notes =
        notes.iter().fold(Notes::default(), |all, (key, value)| all.with(key, value.as_str().unwrap()).unwrap());
    assert_eq!(notes.promoted().unwrap().rfc3339().as_str(), "2026-11-21T06:00:00.123456Z");
    assert_eq!(text("created"), Wall::from_micros(1_795_240_800_000_000).rfc3339().as_str());
}

#[test]
fn the_history_in_the_formats_is_what_happens() {
    let mut versions = Versions::none("n".parse::<StoredName>().unwrap());
    let mut now = Wall::default();
    for line in block("history").lines() {
        let (step, expected) = line.split_once("->").unwrap();
        let mut words = step.split_whitespace();
        let (verb, who) = (words.next().unwrap(), words.next().unwrap());
        let answer = if verb == "wait" {
            now = now + Duration::from_secs(who.parse().unwrap());
            "ok"
        } else {
            take(&mut versions, verb, who, now)
        };
        let told = versions.iter().map(|version| {
            let who = char::from(version.attempt.as_str().parse::<u128>().map_or(b'?', |n| b'a' + n as u8));
            format!("{who}:{}{}", version.stages, if version.filled { "+" } else { "" })
        });
        let told = [answer.to_owned()].into_iter().chain(told).collect::<Vec<_>>();
        assert_eq!(told, expected.split_whitespace().collect::<Vec<_>>(), "{line}");
    }
}

fn take(versions: &mut Versions, verb: &str, who: &str, now: Wall) -> &'static str {
    let attempt = Attempt::from_bytes(u128::from(who.as_bytes()[0] - b'a').to_be_bytes());
    let id: VersionId = who.parse().unwrap();
    let none = Notes::default();
    let done = match verb {
        "reserve" => match versions.reserve(now, id, &attempt, now + Duration::from_secs(60), &none) {
            Ok(Reserved::Taken(_)) => return "taken",
            Ok(Reserved::Ours(_)) => Ok(()),
            Err(error) => Err(error),
        },
        "fill" => versions.fill(&attempt, &none).map(|_| ()),
        "promote" => versions.promote(now, &attempt).map(|_| ()),
        "retire" => {
            let id = versions.of(&attempt).unwrap().id.clone();
            versions.retire(&id, &attempt)
        }
        other => panic!("{other}"),
    };
    match done {
        Ok(()) => "ok",
        Err(StoreError::Fenced(_)) => "fenced",
        Err(StoreError::Invalid(_)) => "invalid",
        Err(error) => panic!("{error}"),
    }
}
