//! What applications send.

use bursar::access::Scopes;
use bursar::api::{Carrier, RejectForm, SecretQuery, TokenForm, form_guarded, guarded};

use super::input::headers_and_body;

/// Parameters of a form or a query. What is understood is the same when it is written again.
pub fn token_form(bytes: &[u8]) {
    for carrier in [Carrier::Form, Carrier::Query] {
        let Ok(form) = TokenForm::parse(bytes, carrier) else { continue };
        assert_eq!(Scopes::parse(&form.scopes.to_string()), Ok(form.scopes.clone()));
        let mut again = form_urlencoded::Serializer::new("grant_type=client_credentials&".to_owned());
        again.extend_pairs(form.provider.iter().map(|provider| ("provider", provider)));
        again.append_pair("min_ttl", &format!("{}us", form.min_ttl.as_micros()));
        again.append_pair("scope", &form.scopes.to_string());
        again.extend_pairs(form.audience.iter().map(|audience| ("resource", audience.as_str())));
        // Sixty-four parameters of a query with neither `grant_type` nor `min_ttl` are two more here.
        if form.audience.len() < 60 {
            assert_eq!(TokenForm::parse(again.finish().as_bytes(), carrier), Ok(form));
        }
    }
}

/// The query of a request for a secret. What is understood is the same when it is written again, and no wait is too long.
pub fn secret_query(bytes: &[u8]) {
    let Ok(query) = SecretQuery::parse(bytes) else { return };
    assert!(query.wait.is_none_or(|wait| wait <= bursar::broker::LONGEST_WAIT));
    let mut again = form_urlencoded::Serializer::new(String::new());
    again.extend_pairs(query.version.iter().map(|version| ("version", version.as_str())));
    again.extend_pairs(query.wait.iter().map(|wait| ("wait", format!("{}us", wait.as_micros()))));
    assert_eq!(SecretQuery::parse(again.finish().as_bytes()), Ok(query));
}

/// A token that an API refused. What is understood names the token in none of its texts.
pub fn reject_form(bytes: &[u8]) {
    if let Ok(form) = RejectForm::parse(bytes) {
        assert!(!form.provider.is_empty() && !form.token.expose().is_empty());
        let shown = format!("{:?}", form.token);
        let token = String::from_utf8_lossy(form.token.expose());
        assert!(token.len() < 9 || !shown.contains(&*token), "{shown}");
    }
}

/// Headers. A form with a mark of a page or proxy passes only with the guard, and only a form passes at all.
pub fn form_guard(bytes: &[u8]) {
    let (headers, _) = headers_and_body(bytes);
    let is_guarded = headers.get("bursar").is_some_and(|value| value.as_bytes() == b"1");
    assert_eq!(guarded(&headers).is_ok(), is_guarded);
    if form_guarded(&headers).is_ok() {
        let kind = headers.get("content-type").unwrap().as_bytes().to_ascii_lowercase();
        assert!(kind.starts_with(b"application/x-www-form-urlencoded"));
        let marked = ["origin", "referer", "via", "forwarded", "x-forwarded-for", "x-forwarded-host"];
        assert!(is_guarded || !marked.iter().any(|mark| headers.contains_key(*mark)));
    }
}
