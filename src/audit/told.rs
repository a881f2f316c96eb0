//! A record in one line for people: what `bursar audit query` and the tour print. Not a format.

use serde_json::Value;

use super::form::Line;
use crate::fault::{counted, shown};

/// `line` as time, kind, who, what, and what came of it. The line's own form escapes what fools a reader; so does this.
#[must_use]
pub fn told(line: &Line) -> String {
    let parts = [
        Some(line.at().rfc3339().as_str().to_owned()),
        Some(format!("{:>6}", line.index())),
        Some(format!("{:<9}", line.kind())),
        who(line),
        line.text("action").or_else(|| line.text("effect")).map(str::to_owned),
        what(line),
        end(line),
    ];
    shown(&parts.into_iter().flatten().collect::<Vec<_>>().join("  ")).into_owned()
}

fn who(line: &Line) -> Option<String> {
    let actor = line.text("actor")?;
    let name = line.text("who").unwrap_or(actor);
    let facts = line.get("facts").and_then(Value::as_object);
    let facts: Vec<_> =
        facts.into_iter().flatten().filter_map(|(fact, value)| Some(format!("{fact} {}", value.as_str()?))).collect();
    let facts =
        if facts.is_empty() { line.number("uid").map(|uid| format!("uid {uid}")) } else { Some(facts.join(", ")) };
    Some(facts.map_or_else(|| name.to_owned(), |facts| format!("{name} ({facts})")))
}

fn what(line: &Line) -> Option<String> {
    let resource = line.text("resource")?;
    let scopes = words(line, "scopes");
    Some(if scopes.is_empty() { resource.to_owned() } else { format!("{resource} [{scopes}]") })
}

/// What came of it, kind by kind.
fn end(line: &Line) -> Option<String> {
    let said = |key: &str| line.text(key).filter(|text| !text.is_empty());
    let joined = |parts: &[Option<&str>]| {
        let parts: Vec<_> = parts.iter().copied().flatten().collect();
        (!parts.is_empty()).then(|| parts.join(": "))
    };
    match line.kind() {
        "release" => {
            let version = said("version").map(|id| format!("version {id}"));
            joined(&[said("freshness"), version.as_deref()])
        }
        "refusal" => joined(&[said("code"), said("detail")]),
        "outcome" => {
            let of = line.number("intent").map(|intent| format!("of {intent}"));
            joined(&[of.as_deref(), said("result"), said("code"), said("detail")])
        }
        "operation" => joined(&[said("result"), said("detail")]),
        "reload" => joined(&[said("result"), said("detail").map(in_a_line).as_deref()]),
        "suppressed" => Some(counted(line.number("total").unwrap_or(0), "refusal")),
        "start" => joined(&[said("agent"), said("version")]),
        "stop" => said("reason").map(str::to_owned),
        "store" => {
            let changes = line.number("changes").map(|changes| counted(changes, "change"));
            joined(&[said("store"), said("noted"), changes.as_deref()])
        }
        "reopen" => said("cause").map(str::to_owned),
        _ => None,
    }
}

/// Faults stand below each other, each with its help; here they stand behind each other.
fn in_a_line(detail: &str) -> String {
    detail.lines().map(str::trim).collect::<Vec<_>>().join("; ")
}

fn words(line: &Line, key: &str) -> String {
    let list = line.get(key).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_told_in_one_line() {
        let line = br#"{"v":1,"i":5,"t":"2026-11-21T06:01:03.500000Z","kind":"refusal","actor":"unidentified","who":null,"uid":1001,"facts":null,"action":null,"resource_type":null,"resource":null,"scopes":null,"audience":null,"minute":null,"verdict":null,"policies":null,"policies_total":null,"policy_digest":null,"code":"unidentified","detail":"no entry matches","trace":null}"#;
        let told = told(&Line::parse(line).unwrap());
        assert_eq!(
            told,
            "2026-11-21T06:01:03.500000Z       5  refusal    unidentified (uid 1001)  unidentified: no entry matches"
        );
    }

    #[test]
    fn the_faults_of_a_reload_stand_behind_each_other() {
        let line = br#"{"v":1,"i":6,"t":"2026-11-21T06:01:03.500000Z","kind":"reload","policy_digest":"00","result":"kept","detail":"a.cedar:1:2: this\u000a  help: that\u000ab.cedar: other"}"#;
        let told = told(&Line::parse(line).unwrap());
        assert!(told.ends_with("reload     kept: a.cedar:1:2: this; help: that; b.cedar: other"), "{told}");
    }

    #[test]
    fn nothing_in_a_log_steers_the_terminal() {
        let shown = shown("a \u{1b}[2J\u{9b}31m\u{202e}\n`é` \"q\" \\ 'x'");
        assert_eq!(shown, "a \\u{1b}[2J\\u{9b}31m\\u{202e}\\u{a}`é` \"q\" \\ 'x'");
    }
}
