//! The wall clock of the running agent stepped by two hours, either way, with libfaketime (Debian: `libfaketime`).
//!
//! What is simulated: libfaketime stands between the agent and the C library and shifts the wall clock alone. The boot-time
//! clock, which the agent reads from the kernel, and the timers of its runtime go on. The provider is real and keeps the right
//! time. Suspend is in `tests/hermetic/clocks.rs`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bursar::time::Wall;
use serde_json::{Value, json};

use crate::peers::Oidc;
use crate::rig::{Agent, Answer, BASIC};

const AHEAD: &str = "+7200";
const RIGHT: &str = "+0";
const BACK: &str = "-7200";

/// An agent whose wall clock can be stepped, and which holds a token.
struct Stepped {
    oidc: Oidc,
    agent: Agent,
    /// When the provider was asked for the token.
    began: Instant,
    /// How often it was asked before the step.
    before: u64,
}

impl Stepped {
    /// With a token that lives for `seconds`. Its refresh point is far: what is asked of the provider is asked for the step.
    async fn warm(seconds: &'static str) -> Self {
        let oidc = Oidc::with_lifetime(seconds);
        let entry = BASIC.entry("stripe", &oidc, "5s").replace("= 0.05", "= 0.9");
        let agent = Agent::start_under(&libfaketime(), &entry, &[("offset", RIGHT)]);
        agent.put("stripe-client", BASIC.secret);
        let began = Instant::now();
        agent.ask("checkout", "stripe", "charges:read").token();
        let before = oidc.requests().await;
        Self { oidc, agent, began, before }
    }

    fn ask(&self) -> Answer {
        self.agent.ask("checkout", "stripe", "charges:read")
    }

    /// Steps the clock, and shows that the agent sees it: its next record carries the time two hours from that of its first.
    fn step(&self, offset: &str) -> Answer {
        self.agent.write("offset", offset);
        let answer = self.ask();
        let at = |record: &Value| Wall::parse(record["t"].as_str().unwrap()).unwrap();
        let (first, now) = (at(&self.agent.records("release")[0]), at(&self.agent.record(&answer)));
        let (earlier, later) = (first.min(now), first.max(now));
        assert_eq!((later - earlier).as_secs() / 3_600 + u64::from(now < first), 2, "{first:?} and then {now:?}");
        answer
    }

    /// How often the provider was asked since the step.
    async fn asked(&self) -> u64 {
        self.oidc.requests().await - self.before
    }
}

/// Where Debian has it, by the machine's architecture.
fn libfaketime() -> PathBuf {
    let place = |arch: &str| PathBuf::from(format!("/usr/lib/{arch}-linux-gnu/faketime/libfaketime.so.1"));
    let found = ["x86_64", "aarch64"].map(place).into_iter().find(|path| path.exists());
    found.unwrap_or_else(|| panic!("libfaketime is missing: run `tests/peers/install`"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_ahead_costs_one_refresh_and_a_step_back_none() {
    let stepped = Stepped::warm("300").await;
    let first = stepped.ask();
    let second = stepped.step(AHEAD);
    assert_ne!(first.token(), second.token(), "by the wall clock it has ended");
    assert_eq!(stepped.ask().token(), second.token());
    assert_eq!(stepped.asked().await, 1);
    stepped.agent.write("offset", RIGHT);
    for _ in 0..5 {
        assert_eq!(stepped.ask().token(), second.token(), "it is as good as before");
    }
    assert_eq!(stepped.asked().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_back_throws_no_token_away() {
    let stepped = Stepped::warm("300").await;
    let first = stepped.ask();
    let second = stepped.step(BACK);
    assert_eq!(first.token(), second.token());
    assert!(second.body["expires_in"].as_u64().unwrap() <= 300, "{second:?}");
    assert_eq!(stepped.asked().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_provider_is_down_a_step_ahead_is_refused_and_costs_one_refresh_when_it_is_back() {
    let stepped = Stepped::warm("300").await;
    let first = stepped.ask();
    stepped.oidc.fault(&json!({ "reset": true })).await;
    assert_eq!(stepped.step(AHEAD).status, 503);
    for _ in 0..20 {
        assert_eq!(stepped.ask().status, 503, "by the wall clock it has ended");
    }
    let during = stepped.asked().await;
    assert!(during <= 9, "{during} requests: no storm");
    stepped.oidc.fault(&Value::Null).await;
    let second = stepped.agent.ask_until("checkout", |answer| answer.status == 200).await;
    assert_ne!(first.token(), second.token());
    assert_eq!(stepped.ask().token(), second.token());
    assert_eq!(stepped.asked().await, during + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_provider_is_down_a_step_back_lengthens_no_life_and_no_wait() {
    let stepped = Stepped::warm("8").await;
    let first = stepped.ask();
    stepped.oidc.fault(&json!({ "reset": true })).await;
    stepped.step(BACK);
    let refused = stepped.agent.ask_until("checkout", |answer| answer.status == 503).await;
    assert!(stepped.began.elapsed() >= Duration::from_secs(7), "it was served to its end");
    assert!(stepped.began.elapsed() < Duration::from_secs(12), "and not for two hours");
    assert!(refused.retry_after().unwrap() <= 31, "{refused:?}");
    stepped.oidc.fault(&Value::Null).await;
    let second = stepped.agent.ask_until("checkout", |answer| answer.status == 200).await;
    assert_ne!(first.token(), second.token());
}
