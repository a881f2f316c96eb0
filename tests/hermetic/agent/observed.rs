//! What operators see: the catalogue, the metrics, and the lines of the log.

use serde_json::{Value, json};

use super::endpoint::{Act, grant, json as said};
use super::rig::{Plan, Rig};

/// `stripe` as the catalogue of a rig shows it, with what its entry says for people.
const ABOUT: &str = "[provider.shop]\ntoken_endpoint = \"http://ENDPOINT/token\"\nclient_id = \"bursar\"\n\
                     client_secret = { store = \"local\", name = \"client\" }\nscopes = [\"read\"]\n\
                     default_scopes = [\"read\"]\nowner = \"payments\"\ndata_class = \"pci\"\n\
                     runbook = \"https://wiki.example/shop\"\ntags = [\"lab\"]\nbudget = \"30/m\"\n";

async fn rig() -> Rig {
    Plan { tables: ABOUT.into(), ..Plan::default() }.raise().await
}

async fn shop(rig: &Rig) -> Value {
    let output = rig.run(&["providers", "shop", "--json"]).await;
    let all: Value = serde_json::from_slice(&output.stdout).unwrap();
    all["providers"][0].clone()
}

#[tokio::test]
async fn the_catalogue_tells_who_answers_for_a_provider_and_how_it_does() {
    let rig = rig().await;
    rig.endpoint.plays(|asked| Act::Say(grant(asked.nth, 300)));
    assert_eq!(shop(&rig).await["last_success"], Value::Null);
    // In use is what was asked for again.
    for _ in 0..2 {
        rig.token("checkout", "shop", "").await.token();
    }
    let seen = shop(&rig).await;
    let [owner, class, page] = ["owner", "data_class", "runbook"].map(|key| seen[key].as_str().unwrap().to_owned());
    assert_eq!([owner, class, page], ["payments", "pci", "https://wiki.example/shop"]);
    assert_eq!(
        (&seen["status"], &seen["share"], &seen["tags"]),
        (&json!("ready"), &json!("workload"), &json!(["lab"]))
    );
    assert_eq!((&seen["tokens"], &seen["failures"]), (&json!(1), &json!(0)));
    assert_eq!(seen["endpoints"][0]["breaker"], "passing");
    assert_eq!(seen["budget"], json!({ "left": 29, "of": 30, "every": 60 }));
    let left = seen["outage_budget"].as_u64().unwrap();
    assert!((200..=300).contains(&left), "{left}");
    assert!(seen["soonest_expiry"].is_string() && seen["last_success"].is_string());
    let text = String::from_utf8(rig.run(&["providers"]).await.stdout).unwrap();
    assert!(text.starts_with("PROVIDER  STATUS"), "{text}");
    assert_eq!(rig.run(&["providers", "nobody"]).await.status.code(), Some(1));
    assert_eq!(rig.records_of("operation").pop().unwrap().text("action"), Some("status"));
}

#[tokio::test]
async fn the_catalogue_tells_what_fails_and_when_it_is_asked_again() {
    let rig = rig().await;
    rig.endpoint.plays(|_| Act::Say(said("401 Unauthorized", r#"{"error":"invalid_client"}"#)));
    assert_eq!(rig.token("checkout", "shop", "").await.status, 502);
    let seen = shop(&rig).await;
    assert_eq!((&seen["status"], &seen["failures"]), (&json!("unready"), &json!(1)));
    assert!(seen["last_failure"].as_str().unwrap().contains("401"), "{seen}");
    assert!(seen["asked_again_in"].as_u64().unwrap() > 0, "{seen}");
    let text = String::from_utf8(rig.run(&["status"]).await.stdout).unwrap();
    assert!(text.contains("runbook        https://wiki.example/shop\n"), "{text}");
}

#[tokio::test]
async fn what_the_catalogue_says_can_be_changed_without_losing_a_token() {
    let rig = rig().await;
    rig.endpoint.plays(|asked| Act::Say(grant(asked.nth, 300)));
    let token = rig.token("checkout", "shop", "").await.token();
    rig.reconfigure("owner = \"payments\"", "owner = \"shop\"");
    assert_eq!(rig.run(&["reload"]).await.status.code(), Some(0));
    assert_eq!(shop(&rig).await["owner"], "shop");
    assert_eq!(rig.token("checkout", "shop", "").await.token(), token);
}
