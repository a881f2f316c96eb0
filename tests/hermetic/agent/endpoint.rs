//! A token endpoint that answers as a test tells it, and counts who asks.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A request that came.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// How many came before it.
    pub(super) nth: usize,
    pub(super) head: String,
    pub(super) body: String,
    pub(super) at: Instant,
}

/// What becomes of it.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// These bytes, and the end of the connection.
    Say(String),
    /// The same once the gate is open.
    Held(String),
    /// The same after a while.
    After(Duration, String),
    /// The end of the connection.
    Close,
    /// Its end by a reset (TCP RST).
    Reset,
}

type Script = Arc<dyn Fn(&Asked) -> Act + Send + Sync>;

/// A running endpoint. It stops when it is dropped.
pub(super) struct Endpoint {
    pub(super) address: SocketAddr,
    desk: Arc<Desk>,
    task: JoinHandle<()>,
}

struct Desk {
    script: Mutex<Script>,
    asked: Mutex<Vec<Asked>>,
    gate: watch::Sender<bool>,
}

impl Endpoint {
    /// Each request gets a token of its own, `token-0` first, for 300 s.
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let script: Script = Arc::new(|asked| Act::Say(grant(asked.nth, 300)));
        let desk =
            Arc::new(Desk { script: Mutex::new(script), asked: Mutex::default(), gate: watch::channel(false).0 });
        let at_desk = Arc::clone(&desk);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&at_desk).serve(stream));
            }
        });
        Self { address, desk, task }
    }

    /// From here on it answers so.
    pub(super) fn plays(&self, script: impl Fn(&Asked) -> Act + Send + Sync + 'static) {
        *self.desk.script.lock().unwrap() = Arc::new(script);
    }

    /// Every request that came, in order.
    pub(super) fn asked(&self) -> Vec<Asked> {
        self.desk.asked.lock().unwrap().clone()
    }

    /// Lets what is held go.
    pub(super) fn open_the_gate(&self) {
        self.desk.gate.send_replace(true);
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Desk {
    async fn serve(self: Arc<Self>, mut stream: TcpStream) {
        let Some((head, body)) = request(&mut stream).await else { return };
        let act = {
            let mut all = self.asked.lock().unwrap();
            let asked = Asked { nth: all.len(), head, body, at: Instant::now() };
            all.push(asked.clone());
            let script = Arc::clone(&self.script.lock().unwrap());
            script(&asked)
        };
        let said = match act {
            Act::Say(said) => said,
            Act::Held(said) => {
                let _ = self.gate.subscribe().wait_for(|open| *open).await;
                said
            }
            Act::After(wait, said) => {
                tokio::time::sleep(wait).await;
                said
            }
            Act::Close => return,
            Act::Reset => {
                let _ = stream.set_zero_linger();
                return;
            }
        };
        let _ = stream.write_all(said.as_bytes()).await;
        let _ = stream.shutdown().await;
    }
}

async fn request(stream: &mut TcpStream) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
            if body.len() >= length.parse().unwrap() {
                return Some((text.split_once("\r\n\r\n")?.0.to_owned(), body.to_owned()));
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

/// The answer that grants `token-<nth>` for `lifetime` seconds (RFC 6749 §5.1).
pub(super) fn grant(nth: usize, lifetime: u64) -> String {
    json("200 OK", &format!(r#"{{"access_token":"token-{nth}","token_type":"Bearer","expires_in":{lifetime}}}"#))
}

/// A JSON answer.
pub(super) fn json(status: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nCache-Control: no-store\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}
