//! The programs of `examples/` as clients of the agent: each fetches a token, shows a refusal for what it is, waits as it is
//! told, and says when a token is stale.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::peers::{Oidc, installed};
use crate::rig::Agent;

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)
}

/// An example in Rust, which `cargo test` and `cargo build --examples` build.
fn built(name: &str) -> PathBuf {
    let built = Path::new(env!("CARGO_BIN_EXE_bursar")).with_file_name("examples").join(name);
    assert!(built.exists(), "`{}` is missing: run `cargo build --examples`", built.display());
    built
}

fn clients() -> Vec<Vec<PathBuf>> {
    let python = || installed("py/bin/python");
    let go = |name| vec!["go".into(), "run".into(), example(name)];
    vec![
        vec![example("token.sh")],
        vec![python(), example("token_httpx.py")],
        vec![python(), example("token_authlib.py")],
        vec![python(), example("token_requests_oauthlib.py")],
        vec!["node".into(), example("token.mjs")],
        vec!["node".into(), example("token_simple_oauth2.cjs")],
        go("token.go"),
        go("token_oauth2.go"),
        vec![built("token")],
        vec![built("token_oauth2")],
    ]
}

fn run(client: &[PathBuf], socket: &Path) -> Output {
    let mut command = Command::new(&client[0]);
    command.args(&client[1..]).env("BURSAR_SOCKET", socket);
    command.env("NODE_PATH", installed("npm/node_modules"));
    // Go's packages are Debian's: no module is fetched.
    let built = installed("npm").with_file_name("go");
    command.env("GO111MODULE", "off").env("GOPATH", "/usr/share/gocode").env("GOCACHE", built);
    command.output().unwrap()
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
    // Some are compiled first: the token lives for longer than that may take.
    let oidc = Oidc::with_lifetime("3600");
    let agent = Agent::for_stripe(&oidc);
    for client in clients() {
        let output = run(&client, &agent.socket_of("checkout"));
        assert!(output.status.success(), "{client:?}: {output:?}");
        let told = oidc.introspect(token_of(&output).as_bytes()).await;
        assert_eq!((&told["active"], &told["scope"]), (&json!(true), &json!("charges:read")), "{client:?}");
    }
    assert_eq!(agent.records("release").len(), clients().len(), "each asked once");
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

#[test]
fn every_example_waits_as_it_is_told_and_says_that_a_token_is_stale() {
    let folder = tempfile::tempdir().unwrap();
    for (nth, client) in clients().iter().enumerate() {
        let socket = folder.path().join(format!("{nth}.sock"));
        let listener = UnixListener::bind(&socket).unwrap();
        let agent = std::thread::spawn(move || unavailable_then_stale(&listener));
        let output = run(client, &socket);
        assert!(output.status.success(), "{client:?}: {output:?}");
        assert_eq!(token_of(&output), "the-stale-one", "{client:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("stale"), "{client:?}: {output:?}");
        assert!(agent.join().unwrap() >= Duration::from_secs(1), "{client:?} asked again before it was told to");
    }
}

/// An agent whose provider is down: it has no token, and a second later a stale one. How long the client left it alone.
fn unavailable_then_stale(listener: &UnixListener) -> Duration {
    let none = r#"{"error":"temporarily_unavailable","error_description":"d","remedy":"r"}"#;
    let stale = r#"{"access_token":"the-stale-one","token_type":"Bearer","expires_in":30,"age":270,"stale":true}"#;
    answer(listener, "503 Service Unavailable\r\nRetry-After: 1", none);
    let told = Instant::now();
    answer(listener, "200 OK", stale);
    told.elapsed()
}

/// Takes one request on a connection of its own, and answers it.
fn answer(listener: &UnixListener, status: &str, body: &str) {
    let (stream, _) = listener.accept().unwrap();
    let length = taken(&stream);
    assert!(length > 0, "a form");
    let head = "Content-Type: application/json\r\nCache-Control: no-store\r\nConnection: close";
    write!(&stream, "HTTP/1.1 {status}\r\n{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
}

/// Reads a request whole; the length of its body.
fn taken(stream: &UnixStream) -> usize {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if let Some(said) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = said.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    reader.read_exact(&mut vec![0; length]).unwrap();
    length
}
