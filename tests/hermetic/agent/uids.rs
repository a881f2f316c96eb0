//! Two users at one socket: each is who the kernel says, and each answer stands in the log under its own uid.

use std::process::{Output, Stdio};

use serde_json::Value;
use tokio::process::Command;

use super::rig::{Plan, Rig, left_out, open_to_all, workloads};
use super::wire::within;

const ALPHA: u32 = 40_001;
const BETA: u32 = 40_002;

/// `curl` as `uid`, asking for a token of `provider` at the socket for all.
async fn curl(rig: &Rig, uid: u32, provider: &str) -> (Value, String) {
    let mut command = Command::new("setpriv");
    let id = uid.to_string();
    command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "curl", "-si"]);
    command.arg("--unix-socket").arg(rig.socket("bursar")).args(["-d", "grant_type=client_credentials"]);
    let asked = command.arg(format!("http://localhost/token/{provider}")).stdin(Stdio::null()).kill_on_drop(true);
    let Output { stdout, stderr, .. } = within(asked.output()).await.unwrap();
    let answer = String::from_utf8(stdout).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&stderr)));
    let decision = head.lines().find_map(|line| line.strip_prefix("bursar-decision: ")).unwrap_or_default();
    (serde_json::from_str(body).unwrap(), decision.to_owned())
}

fn installed(program: &str) -> bool {
    std::process::Command::new(program).arg("--version").stdout(Stdio::null()).status().is_ok_and(|it| it.success())
}

#[tokio::test]
async fn two_uids_on_one_socket_get_different_answers_and_both_stand_in_the_log() {
    let test = "two_uids_on_one_socket_get_different_answers_and_both_stand_in_the_log";
    if !rustix::process::getuid().is_root() || !installed("setpriv") || !installed("curl") {
        return left_out(test, "root, `setpriv` and `curl`");
    }
    let mut plan = Plan::default();
    let both = format!("[workload.alpha]\nuid = {ALPHA}\n[workload.beta]\nuid = {BETA}\n");
    plan.policies.insert("workloads.toml".into(), workloads(&both));
    let rule = "@id(\"alpha-crm\")\n\
                permit (principal == Workload::\"alpha\", action == Action::\"token\", resource == Provider::\"crm\");\n";
    plan.policies.insert("alpha.cedar".into(), rule.into());
    plan.agent = "socket_mode = \"0666\"".into();
    let rig = plan.raise().await;
    open_to_all(rig.folder.path());
    let (mine, not_mine) = tokio::join!(curl(&rig, ALPHA, "crm"), curl(&rig, BETA, "crm"));
    assert_eq!((&mine.0["scope"], &not_mine.0["error"]), (&"customers:read".into(), &"access_denied".into()));
    let (stranger, _) = curl(&rig, BETA + 1, "crm").await;
    assert_eq!(stranger["error"], "unidentified");
    let records = rig.by_decision();
    for ((_, decision), kind, who, uid) in [(mine, "release", "alpha", ALPHA), (not_mine, "refusal", "beta", BETA)] {
        let record = &records[&decision];
        assert_eq!((record.kind(), record.text("who"), record.number("uid")), (kind, Some(who), Some(uid.into())));
        assert_eq!(record.get("facts"), Some(&serde_json::json!({ "uid": uid.to_string() })));
    }
}
