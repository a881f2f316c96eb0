//! The rotators that call somebody else: definitions as they are written, and far sides that answer badly.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bursar::config::meant::{HttpCalls as Meant, Rotator as Configured};
use bursar::config::{self, Read};
use bursar::crypto::SystemRandom;
use bursar::document::Source;
use bursar::fault::Faults;
use bursar::rotation::access_key::{AccessKey, Settings};
use bursar::rotation::exec::Program;
use bursar::rotation::http::HttpCalls;
use bursar::rotation::random::RandomText;
use bursar::rotation::{Admin, Ended, Held, Label, Rotator, Trouble};
use bursar::secret::Secret;
use bursar::store::files::FilesStore;
use bursar::store::{Attempt, Place};
use bursar::time::SystemClock;
use bursar::wire::tls::{Roots, Tls};
use futures_util::FutureExt;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::matrix::Subject;

const EXAMPLES: [(&str, &str); 4] = [
    ("sendgrid", include_str!("../../examples/rotators/sendgrid.toml")),
    ("datadog", include_str!("../../examples/rotators/datadog.toml")),
    ("cloudflare", include_str!("../../examples/rotators/cloudflare.toml")),
    ("twilio", include_str!("../../examples/rotators/twilio.toml")),
];

fn read(text: &str) -> Result<Read, Faults> {
    let sources = [Source { file: "bursar.toml".into(), text: text.to_owned() }];
    config::read(&sources, Path::new("/"))
}

fn meant(text: &str) -> Meant {
    let read = read(text).unwrap_or_else(|faults| panic!("{text}\n{faults}"));
    let secret = read.settings.secrets.into_values().next().unwrap();
    let Configured::Http(calls) = secret.rotation.unwrap().rotator else { panic!("{text}") };
    *calls
}

/// A rotator, and the folder in which its credential stands.
fn rotator(text: &str, admin: &str) -> (HttpCalls, TempDir) {
    let Meant { definition, alphabet, length, .. } = meant(text);
    let folder = crate::private_folder();
    write_secret(&folder, admin);
    let store = Arc::new(FilesStore::open(folder.path()).unwrap());
    let admin = Place { store_name: "files".parse().unwrap(), store, name: "admin".parse().unwrap(), fresh_for: None };
    let tls = Tls::default().config_for(&Roots::System, true).unwrap();
    let random = RandomText::new(alphabet, length, Arc::new(SystemRandom));
    (HttpCalls::new(definition, Some(Admin::at(admin)), tls, random).unwrap(), folder)
}

fn write_secret(folder: &TempDir, admin: &str) {
    let path = folder.path().join("admin");
    std::fs::write(&path, admin).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn label() -> Label {
    Label::new(&Attempt::from_bytes([7; 16]))
}

/// One request as it came.
struct Asked {
    /// Method and path with query.
    line: String,
    headers: BTreeMap<String, String>,
    body: String,
}

type Answers = Arc<dyn Fn(&Asked) -> (u16, String) + Send + Sync>;

/// Serves `answers` on loopback, one request a connection, and says where.
async fn serve(answers: Answers) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answers = Arc::clone(&answers);
            tokio::spawn(async move {
                let asked = request(&mut stream).await;
                let (status, body) = answers(&asked);
                let head = format!("HTTP/1.1 {status} X\r\nretry-after: 7\r\nconnection: close\r\n");
                let whole = format!("{head}location: /elsewhere\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                let _ = stream.write_all(if status == 0 { b"" } else { whole.as_bytes() }).await;
            });
        }
    });
    base
}

async fn request(stream: &mut tokio::net::TcpStream) -> Asked {
    let (mut bytes, mut part) = (Vec::new(), [0; 4_096]);
    loop {
        let read = stream.read(&mut part).await.unwrap();
        bytes.extend_from_slice(&part[..read]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let mut lines = head.lines();
        let line = lines.next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
        let headers: BTreeMap<_, _> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        if body.len() >= length {
            return Asked { line, headers, body: body.to_owned() };
        }
    }
}

/// What each service answers to each line, as its documentation has it. `L` stands for the label.
fn documented(service: &str) -> Vec<(&'static str, u16, Value)> {
    match service {
        "sendgrid" => vec![
            ("POST /v3/api_keys", 201, json!({ "api_key": "SG.x", "api_key_id": "i1", "name": "L", "scopes": [] })),
            (
                "GET /v3/api_keys",
                200,
                json!({ "result": [{ "name": "L", "api_key_id": "i1" }, { "name": "mine", "api_key_id": "i0" }] }),
            ),
            ("GET /v3/scopes", 200, json!({ "scopes": ["mail.send"] })),
            ("DELETE /v3/api_keys/i1", 204, Value::Null),
        ],
        "datadog" => vec![
            (
                "POST /api/v2/api_keys",
                201,
                json!({ "data": { "id": "i1", "type": "api_keys", "attributes": { "key": "k", "name": "L" } } }),
            ),
            (
                "GET /api/v2/api_keys?page%5Bsize%5D=100&page%5Bnumber%5D=0",
                200,
                json!({ "data": [{ "id": "i1", "attributes": { "name": "L" } }] }),
            ),
            ("GET /api/v2/api_keys?page%5Bsize%5D=100&page%5Bnumber%5D=1", 200, json!({ "data": [] })),
            ("GET /api/v1/validate", 200, json!({ "valid": true })),
            ("DELETE /api/v2/api_keys/i1", 204, Value::Null),
        ],
        "cloudflare" => vec![
            (
                "POST /client/v4/user/tokens",
                200,
                json!({ "success": true, "result": { "id": "i1", "name": "L", "value": "v" } }),
            ),
            ("GET /client/v4/user/tokens?per_page=50&page=1", 200, json!({ "result": [{ "id": "i1", "name": "L" }] })),
            ("GET /client/v4/user/tokens?per_page=50&page=2", 200, json!({ "result": [] })),
            ("GET /client/v4/user/tokens/verify", 200, json!({ "result": { "id": "i1", "status": "active" } })),
            ("DELETE /client/v4/user/tokens/i1", 200, json!({ "result": { "id": "i1" } })),
        ],
        "twilio" => vec![
            ("POST /2010-04-01/Accounts/ACX", 201, json!({ "sid": "i1", "friendly_name": "L", "secret": "s\"3" })),
            (
                "GET /2010-04-01/Accounts/ACXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX/Keys.json?PageSize=100&Page=1",
                200,
                json!({ "keys": [], "next_page_uri": null }),
            ),
            (
                "GET /2010-04-01/Accounts/ACXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX/Keys.json?PageSize=100",
                200,
                json!({ "keys": [{ "sid": "i1", "friendly_name": "L" }], "next_page_uri": "/2010-04-01/Accounts/ACXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX/Keys.json?PageSize=100&Page=1" }),
            ),
            ("GET /2010-04-01/Accounts/ACXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX/Messages.json", 200, json!({})),
            ("DELETE /2010-04-01/Accounts/ACXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX/Keys/i1.json", 204, Value::Null),
        ],
        other => panic!("{other}"),
    }
}

/// Not the services themselves: what their documentation says they answer.
#[tokio::test]
async fn a_shipped_definition_does_its_whole_round_where_the_service_answers_as_documented() {
    for (service, text) in EXAMPLES {
        let seen: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (kept, answers) = (Arc::clone(&seen), documented(service));
        let base = serve(Arc::new(move |asked| {
            let known = answers.iter().find(|(line, ..)| asked.line.starts_with(line));
            let (_, status, body) = known.unwrap_or_else(|| panic!("{service}: {}", asked.line));
            let body = body.to_string().replace("\"L\"", &format!("\"{}\"", label()));
            let headers = asked.headers.clone();
            kept.lock().unwrap().push(Asked { line: asked.line.clone(), headers, body: asked.body.clone() });
            (*status, if *status == 204 { String::new() } else { body })
        }))
        .await;
        let host = text.split_once("base = \"https://").unwrap().1.split(['/', '"']).next().unwrap();
        let admin = r#"{"sid":"SK1","secret":"s1","api_key":"a1","app_key":"p1"}"#;
        let (rotator, _folder) = rotator(&text.replace(&format!("https://{host}"), &base), admin);
        let found = rotator.list().await.unwrap().unwrap();
        assert!(found.iter().any(|one| one.label == Some(label())), "{service}");
        let made = rotator.create(&label(), None).await.unwrap();
        assert_eq!(made.far_id.as_ref().unwrap().as_str(), "i1");
        let held = Held { version: "v".parse().unwrap(), far_id: made.far_id, value: Arc::new(made.value) };
        if service == "twilio" {
            let served: Value = serde_json::from_slice(held.value.expose()).unwrap();
            assert_eq!(served, json!({ "sid": "i1", "secret": "s\"3" }));
        }
        assert!(rotator.test(&held).await.unwrap());
        let ended = Ended { far_id: held.far_id, value: Some(held.value) };
        rotator.revoke(&ended, None).await.unwrap();
        let seen = seen.lock().unwrap();
        let posted = seen.iter().find(|asked| asked.line.starts_with("POST")).unwrap();
        assert!(posted.body.contains(label().as_str()), "{service}");
        assert!(seen.iter().all(|asked| !asked.line.contains("s1") && !asked.line.contains("a1")));
    }
}

const PLAIN: &str = r#"
[store.local]
kind = "sealed"
[secret.key]
store = "local"
[secret.key.rotation]
[secret.key.rotation.http]
base = "BASE"
admin = { store = "local", name = "admin" }
create = { method = "POST", url = "{base}/keys", headers = { Authorization = "Bearer {admin}" }, json = '{"note":"{label}"}', expect = [201] }
made = { id = "/id", value = "{reply/key}" }
list = { url = "{base}/keys", headers = { Authorization = "Bearer {admin}" }, expect = [200] }
found = { items = "/keys", id = "/id", label = "/note", next = "/next" }
test = { url = "{base}/me", headers = { Authorization = "Bearer {value}" }, expect = [200] }
revoke = { method = "DELETE", url = "{base}/keys/{id}", headers = { Authorization = "Bearer {admin}" }, expect = [204] }
"#;

async fn answering(status: u16, body: &'static str) -> (HttpCalls, TempDir) {
    let base = serve(Arc::new(move |_| (status, body.to_owned()))).await;
    rotator(&PLAIN.replace("BASE", &base), "admin-canary")
}

#[tokio::test]
async fn an_answer_says_whether_it_can_have_happened_and_shows_no_secret() {
    const HUGE: &str = "x";
    for (status, body, class) in [
        (400, "", "refused"),
        (403, "admin-canary", "refused"),
        (429, "", "unavailable"),
        (500, "admin-canary", "unavailable"),
        (503, "", "unavailable"),
        (0, "", "unavailable"),
        (307, "", "nonsense"),
        (200, r#"{"id":"1","key":"value-canary"}"#, "nonsense"),
        (201, "<html>value-canary", "nonsense"),
        (201, "", "nonsense"),
        (201, r#"{"id":"1"}"#, "nonsense"),
        (201, r#"{"key":"value-canary"}"#, "nonsense"),
        (201, r#"{"id":"1","key":{"value-canary":1}}"#, "nonsense"),
    ] {
        let (rotator, _folder) = answering(status, body).await;
        let trouble = rotator.create(&label(), None).await.unwrap_err();
        assert_eq!(trouble.code(), class, "{status} {body}: {trouble}");
        assert!(!format!("{trouble}{trouble:?}").contains("canary"), "{trouble}");
    }
    let huge = serve(Arc::new(move |_| (200, HUGE.repeat((1 << 20) + 1)))).await;
    let (rotator, _folder) = rotator(&PLAIN.replace("BASE", &huge), "a");
    assert!(matches!(rotator.list().await, Err(Trouble::Nonsense(what)) if what.contains("longer")));
    let nobody = "http://127.0.0.1:1";
    let (rotator, _folder) = self::rotator(&PLAIN.replace("BASE", nobody), "a");
    assert!(matches!(rotator.list().await, Err(Trouble::Unavailable(what)) if what.contains("nothing listens")));
}

#[tokio::test]
async fn a_list_that_does_not_end_or_goes_elsewhere_is_refused() {
    let count = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&count);
    let base = serve(Arc::new(move |_| {
        let mut count = counted.lock().unwrap();
        *count += 1;
        (200, format!(r#"{{"keys":[],"next":"/keys?page={count}"}}"#))
    }))
    .await;
    let (rotator, _folder) = rotator(&PLAIN.replace("BASE", &base), "a");
    let endless = rotator.list().await.unwrap_err();
    assert!(endless.to_string().contains("more than 20 pages") && *count.lock().unwrap() == 20, "{endless}");
    let (rotator, _folder) = answering(200, r#"{"keys":[],"next":"http://127.0.0.2:9/keys"}"#).await;
    let elsewhere = rotator.list().await.unwrap_err();
    assert!(elsewhere.to_string().contains("another server"), "{elsewhere}");
}

#[tokio::test]
async fn what_bursar_did_not_make_is_ended_where_it_is_the_only_other_one() {
    for (others, done) in [(vec![], true), (vec!["a"], true), (vec!["a", "b"], false)] {
        let mut keys: Vec<_> = others.iter().map(|id| json!({ "id": id, "note": "by hand" })).collect();
        keys.push(json!({ "id": "ours", "note": label().as_str() }));
        let body = json!({ "keys": keys }).to_string();
        let deleted: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = Arc::clone(&deleted);
        let base = serve(Arc::new(move |asked| match asked.line.strip_prefix("DELETE /keys/") {
            Some(id) => {
                kept.lock().unwrap().push(id.to_owned());
                (204, String::new())
            }
            None => (200, body.clone()),
        }))
        .await;
        let (rotator, _folder) = rotator(&PLAIN.replace("BASE", &base), "a");
        let ended = rotator.revoke(&Ended { far_id: None, value: None }, None).await;
        assert_eq!(ended.is_ok(), done, "{others:?}: {ended:?}");
        assert_eq!(deleted.lock().unwrap().len(), usize::from(done && !others.is_empty()));
    }
}

#[tokio::test]
async fn an_access_key_is_not_ended_by_itself() {
    let folder = crate::private_folder();
    write_secret(&folder, r#"{"access_key_id":"AKIA1","secret_access_key":"canary"}"#);
    let store = Arc::new(FilesStore::open(folder.path()).unwrap());
    let admin = Place { store_name: "files".parse().unwrap(), store, name: "admin".parse().unwrap(), fresh_for: None };
    let settings = Settings {
        user: "svc".into(),
        region: "eu-central-1".into(),
        endpoint: Some("http://127.0.0.1:1".into()),
        settles_within: std::time::Duration::ZERO,
    };
    let tls = Tls::default().config_for(&Roots::System, true).unwrap();
    let rotator = AccessKey::new(settings, Admin::at(admin), tls, Arc::new(SystemClock)).unwrap();
    let end = async |id: &str| {
        let ended = Ended { far_id: Some(id.parse().unwrap()), value: None };
        rotator.revoke(&ended, None).await.unwrap_err().to_string()
    };
    assert!(end("AKIA1").await.contains("the admin credential `files/admin` itself"));
    assert!(end("AKIA2").await.contains("nothing listens"));
    let by_hand = Ended { far_id: None, value: Some(Arc::new(Secret::copy_of(b"canary"))) };
    let why = rotator.revoke(&by_hand, None).await.unwrap_err().to_string();
    assert!(why.contains("end its key at IAM, and set `exclusive = false`") && !why.contains("canary"), "{why}");
    write_secret(&folder, "canary");
    let why = end("AKIA2").await;
    assert!(
        why.contains("the admin credential `files/admin`: an access key has to be JSON") && !why.contains("canary")
    );
}

#[test]
fn a_definition_that_cannot_be_is_refused_with_its_place() {
    for (from, to, key, why) in [
        ("{label}", "{lable}", "create.json", "not known"),
        ("{base}/keys/{id}", "{base}/keys/{value}", "revoke.url", "cannot stand"),
        ("{base}/me", "{base}/me?k={value}", "test.url", "cannot stand"),
        ("\"BASE\"", "\"http://example.com\"", "base", "plain http"),
        ("made = { id = \"/id\"", "made = { id = \"id\"", "made.id", "JSON pointer"),
        ("made = { id = \"/id\",", "made = {", "made.id", "lacks `made.id`"),
        ("{reply/key}", "{reply/id}", "made.id", "all that is secret"),
        ("{reply/key}", "{reply/id}:{reply/key}", "", ""),
        ("{\"note\":\"{label}\"}", "{\"note\":", "create.json", "not JSON"),
        ("{\"note\":\"{label}\"}", "{}", "create", "no `{label}`"),
        ("admin = { store = \"local\", name = \"admin\" }", "", "admin", "`{admin}`"),
        ("name = \"admin\"", "name = \"key\"", "admin", "that it rotates"),
        ("Authorization = \"Bearer {value}\"", "\"a b\" = \"{value}\"", "test.headers", "name of a header"),
        ("next = \"/next\"", "next = \"/next\", first_page = 2", "", ""),
        ("base = \"BASE\"", "base = \"BASE\"\npreset = \"jupyterhub\"", "preset", "definition of its own"),
        ("base = \"BASE\"", "base = \"BASE\"\noverlap = \"one\"", "revoke", "no effect"),
        ("base = \"BASE\"", "base = \"BASE\"\nset = { url = \"{base}/\", expect = [200] }", "set", "both"),
        ("base = \"BASE\"", "base = \"BASE\"\nvalues = { label = \"x\" }", "values", "placeholder"),
        ("{base}/me", "https://{id}.test/", "test.url", "before the server"),
        ("expect = [204]", "expect = []", "revoke.expect", ""),
        ("expect = [204]", "expect = [20]", "revoke.expect", ""),
    ] {
        assert!(PLAIN.contains(from), "{from}");
        let text = PLAIN.replace(from, to).replace("BASE", "http://127.0.0.1:1");
        match read(&text) {
            Ok(_) => assert_eq!(key, "", "{to} is accepted"),
            Err(faults) => {
                let place = format!("secret.key.rotation.http.{key}");
                let named = faults.iter().any(|fault| fault.place.key.starts_with(&place) && fault.what.contains(why));
                assert!(named && !key.is_empty(), "{to}: {faults}");
            }
        }
    }
}

#[test]
fn a_preset_needs_its_values() {
    for preset in ["jupyterhub", "openbao-approle"] {
        let text = format!(
            "[store.local]\nkind = \"sealed\"\n[secret.key]\nstore = \"local\"\n[secret.key.rotation]\n[secret.key.rotation.http]\n\
             preset = \"{preset}\"\nadmin = {{ store = \"local\", name = \"admin\" }}\n"
        );
        let faults = read(&text).unwrap_err().to_string();
        assert!(faults.contains("set `base`") && !faults.contains("defect"), "{faults}");
        let faults = read(&format!("{text}base = \"https://a.test\"\n")).unwrap_err().to_string();
        assert!(faults.contains("give it in `values`"), "{faults}");
        let values = "values = { user = \"svc\", role = \"r\", role_id = \"i\" }";
        assert!(read(&format!("{text}base = \"https://a.test/\"\n{values}\n")).is_ok());
    }
}

/// The worked example, copied to where nobody else can change it.
struct Example {
    folder: TempDir,
}

impl Example {
    fn new() -> Self {
        let folder = crate::private_folder();
        let path = folder.path().join("rotate");
        std::fs::copy("examples/rotators/exec_example.py", &path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        Self { folder }
    }

    fn keys(&self) -> std::path::PathBuf {
        self.folder.path().join("keys")
    }

    fn program(&self, admin: &str) -> Program {
        write_secret(&self.folder, admin);
        let text = format!(
            "[store.local]\nkind = \"sealed\"\n[secret.key]\nstore = \"local\"\n[secret.key.rotation]\n[secret.key.rotation.exec]\n\
             program = \"{}\"\nadmin = {{ store = \"local\", name = \"admin\" }}\nexclusive = true\nvalues = {{ path = \"{}\" }}\n",
            self.folder.path().join("rotate").display(),
            self.keys().display()
        );
        let read = read(&text).unwrap_or_else(|faults| panic!("{faults}"));
        let secret = read.settings.secrets.into_values().next().unwrap();
        let Configured::Exec(meant) = secret.rotation.unwrap().rotator else { panic!("{text}") };
        let store = Arc::new(FilesStore::open(self.folder.path()).unwrap());
        let place =
            Place { store_name: "files".parse().unwrap(), store, name: "admin".parse().unwrap(), fresh_for: None };
        let random = RandomText::new(meant.alphabet, meant.length, Arc::new(SystemRandom));
        Program::new(meant.settings.clone(), Some(Admin::at(place)), random)
    }
}

#[tokio::test]
async fn no_crash_loses_a_key_of_the_worked_example() {
    let example = Example::new();
    let keys = example.keys();
    let works = move |value: Vec<u8>| {
        let held: Value = serde_json::from_slice(&std::fs::read(&keys).unwrap()).unwrap();
        let works = held.as_object().unwrap().values().any(|key| key["value"].as_str().unwrap().as_bytes() == value);
        async move { works }.boxed()
    };
    let rotator = Arc::new(example.program("the-administrators-password"));
    crate::matrix::holds(&Subject { rotator, exclusive: true, first: None, works: Arc::new(works) }).await;
}

#[tokio::test]
async fn a_program_that_refuses_says_why() {
    let example = Example::new();
    let refused = example.program("guess").create(&label(), None).await.unwrap_err();
    assert_eq!(refused, Trouble::Refused("admin is not accepted".into()));
    let program = example.program("the-administrators-password");
    for _ in 0..4 {
        program.create(&label(), None).await.unwrap();
    }
    let refused = program.create(&label(), None).await.unwrap_err();
    assert_eq!(refused, Trouble::Refused("quota exceeded".into()));
}
