//! (E) Connections: accepted within limits, each with the peer that the kernel names, served until it ends
//! or the agent drains.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use futures_util::StreamExt;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower_service::Service;

use super::body::{self, Shown};
use super::socket::Bound;
use super::stream::Lasting;
use crate::access::Role;
use crate::broker::{Broker, Refused, Why};
use crate::name::Name;
use crate::peer::shares::{Admission, Full, Guard};
use crate::peer::{Peer, Sources, Stream};

/// How often a connection is looked at: one that in all this time neither sent a request's head nor took a reply is cut.
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest head of a request, in bytes: all of its lines together.
const LONGEST_HEAD: usize = 16 * 1024;
/// How long connections have to end when the agent drains.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// The most headers of a request.
const MOST_HEADERS: usize = 64;

/// A listening socket, and whom it is bound to.
pub struct Listening {
    /// The socket.
    pub listener: UnixListener,
    /// Its file, where it is ours.
    pub bound: Option<Bound>,
    /// The workload to which the path is bound, if it is.
    pub workload: Option<Name>,
    /// Who asks there.
    pub role: Role,
    /// What is served there.
    pub router: Router,
}

/// What all sockets share.
#[derive(Clone)]
pub struct Shared {
    /// Who answers.
    pub broker: Arc<Broker>,
    /// How many connections there may be.
    pub admission: Arc<Admission>,
    /// What is asked to know a peer.
    pub sources: Arc<Sources>,
    /// Turns true when the agent drains.
    pub drain: watch::Receiver<bool>,
}

/// Serves a socket until the agent drains and the connections have ended, or have had their time.
pub async fn serve(socket: Listening, shared: Shared) {
    let mut drain = shared.drain.clone();
    let mut connections = JoinSet::new();
    loop {
        // In this order: while more come than are taken, those that ended would never all be let go.
        let accepted = tokio::select! {
            biased;
            _ = drain.wait_for(|draining| *draining) => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = socket.listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let (workload, router) = (socket.workload.clone(), socket.router.clone());
                let connection = Connection { workload, role: socket.role, router, shared: shared.clone() };
                connections.spawn(connection.run(stream));
                // Who comes now waits in the kernel until those who are here have had their turn: a flood of connections
                // must not fill the queue before them.
                tokio::task::yield_now().await;
            }
            Err(error) => rest_after(&error).await,
        }
    }
    // Its file and our other handle on it go too: who comes now is refused at once, and does not wait in vain.
    drop((socket.listener, socket.bound));
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_TIMEOUT, ended).await.is_err() {
        tracing::warn!("connections that did not end within 10 s are cut");
    }
}

/// Out of descriptors, say: a short rest lets some connection end.
async fn rest_after(error: &io::Error) {
    tracing::warn!(%error, "a connection could not be accepted; if this goes on, raise `LimitNOFILE=` or lower `limits.connections`");
    tokio::time::sleep(Duration::from_millis(50)).await;
}

struct Connection {
    workload: Option<Name>,
    role: Role,
    router: Router,
    shared: Shared,
}

impl Connection {
    async fn run(self, socket: UnixStream) {
        // Whoever is gone already gets no answer, and asked for nothing.
        let Ok((peer, stream)) = Peer::of(socket, self.workload.clone(), Arc::clone(&self.shared.sources)) else {
            return;
        };
        match self.admit(&peer).await {
            Ok(guard) => {
                self.serve(Arc::clone(&peer), stream).await;
                drop(guard);
            }
            Err(full) => turn_away(stream, &full).await,
        }
        if let Some(fault) = peer.fault() {
            self.shared.broker.overheard(&peer, fault).await;
        }
    }

    /// A peer that maps to nobody has its place among all the others who do not.
    async fn admit(&self, peer: &Peer) -> Result<Guard, Full> {
        let mut guard = self.shared.admission.enter(peer.uid(), true)?;
        if peer.attest(&self.shared.broker.rules().registry, self.role).await.is_err() {
            guard.unidentified()?;
        }
        Ok(guard)
    }

    async fn serve(&self, peer: Arc<Peer>, stream: Stream) {
        let progress = Progress::default();
        // The peer travels with the request: a router with a layer of its own would cost each connection kilobytes.
        let service = service_fn(|mut request: Request<Incoming>| {
            let step = progress.step();
            request.extensions_mut().insert(Arc::clone(&peer));
            let answer = self.router.clone().call(request);
            let progress = &progress;
            async move {
                let answer = answer.await.map(|answer| progress.of_lasting(answer));
                drop(step);
                answer
            }
        });
        let mut serving = pin!(
            http1::Builder::new()
                .header_read_timeout(None)
                .max_buf_size(LONGEST_HEAD)
                .max_headers(MOST_HEADERS)
                .serve_connection(TokioIo::new(stream), service)
        );
        let mut drain = self.shared.drain.clone();
        tokio::select! {
            // How a connection ends is the peer's matter: what is ours to say, `overheard` says.
            _ = serving.as_mut() => return,
            () = progress.ends() => return,
            _ = drain.wait_for(|draining| *draining) => serving.as_mut().graceful_shutdown(),
        }
        let _ = serving.await;
    }
}

/// Whether a connection gets on. One timer looks at it now and then: one set anew for each request would cost each more.
#[derive(Default)]
struct Progress(Arc<AtomicU64>);

impl Progress {
    /// A request's head has come; its answer is ready when the step is dropped. Odd while one is worked on.
    fn step(&self) -> Step<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Step(self)
    }

    /// The response; one that lasts gets on with each part that its peer makes room for.
    fn of_lasting(&self, response: Response<Body>) -> Response<Body> {
        if response.extensions().get::<Lasting>().is_none() {
            return response;
        }
        let parts = Arc::clone(&self.0);
        response.map(|body| {
            Body::from_stream(body.into_data_stream().inspect(move |_| {
                parts.fetch_add(2, Ordering::Relaxed);
            }))
        })
    }

    /// Returns once a whole span has passed in which the connection was silent, or its reply was not taken.
    async fn ends(&self) {
        let mut before = None;
        loop {
            let now = self.0.load(Ordering::Relaxed);
            if before == Some(now) && now.is_multiple_of(2) {
                return;
            }
            before = Some(now);
            tokio::time::sleep(PROGRESS_TIMEOUT).await;
        }
    }
}

struct Step<'a>(&'a Progress);

impl Drop for Step<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Tells a peer over its share, without reading what it asks.
async fn turn_away(mut stream: Stream, full: &Full) {
    let why = Why::SlowDown { what: full.to_string().into(), wait: Duration::from_secs(1) };
    let body = body::error(&Shown::of(&why), &Refused { why, decision: None });
    let head = format!(
        "HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\nretry-after: 1\r\n\
         cache-control: no-store\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let told = async {
        stream.write_all(&[head.as_bytes(), &body].concat()).await?;
        stream.shutdown().await
    };
    // A peer that does not listen is not waited for.
    let _ = tokio::time::timeout(Duration::from_secs(1), told).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{Instant, sleep};

    #[expect(clippy::disallowed_methods, reason = "the test's clock is paused")]
    async fn ended(progress: &Progress) -> Duration {
        let began = Instant::now();
        progress.ends().await;
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_connection_ends() {
        assert_eq!(ended(&Progress::default()).await, PROGRESS_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_ends_in_the_second_span_without_progress() {
        let progress = Progress::default();
        let asks_once = async {
            sleep(PROGRESS_TIMEOUT / 2).await;
            drop(progress.step());
        };
        let (ended, ()) = tokio::join!(ended(&progress), asks_once);
        assert_eq!(ended, 2 * PROGRESS_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_that_lasts_gets_on_for_as_long_as_it_is_taken() {
        let progress = Progress::default();
        let endless = futures_util::stream::repeat(Ok::<_, std::convert::Infallible>("a part"));
        let mut response = Response::new(Body::from_stream(endless));
        response.extensions_mut().insert(Lasting);
        let mut parts = progress.of_lasting(response).into_body().into_data_stream();
        let takes = async {
            for _ in 0..10 {
                drop(parts.next().await);
                sleep(PROGRESS_TIMEOUT / 2).await;
            }
        };
        let (ended, ()) = tokio::join!(ended(&progress), takes);
        assert!((5 * PROGRESS_TIMEOUT..=7 * PROGRESS_TIMEOUT).contains(&ended), "{ended:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_worked_on_is_waited_for() {
        let progress = Progress::default();
        let long = async {
            let step = progress.step();
            sleep(10 * PROGRESS_TIMEOUT).await;
            drop(step);
        };
        let (ended, ()) = tokio::join!(ended(&progress), long);
        assert!(ended > 10 * PROGRESS_TIMEOUT);
    }
}
