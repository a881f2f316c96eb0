//! What is allowed and probably not meant.

use std::collections::BTreeMap;

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
        let entry = below("secret", name.as_str());
        if let Some(first) = seen.insert(&secret.at, entry.clone()) {
            let what = format!("`{entry}` is the same secret as `{first}`");
            warn(&entry, what, "whoever may read the one has the other");
        }
    }
}
