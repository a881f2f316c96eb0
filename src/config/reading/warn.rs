//! What is allowed and probably not meant.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::meant::{Provider, SecretRef, Settings};
use crate::document::{Places, below};
use crate::fault::Fault;

/// Every warning, in the order of the file's tables.
pub(super) fn of(settings: &Settings, places: &Places) -> Vec<Fault> {
    let mut warnings = Vec::new();
    let mut warn = |key: &str, what: String, help: &str| {
        warnings.push(Fault { place: places.of(key), what, help: Some(help.to_owned()) });
    };
    if settings.agent.admin_mode & 0o007 != 0 {
        let what = "everybody on this host may connect to the admin socket".to_owned();
        warn("agent.admin_mode", what, "policy still decides; `0660` keeps others away");
    }
    if settings.providers.is_empty() && settings.secrets.is_empty() {
        let what = "neither a provider nor a secret is configured: there is nothing to ask for".to_owned();
        warn("", what, "add a `[provider.NAME]`");
    }
    for (name, provider) in &settings.providers {
        of_provider(&below("provider", name.as_str()), provider, places, &mut warn);
    }
    shared(settings, &mut warn);
    warnings
}

fn of_provider(entry: &str, provider: &Provider, places: &Places, warn: &mut impl FnMut(&str, String, &str)) {
    let issuer = format!("{entry}.issuer");
    let names_audience = provider.signing.audience.is_some() && !places.said(&format!("{entry}.assertion_audience"));
    if places.said(&issuer) && places.said(&format!("{entry}.token_endpoint")) && !names_audience {
        let what = format!("`{issuer}` is not asked for metadata, since `token_endpoint` is given");
        warn(&issuer, what, "keep one of the two");
    }
    if let Some(scope) = provider.rules.extra_scopes.iter().find(|scope| provider.scopes.contains(scope)) {
        let what = format!("the extra scope `{scope}` is in `scopes` too, and may come unasked");
        warn(&format!("{entry}.extra_scopes"), what, "a token that was asked for without it may then have it");
    }
    too_late(entry, provider, warn);
}

/// The lifetime for which the outage budget is computed: the shortest that servers commonly give.
const SHORT_LIFE: Duration = Duration::from_secs(300);
/// How often a refresh should be able to fail before the token ends: one lost answer and one slow one are no outage.
const ATTEMPTS: u32 = 3;
/// The waits between them, at most: 1 s, then 2 s.
const BETWEEN: Duration = Duration::from_secs(3);

/// That a short token would end before its refresh had a fair chance.
fn too_late(entry: &str, provider: &Provider, warn: &mut impl FnMut(&str, String, &str)) {
    let Provider { refresh_at, timeout, .. } = *provider;
    let left = SHORT_LIFE.mul_f64((1.0 - refresh_at).clamp(0.0, 1.0));
    let needed = timeout * ATTEMPTS + BETWEEN;
    if left >= needed {
        return;
    }
    let what = format!(
        "`refresh_at` {refresh_at} leaves a token of five minutes {} s, and {ATTEMPTS} attempts of `timeout` {} s with their \
         waits take up to {} s: if the provider fails then, requests fail with it",
        left.as_secs(),
        timeout.as_secs_f64(),
        needed.as_secs_f64().ceil(),
    );
    let latest = (1.0 - needed.as_secs_f64() / SHORT_LIFE.as_secs_f64()).mul_add(100.0, 1e-6).floor() / 100.0;
    let help = if latest >= 0.05 {
        format!("refresh at {latest} at the latest, or shorten `timeout`; longer tokens leave more")
    } else {
        "shorten `timeout`: a caller who has no token waits for it as well".to_owned()
    };
    warn(&format!("{entry}.refresh_at"), what, &help);
}

/// Two names for one secret: what policy says of the one does not hold for the other.
fn shared(settings: &Settings, warn: &mut impl FnMut(&str, String, &str)) {
    let mut seen: BTreeMap<&SecretRef, String> = BTreeMap::new();
    for (name, provider) in &settings.providers {
        if let Some((key, at)) = provider.credential.stored() {
            seen.insert(at, format!("{}.{key}", below("provider", name.as_str())));
        }
    }
    for (name, secret) in &settings.secrets {
        // Who rotates a provider's own credential has to name it twice.
        if secret.rotation.as_ref().is_some_and(|rotation| rotation.rotator.provider().is_some()) {
            continue;
        }
        let entry = below("secret", name.as_str());
        if let Some(first) = seen.insert(&secret.at, entry.clone()) {
            let what = format!("`{entry}` is the same secret as `{first}`");
            warn(&entry, what, "whoever may read the one has the other");
        }
    }
}
