//! At a server that holds one secret of a client: another client is registered (RFC 7591), and the former one is deleted
//! (RFC 7592 §2.3). The value is a registration: the client id changes with the secret.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::{send, token_of, unsendable};
use crate::oauth::Material;
use crate::oauth::registration::{Registration, Wish};
use crate::rotation::Admin;
use crate::rotation::trial::Trial;
use crate::rotation::{Created, Ended, Held, Invents, Label, Overlap, Rotator, Trouble};
use crate::secret::Secret;
use crate::time::Wall;
use crate::wire::Wire;

/// Rotates a client by registering another.
pub struct NewClients {
    /// What is registered.
    pub wish: Wish,
    /// The initial access token, where the server wants one.
    pub admin: Option<Admin>,
    /// The way to it.
    pub wire: Wire,
    /// How a client is tried.
    pub trial: Trial,
}

impl NewClients {
    async fn register(&self, label: &Label) -> Result<Created, Trouble> {
        let token = token_of(self.admin.as_ref()).await?;
        let request = self.wish.request(label.as_str(), token.as_ref()).ok_or_else(unsendable)?;
        let answer = send(&self.wire, request, token.as_ref().as_slice()).await?;
        let registered = Registration::answered(&answer.body, &self.wish.endpoint);
        let registered = registered
            .map_err(|why| Trouble::Nonsense(format!("a client `{label}` was registered, and its answer: {why}")))?;
        if registered.management.is_none() {
            tracing::warn!(
                client = registered.client.as_str(),
                "the server does not say how this client is deleted (RFC 7592): that is left to you when it is replaced"
            );
        }
        if let Some(at) = registered.expires {
            tracing::warn!(
                client = registered.client.as_str(),
                "the server ends this client's secret at {}: let it be rotated before (`every`)",
                Wall::from_micros(at.saturating_mul(1_000_000)).rfc3339()
            );
        }
        Ok(Created { value: registered.written(), far_id: registered.client.as_str().parse().ok() })
    }

    async fn is_accepted(&self, registration: Registration) -> Result<bool, Trouble> {
        let Registration { client, secret, .. } = registration;
        self.trial.accepts(Material { client: Some(client), ..Material::from(secret) }).await
    }

    /// Deletes a client. Where the server refuses that, only a client that is not accepted any more has ended.
    async fn delete(&self, registration: Registration) -> Result<(), Trouble> {
        let token = registration.management.as_ref().map(|(_, token)| token);
        let told: Vec<_> = [Some(&registration.secret), token].into_iter().flatten().collect();
        let refused = match registration.end() {
            Some(request) => match send(&self.wire, request, &told).await {
                Err(Trouble::Refused(why)) => why,
                done => return done.map(drop),
            },
            None => "it does not say how".to_owned(),
        };
        let client = registration.client.clone();
        if !self.is_accepted(registration).await? {
            return Ok(());
        }
        Err(Trouble::Refused(format!(
            "it does not delete the client `{}`: {refused}; delete it there",
            client.as_str()
        )))
    }
}

fn read(value: &Arc<Secret>) -> Result<Registration, Trouble> {
    Registration::read(value.expose()).map_err(|why| Trouble::Setup(format!("the stored registration: {why}")))
}

impl Rotator for NewClients {
    fn kind(&self) -> &'static str {
        "oauth-client-secret"
    }

    fn overlap(&self) -> Overlap {
        Overlap::Two
    }

    fn invents(&self) -> Invents {
        Invents::FarSide
    }

    fn create<'a>(&'a self, label: &'a Label, _: Option<&'a Held>) -> BoxFuture<'a, Result<Created, Trouble>> {
        self.register(label).boxed()
    }

    fn set<'a>(&'a self, _: &'a Held, _: Option<&'a Held>) -> BoxFuture<'a, Result<(), Trouble>> {
        async { Ok(()) }.boxed()
    }

    fn test<'a>(&'a self, held: &'a Held) -> BoxFuture<'a, Result<bool, Trouble>> {
        async { self.is_accepted(read(&held.value)?).await }.boxed()
    }

    fn revoke<'a>(&'a self, ended: &'a Ended, _: Option<&'a Held>) -> BoxFuture<'a, Result<(), Trouble>> {
        async {
            match &ended.value {
                Some(value) => self.delete(read(value)?).await,
                None => Err(Trouble::Setup("what deletes the client is not known any more: delete it there".into())),
            }
        }
        .boxed()
    }
}
