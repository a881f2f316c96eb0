//! What is answered to whom: the main path, and every row of the error table that can be provoked.

use serde_json::{Value, json};

use super::endpoint::{Act, json as answer};
use super::rig::Rig;
use super::wire::{FORM, Reply, ask, eventually, get, post, request};

/// The body of an error as far as it depends on nothing but the rule: without the decision.
fn without_decision(mut body: Value) -> Value {
    body.as_object_mut().unwrap().remove("decision");
    body
}

// ── the main path

#[tokio::test]
async fn a_workload_gets_a_token_with_exactly_the_scopes_it_asked_for_and_the_record_says_so() {
    let rig = Rig::new().await;
    let reply = rig.token("checkout", "stripe", "scope=charges:write+charges:read").await;
    let body = reply.json();
    assert_eq!(reply.status, 200, "{body}");
    assert_eq!((&body["token_type"], &body["scope"]), (&json!("Bearer"), &json!("charges:read charges:write")));
    assert_eq!(body["stale"], false);
    assert!((200..=300).contains(&body["expires_in"].as_u64().unwrap()), "{body}");
    assert!(body["age"].as_u64().unwrap() < 100);
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    let record = rig.record(&reply);
    assert_eq!(
        (record.kind(), record.text("who"), record.text("resource")),
        ("release", Some("checkout"), Some("stripe"))
    );
    assert_eq!(record.get("scopes"), Some(&json!(["charges:read", "charges:write"])));
    assert!(!record.as_str().contains(&reply.token()), "a record holds no token");
    let intent = record.number("intent").unwrap();
    let kinds: Vec<_> = rig.records().iter().map(|line| line.kind().to_owned()).collect();
    assert_eq!(kinds[usize::try_from(intent).unwrap()..], ["intent", "outcome", "release"]);
}

#[tokio::test]
async fn a_token_is_fetched_once_for_each_workload_scope_set_and_audience() {
    let rig = Rig::new().await;
    let first = rig.token("checkout", "stripe", "scope=charges:read").await.token();
    assert_eq!(rig.token("checkout", "stripe", "").await.token(), first, "no scope means `default_scopes`");
    assert_eq!(rig.token("checkout", "stripe", "scope=").await.token(), first, "and so does an empty one");
    assert_eq!(rig.issued(), 1);
    let wider = rig.token("checkout", "stripe", "scope=charges:read+charges:write").await.token();
    let narrower = rig.token("checkout", "stripe", "scope=charges:write").await.token();
    let elsewhere = rig.token("checkout", "stripe", "resource=https://api.example.com").await.token();
    assert_eq!(rig.issued(), 4, "a wider token never answers a narrower request");
    let mut all = vec![first, wider, narrower, elsewhere];
    all.dedup();
    assert_eq!(all.len(), 4);
    let by_other_word = rig.token("checkout", "stripe", "audience=https://api.example.com").await;
    assert_eq!(by_other_word.token(), all[3], "both words mean the same");
}

#[tokio::test]
async fn what_is_judged_is_what_is_sent() {
    let rig = Rig::new().await;
    rig.endpoint.plays(|_| Act::Say(answer("200 OK", r#"{"access_token":"t","token_type":"Bearer","expires_in":9}"#)));
    let reply = rig.token("checkout", "odd", "scope=write+read&scopes=x&client_id=me&client_secret=mine").await;
    assert_eq!(reply.status, 200);
    let sent = rig.endpoint.asked().remove(0);
    assert_eq!(sent.body, "grant_type=client_credentials&scope=read+write");
    assert!(!sent.head.contains("mine"));
    assert_eq!(rig.record(&reply).get("scopes"), Some(&json!(["read", "write"])));
    let both = rig.token("checkout", "stripe", "").await;
    assert_eq!(
        rig.record(&both).get("audience"),
        Some(&json!(["https://api.example.com", "https://files.example.com"])),
        "a request without resource asks for all of them"
    );
}

#[tokio::test]
async fn every_way_to_ask_gives_the_same_token() {
    let rig = Rig::new().await;
    let first = rig.token("checkout", "stripe", "").await.token();
    let form = "grant_type=client_credentials&provider=stripe&scope=charges%3Aread";
    let client = "Authorization: Basic YTpi\r\nContent-Type: application/x-www-form-urlencoded;charset=UTF-8\r\n";
    let forwarded = format!("{FORM}Bursar: 1\r\nX-Forwarded-For: 10.0.0.1\r\nVia: 1.1 a\r\nOrigin: null\r\n");
    for asked in [
        request("POST", "/token", FORM, form),
        request("POST", "/token/stripe", client, "grant_type=client_credentials&client_id=a&client_secret=b"),
        request("POST", "/token/stripe", &forwarded, "grant_type=client_credentials"),
        request("POST", "/token/%73tripe", FORM, "grant_type=client_credentials"),
        request("POST", "http://localhost/token/stripe", FORM, "grant_type=client_credentials"),
        get("/token/stripe?scope=charges:read"),
        get("/token/stripe?grant_type=client_credentials&scope=&unknown=1"),
        get("/token/stripe"),
    ] {
        assert_eq!(ask(&rig.socket("checkout"), &asked).await.token(), first, "{asked}");
    }
    assert_eq!(rig.issued(), 1);
}

#[tokio::test]
async fn a_connection_serves_one_request_after_the_other() {
    let rig = Rig::new().await;
    let mut wire = rig.wire("checkout").await;
    let first = wire.ask(post("stripe", "")).await.unwrap().token();
    assert_eq!(wire.ask(post("crm", "")).await.unwrap().outcome(), (403, "access_denied".into()));
    assert_eq!(wire.ask(get("/token/stripe")).await.unwrap().token(), first);
}

// ── who may know what

#[tokio::test]
async fn a_provider_that_is_unknown_and_one_that_is_not_permitted_look_alike() {
    let rig = Rig::new().await;
    let not_permitted = rig.token("reports", "stripe", "").await;
    let unknown = rig.token("reports", "no-such-thing", "").await;
    let no_name = rig.token("reports", "NO%20NAME", "").await;
    let not_listed = rig.token("reports", "stripe", "scope=no:such").await;
    let other_target = rig.token("reports", "stripe", "resource=urn:no:such").await;
    let expected = without_decision(not_permitted.json());
    assert_eq!(expected["error"], "access_denied");
    for (reply, what) in
        [(unknown, "unknown"), (no_name, "no name"), (not_listed, "scope not listed"), (other_target, "target")]
    {
        assert_eq!(reply.status, 403, "{what}");
        assert_eq!(without_decision(reply.json()), expected, "{what}");
        let record = rig.record(&reply);
        assert_eq!((record.kind(), record.text("code")), ("refusal", Some("access_denied")), "{what}");
        assert!(!record.as_str().contains("no-such-thing"), "a name that does not exist is not recorded");
    }
    assert_eq!(rig.issued(), 0);
}

#[tokio::test]
async fn a_wider_scope_is_refused_by_policy_and_the_provider_hears_nothing() {
    let rig = Rig::new().await;
    let reply = rig.token("checkout", "stripe", "scope=charges:read+refunds:write").await;
    assert_eq!(reply.outcome(), (403, "access_denied".into()));
    let record = rig.record(&reply);
    assert_eq!((record.text("verdict"), record.text("who")), (Some("no_permit"), Some("checkout")));
    assert_eq!(rig.issued(), 0);
}

#[tokio::test]
async fn what_the_entry_does_not_list_is_told_to_whom_has_some_permit_on_it() {
    let rig = Rig::new().await;
    for (more, error, named) in [
        ("scope=charges:read+charges:all", "invalid_scope", "`charges:all`"),
        ("resource=https://api.example.com&resource=urn:other", "invalid_target", "`urn:other`"),
    ] {
        let reply = rig.token("checkout", "stripe", more).await;
        assert_eq!(reply.outcome(), (400, error.into()), "{more}");
        assert!(reply.text("error_description").contains(named), "{more}: {}", reply.text("error_description"));
    }
    let reply = rig.token("checkout", "bare", "").await;
    assert_eq!(reply.outcome(), (400, "invalid_scope".into()), "an empty set is never sent to a provider with scopes");
    assert_eq!(rig.token("checkout", "bare", "scope=read").await.status, 200);
}

#[tokio::test]
async fn whoami_tells_a_peer_of_itself_alone() {
    let rig = Rig::new().await;
    let reply = ask(&rig.socket("reports"), get("/whoami")).await;
    assert_eq!((reply.text("workload"), &reply.json()["providers"]), ("reports".into(), &json!(["crm"])));
    assert_eq!(reply.json()["seen"]["listener"], "reports");
    let stranger = ask(&rig.socket("bursar"), get("/whoami")).await;
    assert_eq!((&stranger.json()["workload"], &stranger.json()["providers"]), (&Value::Null, &json!([])));
    assert!(!String::from_utf8_lossy(&stranger.body).contains("checkout"));
}

// ── the error table

#[tokio::test]
async fn every_row_of_the_error_table_has_its_status_its_remedy_and_its_record() {
    let rig = Rig::new().await;
    rig.endpoint
        .plays(|_| Act::Say(answer("503 Service Unavailable", "{}").replace("\r\n\r\n", "\r\nRetry-After: 7\r\n\r\n")));
    let form = |body: &str| request("POST", "/token/stripe", FORM, body);
    let grant = "grant_type=client_credentials";
    let unguarded = request("GET", "/token/stripe", "", "");
    let marked = |header: &str| request("POST", "/token/stripe", &format!("{FORM}{header}: x\r\n"), grant);
    let rows = [
        ("checkout", form("scope=charges:read"), 400, "invalid_request"),
        ("checkout", form(&format!("{grant}&{grant}")), 400, "invalid_request"),
        ("checkout", form(&format!("{grant}&scope=a&scope=b")), 400, "invalid_request"),
        ("checkout", form(&format!("{grant}&min_ttl=soon")), 400, "invalid_request"),
        ("checkout", form(&format!("{grant}{}", "&a=1".repeat(64))), 400, "invalid_request"),
        ("checkout", request("POST", "/token", FORM, grant), 400, "invalid_request"),
        ("checkout", request("POST", "/token/stripe", "", grant), 400, "invalid_request"),
        (
            "checkout",
            request("POST", "/token/stripe", "Content-Type: application/json\r\n", "{}"),
            400,
            "invalid_request",
        ),
        ("checkout", unguarded, 400, "invalid_request"),
        ("checkout", request("GET", "/whoami", "", ""), 400, "invalid_request"),
        ("checkout", request("GET", "/token/stripe", "Bursar: 2\r\n", ""), 400, "invalid_request"),
        ("checkout", marked("Origin"), 400, "invalid_request"),
        ("checkout", marked("Referer"), 400, "invalid_request"),
        ("checkout", marked("Via"), 400, "invalid_request"),
        ("checkout", marked("Forwarded"), 400, "invalid_request"),
        ("checkout", marked("X-Forwarded-Host"), 400, "invalid_request"),
        ("checkout", form(&format!("{grant}&scope=%22")), 400, "invalid_scope"),
        ("checkout", form(&format!("{grant}&resource=a+b")), 400, "invalid_target"),
        ("checkout", form("grant_type=password&username=a&password=b"), 400, "unsupported_grant_type"),
        ("checkout", get("/token/stripe?grant_type=refresh_token"), 400, "unsupported_grant_type"),
        ("bursar", post("stripe", ""), 403, "unidentified"),
        ("bursar", post("no-such-thing", ""), 403, "unidentified"),
        ("bursar", form("nonsense"), 403, "unidentified"),
        ("reports", post("stripe", ""), 403, "access_denied"),
        ("checkout", post("wrong", ""), 502, "provider_error"),
        ("checkout", post("odd", ""), 503, "temporarily_unavailable"),
        ("checkout", post("missing", ""), 503, "temporarily_unavailable"),
    ];
    for (nth, (workload, asked, status, error)) in rows.iter().enumerate() {
        // So that no row is merely counted: five a second are written singly.
        let reply = singly(&rig, workload, asked, nth).await;
        assert_eq!(reply.outcome(), (*status, (*error).to_owned()), "{asked}");
        let body = reply.json();
        assert_eq!(body["type"], format!("urn:bursar:error:{error}"), "{asked}");
        assert_eq!((&body["status"], &body["detail"]), (&json!(status), &body["error_description"]), "{asked}");
        assert!(!reply.text("remedy").is_empty() && !reply.text("title").is_empty(), "{asked}");
        assert_eq!(reply.header("bursar-decision"), body["decision"].as_str(), "{asked}");
        assert_eq!(reply.header("cache-control"), Some("no-store"), "{asked}");
        let record = rig.record(&reply);
        assert_eq!((record.kind(), record.text("code")), ("refusal", Some(*error)), "{asked}");
        assert_eq!(reply.header("retry-after").is_some(), *status == 503, "{asked}");
        if *status == 400 {
            assert_eq!(record.text("detail"), Some(reply.text("error_description").as_str()), "{asked}");
        }
    }
    let asked = ask(&rig.socket("checkout"), post("odd", "")).await;
    let wait: u64 = asked.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=7).contains(&wait), "the provider's own Retry-After is passed on: {wait}");
    assert_eq!(ask(&rig.socket("checkout"), post("wrong", "")).await.text("provider_error"), "invalid_client");
}

#[tokio::test]
async fn a_credential_that_is_missing_is_said_to_be_and_the_record_names_it() {
    let rig = Rig::new().await;
    let reply = ask(&rig.socket("checkout"), post("missing", "")).await;
    assert_eq!(reply.outcome(), (503, "temporarily_unavailable".into()));
    assert!(reply.text("error_description").contains("credential for this provider is missing"), "{}", reply.json());
    let body = String::from_utf8_lossy(&reply.body).into_owned();
    assert!(!body.contains("local") && !body.contains("reached"), "{body}");
    let named =
        "the credential `local/missing` is missing: an operator has to put it there, `bursar secret put local/missing`";
    let record = rig.record(&reply);
    assert!(record.text("detail").unwrap().contains(named), "{record:?}");
    assert_eq!(rig.records_of("outcome").last().unwrap().text("detail"), Some(named));
}

#[tokio::test]
async fn the_command_says_in_seconds_when_to_try_again() {
    let rig = Rig::new().await;
    rig.endpoint
        .plays(|_| Act::Say(answer("503 Service Unavailable", "{}").replace("\r\n\r\n", "\r\nRetry-After: 7\r\n\r\n")));
    let socket = rig.socket("checkout");
    let asked = ["--socket", socket.to_str().unwrap(), "token", "odd"];
    let plain = rig.run(&asked).await;
    let said = String::from_utf8_lossy(&plain.stderr).into_owned();
    assert_eq!(plain.status.code(), Some(4), "{said}");
    let seconds = (1..=7).any(|seconds| said.contains(&format!("help: try again in {seconds} s\n")));
    assert!(seconds && !said.contains("Retry-After"), "{said}");
    let json = rig.run(&[&asked[..], &["--json"]].concat()).await;
    let said: Value = serde_json::from_slice(&json.stderr).unwrap();
    assert!((1..=7).contains(&said["retry_after"].as_u64().unwrap()), "{said}");
}

/// A reply whose refusal is written singly: a sixth one of the same second would be counted under another.
async fn singly(rig: &Rig, workload: &str, asked: &str, nth: usize) -> Reply {
    if nth % 5 == 4 {
        let size = rig.records().len();
        // The counts of a second are written when it has ended: make some, and wait for them.
        for _ in 0..6 {
            ask(&rig.socket("reports"), post("stripe", "")).await;
        }
        eventually("the second has ended", || async {
            rig.records().iter().skip(size).any(|line| line.text("whose") == Some("uid")).then_some(())
        })
        .await;
    }
    ask(&rig.socket(workload), asked).await
}

#[tokio::test]
async fn what_has_no_record_names_none() {
    let rig = Rig::new().await;
    let long = format!("grant_type=client_credentials&scope={}", "x".repeat(17 * 1024));
    for (asked, status, error) in [
        (get("/"), 404, "not_found"),
        (get("/secret/a/b"), 404, "not_found"),
        (get("/token/a/b"), 404, "not_found"),
        (get("/token"), 405, "method_not_allowed"),
        (request("PUT", "/token/stripe", "Bursar: 1\r\n", "x"), 405, "method_not_allowed"),
        (request("OPTIONS", "/token/stripe", "", ""), 405, "method_not_allowed"),
        (request("POST", "/whoami", "Bursar: 1\r\n", ""), 405, "method_not_allowed"),
        (request("POST", "/token/stripe", FORM, &long), 413, "too_large"),
    ] {
        let reply = ask(&rig.socket("checkout"), &asked).await;
        assert_eq!(reply.outcome(), (status, error.to_owned()), "{asked:.60}");
        assert!(!reply.text("remedy").is_empty(), "{asked:.60}");
        assert_eq!((reply.decision(), reply.json().get("decision")), (None, None), "{asked:.60}");
    }
    assert!(rig.records_of("refusal").is_empty());
}

#[tokio::test]
async fn head_is_a_get_without_its_body_and_health_needs_no_guard() {
    let rig = Rig::new().await;
    for (path, word) in [("/healthz", "ok"), ("/readyz", "ready")] {
        for socket in [rig.socket("bursar"), rig.socket("checkout"), rig.admin()] {
            let reply = ask(&socket, request("GET", path, "Origin: https://example.com\r\n", "")).await;
            assert_eq!((reply.status, reply.text("status").as_str()), (200, word));
        }
    }
    let mut wire = rig.wire("checkout").await;
    wire.send(request("HEAD", "/healthz", "", "")).await;
    let head = wire.reply_to("HEAD").await.unwrap();
    assert_eq!((head.status, head.body.len()), (200, 0));
    wire.send(request("HEAD", "/token/stripe", "", "")).await;
    assert_eq!(wire.reply_to("HEAD").await.unwrap().status, 400, "the guard holds for HEAD too");
}
