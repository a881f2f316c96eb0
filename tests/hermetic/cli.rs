//! The command line from outside: exit codes, what goes where, JSON for programs.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

fn bursar(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bursar"));
    command.args(arguments).env_remove("BURSAR_SOCKET").env_remove("BURSAR_ADMIN_SOCKET").output().unwrap()
}

fn exit(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A folder whose `bursar.toml` says `text` and whose policies are there.
fn etc(text: &str) -> (TempDir, String) {
    let folder = crate::private_folder();
    copy(Path::new("policies"), &folder.path().join("policies"));
    let file = folder.path().join("bursar.toml");
    fs::write(
        &file,
        format!("[agent]\npolicies = \"policies\"\nstate_dir = \"state\"\nunknown_ids = \"warn\"\n{text}"),
    )
    .unwrap();
    (folder, file.to_str().unwrap().to_owned())
}

/// Sockets whose folder is there, and a provider with its store.
const READY: &str = "socket = \"bursar.sock\"\nadmin_socket = \"admin.sock\"\n[store.local]\nkind = \"sealed\"\n\
                     [provider.stripe]\ntoken_endpoint = \"https://login.example.com/token\"\nclient_id = \"b\"\n\
                     client_secret = { store = \"local\", name = \"c\" }\nscopes = []\n\
                     [provider.crm]\ntoken_endpoint = \"https://crm.example.com/token\"\nclient_id = \"b\"\n\
                     client_secret = { store = \"local\", name = \"d\" }\nscopes = []\n";

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn check_prints_every_fault_with_its_place_and_fails() {
    let (_folder, file) = etc("socket = 5\ntypo = 1\n[log]\nlevel = \"loud\"\n");
    let output = bursar(&["check", "--config", &file]);
    assert_eq!(exit(&output), 1);
    for what in
        [":5:10: `agent.socket` must be a string", ":6:1: unknown key `typo`", ":8:9: `log.level` cannot be `loud`"]
    {
        assert!(stdout(&output).contains(&format!("error: {file}{what}")), "no `{what}` in {}", stdout(&output));
    }
    assert!(!stdout(&output).contains('\u{1b}'), "plain where it is no terminal");
}

#[test]
fn check_speaks_json_to_programs() {
    let (_folder, file) = etc("typo = 1\n");
    let output = bursar(&["--json", "check", "--config", &file]);
    assert_eq!(exit(&output), 1);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let fault = &report["faults"][0];
    assert_eq!((&fault["place"]["line"], &fault["place"]["column"]), (&Value::from(5), &Value::from(1)));
    assert_eq!(fault["place"]["key"], "agent.typo");
    assert!(report["warnings"].is_array());
}

#[test]
fn check_says_what_it_looked_at() {
    let (folder, file) = etc(READY);
    let output = bursar(&["check", "--config", &file]);
    assert_eq!(exit(&output), 0, "{}", stdout(&output));
    let last = stdout(&output).lines().last().unwrap().to_owned();
    let counts = "1 file, 2 providers, 3 rules, 10 scenarios, 0 secrets, 1 store, 2 workloads";
    assert_eq!(last, format!("ok: {file}: {counts}"));
    let json: Value = serde_json::from_slice(&bursar(&["check", "--config", &file, "--json"]).stdout).unwrap();
    assert_eq!((&json["checked"]["rules"], &json["checked"]["workloads"]), (&Value::from(3), &Value::from(2)));
    drop(folder);
}

#[test]
fn check_names_a_listener_whose_workload_nobody_is() {
    let (_folder, file) = etc("[[agent.listener]]\nsocket = \"x.sock\"\nworkload = \"checkuot\"\n");
    let said = stdout(&bursar(&["check", "--config", &file]));
    assert!(said.contains(&format!("warning: {file}:7:12: `workloads.toml` has no workload `checkuot`")), "{said}");
}

#[test]
fn check_says_that_without_a_rule_everything_is_denied() {
    let (folder, file) = etc("");
    for entry in fs::read_dir(folder.path().join("policies")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "cedar") {
            fs::remove_file(path).unwrap();
        }
    }
    fs::remove_dir_all(folder.path().join("policies/scenarios")).unwrap();
    let output = bursar(&["check", "--config", &file]);
    assert_eq!(exit(&output), 0, "{}", stdout(&output));
    assert!(stdout(&output).contains("everything is denied"), "{}", stdout(&output));
}

#[test]
fn check_tells_a_missing_policies_folder_once_and_other_faults_together() {
    let (folder, file) = etc("");
    fs::write(folder.path().join("policies/scenarios/odd.toml"), "at = 5\n").unwrap();
    fs::write(folder.path().join("policies/odd.cedar"), "permit (").unwrap();
    fs::remove_file(folder.path().join("policies/workloads.toml")).unwrap();
    let said = stdout(&bursar(&["check", "--config", &file]));
    for what in ["scenarios/odd.toml:1:", "odd.cedar:1:", "policies/workloads.toml`"] {
        assert!(said.contains(what), "no `{what}` in {said}");
    }
    fs::remove_dir_all(folder.path().join("policies")).unwrap();
    let said = stdout(&bursar(&["check", "--config", &file]));
    assert_eq!(said.lines().filter(|line| line.starts_with("error:")).count(), 1, "{said}");
    assert!(said.contains(&format!("{file}:2:12: there is no")), "{said}");
}

#[test]
fn check_as_another_user_says_what_it_could_not_read_and_as_whom_to_run() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, file) = etc(READY);
    let as_nobody = || {
        let program = env!("CARGO_BIN_EXE_bursar");
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "40001", "--regid", "40001", "--clear-groups", program, "check", "--config", &file]);
        command.output()
    };
    let mode =
        |name: &str, mode| fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
    mode("", 0o755);
    if !as_nobody().is_ok_and(|output| exit(&output) == 0) {
        return eprintln!("LEFT OUT: check_as_another_user… needs root, `setpriv`, and a program that others may run");
    }
    fs::create_dir(folder.path().join("state")).unwrap();
    mode("state", 0o700);
    let output = as_nobody().unwrap();
    assert_eq!(exit(&output), 0, "{}", stdout(&output));
    assert!(stdout(&output).contains("state/local.key`: it was not checked"), "{}", stdout(&output));
    for (name, closed) in [("policies/checkout.cedar", 0o600), ("policies", 0o700), ("bursar.toml", 0o600)] {
        mode(name, closed);
        let output = as_nobody().unwrap();
        let said = stdout(&output);
        assert_eq!(exit(&output), 1, "{name}: {said}");
        assert!(said.contains(name) && said.contains("may not be read by this user"), "{name}: {said}");
        assert!(said.contains("sudo -u bursar bursar check"), "{name}: {said}");
        assert_eq!(said.lines().filter(|line| line.starts_with("error:")).count(), 1, "{name}: {said}");
    }
}

#[test]
fn check_as_root_warns_of_what_the_agent_s_user_may_not_read() {
    use std::os::unix::fs::{PermissionsExt, chown};
    let (folder, file) = etc(READY);
    let state = folder.path().join("state");
    fs::create_dir(&state).unwrap();
    // Uid 1 has a name on every host: `daemon`, or `bin`.
    if chown(&state, Some(1), Some(1)).is_err() {
        return eprintln!("LEFT OUT: check_as_root… needs root");
    }
    let mode =
        |name: &str, mode| fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
    mode("state", 0o700);
    mode("", 0o755);
    let said = || stdout(&bursar(&["check", "--config", &file]));
    assert!(!said().contains("as whom the agent runs"), "{}", said());
    mode("policies/checkout.cedar", 0o600);
    assert!(
        said().contains("policies/checkout.cedar: `") && said().matches("as whom the agent runs").count() == 1,
        "{}",
        said()
    );
    mode("policies/checkout.cedar", 0o644);
    mode("", 0o700);
    assert!(said().contains("bursar.toml: `"), "{}", said());
}

#[test]
fn a_wrong_usage_exits_2_and_help_exits_0() {
    for arguments in [&["tokn"][..], &[], &["token"], &["token", "a", "--min-ttl", "soon"]] {
        let output = bursar(arguments);
        assert_eq!((exit(&output), output.stdout.len()), (2, 0), "{arguments:?}");
    }
    for arguments in [&["--help"][..], &["--version"], &["token", "--help"]] {
        let output = bursar(arguments);
        assert_eq!((exit(&output), output.stderr.len()), (0, 0), "{arguments:?}");
    }
}

#[test]
fn trouble_goes_to_standard_error_also_as_json() {
    let (_folder, file) = etc("typo = 1\n");
    let output = bursar(&["agent", "--config", &file]);
    assert_eq!((exit(&output), output.stdout.len()), (1, 0));
    assert!(stderr(&output).contains("unknown key `typo`"));
    let output = bursar(&["agent", "--config", &file, "--json"]);
    let trouble: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(trouble["faults"][0]["place"]["key"], "agent.typo");
}

#[test]
fn the_tour_holds_also_where_the_system_has_no_certificate_authorities() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bursar"));
    command.args(["dev", "--once"]).env("SSL_CERT_FILE", "/nonexistent").env("SSL_CERT_DIR", "/nonexistent");
    let output = command.output().unwrap();
    assert_eq!(exit(&output), 0, "{}{}", stdout(&output), stderr(&output));
}

#[test]
fn the_tour_speaks_json_to_programs() {
    let output = bursar(&["dev", "--once", "--json"]);
    assert_eq!(exit(&output), 0, "{}{}", stdout(&output), stderr(&output));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["held"], true);
    let steps = told["steps"].as_array().unwrap();
    assert!(steps.len() >= 6 && steps.iter().all(|step| step["claims"][0]["held"] == true), "{told}");
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let (folder, file) = etc(READY);
    let mut command = Command::new(env!("CARGO_BIN_EXE_bursar"));
    command.args(["--config", &file, "token", "stripe"]).env("BURSAR_SOCKET", "");
    let output = command.output().unwrap();
    assert_eq!(exit(&output), 4, "{}", stderr(&output));
    assert!(stderr(&output).contains(folder.path().join("bursar.sock").to_str().unwrap()), "{}", stderr(&output));
}

#[test]
fn where_the_configuration_cannot_be_read_the_socket_is_called_a_guess() {
    let output = bursar(&["--config", "/nonexistent/bursar.toml", "token", "stripe"]);
    assert_eq!(exit(&output), 4);
    assert!(stderr(&output).contains("help: there is no `/nonexistent/bursar.toml`, so"), "{}", stderr(&output));
    let output = bursar(&["--config", "/nonexistent/bursar.toml", "token", "stripe", "--socket", "/nonexistent/s"]);
    assert!(!stderr(&output).contains("guess"), "{}", stderr(&output));
}

#[test]
fn only_kinds_that_there_are_can_be_asked_for() {
    let output = bursar(&["audit", "query", "--kind", "refusals"]);
    assert_eq!(exit(&output), 2, "{}", stderr(&output));
    assert!(stderr(&output).contains("suppressed"), "{}", stderr(&output));
    assert!(stdout(&bursar(&["completions", "bash"])).contains("suppressed"));
    assert!(!stdout(&bursar(&["check", "--help"])).contains("socket <PATH>"));
    assert!(stdout(&bursar(&["token", "--help"])).contains("--socket <PATH>"));
}

#[test]
fn what_is_generated_is_whole() {
    let schema: Value = serde_json::from_slice(&bursar(&["config", "schema"]).stdout).unwrap();
    assert_eq!(schema["properties"]["agent"]["default"]["socket"], "/run/bursar/bursar.sock");
    for shell in ["bash", "zsh", "fish"] {
        assert!(stdout(&bursar(&["completions", shell])).contains("bursar"), "{shell}");
    }
    assert!(stdout(&bursar(&["man"])).contains(".TH bursar 1"));
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(exit(&bursar(&["man", "--out", folder.path().to_str().unwrap()])), 0);
    assert!(folder.path().join("bursar-secret-put.1").exists());
}
