//! A server that answers with prepared bytes: it serves only for faults that a real one cannot be made to show.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bursar::access::Scopes;
use bursar::crypto::SystemRandom;
use bursar::oauth::assertion::Signing;
use bursar::oauth::client_auth::ClientAuth;
use bursar::oauth::http::Endpoint;
use bursar::oauth::settings::{AudienceParameter, EndpointUrl, Rules, Server, Settings};
use bursar::oauth::tls::{OwnRoots, Roots, Tls};
use bursar::oauth::{Ask, Credential, Material, NoCredential};
use bursar::secret::Secret;
use bursar::time::ManualClock;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

/// What the fake does with one connection once the request has come.
pub(crate) enum Reply {
    /// Sends these bytes and closes.
    Bytes(Vec<u8>),
    /// Sends these bytes, then closes with a reset.
    Reset(Vec<u8>),
    /// Sends this byte for ever, until nobody reads any more.
    Endless(Vec<u8>),
    /// Says nothing, and keeps the connection.
    Silence,
}

/// The reply with these three parts.
pub(crate) fn reply(status: &str, headers: &str, body: &str) -> Reply {
    let length = body.len();
    Reply::Bytes(
        format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}")
            .into_bytes(),
    )
}

/// A good token answer.
pub(crate) fn token() -> Reply {
    reply(
        "200 OK",
        "content-type: application/json\r\n",
        r#"{"access_token":"t","token_type":"Bearer","expires_in":60}"#,
    )
}

pub(crate) struct Fake {
    address: SocketAddr,
    requests: Receiver<String>,
}

impl Fake {
    /// Answers one connection with each reply, in turn, and then no more.
    pub(crate) fn answering(replies: impl IntoIterator<Item = Reply>) -> Self {
        Self::naming_itself("", |_| replies.into_iter().collect())
    }

    /// The same, for replies that hold the fake's own URL with `path`.
    pub(crate) fn naming_itself(path: &str, replies: impl FnOnce(&str) -> Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let replies = replies(&format!("http://{address}{path}"));
        let (heard, requests) = mpsc::channel();
        thread::spawn(move || serve(&listener, replies, &heard));
        Self { address, requests }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.try_iter().collect()
    }
}

fn serve(listener: &TcpListener, replies: Vec<Reply>, heard: &Sender<String>) {
    let mut kept = Vec::new();
    for reply in replies {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = heard.send(request(&mut stream));
        match reply {
            Reply::Bytes(bytes) => {
                let _ = stream.write_all(&bytes);
                let _ = stream.shutdown(Shutdown::Write);
            }
            Reply::Reset(bytes) => {
                let _ = stream.write_all(&bytes);
                rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
            }
            Reply::Endless(bytes) => while stream.write_all(&bytes).is_ok() {},
            Reply::Silence => kept.push(stream),
        }
    }
    while !kept.is_empty() {
        thread::park();
    }
}

/// Reads one request whole, or the first bytes of a TLS handshake.
fn request(stream: &mut TcpStream) -> String {
    let (mut all, mut some) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&all).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .to_lowercase()
                .split("content-length: ")
                .nth(1)
                .map(|rest| rest.lines().next().unwrap().parse().unwrap());
            if body.len() >= length.unwrap_or(0) {
                return text;
            }
        }
        match stream.read(&mut some) {
            Ok(0) | Err(_) => return text,
            Ok(_) if some[0] == 0x16 => return text,
            Ok(count) => all.extend_from_slice(&some[..count]),
        }
    }
}

/// A credential that stands in memory.
pub(crate) struct Fixed(pub(crate) &'static str);

impl Credential for Fixed {
    fn current(&self) -> BoxFuture<'_, Result<Material, NoCredential>> {
        async { Ok(Secret::new(self.0.into()).into()) }.boxed()
    }
}

pub(crate) fn settings(url: &str) -> Settings {
    Settings {
        server: Server::Endpoint(url.parse::<EndpointUrl>().unwrap()),
        client_id: Some("ba:sic+weird".parse().unwrap()),
        client_auth: ClientAuth::ClientSecretBasic,
        signing: Signing::default(),
        revocation_endpoint: None,
        audience_as: AudienceParameter::Resource,
        rules: Rules::default(),
        roots: Roots::Own(some_roots()),
        connect_timeout: Duration::from_secs(5),
        timeout: Duration::from_secs(5),
    }
}

/// Roots that vouch for nobody here.
fn some_roots() -> OwnRoots {
    static ROOTS: Mutex<Option<OwnRoots>> = Mutex::new(None);
    let make = || rcgen::generate_simple_self_signed(["nobody.test".to_owned()]).unwrap().cert.pem();
    ROOTS.lock().unwrap().get_or_insert_with(|| OwnRoots::from_pem(make().as_bytes()).unwrap()).clone()
}

pub(crate) fn endpoint(settings: Settings) -> Endpoint {
    with(settings, Arc::new(Fixed("p%40ss w+rd:/&=?~")))
}

pub(crate) fn with(settings: Settings, credential: Arc<dyn Credential>) -> Endpoint {
    let clock = Arc::new(ManualClock::default());
    Endpoint::new(settings, credential, clock, Arc::new(SystemRandom), &Tls::default()).unwrap()
}

pub(crate) fn ask(scopes: &str, audience: &[&str]) -> Ask {
    Ask {
        scopes: Scopes::parse(scopes).unwrap(),
        audience: audience.iter().map(|word| word.parse().unwrap()).collect(),
    }
}
