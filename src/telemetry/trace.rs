//! Spans: what one request or flight did and when, as W3C Trace Context and OpenTelemetry name it. Pure but for the queue
//! into which they are laid; `otlp` sends them. They hold names, words and numbers of bursar's own: no secret, and nothing
//! that a workload wrote.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::metrics::Counter;
use crate::crypto::Random;
use crate::time::Moment;

/// How many traces wait to be sent; what comes beyond is dropped and counted.
const MOST_WAITING: usize = 1_024;

/// The span of a caller, as `traceparent` names it (W3C Trace Context §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// The trace: 16 bytes, not all zero.
    pub trace: [u8; 16],
    /// The caller's span.
    pub span: [u8; 8],
    /// Whether the caller records its own.
    pub sampled: bool,
}

impl Parent {
    /// Reads a `traceparent` header: `00-<32 hex>-<16 hex>-<2 hex>`, or a later version that begins like it. None for
    /// anything else, and for the invalid all-zero trace id.
    #[must_use]
    pub fn of_traceparent(text: &str) -> Option<Self> {
        let mut fields = text.split('-');
        let (version, trace, span, flags) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let hex = |field: &str, digits| {
            field.len() == digits && field.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        let whole = version != "00" || fields.next().is_none();
        let valid = hex(version, 2) && version != "ff" && hex(trace, 32) && hex(span, 16) && hex(flags, 2) && whole;
        let bits = u128::from_str_radix(trace, 16).ok().filter(|bits| valid && *bits != 0)?;
        let (span, flags) = (u64::from_str_radix(span, 16).ok()?, u8::from_str_radix(flags, 16).ok()?);
        Some(Self { trace: bits.to_be_bytes(), span: span.to_be_bytes(), sampled: flags & 1 == 1 })
    }
}

/// Takes traces, if they are wanted. Cheap to clone.
#[derive(Clone, Default)]
pub struct Tracer(Option<Arc<Wanted>>);

struct Wanted {
    random: Arc<dyn Random>,
    waiting: Sender<Trail>,
    /// Traces that were not sent: the queue was full, or the collector did not take them.
    dropped: Arc<Counter>,
}

impl Tracer {
    /// A tracer, and where what it takes comes out.
    #[must_use]
    pub fn new(random: Arc<dyn Random>) -> (Self, Receiver<Trail>) {
        let (waiting, out) = mpsc::channel(MOST_WAITING);
        (Self(Some(Arc::new(Wanted { random, waiting, dropped: Arc::default() }))), out)
    }

    /// Begins a trail named `name`, if traces are wanted and the caller does not say that this one is not.
    #[must_use]
    pub fn begin(&self, name: &'static str, kind: Kind, parent: Option<Parent>, now: Moment) -> Option<Trail> {
        let wanted = self.0.as_ref().filter(|_| parent.is_none_or(|parent| parent.sampled))?;
        let mut ids = [0; 24];
        wanted.random.fill(&mut ids).ok()?;
        let (trace, span) = ids.split_at(16);
        let trace = parent.map_or_else(|| trace.try_into().unwrap_or_default(), |parent| parent.trace);
        let span = u64::from_be_bytes(span.try_into().unwrap_or_default());
        let parent = parent.map(|parent| parent.span);
        Some(Trail { name, kind, trace, span, parent, began: now, ended: now, steps: Vec::new(), notes: Vec::new() })
    }

    /// Lets a trail go that has come to its end. It never waits.
    pub fn end(&self, trail: Option<Trail>, now: Moment) {
        if let (Some(wanted), Some(trail)) = (&self.0, trail)
            && wanted.waiting.try_send(Trail { ended: now, ..trail }).is_err()
        {
            wanted.dropped.add_one();
        }
    }

    /// How many traces were not sent; none where none are wanted.
    #[must_use]
    pub fn dropped(&self) -> Option<Arc<Counter>> {
        self.0.as_ref().map(|wanted| Arc::clone(&wanted.dropped))
    }
}

impl std::fmt::Debug for Tracer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tracer({})", if self.0.is_some() { "on" } else { "off" })
    }
}

/// What a span stands for (OpenTelemetry, `SpanKind`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An answer to somebody.
    Server,
    /// A question to somebody.
    Client,
}

/// One span and the steps below it, which follow each other without a gap.
#[derive(Debug)]
pub struct Trail {
    name: &'static str,
    kind: Kind,
    trace: [u8; 16],
    span: u64,
    parent: Option<[u8; 8]>,
    began: Moment,
    ended: Moment,
    /// Each with its end.
    steps: Vec<(&'static str, Moment)>,
    notes: Vec<(&'static str, String)>,
}

impl Trail {
    /// The step `name` ends here; it began where the one before it ended.
    pub fn step(&mut self, name: &'static str, now: Moment) {
        self.steps.push((name, now));
    }

    /// Notes `value` under `key`: a word of bursar's own, or a name of the configuration. `error.type` makes it a failure.
    pub fn note(&mut self, key: &'static str, value: impl Into<String>) {
        self.notes.push((key, value.into()));
    }

    /// The spans in the JSON of OTLP: its own, then its steps.
    fn spans(&self) -> Vec<Value> {
        let (trace, own) = (format!("{:032x}", u128::from_be_bytes(self.trace)), format!("{:016x}", self.span));
        let kind = if self.kind == Kind::Server { 2 } else { 3 };
        let parent = self.parent.map(|parent| format!("{:016x}", u64::from_be_bytes(parent))).unwrap_or_default();
        let failed = self.notes.iter().any(|(key, _)| *key == "error.type");
        let attributes: Vec<_> = self.notes.iter().map(|(key, value)| attribute(key, value)).collect();
        let mut spans = vec![json!({
            "traceId": trace, "spanId": own, "parentSpanId": parent, "name": self.name, "kind": kind,
            "startTimeUnixNano": nanos(self.began), "endTimeUnixNano": nanos(self.ended),
            "attributes": attributes, "status": if failed { json!({ "code": 2 }) } else { json!({}) },
        })];
        let mut began = self.began;
        for ((name, ended), nth) in self.steps.iter().zip(1..) {
            spans.push(json!({
                "traceId": trace, "spanId": format!("{:016x}", self.span.wrapping_add(nth)), "parentSpanId": own,
                "name": name, "kind": 1, "startTimeUnixNano": nanos(began), "endTimeUnixNano": nanos(*ended),
            }));
            began = *ended;
        }
        spans
    }
}

/// The body of an export (`ExportTraceServiceRequest` of OTLP 1, in its JSON): `resource` says who sends it.
#[must_use]
pub fn export(resource: &[(&str, &str)], trails: &[Trail]) -> Vec<u8> {
    let resource: Vec<_> = resource.iter().map(|(key, value)| attribute(key, value)).collect();
    let spans: Vec<_> = trails.iter().flat_map(Trail::spans).collect();
    let scope = json!({ "name": "bursar", "version": env!("CARGO_PKG_VERSION") });
    let body = json!({ "resourceSpans": [{
        "resource": { "attributes": resource }, "scopeSpans": [{ "scope": scope, "spans": spans }],
    }] });
    body.to_string().into_bytes()
}

fn attribute(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

/// Nanoseconds since the epoch, as a text: the JSON of protobuf writes 64-bit numbers so.
fn nanos(at: Moment) -> String {
    (i128::from(at.wall.micros()) * 1_000).to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::crypto::SystemRandom;
    use crate::time::{Clock, ManualClock};

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn the_caller_s_trace_is_continued_and_its_steps_follow_each_other() {
        let clock = ManualClock::default();
        let (tracer, mut out) = Tracer::new(Arc::new(SystemRandom));
        let mut trail = tracer.begin("token", Kind::Server, Parent::of_traceparent(PARENT), clock.now()).unwrap();
        for step in ["attest", "judge"] {
            clock.advance(Duration::from_micros(5));
            trail.step(step, clock.now());
        }
        trail.note("error.type", "access_denied");
        tracer.end(Some(trail), clock.now());
        let body: Value =
            serde_json::from_slice(&export(&[("service.name", "bursar")], &[out.try_recv().unwrap()])).unwrap();
        let spans = body.pointer("/resourceSpans/0/scopeSpans/0/spans").unwrap();
        let of = |nth: usize, key: &str| spans[nth][key].as_str().unwrap().to_owned();
        assert_eq!(spans.as_array().unwrap().len(), 3);
        assert_eq!(of(0, "traceId"), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!((of(0, "parentSpanId"), spans[0]["status"]["code"].as_u64()), ("00f067aa0ba902b7".into(), Some(2)));
        assert_eq!((of(2, "parentSpanId"), of(2, "name")), (of(0, "spanId"), "judge".into()));
        assert_eq!(of(2, "startTimeUnixNano"), of(1, "endTimeUnixNano"));
        assert_eq!(of(2, "endTimeUnixNano"), of(0, "endTimeUnixNano"));
    }

    #[test]
    fn nobody_is_traced_who_says_no_and_nobody_waits_for_the_queue() {
        let (clock, off) = (ManualClock::default(), Tracer::default());
        assert!(off.begin("token", Kind::Server, None, clock.now()).is_none());
        let (tracer, _out) = Tracer::new(Arc::new(SystemRandom));
        let unsampled = Parent::of_traceparent(&PARENT.replace("-01", "-00"));
        assert!(tracer.begin("token", Kind::Server, unsampled, clock.now()).is_none());
        for _ in 0..MOST_WAITING + 3 {
            tracer.end(tracer.begin("token", Kind::Server, None, clock.now()), clock.now());
        }
        assert_eq!(tracer.dropped().unwrap().get(), 3);
    }
}
