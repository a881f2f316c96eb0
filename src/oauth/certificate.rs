//! The certificate with which we connect (RFC 8705 §2): PEM in, what the TLS library shows out. Pure.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, InconsistentKeys};

use super::signing_key::MOST_KEY_BYTES;
use crate::crypto::Digest;
use crate::secret::Secret;

/// The longest file of certificates that is read, in bytes.
pub const MOST_CHAIN_BYTES: usize = 64 * 1024;

/// A chain of certificates, our own first. Cheap to clone.
#[derive(Clone)]
pub struct CertificateChain {
    certificates: Arc<[CertificateDer<'static>]>,
    digest: Digest,
}

impl CertificateChain {
    /// Reads the `CERTIFICATE` sections of PEM text (RFC 7468 §5.1); other sections are passed over. At most
    /// [`MOST_CHAIN_BYTES`].
    ///
    /// # Errors
    /// [`NotACertificate`], when one of them is damaged, or none is there.
    pub fn from_pem(pem: &[u8]) -> Result<Self, NotACertificate> {
        if pem.len() > MOST_CHAIN_BYTES {
            return Err(NotACertificate::TooLong);
        }
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let certificates = read.map_err(|_| NotACertificate::NotPem)?;
        let own = certificates.first().ok_or(NotACertificate::NotPem)?;
        // The library reads no more of it than this before it is shown.
        webpki_reads(own).then_some(()).ok_or(NotACertificate::Damaged)?;
        Ok(Self { certificates: certificates.into(), digest: Digest::of(pem) })
    }
}

fn webpki_reads(certificate: &CertificateDer<'_>) -> bool {
    rustls::server::ParsedCertificate::try_from(certificate).is_ok()
}

impl fmt::Debug for CertificateChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CertificateChain({})", self.certificates.len())
    }
}

/// A certificate with its key.
pub struct Identity(CertifiedKey);

/// Which certificate and key an [`Identity`] was made of: another one means that it was rotated.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Made([Digest; 2]);

impl Made {
    /// That of `chain` and `key`.
    #[must_use]
    pub fn of(chain: &CertificateChain, key: &Secret) -> Self {
        Self([chain.digest, Digest::of(key.expose())])
    }
}

impl Identity {
    /// The identity of `chain` with its private `key`, the first of a PEM text.
    ///
    /// # Errors
    /// [`NotACertificate`], when the key cannot be read, or is of another certificate. Nothing of it is in the text.
    pub fn new(chain: &CertificateChain, key: &Secret) -> Result<Self, NotACertificate> {
        let pem = Some(key.expose()).filter(|pem| pem.len() <= MOST_KEY_BYTES);
        let key = pem.and_then(|pem| PrivateKeyDer::from_pem_slice(pem).ok()).ok_or(NotACertificate::Key)?;
        let provider = rustls::crypto::ring::default_provider();
        match CertifiedKey::from_der(chain.certificates.to_vec(), key, &provider) {
            Ok(identity) => Ok(Self(identity)),
            Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => Err(NotACertificate::OtherKey),
            Err(_) => Err(NotACertificate::Key),
        }
    }

    /// `config` as it connects with this identity. It shares no session with the other connections of `config`: a resumed
    /// one would go on under the identity that began it.
    #[must_use]
    pub fn within(self, config: &ClientConfig) -> ClientConfig {
        let mut config = config.clone();
        config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(self.0));
        config.resumption = rustls::client::Resumption::in_memory_sessions(8);
        config
    }
}

/// We have nothing to connect with. No text holds any of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotACertificate {
    /// The file is no PEM text with a certificate.
    #[error("`certificate` holds no certificate in PEM, starting with `-----BEGIN CERTIFICATE-----`")]
    NotPem,
    /// The first certificate cannot be read.
    #[error("the first certificate in `certificate` is damaged")]
    Damaged,
    /// The file is longer than any chain.
    #[error("`certificate` is longer than 64 KiB: keep our own certificate and those between it and the authority")]
    TooLong,
    /// The store holds no private key.
    #[error(
        "`certificate_key` is no private key in PEM without a passphrase: \
         `openssl pkcs8 -topk8 -nocrypt` makes one of other forms"
    )]
    Key,
    /// The key is of another certificate.
    #[error(
        "`certificate_key` is not the key of the first certificate in `certificate`: \
         to rotate, replace the file first, then put the key with `bursar secret put`"
    )]
    OtherKey,
    /// The way of client authentication wants one, and none came.
    #[error("no certificate was read")]
    Missing,
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn self_signed() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        (CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn error(chain: &str, key: &str) -> Option<NotACertificate> {
        let chain = CertificateChain::from_pem(chain.as_bytes());
        chain.and_then(|chain| Identity::new(&chain, &Secret::copy_of(key.as_bytes()))).err()
    }

    #[test]
    fn a_certificate_goes_with_its_own_key_alone() {
        let ((certificate, key), (other, _)) = (self_signed(), self_signed());
        assert_eq!(error(&certificate, &key), None);
        assert_eq!(error(&format!("{certificate}{other}"), &key), None, "a chain begins with our own");
        assert_eq!(error(&other, &key), Some(NotACertificate::OtherKey));
        assert_eq!(error(&format!("{other}{certificate}"), &key), Some(NotACertificate::OtherKey));
    }

    #[test]
    fn what_cannot_be_shown_is_said() {
        let (certificate, key) = self_signed();
        let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (chain, key, why) in [
            ("", &*key, NotACertificate::NotPem),
            (&*key, &*key, NotACertificate::NotPem),
            (damaged, &*key, NotACertificate::Damaged),
            (&*"x".repeat(MOST_CHAIN_BYTES + 1), &*key, NotACertificate::TooLong),
            (&*certificate, "hunter2", NotACertificate::Key),
            (&*certificate, &*certificate, NotACertificate::Key),
        ] {
            assert_eq!(error(chain, key), Some(why));
        }
    }

    #[test]
    fn a_rotation_of_either_is_seen() {
        let ((certificate, key), (other, _)) = (self_signed(), self_signed());
        let made = |chain: &str, key: &str| {
            Made::of(&CertificateChain::from_pem(chain.as_bytes()).unwrap(), &Secret::copy_of(key.as_bytes()))
        };
        assert!(made(&certificate, &key) == made(&certificate, &key));
        assert!(made(&certificate, &key) != made(&other, &key));
        assert!(made(&certificate, &key) != made(&certificate, &other));
    }
}
