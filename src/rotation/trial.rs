//! Whether an authorization server accepts a client's credential: asked by a token request, whose token is ended at once.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::Trouble;
use crate::oauth::{Ask, Credential, Failure, Material, NoCredential, TokenEndpoint};

/// Makes the token endpoints of a provider, where this credential is the proof.
pub type Endpoints = Box<dyn Fn(Arc<dyn Credential>) -> Result<Vec<Arc<dyn TokenEndpoint>>, String> + Send + Sync>;

/// A token request by which a credential is tried.
pub struct Trial {
    /// The provider's token endpoints.
    pub endpoints: Endpoints,
    /// What is asked for: what readers are sure to be allowed.
    pub ask: Ask,
}

/// A credential that stands in memory for the length of one trial.
struct Tried(Material);

impl Credential for Tried {
    fn current(&self) -> BoxFuture<'_, Result<Material, NoCredential>> {
        async { Ok(self.0.clone()) }.boxed()
    }
}

impl Trial {
    /// Whether every endpoint that answers accepts `material`, and one does answer.
    ///
    /// # Errors
    /// [`Trouble`], where none says yes or no.
    pub async fn accepts(&self, material: Material) -> Result<bool, Trouble> {
        let endpoints = (self.endpoints)(Arc::new(Tried(material))).map_err(Trouble::Setup)?;
        let mut answered = Err(Trouble::Setup("the provider has no token endpoint".into()));
        for endpoint in endpoints {
            match endpoint.fetch(&self.ask).await {
                Ok(grant) => {
                    // Nobody is to have it. Where it cannot be ended it expires unseen.
                    drop(endpoint.revoke(&grant.token).await);
                    answered = Ok(true);
                }
                Err(failure) if failure.may_be_an_old_credential() => return Ok(false),
                Err(failure) => answered = answered.map_err(|_| trouble(failure)),
            }
        }
        answered
    }
}

/// A refusal for another reason than the credential would meet readers as well.
fn trouble(failure: Failure) -> Trouble {
    match failure {
        Failure::Refused { .. } => Trouble::Refused(failure.to_string()),
        Failure::Unavailable { what, .. } => Trouble::Unavailable(what),
        Failure::Nonsense(what) => Trouble::Nonsense(what),
        Failure::Credential(why) => Trouble::Setup(why.to_string()),
        Failure::Unsupported => Trouble::Setup("the provider has no token endpoint".into()),
    }
}
