//! The sockets' files, and how the agent ends.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::net::UnixStream;

use super::endpoint::{Act, grant};
use super::rig::{Plan, Rig};
use super::wire::{eventually, get, post};

fn sockets(rig: &Rig) -> [PathBuf; 4] {
    [rig.socket("bursar"), rig.admin(), rig.socket("checkout"), rig.socket("reports")]
}

#[tokio::test]
async fn what_a_dead_agent_left_is_replaced() {
    let mut rig = Plan::default().lay().await;
    drop(UnixListener::bind(rig.socket("bursar")).unwrap());
    fs::create_dir(rig.path(".bursar.sock.new")).unwrap();
    fs::write(rig.path(".bursar.sock.new/s"), "left by a crash").unwrap();
    rig.start().await;
    assert_eq!(rig.token("checkout", "stripe", "").await.status, 200);
    rig.kill().await;
    assert!(sockets(&rig).iter().all(|socket| socket.exists()), "the kernel leaves them");
    rig.start().await;
    assert_eq!(rig.token("checkout", "stripe", "").await.status, 200);
    assert!(!rig.path(".bursar.sock.new").exists());
}

#[tokio::test]
async fn a_live_socket_is_not_taken_over() {
    let first = Rig::new().await;
    let second = Plan::default().lay().await;
    second.reconfigure("socket = \"bursar.sock\"", &format!("socket = {:?}", first.socket("bursar")));
    let output = second.run(&["agent"]).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("belongs to a bursar that is running"), "{said}");
    assert_eq!(first.token("bursar", "stripe", "").await.status, 403, "the first one goes on");
    let again = first.run(&["agent"]).await;
    assert_eq!(again.status.code(), Some(1), "{}", String::from_utf8_lossy(&again.stderr));
    assert_eq!(first.token("checkout", "stripe", "").await.status, 200);
}

#[tokio::test]
async fn what_is_no_socket_is_left_alone() {
    let rig = Plan::default().lay().await;
    fs::write(rig.socket("bursar"), "precious").unwrap();
    let output = rig.run(&["agent"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is not a socket"));
    assert_eq!(fs::read_to_string(rig.socket("bursar")).unwrap(), "precious");
    assert!(!rig.admin().exists(), "and no other socket stays");
}

/// Looks at `paths` without a pause until it is told to stop; every mode that was seen at each.
fn watch(paths: Vec<PathBuf>, stop: &Arc<AtomicBool>) -> std::thread::JoinHandle<Vec<Vec<u32>>> {
    let stop = Arc::clone(stop);
    std::thread::spawn(move || {
        let mut seen = vec![Vec::new(); paths.len()];
        while !stop.load(Ordering::Relaxed) {
            for (path, modes) in paths.iter().zip(&mut seen) {
                if let Ok(about) = fs::symlink_metadata(path) {
                    let mode = about.permissions().mode() & 0o7777;
                    if modes.last() != Some(&mode) {
                        modes.push(mode);
                    }
                }
            }
        }
        seen
    })
}

#[tokio::test]
async fn a_socket_is_never_wider_open_than_it_should_be() {
    let plan = Plan { agent: "socket_mode = \"0600\"\nadmin_mode = \"0640\"".into(), ..Plan::default() };
    let mut rig = plan.lay().await;
    let stop = Arc::new(AtomicBool::new(false));
    let workshops = [rig.path(".bursar.sock.new"), rig.path(".admin.sock.new")];
    let watching = watch(sockets(&rig).into_iter().chain(workshops).collect(), &stop);
    for _ in 0..5 {
        rig.start().await;
        rig.kill().await;
        for socket in sockets(&rig) {
            assert!(fs::symlink_metadata(&socket).unwrap().file_type().is_socket());
            fs::remove_file(socket).unwrap();
        }
    }
    stop.store(true, Ordering::Relaxed);
    let seen = watching.join().unwrap();
    assert_eq!(seen[..4], [vec![0o600], vec![0o640], vec![0o600], vec![0o600]], "at no moment anything else");
    assert!(seen[4..].iter().flatten().all(|mode| *mode == 0o700), "{seen:?}");
}

#[tokio::test]
async fn sigterm_drains_and_what_was_asked_is_answered() {
    let mut rig = Rig::new().await;
    rig.endpoint.plays(|asked| Act::Held(grant(asked.nth, 300)));
    let (mut asking, mut idle) = (rig.wire("checkout").await, rig.wire("checkout").await);
    let mut half = rig.wire("checkout").await;
    assert_eq!(idle.ask(get("/healthz")).await.unwrap().status, 200);
    half.send("GET /readyz HTTP/1.1\r\n").await;
    asking.send(post("odd", "")).await;
    eventually("the provider is asked", || async { (!rig.endpoint.asked().is_empty()).then_some(()) }).await;
    rig.agent().signal(Signal::TERM);
    let socket = rig.socket("checkout");
    eventually("nobody new is let in", || async { UnixStream::connect(&socket).await.is_err().then_some(()) }).await;
    assert!(idle.is_closed().await, "who asks nothing is not waited for");
    let draining = half.ask("\r\n").await.unwrap();
    assert_eq!(draining.outcome(), (503, "draining".into()));
    rig.endpoint.open_the_gate();
    let reply = asking.reply().await.unwrap();
    assert_eq!(reply.token(), "token-0");
    assert!(asking.is_closed().await);
    assert_eq!(rig.agent().ended().await.code(), Some(0));
    assert_eq!(rig.record(&reply).kind(), "release");
    let last = rig.records().pop().unwrap();
    assert_eq!((last.kind(), last.text("reason")), ("stop", Some("drain")));
    assert!(sockets(&rig).iter().all(|socket| !socket.exists()));
}

#[tokio::test]
async fn an_agent_that_nobody_asks_stops_at_once() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut rig = Rig::new().await;
        let (mut silent, _other) = (rig.wire("checkout").await, rig.wire("bursar").await);
        let began = Instant::now();
        rig.agent().signal(signal);
        assert_eq!(rig.agent().ended().await.code(), Some(0));
        assert!(began.elapsed() < Duration::from_secs(8), "a silent connection is not waited for");
        assert!(silent.is_closed().await);
        assert_eq!(rig.records().pop().unwrap().kind(), "stop");
    }
}
