//! The credential of a provider, rotated by an agent as its users run it, while its readers have tokens fetched.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::peers::{Oidc, free_port};
use crate::rig::{Agent, entry};

const ROTATIONS: usize = 3;
const READERS: usize = 2;
/// With `refresh_at` at a twentieth of it, each token is fetched anew every second.
const LIFETIME: &str = "20";
/// Each set of these is a token of its own.
const SCOPES: [&str; 4] = ["read", "write", "charges:read", "charges:write"];

/// An agent that rotates the credential of `stripe`, whose entry says `client`, as `rotator` says.
fn agent(oidc: &Oidc, client: &str, lines: &str, rotator: &str) -> Agent {
    let provider = entry("stripe", oidc, client, lines);
    let some = "scopes         = [\"charges:read\", \"charges:write\"]";
    assert!(provider.contains(some));
    let provider = provider.replace(some, &format!("scopes = {SCOPES:?}"));
    Agent::start(&format!(
        "{provider}[store.keys]\nkind = \"sealed\"\nstale_after = \"1s\"\n[secret.stripe-client]\nstore = \"keys\"\n\
         [secret.stripe-client.rotation]\ngrace = \"2s\"\n[secret.stripe-client.rotation.{rotator}"
    ))
}

fn status(agent: &Agent) -> Value {
    let said = agent.operate(&["--json", "rotations"]);
    let said: Value = serde_json::from_slice(&said.stdout).unwrap_or_else(|_| panic!("{said:?}"));
    said["rotations"][0].clone()
}

/// Until nothing is left to be done; the version that is served.
async fn settled(agent: &Agent) -> String {
    for _ in 0..600 {
        let status = status(agent);
        assert_ne!(status["state"], "failing", "{status}: {}", agent.log());
        if let ("idle", Some(current)) = (status["state"].as_str().unwrap(), status["current"].as_str()) {
            return current.to_owned();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("it does not come to its end: {}", agent.log())
}

/// Asks for one token after the other until it is told to stop; how many there were.
fn keep_asking(agent: &Agent, over: &AtomicBool) -> usize {
    let mut asked = 0;
    while !over.load(Ordering::Relaxed) {
        let nth = asked % ((1 << SCOPES.len()) - 1) + 1;
        let scopes: Vec<_> = (0..SCOPES.len()).filter(|bit| nth >> bit & 1 == 1).map(|bit| SCOPES[bit]).collect();
        let answer = agent.ask("checkout", "stripe", &scopes.join(" "));
        assert_eq!((answer.status, &answer.body["stale"]), (200, &json!(false)), "{answer:?}: {}", agent.log());
        asked += 1;
    }
    asked
}

async fn no_token_request_fails(agent: Agent) {
    let (agent, over) = (Arc::new(agent), Arc::new(AtomicBool::new(false)));
    let mut served = BTreeSet::from([settled(&agent).await]);
    let readers: Vec<_> = (0..READERS)
        .map(|_| {
            let (agent, over) = (Arc::clone(&agent), Arc::clone(&over));
            tokio::task::spawn_blocking(move || keep_asking(&agent, &over))
        })
        .collect();
    for _ in 0..ROTATIONS {
        let rotated = agent.operate(&["rotate", "stripe-client", "--reason", "drill"]);
        assert!(rotated.status.success(), "{}", String::from_utf8_lossy(&rotated.stderr));
        served.insert(settled(&agent).await);
    }
    over.store(true, Ordering::Relaxed);
    let mut asked = 0;
    for reader in readers {
        asked += reader.await.unwrap();
    }
    let mut agent = Arc::into_inner(agent).unwrap();
    agent.stop();
    let attempts = agent.attempts();
    let failed: Vec<_> = attempts.iter().filter(|outcome| outcome["result"] != "ok").collect();
    println!("{ROTATIONS} rotations, {asked} answers, {} token requests, {} failed", attempts.len(), failed.len());
    assert_eq!(served.len(), ROTATIONS + 1, "each rotation serves another version");
    assert!(failed.is_empty() && attempts.len() > 10 * ROTATIONS, "{} token requests: {failed:?}", attempts.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_rotates_its_client_secret_fails_no_token_request() {
    let oidc = Oidc::with_lifetime(LIFETIME);
    let (secret, url) =
        ("client_secret = { store = \"keys\", name = \"stripe-client\" }", format!("{}/basic", oidc.clients()));
    let rotator = format!(
        "oauth-client-secret]\nprovider = \"stripe\"\n[secret.stripe-client.rotation.oauth-client-secret.two_secrets]\n\
         url = \"{url}\"\nmethod = \"PUT\"\nboth = '{{\"client_secret\":\"{{new}}\",\"also\":[\"{{old}}\"]}}'\n\
         only = '{{\"client_secret\":\"{{new}}\"}}'\n"
    );
    no_token_request_fails(agent(&oidc, "basic", secret, &rotator)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_rotates_its_signing_key_fails_no_token_request() {
    let (oidc, port) = (Oidc::with_lifetime(LIFETIME), free_port());
    let client = json!({
        "token_endpoint_auth_method": "private_key_jwt", "grant_types": ["client_credentials"],
        "redirect_uris": [], "response_types": [], "id_token_signed_response_alg": "ES256",
        "kept_ms": 200, "jwks_uri": format!("http://127.0.0.1:{port}/jwks.json"),
    });
    oidc.change_client("rotated", &client).await;
    let key = "client_auth = \"private_key_jwt\"\nprivate_key = { store = \"keys\", name = \"stripe-client\" }";
    let rotator =
        format!("signing-key]\nprovider = \"stripe\"\njwks_listen = \"127.0.0.1:{port}\"\nsettles_within = \"20s\"\n");
    no_token_request_fails(agent(&oidc, "rotated", key, &rotator)).await;
}
