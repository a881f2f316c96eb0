//! What an operator has to hear of providers: each change once, with what to do, who answers for it, and where that is
//! written. A request that fails says nothing here: there may be thousands.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{About, Broker};
use crate::name::Name;
use crate::oauth::Failure;
use crate::retry::{Rate, State};
use crate::token::{Health, Provider};

/// How often providers are looked at: what comes and goes in between is not worth a line.
const TICK: Duration = Duration::from_secs(1);
/// How near the end of a token in use is told while its provider fails.
const NEAR: Duration = Duration::from_secs(60);

/// What has been told of one provider.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Told {
    tripped: Vec<bool>,
    refuses_us: bool,
    ends_soon: bool,
    spent: bool,
}

/// How a provider is at one look.
#[derive(Clone, Debug)]
struct Seen {
    health: Health,
    /// For how long the tokens in use would serve.
    serves: Option<Duration>,
    budget: Option<Rate>,
}

/// A line for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Line {
    /// What will fail, or fails.
    Trouble(String),
    /// What is well again.
    Relief(String),
}

/// Tells of changes, for as long as it is polled.
pub async fn tell_of_changes(broker: Arc<Broker>) {
    let mut told = BTreeMap::new();
    loop {
        told = look(&broker, &told);
        tokio::time::sleep(TICK).await;
    }
}

/// Looks once; what has been told by then.
fn look(broker: &Broker, told: &BTreeMap<Name, Told>) -> BTreeMap<Name, Told> {
    let rules = broker.rules();
    let each = |provider: &Arc<Provider>| {
        let before = told.get(&provider.name).cloned().unwrap_or_default();
        let (now, lines) = changes(&before, &Seen::of(provider));
        let nothing = About::default();
        let about = rules.about.get(&provider.name).unwrap_or(&nothing);
        lines.into_iter().for_each(|line| tell(&provider.name, about, line));
        (provider.name.clone(), now)
    };
    rules.providers.values().map(each).collect()
}

fn tell(provider: &Name, About { owner, runbook, .. }: &About, line: Line) {
    let (owner, runbook) = (owner.as_deref(), runbook.as_ref().map(AsRef::<str>::as_ref));
    match line {
        Line::Trouble(text) => tracing::warn!(%provider, owner, runbook, "{text}"),
        Line::Relief(text) => tracing::info!(%provider, owner, runbook, "{text}"),
    }
}

impl Seen {
    fn of(provider: &Provider) -> Self {
        let health = provider.health();
        // What no failure threatens is not looked for: that is a look at each token.
        let serves = if health.failures > 0 { provider.outage_budget() } else { None };
        Self { health, serves, budget: provider.settings.budget }
    }

    /// What the operator should know besides: what failed last.
    fn failure(&self) -> String {
        self.health.last_failure.as_ref().map_or_else(String::new, |failure| format!(": {failure}"))
    }

    fn refusal(&self) -> Option<&Failure> {
        self.health.last_failure.as_ref().filter(|failure| failure.concerns_bursar())
    }
}

/// What is to be told of `now`, after `before` was told.
fn changes(before: &Told, now: &Seen) -> (Told, Vec<Line>) {
    let told = Told {
        tripped: now.health.endpoints.iter().map(|(_, state)| *state != State::Passing).collect(),
        refuses_us: now.refusal().is_some(),
        ends_soon: now.serves.is_some_and(|left| left < NEAR),
        spent: is_spent(before.spent, now),
    };
    let mut lines = Vec::new();
    for (nth, ((place, _), tripped)) in now.health.endpoints.iter().zip(&told.tripped).enumerate() {
        match (before.tripped.get(nth).copied().unwrap_or_default(), *tripped) {
            (false, true) => lines.push(Line::Trouble(format!(
                "`{place}` fails and is left alone for a while{}; {}{}",
                if now.health.endpoints.len() > 1 { ", the next endpoint is asked" } else { "" },
                serves(now),
                now.failure()
            ))),
            (true, false) => lines.push(Line::Relief(format!("`{place}` answers again"))),
            (true, true) | (false, false) => {}
        }
    }
    if let (false, Some(failure)) = (before.refuses_us, now.refusal()) {
        lines.push(Line::Trouble(format!(
            "bursar's own credential is refused or cannot be used: put a valid one (`bursar secret put`), or have the \
             registration mended; {}: {failure}",
            serves(now)
        )));
    }
    if before.refuses_us && !told.refuses_us && now.health.failures == 0 {
        lines.push(Line::Relief("bursar's own credential is accepted again".to_owned()));
    }
    if let (false, Some(left)) = (before.ends_soon, now.serves.filter(|_| told.ends_soon)) {
        let left = left.as_secs();
        lines.push(Line::Trouble(format!(
            "a token in use ends in {left} s and the provider gives no other: from then on its requests fail; make it \
             answer, or let the application know{}",
            now.failure()
        )));
    }
    if let (false, Some(rate)) = (before.spent, now.budget.filter(|_| told.spent)) {
        lines.push(Line::Trouble(format!(
            "its `budget` of {} requests in {} s is used up: who needs a new token hears `slow_down`; raise `budget` if the \
             provider allows more, else find out who asks for so many (`bursar audit query`)",
            rate.count,
            rate.every.as_secs()
        )));
    }
    (told, lines)
}

fn serves(now: &Seen) -> String {
    match now.serves {
        Some(left) => format!("the tokens in use serve for {} s more", left.as_secs()),
        None => "no token is in use".to_owned(),
    }
}

/// Once spent it counts as such until a quarter is there again: it is not told each time that one request may go.
fn is_spent(before: bool, now: &Seen) -> bool {
    let Some((left, rate)) = now.health.budget_left.zip(now.budget) else { return false };
    left == 0 || (before && left < rate.count.div_ceil(4))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn well() -> Seen {
        let health = Health {
            endpoints: vec![("https://a.example/token".into(), State::Passing)],
            last_success: None,
            failures: 0,
            last_failure: None,
            rests: Duration::ZERO,
            budget_left: Some(8),
        };
        Seen { health, serves: None, budget: Some(Rate { count: 8, every: Duration::from_secs(60) }) }
    }

    fn failing(failure: Failure) -> Seen {
        let mut seen = well();
        (seen.health.failures, seen.health.last_failure) = (1, Some(failure));
        seen
    }

    fn down() -> Failure {
        Failure::Unavailable { what: "it is refused".into(), retry_after: None }
    }

    /// The lines of looks one after the other.
    fn told(looks: &[Seen]) -> Vec<Vec<Line>> {
        let mut told = Told::default();
        let mut one = |seen| {
            let (now, lines) = changes(&told, seen);
            told = now;
            lines
        };
        looks.iter().map(&mut one).collect()
    }

    fn holds(lines: &[Line], word: &str) -> bool {
        matches!(lines, [Line::Trouble(text)] if text.contains(word))
    }

    #[test]
    fn a_breaker_is_told_of_when_it_trips_and_when_it_passes_again() {
        let mut tripped = Seen { serves: Some(Duration::from_secs(600)), ..failing(down()) };
        tripped.health.endpoints[0].1 = State::Tripped;
        let mut probing = tripped.clone();
        probing.health.endpoints[0].1 = State::Probing;
        let told = told(&[well(), tripped.clone(), probing, tripped, well(), well()]);
        assert!(holds(&told[1], "serve for 600 s more: the provider is unavailable: it is refused"), "{told:?}");
        assert_eq!(told[4], [Line::Relief("`https://a.example/token` answers again".into())]);
        assert_eq!(told.concat().len(), 2);
    }

    #[test]
    fn a_credential_that_is_refused_is_told_of_once() {
        let refused = Failure::Refused { status: 401, error: Some("invalid_client"), what: "no".into() };
        let told = told(&[failing(refused.clone()), failing(refused), well()]);
        assert!(holds(&told[0], "`bursar secret put`") && told[1].is_empty(), "{told:?}");
        assert_eq!(told[2], [Line::Relief("bursar's own credential is accepted again".into())]);
    }

    #[test]
    fn a_token_in_use_that_will_have_no_successor_is_told_of_in_time() {
        let serves = |seconds| Seen { serves: Some(Duration::from_secs(seconds)), ..failing(down()) };
        let told = told(&[serves(61), serves(59), serves(58)]);
        assert!(told[0].is_empty() && holds(&told[1], "ends in 59 s") && told[2].is_empty(), "{told:?}");
    }

    #[test]
    fn a_budget_that_is_used_up_is_told_of_once_until_a_quarter_is_back() {
        let left = |left| {
            let mut seen = well();
            seen.health.budget_left = Some(left);
            seen
        };
        let counts: Vec<_> = told(&[left(0), left(1), left(0), left(2), left(0)]).iter().map(Vec::len).collect();
        assert_eq!(counts, [1, 0, 0, 0, 1]);
    }
}
