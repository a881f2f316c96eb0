//! The issuer on its bad days, seen over TCP as any client sees it: each fault, its switches and its counts.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bursar::access::Scopes;
use bursar::crypto::SystemRandom;
use bursar::dev::issuer::{Client, Issuer, Settings};
use bursar::time::{Clock, ManualClock, Moment};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// When the issuer's clock stands, in seconds since the epoch, and how long its tokens live.
const NOW: i64 = 1_795_240_800;
const LIFETIME: u64 = 300;

/// What came back: a whole answer, or how the connection ended.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }

    fn token(&self) -> String {
        self.json()["access_token"].as_str().unwrap_or_else(|| panic!("no token: {self:?}")).to_owned()
    }

    fn claims(&self) -> Value {
        let token = self.token();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
    }
}

async fn send(address: SocketAddr, request: &str) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await?;
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").ok_or(ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Ok(Answer { status, head: head.to_owned(), body: body.to_owned() })
}

fn request(method: &str, path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}")
}

struct Rig {
    issuer: Issuer,
    clock: Arc<ManualClock>,
}

impl Rig {
    /// An issuer on the day with these faults, one a line.
    async fn on(day: &str) -> Self {
        bursar::crypto::install();
        let moment = Moment { wall: bursar::time::Wall::from_micros(NOW * 1_000_000), ..ManualClock::default().now() };
        let clock = Arc::new(ManualClock::at(moment));
        let client = Client {
            secret: "s".into(),
            scopes: Scopes::parse("read write").unwrap(),
            lifetime: Duration::from_secs(LIFETIME),
        };
        let clients = BTreeMap::from([("app".to_owned(), client)]);
        let settings = Settings { clients, clock: Arc::<ManualClock>::clone(&clock), random: Arc::new(SystemRandom) };
        let issuer = Issuer::start(SocketAddr::from(([127, 0, 0, 1], 0)), settings).await.unwrap();
        issuer.begin(day.parse().unwrap()).unwrap();
        Self { issuer, clock }
    }

    async fn try_token(&self, scope: &str) -> std::io::Result<Answer> {
        let form = format!("grant_type=client_credentials&client_id=app&client_secret=s&scope={scope}");
        send(self.issuer.address(), &request("POST", "/token", "Host: x\r\n", &form)).await
    }

    async fn token(&self) -> Answer {
        self.try_token("read+write").await.unwrap()
    }

    /// A request for a token that comes to the issuer, and has no answer while others come and go.
    async fn goes_unanswered(&self) {
        let others = async {
            while self.issuer.requests().token == 0 {
                tokio::task::yield_now().await;
            }
            for _ in 0..3 {
                self.get("/jwks").await;
            }
        };
        let seen = async {
            tokio::select! {
                answer = self.try_token("read") => panic!("it answered: {answer:?}"),
                () = others => {}
            }
        };
        tokio::time::timeout(Duration::from_secs(30), seen).await.expect("the request never came");
    }

    async fn get(&self, path: &str) -> Answer {
        send(self.issuer.address(), &request("GET", path, "Host: x\r\n", "")).await.unwrap()
    }

    /// A request to a switch, by the issuer's own address and with the guard.
    async fn switch(&self, method: &str, path: &str, body: &str) -> Answer {
        let headers = format!("Host: {}\r\nBursar: 1\r\n", self.issuer.address());
        send(self.issuer.address(), &request(method, path, &headers, body)).await.unwrap()
    }

    /// `expires_in` as it is written on this day.
    async fn expires_in(day: &str) -> Option<String> {
        Self::on(day).await.token().await.json().get("expires_in").map(ToString::to_string)
    }
}

// ── something in the place of an answer

#[tokio::test]
async fn a_good_day_grants_what_is_asked() {
    let rig = Rig::on("").await;
    let answer = rig.token().await;
    let (said, claims) = (answer.json(), answer.claims());
    assert_eq!((said["scope"].as_str(), said["expires_in"].as_u64()), (Some("read write"), Some(LIFETIME)));
    assert_eq!((claims["iat"].as_i64(), claims["exp"].as_i64()), (Some(NOW), Some(NOW + 300)));
    assert_ne!(answer.token(), rig.token().await.token());
}

#[tokio::test]
async fn a_status_comes_with_or_without_retry_after() {
    for (day, status, wait) in [
        ("429=7", 429, Some("7")),
        ("429", 429, None),
        ("503=2", 503, Some("2")),
        ("503", 503, None),
        ("500", 500, None),
    ] {
        let answer = Rig::on(day).await.token().await;
        assert_eq!((answer.status, answer.header("retry-after")), (status, wait), "{day}");
        assert!(!answer.body.starts_with('{'), "a proxy says so, not an authorization server");
    }
}

#[tokio::test]
async fn reset_ends_the_connection_before_an_answer() {
    let error = Rig::on("reset").await.try_token("read").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn blackhole_takes_the_request_and_says_nothing() {
    let rig = Rig::on("blackhole,for=1").await;
    rig.goes_unanswered().await;
    assert_eq!(rig.token().await.status, 200, "the next one is answered");
}

#[tokio::test]
async fn html_and_empty_are_200_and_no_token() {
    let html = Rig::on("html").await.token().await;
    assert_eq!((html.status, html.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(html.body.starts_with("<!doctype html>"));
    let empty = Rig::on("empty").await.token().await;
    assert_eq!((empty.status, empty.body.as_str()), (200, ""));
}

#[tokio::test]
async fn who_follows_a_redirect_is_counted_where_it_leads() {
    let rig = Rig::on("redirect").await;
    let answer = rig.token().await;
    assert_eq!((answer.status, answer.header("location")), (307, Some(&*format!("{}/elsewhere", rig.issuer.url()))));
    assert_eq!(rig.issuer.requests().elsewhere, 0);
    let followed = send(rig.issuer.address(), &request("POST", "/elsewhere", "Host: x\r\n", "client_secret=s")).await;
    assert_eq!((followed.unwrap().status, rig.issuer.requests().elsewhere), (400, 1));
}

#[tokio::test]
async fn invalid_client_looks_like_a_wrong_secret() {
    let answer = Rig::on("invalid_client").await.token().await;
    assert_eq!((answer.status, answer.json()["error"].as_str()), (401, Some("invalid_client")));
    assert!(answer.header("www-authenticate").is_some());
}

#[tokio::test]
async fn slow_waits_and_then_answers_or_strikes() {
    let rig = Rig::on("slow=1h,for=1\n503").await;
    rig.goes_unanswered().await;
    assert_eq!(rig.issuer.requests().struck, BTreeMap::from([("503".into(), 1), ("slow".into(), 1)]));
    assert_eq!(rig.token().await.status, 503, "the next one is not slow");
    assert_eq!(Rig::on("slow=1ms").await.token().await.status, 200);
}

// ── a token, and something odd about it

#[tokio::test]
async fn expires_in_is_as_odd_as_it_is_told() {
    for (value, said) in [
        ("string", Some("\"300\"")),
        ("float", Some("300.5")),
        ("negative", Some("-1")),
        ("null", Some("null")),
        ("missing", None),
        ("huge", Some("18446744073709551615")),
        ("0", Some("0")),
        ("5", Some("5")),
    ] {
        assert_eq!(Rig::expires_in(&format!("expires_in={value}")).await.as_deref(), said, "{value}");
    }
}

#[tokio::test]
async fn the_same_token_comes_again_with_what_is_left_of_it() {
    let rig = Rig::on("same-token").await;
    let first = rig.token().await.token();
    rig.clock.advance(Duration::from_secs(100));
    let again = rig.token().await;
    assert_eq!((again.token(), again.json()["expires_in"].as_u64()), (first.clone(), Some(200)));
    assert_ne!(rig.try_token("read").await.unwrap().token(), first, "for another scope there is another");
    rig.clock.advance(Duration::from_secs(200));
    assert_ne!(rig.token().await.token(), first, "it has run out");
}

#[tokio::test]
async fn more_or_less_is_granted_than_was_asked() {
    let wider = Rig::on("wider-scope").await.token().await;
    assert_eq!(wider.json()["scope"], "read write simulator:wider");
    assert_eq!(wider.claims()["scope"], "read write simulator:wider");
    let rig = Rig::on("narrower-scope").await;
    assert_eq!(rig.token().await.json()["scope"], "read");
    assert_eq!(rig.try_token("read").await.unwrap().json()["scope"], "");
}

#[tokio::test]
async fn a_clock_that_is_off_moves_what_the_token_says_and_not_expires_in() {
    for (day, off) in [("clock=-5", -300), ("clock=+3", 180)] {
        let answer = Rig::on(day).await.token().await;
        let claims = answer.claims();
        assert_eq!((claims["iat"].as_i64(), claims["exp"].as_i64()), (Some(NOW + off), Some(NOW + off + 300)), "{day}");
        assert_eq!(answer.json()["expires_in"], LIFETIME);
    }
}

#[tokio::test]
async fn keys_roll_when_it_is_said_and_the_one_before_stays_listed() {
    let rig = Rig::on("").await;
    let signed_by = |answer: &Answer| {
        let head = URL_SAFE_NO_PAD.decode(answer.token().split('.').next().unwrap()).unwrap();
        serde_json::from_slice::<Value>(&head).unwrap()["kid"].clone()
    };
    let before = signed_by(&rig.token().await);
    assert_eq!(rig.switch("PUT", "/faults", "roll-keys").await.body, "[]", "it happens once, and is no state");
    let after = signed_by(&rig.token().await);
    let listed = rig.get("/jwks").await.json();
    assert_ne!(before, after);
    assert_eq!((&listed["keys"][0]["kid"], &listed["keys"][1]["kid"]), (&after, &before));
}

// ── how often, where, and the switches

#[tokio::test]
async fn a_fault_ends_by_itself() {
    let rig = Rig::on("503=1,for=2").await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(rig.token().await.status);
    }
    assert_eq!(statuses, [503, 503, 200, 200]);
}

#[tokio::test]
async fn metadata_and_keys_have_bad_days_of_their_own() {
    let rig = Rig::on("503,at=metadata\nhtml,at=keys").await;
    assert_eq!(rig.get("/.well-known/openid-configuration").await.status, 503);
    assert_eq!(rig.get("/.well-known/oauth-authorization-server").await.status, 503);
    assert!(rig.get("/jwks").await.body.starts_with("<!doctype"));
    assert_eq!(rig.token().await.status, 200);
    let all = Rig::on("500,at=all").await;
    assert_eq!((all.token().await.status, all.get("/jwks").await.status), (500, 500));
}

#[tokio::test]
async fn faults_are_switched_while_it_runs() {
    let rig = Rig::on("").await;
    assert_eq!(
        rig.switch("PUT", "/faults", "503=2\nslow=1ms,every=2").await.json(),
        serde_json::json!(["503=2", "slow=1ms,every=2"])
    );
    assert_eq!(rig.token().await.status, 503);
    let in_force = rig.switch("GET", "/faults", "").await.body;
    assert_eq!(rig.switch("PUT", "/faults", &in_force).await.body, in_force, "what it says can be said to it");
    assert_eq!(rig.switch("PUT", "/faults", "").await.body, "[]");
    assert_eq!(rig.token().await.status, 200);
}

#[tokio::test]
async fn a_day_that_is_none_changes_nothing_and_is_told_whole() {
    let rig = Rig::on("503").await;
    let answer = rig.switch("PUT", "/faults", "slwo=2s\nreset,for=0").await;
    let said = answer.json()["error_description"].as_str().unwrap().to_owned();
    assert_eq!(answer.status, 400);
    assert!(said.contains("`slwo=2s`") && said.contains("`slow=DURATION`") && said.contains("`for=0`"), "{said}");
    assert_eq!(rig.switch("GET", "/faults", "").await.body, r#"["503"]"#);
    assert_eq!(rig.issuer.address().ip().to_string(), "127.0.0.1");
}

#[tokio::test]
async fn a_browser_cannot_be_talked_into_a_switch() {
    let rig = Rig::on("503").await;
    let own = rig.issuer.address();
    for headers in [
        format!("Host: {own}\r\n"),
        format!("Host: {own}\r\nOrigin: http://evil.example\r\n"),
        format!("Host: evil.example:{}\r\nBursar: 1\r\n", own.port()),
        "Host: localhost\r\nBursar: 1\r\n".to_owned(),
        "Bursar: 1\r\n".to_owned(),
    ] {
        for (method, path) in [("PUT", "/faults"), ("GET", "/faults"), ("GET", "/requests")] {
            let answer = send(own, &request(method, path, &headers, "")).await.unwrap();
            assert_eq!(answer.status, 400, "{method} {path} {headers}");
            assert_eq!(answer.header("access-control-allow-origin"), None);
        }
    }
    let local = format!("Host: localhost:{}\r\nBursar: 1\r\n", own.port());
    assert_eq!(send(own, &request("GET", "/faults", &local, "")).await.unwrap().body, r#"["503"]"#);
}

#[tokio::test]
async fn requests_are_counted_by_kind() {
    let rig = Rig::on("503,for=1").await;
    rig.token().await;
    rig.token().await;
    rig.try_token("admin").await.unwrap();
    rig.get("/jwks").await;
    rig.get("/.well-known/openid-configuration").await;
    rig.get("/nothing").await;
    let counted = rig.switch("GET", "/requests", "").await.json();
    let expected = serde_json::json!({
        "token": 3, "metadata": 1, "keys": 1, "elsewhere": 0, "other": 1,
        "granted": 1, "refused": 1, "struck": { "503": 1 },
    });
    assert_eq!(counted, expected);
}

// ── the command

#[test]
fn the_command_takes_faults_and_names_all_where_one_is_none() {
    let issuer = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bursar"));
        command.args(["dev", "issuer"]).args(arguments).stdin(Stdio::null());
        command.output().unwrap()
    };
    for (arguments, said) in [
        (&["--fault", "slwo=2s"][..], "`blackhole`"),
        (&["--fault", "503", "--fault", "reset"], "`reset` never strikes"),
    ] {
        let output = issuer(arguments);
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains(said), "{output:?}");
    }
    let help = String::from_utf8(issuer(&["--help"]).stdout).unwrap();
    assert!(help.contains("expires_in=VALUE") && help.contains("every=N"), "{help}");
}
