//! (E) The issuer's listener: a TCP socket on loopback, whose connections end as the answers say.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tower_service::Service;

use super::day::BadDay;
use super::desk::Desk;
use super::ledger::Requests;
use super::routes::{Reset, router};
use super::{NoKey, Settings};

/// The most connections at once: those that a `blackhole` holds too.
const MOST_CONNECTIONS: usize = 1_000;

/// A running issuer; it stops when it is dropped, and its connections with it.
pub struct Issuer {
    address: SocketAddr,
    desk: Arc<Desk>,
    task: JoinHandle<()>,
}

impl Issuer {
    /// Starts on `listen`, which must be loopback; port 0 takes a free one.
    ///
    /// # Errors
    /// When the address is not loopback or taken, or a key cannot be made.
    pub async fn start(listen: SocketAddr, settings: Settings) -> std::io::Result<Self> {
        if !listen.ip().is_loopback() {
            return Err(std::io::Error::other(format!("`{listen}` is not a loopback address")));
        }
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let desk = Arc::new(Desk::open(format!("http://{address}"), settings).map_err(std::io::Error::other)?);
        let task = tokio::spawn(accept(listener, router(Arc::clone(&desk))));
        Ok(Self { address, desk, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its issuer identifier: `http://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.desk.issuer
    }

    /// How many tokens it has granted.
    #[must_use]
    pub fn issued(&self) -> u64 {
        self.requests().granted
    }

    /// What came, and what became of it.
    #[must_use]
    pub fn requests(&self) -> Requests {
        self.desk.ledger().requests()
    }

    /// From now on it has this day; `BadDay::default()` is a good one.
    ///
    /// # Errors
    /// [`NoKey`], when the day begins with a new key and none can be made; then nothing has changed.
    pub fn begin(&self, day: BadDay) -> Result<(), NoKey> {
        self.desk.begin(day)
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, router: Router) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MOST_CONNECTIONS => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(serve(stream, router.clone()));
                }
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the connection is reset")]
struct Cut;

async fn serve(stream: TcpStream, router: Router) {
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = router.clone().call(request);
        async move {
            match answer.await {
                Ok(answer) if answer.extensions().get::<Reset>().is_none() => Ok(answer),
                Ok(_) => Err(Cut),
                Err(never) => match never {},
            }
        }
    });
    let mut serving = http1::Builder::new().header_read_timeout(None).serve_connection(TokioIo::new(stream), service);
    let was_cut = (&mut serving).await.is_err_and(|error| error.is_user());
    if was_cut {
        // Closed without lingering, TCP sends a reset in the place of what was not yet said.
        let _ = serving.into_parts().io.into_inner().set_zero_linger();
    }
}
