//! A provider's bad day: another endpoint, a rest, a budget; and callers who want a longer life, or another token.

use super::endpoint::{Act, Endpoint, grant, json};
use super::rig::{Plan, Rig};
use super::wire::{FORM, Reply, get, request};

/// An answer without a lifetime: each who asks makes a request.
fn once(nth: usize) -> String {
    json("200 OK", &format!(r#"{{"access_token":"token-{nth}","token_type":"Bearer"}}"#))
}

/// A rig whose provider `odd` has `settings` too, with `tables` beside it.
async fn odd(settings: &str, tables: &str) -> Rig {
    let mut plan = Plan { tables: tables.to_owned(), ..Plan::default() };
    let lab = "@id(\"lab-for-two\")\npermit (principal, action in [Action::\"token\", Action::\"reject\"], resource in Tag::\"lab\");\n";
    plan.policies.insert("more.cedar".to_owned(), lab.to_owned());
    let mut rig = plan.lay().await;
    rig.reconfigure("[provider.odd]\n", &format!("[provider.odd]\n{settings}\n"));
    rig.start().await;
    rig
}

/// The provider `odd` at two endpoints, the second of which is given back.
async fn two() -> (Rig, Endpoint) {
    let other = Endpoint::start().await;
    let tables = "[limits]\nmints_per_workload = \"off\"\n".to_owned();
    let mut rig = Plan { tables, ..Plan::default() }.lay().await;
    let first = format!("\"http://{}/token\"", rig.endpoint.address);
    rig.reconfigure(&first, &format!("[{first}, \"http://{}/token\"]", other.address));
    rig.start().await;
    other.plays(|asked| Act::Say(once(asked.nth)));
    (rig, other)
}

async fn reject(rig: &Rig, workload: &str, provider: &str, token: &str) -> Reply {
    let form = format!("provider={provider}&token={token}");
    super::wire::ask(&rig.socket(workload), request("POST", "/reject", FORM, &form)).await
}

fn seconds(reply: &Reply) -> u64 {
    reply.header("retry-after").unwrap().parse().unwrap()
}

// ── endpoints

#[tokio::test]
async fn the_next_endpoint_is_asked_at_once_and_the_first_again_when_it_is_well() {
    let (rig, other) = two().await;
    rig.endpoint.plays(|asked| if asked.nth < 3 { Act::Close } else { Act::Say(grant(asked.nth, 300)) });
    for nth in 0..3 {
        assert_eq!(rig.token("checkout", "odd", "").await.token(), format!("token-{nth}"), "from the second");
    }
    assert_eq!((rig.endpoint.asked().len(), other.asked().len()), (3, 3), "the first was tried each time");
    assert_eq!(rig.token("checkout", "odd", "").await.token(), "token-3");
    assert_eq!(rig.endpoint.asked().len(), 3, "three failures in a row have tripped its breaker");
    super::wire::eventually("the first is probed", || async {
        let reply = rig.token("checkout", "odd", "").await;
        (rig.endpoint.asked().len() == 4 && reply.json()["expires_in"].is_number()).then_some(())
    })
    .await;
    let others = other.asked().len();
    assert_eq!(rig.token("checkout", "odd", "scope=write").await.token(), "token-4");
    assert_eq!((rig.endpoint.asked().len(), other.asked().len()), (5, others), "and is the first again");
}

#[tokio::test]
async fn a_fault_that_passes_is_not_seen_by_who_waits() {
    let rig = odd("", "").await;
    rig.endpoint.plays(|asked| match asked.nth {
        0 => Act::Say(json("503 Service Unavailable", "{}")),
        1 => Act::Close,
        _ => Act::Say(grant(asked.nth, 300)),
    });
    assert_eq!(rig.token("checkout", "odd", "").await.token(), "token-2");
    let mints = rig.records_of("intent").into_iter().filter(|line| line.text("effect") == Some("mint"));
    assert_eq!((rig.endpoint.asked().len(), mints.count()), (3, 1), "one intent stands for all attempts");
}

#[tokio::test]
async fn when_to_come_back_is_honoured_for_every_key() {
    let rig = odd("", "").await;
    let throttled = json("429 Too Many Requests", "{}").replace("\r\n\r\n", "\r\nRetry-After: 40\r\n\r\n");
    rig.endpoint.plays(move |_| Act::Say(throttled.clone()));
    for scope in ["read", "write", "read+write"] {
        let reply = rig.token("checkout", "odd", &format!("scope={scope}")).await;
        assert_eq!(reply.outcome(), (503, "temporarily_unavailable".into()));
        assert!((38..=40).contains(&seconds(&reply)), "{}", seconds(&reply));
    }
    assert_eq!(rig.endpoint.asked().len(), 1);
    let unready = super::wire::ask(&rig.socket("checkout"), get("/readyz/odd")).await;
    assert_eq!((unready.status, unready.text("status").as_str()), (503, "unready"));
    assert!(unready.text("reason").contains("asked again in"), "{}", unready.text("reason"));
}

#[tokio::test]
async fn a_provider_that_does_not_know_us_is_asked_once_for_all_keys_until_the_secret_changes() {
    let rig = odd("", "").await;
    let unknown = json("401 Unauthorized", r#"{"error":"invalid_client"}"#);
    rig.endpoint.plays(move |asked| Act::Say(if asked.nth == 0 { unknown.clone() } else { grant(asked.nth, 300) }));
    for scope in ["read", "write", "read+write"] {
        let reply = rig.token("checkout", "odd", &format!("scope={scope}")).await;
        assert_eq!(
            (reply.outcome(), reply.text("provider_error")),
            ((502, "provider_error".into()), "invalid_client".into())
        );
    }
    assert_eq!(rig.endpoint.asked().len(), 1);
    assert!(rig.put_by_command("local/client", "a-new-secret").await.status.success());
    assert_eq!(rig.token("checkout", "odd", "").await.token(), "token-1");
}

#[tokio::test]
async fn a_reload_forgives_what_may_have_been_mended_in_a_file() {
    let rig = odd("", "").await;
    let throttled = json("429 Too Many Requests", "{}").replace("\r\n\r\n", "\r\nRetry-After: 400\r\n\r\n");
    rig.endpoint.plays(move |asked| Act::Say(if asked.nth == 0 { throttled.clone() } else { grant(asked.nth, 300) }));
    assert_eq!(rig.token("checkout", "odd", "").await.status, 503);
    assert_eq!(rig.token("checkout", "odd", "").await.status, 503);
    assert_eq!(rig.operate("POST", "/reload", "").await.status, 200);
    assert_eq!(rig.token("checkout", "odd", "").await.token(), "token-1");
}

// ── limits

#[tokio::test]
async fn a_provider_gets_no_more_requests_than_its_budget() {
    let rig = odd("budget = \"3/m\"", "").await;
    rig.endpoint.plays(|asked| Act::Say(once(asked.nth)));
    for _ in 0..3 {
        assert_eq!(rig.token("checkout", "odd", "").await.status, 200);
    }
    let reply = rig.token("checkout", "odd", "").await;
    assert_eq!(reply.outcome(), (429, "slow_down".into()));
    assert!((15..=20).contains(&seconds(&reply)) && reply.text("error_description").contains("budget"));
    assert_eq!(rig.endpoint.asked().len(), 3);
}

#[tokio::test]
async fn one_workload_does_not_use_up_the_requests_of_another() {
    let rig = odd("", "[limits]\nmints_per_workload = \"2/m\"\nper_workload = \"6/m\"\n").await;
    rig.endpoint.plays(|asked| Act::Say(once(asked.nth)));
    for _ in 0..2 {
        assert_eq!(rig.token("checkout", "odd", "").await.status, 200);
    }
    let reply = rig.token("checkout", "odd", "").await;
    assert_eq!(reply.outcome(), (429, "slow_down".into()));
    assert!(reply.text("error_description").contains("mints_per_workload"));
    assert_eq!(rig.token("reports", "odd", "").await.status, 200);
    assert_eq!(rig.endpoint.asked().len(), 3);
    assert_eq!(rig.token("checkout", "stripe", "").await.outcome(), (429, "slow_down".into()), "whatever the provider");
    for _ in 0..2 {
        rig.token("checkout", "odd", "").await;
    }
    let seventh = rig.token("checkout", "odd", "").await;
    assert!(seventh.text("error_description").contains("`limits.per_workload`"), "{seventh:?}");
    assert_eq!(rig.record(&seventh).text("code"), Some("slow_down"));
    assert_eq!(rig.token("reports", "odd", "").await.status, 200);
}

#[tokio::test]
async fn of_a_shared_token_one_workload_without_requests_left_holds_nobody_back() {
    let rig = odd("share = \"host\"", "[limits]\nmints_per_workload = \"1/m\"\n").await;
    assert_eq!(rig.token("checkout", "odd", "scope=write").await.status, 200, "its one request");
    let reply = rig.token("checkout", "odd", "").await;
    assert!(reply.text("error_description").contains("mints_per_workload"), "{reply:?}");
    assert_eq!(rig.token("reports", "odd", "").await.token(), "token-1", "the other has its own");
    assert_eq!(reject(&rig, "checkout", "odd", "token-1").await.text("outcome"), "known");
    assert_eq!(rig.token("checkout", "odd", "").await.token(), "token-1", "what is held costs nothing");
}

#[tokio::test]
async fn what_never_reached_the_provider_is_charged_to_nobody() {
    let rig = odd("", "[limits]\nmints_per_workload = \"2/m\"\n").await;
    let throttled = json("429 Too Many Requests", "{}").replace("\r\n\r\n", "\r\nRetry-After: 40\r\n\r\n");
    rig.endpoint.plays(move |_| Act::Say(throttled.clone()));
    for scope in ["read", "write", "read+write"] {
        let reply = rig.token("checkout", "odd", &format!("scope={scope}")).await;
        assert_eq!(reply.outcome(), (503, "temporarily_unavailable".into()));
    }
    assert_eq!(rig.token("checkout", "stripe", "").await.status, 200, "of two requests it has made one");
}

// ── callers

#[tokio::test]
async fn who_demands_a_longer_life_than_there_is_hears_so_and_costs_one_request() {
    let rig = odd("", "").await;
    assert_eq!(rig.token("checkout", "odd", "min_ttl=299").await.token(), "token-0");
    for _ in 0..3 {
        let reply = rig.token("checkout", "odd", "min_ttl=301").await;
        assert_eq!(reply.outcome(), (400, "invalid_request".into()));
        assert!(reply.text("error_description").contains("300 s"), "{reply:?}");
    }
    assert_eq!(rig.token("checkout", "odd", "").await.token(), "token-0");
    assert_eq!(rig.endpoint.asked().len(), 1);
}

#[tokio::test]
async fn a_token_that_an_api_refused_is_replaced_once_and_declared_if_it_comes_again() {
    let rig = odd("", "").await;
    rig.endpoint.plays(|asked| Act::Say(grant(asked.nth.min(1), 300)));
    let first = rig.token("checkout", "odd", "").await.token();
    let rejected = reject(&rig, "checkout", "odd", &first).await;
    assert_eq!((rejected.status, rejected.text("outcome").as_str()), (200, "refreshed"));
    assert_eq!(
        (rig.record(&rejected).text("action"), rig.record(&rejected).text("detail")),
        (Some("reject"), Some("refreshed"))
    );
    let second = rig.token("checkout", "odd", "").await;
    assert_eq!((second.token().as_str(), second.json()["rejected"].as_bool()), ("token-1", None));
    assert_eq!(reject(&rig, "checkout", "odd", &first).await.text("outcome"), "unknown", "it is gone");
    assert_eq!(reject(&rig, "reports", "odd", "token-1").await.text("outcome"), "unknown", "it is another's");
    assert_eq!(reject(&rig, "checkout", "odd", "token-1").await.text("outcome"), "known", "one was forced just before");
    let again = rig.token("checkout", "odd", "").await;
    assert_eq!((again.token().as_str(), again.json()["rejected"].as_bool()), ("token-1", Some(true)));
    assert_eq!(rig.endpoint.asked().len(), 2);
    assert_eq!(reject(&rig, "reports", "stripe", "token").await.outcome(), (403, "access_denied".into()));
    assert_eq!(reject(&rig, "checkout", "odd", "").await.outcome(), (400, "invalid_request".into()));
}

#[tokio::test]
async fn a_token_that_stands_for_different_scopes_is_replaced_for_each() {
    let rig = odd("", "").await;
    rig.endpoint.plays(|asked| Act::Say(grant(asked.nth / 2, 300)));
    for scope in ["read", "write"] {
        assert_eq!(rig.token("checkout", "odd", &format!("scope={scope}")).await.token(), "token-0");
    }
    assert_eq!(reject(&rig, "checkout", "odd", "token-0").await.text("outcome"), "refreshed");
    for scope in ["read", "write"] {
        assert_eq!(rig.token("checkout", "odd", &format!("scope={scope}")).await.token(), "token-1", "{scope}");
    }
}

#[tokio::test]
async fn who_may_have_a_providers_tokens_may_know_whether_there_are_any() {
    let rig = odd("refresh_at = 0.05", "").await;
    let ready = super::wire::ask(&rig.socket("checkout"), get("/readyz/odd")).await;
    assert_eq!((ready.status, ready.text("status").as_str()), (200, "ready"));
    for (workload, path) in [("reports", "/readyz/stripe"), ("checkout", "/readyz/nothing"), ("bursar", "/readyz/odd")]
    {
        let reply = super::wire::ask(&rig.socket(workload), get(path)).await;
        assert_eq!(reply.status, 403, "{workload} {path}");
    }
    let unguarded = super::wire::ask(&rig.socket("checkout"), request("GET", "/readyz/odd", "", "")).await;
    assert_eq!(unguarded.outcome(), (400, "invalid_request".into()));
    rig.endpoint.plays(|asked| if asked.nth == 0 { Act::Say(grant(0, 60)) } else { Act::Close });
    rig.token("checkout", "odd", "").await;
    for _ in 0..4 {
        rig.token("checkout", "odd", "scope=write").await;
    }
    let stale = super::wire::ask(&rig.socket("checkout"), get("/readyz/odd")).await;
    assert_eq!((stale.status, stale.text("status").as_str()), (200, "stale"));
    let without = super::wire::ask(&rig.socket("reports"), get("/readyz/odd")).await;
    assert_eq!((without.status, without.text("status").as_str()), (503, "unready"), "it has none");
    assert_eq!(rig.token("checkout", "odd", "").await.token(), "token-0");
}
