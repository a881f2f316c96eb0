//! Configuration: the shipped example, and what is wrong in a file that can be read.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bursar::access::SecretId;
use bursar::config::meant::{AudienceParameter, ClientAuth, Durability, KeyId, Server, Share, Store, StoreKey};
use bursar::config::said::Said;
use bursar::config::{self, Read, Report};
use bursar::document::{self, Source};
use bursar::fault::{Fault, Faults};
use bursar::name::Name;
use bursar::rotation::Uptake;
use tempfile::TempDir;

const EXAMPLE: &str = "examples/bursar.toml";

/// The least that a provider needs, and the store that it refers to.
const STRIPE: &str = r#"
[store.local]
kind = "sealed"
[provider.stripe]
token_endpoint = "https://login.example.com/token"
client_id = "bursar"
client_secret = { store = "local", name = "stripe-client" }
scopes = ["charges:read", "charges:write"]
"#;

fn read(text: &str) -> Result<Read, Faults> {
    let source = Source { file: "etc/bursar.toml".into(), text: text.to_owned() };
    config::read(&[source], Path::new("/base"))
}

/// What is wrong with [`STRIPE`] when `lines` are added to its provider, or replace a line of the same key.
fn stripe_with(lines: &str) -> Vec<Fault> {
    let keys: Vec<_> = lines.lines().filter_map(|line| line.split_once('=')).map(|(key, _)| key.trim()).collect();
    let kept = STRIPE.lines().filter(|line| !line.split_once('=').is_some_and(|(key, _)| keys.contains(&key.trim())));
    let text = format!("{}\n{lines}\n", kept.collect::<Vec<_>>().join("\n"));
    read(&text).err().iter().flat_map(Faults::iter).cloned().collect()
}

fn assert_fault(faults: &[Fault], key: &str, what: &str) {
    let found = faults.iter().any(|fault| fault.place.key == key && fault.what.contains(what) && fault.place.line > 0);
    assert!(found, "no `{what}` at `{key}` in {faults:#?}");
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

#[test]
fn every_schema_that_is_read_is_covered() {
    assert_eq!(document::uncovered::<Said>(), Ok(()));
    assert_eq!(document::uncovered::<bursar::peer::registry::Document>(), Ok(()));
}

#[test]
fn the_shipped_example_has_no_fault() {
    let source = Source { file: EXAMPLE.into(), text: fs::read_to_string(EXAMPLE).unwrap() };
    let read = config::read(&[source], Path::new("/")).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(read.warnings, []);
    assert_eq!((read.settings.providers.len(), read.settings.stores.len(), read.settings.secrets.len()), (1, 4, 5));
    assert_eq!(read.settings.deliveries.len(), 3);
}

#[test]
fn the_shipped_example_says_the_defaults() {
    let settings = |text: &str| {
        let source = Source { file: EXAMPLE.into(), text: text.to_owned() };
        config::read(&[source], Path::new("/")).unwrap().settings
    };
    let (mut example, default) = (settings(&fs::read_to_string(EXAMPLE).unwrap()), settings(""));
    example.agent.listeners.clear();
    assert_eq!(example.agent, default.agent);
    assert_eq!((example.log, example.audit, example.limits), (default.log, default.audit, default.limits));
    assert_eq!(example.container_roots, default.container_roots);
}

#[test]
fn an_empty_configuration_means_the_defaults() {
    let read = read("").unwrap();
    let agent = &read.settings.agent;
    assert_eq!((agent.socket_mode, agent.admin_mode), (0o666, 0o660));
    assert_eq!(agent.socket, Path::new("/run/bursar/bursar.sock"));
    assert_eq!(read.settings.audit.dir, Path::new("/var/lib/bursar/audit"));
    assert_eq!(read.settings.audit.durability, Durability::Disk);
    assert_eq!(read.settings.limits.connections_per_uid, 2500);
    assert_eq!(read.warnings.len(), 1, "that there is nothing to ask for");
}

#[test]
fn what_was_said_becomes_what_is_meant() {
    let text = format!(
        "{STRIPE}\naudience = [\"api\"]\nshare = \"host\"\ntimeout = \"9s\"\nca_file = \"ca.pem\"\ntags = [\"b\", \"a\"]\n"
    );
    let read = read(&text).unwrap();
    let stripe = &read.settings.providers[&name("stripe")];
    assert!(
        matches!(&stripe.servers[0], Server::Endpoint(url) if url.url().as_str() == "https://login.example.com/token")
    );
    assert_eq!(stripe.client_auth, ClientAuth::ClientSecretBasic);
    assert_eq!(
        stripe.credential.stored().map(|(key, at)| (key, at.name.as_str())),
        Some(("client_secret", "stripe-client"))
    );
    assert_eq!((stripe.audience_as, stripe.share), (AudienceParameter::Audience, Share::Host));
    assert_eq!((stripe.timeout, stripe.connect_timeout), (Duration::from_secs(9), Duration::from_secs(2)));
    assert_eq!(stripe.ca_file.as_deref(), Some(Path::new("/base/etc/ca.pem")), "relative to the file");
    assert_eq!(stripe.about.tags, [name("a"), name("b")]);
}

#[test]
fn a_store_key_is_made_only_inside_the_state() {
    let text = "[store.a]\nkind = \"sealed\"\n[store.b]\nkind = \"sealed\"\nkey = { file = \"store.key\" }\n\
                [store.c]\nkind = \"sealed\"\nkey = { file = \"/var/lib/bursar/c.key\" }\n[store.d]\nkind = \"sealed\"\n\
                key = { file = \"/var/lib/bursar/../c.key\" }\n";
    let stores = read(text).unwrap().settings.stores;
    let made = |store: &str| match &stores[&name(store)] {
        Store::Sealed { key: StoreKey::File { path, made }, .. } => (path.clone(), *made),
        other @ (Store::Sealed { .. } | Store::Files { .. } | Store::Aws(_) | Store::OpenBao(_)) => panic!("{other:?}"),
    };
    assert_eq!(made("a"), (PathBuf::from("/var/lib/bursar/a.key"), true));
    assert_eq!(made("b"), (PathBuf::from("/base/etc/store.key"), false));
    assert!(made("c").1);
    assert!(!made("d").1, "`..` leads out of it");
}

#[test]
fn policy_knows_every_secret_that_is_spoken_of() {
    let text = format!("{STRIPE}\n[secret.key]\nstore = \"local\"\npath = \"stripe/key\"\ntags = [\"payments\"]\n");
    let settings = read(&text).unwrap().settings;
    let ids: Vec<_> = settings.secret_ids().keys().map(ToString::to_string).collect();
    assert_eq!(ids, ["key", "local/stripe-client", "local/stripe/key"]);
    let at = |id: &str| settings.locate(&id.parse::<SecretId>().unwrap()).map(|at| at.name.to_string());
    assert_eq!(at("key").as_deref(), Some("stripe/key"));
    assert_eq!(at("local/new").as_deref(), Some("new"), "an operator may write what nothing speaks of yet");
    assert_eq!((at("other/new"), at("nothing")), (None, None));
}

#[test]
fn what_is_not_built_is_refused_with_its_place() {
    let text = format!(
        "{STRIPE}\n\
         [audit]\nretention = \"400d\"\ncheckpoint_every = \"1s\"\n[[audit.forward]]\nkind = \"journal\"\n\
         [[audit.witness]]\nurl = \"u\"\nkey = \"k\"\n"
    );
    let faults = read(&text).unwrap_err();
    let keys: BTreeSet<_> = faults.iter().map(|fault| fault.place.key.as_str()).collect();
    let wanted = ["audit.checkpoint_every", "audit.forward", "audit.retention", "audit.witness"];
    assert_eq!(keys, BTreeSet::from(wanted));
    assert!(faults.iter().all(|fault| fault.what.contains("not available in this version") && fault.place.line > 0));
}

#[test]
fn readers_of_other_agents_count_where_the_store_carries_notices_and_two_values_work() {
    let with = |store: &str, rotator: &str| {
        let bao = "[store.bao]\nkind = \"openbao\"\naddress = \"https://bao.example\"\nmount = \"kv\"\nauth = { token_file = \"t\" }\n";
        let key = format!("[secret.key]\nstore = \"{store}\"\n[secret.key.rotation]\nuptake = \"store\"\n{rotator}\n");
        read(&format!("{STRIPE}\n{bao}{key}")).map(|read| read.settings.secrets[&name("key")].rotation.clone())
    };
    let two = "[secret.key.rotation.random]";
    assert_eq!(with("bao", two).unwrap().unwrap().uptake, Uptake::Store);
    let one = "[secret.key.rotation.postgres]\naddress = \"db:1\"\ndatabase = \"d\"\nuser = \"u\"\n\
               admin = { store = \"local\", name = \"a\" }";
    for (store, rotator, what) in [("local", two, "carries no notices"), ("bao", one, "has no effect")] {
        let faults = with(store, rotator).unwrap_err();
        let fault = faults.iter().next().unwrap();
        assert_eq!((faults.iter().count(), fault.place.key.as_str()), (1, "secret.key.rotation.uptake"), "{faults}");
        assert!(fault.what.contains(what) && fault.help.is_some() && fault.place.line > 0, "{faults}");
    }
}

#[test]
fn aws_is_a_region_and_perhaps_another() {
    let with = |keys: &str| {
        let aws = format!("[store.aws]\nkind = \"aws-secretsmanager\"\n{keys}\n");
        read(&format!("{STRIPE}\n{aws}")).map(|read| read.settings.stores[&name("aws")].clone())
    };
    let whole = "region = \"eu-central-1\"\nendpoint = \"http://127.0.0.1:5555\"\nprefix = \"prod/\"\n\
                 replica_region = \"eu-west-1\"";
    let Store::Aws(aws) = with(whole).unwrap() else { panic!("not AWS") };
    assert_eq!((aws.region.as_str(), aws.prefix.as_str()), ("eu-central-1", "prod/"));
    assert_eq!((aws.replica_region.as_deref(), aws.endpoint.unwrap().is_plain()), (Some("eu-west-1"), true));
    assert!(with("region = \"eu-central-1\"").is_ok());
    for (key, keys) in [
        ("region", "region = \"Frankfurt\""),
        ("endpoint", "region = \"a-b-1\"\nendpoint = \"http://secrets.example\""),
        ("endpoint", "region = \"a-b-1\"\nendpoint = \"https://me:pw@secrets.example\""),
        ("prefix", "region = \"a-b-1\"\nprefix = \"what ever\""),
        ("prefix", "region = \"a-b-1\"\nprefix = \"/prod\""),
        ("replica_region", "region = \"a-b-1\"\nreplica_region = \"a-b-1\""),
    ] {
        let faults = with(keys).unwrap_err();
        let places: Vec<_> = faults.iter().map(|fault| fault.place.key.as_str()).collect();
        assert_eq!(places, [format!("store.aws.{key}")], "{keys}");
        assert!(faults.iter().all(|fault| !fault.what.contains("pw")));
    }
}

#[test]
fn a_store_says_how_long_its_values_count_as_fresh_within_bounds() {
    let with = |period: &str| {
        let store = format!("[store.mounted]\nkind = \"files\"\npath = \"p\"\nstale_after = \"{period}\"\n");
        read(&format!("{STRIPE}\n{store}")).map(|read| read.settings.fresh_for)
    };
    for (good, seconds) in [("1s", 1), ("5m", 300), ("1d", 86_400)] {
        let fresh_for = with(good).unwrap();
        assert_eq!(fresh_for, [("mounted".parse().unwrap(), Duration::from_secs(seconds))].into());
    }
    for bad in ["0s", "999ms", "25h"] {
        let faults = with(bad).unwrap_err();
        assert!(faults.iter().all(|fault| fault.place.key == "store.mounted.stale_after"), "{faults}");
    }
}

#[test]
fn openbao_is_reached_by_https_or_on_this_host() {
    let with = |address: &str, auth: &str| {
        let bao = format!("[store.bao]\nkind = \"openbao\"\naddress = \"{address}\"\nmount = \"kv\"\nauth = {auth}\n");
        read(&format!("{STRIPE}\n{bao}")).map(|read| read.settings.stores[&"bao".parse().unwrap()].clone())
    };
    let token = "{ token_file = \"token\" }";
    for good in ["https://bao.example:8200", "http://127.0.0.1:8200", "https://bao.example/behind/a/proxy/"] {
        let Store::OpenBao(bao) = with(good, token).unwrap() else { panic!("{good}") };
        assert!(bao.login_file().is_absolute() && bao.login_file().ends_with("token"));
    }
    for bad in ["http://bao.example:8200", "bao.example:8200", "https://me:pw@bao.example", "https://bao.example/?x=y"]
    {
        let faults = with(bad, token).unwrap_err();
        assert!(
            faults.iter().all(|fault| fault.place.key == "store.bao.address" && !fault.what.contains("pw")),
            "{bad}"
        );
    }
    let both = "{ token_file = \"token\", approle = { role_id = \"r\", secret_id_file = \"s\" } }";
    assert!(with("https://bao.example", both).is_err() && with("https://bao.example", "{}").is_err());
}

/// STRIPE without its `client_secret`, with `lines`.
fn stripe_by(lines: &str) -> String {
    let kept: Vec<_> = STRIPE.lines().filter(|line| !line.starts_with("client_secret")).collect();
    format!("{}\n{lines}\n", kept.join("\n"))
}

const KEY: &str = "{ store = \"local\", name = \"k\" }";

#[test]
fn every_client_authentication_has_its_own_keys() {
    let certificate = format!("certificate = \"c.pem\"\ncertificate_key = {KEY}");
    for (auth, keys, stored) in [
        (ClientAuth::ClientSecretBasic, format!("client_secret = {KEY}"), Some("client_secret")),
        (ClientAuth::ClientSecretPost, format!("client_secret = {KEY}"), Some("client_secret")),
        (
            ClientAuth::ClientSecretJwt,
            format!("client_secret = {KEY}\nassertion_audience = \"urn:a\""),
            Some("client_secret"),
        ),
        (
            ClientAuth::PrivateKeyJwt,
            format!("private_key = {KEY}\nsigning_alg = \"PS256\"\nkey_id = \"k1\""),
            Some("private_key"),
        ),
        (ClientAuth::TlsClientAuth, certificate.clone(), Some("certificate_key")),
        (ClientAuth::SelfSignedTlsClientAuth, certificate, Some("certificate_key")),
        (ClientAuth::FederatedAssertion, "assertion_file = \"a.jwt\"".to_owned(), None),
    ] {
        let read = read(&stripe_by(&format!("client_auth = \"{}\"\n{keys}", auth.as_str()))).unwrap();
        let provider = &read.settings.providers[&name("stripe")];
        assert_eq!((provider.client_auth, provider.credential.stored().map(|(key, _)| key)), (auth, stored));
        let faults = stripe_faults(&format!("client_auth = \"{}\"", auth.as_str()));
        assert!(faults.iter().all(|fault| fault.what.contains("lacks the required key")), "{faults:#?}");
        assert!(!faults.is_empty(), "{auth:?} needs something");
    }
    assert_fault(&stripe_with("client_auth = \"none\""), "provider.stripe.client_auth", "cannot be `none`");
}

fn stripe_faults(lines: &str) -> Vec<Fault> {
    read(&stripe_by(lines)).err().iter().flat_map(Faults::iter).cloned().collect()
}

#[test]
fn an_issuer_beside_a_token_endpoint_says_whom_assertions_are_for() {
    let signed = format!("client_auth = \"private_key_jwt\"\nprivate_key = {KEY}\nissuer = \"https://a.example\"");
    let elsewhere = format!("{signed}\nassertion_audience = \"urn:a\"");
    let plain = format!("client_secret = {KEY}\nissuer = \"https://a.example\"");
    for (lines, audience, warnings) in
        [(signed, Some("https://a.example"), 0), (elsewhere, Some("urn:a"), 1), (plain, None, 1)]
    {
        let read = read(&stripe_by(&lines)).unwrap();
        assert_eq!(read.settings.providers[&name("stripe")].signing.audience.as_deref(), audience, "{lines}");
        assert_eq!(read.warnings.len(), warnings, "{:?}", read.warnings);
    }
}

#[test]
fn a_credential_of_another_way_is_never_accepted_without_effect() {
    for line in [
        format!("private_key = {KEY}"),
        "signing_alg = \"ES256\"".to_owned(),
        "key_id = \"k\"".to_owned(),
        "assertion_audience = \"urn:a\"".to_owned(),
        "certificate = \"c.pem\"".to_owned(),
        format!("certificate_key = {KEY}"),
        "assertion_file = \"a.jwt\"".to_owned(),
    ] {
        let key = line.split(' ').next().unwrap();
        let key = format!("provider.stripe.{key}");
        assert_fault(&stripe_with(&line), &key, "has no effect with `client_auth = \"client_secret_basic\"`");
    }
    let faults = stripe_with("client_auth = \"federated_assertion\"\nassertion_file = \"a.jwt\"");
    assert_fault(&faults, "provider.stripe.client_secret", "has no effect");
}

#[test]
fn what_cannot_work_with_a_client_authentication_is_a_fault() {
    let by_certificate = format!(
        "client_auth = \"tls_client_auth\"\ncertificate = \"c.pem\"\ncertificate_key = {KEY}\n\
         token_endpoint = \"http://127.0.0.1/t\"\nclient_secret = {KEY}"
    );
    assert_fault(&stripe_with(&by_certificate), "provider.stripe.client_auth", "needs TLS");
    let alg = format!("client_auth = \"private_key_jwt\"\nprivate_key = {KEY}\nsigning_alg = \"HS256\"");
    assert_fault(&stripe_faults(&alg), "provider.stripe.signing_alg", "cannot be `HS256`");
    let id = format!("client_auth = \"private_key_jwt\"\nprivate_key = {KEY}\nkey_id = \"a b\"");
    assert_fault(&stripe_faults(&id), "provider.stripe.key_id", "not a key id");
    assert_fault(&stripe_with("revoke_at_shutdown = true"), "provider.stripe.revoke_at_shutdown", "has no effect");
    let plain = "revocation_endpoint = \"http://a.example/r\"";
    assert_fault(&stripe_with(plain), "provider.stripe.revocation_endpoint", "plain http");
    let both = "revoke_at_shutdown = true\nrevocation_endpoint = \"https://a.example/r\"";
    assert!(stripe_with(both).is_empty());
}

#[test]
fn several_endpoints_are_tried_in_their_order() {
    let (one, other) = ("https://a.example/t", "https://b.example/t");
    let two = format!("[\"{one}\", \"{other}\"]");
    let read = read(&STRIPE.replace("\"https://login.example.com/token\"", &two)).unwrap();
    let servers: Vec<_> = read.settings.providers.values().next().unwrap().servers.iter().collect();
    assert!(
        matches!(&servers[..], [Server::Endpoint(a), Server::Endpoint(b)] if a.to_string() == one && b.to_string() == other)
    );
    assert_fault(
        &stripe_with(&format!("token_endpoint = [\"{one}\", \"{one}\"]")),
        "provider.stripe.token_endpoint",
        "twice",
    );
    assert!(!stripe_with("token_endpoint = []").is_empty());
}

#[test]
fn rates_have_defaults_and_can_be_taken_out() {
    let limits = read(STRIPE).unwrap().settings.limits;
    assert_eq!((limits.per_workload, limits.mints_per_workload.map(|rate| rate.count)), (None, Some(60)));
    let off =
        format!("{STRIPE}\nbudget = \"off\"\n[limits]\nper_workload = \"2000/s\"\nmints_per_workload = \"off\"\n");
    let settings = read(&off).unwrap().settings;
    assert_eq!(settings.limits.per_workload.map(|rate| (rate.count, rate.every.as_secs())), Some((2_000, 1)));
    assert_eq!((settings.limits.mints_per_workload, settings.providers.values().next().unwrap().budget), (None, None));
}

#[test]
fn a_provider_has_to_make_sense() {
    let stripe = |key: &str| format!("provider.stripe.{key}");
    for (line, key, what) in [
        ("default_scopes = [\"charges:raed\"]", "default_scopes", "is not in"),
        ("token_endpoint = \"http://login.example.com/t\"", "token_endpoint", "plain http"),
        ("token_endpoint = \"https://me:pw@login.example.com/t\"", "token_endpoint", "password in it"),
        ("token_endpoint = \"login\"", "token_endpoint", "is not a URL"),
        ("issuer = \"https://a.example/?x=y\"", "issuer", "has a query"),
        ("resources = [\"api\"]", "resources", "is not an absolute URI"),
        ("resources = [\"https://a.example/#x\"]", "resources", "fragment"),
        ("resources = [\"https://a.example\"]\naudience = [\"a\"]", "audience", "both"),
        ("refresh_at = 1.5", "refresh_at", "cannot be 1.5"),
        ("refresh_at = nan", "refresh_at", "cannot be nan"),
        ("timeout = \"0s\"", "timeout", "cannot be `0s`"),
        ("timeout = \"2h\"", "timeout", "cannot be `2h`"),
        ("timeout = \"5 s\"", "timeout", "not a duration"),
        ("timeout = 5", "timeout", "must be a string, not an integer"),
        ("connect_timeout = \"9s\"", "connect_timeout", "longer than `timeout`"),
        ("lifetime_if_missing = \"31d\"", "lifetime_if_missing", "longer than `30d`"),
        ("client_secret = { store = \"lokal\", name = \"x\" }", "client_secret.store", "there is no store `lokal`"),
        ("client_secret = \"hunter2\"", "client_secret", "must be a table, not a string"),
        ("client_id = \"\"", "client_id", "is not a client id"),
        ("runbook = \"javascript:x\"", "runbook", "is not the address of a page"),
        ("scopes = []\nrequire_all_scopes = true", "require_all_scopes", "has no effect"),
        ("scopes = [\"a b\"]", "scopes[0]", "a scope is 1 to 256"),
        ("scopes = [\"a\", \"a\"]", "scopes", "lists `a` twice"),
        ("owner = \"a\\nb\"", "owner", "not a label"),
    ] {
        assert_fault(&stripe_with(line), &stripe(key), what);
    }
    assert!(stripe_with("client_secret = \"hunter2\"").iter().all(|fault| !fault.to_string().contains("hunter2")));
    assert!(stripe_with("token_endpoint = \"https://me:pw@a.example/\"").iter().all(|f| !f.to_string().contains("pw")));
}

#[test]
fn a_provider_needs_a_server_and_a_credential() {
    let faults = read("[provider.stripe]\nclient_id = \"b\"\nscopes = []\n").unwrap_err();
    let faults: Vec<_> = faults.iter().cloned().collect();
    assert_fault(&faults, "provider.stripe", "lacks `issuer` or `token_endpoint`");
    assert_fault(&faults, "provider.stripe.client_secret", "lacks the required key `client_secret`");
    let faults = read("[provider.stripe]\n").unwrap_err();
    let faults: Vec<_> = faults.iter().cloned().collect();
    assert_fault(&faults, "provider.stripe.scopes", "lacks the required key `scopes`");
}

#[test]
fn the_agent_has_to_make_sense() {
    let long = format!("[agent]\nsocket = \"/{}\"\n", "x".repeat(110));
    for (text, key, what) in [
        ("[agent]\nsocket = \"@bursar\"\n", "agent.socket", "abstract socket"),
        ("[agent]\nsocket = \"\\u0000bursar\"\n", "agent.socket", "abstract socket"),
        (long.as_str(), "agent.socket", "has at most 107"),
        ("[agent]\nsocket = \"/run/x/\"\n", "agent.socket", "is a directory"),
        ("[agent]\nsocket_mode = \"666\"\n", "agent.socket_mode", "not a mode"),
        ("[agent]\nid = \"Host 7\"\n", "agent.id", "not a name"),
        ("[agent]\nsocket = \"/a\"\nadmin_socket = \"/a\"\n", "agent.admin_socket", "same socket as `agent.socket`"),
        ("[attest]\ncontainer_roots = [\"kubepods\"]\n", "attest.container_roots[0]", "not the path of a cgroup"),
        ("[audit]\nsegment = \"1MiB\"\n", "audit.reserve", "larger than `audit.segment`"),
        ("[audit]\nsegment = \"1KiB\"\nreserve = \"0B\"\n", "audit.segment", "below `1MiB`"),
        ("[limits]\nconnections = 5\nconnections_per_uid = 6\n", "limits.connections_per_uid", "more than the 5"),
        (
            "[store.x]\nkind = \"sealed\"\npath = \"/s.db\"\n[store.y]\nkind = \"sealed\"\npath = \"/s.db\"\n",
            "store.y.path",
            "are one file",
        ),
        ("[limits]\nconnections = 0\n", "limits.connections", "cannot be 0"),
        ("[secret.x]\nstore = \"nowhere\"\n", "secret.x.store", "there is no store `nowhere`"),
        (
            "[store.x]\nkind = \"sealed\"\nkey = { credential = \"../x\" }\n",
            "store.x.key.credential",
            "not the name of a credential",
        ),
    ] {
        let faults: Vec<_> = read(text).unwrap_err().iter().cloned().collect();
        if key == "agent.socket" && what.contains("107") {
            assert!(faults[0].what.contains("111 bytes"), "{faults:?}");
        }
        // A default has no line of its own.
        let found = faults.iter().any(|fault| fault.place.key == key && fault.what.contains(what));
        assert!(found, "no `{what}` at `{key}` in {faults:#?}");
    }
}

#[test]
fn listeners_have_sockets_of_their_own() {
    let text = "[[agent.listener]]\nsocket = \"/a\"\nworkload = \"x\"\n[[agent.listener]]\nsocket = \"/a\"\nworkload = \"y\"\n";
    let faults: Vec<_> = read(text).unwrap_err().iter().cloned().collect();
    assert_fault(&faults, "agent.listener[1].socket", "same socket as `agent.listener[0].socket`");
    assert!(faults[0].help.as_ref().unwrap().contains("etc/bursar.toml:2:10"));
}

#[test]
fn faults_of_meaning_come_all_at_once() {
    let text = format!(
        "{STRIPE}\nrunbook = \"x\"\ndefault_scopes = [\"x\"]\n[agent]\nsocket = \"@x\"\n[secret.x]\nstore = \"y\"\n"
    );
    assert_eq!(read(&text).unwrap_err().iter().count(), 4);
}

#[test]
fn what_is_probably_not_meant_is_a_warning() {
    for (lines, key) in [
        ("issuer = \"https://login.example.com\"", "provider.stripe.issuer"),
        ("extra_scopes = [\"charges:write\"]", "provider.stripe.extra_scopes"),
        ("[agent]\nadmin_mode = \"0666\"", "agent.admin_mode"),
        ("[secret.client]\nstore = \"local\"\npath = \"stripe-client\"", "secret.client"),
    ] {
        let warnings = read(&format!("{STRIPE}\n{lines}\n")).unwrap().warnings;
        assert_eq!(warnings.iter().map(|warning| warning.place.key.as_str()).collect::<Vec<_>>(), [key]);
    }
}

#[test]
fn metrics_are_served_to_this_host_alone() {
    let listen = |address: &str| read(&format!("{STRIPE}\n[metrics]\nlisten = \"{address}\"\n"));
    for address in ["127.0.0.1:9464", "[::1]:9464"] {
        assert_eq!(listen(address).unwrap().settings.metrics.unwrap().to_string(), address);
    }
    for (address, what) in [
        ("0.0.0.0:9464", "not an address of this host alone"),
        ("[::]:9464", "not an address of this host alone"),
        ("192.0.2.1:9464", "not an address of this host alone"),
        ("localhost:9464", "not an address with a port"),
        ("127.0.0.1", "not an address with a port"),
    ] {
        let faults: Vec<_> = listen(address).unwrap_err().iter().cloned().collect();
        assert_fault(&faults, "metrics.listen", what);
    }
}

#[test]
fn traces_go_to_a_collector_of_this_host_alone() {
    let otlp = |url: &str| read(&format!("{STRIPE}\n[telemetry]\notlp = \"{url}\"\n"));
    let meant = otlp("http://[::1]:4318/base/").unwrap().settings.otlp.unwrap();
    assert_eq!((meant.address.to_string(), meant.path.as_str()), ("[::1]:4318".into(), "/base"));
    for (url, what) in [
        ("http://192.0.2.1:4318", "not an address of this host alone"),
        ("https://127.0.0.1:4318", "not `http://ADDRESS:PORT`"),
        ("http://localhost:4318", "not `http://ADDRESS:PORT`"),
        ("127.0.0.1:4318", "not `http://ADDRESS:PORT`"),
    ] {
        let faults: Vec<_> = otlp(url).unwrap_err().iter().cloned().collect();
        assert_fault(&faults, "telemetry.otlp", what);
    }
}

#[test]
fn a_refresh_that_would_come_too_late_is_a_warning_with_its_numbers() {
    let warned = |lines: &str| read(&format!("{STRIPE}\n{lines}\n")).unwrap().warnings;
    assert_eq!(warned("refresh_at = 0.94"), [], "18 s are enough for three attempts of 5 s");
    let warnings = warned("refresh_at = 0.95");
    assert_fault(&warnings, "provider.stripe.refresh_at", "leaves a token of five minutes 15 s");
    assert_fault(
        &warnings,
        "provider.stripe.refresh_at",
        "3 attempts of `timeout` 5 s with their waits take up to 18 s",
    );
    assert_eq!(
        warnings[0].help.as_deref(),
        Some("refresh at 0.94 at the latest, or shorten `timeout`; longer tokens leave more")
    );
    let slow = warned("timeout = \"2m\"");
    assert_eq!(
        slow[0].help.as_deref(),
        Some("shorten `timeout`: a caller who has no token waits for it as well"),
        "no `refresh_at` would help"
    );
}

#[test]
fn a_reload_cannot_change_what_a_running_agent_stands_on() {
    let old = read(STRIPE).unwrap().settings;
    let text = format!(
        "{STRIPE}\ntimeout = \"9s\"\n[agent]\nsocket = \"/other\"\nstate_dir = \"/other-state\"\n[audit]\ndir = \"/other-log\"\n\
         [store.more]\nkind = \"files\"\npath = \"/x\"\n[log]\nlevel = \"debug\"\n"
    );
    let new = read(&text).unwrap();
    let faults = config::reload::allowed(&old, &new.settings, &new.places).unwrap_err();
    let keys: Vec<_> = faults.iter().map(|fault| fault.place.key.as_str()).collect();
    assert_eq!(
        BTreeSet::from_iter(keys),
        BTreeSet::from(["agent.socket", "agent.state_dir", "audit.dir", "store.local", "store.more"])
    );
    let same = read(&format!("{STRIPE}\ntimeout = \"9s\"\n[log]\nlevel = \"debug\"\n")).unwrap();
    assert_eq!(config::reload::allowed(&old, &same.settings, &same.places), Ok(()));
}

/// A folder with a configuration, its policies and its `conf.d`.
struct Etc(TempDir);

impl Etc {
    fn new(text: &str) -> Self {
        let etc = Self(crate::private_folder());
        fs::create_dir_all(etc.path("policies")).unwrap();
        fs::create_dir_all(etc.path("conf.d")).unwrap();
        let head = "[agent]\npolicies = \"policies\"\nstate_dir = \"state\"\n";
        etc.with("bursar.toml", format!("{head}{text}").as_bytes())
    }

    fn with(self, name: &str, bytes: &[u8]) -> Self {
        fs::write(self.path(name), bytes).unwrap();
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn check(&self) -> Report {
        config::check(&self.path("bursar.toml"), &[]).1
    }

    fn warnings(&self) -> Vec<String> {
        self.check().warnings.iter().map(ToString::to_string).collect()
    }

    fn faults(&self) -> Vec<String> {
        self.check().faults.iter().map(ToString::to_string).collect()
    }
}

#[test]
fn files_of_conf_d_belong_to_the_configuration() {
    let etc = Etc::new(STRIPE)
        .with(
            "conf.d/20-crm.toml",
            STRIPE.replace("stripe]", "crm]").replace("[store.local]\nkind = \"sealed\"", "").as_bytes(),
        )
        .with(
            "conf.d/10-key.toml",
            b"[secret.key]\nstore = \"local\"\n[[agent.listener]]\nsocket = \"a.sock\"\nworkload = \"a\"\n",
        )
        .with("conf.d/.hidden.toml", b"not toml")
        .with("conf.d/notes.txt", b"not toml");
    let read = config::load(&etc.path("bursar.toml")).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(read.settings.providers.len(), 2);
    assert_eq!(
        read.settings.agent.listeners[0].socket,
        etc.path("conf.d/a.sock"),
        "relative to the file that names it"
    );
    assert_eq!(etc.faults(), [""; 0]);
}

#[test]
fn what_two_files_define_is_a_fault_with_both_places() {
    let etc = Etc::new(STRIPE).with("conf.d/a.toml", b"[store.local]\nkind = \"files\"\npath = \"x\"\n");
    let faults = etc.faults();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].contains("conf.d/a.toml:1:1: `store.local` is defined twice"), "{faults:?}");
    assert!(faults[0].contains("bursar.toml:5:1"), "{faults:?}");
}

#[test]
fn what_cannot_be_read_is_named() {
    let missing = config::load(Path::new("/nonexistent/bursar.toml")).unwrap_err().to_string();
    assert!(missing.contains("there is no `/nonexistent/bursar.toml`"), "{missing}");
    let etc = Etc::new("")
        .with("conf.d/a.toml", b"[log]\nlevel = \"\xff\"\n")
        .with("conf.d/b.toml", &vec![b'#'; (1 << 20) + 1]);
    fs::create_dir(etc.path("conf.d/c.toml")).unwrap();
    let faults = etc.faults().join("\n");
    for what in [
        "a.toml:2:10: this byte is not UTF-8",
        "b.toml` is larger than 1024 KiB",
        "c.toml` cannot be read: it is not a regular file",
    ] {
        assert!(faults.contains(what), "no `{what}` in {faults}");
    }
}

#[test]
fn a_pipe_in_the_place_of_a_file_is_a_fault_and_is_not_waited_for() {
    let etc = Etc::new("");
    for name in ["bursar.toml", "conf.d/a.toml"] {
        let path = etc.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = fs::remove_file(&path);
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    }
    let faults = etc.faults();
    assert_eq!(faults.iter().filter(|fault| fault.contains("it is not a regular file")).count(), 2, "{faults:?}");
}

#[test]
fn check_looks_at_the_host() {
    let etc = Etc::new(
        "admin_group = \"no-such-group\"\n[store.a]\nkind = \"sealed\"\nkey = { file = \"missing.key\" }\n\
         [store.b]\nkind = \"sealed\"\nkey = { file = \"open.key\" }\n[store.c]\nkind = \"sealed\"\n",
    )
    .with("open.key", b"x");
    std::os::unix::fs::chown(etc.path("open.key"), None, None).unwrap();
    set_mode(&etc.path("open.key"), 0o644);
    fs::remove_dir(etc.path("policies")).unwrap();
    let faults = etc.faults().join("\n");
    for what in ["there is no group `no-such-group`", "missing.key`", "others may read or write the key", "policies`"] {
        assert!(faults.contains(what), "no `{what}` in {faults}");
    }
    assert_eq!(etc.faults().len(), 4, "a key inside `state_dir` is made at first start: {faults}");
}

#[test]
fn what_decides_and_others_may_write_is_a_fault() {
    let etc =
        Etc::new(STRIPE).with("conf.d/a.toml", b"").with("policies/workloads.toml", b"").with("policies/a.cedar", b"");
    for (folder, file) in [("", "bursar.toml"), ("conf.d", "conf.d/a.toml"), ("policies", "policies/workloads.toml")] {
        set_mode(&etc.path(folder), 0o755);
        set_mode(&etc.path(file), 0o644);
    }
    set_mode(&etc.path("policies/a.cedar"), 0o644);
    assert_eq!(etc.faults(), [""; 0]);
    for name in
        ["", "bursar.toml", "conf.d", "conf.d/a.toml", "policies", "policies/workloads.toml", "policies/a.cedar"]
    {
        let path = etc.path(name);
        let was = fs::metadata(&path).unwrap().permissions();
        for more in [0o020, 0o002] {
            set_mode(&path, (std::os::unix::fs::PermissionsExt::mode(&was) & 0o777) | more);
            let faults = etc.faults();
            assert_eq!(faults.len(), 1, "{name}: {faults:?}");
            assert!(faults[0].contains("not only its owner may write"), "{name}: {faults:?}");
            assert!(faults[0].starts_with(path.to_str().unwrap().trim_end_matches('/')), "{name}: {faults:?}");
        }
        fs::set_permissions(&path, was).unwrap();
    }
    set_mode(&etc.path("bursar.toml"), 0o666);
    set_mode(&etc.path(""), 0o700);
    assert_eq!(etc.faults(), [""; 0], "nobody else gets into the folder above");
}

#[test]
fn a_socket_needs_its_folder() {
    let etc = Etc::new(
        "socket = \"nowhere/a.sock\"\nadmin_socket = \"/run/bursar-is-not-here/a.sock\"\n\
         [[agent.listener]]\nsocket = \"bursar.toml/a.sock\"\nworkload = \"a\"\n",
    );
    let Report { faults, warnings, .. } = etc.check();
    let faults: Vec<_> = faults.iter().cloned().collect();
    assert_fault(&faults, "agent.socket", "there is no folder");
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert_eq!(faults[1].place.key, "agent.listener[0].socket", "{faults:?}");
    assert_fault(&warnings, "agent.admin_socket", "there is no folder `/run/bursar-is-not-here`");
}

#[test]
fn the_state_is_the_agent_s_alone() {
    let etc = Etc::new(STRIPE);
    set_mode(&etc.path(""), 0o755);
    fs::create_dir(etc.path("state")).unwrap();
    for (mode, is_fault, is_warning) in
        [(0o700, false, false), (0o750, false, true), (0o755, false, true), (0o770, true, false), (0o1777, true, false)]
    {
        set_mode(&etc.path("state"), mode);
        let Report { faults, warnings, .. } = etc.check();
        let about = |fault: &Fault| fault.place.key == "agent.state_dir" && fault.place.line == 3;
        assert_eq!((faults.iter().any(about), warnings.iter().any(about)), (is_fault, is_warning), "{mode:o}");
    }
}

#[test]
fn a_file_of_authorities_has_a_certificate() {
    let etc = Etc::new(&format!("{STRIPE}\nca_file = \"ca.pem\"\n")).with("ca.pem", b"nothing");
    assert!(etc.faults()[0].contains("has no certificate"), "{:?}", etc.faults());
    let etc = etc.with("ca.pem", b"-----BEGIN CERTIFICATE-----\n");
    assert_eq!(etc.faults(), [""; 0]);
}

#[test]
fn a_certificate_of_ours_can_be_read() {
    let lines = format!("client_auth = \"tls_client_auth\"\ncertificate = \"own.pem\"\ncertificate_key = {KEY}\n");
    let etc = Etc::new(&stripe_by(&lines));
    assert!(etc.faults()[0].contains("there is no"), "{:?}", etc.faults());
    let pem = rcgen::generate_simple_self_signed(["us.test".to_owned()]).unwrap().cert.pem();
    let etc = etc.with("own.pem", pem.as_bytes());
    assert_eq!(etc.faults(), [""; 0]);
    let etc = etc.with("own.pem", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    assert!(etc.faults()[0].contains("is damaged"), "{:?}", etc.faults());
    let etc = etc.with("own.pem", &vec![b'x'; 70_000]);
    assert!(etc.faults()[0].contains("longer than 64 KiB"), "{:?}", etc.faults());
    let etc = etc.with("own.pem", b"hunter2");
    assert!(etc.faults()[0].contains("holds no certificate in PEM"), "{:?}", etc.faults());
    let place = "bursar.toml:";
    assert!(etc.faults()[0].contains(place) && !etc.faults()[0].contains("hunter2"), "{:?}", etc.faults());
}

#[test]
fn an_assertion_may_come_later_and_is_nobody_else_s() {
    let etc = Etc::new(&stripe_by("client_auth = \"federated_assertion\"\nassertion_file = \"a.jwt\"\n"));
    let said =
        |etc: &Etc| etc.warnings().into_iter().filter(|warning| warning.contains("assertion")).collect::<Vec<_>>();
    assert_eq!(etc.faults(), [""; 0]);
    assert!(said(&etc)[0].contains("there is no assertion"), "{:?}", said(&etc));
    let etc = etc.with("a.jwt", b"a.b.c");
    set_mode(&etc.path("."), 0o755);
    set_mode(&etc.path("a.jwt"), 0o644);
    assert!(said(&etc)[0].contains("everybody on this host may read the assertion"), "{:?}", said(&etc));
    set_mode(&etc.path("a.jwt"), 0o600);
    assert_eq!(said(&etc), [""; 0]);
}

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// [`STRIPE`] with its own credential rotated, as `provider` and `rotator` say.
fn rotated(provider: &str, rotator: &str) -> Result<Read, Faults> {
    read(&format!(
        "[store.local]\nkind = \"sealed\"\n[provider.stripe]\ntoken_endpoint = \"https://h/token\"\nscopes = [\"a\"]\n{provider}\n\
         [secret.own]\nstore = \"local\"\n[secret.own.rotation]\n[secret.own.rotation.{rotator}\n"
    ))
}

const OWN: &str = "{ store = \"local\", name = \"own\" }";
const TWO: &str = "two_secrets = { url = \"https://h/c\", both = '[\"{new}\",\"{old}\"]', only = '[\"{new}\"]' }";
const REGISTER: &str = "register = { endpoint = \"https://h/reg\" }";

#[test]
fn a_providers_own_credential_is_rotated_without_a_warning() {
    let by_secret = format!("client_id = \"c\"\nclient_secret = {OWN}");
    let by_key = format!("client_id = \"c\"\nclient_auth = \"private_key_jwt\"\nprivate_key = {OWN}");
    for (provider, rotator) in [
        (by_secret, format!("oauth-client-secret]\nprovider = \"stripe\"\n{TWO}")),
        (format!("registration = {OWN}"), format!("oauth-client-secret]\nprovider = \"stripe\"\n{REGISTER}")),
        (by_key, "signing-key]\nprovider = \"stripe\"\njwks_file = \"jwks.json\"".to_owned()),
    ] {
        let read = rotated(&provider, &rotator).unwrap_or_else(|faults| panic!("{faults}"));
        assert_eq!(read.warnings, [], "{rotator}");
        let key_id = &read.settings.providers[&name("stripe")].signing.key_id;
        assert_eq!(*key_id == KeyId::Thumbprint, rotator.starts_with("signing-key"));
    }
}

#[test]
fn a_rotator_of_a_providers_credential_has_to_fit_the_provider() {
    let by_secret = format!("client_id = \"c\"\nclient_secret = {OWN}");
    let by_key = format!("client_id = \"c\"\nclient_auth = \"private_key_jwt\"\nprivate_key = {OWN}");
    let (client, key) = ("oauth-client-secret]\nprovider = \"stripe\"", "signing-key]\nprovider = \"stripe\"");
    for (provider, rotator, at, what) in [
        (&by_secret, format!("{client}\n{REGISTER}"), "oauth-client-secret.provider", "as its `registration`"),
        (&by_key, format!("{client}\n{TWO}"), "oauth-client-secret.provider", "as its `client_secret`"),
        (&by_secret, format!("{key}\njwks_file = \"j\""), "signing-key.provider", "as its `private_key`"),
        (
            &by_secret,
            format!("{}\n{TWO}", client.replace("stripe", "strpe")),
            "oauth-client-secret.provider",
            "no provider",
        ),
        (
            &by_secret,
            format!("{client}\nadmin = {OWN}\n{TWO}"),
            "oauth-client-secret.admin",
            "the secret that it rotates",
        ),
        (&by_secret, client.to_owned(), "oauth-client-secret", "neither"),
        (&by_secret, format!("{client}\n{TWO}\n{REGISTER}"), "oauth-client-secret", "both"),
        (
            &by_secret,
            format!("{client}\n{}", TWO.replace(",\"{old}\"", "")),
            "oauth-client-secret.two_secrets.both",
            "no place for",
        ),
        (&by_key, key.to_owned(), "signing-key", "nowhere"),
        (&by_key, format!("{key}\njwks_listen = \"0.0.0.0:1\""), "signing-key.jwks_listen", "this host alone"),
    ] {
        let faults: Vec<_> = rotated(provider, &rotator).err().iter().flat_map(Faults::iter).cloned().collect();
        assert_fault(&faults, &format!("secret.own.rotation.{at}"), what);
    }
    for (line, at) in [("key_id = \"k\"", "key_id"), ("signing_alg = \"ES384\"", "signing_alg")] {
        let faults = rotated(&format!("{by_key}\n{line}"), &format!("{key}\njwks_file = \"j\"")).unwrap_err();
        let faults: Vec<_> = faults.iter().cloned().collect();
        assert_fault(&faults, &format!("provider.stripe.{at}"), "");
    }
}

#[test]
fn a_registration_takes_the_place_of_client_id_and_client_secret() {
    let lines = format!("registration = {OWN}");
    assert_fault(&stripe_with(&lines), "provider.stripe.client_id", "no effect beside `registration`");
    assert_fault(&stripe_with(&lines), "provider.stripe.client_secret", "no effect beside `registration`");
    let by_key = format!("{lines}\nclient_auth = \"private_key_jwt\"");
    assert_fault(&stripe_with(&by_key), "provider.stripe.registration", "no effect with");
}
