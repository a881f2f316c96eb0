//! Bad input: it gets the error of the table or no answer at all, and nobody else notices.

use std::time::{Duration, Instant};

use super::endpoint::{Act, grant};
use super::rig::Rig;
use super::wire::{FORM, Wire, ask, get, post, request};

const GRANT: &str = "grant_type=client_credentials";

/// How much the agent may grow while a test throws at it what it can, in KiB.
const GROWTH_KIB: u64 = 24 * 1024;

/// Whether the agent lives and serves.
async fn serves(rig: &mut Rig) -> bool {
    rig.agent().lives() && rig.token("checkout", "stripe", "").await.status == 200
}

#[tokio::test]
async fn what_is_no_http_ends_its_connection_and_nothing_else() {
    let mut rig = Rig::new().await;
    let noise: Vec<u8> = (0..40_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for bytes in [
        &noise[..],
        &[0; 40_000],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /healthz\r\n\r\n",
        b"GET /healthz HTTP/9.9\r\n\r\n",
        b"GET  /healthz HTTP/1.1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\na\0b: c\r\n\r\n",
        b"POST /token/stripe HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /token/stripe HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST /token/stripe HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\nab",
        b"G\xffT /\xff\xfe HTTP/1.1\r\n\r\n",
    ] {
        let mut wire = rig.wire("checkout").await;
        wire.send(bytes).await;
        wire.finish().await;
        if let Some(reply) = wire.reply().await {
            assert!(reply.status >= 400, "{:?} for {:?}", reply.status, String::from_utf8_lossy(bytes));
        }
    }
    assert!(serves(&mut rig).await);
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused_and_costs_little() {
    let mut rig = Rig::new().await;
    assert!(serves(&mut rig).await);
    let before = rig.resident_kib();
    let long = format!("GET /healthz HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(1 << 20));
    let many = format!("GET /healthz HTTP/1.1\r\n{}\r\n", "X: a\r\n".repeat(100_000));
    let path = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(1 << 20));
    let mut wires = Vec::new();
    for head in [&long, &many, &path].into_iter().cycle().take(60) {
        let mut wire = rig.wire("checkout").await;
        wire.send(head).await;
        let status = wire.reply().await.map(|reply| reply.status);
        assert!(matches!(status, None | Some(431 | 414 | 400)), "{status:?} for {head:.40}");
        wires.push(wire);
    }
    assert!(rig.resident_kib() < before + GROWTH_KIB, "{} after {before} KiB", rig.resident_kib());
    let headers = "X: a\r\n".repeat(65);
    assert_eq!(ask(&rig.socket("checkout"), request("GET", "/healthz", &headers, "")).await.status, 431);
    let headers = "X: a\r\n".repeat(60);
    assert_eq!(ask(&rig.socket("checkout"), request("GET", "/healthz", &headers, "")).await.status, 200);
    assert!(serves(&mut rig).await);
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused_as_soon_as_that_is_known() {
    let mut rig = Rig::new().await;
    let said = |headers: &str| format!("POST /token/stripe HTTP/1.1\r\n{FORM}{headers}\r\n");
    let long = "a=".to_owned() + &"b".repeat(17 * 1024);
    for asked in [
        request("POST", "/token/stripe", FORM, &long),
        said("Transfer-Encoding: chunked\r\n") + &format!("{:x}\r\n{long}\r\n0\r\n\r\n", long.len()),
        said("Content-Length: 1000000000000\r\n"),
        said("Content-Length: 20000\r\nExpect: 100-continue\r\n"),
    ] {
        let mut wire = rig.wire("checkout").await;
        wire.send(&asked).await;
        let first = wire.interim().await.unwrap();
        assert_eq!(first.outcome(), (413, "too_large".into()), "{asked:.120}");
    }
    assert!(serves(&mut rig).await);
}

#[tokio::test]
async fn a_body_in_chunks_and_one_that_waits_to_be_asked_for_are_read() {
    let rig = Rig::new().await;
    let head = format!("POST /token/stripe HTTP/1.1\r\n{FORM}");
    let (one, two) = GRANT.split_at(10);
    let chunked =
        format!("{head}Transfer-Encoding: chunked\r\n\r\na\r\n{one}\r\n{:x}\r\n{two}\r\n0\r\n\r\n", two.len());
    assert_eq!(ask(&rig.socket("checkout"), chunked).await.status, 200);
    let mut wire = rig.wire("checkout").await;
    wire.send(format!("{head}Content-Length: {}\r\nExpect: 100-continue\r\n\r\n", GRANT.len())).await;
    assert_eq!(wire.interim().await.unwrap().status, 100);
    assert_eq!(wire.ask(GRANT).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_malformed() {
    let mut rig = Rig::new().await;
    let mut wire = rig.wire("checkout").await;
    let head = format!("POST /token/stripe HTTP/1.1\r\n{FORM}Transfer-Encoding: chunked\r\n\r\n");
    let reply = wire.ask(head + "5\r\ngrant\r\nzz\r\n").await.unwrap();
    assert_eq!(reply.outcome(), (400, "invalid_request".into()));
    assert_eq!(rig.record(&reply).text("code"), Some("invalid_request"));
    assert!(serves(&mut rig).await);
}

#[tokio::test]
async fn a_malformed_form_is_refused_and_its_text_is_repeated_nowhere() {
    let rig = Rig::new().await;
    let bodies: [&[u8]; 6] = [
        b"grant_type=client_credentials&scope=canary%22",
        b"grant_type=canary",
        b"canary",
        b"grant_type=client_credentials&resource=canary%20canary",
        b"grant_type=client_credentials&client_secret=canary&scope=canary\xff",
        b"grant_type=client_credentials&scope=canary%00",
    ];
    for body in bodies {
        let mut asked =
            format!("POST /token/stripe HTTP/1.1\r\n{FORM}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
        asked.extend_from_slice(body);
        let reply = ask(&rig.socket("checkout"), asked).await;
        assert_eq!(reply.status, 400);
        assert!(!String::from_utf8_lossy(&reply.body).contains("canary"), "{}", reply.json());
    }
    assert!(rig.records().iter().all(|line| !line.as_str().contains("canary")));
}

#[tokio::test]
async fn a_path_that_names_nothing_gets_our_error() {
    let mut rig = Rig::new().await;
    let long = format!("/token/{}", "a".repeat(8 * 1024));
    for (path, status, error) in [
        ("/token/%ff", 403, "access_denied"),
        ("/token/%ff%fe?scope=a", 403, "access_denied"),
        ("/token/%00", 403, "access_denied"),
        ("/token/%zz", 403, "access_denied"),
        ("/token/stripe%2fx", 403, "access_denied"),
        ("/token/..%2fstripe", 403, "access_denied"),
        ("/token/STRIPE", 403, "access_denied"),
        (&long, 403, "access_denied"),
        ("/token/", 404, "not_found"),
        ("/token/stripe/", 404, "not_found"),
        ("//", 404, "not_found"),
        ("//token/stripe", 404, "not_found"),
        ("/./token/stripe", 404, "not_found"),
        ("http://example.com/", 404, "not_found"),
        ("*", 404, "not_found"),
    ] {
        for asked in [get(path), request("POST", path, FORM, GRANT)] {
            let reply = ask(&rig.socket("checkout"), asked).await;
            assert_eq!(reply.outcome(), (status, error.to_owned()), "{path:.40}");
            assert!(!reply.text("remedy").is_empty(), "{path:.40}");
        }
    }
    for path in ["/secrets/%ff", "/secrets/local/%ff", "/secrets/local/..", "/secrets/A%20B/c"] {
        let reply = rig.operate("PUT", path, "value").await;
        assert_eq!(reply.outcome(), (400, "invalid_request".into()), "{path}");
    }
    assert!(serves(&mut rig).await);
}

#[tokio::test]
async fn older_and_stranger_forms_of_http_are_served_or_closed() {
    let rig = Rig::new().await;
    let mut old = rig.wire("checkout").await;
    let reply = old.ask("GET /token/stripe HTTP/1.0\r\nBursar: 1\r\n\r\n").await.unwrap();
    assert_eq!(reply.status, 200);
    assert!(old.is_closed().await, "HTTP/1.0 has one request a connection");
    let mut close = rig.wire("checkout").await;
    assert_eq!(close.ask("GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n").await.unwrap().status, 200);
    assert!(close.is_closed().await);
    let connect = ask(&rig.socket("checkout"), "CONNECT example.com:80 HTTP/1.1\r\nHost: example.com:80\r\n\r\n").await;
    assert!(connect.status >= 400, "{}", connect.status);
    let upgrade = request("GET", "/healthz", "Connection: Upgrade\r\nUpgrade: h2c\r\n", "");
    assert_eq!(ask(&rig.socket("checkout"), upgrade).await.status, 200);
}

#[tokio::test]
async fn requests_that_come_all_at_once_are_answered_in_their_order() {
    let rig = Rig::new().await;
    let asked = [post("stripe", ""), get("/healthz"), post("crm", ""), get("/nowhere"), post("stripe", "")];
    let mut wire = rig.wire("checkout").await;
    wire.send(asked.concat().repeat(10)).await;
    for _ in 0..10 {
        for status in [200, 200, 403, 404, 200] {
            assert_eq!(wire.reply().await.unwrap().status, status);
        }
    }
    assert_eq!(rig.issued(), 1);
}

#[tokio::test]
async fn half_a_request_and_silence_cost_nobody_else_anything() {
    let mut rig = Rig::new().await;
    assert!(serves(&mut rig).await);
    let before = rig.resident_kib();
    let mut held: Vec<Wire> = Vec::new();
    for nth in 0..200 {
        let mut wire = rig.wire("checkout").await;
        let half: &[u8] = match nth % 4 {
            0 => b"",
            1 => b"GET /heal",
            2 => b"POST /token/stripe HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\n",
            _ => b"POST /token/stripe HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 99\r\n\r\ngrant",
        };
        wire.send(half).await;
        held.push(wire);
    }
    for _ in 0..20 {
        assert_eq!(rig.token("checkout", "stripe", "").await.status, 200);
    }
    assert!(rig.resident_kib() < before + GROWTH_KIB, "{} after {before} KiB", rig.resident_kib());
    let mut late = held.swap_remove(0);
    assert_eq!(late.ask(post("stripe", "")).await.unwrap().status, 200, "who was silent is served when it speaks");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_waited_for_no_longer_than_its_time() {
    let rig = Rig::new().await;
    let mut wire = rig.wire("checkout").await;
    let began = Instant::now();
    wire.send(format!("POST /token/stripe HTTP/1.1\r\n{FORM}Content-Length: 99\r\n\r\ngrant_type=")).await;
    let reply = wire.reply().await.unwrap();
    assert_eq!(reply.outcome(), (400, "invalid_request".into()));
    assert!(began.elapsed() >= Duration::from_secs(10), "it had its time");
    assert_eq!(rig.record(&reply).kind(), "refusal");
    assert!(wire.is_closed().await, "what would come is no request");
}

#[tokio::test]
async fn a_reader_that_does_not_read_holds_up_itself_alone() {
    let mut rig = Rig::new().await;
    let body = format!(r#"{{"access_token":"{}","token_type":"Bearer","expires_in":99}}"#, "t".repeat(8_000));
    rig.endpoint.plays(move |_| Act::Say(super::endpoint::json("200 OK", &body)));
    assert_eq!(rig.token("checkout", "odd", "").await.status, 200);
    let before = rig.resident_kib();
    let mut slow = Vec::new();
    for _ in 0..20 {
        let mut wire = rig.wire("checkout").await;
        let asked = post("odd", "").repeat(400);
        // 3 MB of answers: more than the kernel takes for a reader that does not read.
        let sending = tokio::spawn(async move {
            let _ = wire.send(asked).await;
            wire
        });
        slow.push(sending);
    }
    for _ in 0..50 {
        assert_eq!(rig.token("checkout", "stripe", "").await.status, 200);
    }
    assert!(rig.resident_kib() < before + GROWTH_KIB, "{} after {before} KiB", rig.resident_kib());
    let mut one = slow.swap_remove(0).await.unwrap();
    for nth in 0..400 {
        assert_eq!(one.reply().await.map(|reply| reply.status), Some(200), "the {nth}th");
    }
    slow.iter().for_each(tokio::task::JoinHandle::abort);
    assert!(rig.agent().lives());
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_take_the_flight_along() {
    let rig = Rig::new().await;
    rig.endpoint.plays(|asked| Act::Held(grant(asked.nth, 300)));
    let mut gone = rig.wire("checkout").await;
    gone.send(post("odd", "")).await;
    super::wire::eventually("the endpoint is asked", || async { (!rig.endpoint.asked().is_empty()).then_some(()) })
        .await;
    drop(gone);
    rig.endpoint.open_the_gate();
    assert_eq!(rig.token("checkout", "odd", "").await.token(), "token-0");
    assert_eq!(rig.endpoint.asked().len(), 1);
}

#[tokio::test]
async fn who_has_its_share_of_connections_is_told_so_and_others_are_served() {
    let rig = super::rig::Plan {
        tables: "[limits]\nconnections = 40\nconnections_per_uid = 12\n".to_owned(),
        ..super::rig::Plan::default()
    };
    let rig = rig.raise().await;
    let mut held = Vec::new();
    for _ in 0..12 {
        let mut wire = rig.wire("checkout").await;
        assert_eq!(wire.ask(get("/healthz")).await.unwrap().status, 200);
        held.push(wire);
    }
    let over = rig.wire("checkout").await.reply().await.unwrap();
    assert_eq!(over.outcome(), (429, "slow_down".into()));
    assert_eq!((over.header("retry-after"), over.header("cache-control")), (Some("1"), Some("no-store")));
    assert!(!over.text("remedy").is_empty());
    assert_eq!((over.text("type").as_str(), over.json()["status"].as_u64()), ("urn:bursar:error:slow_down", Some(429)));
    held.pop();
    super::wire::eventually("a share comes back", || async {
        let reply = ask(&rig.socket("checkout"), get("/healthz")).await;
        (reply.status == 200).then_some(())
    })
    .await;
}
