//! The way to a provider: how TLS is spoken there, and a request without an answer as a failure of the provider.

use http::Request;
use rustls::ClientConfig;

use super::Failure;
use super::answer::{Answer, MOST_BODY_BYTES};
use super::settings::Settings;
use super::tls::{NoTls, Tls};
use crate::wire::{self, Times};

/// The way to one provider.
pub(super) struct Wire(wire::Wire);

impl Wire {
    /// How TLS is spoken there.
    ///
    /// # Errors
    /// [`NoTls`], when the roots that `settings` want are not there.
    pub(super) fn config(settings: &Settings, tls: &Tls) -> Result<ClientConfig, NoTls> {
        tls.config_for(&settings.roots, settings.server.is_plain())
    }

    /// A way that has sent nothing yet.
    ///
    /// # Errors
    /// [`NoTls::NoClient`].
    pub(super) fn new(settings: &Settings, config: ClientConfig) -> Result<Self, NoTls> {
        let times = Times { connect: settings.connect_timeout, whole: settings.timeout, configured: true };
        wire::Wire::new(config, times, MOST_BODY_BYTES).map(Self)
    }

    /// Sends `request` and reads the answer.
    ///
    /// # Errors
    /// [`Failure::Unavailable`], when no whole answer came within the time limits. The far side may have acted all the same.
    pub(super) async fn send(&self, request: Request<Vec<u8>>) -> Result<Answer, Failure> {
        let unavailable = |why: wire::NoAnswer| Failure::Unavailable { what: why.0, retry_after: None };
        self.0.send(request).await.map_err(unavailable)
    }
}
