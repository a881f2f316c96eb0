//! `[provider.NAME]`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use url::Url;

use super::{Reader, credential, guess};
use crate::access::{Audience, Audiences, Scope};
use crate::config::address;
use crate::config::meant::{About, AudienceParameter, EndpointUrl, Issuer, Provider, Rules, Server, Share};
use crate::config::said::{self, OneOrMany};
use crate::document::below;
use crate::name::Name;

/// The longest time limit: a caller waits for it.
const MOST_TIMEOUT: Duration = Duration::from_secs(300);
/// The longest lifetime that a token is ever given.
const MOST_LIFETIME: Duration = Duration::from_secs(30 * 86_400);

impl Reader<'_> {
    /// Every provider; one that has no server or no credential is a fault, and is left out.
    pub(super) fn providers(
        &mut self,
        said: BTreeMap<Name, said::Provider>,
        stores: &[Name],
    ) -> BTreeMap<Name, Provider> {
        let read = said.into_iter().filter_map(|(name, said)| {
            let entry = below("provider", name.as_str());
            self.provider(&entry, said, stores).map(|provider| (name, provider))
        });
        read.collect()
    }

    fn provider(&mut self, entry: &str, said: said::Provider, stores: &[Name]) -> Option<Provider> {
        self.scopes_fit(entry, &said);
        self.times_fit(entry, &said);
        let (audience, audience_as) = self.audience(entry, &said);
        let about = self.about(entry, &said);
        let servers = self.servers(entry, said.issuer.as_deref(), said.token_endpoint.as_ref());
        let client_id = self.client_id(entry, &said);
        let signing = credential::signing(&said);
        let proof = self.proof(entry, &said, stores);
        let revocation_endpoint = self.revocation_endpoint(entry, &said, servers.as_deref());
        if let (Some(servers), Some((client_auth, _))) = (&servers, &proof) {
            servers.iter().for_each(|server| self.certificate_needs_tls(entry, server, *client_auth));
        }
        let ca_file = said.ca_file.map(|file| self.path(&format!("{entry}.ca_file"), &file));
        let (client_auth, credential) = proof?;
        Some(Provider {
            servers: servers?,
            client_id,
            client_auth,
            credential,
            signing,
            revocation_endpoint,
            revoke_at_shutdown: said.revoke_at_shutdown,
            scopes: set(said.scopes),
            default_scopes: set(said.default_scopes),
            audience,
            audience_as,
            rules: Rules {
                extra_scopes: set(said.extra_scopes),
                require_all_scopes: said.require_all_scopes,
                lifetime_if_missing: said.lifetime_if_missing.0,
            },
            share: match said.share {
                said::Share::Workload => Share::Workload,
                said::Share::Host => Share::Host,
            },
            ca_file,
            connect_timeout: said.connect_timeout.0,
            timeout: said.timeout.0,
            refresh_at: said.refresh_at,
            budget: said.budget.rate(),
            about,
        })
    }

    /// The token endpoints where they are given, else the issuer whose metadata names it.
    fn servers(&mut self, entry: &str, issuer: Option<&str>, endpoints: Option<&OneOrMany>) -> Option<Vec<Server>> {
        let named = issuer.and_then(|text| self.address(&format!("{entry}.issuer"), text, str::parse::<Issuer>));
        let key = format!("{entry}.token_endpoint");
        let several = match (endpoints, issuer) {
            (Some(OneOrMany::One(one)), _) => std::slice::from_ref(one),
            (Some(OneOrMany::Many(several)), _) => several,
            (None, Some(_)) => return named.map(|issuer| vec![Server::Issuer(issuer)]),
            (None, None) => {
                let what = format!("`[{entry}]` lacks `issuer` or `token_endpoint`");
                let help = "give `issuer` where the provider publishes metadata, else `token_endpoint`";
                self.fault(entry, what, Some(help.to_owned()));
                return None;
            }
        };
        let read: Vec<_> = several.iter().map(|text| self.address(&key, text, str::parse::<EndpointUrl>)).collect();
        let read: Vec<_> = read.into_iter().collect::<Option<_>>()?;
        let twice = read.iter().enumerate().find(|(nth, one)| read.iter().take(*nth).any(|before| before == *one));
        if let Some((_, twice)) = twice {
            let what = format!("`{key}` lists `{twice}` twice");
            self.fault(&key, what, Some("list each endpoint once, the one to be preferred first".to_owned()));
        }
        Some(read.into_iter().map(Server::Endpoint).collect())
    }

    fn revocation_endpoint(
        &mut self,
        entry: &str,
        said: &said::Provider,
        servers: Option<&[Server]>,
    ) -> Option<EndpointUrl> {
        let key = format!("{entry}.revocation_endpoint");
        let text = said.revocation_endpoint.as_deref();
        if text.is_none() && said.revoke_at_shutdown && matches!(servers, Some([Server::Endpoint(_), ..])) {
            let what = "`revoke_at_shutdown` has no effect without a revocation endpoint".to_owned();
            let help = "set `revocation_endpoint`, or `issuer` in place of `token_endpoint`".to_owned();
            self.fault(&format!("{entry}.revoke_at_shutdown"), what, Some(help));
        }
        text.and_then(|text| self.address(&key, text, str::parse::<EndpointUrl>))
    }

    fn scopes_fit(&mut self, entry: &str, said: &said::Provider) {
        let key = format!("{entry}.default_scopes");
        for scope in said.default_scopes.difference(&said.scopes) {
            let guess = guess(scope.as_str(), said.scopes.iter().map(Scope::as_str));
            let what = format!("the default scope `{scope}` is not in `{entry}.scopes`");
            self.fault(&key, what, Some(format!("{guess}`scopes` is the most that is ever asked for: list it there")));
        }
        if said.scopes.is_empty() && said.require_all_scopes {
            let what = "`require_all_scopes` has no effect where `scopes` is empty".to_owned();
            self.fault(&format!("{entry}.require_all_scopes"), what, Some("take it out, or list scopes".to_owned()));
        }
    }

    fn audience(&mut self, entry: &str, said: &said::Provider) -> (Audiences, AudienceParameter) {
        let key = format!("{entry}.resources");
        for resource in &said.resources {
            if let Err(error) = address::resource(resource.as_str()) {
                self.fault(&key, format!("the resource `{resource}` {}", error.what), Some(error.help.to_owned()));
            }
        }
        match (said.resources.is_empty(), said.audience.is_empty()) {
            (_, true) => (set(said.resources.clone()), AudienceParameter::Resource),
            (true, false) => (set::<Audience>(said.audience.clone()), AudienceParameter::Audience),
            (false, false) => {
                let what = format!("`[{entry}]` has both `resources` and `audience`");
                let help = "keep `resources` if the provider follows RFC 8707, else `audience`";
                self.fault(&format!("{entry}.audience"), what, Some(help.to_owned()));
                (Audiences::default(), AudienceParameter::Resource)
            }
        }
    }

    fn times_fit(&mut self, entry: &str, said: &said::Provider) {
        for (name, period) in [("connect_timeout", said.connect_timeout), ("timeout", said.timeout)] {
            if period.0.is_zero() || period.0 > MOST_TIMEOUT {
                let what = format!("`{entry}.{name}` cannot be `{period}`");
                self.fault(
                    &format!("{entry}.{name}"),
                    what,
                    Some("a caller waits for it: at most `5m`, and not zero".to_owned()),
                );
            }
        }
        if said.connect_timeout > said.timeout {
            let what =
                format!("`connect_timeout` ({}) is longer than `timeout` ({})", said.connect_timeout, said.timeout);
            self.fault(
                &format!("{entry}.connect_timeout"),
                what,
                Some("connecting is a part of the request".to_owned()),
            );
        }
        if said.lifetime_if_missing.0 > MOST_LIFETIME {
            let what = format!("`{entry}.lifetime_if_missing` is longer than `30d`");
            self.fault(&format!("{entry}.lifetime_if_missing"), what, Some("no token is kept for longer".to_owned()));
        }
    }

    fn about(&mut self, entry: &str, said: &said::Provider) -> About {
        let runbook = said.runbook.as_deref();
        let runbook = runbook.and_then(|text| self.address::<Url>(&format!("{entry}.runbook"), text, address::page));
        let tags = said.tags.iter().cloned().collect();
        About { owner: said.owner.clone(), runbook, data_class: said.data_class.clone(), tags }
    }
}

fn set<T: Ord>(words: BTreeSet<T>) -> crate::access::Words<T> {
    words.into_iter().collect()
}
