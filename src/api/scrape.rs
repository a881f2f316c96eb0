//! (E) `/metrics`: the page that a scraper reads, on the admin socket, and where it is configured at an address of this
//! host, where every local user may read it. It names providers, and no workload, secret or token.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::broker::Broker;
use crate::peer::shares::Admission;
use crate::telemetry::metrics::{Metric, Page};

/// How many scrapers are answered at once; the next waits.
const MOST_SCRAPERS: usize = 4;
/// How long one may take from its connection to the end of the answer.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest head of a request, in bytes; hyper wants 8 KiB at least.
const LONGEST_HEAD: usize = 8 * 1024;

const CONNECTIONS: Metric =
    Metric::gauge("bursar_connections", "How many connections there are, by socket: applications, operators.");
const LIMIT: Metric = Metric::gauge("bursar_connections_limit", "How many there may be, by socket.");
const TURNED_AWAY: Metric = Metric::counter(
    "bursar_connections_turned_away_total",
    "Connections that were closed unheard, by socket and by whose share was used up: host, uid, unidentified.",
);

/// What the page is written from.
pub struct Sources {
    /// The agent.
    pub broker: Arc<Broker>,
    /// The connections of applications.
    pub applications: Arc<Admission>,
    /// The connections of operators.
    pub operators: Arc<Admission>,
}

impl Sources {
    /// The page of this moment.
    #[must_use]
    pub fn page(&self) -> String {
        let mut page = Page::default();
        self.broker.metrics(&mut page);
        let sockets = [("applications", &self.applications), ("operators", &self.operators)];
        let each = |page: &mut Page, metric, value: fn(&Admission) -> usize| {
            let mut family = page.family(metric);
            sockets.iter().for_each(|(socket, admission)| family.sample(&[("socket", socket)], value(admission)));
        };
        each(&mut page, &CONNECTIONS, Admission::connections);
        each(&mut page, &LIMIT, |admission| admission.shares().connections);
        let mut family = page.family(&TURNED_AWAY);
        sockets.iter().for_each(|(socket, one)| family.tally(&[("socket", socket)], "share", one.turned_away()));
        page.into_text()
    }

    /// The page, as an answer.
    pub(super) fn answer(&self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.page()));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(Page::MEDIA_TYPE));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    fn respond(&self, request: &Request<Incoming>) -> Response<Body> {
        let refused = match (request.method(), request.uri().path(), is_of_this_host(request)) {
            (&Method::GET, "/metrics", true) => return self.answer(),
            // A name of another host that leads here is a browser that was lured (DNS rebinding).
            (_, _, false) => StatusCode::FORBIDDEN,
            (_, "/metrics", true) => StatusCode::METHOD_NOT_ALLOWED,
            (_, _, true) => StatusCode::NOT_FOUND,
        };
        let mut response = Response::new(Body::empty());
        *response.status_mut() = refused;
        response
    }
}

/// Whether the request was sent to an address, or to `localhost`.
fn is_of_this_host(request: &Request<Incoming>) -> bool {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
    let name = name.map_or(host, |(name, _)| name).trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok()
}

/// Listens at `address`.
///
/// # Errors
/// What the operating system says.
pub fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Answers scrapers until the agent drains.
pub async fn serve(listener: TcpListener, sources: Arc<Sources>, mut drain: watch::Receiver<bool>) {
    let (turns, mut scrapers) = (Arc::new(Semaphore::new(MOST_SCRAPERS)), JoinSet::new());
    loop {
        let turn = tokio::select! {
            Ok(turn) = Arc::clone(&turns).acquire_owned() => turn,
            _ = drain.wait_for(|draining| *draining) => return,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = drain.wait_for(|draining| *draining) => return,
        };
        while scrapers.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => {
                let sources = Arc::clone(&sources);
                scrapers.spawn(async move {
                    let _ = tokio::time::timeout(SCRAPE_TIMEOUT, scrape(stream, &sources)).await;
                    drop(turn);
                });
            }
            // Out of descriptors, say: a short rest lets some connection end.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// One answer for each connection: a scraper that keeps it would keep its turn.
async fn scrape(stream: TcpStream, sources: &Sources) {
    let service = service_fn(async |request| Ok::<_, std::convert::Infallible>(sources.respond(&request)));
    let mut http = http1::Builder::new();
    let serving = http.keep_alive(false).header_read_timeout(None).max_buf_size(LONGEST_HEAD);
    // How a scrape ends is the scraper's matter.
    let _ = serving.serve_connection(TokioIo::new(stream), service).await;
}
