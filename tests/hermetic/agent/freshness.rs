//! How fresh what is served is, and how often the provider is asked for it.

use std::time::{Duration, Instant};

use bursar::peer::Peer;
use bursar::peer::shares::Shares;
use futures_util::future::join_all;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::endpoint::{Act, Asked, grant, json};
use super::rig::{Plan, Rig, left_out};
use super::wire::{eventually, get, post};

/// A rig whose provider `odd` has these settings too.
async fn odd(settings: &str) -> Rig {
    let mut rig = Plan::default().lay().await;
    rig.reconfigure("[provider.odd]\n", &format!("[provider.odd]\n{settings}\n"));
    rig.start().await;
    rig
}

fn unavailable(more: &str) -> Act {
    Act::Say(json("503 Service Unavailable", "{}").replace("\r\n\r\n", &format!("\r\n{more}\r\n")))
}

/// The times between one request and the next.
fn gaps(asked: &[Asked]) -> Vec<Duration> {
    asked.windows(2).map(|pair| pair[1].at - pair[0].at).collect()
}

// ── single flight

/// As many as the descriptor limit carries on both sides, which are two processes.
fn readers() -> usize {
    const WANTED: usize = 5_000;
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    let (descriptors, outgoing) = (maximum.unwrap_or(u64::MAX), 6 * bursar::token::MOST_FLIGHTS);
    let carried = Shares::carried_by(descriptors, outgoing, Peer::DESCRIPTORS, WANTED, Some(WANTED)).connections;
    if carried < WANTED {
        left_out(&format!("{} of {WANTED} cold readers", WANTED - carried), "a higher hard limit of descriptors");
    }
    carried
}

#[tokio::test]
async fn five_thousand_cold_readers_make_one_request_and_are_all_answered() {
    let readers = readers();
    let limits = format!("[limits]\nconnections = {readers}\nconnections_per_uid = {readers}\n");
    let mut rig = Plan { tables: limits, ..Plan::default() }.lay().await;
    rig.reconfigure("timeout = \"8s\"", "timeout = \"30s\"");
    rig.start().await;
    rig.endpoint.plays(|asked| Act::Held(grant(asked.nth, 300)));
    let asking = (0..readers).map(|_| async {
        let mut wire = rig.wire("checkout").await;
        assert!(wire.send(post("odd", "")).await);
        wire
    });
    let mut wires = join_all(asking).await;
    rig.endpoint.open_the_gate();
    let tokens = join_all(wires.iter_mut().map(|wire| async { wire.reply().await.expect("an answer").token() })).await;
    assert!(tokens.iter().all(|token| token == "token-0"));
    assert_eq!((tokens.len(), rig.endpoint.asked().len()), (readers, 1));
    let mints = rig.records().iter().filter(|line| line.text("effect") == Some("mint")).count();
    assert_eq!((rig.records_of("release").len(), mints), (readers, 1));
}

#[tokio::test]
async fn a_token_without_a_lifetime_is_for_those_who_wait_and_is_not_kept() {
    let rig = Rig::new().await;
    rig.endpoint.plays(|asked| {
        Act::Held(json("200 OK", &format!(r#"{{"access_token":"token-{}","token_type":"bearer"}}"#, asked.nth)))
    });
    let mut wires = join_all((0..20).map(|_| rig.wire("checkout"))).await;
    for wire in &mut wires {
        wire.send(post("odd", "")).await;
    }
    eventually("all of them are in", || async {
        let held = rig.operate("GET", "/status", "").await;
        (held.status == 200 && !rig.endpoint.asked().is_empty()).then_some(())
    })
    .await;
    rig.endpoint.open_the_gate();
    let replies = join_all(wires.iter_mut().map(|wire| async { wire.reply().await.unwrap() })).await;
    assert!(replies.iter().all(|reply| reply.status == 200 && reply.json().get("expires_in").is_none()));
    let flights = rig.endpoint.asked().len();
    assert!(flights <= 2, "{flights} flights: only who came after the first had landed needs another");
    let next = rig.token("checkout", "odd", "").await.token();
    assert_eq!((next.as_str(), rig.endpoint.asked().len()), (format!("token-{flights}").as_str(), flights + 1));
}

#[tokio::test]
async fn an_answer_that_cannot_be_used_is_never_served() {
    let tables: String = (0..8)
        .map(|nth| {
            format!(
                "[provider.odd{nth}]\ntoken_endpoint = \"http://ENDPOINT/token\"\nclient_id = \"bursar\"\n\
                 client_secret = {{ store = \"local\", name = \"client\" }}\nscopes = [\"s{nth}\"]\n\
                 default_scopes = [\"s{nth}\"]\ntags = [\"lab\"]\n"
            )
        })
        .collect();
    let rig = Plan { tables, ..Plan::default() }.raise().await;
    let answers = [
        r#"{"access_token":"t","token_type":"Bearer","expires_in":0}"#,
        r#"{"access_token":"t","token_type":"Bearer","expires_in":-1}"#,
        r#"{"access_token":"t","token_type":"Bearer","expires_in":"soon"}"#,
        r#"{"access_token":"t","token_type":"mac","expires_in":60}"#,
        r#"{"access_token":"t","token_type":"Bearer","expires_in":60,"scope":"s5 admin"}"#,
        r#"{"access_token":"","token_type":"Bearer","expires_in":60}"#,
        r#"{"access_token":"t","token_type":"Bearer","expires_in":60"#,
    ];
    rig.endpoint.plays(move |asked| match answers.get(asked.nth) {
        Some(answer) => Act::Say(json("200 OK", answer)),
        None => Act::Close,
    });
    for (nth, answer) in answers.iter().enumerate() {
        let reply = rig.token("checkout", &format!("odd{nth}"), "").await;
        assert_eq!(reply.outcome(), (502, "provider_error".into()), "{answer}");
    }
    assert_eq!(rig.token("checkout", "odd7", "").await.outcome(), (503, "temporarily_unavailable".into()));
    eventually("each outcome is told", || async {
        let outcomes = rig.records_of("outcome");
        (outcomes.iter().filter(|line| line.text("result") == Some("failed")).count() == 8).then_some(())
    })
    .await;
}

// ── freshness

#[tokio::test]
async fn a_token_in_use_is_refreshed_ahead_and_nobody_waits_for_it() {
    let rig = odd("refresh_at = 0.05").await;
    rig.endpoint
        .plays(|asked| if asked.nth < 2 { Act::Say(grant(asked.nth, 20)) } else { Act::Held(grant(asked.nth, 20)) });
    assert_eq!(rig.token("checkout", "odd", "scope=write").await.token(), "token-0");
    assert_eq!(rig.token("checkout", "odd", "").await.token(), "token-1");
    assert_eq!(rig.token("checkout", "odd", "").await.token(), "token-1", "from here on it is in use");
    eventually("it is asked for anew", || async { (rig.endpoint.asked().len() == 3).then_some(()) }).await;
    let meanwhile = rig.token("checkout", "odd", "").await;
    assert_eq!((meanwhile.token().as_str(), meanwhile.json()["stale"].as_bool()), ("token-1", Some(false)));
    assert_eq!(rig.record(&meanwhile).text("freshness"), Some("ahead"));
    rig.endpoint.open_the_gate();
    eventually("the new one is served", || async {
        (rig.token("checkout", "odd", "").await.token() == "token-2").then_some(())
    })
    .await;
    let asked = rig.endpoint.asked();
    assert!(asked[1..].iter().all(|one| one.body.ends_with("scope=read")), "what nobody uses is not refreshed");
    let refresh = rig.records().into_iter().rfind(|line| line.kind() == "intent").unwrap();
    assert_eq!(refresh.text("actor"), Some("bursar"));
}

#[tokio::test]
async fn while_the_provider_fails_a_token_is_served_and_declared_and_never_past_its_expiry() {
    const LIFETIME: Duration = Duration::from_secs(5);
    let rig = odd("refresh_at = 0.1").await;
    rig.endpoint.plays(|asked| if asked.nth == 0 { Act::Say(grant(0, LIFETIME.as_secs())) } else { Act::Close });
    rig.token("checkout", "odd", "").await.token();
    let began = rig.endpoint.asked()[0].at;
    let mut wire = rig.wire("checkout").await;
    let (mut stale, mut refused) = (0, 0);
    // Asked as fast as one caller can, beyond the token's end.
    while refused == 0 || began.elapsed() < LIFETIME + Duration::from_millis(500) {
        let sent = Instant::now();
        let reply = wire.ask(get("/token/odd")).await.unwrap();
        let body = reply.json();
        if reply.status == 200 {
            assert!(sent < began + LIFETIME, "served {:?} after it was asked for", sent - began);
            assert!(refused == 0, "dead is dead");
            assert!(body["expires_in"].as_u64().unwrap() <= (began + LIFETIME - sent).as_secs());
            stale += usize::from(body["stale"] == true);
        } else {
            assert_eq!(reply.outcome(), (503, "temporarily_unavailable".into()));
            let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=60).contains(&wait));
            refused += 1;
        }
    }
    assert!(stale > 0, "it was declared");
    let asked = rig.endpoint.asked();
    assert!((3..=6).contains(&asked.len()), "{} requests in {LIFETIME:?}", asked.len());
    for (nth, gap) in gaps(&asked[1..]).into_iter().enumerate() {
        let least = Duration::from_millis(500) * 2_u32.pow(u32::try_from(nth).unwrap());
        assert!(gap >= least, "failure {nth} was tried again after {gap:?}, not {least:?}");
    }
    assert!(rig.records_of("release").iter().any(|line| line.text("freshness") == Some("stale")));
}

#[tokio::test]
async fn a_provider_that_asks_to_be_left_alone_is_left_alone() {
    let rig = Rig::new().await;
    rig.endpoint
        .plays(|asked| if asked.nth == 0 { unavailable("Retry-After: 2\r\n") } else { Act::Say(grant(1, 300)) });
    assert_eq!(rig.token("checkout", "odd", "").await.header("retry-after"), Some("2"));
    let mut wire = rig.wire("checkout").await;
    let mut refused = 0;
    while wire.ask(post("odd", "")).await.unwrap().status == 503 {
        refused += 1;
    }
    let asked = rig.endpoint.asked();
    assert!(refused > 10 && asked.len() == 2, "{refused} refused, {} asked", asked.len());
    assert!(gaps(&asked)[0] >= Duration::from_secs(2), "{:?}", gaps(&asked));
}

#[tokio::test]
async fn an_issuer_that_died_is_used_again_when_it_is_back() {
    let mut rig = Plan { lifetime: Duration::from_secs(20), ..Plan::default() }.lay().await;
    rig.reconfigure("[provider.crm]\n", "[provider.crm]\nrefresh_at = 0.05\n");
    rig.start().await;
    let first = rig.token("reports", "crm", "").await.token();
    rig.stop_issuer();
    eventually("the token is declared stale", || async {
        let reply = rig.token("reports", "crm", "").await;
        assert_eq!(reply.token(), first);
        (reply.json()["stale"] == true).then_some(())
    })
    .await;
    assert_eq!(rig.token("checkout", "stripe", "").await.outcome(), (503, "temporarily_unavailable".into()));
    rig.start_issuer().await;
    eventually("a new token is fetched", || async {
        let reply = rig.token("reports", "crm", "").await;
        (reply.token() != first && reply.json()["stale"] == false).then_some(())
    })
    .await;
}
