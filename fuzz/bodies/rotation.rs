//! What rotators are told and answered.

use bursar::rotation::access_key::answer;
use bursar::rotation::access_key::xml::Element;
use bursar::rotation::exec::talk::{self, Asked};
use bursar::rotation::http::list::Shape;
use bursar::rotation::http::template::{Given, Pointer, Template, Tree, Values, Written};
use bursar::rotation::notice::{Notice, long_over, told_of};
use bursar::rotation::{FarId, Label, Trouble};
use bursar::secret::Secret;
use bursar::store::{Attempt, Author, Posted};
use bursar::time::Wall;
use serde_json::Value;

use super::input::reads_back;

/// No trouble repeats what was answered.
fn harmless(trouble: &Trouble) {
    assert!(trouble.to_string().len() < 600 && !trouble.to_string().contains("hunter2"));
}

/// A template, as text and as JSON: what is filled in stays where the placeholder stood.
pub fn rotator_template(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = text.parse::<Pointer>();
    let values = Values::from([("base".to_owned(), "https://a.test".to_owned())]);
    let label = Label::new(&Attempt::from_bytes([7; 16]));
    let secret = Secret::new(br#"{"a":"hunter2\"\n","b":{"c":1}}"#.to_vec());
    let (id, reply) = ("k/1".parse().unwrap(), serde_json::json!({ "a": "hunter2", "n": 1 }));
    let given = Given {
        label: Some(&label),
        id: Some(&id),
        value: Some(&secret),
        admin: Some(&secret),
        reply: Some(&reply),
        page: 1,
    };
    for written in [Written::Plain, Written::Encoded] {
        let Ok(template) = Template::parse(text, &values, written) else { continue };
        match template.fill(&given, written) {
            Ok(filled) => assert!(filled.starts_with(template.beginning())),
            Err(trouble) => harmless(&trouble),
        }
    }
    if let Ok(tree) = Tree::parse(text, &values) {
        match tree.fill(&given) {
            Ok(filled) => assert_eq!(shape(&filled), shape(&serde_json::from_str(text).unwrap())),
            Err(trouble) => harmless(&trouble),
        }
    }
}

/// How many values of which kind there are: filling changes texts alone.
fn shape(json: &Value) -> String {
    match json {
        Value::String(_) => "s".into(),
        Value::Array(list) => format!("[{}]", list.iter().map(shape).collect::<String>()),
        Value::Object(members) => format!("{{{}}}", members.values().map(shape).collect::<String>()),
        Value::Null | Value::Bool(_) | Value::Number(_) => json.to_string(),
    }
}

/// A list of credentials, as a service answers it.
pub fn rotator_list(bytes: &[u8]) {
    let Ok(json) = serde_json::from_slice::<Value>(bytes) else { return };
    let pointer = |text: &str| text.parse().unwrap();
    let shape = Shape { items: pointer("/keys"), id: pointer("/id"), label: pointer("/note") };
    match shape.read(&json) {
        Ok(found) => found.iter().for_each(|one| drop(reads_back::<FarId>(one.far_id.as_str()))),
        Err(trouble) => harmless(&trouble),
    }
}

/// What IAM and STS answer.
pub fn iam_answer(bytes: &[u8]) {
    for status in [200, 302, 400, 403, 404, 409, 429, 500] {
        match answer::read(status, bytes) {
            Ok(element) => {
                assert_eq!(status, 200);
                if let Ok((value, id)) = answer::created(&element) {
                    assert_eq!(answer::Key::of_value(&value).unwrap().id, id);
                }
                let _ = answer::listed(&element);
            }
            Err(trouble) => harmless(&trouble),
        }
        let _ = answer::accepts(status, bytes).map_err(|trouble| harmless(&trouble));
    }
    drop(answer::Key::of_value(&Secret::copy_of(bytes)).map_err(|trouble| harmless(&trouble)));
    let _ = std::str::from_utf8(bytes).map(Element::read);
}

/// What a program says.
pub fn exec_reply(bytes: &[u8]) {
    let label = Label::new(&Attempt::from_bytes([7; 16]));
    for asked in [Asked::List, Asked::Create(&label)] {
        match talk::reply(&asked, bytes) {
            Ok(said) => assert!(matches!(asked, Asked::List) || said.value.is_some_and(|value| !value.is_empty())),
            // A reason of its own is a few words without digits.
            Err(trouble) => assert!(trouble.to_string().len() < 600 && !trouble.to_string().contains("hunter2")),
        }
    }
}

/// A notice of another agent: what is none has somebody hold every version, and one that is reads as it is written.
pub fn holder_notice(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (author, us) = (Author::of("web-2 4f1c"), Author::of("us"));
    let posted = [Posted { author: author.clone(), text: text.to_owned() }];
    let (version, ages_ago) = ("v1".parse().unwrap(), Wall::from_micros(i64::MIN / 2));
    let told = told_of(&version, &posted, &us, ages_ago);
    assert!(told.len() <= 65 && told.iter().all(|who| who.len() < 400 && !who.chars().any(char::is_control)));
    match Notice::read(&author, text) {
        Some(notice) => {
            assert_eq!(Notice::read(&author, &notice.text()).as_ref(), Some(&notice));
            assert_eq!(Notice::read(&us, text), None);
        }
        None => assert!(told.len() == 1 && long_over(&posted, Wall::from_micros(i64::MAX)).next().is_none()),
    }
}
