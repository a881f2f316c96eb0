//! The examples of `docs/migrating.md` are configurations that `bursar check` passes.

use std::fs;
use std::process::Command;

const PAGE: &str = include_str!("../../docs/migrating.md");

/// The files of an example: blocks whose first line is a comment with a file's name.
fn files(example: &str) -> Vec<(&str, &str)> {
    let blocks = example.split("```").skip(1).step_by(2).filter_map(|block| block.split_once('\n'));
    let named = blocks.filter_map(|(kind, text)| {
        let (before, after) = match kind {
            "toml" => ("# ", ""),
            "cedar" => ("// ", ""),
            "jinja" => ("{#- ", " -#}"),
            _ => return None,
        };
        Some((text.lines().next()?.strip_prefix(before)?.strip_suffix(after)?, text))
    });
    named.collect()
}

#[test]
fn the_examples_of_the_page_for_those_who_come_from_elsewhere_pass_a_check() {
    let examples: Vec<_> = PAGE.split("### After").skip(1).map(|part| part.split("\n## ").next().unwrap()).collect();
    assert_eq!(examples.len(), 3);
    // In place of a folder and a user that an installation has.
    let in_memory = tempfile::TempDir::new_in("/dev/shm").unwrap();
    let uid = format!("owner = \"{}\"", rustix::process::geteuid().as_raw());
    for example in examples {
        let folder = crate::private_folder();
        fs::create_dir(folder.path().join("policies")).unwrap();
        let files = files(example);
        let templates = files.iter().filter(|(name, _)| name.ends_with(".j2")).count();
        assert_eq!((files.len() - templates, templates > 0), (3, example.contains("template =")), "{example}");
        for (name, text) in files {
            let agent =
                "[agent]\nsocket = \"s\"\nadmin_socket = \"a\"\nstate_dir = \"state\"\npolicies = \"policies\"\n";
            let before = if name == "bursar.toml" { agent } else { "" };
            let text = text.replace("/run/bursar-delivery", in_memory.path().to_str().unwrap());
            let text = text.replace("owner    = \"orders\"", &uid);
            fs::write(folder.path().join(name), format!("{before}{text}")).unwrap();
        }
        let secret_id = folder.path().join("secret-id");
        fs::write(&secret_id, "a-secret-id").unwrap();
        fs::set_permissions(&secret_id, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_bursar"));
        let output = command.arg("--config").arg(folder.path().join("bursar.toml")).arg("check").output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.contains("ok: ") && !said.contains("warning"), "{said}");
    }
}
