//! At a server that holds two secrets of a client at once: it is told each time which ones are valid, so that a call may
//! be repeated.

use std::str::FromStr;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request};
use serde_json::Value;

use super::{send, token_of, unsendable};
use crate::oauth::Material;
use crate::oauth::registration::bearer;
use crate::oauth::settings::EndpointUrl;
use crate::rotation::Admin;
use crate::rotation::random::RandomText;
use crate::rotation::trial::Trial;
use crate::rotation::{Created, Ended, Held, Invents, Label, Overlap, Rotator, Trouble};
use crate::secret::Secret;
use crate::wire::Wire;

/// Where the new secret goes.
const NEW: &str = "{new}";
/// Where the old secret goes.
const OLD: &str = "{old}";

/// The call that says which secrets of the client are valid.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Where the client is administered.
    pub url: EndpointUrl,
    /// `PUT`, `POST` or `PATCH`.
    pub method: Method,
    /// What makes `{new}` and `{old}` valid, and no other.
    pub both: Body,
    /// What makes `{new}` valid, and no other.
    pub only: Body,
}

/// A JSON document with places for secrets in its texts.
#[derive(Clone, Debug, PartialEq)]
pub struct Body(Value);

/// A text is no body of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a JSON document with `{{new}}` in one of its texts")]
pub struct NotABody;

impl FromStr for Body {
    type Err = NotABody;

    fn from_str(text: &str) -> Result<Self, NotABody> {
        let body = serde_json::from_str(text).map(Self).map_err(|_| NotABody)?;
        if body.has(NEW) { Ok(body) } else { Err(NotABody) }
    }
}

impl Body {
    /// Whether there is a place for the old secret.
    #[must_use]
    pub fn has_old(&self) -> bool {
        self.has(OLD)
    }

    fn has(&self, place: &str) -> bool {
        fn stands(value: &Value, place: &str) -> bool {
            match value {
                Value::String(text) => text.contains(place),
                Value::Array(several) => several.iter().any(|one| stands(one, place)),
                Value::Object(members) => members.values().any(|one| stands(one, place)),
                Value::Null | Value::Bool(_) | Value::Number(_) => false,
            }
        }
        stands(&self.0, place)
    }

    /// The document with the secrets in their places, as JSON: what they hold cannot leave its text.
    fn filled(&self, new: &str, old: &str) -> Vec<u8> {
        fn fill(value: &mut Value, new: &str, old: &str) {
            match value {
                Value::String(text) => *text = substituted(text, new, old),
                Value::Array(several) => several.iter_mut().for_each(|one| fill(one, new, old)),
                Value::Object(members) => members.values_mut().for_each(|one| fill(one, new, old)),
                Value::Null | Value::Bool(_) | Value::Number(_) => {}
            }
        }
        let mut body = self.0.clone();
        fill(&mut body, new, old);
        body.to_string().into_bytes()
    }
}

/// In one pass: what stands in a secret is no place.
fn substituted(text: &str, new: &str, old: &str) -> String {
    let with_old = |text: &str| text.split(OLD).collect::<Vec<_>>().join(old);
    text.split(NEW).map(with_old).collect::<Vec<_>>().join(new)
}

/// Rotates a client secret of which the server holds two.
pub struct TwoSecrets {
    /// How the server is told.
    pub call: Call,
    /// With which token.
    pub admin: Option<Admin>,
    /// The way to it.
    pub wire: Wire,
    /// What makes secrets.
    pub random: RandomText,
    /// How a secret is tried.
    pub trial: Trial,
}

impl TwoSecrets {
    /// From here on `new` is valid, and `old`, if it is given; no other.
    async fn tell(&self, new: &Secret, old: Option<&Secret>) -> Result<(), Trouble> {
        let Call { url, method, both, only } = &self.call;
        let body = match old {
            Some(old) => both.filled(text(new)?, text(old)?),
            None => only.filled(text(new)?, ""),
        };
        let mut request = Request::builder()
            .method(method.clone())
            .uri(url.url().as_str())
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/json");
        let token = token_of(self.admin.as_ref()).await?;
        if let Some(token) = &token {
            request = request.header(AUTHORIZATION, bearer(token).ok_or_else(unsendable)?);
        }
        let told: Vec<_> = [Some(new), old, token.as_ref()].into_iter().flatten().collect();
        send(&self.wire, request.body(body).map_err(|_| unsendable())?, &told).await.map(drop)
    }
}

fn text(secret: &Secret) -> Result<&str, Trouble> {
    std::str::from_utf8(secret.expose()).map_err(|_| Trouble::Setup("the client secret is not text".into()))
}

impl Rotator for TwoSecrets {
    fn kind(&self) -> &'static str {
        "oauth-client-secret"
    }

    fn overlap(&self) -> Overlap {
        Overlap::Two
    }

    fn invents(&self) -> Invents {
        Invents::Us
    }

    fn create<'a>(&'a self, _: &'a Label, _: Option<&'a Held>) -> BoxFuture<'a, Result<Created, Trouble>> {
        async { Ok(Created { value: self.random.make()?, far_id: None }) }.boxed()
    }

    fn set<'a>(&'a self, new: &'a Held, current: Option<&'a Held>) -> BoxFuture<'a, Result<(), Trouble>> {
        async move { self.tell(&new.value, current.map(|held| &*held.value)).await }.boxed()
    }

    fn test<'a>(&'a self, held: &'a Held) -> BoxFuture<'a, Result<bool, Trouble>> {
        let material = Material { secret: held.value.clone(), ..Material::from(Secret::new(Vec::new())) };
        self.trial.accepts(material).boxed()
    }

    /// What stays is what is served; without that nothing is known that could.
    fn revoke<'a>(&'a self, _: &'a Ended, current: Option<&'a Held>) -> BoxFuture<'a, Result<(), Trouble>> {
        async move {
            match current {
                Some(current) => self.tell(&current.value, None).await,
                None => Ok(()),
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_cannot_leave_its_place() {
        let body: Body = r#"{"client_secret":"{new}","also":["{old}"],"n":1}"#.parse().unwrap();
        assert!(body.has_old());
        let filled: Value = serde_json::from_slice(&body.filled("{old}\"x", "\",\"admin\":\"y{new}")).unwrap();
        assert_eq!(filled["client_secret"], "{old}\"x");
        assert_eq!(filled["also"][0], "\",\"admin\":\"y{new}");
        assert_eq!(filled.as_object().unwrap().len(), 3);
    }

    #[test]
    fn a_body_without_a_place_for_the_new_secret_is_none() {
        for bad in ["", "{}", r#"{"secret":"{old}"}"#, r#"{"{new}":1}"#, "{new}"] {
            assert_eq!(bad.parse::<Body>(), Err(NotABody), "{bad}");
        }
        assert!(!r#"["{new}"]"#.parse::<Body>().unwrap().has_old());
    }
}
