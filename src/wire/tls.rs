//! (E) TLS roots: the system's, read once, and a server's own. One rustls configuration is shared by all
//! servers without roots of their own.

use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// Which certificate authorities vouch for a server.
#[derive(Clone, Debug, Default)]
pub enum Roots {
    /// Those of the operating system.
    #[default]
    System,
    /// Those of its `ca_file`, and no other.
    Own(OwnRoots),
}

/// The certificate authorities of a `ca_file`. Cheap to clone.
#[derive(Clone)]
pub struct OwnRoots(Arc<RootCertStore>);

impl OwnRoots {
    /// Reads the `CERTIFICATE` sections of PEM text (RFC 7468 §5.1); other sections are passed over.
    ///
    /// # Errors
    /// [`NotRoots`], when one of them is not a certificate, or none is there.
    pub fn from_pem(pem: &[u8]) -> Result<Self, NotRoots> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|_| NotRoots("is not PEM text"))?;
            roots.add(certificate).map_err(|_| NotRoots("holds a `CERTIFICATE` section that is no certificate"))?;
        }
        if roots.is_empty() { Err(NotRoots("holds no certificate")) } else { Ok(Self(Arc::new(roots))) }
    }
}

impl fmt::Debug for OwnRoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnRoots({})", self.0.len())
    }
}

/// A file cannot be used as `ca_file`. The file is the caller's to name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}: `ca_file` wants the certificate of the authority in PEM, starting with `-----BEGIN CERTIFICATE-----`")]
pub struct NotRoots(&'static str);

/// The TLS configurations of this process.
#[derive(Default)]
pub struct Tls {
    system: OnceLock<Result<ClientConfig, NoTls>>,
}

impl Tls {
    /// The configuration for `roots`. The system's are read at the first call that wants them.
    ///
    /// # Errors
    /// [`NoTls`], when the system has no roots.
    pub fn config(&self, roots: &Roots) -> Result<ClientConfig, NoTls> {
        match roots {
            Roots::System => self.system.get_or_init(|| client_config(Arc::new(system_roots()?))).clone(),
            Roots::Own(own) => client_config(Arc::clone(&own.0)),
        }
    }

    /// The configuration for `roots` where plain http is spoken, if `is_plain`, and https otherwise.
    ///
    /// # Errors
    /// [`NoTls`], as [`Self::config`].
    pub fn config_for(&self, roots: &Roots, is_plain: bool) -> Result<ClientConfig, NoTls> {
        match self.config(roots) {
            // Plain http to loopback needs no authority; where the host has none, https from there is refused.
            Err(NoTls::NoSystemRoots) if is_plain => Self::that_trusts_nobody(),
            config => config,
        }
    }

    /// A configuration under which every certificate is refused.
    ///
    /// # Errors
    /// [`NoTls::NoVersions`].
    fn that_trusts_nobody() -> Result<ClientConfig, NoTls> {
        client_config(Arc::new(RootCertStore::empty()))
    }
}

fn system_roots() -> Result<RootCertStore, NoTls> {
    let mut roots = RootCertStore::empty();
    // A store of a hundred certificates may hold one that nobody can read: the others still count.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(NoTls::NoSystemRoots) } else { Ok(roots) }
}

fn client_config(roots: Arc<RootCertStore>) -> Result<ClientConfig, NoTls> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Ok(versions.map_err(|_| NoTls::NoVersions)?.with_root_certificates(roots).with_no_client_auth())
}

/// TLS cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoTls {
    /// The system has no certificate authorities.
    #[error("the system has no certificate authorities: install `ca-certificates`, or set `ca_file`")]
    NoSystemRoots,
    /// The library offers no protocol version: a fault of this program.
    #[error("the TLS library offers no protocol version")]
    NoVersions,
    /// The library makes no client of the configuration: a fault of this program.
    #[error("the HTTP library makes no client of the TLS configuration")]
    NoClient,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_file_holds_certificates() {
        let ca = rcgen::generate_simple_self_signed(["ca.test".to_owned()]).unwrap();
        assert!(OwnRoots::from_pem(ca.cert.pem().as_bytes()).is_ok());
        for bad in [
            "",
            "hello",
            &ca.signing_key.serialize_pem(),
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            assert!(OwnRoots::from_pem(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
