//! A provider's outage under load: 64 connections that ask all the time, while npm oidc-provider resets whoever asks it.
//!
//! One minute here, with tokens that live for twenty seconds. `tests/soak` runs the same for ten minutes:
//! `BURSAR_OUTAGE_SCALE` stretches every time of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use crate::peers::Oidc;
use crate::rig::{Agent, BASIC};

const CONNECTIONS: usize = 64;
/// What each of them rests between two requests: the log of a minute is a hundred megabytes as it is.
const PACE: Duration = Duration::from_millis(40);
const LIFETIME: u64 = 20;
/// The most requests upstream in an outage: a refresh backs off from one second to thirty, and is tried once; whoever waits
/// for a token has it tried three times.
const MOST_A_MINUTE: u64 = 3 * 10;

fn scale() -> u64 {
    std::env::var("BURSAR_OUTAGE_SCALE").map_or(1, |text| text.parse().unwrap())
}

/// So long, as `BURSAR_OUTAGE_SCALE` stretches it.
pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds * scale())
}

/// One answer: when it came, and for how long the token is still good.
#[derive(Clone, Copy, Debug)]
struct Answered {
    at: Instant,
    status: u16,
    stale: bool,
    good_until: Option<Instant>,
}

/// Asks over one connection until it is told to stop.
async fn keep_asking(socket: PathBuf, stop: Arc<AtomicBool>) -> Vec<Answered> {
    let body = "grant_type=client_credentials";
    let request = format!(
        "POST /token/stripe HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = UnixStream::connect(socket).await.unwrap();
    let mut all = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let sent = Instant::now();
        stream.write_all(request.as_bytes()).await.unwrap();
        let (status, body) = reply(&mut stream).await;
        let good_until = body["expires_in"].as_u64().map(|seconds| sent + Duration::from_secs(seconds));
        all.push(Answered { at: Instant::now(), status, stale: body["stale"] == true, good_until });
        tokio::time::sleep(PACE).await;
    }
    all
}

/// The next answer.
pub(crate) async fn reply(stream: &mut UnixStream) -> (u16, Value) {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_ascii_lowercase();
            let length: usize =
                head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
            if bytes.len() >= end + 4 + length {
                let status = head.split(' ').nth(1).unwrap().parse().unwrap();
                return (status, serde_json::from_slice(&bytes[end + 4..]).unwrap());
            }
        }
        assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0, "the agent closed the connection");
    }
}

/// An outage of `long`; how many requests came in it.
async fn outage(oidc: &Oidc, long: Duration) -> u64 {
    let before = oidc.requests().await;
    oidc.fault(&json!({ "reset": true })).await;
    tokio::time::sleep(long).await;
    let during = oidc.requests().await - before;
    oidc.fault(&Value::Null).await;
    during
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_under_load_costs_no_request_while_a_token_is_valid() {
    let lifetime: &'static str = Box::leak((LIFETIME * scale()).to_string().into_boxed_str());
    let oidc = Oidc::with_lifetime(lifetime);
    let entry = BASIC.entry("stripe", &oidc, "5s");
    let later = entry.replace("= 0.05", "= 0.4");
    assert_ne!(entry, later, "the refresh is set");
    let agent = Agent::start(&later);
    agent.put("stripe-client", BASIC.secret);
    let stop = Arc::new(AtomicBool::new(false));
    let mut load = JoinSet::new();
    for _ in 0..CONNECTIONS {
        load.spawn(keep_asking(agent.socket_of("checkout"), Arc::clone(&stop)));
    }
    // The refresh is due after 8 s. The first outage ends so long before the token that a refresh which backs off comes in
    // between; the second outlasts the token.
    tokio::time::sleep(seconds(6)).await;
    let short = outage(&oidc, seconds(5)).await;
    tokio::time::sleep(seconds(6)).await;
    let began = Instant::now();
    let long = outage(&oidc, seconds(28)).await;
    let (returned, before) = (Instant::now(), oidc.requests().await);
    tokio::time::sleep(seconds(12).max(Duration::from_secs(32))).await;
    let storm = oidc.requests().await - before;
    stop.store(true, Ordering::Relaxed);
    let mut all: Vec<_> = load.join_all().await.into_iter().flatten().collect();
    all.sort_by_key(|answered| answered.at);

    // Where a token was last handed out that is good until then, nobody is refused before; a second is what `expires_in`
    // rounds off.
    let mut good_until = all[0].at;
    let (mut refused, mut too_soon, mut stale) = (0, 0, 0);
    for answered in &all {
        good_until = good_until.max(answered.good_until.unwrap_or(good_until));
        stale += usize::from(answered.stale);
        if answered.status != 200 {
            assert_eq!(answered.status, 503, "{answered:?}");
            assert!(answered.at > began, "refused outside the long outage: {answered:?}");
            refused += 1;
            too_soon += usize::from(answered.at < good_until);
        }
    }
    let recovered = all.iter().find(|answered| answered.at > returned && answered.status == 200).unwrap().at - returned;
    println!(
        "{} requests, {refused} refused after the token had ended, {stale} stale; upstream: {short} in {:?}, {long} in \
         {:?}, {storm} after the return; recovered after {recovered:?}",
        all.len(),
        seconds(5),
        seconds(28)
    );
    assert_eq!(too_soon, 0, "refused while a token was valid");
    assert!(stale > 0 && refused > 0, "the outages were felt: {stale} stale, {refused} refused");
    let bound = |long: Duration| MOST_A_MINUTE * long.as_secs().div_ceil(60).max(1);
    assert!(short <= bound(seconds(5)) && long <= bound(seconds(28)), "{short} and {long} requests upstream");
    // One tick of the refresh, and the time of the request itself.
    assert!(recovered <= Duration::from_secs(31), "recovered after {recovered:?}");
    let refreshes =
        all.last().unwrap().at.duration_since(returned).as_secs() / (LIFETIME * scale() * 4 / 10 * 9 / 10).max(1);
    assert!(storm <= refreshes + 2, "{storm} requests after the return");
    let last = all.last().unwrap();
    assert_eq!((last.status, last.stale), (200, false));
}
