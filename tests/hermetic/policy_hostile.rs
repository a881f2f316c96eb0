//! Policy files that were written to hurt: refused by name, or read; never a panic, an overflow or a hang.
//!
//! Cedar reads and checks by recursion. Past some depth its parser overflows the stack; a little before that its strict
//! validator runs into its own stack guard, stops, and lets the rule pass unchecked. Each shape here therefore hides a
//! fault in its depth, runs on a thread with half of the usual stack, and must be found or refused.

use bursar::policy::{Known, MAX_FILE_BYTES, MAX_NESTING, MAX_OPERATORS, Snapshot};

const HALF_A_STACK: usize = 1 << 20;

/// What the load says of one rule with the condition `body`; empty where it is fine.
fn said_of(body: &str) -> String {
    let text = format!("@id(\"x\") permit (principal, action, resource) when {{ {body} }};");
    said_of_file(text.into_bytes())
}

fn said_of_file(bytes: Vec<u8>) -> String {
    let load = move || {
        let loaded = Snapshot::from_entries(vec![("x.cedar".into(), bytes)], &Known::default());
        loaded.map_or_else(|faults| faults.to_string(), |_| String::new())
    };
    std::thread::Builder::new().stack_size(HALF_A_STACK).spawn(load).unwrap().join().unwrap()
}

/// Conditions that nest `depth` deep and have `context.nope` at the bottom.
fn deep(depth: usize) -> Vec<String> {
    let around = |before: &str, after: &str| format!("{}context.nope{}", before.repeat(depth), after.repeat(depth));
    vec![
        around("(", ")"),
        around("!(", ")"),
        around("if (", ") then true else true"),
        around("if context.scopes.isEmpty() then (", ") else true"),
        around("if context.scopes.isEmpty() then true else ", ""),
        around("if ", " then true else true"),
        around("[", "].isEmpty()"),
        around("{a: ", "}.a"),
        around("context.scopes.containsAll([", "])"),
    ]
}

/// Conditions of `length` links in a chain, the innermost of which is `context.nope`.
fn long(length: usize) -> Vec<String> {
    let chain = |link: &str| format!("context.nope{}", link.repeat(length));
    vec![
        chain(" && true"),
        chain(" || true"),
        chain(" + 1"),
        chain(" * 1"),
        chain(".a"),
        chain(".isEmpty()"),
        chain(" } when { true"),
        chain(" } unless { false"),
    ]
}

#[test]
fn what_is_within_the_bounds_is_checked_to_the_bottom() {
    let refused = |said: &String| said.contains("are allowed");
    for shape in 0..deep(1).len() {
        let said =
            (1..=MAX_NESTING).rev().map(|depth| said_of(&deep(depth)[shape])).find(|said| !refused(said)).unwrap();
        assert!(said.contains("`nope`"), "{said}\n{}", deep(2)[shape]);
    }
    for shape in 0..long(1).len() {
        let lengths = (1..=MAX_OPERATORS).rev().map(|length| said_of(&long(length)[shape]));
        let said = lengths.into_iter().find(|said| !refused(said)).unwrap();
        assert!(said.contains("`nope`"), "{said}\n{}", long(2)[shape]);
    }
}

#[test]
fn the_deepest_and_longest_together_are_checked_to_the_bottom() {
    let chain = " && true".repeat(MAX_OPERATORS - MAX_NESTING - 2);
    for (before, after) in [("if (", ") then true else true"), ("if context.scopes.isEmpty() then (", ") else true")] {
        let depth = (MAX_NESTING - 2) / 2;
        let body = format!("{}context.nope{chain}{}", before.repeat(depth), after.repeat(depth));
        assert!(said_of(&body).contains("`nope`"), "{}", said_of(&body));
    }
}

#[test]
fn what_is_beyond_the_bounds_is_refused_before_cedar_sees_it() {
    for depth in [MAX_NESTING, 1_000, 20_000] {
        for body in deep(depth) {
            let said = said_of(&body);
            assert!(said.contains("are allowed") || said.contains("which is the limit"), "{said:.200}");
        }
    }
    for length in [MAX_OPERATORS, 10_000] {
        for body in long(length) {
            let said = said_of(&body);
            assert!(said.contains("are allowed") || said.contains("which is the limit"), "{said:.200}");
        }
    }
}

#[test]
fn noise_is_refused_or_read() {
    let nothing = [&b""[..], b"\n\n", b"// nothing", b" \r\n\t"];
    nothing.into_iter().for_each(|bytes| assert_eq!(said_of_file(bytes.to_vec()), ""));
    let noise: [&[u8]; 12] = [
        b";",
        b"\"",
        b"@",
        b"\xff\xfe",
        b"\0",
        b"permit",
        b"permit (principal, action, resource)",
        b"@id(\"\\u{110000}\") permit (principal, action, resource);",
        b"@id(\"a\\\nb\") permit (principal, action, resource);",
        b"\xef\xbb\xbf@id(\"bom\") permit (principal, action, resource);",
        b"@id(\"a\") permit (principal, action, resource); /* c */",
        b"@id(\"a\0\") permit (principal, action, resource);",
    ];
    for bytes in noise {
        assert_ne!(said_of_file(bytes.to_vec()), "", "{}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn a_file_of_many_faults_ends_with_a_bounded_answer() {
    for line in [";", "@\"", "permit(;", "@a permit (principal, action, resource);\n", "\"\n", "?x "] {
        let said = said_of_file(line.repeat(200_000 / line.len()).into_bytes());
        assert!(!said.is_empty() && said.len() < 1 << 20, "{line:?}: {} bytes", said.len());
    }
}

#[test]
fn wide_rules_are_read() {
    let scopes: Vec<_> = (0..4_000).map(|nth| format!("\"scope:{nth}\"")).collect();
    assert_eq!(said_of(&format!("[{}].containsAll(context.scopes)", scopes.join(", "))), "");
    let unknown: Vec<_> = (0..2_000).map(|nth| format!("Provider::\"p{nth}\"")).collect();
    let said = said_of(&format!("[{}].contains(resource)", unknown.join(", ")));
    assert_eq!(said.matches("is not known here").count(), 20, "{said:.300}");
    let annotations: String = (0..2_000).map(|nth| format!("@a{nth} ")).collect();
    let said = said_of_file(format!("{annotations} permit (principal, action, resource);").into_bytes());
    assert!(said.contains("2000 annotations; 16 are allowed"), "{said:.300}");
}

#[test]
fn a_file_or_rule_that_is_too_large_is_refused() {
    assert!(said_of_file(vec![b' '; MAX_FILE_BYTES + 1]).contains("which is the limit"));
    assert_eq!(said_of_file(vec![b' '; MAX_FILE_BYTES]), "");
    assert!(said_of(&format!("\"{}\" == \"\"", "x".repeat(70_000))).contains("the rule has more than"));
}

#[test]
fn an_archive_of_noise_is_refused() {
    let whole = Snapshot::from_entries(Vec::new(), &Known::default()).unwrap().0.archive().to_vec();
    let entity = |id: &str, parent: &str| {
        format!(
            r#"{{"uid":{{"type":"Group","id":"{id}"}},"attrs":{{}},"parents":[{{"type":"Group","id":"{parent}"}}]}}"#
        )
    };
    let noise = [
        "".to_owned(),
        "[".repeat(100_000),
        "{}".to_owned(),
        format!("[{},{}]", entity("a", "b"), entity("b", "a")),
        r#"[{"uid":{"type":"Other","id":"x"},"attrs":{},"parents":[]}]"#.to_owned(),
        r#"[{"uid":{"type":"Group","id":"x"},"attrs":{"a":1},"parents":[]}]"#.to_owned(),
    ];
    for json in noise {
        let mut archive = whole.clone();
        archive.retain(|(name, _)| name != "entities.json");
        archive.push(("entities.json".into(), json.clone().into_bytes()));
        assert!(Snapshot::from_archive(archive).is_err(), "{json:.100}");
    }
}
