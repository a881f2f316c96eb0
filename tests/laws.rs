//! The laws, from outside: what would skip a step of the broker's page does not compile, and for the reason that is meant.
//!
//! Each case of `tests/laws` is given to the compiler by itself, against the library that this test is linked with.
//! Its first line says what is expected: `//! compiles`, or `//! E0451: why`. (`trybuild` does the same, after
//! it has built every dependency once more.)

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The library of this very build: the newest beside this test's own executable.
fn library() -> PathBuf {
    let executable = std::env::current_exe().unwrap();
    let built = fs::read_dir(executable.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    let ours = built.filter(|path| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with("libbursar-") && name.ends_with(".rlib")
    });
    ours.max_by_key(|path| fs::metadata(path).unwrap().modified().unwrap()).unwrap_or_else(|| panic!("no library"))
}

/// What the compiler says of `case`: nothing, if it compiles.
fn complaints(case: &Path, library: &Path) -> String {
    let rustc = option_env!("RUSTC").unwrap_or("rustc");
    let out = tempfile::tempdir().unwrap();
    let output = Command::new(rustc)
        .args(["--edition", "2024", "--crate-type", "bin", "--emit", "metadata", "--out-dir"])
        .arg(out.path())
        .arg("-L")
        .arg(format!("dependency={}", library.parent().unwrap().display()))
        .arg("--extern")
        .arg(format!("bursar={}", library.display()))
        .arg(case)
        .output()
        .unwrap();
    if output.status.success() { String::new() } else { String::from_utf8(output.stderr).unwrap() }
}

#[test]
fn a_step_that_is_left_out_does_not_compile() {
    let library = library();
    let mut cases: Vec<_> = fs::read_dir("tests/laws").unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() >= 10, "the cases were not found");
    for case in cases {
        let text = fs::read_to_string(&case).unwrap();
        let expected = text.lines().next().unwrap().trim_start_matches("//! ");
        let complaints = complaints(&case, &library);
        let shown = case.display();
        match expected.split(':').next().unwrap() {
            "compiles" => assert!(complaints.is_empty(), "{shown} does not compile:\n{complaints}"),
            code => assert!(complaints.contains(&format!("error[{code}]")), "{shown}: no {code} in:\n{complaints}"),
        }
    }
}
