//! The examples of `docs/formats.md` are what the code writes, byte for byte.

use std::sync::Arc;
use std::time::Duration;

use crate::access::{Access, Action, Audiences, Grounds, Permit, Resource, Role, Scopes, SecretId, Why, Workload};
use crate::account::{Encoding, Freshness, Lease, SecretTerms, Terms, TokenTerms};
use crate::crypto::{Digest, FingerprintKey};
use crate::secret::Secret;
use crate::time::{Boot, Moment, Wall};

use super::form::{self, Line};
use super::layout::Former;
use super::line::{self, Boundary, Cause, End};
use super::*;

const PAGE: &str = include_str!("../../docs/formats.md");

/// `seconds` and `micros` after the start of the log in the examples.
fn at(seconds: i64, micros: i64) -> Wall {
    Wall::from_micros(1_795_240_800_000_000 + seconds * 1_000_000 + micros)
}

fn log() -> LogId {
    "6ba7b810-9dad-41d1-80b4-00c04fd430c8".parse().unwrap()
}

fn grounds(policies: &[&str]) -> Grounds {
    Grounds {
        minute: at(60, 0).minute(),
        policies: policies.iter().map(|id| (*id).into()).collect(),
        snapshot: Digest::of(b"the policy snapshot"),
    }
}

fn workload(role: Role, name: &str, uid: u32, facts: &[(&'static str, &str)]) -> Workload {
    let facts = facts.iter().map(|(name, value)| (*name, (*value).into())).collect();
    Workload { name: name.parse().unwrap(), role, uid, facts }
}

fn checkout() -> Workload {
    workload(Role::Workload, "checkout", 990, &[("user", "checkout"), ("unit", "checkout.service")])
}

pub(super) fn access() -> Access {
    Access {
        who: Arc::new(checkout()),
        action: Action::Token,
        resource: Resource::Provider("stripe".parse().unwrap()),
        scopes: Scopes::parse("charges:read").unwrap(),
        audience: Audiences::from_iter(["https://api.example.com".parse().unwrap()]),
    }
}

pub(super) fn lease() -> Lease {
    let sent = Moment { wall: at(61, 120_000), boot: Boot::default() };
    let terms = TokenTerms {
        scopes: Scopes::parse("charges:read").unwrap(),
        obtained: sent,
        expires: Some(sent.deadline(Duration::from_secs(300))),
        rejected: false,
        freshness: Freshness::Fresh,
        fingerprint: FingerprintKey::new(1, &[7; 32]).of(b"a token"),
        intent: 1,
    };
    let permit = Permit::grant(access(), grounds(&["checkout-charges"]));
    Lease::grant(permit, Arc::new(Secret::new(b"a token".to_vec())), Terms::Token(terms))
}

pub(super) const TRACE: TraceId = TraceId(*b"\x4b\xf9\x2f\x35\x77\xb3\x4d\xa6\xa3\xce\x92\x9d\x0e\x0e\x47\x36");

/// The log of the examples, line by line.
fn lines() -> Vec<Vec<u8>> {
    let mut lines = Vec::new();
    let mut add = |index, at, body: &[u8]| {
        let mut line = Vec::new();
        line::finish(index, at, body, &mut line);
        assert_eq!(line.pop(), Some(b'\n'));
        lines.push(line);
    };
    add(0, at(0, 0), &boundary(&Boundary::Start(&start(), Durability::Disk)));
    add(1, at(61, 118_022), &body(&Record::Intent(intent(&checkout()))));
    add(2, at(61, 201_577), &body(&Record::Outcome(minted())));
    add(3, at(61, 201_580), &body(&release()));
    add(4, at(62, 9), &refused_by_policy());
    add(5, at(63, 500_000), &body(&Record::Refusal(unidentified())));
    add(6, at(64, 500_120), &body(&Record::Suppressed(suppressed())));
    add(7, at(70, 0), &intend_to_put());
    add(8, at(70, 1_400), &body(&Record::Outcome(stored())));
    add(9, at(70, 1_402), &put(true));
    add(10, at(71, 0), &put(false));
    add(11, at(80, 0), &body(&Record::Reload(Reload { snapshot: grounds(&[]).snapshot, result: Ok(()) })));
    add(12, at(85, 0), &body(&Record::Store(&standing(), Noted::Changed)));
    let from = at(0, 0);
    add(13, at(90, 0), &boundary(&Boundary::Stop { log: log(), reason: "SIGTERM", segment: 1, from, to: at(90, 0) }));
    let former = Former { segment: 1, bytes: 268_435_411, size: 402_117, tail: 0, from, to: at(7_200, 1) };
    add(402_117, at(7_200, 40), &boundary(&Boundary::Segment { log: log(), segment: 2, former: &former }));
    add(402_118, at(7_201, 0), &intend_to_revoke());
    add(402_119, at(7_201, 51_300), &body(&Record::Outcome(revoked())));
    add(402_120, at(7_201, 51_302), &body(&Record::Outcome(not_revoked())));
    add(402_121, at(7_202, 1_322), &secret());
    let former =
        Former { segment: 2, bytes: 1_804_322, size: 405_001, tail: 1_911, from: at(7_200, 40), to: at(7_260, 0) };
    let end = End { cause: Cause::Sync, errno: Some(5), void: 3, dropped: 0 };
    add(405_001, at(7_261, 0), &boundary(&Boundary::Reopen { log: log(), segment: 3, former: &former, end }));
    add(405_002, at(7_260, 0), &written_anew(405_001));
    let store = "local".parse().unwrap();
    let intent = Intent { actor: Actor::Offline(0), effect: Effect::Accept { store: &store } };
    add(405_020, at(7_300, 0), &body(&Record::Intent(intent)));
    let result = OutcomeOf::Accepted { id: &standing().id };
    let outcome = Outcome { intent: 405_020, result, took: Duration::from_micros(911) };
    add(405_022, at(7_300, 911), &body(&Record::Outcome(outcome)));
    let key = api_key();
    let upkeep = [
        Effect::Retire { secret: &key },
        Effect::Rekey { store: &store },
        Effect::Backup { store: &store },
        Effect::Restore { store: &store },
    ];
    for (nth, effect) in upkeep.into_iter().enumerate() {
        let (index, second) = (405_030 + 2 * nth as u64, 7_400 + nth as i64);
        add(index, at(second, 0), &body(&Record::Intent(Intent { actor: Actor::Offline(0), effect })));
        let id = standing().id;
        let result = OutcomeOf::Done { detail: ["01JD3Z", "41 values", "41 values", &id][nth] };
        let outcome = Outcome { intent: index, result, took: Duration::from_micros(2_044) };
        add(index + 1, at(second, 2_044), &body(&Record::Outcome(outcome)));
    }
    deliver(&mut add);
    let effect = Effect::Rotate { act: Act::Set, secret: &api_key(), version: Some("01JD3Z") };
    add(405_050, at(7_600, 0), &body(&Record::Intent(Intent { actor: Actor::Bursar, effect })));
    let result = OutcomeOf::Done { detail: "done" };
    let outcome = Outcome { intent: 405_050, result, took: Duration::from_micros(4_100) };
    add(405_051, at(7_600, 4_100), &body(&Record::Outcome(outcome)));
    lines
}

/// A delivery: its intent, its release, its outcome.
fn deliver(add: &mut impl FnMut(u64, Wall, &[u8])) {
    let who = workload(Role::Workload, "checkout", 990, &[("delivery", "checkout-key")]);
    let delivery = "checkout-key".parse().unwrap();
    let effect = Effect::Delivery { act: DeliveryAct::Deliver, delivery: &delivery, path: "/run/checkout/key" };
    add(405_040, at(7_500, 0), &body(&Record::Intent(Intent { actor: Actor::Workload(&who), effect })));
    add(405_041, at(7_500, 400), &secret_for(who.clone()));
    let delivered = |intent, how, took| {
        let result = OutcomeOf::Done { detail: how };
        body(&Record::Outcome(Outcome { intent, result, took: Duration::from_micros(took) }))
    };
    add(405_042, at(7_500, 900), &delivered(405_040, "written", 480));
    let effect = Effect::Delivery { act: DeliveryAct::Notify, delivery: &delivery, path: "/run/checkout/key" };
    add(405_043, at(7_500, 950), &body(&Record::Intent(Intent { actor: Actor::Workload(&who), effect })));
    add(405_044, at(7_500, 1_300), &delivered(405_043, "signalled", 41));
}

fn body(record: &Record<'_>) -> Vec<u8> {
    let mut body = Vec::new();
    line::body(record, &mut body).unwrap();
    body
}

fn boundary(boundary: &Boundary<'_>) -> Vec<u8> {
    let mut body = Vec::new();
    line::boundary(boundary, &mut body);
    body
}

fn start() -> Start<'static> {
    Start {
        log: log(),
        agent: "host-7",
        host: "host-7.example.com",
        boot: "2f1c5a2e-3f0b-4b8e-9d53-0c6c5b9b3a11",
        version: "0.1.0",
        mode: Mode::Agent,
        pid: 812,
        uid: 987,
        policy: Some(grounds(&[]).snapshot),
    }
}

fn intent(who: &Workload) -> Intent<'_> {
    static ASKED: std::sync::LazyLock<Access> = std::sync::LazyLock::new(access);
    static PROVIDER: std::sync::LazyLock<Name> = std::sync::LazyLock::new(|| "stripe".parse().unwrap());
    let effect = Effect::Mint { provider: &PROVIDER, scopes: &ASKED.scopes, audience: &ASKED.audience };
    Intent { actor: Actor::Workload(who), effect }
}

fn minted() -> Outcome<'static> {
    static SCOPES: std::sync::LazyLock<Scopes> = std::sync::LazyLock::new(|| Scopes::parse("charges:read").unwrap());
    let fingerprint = FingerprintKey::new(1, &[7; 32]).of(b"a token");
    let result = OutcomeOf::Minted { fingerprint, scopes: &SCOPES, lifetime: Some(Duration::from_secs(300)) };
    Outcome { intent: 1, result, took: Duration::from_micros(81_377) }
}

fn release() -> Record<'static> {
    static LEASE: std::sync::LazyLock<Lease> = std::sync::LazyLock::new(lease);
    Record::Release(Release { account: LEASE.account(), took: Duration::from_micros(83_702), trace: Some(TRACE) })
}

fn secret() -> Vec<u8> {
    secret_for(checkout())
}

fn secret_for(who: Workload) -> Vec<u8> {
    let resource = Resource::Secret("stripe-api-key".parse().unwrap());
    let (scopes, audience) = Default::default();
    let access = Access { who: Arc::new(who), action: Action::Secret, resource, scopes, audience };
    let terms = SecretTerms {
        version: "01JD3Z".into(),
        created: at(70, 1_000),
        obtained: Moment { wall: at(7_202, 411), boot: Boot::default() },
        freshness: Freshness::Fresh,
        encoding: Encoding::Utf8,
        reread_after: Duration::from_secs(300),
    };
    let permit = Permit::grant(access, grounds(&["checkout-api-key"]));
    let lease = Lease::grant(permit, Arc::new(Secret::new(b"a value".to_vec())), Terms::Secret(terms));
    let took = Duration::from_micros(902);
    body(&Record::Release(Release { account: lease.account(), took, trace: None }))
}

fn refused_by_policy() -> Vec<u8> {
    let asked = Access { scopes: Scopes::parse("charges:read charges:write").unwrap(), ..access() };
    body(&Record::Refusal(Refusal {
        code: "access_denied",
        who: Some(&asked.who),
        uid: Some(990),
        asked: Some(Asked::of(&asked)),
        grounds: Some(&grounds(&[])),
        why: Some(Why::NoPermit),
        detail: "",
        trace: None,
    }))
}

fn unidentified() -> Refusal<'static> {
    let detail = "no entry of workloads.toml matches";
    let (asked, grounds, why) = (None, None, None);
    Refusal { code: "unidentified", who: None, uid: Some(1_001), asked, grounds, why, detail, trace: None }
}

fn suppressed() -> Suppressed<'static> {
    Suppressed {
        whose: Whose::Unidentified,
        counts: &[("sender_mismatch", 2), ("unidentified", 4_807)],
        under: Some(5),
    }
}

fn root() -> Workload {
    workload(Role::Operator, "root", 0, &[("uid", "0")])
}

fn api_key() -> SecretId {
    "local/stripe/api-key".parse().unwrap()
}

fn intend_to_put() -> Vec<u8> {
    let effect = Effect::Put { secret: &api_key() };
    body(&Record::Intent(Intent { actor: Actor::Workload(&root()), effect }))
}

fn intend_to_revoke() -> Vec<u8> {
    let (asked, provider) = (access(), "stripe".parse().unwrap());
    let effect = Effect::Revoke { provider: &provider, scopes: &asked.scopes, audience: &asked.audience };
    body(&Record::Intent(Intent { actor: Actor::Workload(&root()), effect }))
}

fn revoked() -> Outcome<'static> {
    let fingerprint = FingerprintKey::new(1, &[7; 32]).of(b"a token");
    Outcome { intent: 402_118, result: OutcomeOf::Revoked { fingerprint }, took: Duration::from_micros(50_811) }
}

fn not_revoked() -> Outcome<'static> {
    let fingerprint = FingerprintKey::new(1, &[7; 32]).of(b"another token");
    let (code, detail) = ("unsupported", "no `revocation_endpoint` is configured or discovered");
    let result = OutcomeOf::NotRevoked { fingerprint, code, detail };
    Outcome { intent: 402_116, result, took: Duration::from_micros(14) }
}

fn stored() -> Outcome<'static> {
    Outcome { intent: 7, result: OutcomeOf::Stored { version: "01JD3Z" }, took: Duration::from_micros(1_322) }
}

fn put(online: bool) -> Vec<u8> {
    let resource = Resource::Secret(api_key());
    let (result, detail) = ("ok", "version 01JD3Z");
    if !online {
        return body(&Record::Offline(Offline { uid: 0, action: Action::Put, resource: &resource, result, detail }));
    }
    let (scopes, audience) = (Scopes::default(), Audiences::default());
    let access = Access { who: Arc::new(root()), action: Action::Put, resource, scopes, audience };
    body(&Record::Operation(Operation { access: &access, grounds: &grounds(&["operators"]), result, detail }))
}

fn standing() -> Standing {
    let (store, id) = ("local".parse().unwrap(), "0f0e0d0c-0b0a-4908-8706-050403020100".into());
    Standing { store, id, changes: 41 }
}

fn written_anew(index: u64) -> Vec<u8> {
    let result = OutcomeOf::Failed { code: "provider_error", detail: "status 400 and `invalid_client`" };
    let mut body = body(&Record::Outcome(Outcome { intent: 404_998, result, took: Duration::from_micros(40_118) }));
    line::again(&mut body, index);
    body
}

/// The lines of every block marked `json` in the part on the audit log.
fn examples() -> Vec<&'static str> {
    let part = PAGE.split("\n## ").find(|part| part.starts_with("Audit log")).unwrap();
    let blocks = part.split("```").skip(1).step_by(2).filter_map(|block| block.strip_prefix("json\n"));
    blocks.flat_map(str::lines).collect()
}

#[test]
fn the_page_shows_what_the_code_writes() {
    let written: Vec<_> = lines().into_iter().map(|line| String::from_utf8(line).unwrap()).collect();
    let mut shown = examples();
    shown.sort_by_key(|line| form::check(line.as_bytes()).unwrap().index);
    assert_eq!(shown, written, "in docs/formats.md; write instead:\n{}", written.join("\n"));
}

#[test]
fn every_kind_has_an_example_and_its_keys_on_the_page() {
    for (kind, keys) in form::KINDS {
        assert!(examples().iter().any(|line| form::check(line.as_bytes()).unwrap().kind == kind), "{kind}");
        let row = format!("| `{kind}` | `{}` |", keys.join(", "));
        assert!(PAGE.contains(&row), "docs/formats.md lacks the row:\n{row}");
    }
}

#[test]
fn every_example_is_read_back() {
    for example in examples() {
        assert_eq!(Line::parse(example.as_bytes()).unwrap().as_str(), example);
    }
}

#[test]
fn whatever_a_refusal_holds_it_fits() {
    let long = "\u{1f511}".repeat(5_000);
    let facts: Vec<_> = (0..20).map(|_| ("exe", long.as_str())).collect();
    let who = workload(Role::Workload, &"w".repeat(63), u32::MAX, &facts);
    let scopes: Scopes = (0..200).map(|nth| format!("{nth:0256}").parse().unwrap()).collect();
    let access = Access { who: Arc::new(who), scopes, ..access() };
    assert!(!line::fits(&access));
    let ids: Vec<_> = (0..100).map(|_| long.as_str()).collect();
    let grounds = grounds(&ids);
    let refusal = Refusal {
        code: "access_denied",
        who: Some(&access.who),
        uid: None,
        asked: Some(Asked::of(&access)),
        grounds: Some(&grounds),
        why: Some(Why::Error),
        detail: &long,
        trace: Some(TRACE),
    };
    let mut line = Vec::new();
    line::finish(MAX_NUMBER, at(0, 0), &body(&Record::Refusal(refusal)), &mut line);
    let line = Line::parse(line.strip_suffix(b"\n").unwrap()).unwrap();
    assert_eq!(line.number("policies_total"), Some(100));
    assert!(line.get("scopes").unwrap().is_null());
}

#[test]
fn a_question_that_fits_has_room_for_its_release() {
    assert!(line::fits(&access()));
    let id = "p".repeat(100);
    let ids = [id.as_str(); 40];
    let who = workload(Role::Workload, &"w".repeat(63), u32::MAX, &[("exe", &"e".repeat(1_000))]);
    let scopes: Scopes = [format!("{:0>250}", 1), format!("{:0>250}", 2)].iter().map(|s| s.parse().unwrap()).collect();
    let audience = [format!("{:0>460}", 1)].iter().map(|a| a.parse().unwrap()).collect();
    let access = Access { who: Arc::new(who), scopes: scopes.clone(), audience, ..access() };
    assert!(line::fits(&access));
    let Terms::Token(terms) = lease().account().terms.clone() else { panic!("a token's lease") };
    let permit = Permit::grant(access, grounds(&ids));
    let lease = Lease::grant(permit, Arc::new(Secret::new(Vec::new())), Terms::Token(TokenTerms { scopes, ..terms }));
    let release = Release { account: lease.account(), took: Duration::MAX, trace: Some(TRACE) };
    body(&Record::Release(release));
}
