//! What operators see: the catalogue, the metrics, and the lines of the log.

use serde_json::{Value, json};

use super::endpoint::{Act, grant, json as said};
use super::rig::{Plan, Rig};
use super::wire::within;

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

/// The page as the admin socket serves it.
async fn page(rig: &Rig) -> String {
    let reply = rig.operate("GET", "/metrics", "").await;
    assert_eq!(reply.status, 200);
    String::from_utf8(reply.body).unwrap()
}

/// The value of a sample, written as it stands in the page.
fn value(page: &str, sample: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok())
}

#[tokio::test]
async fn what_happens_is_counted_where_a_scraper_reads_it() {
    let rig = rig().await;
    rig.endpoint.plays(|asked| Act::Say(grant(asked.nth, 300)));
    for _ in 0..3 {
        rig.token("checkout", "shop", "").await.token();
    }
    rig.token("reports", "shop", "").await;
    rig.token("checkout", "missing", "").await;
    rig.token("checkout", "no-such-provider", "").await;
    rig.run(&["reload"]).await;
    let page = page(&rig).await;
    for (sample, wanted) in [
        ("bursar_ready", 1.0),
        ("bursar_tokens_served_total{provider=\"shop\",freshness=\"fresh\"}", 3.0),
        ("bursar_cache_results_total{provider=\"shop\",result=\"fetch\"}", 1.0),
        ("bursar_cache_results_total{provider=\"shop\",result=\"hit\"}", 2.0),
        ("bursar_upstream_requests_total{provider=\"shop\",outcome=\"granted\"}", 1.0),
        ("bursar_upstream_requests_total{provider=\"missing\",outcome=\"credential\"}", 1.0),
        ("bursar_upstream_seconds_count{provider=\"shop\"}", 1.0),
        ("bursar_request_seconds_count{outcome=\"granted\"}", 3.0),
        ("bursar_request_seconds_count{outcome=\"refused\"}", 3.0),
        ("bursar_refusals_total{code=\"access_denied\"}", 2.0),
        ("bursar_refusals_total{code=\"temporarily_unavailable\"}", 1.0),
        ("bursar_verdicts_total{verdict=\"deny\"}", 1.0),
        ("bursar_provider_breaker{provider=\"shop\",endpoint=\"0\",state=\"passing\"}", 1.0),
        ("bursar_provider_failures{provider=\"missing\"}", 1.0),
        ("bursar_provider_budget_left{provider=\"shop\"}", 29.0),
        ("bursar_tokens_held{provider=\"shop\"}", 1.0),
        ("bursar_reloads_total{result=\"done\"}", 1.0),
        ("bursar_reload_successful", 1.0),
        ("bursar_journal_failing", 0.0),
        ("bursar_connections_limit{socket=\"operators\"}", 32.0),
    ] {
        assert_eq!(value(&page, sample), Some(wanted), "{sample} in\n{page}");
    }
    let stop = value(&page, "bursar_provider_hard_stop_seconds{provider=\"shop\"}").unwrap();
    assert!((200.0..=300.0).contains(&stop), "{stop}");
    let commits = value(&page, "bursar_journal_commit_seconds_count").unwrap();
    assert!(commits > 3.0, "{commits}");
    assert!(!page.contains("no-such-provider") && !page.contains("checkout"), "no label is a workload's to write");
}

#[tokio::test]
async fn a_scraper_of_this_host_reads_the_same_page_and_nothing_else() {
    let tables = format!("[metrics]\nlisten = \"127.0.0.1:0\"\n{ABOUT}");
    let rig = Plan { tables, ..Plan::default() }.raise().await;
    let said = rig.said();
    let address =
        said.split("http://").find_map(|rest| rest.split_once("/metrics").map(|(address, _)| address)).unwrap();
    let scrape = async |request: &str| {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        within(tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut answer)).await.unwrap();
        answer
    };
    let got = scrape(&format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\n\r\n")).await;
    assert!(got.starts_with("HTTP/1.1 200") && got.contains("text/plain; version=0.0.4"), "{got}");
    let names = |page: &str| page.lines().filter(|line| line.starts_with("# ")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(names(&got), names(&page(&rig).await));
    for (request, status) in [
        ("GET /metrics HTTP/1.1\r\nHost: evil.example:80\r\n\r\n", 403),
        ("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
        ("GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        ("POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", 405),
    ] {
        let answer = scrape(request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}{answer}");
    }
}

#[tokio::test]
async fn a_credential_that_is_refused_is_said_once_with_who_answers_for_it() {
    let rig = rig().await;
    rig.endpoint.plays(|_| Act::Say(said("401 Unauthorized", r#"{"error":"invalid_client"}"#)));
    for _ in 0..5 {
        rig.token("checkout", "shop", "").await;
    }
    let lines =
        |rig: &Rig| rig.said().lines().filter(|line| line.contains("own credential")).map(str::to_owned).collect();
    let told: Vec<String> = within(async {
        loop {
            let told: Vec<String> = lines(&rig);
            if !told.is_empty() {
                return told;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
    let [line] = &told[..] else { panic!("{told:?}") };
    for part in ["`bursar secret put`", "provider=shop", "owner=\"payments\"", "runbook=\"https://wiki.example/shop\""]
    {
        assert!(line.contains(part), "{part} is not in {line}");
    }
}

const TABLE: &str = include_str!("../../../docs/operations/metrics.md");
const ALERTS: &str = include_str!("../../../docs/operations/alerts.yaml");
const DASHBOARD: &str = include_str!("../../../docs/operations/dashboard.json");
const RUNBOOK: &str = include_str!("../../../docs/operations/README.md");

/// Name, kind and help of every metric of a page.
fn families(page: &str) -> Vec<(&str, &str, &str)> {
    let lines: Vec<_> = page.lines().filter(|line| line.starts_with("# ")).collect();
    lines
        .chunks(2)
        .map(|pair| {
            let (name, help) = pair[0].strip_prefix("# HELP ").unwrap().split_once(' ').unwrap();
            let kind = pair[1].strip_prefix(&format!("# TYPE {name} ")).unwrap();
            (name, kind, help)
        })
        .collect()
}

/// Every name of ours in `text`, without the suffixes of a histogram.
fn named(text: &str) -> Vec<&str> {
    let word = |c: char| c.is_ascii_lowercase() || c == '_';
    let starts = text.match_indices("bursar_").filter(|(at, _)| !text[..*at].ends_with(word));
    let names = starts.map(|(at, _)| text[at..].split(|c| !word(c)).next().unwrap());
    names.map(|name| name.strip_suffix("_bucket").unwrap_or(name)).collect()
}

#[tokio::test]
async fn every_metric_is_in_the_table_and_every_one_that_is_named_exists() {
    let rig = Rig::new().await;
    let page = page(&rig).await;
    let families = families(&page);
    assert!(families.iter().all(|(_, _, help)| help.len() > 10), "{families:?}");
    let rows: String = families.iter().map(|(name, kind, help)| format!("| `{name}` | {kind} | {help} |\n")).collect();
    let wanted = format!("<!-- metrics -->\n| metric | kind | is |\n|---|---|---|\n{rows}<!-- end -->\n");
    let start = TABLE.find("<!-- metrics -->").unwrap();
    if std::env::var_os("BURSAR_WRITE_DOCS").is_some() {
        std::fs::write("docs/operations/metrics.md", format!("{}{wanted}", &TABLE[..start])).unwrap();
    } else {
        assert!(TABLE[start..] == wanted, "metrics.md is old: run this test with BURSAR_WRITE_DOCS=1");
    }
    for text in [ALERTS, DASHBOARD, RUNBOOK] {
        for name in named(text) {
            assert!(families.iter().any(|(known, _, _)| *known == name), "`{name}` is no metric");
        }
    }
    let shown = [ALERTS, DASHBOARD].concat();
    let unseen = ["bursar_tokens_held", "bursar_connections_limit", "bursar_secrets_held"];
    let seen = |name: &str| named(&shown).contains(&name) || unseen.contains(&name) || name.ends_with("_bytes");
    for (name, ..) in families {
        assert!(seen(name) || name.starts_with("bursar_reload"), "nobody looks at `{name}`");
    }
    serde_json::from_str::<Value>(DASHBOARD).unwrap();
}

#[test]
fn every_alert_says_what_to_do_and_where_that_is_written() {
    let anchors: Vec<_> = RUNBOOK
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .map(|heading| heading.to_lowercase().replace(':', "").replace(' ', "-"))
        .collect();
    let rules: Vec<_> = ALERTS.split("- alert: ").skip(1).collect();
    assert!(rules.len() > 10);
    for rule in rules {
        for key in ["expr: ", "severity: ", "summary: \"", "action: \"", "runbook: \"README.md#"] {
            assert_eq!(rule.matches(key).count(), 1, "{key} in {rule}");
        }
        let anchor = rule.split("README.md#").nth(1).unwrap().split('"').next().unwrap();
        assert!(anchors.iter().any(|known| known == anchor), "no section `{anchor}`");
    }
}

/// A collector: what is posted to it, by path, and the status that it answers.
async fn collector(status: &'static str) -> (String, tokio::sync::mpsc::UnboundedReceiver<(String, Value)>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (heard, out) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = Vec::new();
            let (head, body) = loop {
                stream.read_buf(&mut bytes).await.unwrap();
                let text = String::from_utf8(bytes.clone()).unwrap();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
                if body.len() == length.parse::<usize>().unwrap() {
                    break (head.to_owned(), serde_json::from_str(body).unwrap());
                }
            };
            let _ = heard.send((head.lines().next().unwrap().to_owned(), body));
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n{{}}");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (address, out)
}

/// Every span of an export.
fn spans(body: &Value) -> Vec<Value> {
    body.pointer("/resourceSpans/0/scopeSpans/0/spans").unwrap().as_array().unwrap().clone()
}

#[tokio::test]
async fn a_collector_gets_the_steps_of_a_request_below_the_caller_s_span_and_no_token() {
    let (address, mut heard) = collector("200 OK").await;
    let tables = format!("[telemetry]\notlp = \"http://{address}/base/\"\n{ABOUT}");
    let rig = Plan { tables, ..Plan::default() }.raise().await;
    rig.endpoint.plays(|asked| Act::Say(grant(asked.nth, 300)));
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let traced = |flags: &str| {
        let head = format!("Bursar: 1\r\ntraceparent: 00-{trace}-00f067aa0ba902b7-{flags}\r\n");
        super::wire::request("GET", "/token/shop", &head, "")
    };
    let unsampled = super::wire::ask(&rig.socket("checkout"), traced("00")).await;
    let token = super::wire::ask(&rig.socket("checkout"), traced("01")).await;
    assert_eq!((unsampled.status, token.status), (200, 200));
    let (mut all, mut said) = (Vec::new(), String::new());
    while all.len() < 6 {
        let (line, body) = within(heard.recv()).await.unwrap();
        assert_eq!(line, "POST /base/v1/traces HTTP/1.1");
        said.push_str(&body.to_string());
        all.extend(spans(&body));
    }
    let of = |name: &str| all.iter().filter(|span| span["name"] == name).cloned().collect::<Vec<_>>();
    let [request] = &of("token")[..] else { panic!("the caller said no to the other: {all:?}") };
    assert_eq!((&request["traceId"], &request["parentSpanId"]), (&json!(trace), &json!("00f067aa0ba902b7")));
    for step in ["attest", "judge", "obtain", "record"] {
        assert_eq!(of(step)[0]["parentSpanId"], request["spanId"], "{step}");
    }
    let noted = |span: &Value, key: &str| {
        let attributes = span["attributes"].as_array().unwrap().clone();
        attributes.iter().find(|one| one["key"] == key).map(|one| one["value"]["stringValue"].clone()).unwrap()
    };
    assert_eq!(noted(request, "bursar.decision"), token.header("bursar-decision").unwrap());
    assert_eq!(
        (noted(request, "bursar.provider"), noted(request, "bursar.workload")),
        (json!("shop"), json!("checkout"))
    );
    // By this number the request and the flight that served it find each other.
    assert_eq!(noted(&of("flight")[0], "bursar.intent"), noted(request, "bursar.intent"));
    assert!(said.contains("service.instance.id") && !said.contains(&token.token()), "{said}");
}

#[tokio::test]
async fn a_collector_gets_the_steps_of_a_read_and_no_value() {
    let (address, mut heard) = collector("200 OK").await;
    let mut plan = Plan::with_a_secret();
    plan.tables.push_str(&format!("[telemetry]\notlp = \"http://{address}\"\n"));
    let rig = plan.raise().await;
    assert_eq!(rig.operate("PUT", "/secrets/api-key", "the-value-of-the-rig").await.status, 200);
    let reply = super::wire::ask(&rig.socket("checkout"), super::wire::get("/secret/api-key")).await;
    assert_eq!(reply.status, 200);
    let (_, body) = within(heard.recv()).await.unwrap();
    let names: Vec<_> = spans(&body).iter().map(|span| span["name"].clone()).collect();
    assert_eq!(names, ["secret", "attest", "judge", "obtain", "record"]);
    let said = body.to_string();
    assert!([reply.text("version").as_str(), "\"api-key\""].iter().all(|noted| said.contains(noted)), "{said}");
    assert!(!said.contains("the-value-of-the-rig"));
}

#[tokio::test]
async fn a_collector_that_fails_costs_traces_and_no_request() {
    let (address, mut heard) = collector("503 Service Unavailable").await;
    let tables = format!("[telemetry]\notlp = \"http://{address}\"\n{ABOUT}");
    let rig = Plan { tables, ..Plan::default() }.raise().await;
    rig.endpoint.plays(|asked| Act::Say(grant(asked.nth, 300)));
    rig.token("checkout", "shop", "").await.token();
    within(heard.recv()).await.unwrap();
    let dropped = async {
        while value(&page(&rig).await, "bursar_traces_dropped_total") == Some(0.0) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    within(dropped).await;
    rig.token("checkout", "shop", "").await.token();
    assert!(rig.said().contains("traces are not taken and are dropped; requests go on"), "{}", rig.said());
}
