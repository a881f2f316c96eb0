//! (E) The tour: the main job, step by step, each step with what it is there to show.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use super::{NotSet, Scene, Stage};
use crate::api::client::{Answer, Call};
use crate::audit::query::{self, Filter};
use crate::audit::told::told;
use crate::audit::verify::verify;

/// How often the tour looks whether something has come about, and how many times.
const LOOK: Duration = Duration::from_millis(250);
const LOOKS: usize = 36;

/// Tells the tour on `stage`. What does not hold is said there.
///
/// # Errors
/// [`NotSet`], when the issuer does not come back.
pub async fn tour(stage: &mut Stage, scene: &mut Scene) -> Result<(), NotSet> {
    opening(stage, scene);
    secrets_are_put(stage, scene).await;
    whoami(stage, scene).await;
    a_token_is_served(stage, scene).await;
    it_comes_from_the_cache(stage, scene).await;
    others_are_refused(stage, scene).await;
    an_api_refuses_it(stage, scene).await;
    a_secret_is_served(stage, scene).await;
    the_issuer_stops(stage, scene).await;
    scene.start_issuer().await?;
    the_log_tells_it(stage, scene);
    Ok(())
}

fn opening(stage: &Stage, scene: &Scene) {
    stage.say("bursar dev: the main job on embedded defaults, an embedded issuer and the shipped policies.");
    stage.say(&format!("Everything stands in {}", scene.folder.display()));
}

async fn secrets_are_put(stage: &mut Stage, scene: &Scene) {
    stage.step("An operator puts the client secrets into the sealed store; no application ever holds one");
    for (name, client) in [("local/stripe-client", "bursar-stripe"), ("local/crm-client", "bursar-crm")] {
        stage.command(&format!("bursar secret put {name} < secret.txt"));
        let value = Bytes::copy_from_slice(scene.client_secret(client).as_bytes());
        let answer = Call::put(format!("/secrets/{name}"), value).send(&scene.admin()).await;
        let answer = Shown::of(answer.ok());
        stage.shown(&answer.text());
        stage.holds("it is stored, sealed, and the record of it is on disk", answer.status == 200);
    }
}

async fn whoami(stage: &mut Stage, scene: &Scene) {
    stage.step("The kernel says who asks; here, the socket that only `checkout` can open");
    stage.command("bursar whoami");
    let answer = Shown::of(Call::get("/whoami").send(&scene.socket_of("checkout")).await.ok());
    stage.shown(&answer.text());
    stage.holds("the peer is the workload `checkout`", answer.says("workload", "checkout"));
}

async fn a_token_is_served(stage: &mut Stage, scene: &Scene) {
    stage.step("`checkout` asks for a token, as it would ask any OAuth token endpoint");
    stage.command(&curl(scene, "checkout", "stripe", Some("charges:read")));
    let answer = ask(scene, "checkout", "stripe", Some("charges:read")).await;
    stage.shown(&answer.text());
    stage.holds("a fresh token with exactly that scope", answer.status == 200 && answer.says("scope", "charges:read"));
    stage.holds("the issuer was asked once", scene.issued() == 1);
}

async fn it_comes_from_the_cache(stage: &mut Stage, scene: &Scene) {
    stage.step("It asks again");
    stage.command("bursar token stripe --scope charges:read");
    let answer = ask(scene, "checkout", "stripe", Some("charges:read")).await;
    stage.shown(&answer.text());
    stage.holds(
        "the same token from memory: the issuer was not asked again",
        answer.status == 200 && scene.issued() == 1,
    );
}

async fn others_are_refused(stage: &mut Stage, scene: &Scene) {
    stage.step("Another workload asks for the same, and `checkout` asks for more");
    stage.command(&curl(scene, "reports", "stripe", Some("charges:read")));
    let other = ask(scene, "reports", "stripe", Some("charges:read")).await;
    stage.shown(&other.text());
    stage.holds("`reports` is refused, with a reason and a remedy", other.says("error", "access_denied"));
    stage.command(&curl(scene, "checkout", "stripe", Some("charges:read refunds:write")));
    let wider = ask(scene, "checkout", "stripe", Some("charges:read refunds:write")).await;
    stage.shown(&wider.text());
    stage.holds("a wider scope is refused too", wider.says("error", "access_denied"));
    stage.holds("and the issuer heard of neither", scene.issued() == 1);
}

async fn an_api_refuses_it(stage: &mut Stage, scene: &Scene) {
    stage.step("An API answers 401 to the token; `checkout` says so");
    let before = ask(scene, "checkout", "stripe", Some("charges:read")).await;
    let token = before.value("access_token").and_then(Value::as_str).unwrap_or_default();
    stage.command("curl -d provider=stripe -d token=$TOKEN http://localhost/reject");
    let call = Call::form("/reject".to_owned(), [("provider", "stripe"), ("token", token)]);
    let answer = Shown::of(call.send(&scene.socket_of("checkout")).await.ok());
    stage.shown(&answer.text());
    stage.holds("another is fetched, once", answer.says("outcome", "refreshed"));
    let after = ask(scene, "checkout", "stripe", Some("charges:read")).await;
    let another = after.status == 200 && after.value("access_token") != before.value("access_token");
    stage.holds("who asks next has the new one", another && scene.issued() == 2);
}

async fn a_secret_is_served(stage: &mut Stage, scene: &Scene) {
    stage.step("Some programs need a key as it is: `checkout` reads one that lives in the sealed store");
    put(scene, "webhook-key", "the-first-key").await;
    stage.command("bursar secret get webhook-key --json");
    let first = read(scene, "").await;
    stage.shown(&first.text());
    stage.holds("its value, by policy and with its record", first.says("value", "the-first-key"));
    let again = read(scene, "").await;
    let once = again.status == 200 && scene.reads() == 1;
    stage.holds("the second read comes from memory: the store was read once", once);
    stage.note("it waits for another version; meanwhile an operator puts one …");
    let version = first.value("version").and_then(Value::as_str).unwrap_or_default();
    let query = format!("?wait=30s&version={version}");
    stage.command(&format!("curl -H 'Bursar: 1' 'http://localhost/secret/webhook-key{query}'"));
    let (changed, ()) = tokio::join!(read(scene, &query), put(scene, "webhook-key", "the-second-key"));
    stage.shown(&changed.text());
    stage.holds("it has the changed value at once", changed.says("value", "the-second-key"));
}

async fn the_issuer_stops(stage: &mut Stage, scene: &mut Scene) {
    stage.step("The issuer dies; its tokens are still good");
    stage.command("bursar token crm                         # as `reports`");
    let before = ask(scene, "reports", "crm", None).await;
    stage.shown(&before.text());
    scene.stop_issuer();
    stage.note("the issuer is stopped; its token comes due for refresh, and the refresh fails …");
    let mut after = ask(scene, "reports", "crm", None).await;
    for _ in 0..LOOKS {
        if after.value("stale") == Some(&Value::Bool(true)) {
            break;
        }
        tokio::time::sleep(LOOK).await;
        after = ask(scene, "reports", "crm", None).await;
    }
    stage.command("bursar token crm --json");
    stage.shown(&after.text());
    stage.holds(
        "the token is served all the same, and declared stale",
        after.value("stale") == Some(&Value::Bool(true)),
    );
    let same = after.value("access_token").is_some() && after.value("access_token") == before.value("access_token");
    stage.holds("it is the token from before, and it has not expired", same);
    let cold = ask(scene, "checkout", "stripe", Some("charges:write")).await;
    stage
        .holds("a token that was never fetched is unavailable for now, and says when to try again", cold.status == 503);
    stage.note("the issuer is started again");
}

fn the_log_tells_it(stage: &mut Stage, scene: &Scene) {
    stage.step("The log tells all of it, and no answer left before its record was on disk");
    stage.command("bursar audit query");
    let lines: Vec<_> = query::query(&scene.log(), Filter::default()).into_iter().flatten().flatten().collect();
    lines.iter().for_each(|line| stage.shown(&told(line)));
    stage.holds("there is a record of each release and each refusal", {
        let count = |kind: &str| lines.iter().filter(|line| line.kind() == kind).count();
        count("release") >= 4 && count("refusal") >= 3
    });
    stage.command("bursar audit verify");
    let verified = verify(&scene.log());
    stage.holds("nothing is missing or out of place", verified.is_ok_and(|verified| verified.holds()));
}

/// What to try while it stays up.
pub fn farewell(stage: &Stage, scene: &Scene) {
    let folder = scene.folder.display();
    stage.say("");
    stage.say("It stays up. To try, in another terminal:");
    stage.command(&curl(scene, "checkout", "stripe", None));
    stage.command(&format!("export BURSAR_SOCKET={folder}/checkout/bursar.sock"));
    stage.command("bursar whoami; bursar token stripe --json");
    stage.command(&format!("bursar --config {folder}/bursar.toml status"));
    stage.command(&format!("$EDITOR {folder}/policies/checkout.cedar; bursar --config {folder}/bursar.toml reload"));
    stage.command(&format!("bursar --config {folder}/bursar.toml audit query -f"));
    stage.say("Ctrl-C ends it and removes the folder.");
}

fn curl(scene: &Scene, workload: &str, provider: &str, scope: Option<&str>) -> String {
    let socket = scene.socket_of(workload);
    let scope = scope.map(|scope| format!(" -d 'scope={scope}'")).unwrap_or_default();
    let socket = socket.display();
    format!("curl -s --unix-socket {socket} -d grant_type=client_credentials{scope} http://localhost/token/{provider}")
}

async fn ask(scene: &Scene, workload: &str, provider: &str, scope: Option<&str>) -> Shown {
    let fields = [("grant_type", "client_credentials"), ("scope", scope.unwrap_or_default())];
    Shown::of(Call::form(format!("/token/{provider}"), fields).send(&scene.socket_of(workload)).await.ok())
}

async fn read(scene: &Scene, query: &str) -> Shown {
    let call = Call::get(format!("/secret/webhook-key{query}"));
    Shown::of(call.send(&scene.socket_of("checkout")).await.ok())
}

async fn put(scene: &Scene, name: &str, value: &'static str) {
    let call = Call::put(format!("/secrets/{name}"), Bytes::from_static(value.as_bytes()));
    // What came of it, the next read shows.
    drop(call.send(&scene.admin()).await);
}

/// An answer, as far as the tour shows it.
struct Shown {
    status: u16,
    body: Value,
}

impl Shown {
    fn of(answer: Option<Answer>) -> Self {
        match answer {
            Some(answer) => {
                let body = serde_json::from_slice(&answer.body).unwrap_or_default();
                Self { status: answer.status.as_u16(), body }
            }
            None => Self { status: 0, body: Value::Null },
        }
    }

    fn value(&self, key: &str) -> Option<&Value> {
        self.body.get(key)
    }

    fn says(&self, key: &str, text: &str) -> bool {
        self.value(key).and_then(Value::as_str) == Some(text)
    }

    /// Status and body, without the members that only programs read, and with a token cut short.
    fn text(&self) -> String {
        let members = self.body.as_object().into_iter().flatten();
        let told = members.filter(|(key, _)| !matches!(key.as_str(), "type" | "title" | "status" | "detail"));
        let lines = told.map(|(key, value)| match value.as_str() {
            Some(token) if key == "access_token" => {
                format!("{key:<18} {}…", token.chars().take(24).collect::<String>())
            }
            Some(text) => format!("{key:<18} {text}"),
            None => format!("{key:<18} {value}"),
        });
        std::iter::once(format!("HTTP {}", self.status)).chain(lines).collect::<Vec<_>>().join("\n")
    }
}
