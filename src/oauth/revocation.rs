//! Ending a token before its time (RFC 7009): the request, and what the answer is worth. Pure.

use http::Request;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};

use super::answer::{Answer, Asked};
use super::client_auth::{ClientAuth, Proof};
use super::settings::{ClientId, EndpointUrl, Rules};
use super::{Ask, Failure, refusal};
use crate::secret::Secret;
use crate::time::Moment;

/// The request that ends `token` (RFC 7009 §2.1).
pub(super) fn request(to: &EndpointUrl, client: &ClientId, proof: &Proof, token: &Secret) -> Option<Request<Vec<u8>>> {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("token", std::str::from_utf8(token.expose()).ok()?);
    form.append_pair("token_type_hint", "access_token");
    form.extend_pairs(proof.fields(client));
    let mut request = Request::post(to.url().as_str())
        .header(ACCEPT, "application/json")
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    if let Some(value) = proof.authorization() {
        request = request.header(AUTHORIZATION, value.as_str());
    }
    request.body(form.finish().into_bytes()).ok()
}

/// Reads the answer (RFC 7009 §2.2): a token that the provider does not know any more is ended too.
///
/// # Errors
/// Every answer that does not say that the token is ended.
pub(super) fn read(
    answer: &Answer,
    client_auth: ClientAuth,
    proof: Proof,
    token: &Secret,
    sent: Moment,
) -> Result<(), Failure> {
    // 204 is what a success without a body is elsewhere, and some servers send it.
    if matches!(answer.status, 200 | 204) {
        return Ok(());
    }
    let (ask, rules) = (Ask { scopes: Default::default(), audience: Default::default() }, Rules::default());
    let withheld = proof.withheld.and(token.expose());
    Err(refusal::read(answer, &Asked { ask: &ask, rules: &rules, client_auth, withheld: &withheld, sent }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proof() -> Proof {
        let client = "bursar".parse().unwrap();
        ClientAuth::ClientSecretPost.with_secret(&client, &Secret::new(b"a secret".to_vec())).unwrap()
    }

    fn read_of(status: u16, body: &str) -> Result<(), Failure> {
        let answer = Answer { status, headers: http::HeaderMap::new(), body: body.into(), whole: true };
        read(&answer, ClientAuth::ClientSecretPost, proof(), &Secret::new(b"a token".to_vec()), Moment::default())
    }

    #[test]
    fn a_revocation_names_the_token_and_who_we_are() {
        let (to, client) = ("https://h/r".parse().unwrap(), "bursar".parse().unwrap());
        let request = request(&to, &client, &proof(), &Secret::new(b"t+k".to_vec())).unwrap();
        let body = "token=t%2Bk&token_type_hint=access_token&client_id=bursar&client_secret=a+secret";
        assert_eq!((request.method().as_str(), request.body().as_slice()), ("POST", body.as_bytes()));
        assert!(!request.headers().contains_key(AUTHORIZATION));
    }

    #[test]
    fn only_a_success_says_that_the_token_is_ended() {
        assert_eq!((read_of(200, "anything"), read_of(204, "")), (Ok(()), Ok(())));
        assert!(matches!(read_of(503, ""), Err(Failure::Unavailable { .. })));
        for (status, body) in [(400, r#"{"error":"unsupported_token_type"}"#), (401, ""), (302, ""), (404, "")] {
            assert!(matches!(read_of(status, body), Err(Failure::Refused { .. })), "{status}");
        }
        for secret in ["a secret", "a token"] {
            let body = format!(r#"{{"error":"x","error_description":"{secret}"}}"#);
            assert!(!read_of(400, &body).unwrap_err().to_string().contains(secret), "{secret}");
        }
    }
}
