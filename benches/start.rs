//! S6 and S7: how long from `exec` to READY, how large the program is, how much memory the agent holds.
//!
//! `cargo bench --bench start [-- --quick]`

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a bench may panic")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints what it measured")]
#![expect(clippy::disallowed_methods, reason = "a bench reads the clock")]

#[expect(dead_code, reason = "each bench uses its part")]
mod rig;

use std::time::Duration;

use rig::figures::{median, print_table};
use rig::floor::{self, Floor};
use rig::issuer::Issuer;
use rig::load::{Connections, Target};
use rig::scene::{self, Durability, Scene};
use rig::server::{Server, ask};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    floor::serve_if_asked();
    let quick = std::env::args().any(|argument| argument == "--quick");
    let issuer = Issuer::start();
    let scenes = [50, 1_000].map(|rules| Scene::lay(rules, Durability::Disk, &issuer));
    let mut rows = vec![["what", "measured", "bar"].map(str::to_owned).to_vec()];
    for scene in &scenes {
        let starts = (0..if quick { 5 } else { 21 }).map(|_| milliseconds(scene.start("agent").1));
        rows.push(row(
            format!("exec to READY, {} rules", scene.rules()),
            format!("{:.1} ms", median(starts)),
            "50 ms with 50",
        ));
    }
    rows.push(row("program, stripped".into(), format!("{:.1} MB", megabytes(scene::program_bytes())), "35 MB"));
    for scene in &scenes {
        rows.extend(memory(scene, if quick { 200 } else { 1_000 }));
    }
    let sockets = tempfile::tempdir().unwrap();
    let bare = Server::floor(Floor::Bare, sockets.path(), sockets.path());
    rows.extend(idle(&bare, 1_000));
    print_table(&rows);
}

/// What the agent holds when it has started, with `tokens` tokens, and with a thousand connections more.
fn memory(scene: &Scene, tokens: u32) -> Vec<Vec<String>> {
    let (agent, _) = scene.start("agent");
    let rules = scene.rules();
    let mut rows = vec![resident(format!("resident, {rules} rules, just started"), &agent, "")];
    fetch(&agent, tokens);
    let bar = if rules > 50 { "50 MB" } else { "25 MB" };
    rows.push(resident(format!("resident, {rules} rules, {tokens} tokens"), &agent, bar));
    rows.extend(idle(&agent, 1_000));
    rows
}

/// Asks for `count` tokens, each with another set of scopes.
fn fetch(agent: &Server, count: u32) {
    for nth in 1..=count {
        let chosen = (0..10).filter(|bit| nth >> bit & 1 == 1).map(|bit| format!("s{bit}"));
        let scope = chosen.collect::<Vec<_>>().join("+");
        let target = Target { request: ask(&scope), ..agent.target.clone() };
        let mut connection = Connections::open(&target, 1).unwrap();
        connection.send_all().unwrap();
        assert_eq!(connection.receive_all().unwrap().failures, 0, "no token for `{scope}`");
    }
}

/// What a connection costs that has asked once and rests.
fn idle(server: &Server, count: usize) -> Vec<Vec<String>> {
    let before = server.resident_kib();
    let mut connections = Connections::open(&server.target, count).unwrap();
    connections.drive(Duration::ZERO, Duration::ZERO).unwrap();
    connections.send_all().unwrap();
    assert_eq!(connections.receive_all().unwrap().failures, 0, "{} answered with an error", server.name);
    #[expect(clippy::cast_precision_loss, reason = "kibibytes and connections")]
    let each = (server.resident_kib() - before) as f64 / count as f64;
    vec![row(format!("{}: an idle connection of {count}", server.name), format!("{each:.1} KB"), "20 KB")]
}

fn resident(what: String, server: &Server, bar: &str) -> Vec<String> {
    row(what, format!("{:.1} MB", megabytes(server.resident_kib() * 1024)), bar)
}

fn row(what: String, measured: String, bar: &str) -> Vec<String> {
    vec![what, measured, bar.to_owned()]
}

fn milliseconds(long: Duration) -> f64 {
    long.as_secs_f64() * 1e3
}

#[expect(clippy::cast_precision_loss, reason = "a size for people")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
