//! What IAM and STS answer, and by whose fault they do not do what they are asked. Pure.

use serde_json::{Value, json};

use super::xml::Element;
use crate::rotation::{FarId, Found, Trouble};
use crate::secret::Secret;

/// The longest answer, in bytes.
pub const MOST_BODY_BYTES: usize = 256 << 10;

/// An access key.
pub struct Key {
    /// Its id: `AKIA…`.
    pub id: FarId,
    /// Its secret.
    pub secret: Secret,
}

impl Key {
    /// Reads a value as it is served: JSON with `access_key_id` and `secret_access_key`.
    ///
    /// # Errors
    /// [`Trouble::Setup`]; nothing of it is in the text.
    pub fn of_value(value: &Secret) -> Result<Self, Trouble> {
        let json: Option<Value> = serde_json::from_slice(value.expose()).ok();
        let member = |name: &str| json.as_ref()?.get(name)?.as_str().map(str::to_owned);
        let key = member("access_key_id").zip(member("secret_access_key")).and_then(|(id, secret)| {
            let id = id.parse().ok()?;
            (!secret.is_empty()).then(|| Self { id, secret: Secret::new(secret.into_bytes()) })
        });
        key.ok_or_else(|| {
            Trouble::Setup("an access key has to be JSON with `access_key_id` and `secret_access_key`".into())
        })
    }
}

/// The value that is served: a key as JSON.
fn value_of(id: &FarId, secret: &str) -> Secret {
    Secret::new(json!({ "access_key_id": id.as_str(), "secret_access_key": secret }).to_string().into_bytes())
}

/// The element that an answer is; an error as it is meant.
///
/// # Errors
/// [`Trouble`], by the error's code (AWS: "Common Errors", and those of each action).
pub fn read(status: u16, body: &[u8]) -> Result<Element, Trouble> {
    match (status, parsed(body)) {
        (200, Some(element)) => Ok(element),
        (200, None) => Err(Trouble::Nonsense("its answer is not XML".into())),
        (_, element) => Err(refusal(status, element.as_ref().and_then(code))),
    }
}

fn parsed(body: &[u8]) -> Option<Element> {
    Element::read(std::str::from_utf8(body).ok()?).ok()
}

/// The code of an error.
fn code(answer: &Element) -> Option<&str> {
    let code = answer.find(&["Error", "Code"]).or_else(|| answer.find(&["Errors", "Error", "Code"]))?.text();
    let plain = (1..=64).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.');
    plain.then_some(code)
}

/// The text of a [`Trouble::Refused`] for what is not there.
pub const NO_SUCH_ENTITY: &str = "it answers NoSuchEntity: there is no such user or key";

fn refusal(status: u16, code: Option<&str>) -> Trouble {
    let said = code.map_or_else(|| status.to_string(), |code| format!("{code} ({status})"));
    match code.unwrap_or_default() {
        "NoSuchEntity" => Trouble::Refused(NO_SUCH_ENTITY.into()),
        "LimitExceeded" => {
            Trouble::Refused("the user has two access keys already, which is the most: end one that nobody uses".into())
        }
        "AccessDenied" | "UnauthorizedOperation" => {
            let help = "the policy of the `admin` key allows too little: see `docs/rotators/aws-iam-access-key.md`";
            Trouble::Refused(format!("it answers {said}: {help}"))
        }
        "InvalidClientTokenId" | "SignatureDoesNotMatch" | "InvalidAccessKeyId" | "IncompleteSignature" => {
            Trouble::Refused(format!("it answers {said}: the key that signed is not accepted"))
        }
        "RequestExpired" => Trouble::Refused(format!("it answers {said}: check this host's clock")),
        "Throttling"
        | "ThrottlingException"
        | "RequestLimitExceeded"
        | "EntityTemporarilyUnmodifiable"
        | "ConcurrentModification"
        | "ServiceUnavailable"
        | "ServiceFailure"
        | "InternalFailure" => Trouble::Unavailable(format!("it answers {said}")),
        _ if status == 429 || status >= 500 => Trouble::Unavailable(format!("it answers {said}")),
        _ if (400..500).contains(&status) => Trouble::Refused(format!("it answers {said}")),
        _ => Trouble::Nonsense(format!("it answers {said}")),
    }
}

/// Whether a key is not, or not yet, accepted, by what STS answers.
///
/// # Errors
/// The trouble, where it says nothing of the key.
pub fn accepts(status: u16, body: &[u8]) -> Result<bool, Trouble> {
    // A 403 of somebody on the way, or for another reason, says nothing of the key.
    if matches!(status, 401 | 403) && parsed(body).as_ref().and_then(code).is_some_and(|code| NO_KEY.contains(&code)) {
        return Ok(false);
    }
    match read(status, body)?.name() {
        "GetCallerIdentityResponse" => Ok(true),
        _ => Err(Trouble::Nonsense("its answer is no caller identity".into())),
    }
}

/// The codes of a key that is not known, or has another secret.
const NO_KEY: [&str; 3] = ["InvalidClientTokenId", "InvalidAccessKeyId", "SignatureDoesNotMatch"];

/// The key in the answer to `CreateAccessKey`: what is served, and its id.
///
/// # Errors
/// [`Trouble::Nonsense`].
pub fn created(answer: &Element) -> Result<(Secret, FarId), Trouble> {
    let member = |name: &str| {
        let found = answer.find(&["CreateAccessKeyResult", "AccessKey", name]).map(Element::text);
        found.filter(|text| !text.is_empty())
    };
    let lacks = || Trouble::Nonsense("its answer holds no access key".into());
    let id: FarId = member("AccessKeyId").ok_or_else(lacks)?.parse()?;
    let secret = member("SecretAccessKey").ok_or_else(lacks)?;
    Ok((value_of(&id, secret), id))
}

/// The keys in the answer to `ListAccessKeys`: they bear no label.
///
/// # Errors
/// [`Trouble::Nonsense`], also where the list is cut: a user has two keys at most.
pub fn listed(answer: &Element) -> Result<Vec<Found>, Trouble> {
    let result = answer.find(&["ListAccessKeysResult"]);
    let result = result.ok_or_else(|| Trouble::Nonsense("its answer holds no list of keys".into()))?;
    if result.find(&["IsTruncated"]).is_some_and(|cut| cut.text() == "true") {
        return Err(Trouble::Nonsense("its list of keys is cut".into()));
    }
    let members = result.find(&["AccessKeyMetadata"]).into_iter().flat_map(|list| list.all("member"));
    let ids = members.map(|member| member.find(&["AccessKeyId"]).map_or("", Element::text).parse::<FarId>());
    ids.map(|far_id| Ok(Found { far_id: far_id?, label: None })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREATED: &str = "<CreateAccessKeyResponse xmlns=\"https://iam.amazonaws.com/doc/2010-05-08/\">\
        <CreateAccessKeyResult><AccessKey><UserName>svc</UserName><AccessKeyId>AKIA1</AccessKeyId><Status>Active</Status>\
        <SecretAccessKey>a/b+c</SecretAccessKey></AccessKey></CreateAccessKeyResult></CreateAccessKeyResponse>";
    const LISTED: &str = "<ListAccessKeysResponse><ListAccessKeysResult><AccessKeyMetadata><member><AccessKeyId>AKIA1\
        </AccessKeyId></member><member><AccessKeyId>AKIA2</AccessKeyId></member></AccessKeyMetadata><IsTruncated>false\
        </IsTruncated></ListAccessKeysResult></ListAccessKeysResponse>";

    #[test]
    fn a_created_key_is_served_as_json_and_read_again() {
        let (value, id) = created(&read(200, CREATED.as_bytes()).unwrap()).unwrap();
        assert_eq!(value.expose(), br#"{"access_key_id":"AKIA1","secret_access_key":"a/b+c"}"#);
        let key = Key::of_value(&value).unwrap();
        assert!(key.id == id && key.secret.matches(b"a/b+c"));
        for bad in ["", "{}", "AKIA1:x", r#"{"access_key_id":"A","secret_access_key":""}"#, r#"{"access_key_id":1}"#] {
            assert!(matches!(Key::of_value(&Secret::copy_of(bad.as_bytes())), Err(Trouble::Setup(_))), "{bad}");
        }
    }

    #[test]
    fn a_list_is_whole_or_refused() {
        let found = listed(&read(200, LISTED.as_bytes()).unwrap()).unwrap();
        assert_eq!(found.iter().map(|one| one.far_id.as_str()).collect::<Vec<_>>(), ["AKIA1", "AKIA2"]);
        let cut = LISTED.replace(">false", ">true");
        assert!(listed(&read(200, cut.as_bytes()).unwrap()).is_err());
        for bad in [
            "<a/>",
            "<ListAccessKeysResponse><ListAccessKeysResult><AccessKeyMetadata><member/></AccessKeyMetadata></ListAccessKeysResult></ListAccessKeysResponse>",
        ] {
            assert!(read(200, bad.as_bytes()).and_then(|answer| listed(&answer)).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_error_says_whether_it_can_have_happened() {
        let error = |status, code: &str| {
            let body =
                format!("<ErrorResponse><Error><Code>{code}</Code><Message>canary</Message></Error></ErrorResponse>");
            let trouble = read(status, body.as_bytes()).err().unwrap();
            assert!(!trouble.to_string().contains("canary"));
            trouble
        };
        for (status, code) in [
            (409, "LimitExceeded"),
            (404, "NoSuchEntity"),
            (403, "AccessDenied"),
            (403, "InvalidClientTokenId"),
            (400, "x"),
        ] {
            assert!(matches!(error(status, code), Trouble::Refused(_)), "{code}");
        }
        for (status, code) in
            [(400, "Throttling"), (503, "x"), (500, "ServiceFailure"), (409, "ConcurrentModification")]
        {
            assert!(matches!(error(status, code), Trouble::Unavailable(_)), "{code}");
        }
        for (status, body) in [(200, "<html>"), (200, ""), (302, "")] {
            assert!(matches!(read(status, body.as_bytes()), Err(Trouble::Nonsense(_))), "{status} {body}");
        }
        assert!(matches!(read(503, b"<html>canary"), Err(Trouble::Unavailable(what)) if !what.contains("canary")));
    }

    #[test]
    fn a_key_is_accepted_where_sts_names_its_caller() {
        assert_eq!(accepts(200, b"<GetCallerIdentityResponse/>"), Ok(true));
        let no = b"<ErrorResponse><Error><Code>InvalidClientTokenId</Code></Error></ErrorResponse>";
        assert_eq!(accepts(403, no), Ok(false));
        assert!(accepts(400, no).is_err() && accepts(503, no).is_err() && accepts(200, b"<a/>").is_err());
        let denied = b"<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>";
        assert!(accepts(403, denied).is_err() && accepts(403, b"<html>blocked</html>").is_err());
    }
}
