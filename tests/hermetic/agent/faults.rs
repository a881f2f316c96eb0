//! Every fault of a provider in every state of a token: what the caller gets, how often the provider is asked, and what
//! is recorded.
//!
//! The endpoint is ours, since no real server makes these faults when it is told to; what a real one does with a token is
//! in `tests/real`.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use futures_util::future::join_all;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::endpoint::{Act, Asked, grant, json};
use super::rig::{Plan, Rig};
use super::wire::{Reply, eventually};

const FAULTS: [&str; 11] =
    ["503", "429", "reset", "slow", "blackhole", "tls", "html", "empty", "redirect", "wrong-scope", "restart"];
const STATES: [&str; 4] = ["cold", "warm", "ahead", "stale"];

/// What a cell has to come to.
struct Wanted {
    outcome: (u16, &'static str),
    stale: bool,
    upstream: RangeInclusive<usize>,
}

fn wanted(fault: &str, state: &str) -> Wanted {
    let served = |stale, upstream| Wanted { outcome: (200, ""), stale, upstream };
    let refused = |outcome, upstream| Wanted { outcome, stale: false, upstream };
    match (state, fault) {
        // While somebody waits, what may pass is tried again; what was refused, and what said when, is not.
        ("cold", "503" | "reset" | "tls") => refused((503, "temporarily_unavailable"), 3..=3),
        ("cold", "429" | "blackhole") => refused((503, "temporarily_unavailable"), 1..=1),
        ("cold", "html" | "empty" | "redirect" | "wrong-scope") => refused((502, "provider_error"), 1..=1),
        ("cold", "slow") => served(false, 1..=1),
        ("cold", "restart") => served(false, 2..=2),
        ("warm", _) => served(false, 1..=1),
        // Nobody waits for a refresh: it is tried once, and again after a rest that doubles.
        ("ahead", "slow") | ("stale", "slow") => served(false, 2..=2),
        ("ahead", _) => served(false, 2..=2),
        ("stale", _) => served(true, 2..=3),
        (state, fault) => panic!("{fault} × {state} is not told"),
    }
}

/// How the endpoint answers the `nth` request for `fault`.
fn answer(fault: &str, nth: usize) -> Act {
    match fault {
        "503" => Act::Say(json("503 Service Unavailable", "{}")),
        "429" => Act::Say(json("429 Too Many Requests", "{}").replace("\r\n\r\n", "\r\nRetry-After: 2\r\n\r\n")),
        "reset" => Act::Reset,
        "slow" => Act::After(Duration::from_millis(500), grant(nth, 600)),
        "blackhole" => Act::Held(String::new()),
        "html" => Act::Say(json("200 OK", "<html>maintenance</html>").replace("application/json", "text/html")),
        "empty" => Act::Say(json("200 OK", "")),
        "redirect" => {
            Act::Say(json("307 Temporary Redirect", "").replace("\r\n\r\n", "\r\nLocation: /elsewhere\r\n\r\n"))
        }
        "wrong-scope" => Act::Say(json(
            "200 OK",
            r#"{"access_token":"t","token_type":"Bearer","expires_in":60,"scope":"read admin"}"#,
        )),
        "restart" => Act::Close,
        other => panic!("{other} is no fault"),
    }
}

/// The script: the path of each request says its cell; the faults begin with the first request or the second.
fn script() -> impl Fn(&Asked) -> Act + Send + Sync {
    let counts: Mutex<HashMap<String, usize>> = Mutex::default();
    move |asked| {
        let path = asked.head.split(' ').nth(1).unwrap().to_owned();
        let (fault, state) = path[1..].split_once('/').unwrap();
        let nth = {
            let mut counts = counts.lock().unwrap();
            let count = counts.entry(path.clone()).or_default();
            *count += 1;
            *count - 1
        };
        let first_fault = usize::from(state != "cold");
        let over = fault == "restart" && nth > first_fault;
        // Of the row `tls` the fault is before the first byte of HTTP.
        if nth < first_fault || over || fault == "tls" {
            return Act::Say(grant(nth, if state == "warm" { 600 } else { 20 }));
        }
        answer(fault, nth)
    }
}

/// Takes TLS off in front of an endpoint, until it is broken.
struct Terminator {
    address: SocketAddr,
    pem: String,
    broken: Arc<AtomicBool>,
    accepted: Arc<AtomicUsize>,
}

impl Terminator {
    fn start(endpoint: SocketAddr) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        let config = Arc::new(config.with_no_client_auth().with_single_cert(chain, der).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, pem) = (listener.local_addr().unwrap(), certificate.pem());
        let (broken, accepted) = <(Arc<AtomicBool>, Arc<AtomicUsize>)>::default();
        let (breaks, counts) = (Arc::clone(&broken), Arc::clone(&accepted));
        thread::spawn(move || {
            for mut tcp in listener.incoming().map_while(Result::ok) {
                counts.fetch_add(1, Ordering::SeqCst);
                if breaks.load(Ordering::SeqCst) {
                    let _ = tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
                    continue;
                }
                let config = Arc::clone(&config);
                thread::spawn(move || forward(tcp, config, endpoint));
            }
        });
        Self { address, pem, broken, accepted }
    }
}

fn forward(tcp: TcpStream, config: Arc<ServerConfig>, endpoint: SocketAddr) {
    let mut tls = StreamOwned::new(ServerConnection::new(config).unwrap(), tcp);
    let (mut request, mut some) = (Vec::new(), [0; 4_096]);
    let whole = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains("grant_type");
    while !whole(&request) {
        match tls.read(&mut some) {
            Ok(0) | Err(_) => return,
            Ok(read) => request.extend_from_slice(&some[..read]),
        }
    }
    let mut plain = TcpStream::connect(endpoint).unwrap();
    plain.write_all(&request).unwrap();
    let mut reply = Vec::new();
    plain.read_to_end(&mut reply).unwrap();
    let _ = tls.write_all(&reply);
    tls.conn.send_close_notify();
    let _ = tls.flush();
}

/// One cell.
struct Cell<'a> {
    rig: &'a Rig,
    fault: &'static str,
    state: &'static str,
    tls: Option<&'a Terminator>,
}

/// What came of it.
struct Came {
    reply: Reply,
    upstream: usize,
    record: String,
}

impl Cell<'_> {
    fn provider(&self) -> String {
        format!("{}-{}", self.fault, self.state)
    }

    async fn ask(&self) -> Reply {
        self.rig.token("checkout", &self.provider(), "").await
    }

    fn upstream(&self) -> usize {
        let path = format!(" /{}/{} ", self.fault, self.state);
        let asked = self.rig.endpoint.asked().iter().filter(|asked| asked.head.contains(&path)).count();
        self.tls.map_or(asked, |tls| tls.accepted.load(Ordering::SeqCst))
    }

    async fn run(self) -> Came {
        let breaks = || self.tls.iter().for_each(|tls| tls.broken.store(true, Ordering::SeqCst));
        if self.state == "cold" {
            breaks();
            return self.came(self.ask().await);
        }
        assert_eq!(self.ask().await.status, 200, "{}", self.provider());
        breaks();
        if self.state == "warm" {
            return self.came(self.ask().await);
        }
        // Past the refresh point, which jitter puts at 0.9 s to 1 s; no look before that makes it one in use.
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        let ahead = self.ask().await;
        if self.state == "stale" {
            // The refresh that this has launched ends, well or not.
            let ended = |reply: &Reply| match self.fault {
                "slow" => self.upstream() > 1,
                _ => reply.json()["stale"] == true,
            };
            let stale = async || Some(self.ask().await).filter(ended);
            return self.came(eventually("stale", stale).await);
        }
        eventually("the refresh is under way", || async { (self.upstream() > 1).then_some(()) }).await;
        self.came(ahead)
    }

    fn came(&self, reply: Reply) -> Came {
        let record = self.rig.record(&reply);
        let about = record.text("freshness").or(record.text("code")).unwrap_or_default().to_owned();
        Came { upstream: self.upstream(), record: format!("{} {about}", record.kind()), reply }
    }
}

fn tables(terminators: &HashMap<&str, Terminator>, folder: &std::path::Path) -> String {
    let mut tables = "[limits]\nmints_per_workload = \"off\"\n".to_owned();
    for fault in FAULTS {
        for state in STATES {
            let (refresh_at, mut scheme, mut more) =
                (if state == "warm" { "0.9" } else { "0.05" }, "http://ENDPOINT".to_owned(), String::new());
            if let Some(tls) = terminators.get(state).filter(|_| fault == "tls") {
                let file = folder.join(format!("{state}.pem"));
                std::fs::write(&file, &tls.pem).unwrap();
                scheme = format!("https://{}", tls.address);
                more = format!("ca_file = {file:?}\n");
            }
            write!(
                tables,
                "[provider.{fault}-{state}]\ntoken_endpoint = \"{scheme}/{fault}/{state}\"\nclient_id = \"bursar\"\n\
                 client_secret = {{ store = \"local\", name = \"client\" }}\nscopes = [\"read\"]\n\
                 default_scopes = [\"read\"]\ntags = [\"lab\"]\nconnect_timeout = \"1s\"\ntimeout = \"1s\"\n\
                 refresh_at = {refresh_at}\n{more}"
            )
            .unwrap();
        }
    }
    tables
}

#[tokio::test]
async fn every_fault_in_every_state_of_a_token() {
    let endpoint = super::endpoint::Endpoint::start().await;
    let terminators: HashMap<_, _> =
        STATES.into_iter().map(|state| (state, Terminator::start(endpoint.address))).collect();
    let folder = crate::private_folder();
    let tables = tables(&terminators, folder.path()).replace("ENDPOINT", &endpoint.address.to_string());
    let mut rig = Plan { tables, ..Plan::default() }.raise().await;
    rig.endpoint = endpoint;
    rig.endpoint.plays(script());

    let rig = &rig;
    let cells = FAULTS.into_iter().flat_map(|fault| STATES.map(|state| (fault, state)));
    let cells: Vec<_> = cells.collect();
    let tls = |fault, state| terminators.get(state).filter(|_| fault == "tls");
    let run = |nth: usize, &(fault, state): &(&'static str, &'static str)| {
        let cell = Cell { rig, fault, state, tls: tls(fault, state) };
        // So that each refusal has a record of its own: beyond five a second they are counted.
        let wait = if state == "cold" {
            Duration::from_millis(350) * u32::try_from(nth / STATES.len()).unwrap()
        } else {
            Duration::ZERO
        };
        async move {
            tokio::time::sleep(wait).await;
            cell.run().await
        }
    };
    let came = join_all(cells.iter().enumerate().map(|(nth, cell)| run(nth, cell))).await;

    let (mut table, mut wrong) = (String::new(), Vec::new());
    for ((fault, state), came) in cells.iter().zip(&came) {
        let wanted = wanted(fault, state);
        let (status, error) = came.reply.outcome();
        let stale = came.reply.json()["stale"] == true;
        let (upstream, record) = (came.upstream, &came.record);
        writeln!(table, "{fault:12} {state:6} {status} {error:24} stale {stale:5}  upstream {upstream}  {record}")
            .unwrap();
        let holds =
            (status, error.as_str()) == wanted.outcome && stale == wanted.stale && wanted.upstream.contains(&upstream);
        let recorded =
            if status == 200 { record.starts_with("release") } else { *record == format!("refusal {error}") };
        if !holds || !recorded {
            wrong.push(format!("{fault} × {state}"));
        }
    }
    println!("{table}");
    assert!(wrong.is_empty(), "{wrong:?}\n{table}");
}
