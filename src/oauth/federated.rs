//! The assertion that another identity provider made for us (RFC 7521 §4.2, RFC 7523 §2.2): looked at, never verified;
//! that is the provider's. Pure.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use zeroize::Zeroizing;

use super::object::Object;
use crate::time::Wall;

/// The longest assertion that is read, in bytes.
pub const MOST_ASSERTION_BYTES: usize = 16 * 1024;

/// The JWT in `bytes`, where white space may stand around it.
///
/// # Errors
/// [`NotAnAssertion`] for what no provider would take; nothing of `bytes` is in the text.
pub fn read(bytes: &[u8], now: Wall) -> Result<&str, NotAnAssertion> {
    let text = bytes.trim_ascii();
    if text.is_empty() {
        return Err(NotAnAssertion::Empty);
    }
    if text.len() > MOST_ASSERTION_BYTES {
        return Err(NotAnAssertion::TooLong);
    }
    let text = std::str::from_utf8(text).map_err(|_| NotAnAssertion::NotAJwt)?;
    let mut parts = text.split('.');
    let (Some(header), Some(claims), Some(signature), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(NotAnAssertion::NotAJwt);
    };
    if signature.is_empty() || [header, signature].iter().any(|part| !part.bytes().all(is_base64url)) {
        return Err(NotAnAssertion::NotAJwt);
    }
    match claims_of(claims)?.take("exp").as_ref().and_then(Value::as_f64) {
        Some(ends) if ends <= now.micros() as f64 / 1e6 => Err(NotAnAssertion::Expired),
        Some(_) | None => Ok(text),
    }
}

fn claims_of(part: &str) -> Result<Object, NotAnAssertion> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map(Zeroizing::new).map_err(|_| NotAnAssertion::NotAJwt)?;
    Object::read(&bytes).map_err(|_| NotAnAssertion::NotAJwt)
}

const fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

/// What the file holds is no assertion that could be sent. No text holds any of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnAssertion {
    /// Nothing stands there.
    #[error("the assertion is empty: what writes `assertion_file` has to write it whole, beside it, and rename it")]
    Empty,
    /// It is longer than any that a server takes.
    #[error("the assertion is longer than 16 KiB: is `assertion_file` the right file?")]
    TooLong,
    /// It is no signed JWT.
    #[error("the assertion is not a signed JWT (`header.claims.signature`): is `assertion_file` the right file?")]
    NotAJwt,
    /// It ended.
    #[error("the assertion has expired: does what writes `assertion_file` still run, and is this host's clock right?")]
    Expired,
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_240_800;

    fn jwt(claims: &str) -> String {
        format!("eyJhbGciOiJFUzI1NiJ9.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    fn error(text: &str) -> Option<NotAnAssertion> {
        read(text.as_bytes(), Wall::from_micros(NOW * 1_000_000)).err()
    }

    #[test]
    fn a_jwt_that_has_not_ended_is_sent_without_what_stands_around_it() {
        let jwt = jwt(&format!("{{\"exp\":{}}}", NOW + 1));
        assert_eq!(read(format!(" {jwt}\n").as_bytes(), Wall::from_micros(NOW * 1_000_000)), Ok(jwt.as_str()));
        assert_eq!(error(&self::jwt("{}")), None, "whether an end is needed is the provider's to say");
    }

    #[test]
    fn one_that_has_ended_is_said_and_not_sent() {
        for ended in [format!("{{\"exp\":{NOW}}}"), "{\"exp\":0.5}".to_owned(), "{\"exp\":-1}".to_owned()] {
            assert_eq!(error(&jwt(&ended)), Some(NotAnAssertion::Expired), "{ended}");
        }
    }

    #[test]
    fn what_is_no_jwt_is_said_and_not_sent() {
        assert_eq!(error(" \n"), Some(NotAnAssertion::Empty));
        assert_eq!(error(&"x".repeat(MOST_ASSERTION_BYTES + 1)), Some(NotAnAssertion::TooLong));
        for bad in ["hunter2", "a.b", "a.e30.b.c", "a.e30.", "a b.e30.c", "a.W10.c", "<saml/>", "a.!.c"] {
            assert_eq!(error(bad), Some(NotAnAssertion::NotAJwt), "{bad}");
        }
    }
}
