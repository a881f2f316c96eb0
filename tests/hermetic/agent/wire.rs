//! The wire: HTTP/1.1 by hand over a unix socket, so that a test can send what no client would.

use std::io;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// How long anything may take before a test gives up.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to the agent, and what was read of it beyond the last reply.
pub(super) struct Wire {
    stream: UnixStream,
    ahead: Vec<u8>,
}

/// What was answered.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Wire {
    /// Connects; a full backlog (EAGAIN, connect(2)) is tried again.
    pub(super) async fn to(socket: &Path) -> Self {
        let connected = async {
            loop {
                match UnixStream::connect(socket).await {
                    Ok(stream) => return Ok(Self { stream, ahead: Vec::new() }),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        within(connected).await.unwrap_or_else(|error| panic!("`{}`: {error}", socket.display()))
    }

    /// Connects, if somebody listens and has room.
    pub(super) async fn try_to(socket: &Path) -> Option<Self> {
        let stream = UnixStream::connect(socket).await.ok()?;
        Some(Self { stream, ahead: Vec::new() })
    }

    /// Sends `bytes`; whether the other end took them all.
    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        within(self.stream.write_all(bytes.as_ref())).await.is_ok()
    }

    /// No more will be sent.
    pub(super) async fn finish(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// The next final reply; none if the connection ends before it is whole.
    pub(super) async fn reply(&mut self) -> Option<Reply> {
        self.reply_to("").await
    }

    /// The next reply to a request by `method`: those to HEAD have no body.
    pub(super) async fn reply_to(&mut self, method: &str) -> Option<Reply> {
        loop {
            let reply = within(read(&mut self.stream, &mut self.ahead, method == "HEAD")).await?;
            if reply.status != 100 {
                return Some(reply);
            }
        }
    }

    /// The next reply, interim ones (1xx) too.
    pub(super) async fn interim(&mut self) -> Option<Reply> {
        within(read(&mut self.stream, &mut self.ahead, false)).await
    }

    /// Sends `bytes` and awaits a reply to them.
    pub(super) async fn ask(&mut self, bytes: impl AsRef<[u8]>) -> Option<Reply> {
        // An early answer may come although not all was taken.
        self.send(bytes).await;
        self.reply().await
    }

    /// Reads on until `text` has come; what came before it, none if the connection ends first.
    pub(super) async fn until(&mut self, text: &str) -> Option<String> {
        within(async {
            loop {
                if let Some(at) = self.ahead.windows(text.len()).position(|bytes| bytes == text.as_bytes()) {
                    let read: Vec<_> = self.ahead.drain(..at + text.len()).take(at).collect();
                    return Some(String::from_utf8_lossy(&read).into_owned());
                }
                more(&mut self.stream, &mut self.ahead).await?;
            }
        })
        .await
    }

    /// Whether the other end has closed, or closes in time, without a further byte.
    pub(super) async fn is_closed(&mut self) -> bool {
        self.ahead.is_empty() && matches!(within(self.stream.read(&mut [0; 1])).await, Ok(0) | Err(_))
    }
}

impl Reply {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The names of its headers, in lower case.
    pub(super) fn header_names(&self) -> impl Iterator<Item = &str> {
        self.headers.iter().map(|(name, _)| name.as_str())
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("no JSON: {} {}", self.status, String::from_utf8_lossy(&self.body)))
    }

    /// A text of the body; empty if it has none of this name.
    pub(super) fn text(&self, key: &str) -> String {
        self.json()[key].as_str().unwrap_or_default().to_owned()
    }

    /// Status and `error`, which is empty for a grant.
    pub(super) fn outcome(&self) -> (u16, String) {
        (self.status, if self.status < 400 { String::new() } else { self.text("error") })
    }

    pub(super) fn token(&self) -> String {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        self.text("access_token")
    }

    /// The record that the reply names.
    pub(super) fn decision(&self) -> Option<bursar::audit::DecisionId> {
        self.header("bursar-decision").map(|id| id.parse().unwrap_or_else(|_| panic!("`{id}` is no decision id")))
    }
}

/// One request on a connection of its own.
pub(super) async fn ask(socket: &Path, request: impl AsRef<[u8]>) -> Reply {
    Wire::to(socket).await.ask(request).await.unwrap_or_else(|| panic!("no reply at `{}`", socket.display()))
}

/// A request with `headers` (each line with its line end) and a body.
pub(super) fn request(method: &str, path: &str, headers: &str, body: &str) -> String {
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}{length}\r\n{body}")
}

/// The header of a form.
pub(super) const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";

/// A token request with `more` parameters in its form, as in `scope=a`.
pub(super) fn post(provider: &str, more: &str) -> String {
    let and = if more.is_empty() { "" } else { "&" };
    request("POST", &format!("/token/{provider}"), FORM, &format!("grant_type=client_credentials{and}{more}"))
}

/// A guarded GET.
pub(super) fn get(path: &str) -> String {
    request("GET", path, "Bursar: 1\r\n", "")
}

pub(super) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it takes too long")
}

/// Looks until `there` says something; `what` is said if it never does.
pub(super) async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut there: impl FnMut() -> F) -> T {
    let began = std::time::Instant::now();
    loop {
        if let Some(found) = there().await {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn read(stream: &mut (impl AsyncRead + Unpin), ahead: &mut Vec<u8>, bodiless: bool) -> Option<Reply> {
    let end = loop {
        match ahead.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            Some(end) => break end,
            None => more(stream, ahead).await?,
        }
    };
    let head = String::from_utf8(ahead.drain(..end + 4).collect()).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, n)| n.parse().unwrap());
    let length = if bodiless { 0 } else { length };
    while ahead.len() < length {
        more(stream, ahead).await?;
    }
    Some(Reply { status, headers, body: ahead.drain(..length).collect() })
}

async fn more(stream: &mut (impl AsyncRead + Unpin), ahead: &mut Vec<u8>) -> Option<()> {
    match stream.read_buf(ahead).await {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(()),
    }
}
