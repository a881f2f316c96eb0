//! The agent against npm oidc-provider over TLS: what comes out at the socket, what goes in upstream, what is on record.

use serde_json::{Value, json};

use crate::peers::Oidc;
use crate::rig::{Agent, Answer, BASIC, Registration, needs_root};

/// A lifetime in seconds that outlasts a test, and whose refresh is due three seconds after the token came.
const SHORT: &str = "60";

/// The token is good at the server, for exactly these scopes, and the answer says so.
pub(crate) async fn accepted(oidc: &Oidc, answer: &Answer, scopes: &str) {
    assert_eq!((answer.status, &answer.body["scope"]), (200, &json!(scopes)), "{answer:?}");
    let told = oidc.introspect(answer.token().as_bytes()).await;
    assert_eq!((&told["active"], &told["scope"]), (&json!(true), &json!(scopes)));
}

/// The answer is this error, has a record, and the record says the same.
pub(crate) fn refused(agent: &Agent, answer: &Answer, status: u16, code: &str) -> Value {
    assert_eq!((answer.status, &answer.body["error"]), (status, &json!(code)), "{answer:?}");
    let record = agent.record(answer);
    assert_eq!((&record["kind"], &record["code"]), (&json!("refusal"), &json!(code)));
    record
}

/// Nothing was alive and the provider is away: 503, when to ask again, a record of the refusal and of the attempt.
fn unavailable(agent: &Agent, answer: &Answer) {
    let record = refused(agent, answer, 503, "temporarily_unavailable");
    assert!(answer.retry_after().is_some(), "{answer:?}");
    assert_eq!((&record["who"], &record["verdict"]), (&json!("checkout"), &json!("permit")));
    let attempts = agent.attempts();
    assert_eq!(
        (attempts.len(), &attempts[0]["result"], &attempts[0]["code"]),
        (1, &json!("failed"), &json!("unavailable"))
    );
    assert_eq!(agent.records("release").len(), 0);
}

#[tokio::test]
async fn a_served_token_has_exactly_the_scopes_asked_for_with_each_client_authentication() {
    let oidc = Oidc::start();
    let registrations = [
        ("basic", BASIC),
        // Works only if id and secret are form-urlencoded before base64.
        ("weird", Registration { id: "ba:sic+weird", secret: "p%40ss w+rd:/&=?~", auth: "client_secret_basic" }),
        ("post", Registration { id: "post", secret: "post-secret", auth: "client_secret_post" }),
    ];
    let entries: String = registrations.iter().map(|(name, one)| one.entry(name, &oidc, "20s")).collect();
    let agent = Agent::start(&entries);
    for (name, registration) in &registrations {
        agent.put(&format!("{name}-client"), registration.secret);
        for scopes in ["charges:read", "charges:read charges:write"] {
            accepted(&oidc, &agent.ask("checkout", name, scopes), scopes).await;
        }
    }
    assert_eq!(oidc.requests().await, 6, "one request for each token");
}

#[tokio::test]
async fn a_token_is_fetched_once_and_served_again_with_a_record_for_each_answer() {
    let oidc = Oidc::start();
    let agent = Agent::for_stripe(&oidc);
    let answers = [(); 3].map(|()| agent.ask("checkout", "stripe", ""));
    assert!(answers.iter().all(|answer| answer.token() == answers[0].token()));
    assert_eq!(oidc.requests().await, 1);
    accepted(&oidc, &answers[2], "charges:read").await;

    let intent = &agent.records("intent")[0]["i"];
    let records = answers.map(|answer| agent.record(&answer));
    for record in &records {
        assert_eq!((&record["kind"], &record["intent"]), (&json!("release"), intent));
    }
    assert_eq!(agent.records("release"), records);
}

#[tokio::test]
async fn two_workloads_at_their_own_sockets_get_different_answers_both_on_record() {
    let oidc = Oidc::start();
    let agent = Agent::for_stripe(&oidc);
    let both = "charges:read charges:write";
    let (checkout, reports) = (agent.ask("checkout", "stripe", both), agent.ask("reports", "stripe", both));
    accepted(&oidc, &checkout, both).await;
    let record = agent.record(&checkout);
    assert_eq!((&record["who"], &record["facts"]), (&json!("checkout"), &json!({"listener": "checkout"})));
    let record = refused(&agent, &reports, 403, "access_denied");
    assert_eq!((&record["who"], &record["facts"]), (&json!("reports"), &json!({"listener": "reports"})));
    assert_eq!(oidc.requests().await, 1, "nothing is asked upstream for who may not have it");

    let narrower = agent.ask("reports", "stripe", "charges:read");
    accepted(&oidc, &narrower, "charges:read").await;
    assert_ne!(narrower.token(), checkout.token());
}

#[tokio::test]
async fn two_accounts_at_one_socket_get_different_answers_both_on_record() {
    if needs_root("two_accounts_at_one_socket_get_different_answers_both_on_record") {
        return;
    }
    let oidc = Oidc::start();
    let agent = Agent::for_stripe(&oidc);
    let both = "charges:read charges:write";
    let [billing, backup, nobody] = [61_001, 61_002, 61_003].map(|uid| agent.ask_as(uid, "stripe", both));
    accepted(&oidc, &billing, both).await;
    let record = agent.record(&billing);
    assert_eq!((&record["who"], &record["uid"]), (&json!("billing"), &json!(61_001)));
    let record = refused(&agent, &backup, 403, "access_denied");
    assert_eq!((&record["who"], &record["uid"]), (&json!("backup"), &json!(61_002)));
    let record = refused(&agent, &nobody, 403, "unidentified");
    assert_eq!((&record["who"], &record["uid"]), (&Value::Null, &json!(61_003)));
}

#[tokio::test]
async fn a_503_without_a_token_is_handed_on_for_as_long_as_the_server_says() {
    let oidc = Oidc::start();
    let agent = Agent::for_stripe(&oidc);
    oidc.fault(&json!({"status": 503, "headers": {"retry-after": "500"}})).await;
    let answer = agent.ask("checkout", "stripe", "charges:read");
    unavailable(&agent, &answer);
    assert!((400..=500).contains(&answer.retry_after().unwrap()), "{answer:?}");
    // Until then the server is left alone, and the answer is the same.
    unavailable(&agent, &agent.ask("checkout", "stripe", "charges:read"));
    assert_eq!(oidc.requests().await, 1);
}

#[tokio::test]
async fn a_reset_and_a_slow_answer_without_a_token_are_a_503_too() {
    // Who waits has a reset tried again; a slow answer has used up the time for that.
    for (fault, requests) in [(json!({"reset": true}), 3), (json!({"delay_ms": 600_000}), 1)] {
        let oidc = Oidc::start();
        let agent = Agent::for_hasty_stripe(&oidc, "3s");
        oidc.fault(&fault).await;
        unavailable(&agent, &agent.ask("checkout", "stripe", "charges:read"));
        assert_eq!(oidc.requests().await, requests, "{fault}");
    }
}

async fn served_through(fault: &Value) {
    let oidc = Oidc::with_lifetime(SHORT);
    let agent = Agent::for_hasty_stripe(&oidc, "3s");
    let first = agent.ask("checkout", "stripe", "charges:read");
    oidc.fault(fault).await;
    let stale = agent.ask_until("checkout", |answer| answer.body["stale"] == true).await;
    assert_eq!(stale.token(), first.token());
    accepted(&oidc, &stale, "charges:read").await;
    assert_eq!(agent.record(&stale)["freshness"], "stale");
    assert_eq!(agent.attempts().last().unwrap()["code"], "unavailable");
    assert_eq!(oidc.requests().await, agent.attempts().len() as u64, "each request upstream is on record");
}

#[tokio::test]
async fn a_token_that_is_alive_is_served_through_a_503_and_declared_stale() {
    served_through(&json!({"status": 503, "headers": {"retry-after": "500"}})).await;
}

#[tokio::test]
async fn a_token_that_is_alive_is_served_through_resets_and_declared_stale() {
    served_through(&json!({"reset": true})).await;
}

#[tokio::test]
async fn a_token_that_is_alive_is_served_through_slow_answers_and_declared_stale() {
    served_through(&json!({"delay_ms": 600_000})).await;
}

#[tokio::test]
async fn a_server_that_went_and_came_back_is_used_again() {
    let mut oidc = Oidc::with_lifetime(SHORT);
    let agent = Agent::for_stripe(&oidc);
    oidc.stop();
    unavailable(&agent, &agent.ask("checkout", "stripe", "charges:read"));
    oidc.start_again();
    let first = agent.ask_until("checkout", |answer| answer.status == 200).await;
    accepted(&oidc, &first, "charges:read").await;

    oidc.stop();
    let stale = agent.ask_until("checkout", |answer| answer.body["stale"] == true).await;
    assert_eq!((stale.status, stale.token()), (200, first.token()));
    oidc.start_again();
    let fresh = agent.ask_until("checkout", |answer| answer.token() != first.token()).await;
    assert_eq!(fresh.body["stale"], false);
    accepted(&oidc, &fresh, "charges:read").await;
}

#[tokio::test]
async fn a_wrong_secret_is_told_to_the_operator_and_mended_by_putting_the_right_one() {
    let oidc = Oidc::start();
    let agent = Agent::for_stripe(&oidc);
    agent.put("stripe-client", "not-it");
    let answer = agent.ask("checkout", "stripe", "charges:read");
    refused(&agent, &answer, 502, "provider_error");
    assert_eq!(answer.body["provider_error"], "invalid_client");
    assert!(agent.attempts()[0]["detail"].as_str().unwrap().contains("check `client_id`"));
    agent.put("stripe-client", BASIC.secret);
    accepted(&oidc, &agent.ask_until("checkout", |answer| answer.status == 200).await, "charges:read").await;
}
