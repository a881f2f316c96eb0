//! (E) Sending traces to a collector of this host: OTLP over HTTP, in its JSON, in batches, away from every request.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::mpsc::Receiver;

use super::metrics::Counter;
use super::trace::{self, Trail};

/// How many traces one export holds.
const BATCH: usize = 256;
/// How long a batch gathers, and so how often one is sent at most: the time that traces cost is bounded.
const GATHERS: Duration = Duration::from_millis(250);
/// How long the collector may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest answer that is read, in bytes.
const LONGEST_ANSWER: usize = 64 * 1024;

/// Where the collector is, and who sends.
#[derive(Clone, Debug)]
pub struct Collector {
    /// Its address: of this host alone, since what it is told is not encrypted.
    pub address: SocketAddr,
    /// What its paths begin with, without the last `/`.
    pub path: String,
    /// Who sends, as `service.instance.id`.
    pub agent: String,
}

/// Sends what comes out of `trails` until its tracers are gone. What the collector does not take is counted in `dropped`.
pub async fn send(collector: Collector, mut trails: Receiver<Trail>, dropped: Arc<Counter>) {
    let resource = [
        ("service.name", "bursar"),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("service.instance.id", &collector.agent),
    ];
    let (mut batch, mut taken) = (Vec::with_capacity(BATCH), true);
    while trails.recv_many(&mut batch, BATCH).await > 0 {
        tokio::time::sleep(GATHERS).await;
        while batch.len() < BATCH
            && let Ok(trail) = trails.try_recv()
        {
            batch.push(trail);
        }
        let body = trace::export(&resource, &batch);
        let sent = tokio::time::timeout(TIMEOUT, post(&collector, body)).await;
        let sent = sent.unwrap_or_else(|_| Err(io::Error::other("it did not answer within 5 s")));
        match (&sent, taken) {
            (Err(error), true) => {
                tracing::warn!(collector = %collector.address, %error, "traces are not taken and are dropped; requests go on");
            }
            (Ok(()), false) => tracing::info!(collector = %collector.address, "traces are taken again"),
            (Ok(()), true) | (Err(_), false) => {}
        }
        taken = sent.is_ok();
        batch.drain(..).filter(|_| !taken).for_each(|_| dropped.add_one());
    }
}

async fn post(collector: &Collector, body: Vec<u8>) -> io::Result<()> {
    let stream = TcpStream::connect(collector.address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("{}/v1/traces", collector.path))
        .header(header::HOST, collector.address.to_string())
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(io::Error::other)?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(io::Error::other)?;
        let status = answer.status();
        // Read to its end, so that the collector is not cut off; what it says is not needed.
        let _ = Limited::new(answer.into_body(), LONGEST_ANSWER).collect().await;
        if status.is_success() { Ok(()) } else { Err(io::Error::other(format!("it answered with status {status}"))) }
    };
    tokio::select! {
        exchanged = exchange => exchanged,
        ended = connection => Err(ended.err().map_or_else(|| io::Error::other("it closed the connection"), io::Error::other)),
    }
}
