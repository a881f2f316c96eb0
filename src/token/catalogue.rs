//! What a provider entry lists, and the ask that follows from a request: pure.

use crate::access::{Audience, Audiences, Scope, Scopes};
use crate::oauth::Ask;

/// What may be asked of a provider.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalogue {
    /// The most that is ever asked for; empty for a server without scopes.
    pub scopes: Scopes,
    /// What a request without scopes asks for.
    pub default_scopes: Scopes,
    /// The resources (RFC 8707) or audiences; a request without one asks for all of them.
    pub audience: Audiences,
}

/// The request names what the provider entry does not list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotListed {
    /// A scope (RFC 6749 §5.2, `invalid_scope`).
    #[error("the provider entry does not list the scope `{0}`: ask for listed scopes, or have it added to `scopes`")]
    Scope(Scope),
    /// No scope was asked for, the entry lists some, and it has no default.
    #[error("a scope is required: this provider has scopes and no `default_scopes`")]
    ScopeRequired,
    /// A resource or audience (RFC 8707 §2, `invalid_target`).
    #[error("the provider entry does not list `{0}`: ask for a listed resource, or have it added")]
    Audience(Audience),
}

impl Catalogue {
    /// What will be sent to the provider for a request for `scopes` and `audience`, each possibly empty.
    ///
    /// The result is what policy judges: nothing is added to it afterwards.
    ///
    /// # Errors
    /// [`NotListed`], which only a workload with some permit on the provider may see.
    pub fn ask(&self, scopes: Scopes, audience: Audiences) -> Result<Ask, NotListed> {
        let scopes = if scopes.is_empty() { self.default_scopes.clone() } else { scopes };
        if scopes.is_empty() && !self.scopes.is_empty() {
            // An empty set would satisfy every `containsAll`, and some servers answer it with every scope.
            return Err(NotListed::ScopeRequired);
        }
        if let Some(scope) = scopes.iter().find(|scope| !self.scopes.contains(scope)) {
            return Err(NotListed::Scope(scope.clone()));
        }
        let audience = if audience.is_empty() { self.audience.clone() } else { audience };
        match audience.iter().find(|one| !self.audience.contains(one)) {
            Some(one) => Err(NotListed::Audience(one.clone())),
            None => Ok(Ask { scopes, audience }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalogue() -> Catalogue {
        Catalogue {
            scopes: Scopes::parse("read write").unwrap(),
            default_scopes: Scopes::parse("read").unwrap(),
            audience: ["urn:a", "urn:b"].iter().map(|text| text.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn an_empty_request_means_the_defaults_and_all_audiences() {
        let ask = catalogue().ask(Scopes::default(), Audiences::default()).unwrap();
        assert_eq!((ask.scopes.to_string(), ask.audience.to_string()), ("read".into(), "urn:a urn:b".into()));
    }

    #[test]
    fn an_empty_set_is_never_sent_to_a_provider_with_scopes() {
        let without_default = Catalogue { default_scopes: Scopes::default(), ..catalogue() };
        let asked = without_default.ask(Scopes::default(), Audiences::default());
        assert_eq!(asked, Err(NotListed::ScopeRequired));
        assert!(Catalogue::default().ask(Scopes::default(), Audiences::default()).is_ok(), "a server without scopes");
    }

    #[test]
    fn what_is_not_listed_is_named() {
        let asked = catalogue().ask(Scopes::parse("read admin").unwrap(), Audiences::default());
        assert_eq!(asked, Err(NotListed::Scope("admin".parse().unwrap())));
        let asked = catalogue().ask(Scopes::default(), std::iter::once("urn:c".parse().unwrap()).collect());
        assert_eq!(asked, Err(NotListed::Audience("urn:c".parse().unwrap())));
    }
}
