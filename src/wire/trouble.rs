//! Why no answer came, in words that tell the operator what to do. Pure.
#![expect(clippy::wildcard_enum_match_arm, reason = "foreign errors grow: those not named here speak for themselves")]

use std::error::Error;
use std::io;

use rustls::{AlertDescription, CertificateError};

use super::Times;

/// The trouble with a request to `host` that had `times`, as one line without anything that was sent.
pub(super) fn in_words(error: &reqwest::Error, host: &str, times: Times) -> String {
    if let Some(tls) = find::<rustls::Error>(error) {
        return tls_in_words(tls, host);
    }
    if error.is_dns() {
        return format!("the name of `{host}` cannot be resolved: check the name and this host's resolver");
    }
    let within = |ms: u128, key: &str| {
        if times.configured { format!("{ms} ms (`{key}`)") } else { format!("{ms} ms") }
    };
    match (error.is_timeout(), error.is_connect()) {
        (true, true) => {
            let within = within(times.connect.as_millis(), "connect_timeout");
            format!("no connection to `{host}` within {within}: is it up, does a firewall drop the packets?")
        }
        (true, false) => format!("no whole answer from `{host}` within {}", within(times.whole.as_millis(), "timeout")),
        (false, true) => format!("no connection to `{host}`: {}", cause(error)),
        (false, false) => format!("the connection to `{host}` broke before the answer was whole: {}", cause(error)),
    }
}

fn tls_in_words(error: &rustls::Error, host: &str) -> String {
    let what = match error {
        rustls::Error::InvalidCertificate(why) => return certificate_in_words(why, host),
        rustls::Error::InvalidMessage(_) => "it does not speak TLS at this port".to_owned(),
        rustls::Error::AlertReceived(alert) if is_about_our_certificate(*alert) => {
            format!(
                "it does not accept our `certificate`, or wants one (alert {alert:?}): renew it, or register it there"
            )
        }
        rustls::Error::AlertReceived(alert) => format!("it ended the handshake with the alert {alert:?}"),
        other => other.to_string(),
    };
    format!("no TLS with `{host}`: {what}")
}

/// The alerts by which a server refuses a client for its certificate (RFC 8446 §6.2).
const fn is_about_our_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::CertificateRequired
    )
}

fn certificate_in_words(error: &CertificateError, host: &str) -> String {
    let what = match error {
        CertificateError::UnknownIssuer => {
            "is signed by an authority that is not trusted here: set `ca_file` to that authority's certificate"
                .to_owned()
        }
        CertificateError::BadSignature => {
            "is not signed by the key that its authority has in `ca_file`: if the authority was made anew, replace the file"
                .to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "has expired: renew it there, or check this host's clock".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "is not valid yet: check this host's clock".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "is for another name: use the name that stands in it".to_owned()
        }
        other => format!("cannot be accepted: {other}"),
    };
    format!("the certificate of `{host}` {what}")
}

/// The innermost reason, which is the one that says something.
fn cause(error: &reqwest::Error) -> String {
    if let Some(error) = find::<io::Error>(error) {
        return match error.kind() {
            io::ErrorKind::ConnectionRefused => "it is refused: nothing listens there".to_owned(),
            io::ErrorKind::ConnectionReset => "it was reset".to_owned(),
            _ => error.to_string(),
        };
    }
    let mut innermost: &dyn Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// The first error of type `T` down the chain of causes, looking into `io::Error`, which hides what it wraps.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inside) => Some(inside),
            None => error.source(),
        };
    }
    None
}
