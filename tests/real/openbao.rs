//! The store `openbao` at OpenBao as it is, with the policy of `docs/stores.md` and no more.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use bursar::secret::Secret;
use bursar::store::openbao::Auth;
use bursar::store::{Stage, Store, StoreError, Which};
use bursar::time::{ManualClock, Wall};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use serde_json::json;

use crate::bao::{Bao, STORES};
use crate::counted::{Counted, Fault};
use crate::store_conformance::{Bench, agrees_with_the_model, attempt, every_rule, steps};

#[tokio::test]
async fn every_rule_holds_at_openbao_with_the_least_policy() {
    let (bao, clock) = (Bao::start().await, Arc::new(ManualClock::default()));
    let store = bao.store(bao.approle().await, None, &clock);
    let bench = Bench { store: &store, clock: &clock, prefix: "suite/" };
    every_rule(&bench).await;
    let mut runner = TestRunner::deterministic();
    for nth in 0..12 {
        let steps = steps().new_tree(&mut runner).unwrap().current();
        agrees_with_the_model(&bench, &bench.name(&format!("history-{nth}")), &steps).await;
    }
}

#[tokio::test]
async fn an_expired_secret_id_is_told_and_a_new_one_taken() {
    let (bao, clock) = (Bao::start().await, Arc::new(ManualClock::default()));
    let auth = bao.approle().await;
    let old = std::fs::read_to_string(bao.folder.path().join("secret-id")).unwrap().trim_end().to_owned();
    let running = bao.store(auth.clone(), None, &clock);
    let bench = Bench { store: &running, clock: &clock, prefix: "" };
    bench.put(&bench.name("key"), "v").await.unwrap();
    bao.root("POST", "auth/approle/role/bursar/secret-id/destroy", json!({ "secret_id": old })).await;
    assert_eq!(bench.current(&bench.name("key")).await.as_deref(), Some("v"), "its token lives on");

    let started = bao.store(auth, None, &clock);
    let refused = started.list().await.unwrap_err();
    assert!(matches!(&refused, StoreError::Setup(what) if what.contains("secret id") && !what.contains(&old)));
    let new = bao.new_secret_id().await;
    assert_eq!(started.list().await.unwrap().len(), 1);
    assert!(!format!("{refused}{refused:?}").contains(&new));

    // A token that was revoked is replaced by a login, unseen.
    bao.root("POST", "sys/leases/revoke-prefix/auth/approle/login", json!({})).await;
    assert_eq!(bench.current(&bench.name("key")).await.as_deref(), Some("v"));
}

#[tokio::test]
async fn a_token_is_renewed_and_at_its_end_replaced() {
    let (bao, clock) = (Bao::start().await, Arc::new(ManualClock::default()));
    let store = bao.store(bao.approle().await, None, &clock);
    let logins = async || {
        let listed = bao.root("LIST", "auth/token/accessors", json!({})).await;
        listed["data"]["keys"].as_array().unwrap().len()
    };
    store.list().await.unwrap();
    let before = logins().await;
    clock.advance(Duration::from_secs(45 * 60));
    store.list().await.unwrap();
    assert_eq!(logins().await, before, "past two thirds of its hour it is renewed");
    clock.advance(Duration::from_secs(60 * 60));
    store.list().await.unwrap();
    assert_eq!(logins().await, before + 1, "past its hour there is a login");
}

#[tokio::test]
async fn a_sealed_or_restarted_server_is_unavailable_and_comes_back_with_everything() {
    let (mut bao, clock) = (Bao::start().await, Arc::new(ManualClock::default()));
    let store = bao.store(bao.approle().await, None, &clock);
    let bench = Bench { store: &store, clock: &clock, prefix: "" };
    let name = bench.name("key");
    bench.put(&name, "v").await.unwrap();
    bao.seal().await;
    let sealed = store.read(&name, &Which::Current).await.err().unwrap();
    assert!(matches!(&sealed, StoreError::Unavailable(what) if what.contains("bao operator unseal")), "{sealed}");
    bao.unseal().await;
    assert_eq!(bench.current(&name).await.as_deref(), Some("v"));

    bao.kill();
    let down = store.read(&name, &Which::Current).await.err().unwrap();
    assert!(matches!(&down, StoreError::Unavailable(_)), "{down}");
    let down = store.list().await.unwrap_err();
    assert!(matches!(&down, StoreError::Unavailable(what) if what.contains("nothing listens there")), "{down}");
    bao.start_again().await;
    bao.unseal().await;
    assert_eq!(bench.current(&name).await.as_deref(), Some("v"));
    bench.put(&name, "w").await.unwrap();
}

#[tokio::test]
async fn what_another_writes_is_current_and_a_promotion_goes_over_it() {
    let (bao, clock) = (Bao::start().await, Arc::new(ManualClock::default()));
    let store = bao.store(bao.approle().await, None, &clock);
    let bench = Bench { store: &store, clock: &clock, prefix: "" };
    let name = bench.name("shared");
    bao.root("POST", "kv/data/apps/shared", json!({ "data": { "value": "theirs" } })).await;
    assert_eq!(bench.current(&name).await.as_deref(), Some("theirs"));
    let ours = bench.put(&name, "ours").await.unwrap();
    let shown = bao.root("GET", "kv/data/apps/shared", json!({})).await;
    assert_eq!(shown["data"]["data"]["value"], "ours", "other readers get it too");
    bao.root("POST", "kv/data/apps/shared", json!({ "data": { "value": "theirs again" } })).await;
    let versions = store.versions(&name).await.unwrap();
    assert_eq!(versions.at(Stage::Previous).unwrap().attempt, ours);
    assert_eq!(bench.current(&name).await.as_deref(), Some("theirs again"));
    bao.root("DELETE", "kv/data/apps/shared", json!({})).await;
    assert_eq!(bench.current(&name).await, None, "who deletes it there wants nothing served");
    bench.put(&name, "ours at last").await.unwrap();
    assert_eq!(bench.current(&name).await.as_deref(), Some("ours at last"));
}

#[tokio::test]
async fn a_wrong_check_and_set_changes_nothing_and_begins_anew() {
    let (bao, clock) = (Bao::start().await, Arc::new(ManualClock::default()));
    let stores = [bao.store(bao.approle().await, None, &clock), bao.store(bao.approle().await, None, &clock)];
    let benches = stores.each_ref().map(|store| Bench { store, clock: &clock, prefix: "" });
    for round in 0..10 {
        let name = benches[0].name(&format!("race-{round}"));
        let puts = (0..8).map(|nth| (nth, &benches[nth % 2])).map(|(nth, bench)| {
            let name = name.clone();
            async move { bench.put(&name, &format!("value {nth}")).await }
        });
        let done = futures_util::future::join_all(puts).await;
        let first = done.iter().filter(|put| put.is_ok()).count();
        assert!(first >= 1, "{done:?}");
        assert!(
            done.iter()
                .flat_map(|put| put.as_ref().err())
                .all(|error| { matches!(error, StoreError::Taken(..) | StoreError::Unavailable(_)) })
        );
        let shown = bao.root("GET", &format!("kv/data/apps/{name}"), json!({})).await;
        assert_eq!(shown["data"]["data"]["value"].as_str(), benches[1].current(&name).await.as_deref());
        assert_eq!(shown["data"]["metadata"]["version"], first, "each promotion is written once");
    }
}

#[tokio::test]
async fn a_promotion_that_was_not_written_to_the_path_is_written_by_who_comes_next() {
    let (bao, clock) = (Bao::start().await, Arc::new(ManualClock::default()));
    let auth = bao.approle().await;
    let store = bao.store(auth.clone(), None, &clock);
    let bench = Bench { store: &store, clock: &clock, prefix: "" };
    let name = bench.name("key");
    bench.put(&name, "old").await.unwrap();
    // Its own path may not be written for a while: the verb fails after the book has decided.
    let whole = STORES.split_once("```hcl\n").unwrap().1.split_once("```").unwrap().0;
    let less = format!("{whole}path \"kv/data/apps/key\" {{ capabilities = [\"read\"] }}\n");
    bao.root("PUT", "sys/policies/acl/bursar", json!({ "policy": less })).await;
    let denied = bench.put(&name, "new").await.unwrap_err();
    assert!(matches!(&denied, StoreError::Setup(what) if what.contains("`kv/data/apps/key`")), "{denied}");
    assert_eq!(bench.current(&name).await.as_deref(), Some("new"), "it is promoted");
    bao.root("PUT", "sys/policies/acl/bursar", json!({ "policy": whole })).await;
    let next = bao.store(auth, None, &clock);
    let bench = Bench { store: &next, clock: &clock, prefix: "" };
    next.reserve(&name, &attempt(), Wall::default(), &Default::default()).await.unwrap();
    let shown = bao.root("GET", "kv/data/apps/key", json!({})).await;
    assert_eq!(shown["data"]["data"]["value"], "new");
    assert_eq!(bench.current(&name).await.as_deref(), Some("new"));
}

#[tokio::test]
async fn whatever_is_cut_off_or_lost_the_same_attempt_comes_through() {
    let (bao, clock) = (Bao::start().await, Arc::new(ManualClock::default()));
    let way = Counted::before(bao.plain).await;
    let store = bao.store_at(&format!("http://{}", way.address), bao.approle().await, None, &clock);
    let bench = Bench { store: &store, clock: &clock, prefix: "" };
    for fault in [Fault::Cut, Fault::Lost, Fault::Half] {
        for nth in 0.. {
            let name = bench.name(&format!("{fault:?}-{nth}").to_lowercase());
            bench.put(&name, "before").await.unwrap();
            let (attempt, value) = (attempt(), Secret::new(b"after".to_vec()));
            let lease = Wall::from_micros(60_000_000);
            way.fail(nth, fault);
            let put = bursar::store::put(&store, &name, &value, &attempt, lease).await;
            let is_over = !way.has_failed();
            if let Err(error) = put {
                assert!(matches!(error, StoreError::Unavailable(_)) && !is_over, "{fault:?} {nth}: {error}");
            }
            let seen = bench.current(&name).await;
            assert!([Some("before"), Some("after")].contains(&seen.as_deref()), "{fault:?} {nth}: {seen:?}");
            bursar::store::put(&store, &name, &value, &attempt, lease).await.unwrap();
            assert_eq!(bench.current(&name).await.as_deref(), Some("after"), "{fault:?} {nth}");
            let shown = bao.root("GET", &format!("kv/data/apps/{name}"), json!({})).await;
            assert_eq!(shown["data"]["data"]["value"], "after", "other readers have it too: {fault:?} {nth}");
            bench.put(&name, "last").await.unwrap();
            let shown = bao.root("GET", &format!("kv/data/apps/{name}"), json!({})).await;
            assert_eq!(shown["data"]["data"]["value"], "last", "{fault:?} {nth}");
            assert_eq!(shown["data"]["metadata"]["version"], 3, "each is written once: {fault:?} {nth}");
            if is_over {
                assert!(nth > 5, "a put has several requests");
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_retired_value_is_nowhere_at_openbao() {
    let (bao, clock) = (Bao::start().await, Arc::new(ManualClock::default()));
    let store = bao.store(bao.approle().await, None, &clock);
    let bench = Bench { store: &store, clock: &clock, prefix: "" };
    for value in ["one", "two", "three"] {
        bench.put(&bench.name("key"), value).await.unwrap();
    }
    let path = bao.root("GET", "kv/metadata/apps/key", json!({})).await;
    assert_eq!(path["data"]["versions"]["1"]["destroyed"], true);
    assert_eq!(path["data"]["versions"]["2"]["destroyed"], false);
    let book = bao.root("GET", "kv/metadata/apps.bursar/key", json!({})).await;
    assert_eq!(book["data"]["versions"].as_object().unwrap().len(), 1, "one version of the book is kept");
    let book = bao.root("GET", "kv/data/apps.bursar/key", json!({})).await.to_string();
    assert!(!["\"one\"", "\"two\"", "\"three\""].iter().any(|value| book.contains(value)), "{book}");
}

#[tokio::test]
async fn a_token_file_is_read_anew_and_a_namespace_is_a_world_of_its_own() {
    let (bao, clock) = (Bao::start().await, Arc::new(ManualClock::default()));
    bao.root("POST", "sys/namespaces/team", json!({})).await;
    bao.set_up("team/").await;
    let path = bao.file("token", "s.this-is-no-token\n");
    let store = bao.store(Auth::TokenFile(path), Some("team"), &clock);
    let bench = Bench { store: &store, clock: &clock, prefix: "" };
    let denied = store.list().await.unwrap_err();
    assert!(matches!(&denied, StoreError::Setup(what) if what.contains("denied") && !what.contains("no-token")));
    bao.file("token", &bao.root);
    bench.put(&bench.name("key"), "v").await.unwrap();
    assert_eq!(bench.current(&bench.name("key")).await.as_deref(), Some("v"));
    assert_eq!(bao.status("GET", "kv/data/apps/key", &json!({})).await.0, 404);
    let open = bao.file("token", &bao.root);
    std::fs::set_permissions(open, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(store.list().await, Err(StoreError::Setup(what)) if what.contains("chmod")));
}
