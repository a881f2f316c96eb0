//! The floors: servers that do nothing but the part that no server can leave out.
//!
//! Each runs as a process of its own: the bench executes itself with `--floor`, so that a floor is built with the
//! same compiler, profile and crates as bursar.

use std::io::Read;
use std::path::{Path, PathBuf};

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::any;
use bytes::Bytes;
use tokio::net::UnixListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use super::append::Append;

/// What a floor does before it answers.
#[derive(Clone, Copy)]
pub(crate) enum Floor {
    /// Nothing: bare axum with a body of the size of the agent's answer, built beforehand.
    Bare,
    /// A raw group-committed append of as many bytes as a record has, synced before the answer.
    Durable,
    /// Waits until a byte comes on standard input.
    Gated,
}

impl Floor {
    /// Its name in tables and arguments.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare axum",
            Self::Durable => "axum + append",
            Self::Gated => "axum behind a gate",
        }
    }
}

/// Runs a floor if that is what this process was executed for, and does not return then.
pub(crate) fn serve_if_asked() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() != Some("--floor") {
        return;
    }
    let name = arguments.next().unwrap();
    let socket = PathBuf::from(arguments.next().unwrap());
    let scratch = PathBuf::from(arguments.next().unwrap());
    let floor = [Floor::Bare, Floor::Durable, Floor::Gated].into_iter().find(|floor| floor.name() == name).unwrap();
    runtime().block_on(async {
        let listener = UnixListener::bind(socket).unwrap();
        axum::serve(listener, router(floor, &scratch)).await.unwrap();
    });
}

/// Half of the cores; the load generator has the others. One thread is faster without a scheduler of many.
fn runtime() -> Runtime {
    let cores = std::thread::available_parallelism().unwrap().get();
    let mut builder = if cores < 4 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    if cores >= 4 {
        builder.worker_threads(cores / 2);
    }
    builder.enable_all().build().unwrap()
}

fn router(floor: Floor, scratch: &Path) -> Router {
    let body = body();
    match floor {
        Floor::Bare => Router::new().route("/token/{provider}", any(move || std::future::ready(answer(body.clone())))),
        Floor::Durable => {
            let (append, line) = (Append::start(scratch).unwrap(), record());
            let durable = async move |append: Append| {
                append.append(line).await;
                answer(body)
            };
            Router::new().route("/token/{provider}", any(move || durable.clone()(append.clone())))
        }
        Floor::Gated => {
            let gate = gate();
            let gated = async move |mut gate: watch::Receiver<bool>| {
                gate.wait_for(|open| *open).await.unwrap();
                answer(body)
            };
            Router::new().route("/token/{provider}", any(move || gated.clone()(gate.clone())))
        }
    }
}

fn gate() -> watch::Receiver<bool> {
    let (opener, gate) = watch::channel(false);
    std::thread::spawn(move || {
        if std::io::stdin().read_exact(&mut [0]).is_ok() {
            let _ = opener.send(true);
        }
    });
    gate
}

fn answer(body: Bytes) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], body)
}

/// As long as the agent's answer with a token of 1,500 bytes.
fn body() -> Bytes {
    let token = "t".repeat(1500);
    format!(
        r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":3587,"scope":"read","age":13,"stale":false}}"#
    )
    .into()
}

/// As long as a release record.
pub(crate) fn record() -> &'static [u8] {
    let mut line = vec![b'r'; RECORD_BYTES];
    line[RECORD_BYTES - 1] = b'\n';
    line.leak()
}

/// The length of a release record, with its newline.
pub(crate) const RECORD_BYTES: usize = 560;
