//! The agent against npm oidc-provider, proven by assertions, certificates and files: rotated while it runs, refused, ended.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::KeyPair;
use serde_json::{Value, json};

use crate::agent::{accepted, refused};
use crate::peers::{Certified, Oidc};
use crate::proofs::{public, public_certificate, register};
use crate::rig::{Agent, Answer, BASIC, entry};

const BY_KEY: &str = "client_auth = \"private_key_jwt\"\nprivate_key = { store = \"local\", name = \"key\" }";
const BY_CERTIFICATE: &str = "certificate = \"own.pem\"\ncertificate_key = { store = \"local\", name = \"key\" }";
const BY_FILE: &str = "client_auth = \"federated_assertion\"\nassertion_file = \"assertion.jwt\"";

fn by_authority() -> String {
    format!("client_auth = \"tls_client_auth\"\n{BY_CERTIFICATE}")
}

/// An agent with this certificate.
fn start(providers: &str, own: &Certified) -> Agent {
    let agent = Agent::start_with(providers, &[("own.pem", &own.certificate)]);
    agent.put("key", &own.key);
    agent
}

fn install(agent: &Agent, own: &Certified) {
    // In this order: until the key is put, the old one does not fit the new certificate.
    agent.write("own.pem", &own.certificate);
    agent.put("key", &own.key);
}

/// What somebody else, who has the key, says of `pkjwt` for a minute, under this id.
fn assertion(oidc: &Oidc, key: &str, id: &str) -> String {
    bursar::crypto::install();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({"iss": "pkjwt", "sub": "pkjwt", "aud": oidc.issuer(), "jti": id, "iat": now, "exp": now + 60});
    encode(&Header::new(Algorithm::ES256), &claims, &EncodingKey::from_ec_pem(key.as_bytes()).unwrap()).unwrap()
}

/// The provider has refused our credential: what the caller sees, and what is on record.
fn not_believed(agent: &Agent, answer: &Answer, says: &str) {
    let record = refused(agent, answer, 502, "provider_error");
    assert_eq!(answer.body["provider_error"], "invalid_client");
    assert!(record["detail"].as_str().unwrap().contains("status 401"), "{record}");
    let attempts = agent.attempts();
    let attempt = attempts.last().unwrap();
    assert_eq!((&attempt["result"], &attempt["code"]), (&json!("failed"), &json!("invalid_client")));
    assert!(attempt["detail"].as_str().unwrap().contains(says), "{attempt}");
}

#[tokio::test]
async fn a_key_that_was_rotated_is_used_without_a_restart() {
    let oidc = Oidc::start();
    let agent = Agent::start(&entry("stripe", &oidc, "pkjwt", BY_KEY));
    let [old, new] = [(); 2].map(|()| KeyPair::generate().unwrap().serialize_pem());
    register(&oidc, "pkjwt", &[public(&old, Algorithm::ES256, "old")]).await;
    agent.put("key", &old);
    accepted(&oidc, &agent.ask("checkout", "stripe", "charges:read"), "charges:read").await;

    register(&oidc, "pkjwt", &[public(&new, Algorithm::ES256, "new")]).await;
    not_believed(
        &agent,
        &agent.ask("checkout", "stripe", "charges:write"),
        "check `client_id`, the stored private key",
    );
    agent.put("key", &new);
    accepted(&oidc, &agent.ask("checkout", "stripe", "charges:write"), "charges:write").await;
}

#[tokio::test]
async fn a_certificate_that_was_rotated_is_shown_without_a_restart() {
    let oidc = Oidc::start();
    let agent = start(&entry("stripe", &oidc, "mtls", &by_authority()), &oidc.certify("somebody"));
    let says = "that the provider knows `certificate`";
    not_believed(&agent, &agent.ask("checkout", "stripe", "charges:read"), says);
    install(&agent, &oidc.certify("bursar"));
    accepted(&oidc, &agent.ask("checkout", "stripe", "charges:read"), "charges:read").await;
    // Issued anew, with another key.
    install(&agent, &oidc.certify("bursar"));
    accepted(&oidc, &agent.ask("checkout", "stripe", "charges:write"), "charges:write").await;
}

#[tokio::test]
async fn a_certificate_of_its_own_signing_is_shown() {
    let oidc = Oidc::start();
    let lines = format!("client_auth = \"self_signed_tls_client_auth\"\n{BY_CERTIFICATE}");
    let own = Certified::by_itself("any");
    register(&oidc, "selfsigned", &[public_certificate(&own)]).await;
    let agent = start(&entry("stripe", &oidc, "selfsigned", &lines), &own);
    accepted(&oidc, &agent.ask("checkout", "stripe", "charges:read"), "charges:read").await;
}

#[tokio::test]
async fn a_key_of_another_certificate_is_said_and_nothing_is_sent() {
    let oidc = Oidc::start();
    let agent = start(&entry("stripe", &oidc, "mtls", &by_authority()), &oidc.certify("bursar"));
    agent.put("key", &oidc.certify("bursar").key);
    let answer = agent.ask("checkout", "stripe", "charges:read");
    refused(&agent, &answer, 503, "temporarily_unavailable");
    let attempts = agent.attempts();
    assert_eq!(attempts[0]["code"], "credential");
    assert!(attempts[0]["detail"].as_str().unwrap().contains("`certificate_key` is not the key of the first"));
    assert_eq!(oidc.requests().await, 0);
}

#[tokio::test]
async fn an_assertion_under_the_client_secret_is_made_for_each_request() {
    let oidc = Oidc::start();
    let lines = "client_auth = \"client_secret_jwt\"\nclient_secret = { store = \"local\", name = \"key\" }";
    let agent = Agent::start(&entry("stripe", &oidc, "csjwt", lines));
    agent.put("key", "a-secret-of-thirty-two-bytes-or-more");
    for scopes in ["charges:read", "charges:write", "charges:read charges:write"] {
        accepted(&oidc, &agent.ask("checkout", "stripe", scopes), scopes).await;
    }
}

#[tokio::test]
async fn an_assertion_of_somebody_else_is_read_anew_and_a_used_one_is_refused() {
    let oidc = Oidc::start();
    let agent = Agent::start(&entry("stripe", &oidc, "pkjwt", BY_FILE));
    let key = KeyPair::generate().unwrap().serialize_pem();
    register(&oidc, "pkjwt", &[public(&key, Algorithm::ES256, "k")]).await;

    refused(&agent, &agent.ask("checkout", "stripe", "charges:read"), 503, "temporarily_unavailable");
    let attempts = agent.attempts();
    let detail = attempts[0]["detail"].as_str().unwrap();
    assert!(detail.contains("assertion.jwt") && detail.contains("it is missing"), "{detail}");

    agent.write("assertion.jwt", &format!("{}\n", assertion(&oidc, &key, "first")));
    accepted(&oidc, &agent.ask_until("checkout", |answer| answer.status == 200).await, "charges:read").await;
    // The provider takes each once: another token wants another.
    not_believed(&agent, &agent.ask("checkout", "stripe", "charges:write"), "may be used more than once");
    agent.write("assertion.jwt", &assertion(&oidc, &key, "second"));
    let both = "charges:read charges:write";
    // The refusal is remembered for a few seconds, whatever is asked for.
    let answer = loop {
        let answer = agent.ask("checkout", "stripe", both);
        if answer.status == 200 {
            break answer;
        }
        not_believed(&agent, &answer, "may be used more than once");
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    };
    accepted(&oidc, &answer, both).await;
}

/// What `bursar revoke stripe` prints for programs, and its exit code.
fn revoke(agent: &Agent) -> (Value, Option<i32>) {
    let output = agent.operate(&["--json", "revoke", "stripe"]);
    (serde_json::from_slice(&output.stdout).unwrap_or_default(), output.status.code())
}

async fn is_active(oidc: &Oidc, answer: &Answer) -> bool {
    oidc.introspect(answer.token().as_bytes()).await["active"] == true
}

#[tokio::test]
async fn the_operators_word_ends_a_providers_tokens() {
    let oidc = Oidc::start();
    let agent = Agent::for_stripe(&oidc);
    let answers = ["checkout", "reports"].map(|who| agent.ask(who, "stripe", "charges:read"));
    assert!(is_active(&oidc, &answers[0]).await && is_active(&oidc, &answers[1]).await);
    assert_eq!(revoke(&agent), (json!({"tokens": 2, "ended": 2, "failed": null, "why": null}), Some(0)));
    assert!(!is_active(&oidc, &answers[0]).await && !is_active(&oidc, &answers[1]).await);
    let again = agent.ask("checkout", "stripe", "charges:read");
    assert!(is_active(&oidc, &again).await, "the next who asks has a new one");

    let ended: Vec<_> = agent.attempts().into_iter().filter(|outcome| outcome["granted"].is_null()).collect();
    let served = answers.map(|answer| agent.record(&answer)["fingerprint"].clone());
    assert_eq!(ended.len(), 2);
    assert!(ended.iter().all(|outcome| outcome["result"] == "ok" && served.contains(&outcome["fingerprint"])));
    let intents: Vec<_> = agent.records("intent").into_iter().filter(|intent| intent["effect"] == "revoke").collect();
    assert!(intents.len() == 2 && intents.iter().all(|intent| intent["who"] == "tester"));
    let operation = &agent.records("operation")[0];
    assert_eq!((&operation["action"], &operation["result"]), (&json!("revoke"), &json!("ok")));
    assert_eq!(operation["detail"], "2 of 2 tokens ended at the provider");
}

#[tokio::test]
async fn a_token_that_the_provider_did_not_end_is_served_no_more_and_tried_again() {
    let oidc = Oidc::start();
    let agent = Agent::for_stripe(&oidc);
    let first = agent.ask("checkout", "stripe", "charges:read");
    oidc.fault(&json!({"path": "/token/revocation", "status": 503})).await;
    let (told, code) = revoke(&agent);
    assert_eq!(
        (&told["tokens"], &told["ended"], &told["failed"], code),
        (&json!(1), &json!(0), &json!("unavailable"), Some(4))
    );
    let second = agent.ask("checkout", "stripe", "charges:read");
    assert_ne!(second.token(), first.token());
    assert!(is_active(&oidc, &first).await);
    oidc.fault(&json!({"times": 0})).await;
    assert_eq!(revoke(&agent), (json!({"tokens": 2, "ended": 2, "failed": null, "why": null}), Some(0)));
    assert!(!is_active(&oidc, &first).await && !is_active(&oidc, &second).await);
}

#[tokio::test]
async fn what_cannot_be_ended_there_is_said() {
    let oidc = Oidc::start();
    let lines =
        "client_auth = \"client_secret_basic\"\nclient_secret = { store = \"local\", name = \"stripe-client\" }";
    let by_endpoint = entry("stripe", &oidc, BASIC.id, lines).replace("issuer         = \"", "token_endpoint = \"");
    let by_endpoint = by_endpoint.replace(oidc.issuer(), &oidc.token_endpoint());
    let agent = Agent::start(&by_endpoint);
    agent.put("stripe-client", BASIC.secret);
    let answer = agent.ask("checkout", "stripe", "charges:read");
    let told = agent.operate(&["revoke", "stripe"]);
    let text = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(text.contains("1 live on there until they expire") && text.contains("set `revocation_endpoint`"), "{text}");
    assert_eq!(told.status.code(), Some(1));
    assert!(is_active(&oidc, &answer).await);
    assert_ne!(agent.ask("checkout", "stripe", "charges:read").token(), answer.token(), "it is served no more");
}

#[tokio::test]
async fn tokens_outlive_the_agent_unless_it_is_told_to_end_them() {
    for (line, outlives) in [("", true), ("revoke_at_shutdown = true", false)] {
        let oidc = Oidc::start();
        let mut agent = Agent::start(&format!("{}{line}\n", BASIC.entry("stripe", &oidc, "20s")));
        agent.put("stripe-client", BASIC.secret);
        let answer = agent.ask("checkout", "stripe", "charges:read");
        agent.stop();
        assert_eq!(is_active(&oidc, &answer).await, outlives, "{line}");
        let intents = agent.records("intent");
        let by_bursar = intents.iter().any(|intent| intent["effect"] == "revoke" && intent["actor"] == "bursar");
        assert_eq!(by_bursar, !outlives);
    }
}
