//! From a record to the bytes of its line: rendered by hand, in the order that `docs/formats.md` freezes.
//!
//! A line is `{"v":1,"i":…,"t":"…",` followed by a *body* that begins with `"kind":` and ends with `}`. The
//! body is rendered by whoever has something to record; version, index and time are put before it when the
//! batch is written, so that an index is never given away twice.

use crate::access::{Access, Audiences, Grounds, Resource, Role, Scope, Scopes, Why, Workload};
use crate::account::{SecretTerms, Terms, TokenTerms};
use crate::crypto::Fingerprint;
use crate::name::Name;
use crate::time::Wall;

use super::body::{Body, digits, micros};
use super::layout::Former;
use super::stores::{Noted, Standing};
use super::{
    Actor, Asked, Durability, Effect, Intent, LogId, MAX_LINE_BYTES, MAX_NUMBER, NotDurable, Offline, Operation,
    Outcome, OutcomeOf, Record, Refusal, Release, Reload, Start, Suppressed, TraceId, VERSION, Whose,
};

/// What the journal may add to a body: the longest prefix, and the longest `,"again":…`.
const MAX_ADDED_BYTES: usize = 62 + 25;
/// The longest body.
const MAX_BODY_BYTES: usize = MAX_LINE_BYTES - MAX_ADDED_BYTES;
/// The longest list of facts, as rendered.
const MAX_FACTS_BYTES: usize = 1_024;
/// The longest lists of scopes and audiences, together, as rendered.
const MAX_ASKED_BYTES: usize = 1_024;

/// Whether every record about `access` fits into a line. Asked before anything else is done for it.
#[must_use]
pub fn fits(access: &Access) -> bool {
    let asked = access.scopes.iter().map(|scope| scope.as_str().len() + 3).sum::<usize>()
        + access.audience.iter().map(|audience| audience.as_str().len() + 3).sum::<usize>();
    let facts = access.who.facts.iter().map(|(key, value)| key.len() + value.len() + 6).sum::<usize>();
    // Escaped, a byte takes six at most: what fits even so, as nearly all does, need not be rendered for it.
    if (asked + 4) * 6 <= MAX_ASKED_BYTES && (facts + 2) * 6 <= MAX_FACTS_BYTES {
        return true;
    }
    let mut scratch = Vec::with_capacity(512);
    let mut body = Body(&mut scratch);
    body.words(&access.scopes);
    body.words(&access.audience);
    let asked = body.0.len();
    body.object(&access.who.facts, |body, value| body.string(value));
    asked <= MAX_ASKED_BYTES && body.0.len() - asked <= MAX_FACTS_BYTES
}

/// Renders the body of `record` to the end of `out`.
///
/// # Errors
/// [`NotDurable::TooLong`], with `out` as it was.
pub(super) fn body(record: &Record<'_>, out: &mut Vec<u8>) -> Result<(), NotDurable> {
    let from = out.len();
    let body = &mut Body(out);
    match record {
        Record::Release(it) => release(body, it),
        Record::Refusal(it) => refusal(body, it),
        Record::Suppressed(it) => suppressed(body, it),
        Record::Intent(it) => intent(body, it),
        Record::Outcome(it) => outcome(body, it),
        Record::Operation(it) => operation(body, it),
        Record::Offline(it) => offline(body, it),
        Record::Reload(it) => reload(body, it),
        Record::Store(it, noted) => store(body, it, *noted),
    }
    body.0.push(b'}');
    let length = out.len() - from;
    if length > MAX_BODY_BYTES {
        out.truncate(from);
        return Err(NotDurable::TooLong(length + MAX_ADDED_BYTES));
    }
    Ok(())
}

/// What the journal itself writes: the boundaries of the log.
#[derive(Clone, Copy, Debug)]
pub(super) enum Boundary<'a> {
    /// A process begins to write.
    Start(&'a Start<'a>, Durability),
    /// It ends in good order.
    Stop { log: LogId, reason: &'a str, segment: u64, from: Wall, to: Wall },
    /// The former segment is full.
    Segment { log: LogId, segment: u64, former: &'a Former },
    /// The former segment ended irregularly.
    Reopen { log: LogId, segment: u64, former: &'a Former, end: End },
}

/// How a segment ended that was not merely full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// What ended it.
    pub(super) cause: Cause,
    /// The error of the operating system, if it was one.
    pub(super) errno: Option<i32>,
    /// How many records were handed to the file since and are void.
    pub(super) void: u64,
    /// How many records of an effect or a refusal were lost, because too many were waiting to be written anew.
    pub(super) dropped: u64,
}

/// What ended a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Bytes that are no whole line: the process or the machine died while it wrote.
    Torn,
    /// `write` failed.
    Write,
    /// `fdatasync` failed.
    Sync,
}

impl Cause {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Torn => "torn",
            Self::Write => "write",
            Self::Sync => "sync",
        }
    }
}

/// Renders the body of a boundary to the end of `out`.
pub(super) fn boundary(boundary: &Boundary<'_>, out: &mut Vec<u8>) {
    let body = &mut Body(out);
    match boundary {
        Boundary::Start(it, durability) => start(body, it, *durability),
        Boundary::Stop { log, reason, segment, from, to } => {
            body.kind("stop");
            body.shown("log", log);
            body.text("reason", reason);
            body.number("segment", *segment);
            body.time("from", *from);
            body.time("to", *to);
        }
        Boundary::Segment { log, segment, former } => opening(body, "segment", log, *segment, former),
        Boundary::Reopen { log, segment, former, end } => {
            opening(body, "reopen", log, *segment, former);
            body.text("cause", end.cause.as_str());
            body.maybe_number("errno", end.errno.and_then(|errno| u64::try_from(errno).ok()));
            body.number("void", end.void);
            body.number("dropped", end.dropped);
        }
    }
    body.0.push(b'}');
}

/// Puts version, index and time before `body`, and a newline after it.
pub(super) fn finish(index: u64, at: Wall, body: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"v\":");
    digits(u64::from(VERSION), out);
    out.extend_from_slice(b",\"i\":");
    digits(index, out);
    out.extend_from_slice(b",\"t\":\"");
    out.extend_from_slice(at.rfc3339().as_str().as_bytes());
    out.extend_from_slice(b"\",");
    out.extend_from_slice(body);
    out.push(b'\n');
}

/// Marks `body` as one that stood at `index` in a void batch.
pub(super) fn again(body: &mut Vec<u8>, index: u64) {
    body.pop();
    Body(body).number("again", index);
    body.push(b'}');
}

fn start(body: &mut Body<'_>, start: &Start<'_>, durability: Durability) {
    body.kind("start");
    body.shown("log", start.log);
    body.shown("origin", format_args!("bursar/{}", start.log));
    body.detail("agent", start.agent);
    body.detail("host", start.host);
    body.detail("boot", start.boot);
    body.detail("version", start.version);
    body.text("mode", start.mode.as_str());
    body.text("durability", durability.as_str());
    body.number("pid", start.pid.into());
    body.number("uid", start.uid.into());
    body.maybe_hex("policy_digest", start.policy.as_ref().map(|digest| digest.bytes().as_slice()));
}

fn opening(body: &mut Body<'_>, kind: &str, log: &LogId, segment: u64, former: &Former) {
    body.kind(kind);
    body.shown("log", log);
    body.number("segment", segment);
    body.key("former");
    body.0.extend_from_slice(b"{\"segment\":");
    digits(former.segment, body.0);
    body.number("bytes", former.bytes);
    body.number("size", former.size);
    body.number("tail", former.tail);
    body.time("from", former.from);
    body.time("to", former.to);
    body.0.push(b'}');
}

fn release(body: &mut Body<'_>, release: &Release<'_>) {
    let account = &release.account;
    body.kind("release");
    actor(body, &account.access.who);
    asked(body, Some(&Asked::of(account.access)), usize::MAX);
    grounds(body, Some(account.grounds), None);
    match account.terms {
        Terms::Token(terms) => token(body, terms),
        Terms::Secret(terms) => secret(body, terms),
    }
    body.micros("took_us", release.took);
    trace(body, release.trace);
    if let Terms::Secret(terms) = account.terms {
        body.detail("version", &terms.version);
    }
}

fn secret(body: &mut Body<'_>, terms: &SecretTerms) {
    body.null("granted");
    body.time("obtained", terms.obtained.wall);
    body.null("expires");
    body.text("freshness", terms.freshness.as_str());
    body.fingerprint(None);
    body.null("intent");
}

fn token(body: &mut Body<'_>, terms: &TokenTerms) {
    body.key("granted");
    body.words(&terms.scopes);
    body.time("obtained", terms.obtained.wall);
    body.maybe_time("expires", terms.expires.map(|deadline| deadline.wall));
    body.text("freshness", terms.freshness.as_str());
    body.fingerprint(Some(terms.fingerprint));
    body.number("intent", terms.intent);
}

fn refusal(body: &mut Body<'_>, refusal: &Refusal<'_>) {
    body.kind("refusal");
    match refusal.who {
        Some(who) => actor(body, who),
        None => no_workload(body, "unidentified", refusal.uid),
    }
    asked(body, refusal.asked.as_ref(), MAX_ASKED_BYTES);
    grounds(body, refusal.grounds, refusal.why);
    body.text("code", refusal.code);
    body.detail("detail", refusal.detail);
    trace(body, refusal.trace);
}

fn suppressed(body: &mut Body<'_>, suppressed: &Suppressed<'_>) {
    body.kind("suppressed");
    let (whose, uid) = match suppressed.whose {
        Whose::Uid(uid) => ("uid", Some(uid)),
        Whose::Unidentified => ("unidentified", None),
        Whose::Others => ("others", None),
    };
    body.text("whose", whose);
    body.maybe_number("uid", uid.map(u64::from));
    body.number("total", suppressed.counts.iter().map(|(_, count)| count).sum());
    body.key("counts");
    body.object(suppressed.counts, |body, count| digits((*count).min(MAX_NUMBER), body.0));
    body.maybe_number("under", suppressed.under);
}

fn intent(body: &mut Body<'_>, intent: &Intent<'_>) {
    body.kind("intent");
    match intent.actor {
        Actor::Workload(who) => actor(body, who),
        Actor::Bursar => no_workload(body, "bursar", None),
        Actor::Offline(uid) => no_workload(body, "offline", Some(uid)),
    }
    match intent.effect {
        Effect::Mint { provider, scopes, audience } => of_token(body, "mint", provider, scopes, audience),
        Effect::Revoke { provider, scopes, audience } => of_token(body, "revoke", provider, scopes, audience),
        Effect::Put { secret } => of_place(body, "put", Some("Secret"), &secret.to_string()),
        Effect::Retire { secret } => of_place(body, "retire", Some("Secret"), &secret.to_string()),
        Effect::Rotate { act, secret, version } => {
            of_place(body, act.as_str(), Some("Secret"), &secret.to_string());
            body.maybe_text("version", version);
        }
        Effect::Accept { store } => of_place(body, "accept", None, store.as_str()),
        Effect::Rekey { store } => of_place(body, "rekey", None, store.as_str()),
        Effect::Backup { store } => of_place(body, "backup", None, store.as_str()),
        Effect::Restore { store } => of_place(body, "restore", None, store.as_str()),
        Effect::Delivery { act, delivery, path } => {
            of_place(body, act.as_str(), None, delivery.as_str());
            body.detail("path", path);
        }
    }
}

/// The keys of an effect on a secret or a store; the latter is none of the policy schema.
fn of_place(body: &mut Body<'_>, effect: &str, resource_type: Option<&str>, resource: &str) {
    body.text("effect", effect);
    body.maybe_text("resource_type", resource_type);
    body.text("resource", resource);
    body.null("scopes");
    body.null("audience");
}

/// The keys of an effect on a token.
fn of_token(body: &mut Body<'_>, effect: &str, provider: &Name, scopes: &Scopes, audience: &Audiences) {
    body.text("effect", effect);
    body.text("resource_type", "Provider");
    body.text("resource", provider.as_str());
    body.key("scopes");
    body.words(scopes);
    body.key("audience");
    body.words(audience);
}

fn outcome(body: &mut Body<'_>, outcome: &Outcome<'_>) {
    body.kind("outcome");
    body.number("intent", outcome.intent);
    match outcome.result {
        OutcomeOf::Minted { fingerprint, scopes, lifetime } => {
            done(body, None);
            body.fingerprint(Some(fingerprint));
            body.key("granted");
            body.words(scopes);
            body.maybe_number("lifetime_us", lifetime.map(micros));
        }
        OutcomeOf::Revoked { fingerprint } => {
            done(body, None);
            no_grant(body, Some(fingerprint));
        }
        OutcomeOf::NotRevoked { fingerprint, code, detail } => {
            failed(body, code, detail);
            no_grant(body, Some(fingerprint));
        }
        OutcomeOf::Stored { version: id } | OutcomeOf::Accepted { id } | OutcomeOf::Done { detail: id } => {
            done(body, Some(id));
            no_grant(body, None);
        }
        OutcomeOf::Failed { code, detail } => {
            failed(body, code, detail);
            no_grant(body, None);
        }
    }
    body.micros("took_us", outcome.took);
}

fn done(body: &mut Body<'_>, detail: Option<&str>) {
    body.text("result", "ok");
    body.null("code");
    match detail {
        Some(detail) => body.detail("detail", detail),
        None => body.null("detail"),
    }
}

fn failed(body: &mut Body<'_>, code: &str, detail: &str) {
    body.text("result", "failed");
    body.text("code", code);
    body.detail("detail", detail);
}

fn no_grant(body: &mut Body<'_>, fingerprint: Option<Fingerprint>) {
    body.fingerprint(fingerprint);
    body.null("granted");
    body.null("lifetime_us");
}

fn operation(body: &mut Body<'_>, operation: &Operation<'_>) {
    body.kind("operation");
    actor(body, &operation.access.who);
    asked(body, Some(&Asked::of(operation.access)), usize::MAX);
    grounds(body, Some(operation.grounds), None);
    body.text("result", operation.result);
    body.detail("detail", operation.detail);
}

fn offline(body: &mut Body<'_>, offline: &Offline<'_>) {
    body.kind("operation");
    no_workload(body, "offline", Some(offline.uid));
    let question = Asked { action: offline.action, resource: Some(offline.resource), scopes: None, audience: None };
    asked(body, Some(&question), usize::MAX);
    grounds(body, None, None);
    body.text("result", offline.result);
    body.detail("detail", offline.detail);
}

fn reload(body: &mut Body<'_>, reload: &Reload<'_>) {
    body.kind("reload");
    body.maybe_hex("policy_digest", Some(reload.snapshot.bytes().as_slice()));
    match reload.result {
        Ok(()) => {
            body.text("result", "ok");
            body.null("detail");
        }
        Err(why) => {
            body.text("result", "kept");
            body.detail("detail", why);
        }
    }
}

fn store(body: &mut Body<'_>, standing: &Standing, noted: Noted) {
    body.kind("store");
    body.text("store", standing.store.as_str());
    body.detail("id", &standing.id);
    body.number("changes", standing.changes);
    body.text("noted", noted.as_str());
}

/// `actor, who, uid, facts` of a workload or operator.
fn actor(body: &mut Body<'_>, who: &Workload) {
    let actor = match who.role {
        Role::Workload => "workload",
        Role::Operator => "operator",
    };
    body.text("actor", actor);
    body.text("who", who.name.as_str());
    body.number("uid", who.uid.into());
    body.key("facts");
    facts(body, who);
}

/// The same keys, of what has no entry in `workloads.toml`.
fn no_workload(body: &mut Body<'_>, actor: &str, uid: Option<u32>) {
    body.text("actor", actor);
    body.null("who");
    body.maybe_number("uid", uid.map(u64::from));
    body.null("facts");
}

/// The facts, or `null` where they are longer than [`fits`] lets pass.
fn facts(body: &mut Body<'_>, who: &Workload) {
    let from = body.0.len();
    body.object(&who.facts, |body, value| body.string(value));
    if body.0.len() - from > MAX_FACTS_BYTES {
        body.0.truncate(from);
        body.0.extend_from_slice(b"null");
    }
}

/// `action, resource_type, resource, scopes, audience`; the lists are `null` beyond `most` bytes.
fn asked(body: &mut Body<'_>, asked: Option<&Asked<'_>>, most: usize) {
    body.maybe_text("action", asked.map(|asked| asked.action.as_str()));
    match asked.and_then(|asked| asked.resource) {
        None => {
            body.null("resource_type");
            body.null("resource");
        }
        Some(resource) => named(body, resource),
    }
    let from = body.0.len();
    body.maybe_words("scopes", asked.and_then(|asked| asked.scopes));
    body.maybe_words("audience", asked.and_then(|asked| asked.audience));
    if body.0.len() - from > most {
        body.0.truncate(from);
        body.maybe_words::<Scope>("scopes", None);
        body.maybe_words::<Scope>("audience", None);
    }
}

fn named(body: &mut Body<'_>, resource: &Resource) {
    match resource {
        Resource::Provider(name) => {
            body.text("resource_type", "Provider");
            body.text("resource", name.as_str());
        }
        Resource::Secret(id) => {
            body.text("resource_type", "Secret");
            body.shown("resource", id);
        }
        Resource::Agent => {
            body.text("resource_type", "Agent");
            body.text("resource", "self");
        }
    }
}

/// `minute, verdict, policies, policies_total, policy_digest`.
fn grounds(body: &mut Body<'_>, grounds: Option<&Grounds>, why: Option<Why>) {
    let verdict = match why {
        None => "permit",
        Some(Why::NoPermit) => "no_permit",
        Some(Why::Forbidden) => "forbidden",
        Some(Why::Error) => "error",
    };
    let policies = grounds.map(|grounds| &*grounds.policies);
    body.maybe_time("minute", grounds.map(|grounds| grounds.minute.begins()));
    body.maybe_text("verdict", grounds.map(|_| verdict));
    body.key("policies");
    match policies {
        None => body.0.extend_from_slice(b"null"),
        Some(ids) => body.policies(ids),
    }
    body.maybe_number("policies_total", policies.and_then(|ids| u64::try_from(ids.len()).ok()));
    body.maybe_hex("policy_digest", grounds.map(|grounds| grounds.snapshot.bytes().as_slice()));
}

fn trace(body: &mut Body<'_>, trace: Option<TraceId>) {
    body.maybe_hex("trace", trace.as_ref().map(|trace| trace.0.as_slice()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_addition_is_counted_right() {
        let mut body = b"}".to_vec();
        again(&mut body, MAX_NUMBER);
        let mut line = Vec::new();
        finish(MAX_NUMBER, Wall::default(), &body, &mut line);
        assert_eq!(line.len(), MAX_ADDED_BYTES + b"}\n".len());
    }
}
