//! The rotators of services, each at the real one: what is made works, what is ended does not, and no crash loses a key.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use bursar::config::meant;
use bursar::crypto::SystemRandom;
use bursar::document::Source;
use bursar::rotation::http::HttpCalls;
use bursar::rotation::random::RandomText;
use bursar::rotation::{Admin, Created, Ended, Held, Label, Rotator, Trouble};
use bursar::store::files::FilesStore;
use bursar::store::{Attempt, Place};
use bursar::wire::tls::{Roots, Tls};
use futures_util::FutureExt;
use serde_json::json;
use tempfile::TempDir;

use crate::bao::Bao;
use crate::hub::{ADMIN, Hub};
use crate::matrix::{self, Subject, Works};
use crate::steady;

/// A folder in which the credential of a rotator stands, as a store of files.
pub(crate) struct Desk {
    folder: TempDir,
}

impl Desk {
    pub(crate) fn with_admin(admin: &str) -> Self {
        let desk = Self { folder: TempDir::new().unwrap() };
        desk.write(admin);
        desk
    }

    pub(crate) fn write(&self, admin: &str) {
        let path = self.folder.path().join("admin");
        std::fs::write(&path, admin).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    pub(crate) fn admin(&self) -> Admin {
        let store = Arc::new(FilesStore::open(self.folder.path()).unwrap());
        Admin::at(Place { store_name: "desk".parse().unwrap(), store, name: "admin".parse().unwrap(), fresh_for: None })
    }
}

/// What the table `[secret.key.rotation.http]` means.
pub(crate) fn meant(table: &str) -> meant::HttpCalls {
    let text = format!(
        "[store.local]\nkind = \"sealed\"\n[secret.key]\nstore = \"local\"\n[secret.key.rotation]\n[secret.key.rotation.http]\n\
         admin = {{ store = \"local\", name = \"admin\" }}\n{table}"
    );
    let sources = [Source { file: "bursar.toml".into(), text }];
    let read = bursar::config::read(&sources, Path::new("/")).unwrap_or_else(|faults| panic!("{faults}"));
    let rotation = read.settings.secrets[&"key".parse().unwrap()].rotation.as_ref().unwrap();
    let meant::Rotator::Http(calls) = &rotation.rotator else { panic!("{table}") };
    (**calls).clone()
}

pub(crate) fn http_calls(table: &str, desk: &Desk, roots: &Roots) -> Arc<HttpCalls> {
    let meant::HttpCalls { definition, alphabet, length, .. } = meant(table);
    let tls = Tls::default().config_for(roots, true).unwrap();
    let random = RandomText::new(alphabet, length, Arc::new(SystemRandom));
    Arc::new(HttpCalls::new(definition, Some(desk.admin()), tls, random).unwrap())
}

fn label() -> Label {
    Label::new(&Attempt::new(&SystemRandom).unwrap())
}

fn held(created: Created) -> Held {
    Held { version: "v".parse().unwrap(), far_id: created.far_id, value: Arc::new(created.value) }
}

fn ended(held: &Held) -> Ended {
    Ended { far_id: held.far_id.clone(), value: Some(Arc::clone(&held.value)) }
}

fn jupyterhub(hub: &Hub) -> String {
    format!("preset = \"jupyterhub\"\nbase = \"{}\"\nvalues = {{ user = \"svc\" }}\n", hub.base)
}

#[tokio::test]
async fn a_jupyterhub_token_is_made_found_used_and_ended() {
    let (hub, desk) = (Hub::start().await, Desk::with_admin(ADMIN));
    let rotator = http_calls(&jupyterhub(&hub), &desk, &Roots::System);
    let label = label();
    let made = held(rotator.create(&label, None).await.unwrap());
    let found = rotator.list().await.unwrap().unwrap();
    assert!(found.iter().any(|one| Some(&one.far_id) == made.far_id.as_ref() && one.label.as_ref() == Some(&label)));
    assert!(hub.accepts(std::str::from_utf8(made.value.expose()).unwrap()).await);
    assert!(rotator.test(&made).await.unwrap());
    for _ in 0..2 {
        rotator.revoke(&ended(&made), None).await.unwrap();
        assert!(!rotator.test(&made).await.unwrap(), "what is not there any more is ended");
    }
    desk.write("somebody-elses-token");
    let refused = rotator.create(&label, None).await.unwrap_err();
    assert!(matches!(&refused, Trouble::Refused(what) if what.contains("403")), "{refused}");
}

fn works_at(hub: &Arc<Hub>) -> Works {
    let hub = Arc::clone(hub);
    Arc::new(move |value| {
        let hub = Arc::clone(&hub);
        async move { hub.accepts(std::str::from_utf8(&value).unwrap()).await }.boxed()
    })
}

#[tokio::test]
async fn no_crash_loses_a_jupyterhub_token() {
    let (hub, desk) = (Arc::new(Hub::start().await), Desk::with_admin(ADMIN));
    let rotator = http_calls(&jupyterhub(&hub), &desk, &Roots::System);
    matrix::holds(&Subject { rotator, exclusive: true, first: None, works: works_at(&hub) }).await;
}

/// The same service, as one that does not tell what it holds: the two cells say `by design`, and the log names the label.
#[tokio::test]
async fn without_a_list_a_lost_reply_is_told_and_never_called_safe() {
    let (hub, desk) = (Arc::new(Hub::start().await), Desk::with_admin(ADMIN));
    let table = format!(
        "base = \"{}\"\n\
         create = {{ method = \"POST\", url = \"{{base}}/users/svc/tokens\", headers = {{ Authorization = \"token {{admin}}\" }}, \
         json = '{{\"note\":\"{{label}}\"}}', expect = [201] }}\n\
         made = {{ id = \"/id\", value = \"{{reply/token}}\" }}\n\
         test = {{ url = \"{{base}}/user\", headers = {{ Authorization = \"token {{value}}\" }}, expect = [200] }}\n\
         revoke = {{ method = \"DELETE\", url = \"{{base}}/users/svc/tokens/{{id}}\", \
         headers = {{ Authorization = \"token {{admin}}\" }}, expect = [204] }}\n",
        hub.base
    );
    let rotator = http_calls(&table, &desk, &Roots::System);
    matrix::holds(&Subject { rotator, exclusive: false, first: None, works: works_at(&hub) }).await;
}

#[tokio::test]
async fn fifty_rotations_of_a_jupyterhub_token_fail_no_reader() {
    let (hub, desk) = (Arc::new(Hub::start().await), Desk::with_admin(ADMIN));
    let rotator = http_calls(&jupyterhub(&hub), &desk, &Roots::System);
    steady::no_reader_fails(&Subject { rotator, exclusive: true, first: None, works: works_at(&hub) }).await;
}

fn approle(bao: &Bao, role_id: &str) -> String {
    format!(
        "preset = \"openbao-approle\"\nbase = \"{}\"\nvalues = {{ role = \"bursar\", role_id = \"{role_id}\" }}\n",
        bao.address
    )
}

/// What `docs/rotators/http.md` tells the operator to allow.
async fn least_of_approle(bao: &Bao) -> String {
    const PAGE: &str = include_str!("../../docs/rotators/http.md");
    let policy = PAGE.split_once("```hcl\n").unwrap().1.split_once("```").unwrap().0.replace("checkout", "bursar");
    bao.root("PUT", "sys/policies/acl/rotator", json!({ "policy": policy })).await;
    let token = json!({ "policies": ["rotator"], "no_default_policy": true, "period": "24h", "no_parent": true });
    bao.root("POST", "auth/token/create", token).await["auth"]["client_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_secret_id_of_openbao_is_ours_and_no_crash_loses_it() {
    let bao = Bao::start().await;
    let role = bao.root("GET", "auth/approle/role/bursar/role-id", json!({})).await;
    let desk = Desk::with_admin(&least_of_approle(&bao).await);
    let role_id = role["data"]["role_id"].as_str().unwrap().to_owned();
    let table = approle(&bao, &role_id);
    let rotator = http_calls(&table, &desk, &bao.roots());
    let made = held(rotator.create(&label(), None).await.unwrap());
    assert!(!rotator.test(&made).await.unwrap(), "nothing has happened there yet");
    rotator.set(&made, None).await.unwrap();
    assert!(rotator.test(&made).await.unwrap());
    for _ in 0..2 {
        rotator.revoke(&ended(&made), None).await.unwrap();
        assert!(!rotator.test(&made).await.unwrap());
    }
    let address = bao.address.clone();
    let client = crate::peers::http(&bao.roots());
    let works: Works = Arc::new(move |value| {
        let body = json!({ "role_id": role_id, "secret_id": std::str::from_utf8(&value).unwrap() }).to_string();
        let login = client.post(format!("{address}/v1/auth/approle/login")).body(body).send();
        async move { login.await.unwrap().status() == 200 }.boxed()
    });
    matrix::holds(&Subject { rotator: Arc::clone(&rotator) as _, exclusive: true, first: None, works }).await;

    desk.write("s.no-such-token");
    let refused = rotator.set(&made, None).await.unwrap_err();
    assert!(matches!(&refused, Trouble::Refused(what) if what.contains("403")), "{refused}");
}
