//! X3 from outside: a canary driven through every path that there is comes out nowhere but where it belongs.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::endpoint::{Act, json};
use super::rig::{Plan, Rig, files};
use super::wire::{ask, eventually, get, post, within};

/// The client secret of this test, and what the tokens begin with.
const SECRET: &str = "canary-8f1c2b7ad903-secret";
const TOKEN: &str = "canary-51e07c64ba28-token";

/// How a text may be written where it should not be.
fn disguises(text: &str) -> Vec<Vec<u8>> {
    let mut all = vec![text.as_bytes().to_vec(), text.chars().rev().collect::<String>().into_bytes()];
    all.push(text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes());
    all.push(text.bytes().map(|byte| format!("{byte:02X}")).collect::<String>().into_bytes());
    all.push(text.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(", ").into_bytes());
    all.push(text.encode_utf16().flat_map(u16::to_le_bytes).collect());
    // Base64 of a text in which it stands, at each of the three alignments: what is the same in all such texts.
    for before in ["", "x", "xx"] {
        let lead = if before.is_empty() { 0 } else { 4 };
        for engine in [&STANDARD, &URL_SAFE_NO_PAD] {
            let whole = engine.encode(format!("{before}{text}"));
            all.push(whole.get(lead..whole.len() - 4).unwrap().as_bytes().to_vec());
        }
    }
    all
}

/// Everything that came out of the agent, by what it is.
#[derive(Default)]
struct Seen(Vec<(String, Vec<u8>)>);

impl Seen {
    fn add(&mut self, what: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.0.push((what.into(), bytes.into()));
    }

    /// What the agent keeps and shows of itself now.
    fn look(&mut self, rig: &Rig) {
        for path in files(rig.folder.path()) {
            self.add(path.display().to_string(), fs::read(&path).unwrap());
        }
        for file in ["cmdline", "environ", "comm"] {
            // The environment of a process that cannot be dumped is root's to read.
            if let Ok(bytes) = fs::read(format!("/proc/{}/{file}", rig.pid())) {
                self.add(file, bytes);
            }
        }
    }

    /// Where `text` stands, in whichever disguise.
    fn places_of(&self, text: &str) -> Vec<&str> {
        let disguises = disguises(text);
        let holds =
            |bytes: &[u8]| disguises.iter().any(|wanted| bytes.windows(wanted.len()).any(|part| part == &wanted[..]));
        self.0.iter().filter(|(_, bytes)| holds(bytes)).map(|(what, _)| what.as_str()).collect()
    }
}

/// Answers of a provider that says more than it should, to a request whose head was `head`.
fn leaky(nth: usize, head: &str) -> String {
    let proof = head.lines().find_map(|line| line.split_once("uthorization: Basic ")).map_or("", |(_, proof)| proof);
    let error = |status: &str, description: &str| {
        json(status, &format!(r#"{{"error":"invalid_client","error_description":"{description}"}}"#))
    };
    let grant =
        |more: &str| json("200 OK", &format!(r#"{{"access_token":"{TOKEN}-{nth}","token_type":"Bearer"{more}}}"#));
    match nth {
        0 => grant(r#","expires_in":300"#),
        1 => error("401 Unauthorized", &format!("the secret {SECRET} is wrong")),
        2 => error("400 Bad Request", &format!("Basic {proof}")),
        3 => json("400 Bad Request", &format!(r#"{{"error":"{SECRET}"}}"#)),
        4 => json("200 OK", &format!("<html>{SECRET} {TOKEN}</html>")),
        5 => grant(&format!(r#","expires_in":"{TOKEN}""#)),
        6 => grant(&format!(r#","expires_in":60,"scope":"{TOKEN} {SECRET}""#)),
        7 => json("200 OK", &format!(r#"{{"access_token":"{TOKEN}","token_type":"{SECRET}","expires_in":60}}"#)),
        8 => json("302 Found", "").replace("\r\n\r\n", &format!("\r\nLocation: http://127.0.0.1:1/{SECRET}\r\n\r\n")),
        9 => json(&format!("500 {SECRET}"), &format!(r#"{{"error":"server_error","error_uri":"{SECRET}"}}"#)),
        10 => format!("HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n{TOKEN}{SECRET}"),
        11 => format!("{SECRET} is no HTTP\r\n\r\n"),
        12 => {
            error("503 Service Unavailable", SECRET).replace("\r\n\r\n", &format!("\r\nRetry-After: {SECRET}\r\n\r\n"))
        }
        13 => grant(&format!(r#","expires_in":60,"{SECRET}":{{"{TOKEN}":["{SECRET}"]}},"cnf":{{"jkt":"{TOKEN}"}}"#)),
        _ => json("200 OK", &format!(r#"{{"access_token":"{TOKEN}\n","token_type":"Bearer","expires_in":60}}"#)),
    }
}

const LEAKS: usize = 15;

/// Deliveries into `out`, one that succeeds and each that fails with the canary in its hand.
fn deliveries(out: &Path) -> String {
    let out = out.display();
    let entry = |name: &str, more: &str| {
        format!("[deliver.{name}]\nworkload = \"checkout\"\npath = \"{out}/{name}\"\n{more}\n")
    };
    let speaks =
        format!("then = {{ command = [\"/bin/sh\", \"-c\", \"cat {out}/speaks; cat {out}/speaks >&2; exit 1\"] }}");
    entry("speaks", &format!("secret = \"other\"\n{speaks}"))
        + &entry("template", "template = \"canary.j2\"")
        + &entry("undefined", "template = \"undefined.j2\"")
        + &entry("link", "secret = \"other\"")
        + &entry("token", "token = { provider = \"stripe\" }")
}

async fn rig() -> Rig {
    let nowhere = crate::private_folder();
    delivering(nowhere.path()).await
}

async fn delivering(out: &Path) -> Rig {
    let of_provider = |nth: usize| {
        let auth = ["client_secret_basic", "client_secret_post", "client_secret_jwt"][nth % 3];
        format!(
            "[provider.leaky{nth}]\ntoken_endpoint = \"http://ENDPOINT/{nth}\"\nclient_id = \"bursar\"\n\
             client_auth = \"{auth}\"\nclient_secret = {{ store = \"local\", name = \"client\" }}\n\
             scopes = [\"read\"]\ndefault_scopes = [\"read\"]\ntags = [\"lab\"]\n"
        )
    };
    let secret = "[secret.other]\nstore = \"local\"\n[secret.unput]\nstore = \"local\"\n\
                  [secret.turning]\nstore = \"local\"\n[secret.turning.rotation]\ngrace = \"20m\"\n\
                  uptake_deadline = \"30m\"\n[secret.turning.rotation.random]\nlength = 40\n";
    let rule = "@id(\"other\") permit (principal == Workload::\"checkout\", action == Action::\"secret\", resource);";
    let tables = (0..LEAKS).map(of_provider).collect::<String>() + "[log]\nlevel = \"trace\"\n";
    let tables = tables + secret + &deliveries(out);
    let mut plan = Plan { tables, client_secret: SECRET.to_owned(), ..Plan::default() };
    plan.policies.insert("other.cedar".to_owned(), rule.to_owned());
    let mut rig = plan.lay().await;
    fs::write(rig.path("canary.j2"), "{{ secret_json('other').password }}").unwrap();
    fs::write(rig.path("undefined.j2"), "{{ (secret('other') ~ secret('other')).none }}").unwrap();
    symlink("elsewhere", out.join("link")).unwrap();
    rig.start().await;
    rig.endpoint.plays(|asked| {
        let nth = asked.head.split('/').nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
        Act::Say(leaky(nth.parse().unwrap(), &asked.head))
    });
    rig
}

#[tokio::test]
async fn a_secret_and_a_token_come_out_nowhere_but_where_they_belong() {
    let out = crate::private_folder();
    let mut rig = delivering(out.path()).await;
    let mut seen = Seen::default();
    let (mut tokens, mut refused) = (Vec::new(), 0);
    for nth in 0..LEAKS {
        let reply = rig.token("checkout", &format!("leaky{nth}"), "").await;
        if reply.status == 200 {
            tokens.push(reply.token());
        } else {
            refused += 1;
            seen.add(format!("the error of leaky{nth}"), reply.body);
        }
    }
    assert_eq!((tokens.len(), refused), (1, LEAKS - 1), "what cannot be used is not served: {tokens:?}");
    assert!(rig.endpoint.asked().len() >= LEAKS, "what may pass is tried again while somebody waits");
    tokens.push(rig.token("checkout", "stripe", "").await.token());
    operate(&rig, &mut seen).await;
    ask_with_credentials(&rig, &mut seen).await;
    read_secrets(&rig, &mut seen).await;
    deliver(&rig, out.path(), &mut seen).await;
    tokens.push(fs::read_to_string(out.path().join("token")).unwrap());
    let rotated = rotate(&rig, &mut seen).await;
    execute(&rig, &mut seen).await;
    rig.policy("lab.cedar", "permit (");
    let output = rig.run(&["reload"]).await;
    seen.add("a reload that failed", [output.stdout, output.stderr].concat());
    seen.look(&rig);
    assert!(rig.stop().await.success());
    seen.look(&rig);

    assert_eq!(seen.places_of(SECRET), [""; 0], "the client secret");
    assert_eq!(seen.places_of(TOKEN), [""; 0], "what a provider called a token");
    for value in &rotated {
        assert_eq!(seen.places_of(value), [""; 0], "a value that a rotation made");
    }
    for token in &tokens {
        assert_eq!(seen.places_of(token), [""; 0], "a token that was served");
        let (_, signature) = token.rsplit_once(['.', '-']).unwrap();
        assert!(signature.len() < 20 || seen.places_of(signature).is_empty(), "a part of it");
    }
    let log = rig.said();
    assert!(log.contains("DEBUG") || log.contains("TRACE"), "the log was at its loudest:\n{log}");
}

/// What operators do and are shown, with the canary as the value.
async fn operate(rig: &Rig, seen: &mut Seen) {
    for (method, path) in
        [("PUT", "/secrets/local/other"), ("PUT", "/secrets/nowhere/x"), ("GET", "/secrets"), ("GET", "/status")]
    {
        seen.add(path, rig.operate(method, path, if method == "PUT" { SECRET } else { "" }).await.body);
    }
    for name in ["local/other", "nowhere/x"] {
        let output = rig.put_by_command(name, SECRET).await;
        seen.add(format!("secret put {name}"), [output.stdout, output.stderr].concat());
    }
    let output = rig.run(&["--json", "status"]).await;
    seen.add("status", [output.stdout, output.stderr].concat());
    upkeep(rig, seen).await;
}

/// The store as a whole, and secrets on their way into it: what succeeds and what fails.
async fn upkeep(rig: &Rig, seen: &mut Seen) {
    let mounted = tempfile::tempdir().unwrap();
    for (name, mode) in [("good", 0o600), ("open", 0o644)] {
        fs::write(mounted.path().join(name), SECRET).unwrap();
        fs::set_permissions(mounted.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let mounted = mounted.path().to_str().unwrap();
    // What is no key may be a secret that was mistaken for one.
    seen.add("rekey", rig.operate("POST", "/stores/local/rekey", SECRET).await.body);
    seen.add("copy", rig.operate("POST", &format!("/secrets/local/{SECRET}%22?from={SECRET}"), SECRET).await.body);
    let backup = rig.path("backup.db");
    let versions = rig.run(&["--json", "secret", "versions", "local/good"]).await.stdout;
    seen.add("versions", versions);
    for arguments in [
        &["secret", "import", "--from", mounted, "local", "--dry-run"][..],
        &["secret", "import", "--from", mounted, "local"],
        &["--json", "secret", "import", "--from", mounted, "local"],
        &["secret", "import", "--from", "local", "local/again"],
        &["secret", "import", "--from", "local", "nowhere"],
        &["secret", "retire", "local/good", "--version", "none"],
        &["store", "rekey", "local"],
        &["store", "rekey", "local", "--key-credential"],
        &["store", "rekey", "nowhere"],
        &["store", "backup", "local", "--out", backup.to_str().unwrap()],
        &["store", "backup", "local", "--out", "/nonexistent/backup"],
        &["store", "check", "local"],
        &["--json", "store", "check", "nowhere"],
        &["store", "restore", "local", "--from", backup.to_str().unwrap()],
    ] {
        let output = rig.run(arguments).await;
        let said = [output.stdout, output.stderr].concat();
        seen.add(arguments[..2].join(" "), String::from_utf8(said).unwrap().replace(mounted, ""));
    }
}

/// What is said to those who read the canary from its store, apart from the one reply in which it belongs.
async fn read_secrets(rig: &Rig, seen: &mut Seen) {
    let given = ask(&rig.socket("checkout"), get("/secret/other")).await;
    assert_eq!(given.text("value"), SECRET, "it is put by now");
    let tag = given.header("etag").unwrap().to_owned();
    seen.add("the headers of a secret", given.header_names().collect::<String>() + &tag);
    let known = get("/secret/other").replace("\r\n\r\n", &format!("\r\nIf-None-Match: {tag}\r\n\r\n"));
    for (workload, asked) in [
        ("checkout", known),
        ("checkout", get("/secret/other?version=none-such")),
        ("checkout", get(&format!("/secret/other?wait={SECRET}"))),
        ("checkout", get(&format!("/secret/{SECRET}"))),
        ("checkout", get("/secret/unput")),
        ("reports", get("/secret/other")),
    ] {
        seen.add(format!("{asked:.40}"), ask(&rig.socket(workload), &asked).await.body);
    }
    for arguments in [&["secret", "versions", "other"][..], &["secret", "get", "other"]] {
        // The second comes from no workload: it is refused.
        let output = rig.run(arguments).await;
        seen.add(arguments.join(" "), [output.stdout, output.stderr].concat());
    }
}

/// A rotation, the next one, and the end of a leak: each value that was Current, as its reader got it.
async fn rotate(rig: &Rig, seen: &mut Seen) -> Vec<String> {
    let read = async || {
        eventually("a version", async || {
            let reply = ask(&rig.socket("checkout"), get("/secret/turning")).await;
            (reply.status == 200).then(|| reply.text("value"))
        })
        .await
    };
    let mut values = vec![read().await];
    for arguments in [
        &["rotate", "turning", "--dry-run"][..],
        &["--json", "rotate", "turning"],
        &["rotate", "turning"],
        &["rotations"],
        &["--json", "rotations"],
        &["revoke", "turning", "--reason", "drill"],
        &["--json", "rotate", "turning", "--now", "--reason", "drill"],
        &["--json", "revoke", "turning", "--reason", "drill"],
        &["--json", "rotations"],
    ] {
        let output = rig.run(arguments).await;
        seen.add(arguments.join(" "), [output.stdout, output.stderr].concat());
        seen.look(rig);
        values.push(read().await);
    }
    seen.add("the metrics of rotations", rig.operate("GET", "/metrics", "").await.body);
    seen.add("the status of rotations", rig.operate("GET", "/rotations", "").await.body);
    values.sort();
    values.dedup();
    assert!(values.len() >= 3, "{} values were Current", values.len());
    values
}

/// The canary in files: where it belongs, and where it cannot be put.
async fn deliver(rig: &Rig, out: &Path, seen: &mut Seen) {
    assert!(rig.run(&["reload"]).await.status.success());
    let said = eventually("each delivery was tried", || async {
        let status = rig.run(&["--json", "status"]).await.stdout;
        let text = String::from_utf8(status).unwrap();
        let tried = ["the command failed", "is not JSON", "undefined value", "a symbolic link"];
        tried.iter().all(|what| text.contains(what)).then_some(text)
    })
    .await;
    assert_eq!(fs::read_to_string(out.join("speaks")).unwrap(), SECRET);
    seen.add("the status of deliveries", said);
    seen.add("the metrics of deliveries", rig.operate("GET", "/metrics", "").await.body);
}

/// The canary in the hands of `bursar exec`, whose programs say nothing of it.
async fn execute(rig: &Rig, seen: &mut Seen) {
    let template = format!("{}=x", rig.path("canary.j2").display());
    let script = "tr '\\0' ' ' < /proc/$PPID/cmdline; exit 3";
    for options in [["--env", "A=secret:other"], ["--file", "a=secret:other"], ["--template", &template]] {
        let mut command = rig.command();
        command.arg("--socket").arg(rig.socket("checkout")).arg("exec").args(options);
        command.args(["--", "/bin/sh", "-c", script]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = within(command.output()).await.unwrap();
        assert!(!output.status.success());
        seen.add(format!("exec {options:?}"), [output.stdout, output.stderr].concat());
    }
}

/// What stock clients send beside their request, which is ignored, and what is malformed.
async fn ask_with_credentials(rig: &Rig, seen: &mut Seen) {
    let basic = STANDARD.encode(format!("bursar:{SECRET}"));
    let form = format!("client_id=bursar&client_secret={SECRET}&x={SECRET}");
    let header = |asked: String| asked.replace("\r\n\r\n", &format!("\r\nAuthorization: Basic {basic}\r\n\r\n"));
    for asked in [
        post("missing", &form),
        header(post("refused", &form)),
        post("stripe", &format!("{form}&scope={SECRET}%22")),
        header(get("/whoami")),
        header(get(&format!("/{SECRET}"))),
        post(SECRET, &form),
        post("stripe", &form).replace("client_credentials", SECRET),
        format!("GET /healthz HTTP/1.1\r\n{SECRET}\r\n\r\n"),
    ] {
        seen.add(format!("{asked:.30}"), ask(&rig.socket("checkout"), &asked).await.body);
    }
}

#[tokio::test]
async fn the_search_finds_a_canary_that_is_there() {
    let rig = rig().await;
    let planted: [(&str, Vec<u8>); 5] = [
        ("plain", format!("… {SECRET} …").into_bytes()),
        ("state/basic", STANDARD.encode(format!("bursar:{SECRET}\n")).into_bytes()),
        ("state/shifted", URL_SAFE_NO_PAD.encode(format!("a-client:{SECRET}:")).into_bytes()),
        ("policies/hex", SECRET.bytes().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes()),
        ("state/debug", format!("Secret({:?})", SECRET.as_bytes()).into_bytes()),
    ];
    let mut places: Vec<PathBuf> = Vec::new();
    for (name, bytes) in planted {
        places.push(rig.path(name));
        fs::write(rig.path(name), bytes).unwrap();
    }
    let mut seen = Seen::default();
    seen.look(&rig);
    let mut found: Vec<_> = seen.places_of(SECRET).into_iter().map(PathBuf::from).collect();
    found.sort();
    places.sort();
    assert_eq!(found, places);
    assert!(seen.0.iter().any(|(what, bytes)| what == "cmdline" && !bytes.is_empty()));
    let reply = rig.token("checkout", "leaky0", "").await;
    seen.add("the reply", reply.body);
    assert_eq!(seen.places_of(TOKEN), ["the reply"]);
}
