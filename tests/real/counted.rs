//! A way to a server on which its requests are counted, and one of them goes wrong: HTTP/1.1 without TLS.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The end of each request's head, and in nothing that bursar sends elsewhere.
const VERSION: &[u8] = b" HTTP/1.1\r\n";

/// What goes wrong with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It does not arrive.
    Cut,
    /// It arrives, and is answered; the reply is lost.
    Lost,
    /// Half of the reply is lost.
    Half,
}

/// Listens until it is dropped.
pub(crate) struct Counted {
    pub(crate) address: SocketAddr,
    way: Arc<Way>,
    listening: JoinHandle<()>,
}

#[derive(Default)]
struct Way {
    requests: AtomicU64,
    /// How many requests from now on pass before one goes wrong.
    fault: Mutex<Option<(u64, Fault)>>,
}

impl Counted {
    pub(crate) async fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, way) = (listener.local_addr().unwrap(), Arc::<Way>::default());
        let ours = Arc::clone(&way);
        let listening = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass_on(client, server, Arc::clone(&ours)));
            }
        });
        Self { address, way, listening }
    }

    /// How many have come, whatever became of them.
    pub(crate) fn requests(&self) -> u64 {
        self.way.requests.load(Ordering::SeqCst)
    }

    /// After `passing` more requests one goes wrong.
    pub(crate) fn fail(&self, passing: u64, fault: Fault) {
        *self.way.fault.lock().unwrap() = Some((passing, fault));
    }

    /// Whether one has; from now on all is well.
    pub(crate) fn has_failed(&self) -> bool {
        self.way.fault.lock().unwrap().take().is_none()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Way {
    /// A request has come: what goes wrong with it.
    fn came(&self) -> Option<Fault> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let mut fault = self.fault.lock().unwrap();
        match fault.as_mut() {
            Some((0, what)) => {
                let what = *what;
                *fault = None;
                Some(what)
            }
            Some((passing, _)) => {
                *passing -= 1;
                None
            }
            None => None,
        }
    }
}

/// Where the server does not answer, the request is read and counted, and its connection closed.
async fn pass_on(client: TcpStream, server: SocketAddr, way: Arc<Way>) {
    let (mut from_client, to_client) = client.into_split();
    let (from_server, mut to_server) = TcpStream::connect(server).await.ok().map(TcpStream::into_split).unzip();
    let [lost, half] = [(); 2].map(|()| Arc::<AtomicBool>::default());
    if let Some(from_server) = from_server {
        tokio::spawn(answer(from_server, to_client, Arc::clone(&lost), Arc::clone(&half)));
    }
    let (mut bytes, mut matched) = ([0; 8_192], 0);
    while let Ok(length @ 1..) = from_client.read(&mut bytes).await {
        for byte in &bytes[..length] {
            matched = if *byte == VERSION[matched] { matched + 1 } else { usize::from(*byte == VERSION[0]) };
            if matched == VERSION.len() {
                matched = 0;
                match way.came() {
                    Some(Fault::Cut) => return,
                    Some(Fault::Lost) => lost.store(true, Ordering::SeqCst),
                    Some(Fault::Half) => half.store(true, Ordering::SeqCst),
                    None => {}
                }
            }
        }
        let Some(server) = &mut to_server else { return };
        if server.write_all(&bytes[..length]).await.is_err() {
            return;
        }
    }
}

/// Passes replies on, until one is to be lost.
async fn answer(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, lost: Arc<AtomicBool>, half: Arc<AtomicBool>) {
    let mut bytes = [0; 8_192];
    while let Ok(length @ 1..) = from.read(&mut bytes).await {
        let is_cut = half.load(Ordering::SeqCst);
        if lost.load(Ordering::SeqCst)
            || to.write_all(&bytes[..if is_cut { length / 2 } else { length }]).await.is_err()
        {
            break;
        }
        if is_cut {
            break;
        }
    }
    let _ = to.shutdown().await;
}
