//! The programs of `examples/` as clients of the agent: each fetches a token, and shows a refusal for what it is.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::peers::{Oidc, installed};
use crate::rig::Agent;

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)
}

/// The example in Rust, which `cargo test` and `cargo build --examples` build.
fn built() -> PathBuf {
    let built = Path::new(env!("CARGO_BIN_EXE_bursar")).with_file_name("examples/token");
    assert!(built.exists(), "`{}` is missing: run `cargo build --examples`", built.display());
    built
}

fn clients() -> Vec<Vec<PathBuf>> {
    let python = || installed("py/bin/python");
    vec![
        vec![example("token.sh")],
        vec![python(), example("token_httpx.py")],
        vec![python(), example("token_authlib.py")],
        vec![python(), example("token_requests_oauthlib.py")],
        vec!["node".into(), example("token.mjs")],
        vec![built()],
    ]
}

fn run(client: &[PathBuf], socket: &Path) -> Output {
    Command::new(&client[0]).args(&client[1..]).env("BURSAR_SOCKET", socket).output().unwrap()
}

/// What it printed: the token, or the whole answer as JSON.
fn token_of(output: &Output) -> String {
    let said = String::from_utf8(output.stdout.clone()).unwrap();
    match serde_json::from_str::<Value>(&said) {
        Ok(answer) => answer["access_token"].as_str().unwrap().to_owned(),
        Err(_) => said.trim().to_owned(),
    }
}

#[tokio::test]
async fn every_example_fetches_a_token_that_the_server_accepts() {
    let oidc = Oidc::start();
    let agent = Agent::for_stripe(&oidc);
    for client in clients() {
        let output = run(&client, &agent.socket_of("checkout"));
        assert!(output.status.success(), "{client:?}: {output:?}");
        let told = oidc.introspect(token_of(&output).as_bytes()).await;
        assert_eq!((&told["active"], &told["scope"]), (&json!(true), &json!("charges:read")), "{client:?}");
    }
    assert_eq!(agent.records("release").len(), clients().len());
    assert_eq!(oidc.requests().await, 1, "all of them are the same workload");
}

#[tokio::test]
async fn every_example_shows_a_refusal_and_fails() {
    let oidc = Oidc::start();
    let agent = Agent::for_stripe(&oidc);
    // Who runs the tests is nobody to the agent.
    for client in clients() {
        let output = run(&client, &agent.socket());
        let said = [&output.stdout[..], &output.stderr].concat();
        assert!(!output.status.success(), "{client:?}");
        assert!(String::from_utf8_lossy(&said).contains("unidentified"), "{client:?}: {output:?}");
    }
    assert_eq!(oidc.requests().await, 0);
}
