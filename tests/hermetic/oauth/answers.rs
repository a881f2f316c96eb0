//! Every line of the table "odd answers" in `docs/providers.md`, through the pure reader.

use std::time::Duration;

use bursar::access::Scopes;
use bursar::oauth::answer::{self, Answer, Asked};
use bursar::oauth::client_auth::ClientAuth;
use bursar::oauth::settings::{ClientId, Rules};
use bursar::oauth::{Ask, Failure, Grant};
use bursar::secret::Secret;
use bursar::time::Moment;
use proptest::prelude::*;

const SECRET: &str = "canary-0123456789";
const TOKEN: &str = "canary.token~+/=";

fn rules() -> Rules {
    Rules { lifetime_if_missing: Duration::from_secs(7), ..Rules::default() }
}

fn read_by(rules: &Rules, status: u16, headers: &[(&'static str, &str)], body: &[u8]) -> Result<Grant, Failure> {
    let client: ClientId = "bursar".parse().unwrap();
    let proof = ClientAuth::ClientSecretBasic.with_secret(&client, &Secret::new(SECRET.into())).unwrap();
    let ask = Ask { scopes: Scopes::parse("read write").unwrap(), audience: Default::default() };
    let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
    let answer = Answer { status, headers, body: body.to_vec(), whole: true };
    let asked = Asked {
        ask: &ask,
        rules,
        client_auth: ClientAuth::ClientSecretBasic,
        withheld: &proof.withheld,
        sent: Moment::default(),
    };
    answer::read(&answer, &asked)
}

const JSON: &[(&str, &str)] = &[("content-type", "application/json; charset=utf-8")];

/// A success with `members` beside a good token and type.
fn success(rules: &Rules, members: &str) -> Result<Grant, Failure> {
    let body = format!(r#"{{"access_token":"{TOKEN}","token_type":"Bearer"{members}}}"#);
    read_by(rules, 200, JSON, body.as_bytes())
}

fn nonsense(answer: Result<Grant, Failure>) -> String {
    match answer {
        Err(Failure::Nonsense(what)) => what,
        other => panic!("{other:?} is not nonsense"),
    }
}

fn refusal(status: u16, headers: &[(&'static str, &str)], body: &str) -> (Option<&'static str>, String) {
    match read_by(&rules(), status, headers, body.as_bytes()) {
        Err(Failure::Refused { status: told, error, what }) if told == status => (error, what),
        other => panic!("{other:?} is not a refusal with {status}"),
    }
}

#[test]
fn a_plain_success_is_a_grant() {
    let grant = success(&rules(), r#","expires_in":300,"scope":"write read","refresh_token":"ignored""#).unwrap();
    assert_eq!(grant.token.expose(), TOKEN.as_bytes());
    assert_eq!((grant.scopes.to_string().as_str(), grant.lifetime), ("read write", Some(Duration::from_secs(300))));
    assert!(!format!("{grant:?}").contains(TOKEN));
}

#[test]
fn an_absent_scope_means_as_asked_and_an_absent_lifetime_what_is_configured() {
    let grant = success(&rules(), "").unwrap();
    assert_eq!((grant.scopes.to_string().as_str(), grant.lifetime), ("read write", Some(Duration::from_secs(7))));
}

#[test]
fn a_content_type_may_be_absent_and_the_token_type_in_any_case() {
    let body = format!(r#"{{"access_token":"{TOKEN}","token_type":"bEARER"}}"#);
    for headers in [&[][..], &[("content-type", "Application/JSON")]] {
        assert!(read_by(&rules(), 200, headers, body.as_bytes()).is_ok(), "{headers:?}");
    }
}

#[test]
fn more_than_was_asked_is_refused_unless_each_extra_is_listed() {
    let granted = r#","scope":"read write profile email""#;
    assert!(
        nonsense(success(&rules(), granted)).contains("`email profile`: if that is meant, list it in `extra_scopes`")
    );
    let one = Rules { extra_scopes: Scopes::parse("email").unwrap(), ..rules() };
    assert!(nonsense(success(&one, granted)).contains("`profile`"));
    let both = Rules { extra_scopes: Scopes::parse("email profile").unwrap(), ..rules() };
    assert_eq!(success(&both, granted).unwrap().scopes.to_string(), "email profile read write");
}

#[test]
fn less_than_was_asked_is_served_as_it_is_unless_all_is_required() {
    for (granted, scopes) in [("read", "read"), ("", "")] {
        let member = format!(r#","scope":"{granted}""#);
        assert_eq!(success(&rules(), &member).unwrap().scopes.to_string(), scopes);
        let all = Rules { require_all_scopes: true, ..rules() };
        assert!(nonsense(success(&all, &member)).contains("require_all_scopes"));
    }
}

#[test]
fn a_success_that_cannot_be_used_says_why() {
    for (members, why) in [
        (r#","expires_in":-5"#, "`expires_in`"),
        (r#","expires_in":null"#, "`expires_in`"),
        (r#","expires_in":300.5"#, "`expires_in`"),
        (r#","scope":["read"]"#, "`scope` is not a text"),
        (r#","scope":null"#, "`scope` is not a text"),
        (r#","scope":"re\u0001ad""#, "`scope` is not a scope"),
        (r#","cnf":{"jkt":"x"}"#, "`cnf`"),
        (r#","token_type":"Bearer""#, "names a member twice"),
        (r#","note":1,"n\u006fte":2"#, "names a member twice"),
    ] {
        assert!(nonsense(success(&rules(), members)).contains(why), "{members}");
    }
}

#[test]
fn a_body_that_is_no_token_answer_says_what_it_is() {
    let long = format!(r#"{{"access_token":"{}","token_type":"Bearer"}}"#, "x".repeat(answer::MOST_TOKEN_BYTES + 1));
    for (body, why) in [
        ("", "an empty body"),
        ("  \n", "an empty body"),
        ("<html><body>sign in</body></html>", "an HTML page"),
        ("{}", "`token_type` is missing"),
        (r#"{"token_type":"Bearer"}"#, "`access_token` is missing"),
        (r#"{"access_token":"t"}"#, "`token_type` is missing"),
        (r#"{"access_token":"t","token_type":"mac"}"#, "`mac`"),
        (r#"{"access_token":"t","token_type":"DPoP"}"#, "`DPoP`"),
        (r#"{"access_token":"t","token_type":7}"#, "`token_type` is not a text"),
        (r#"{"access_token":"","token_type":"Bearer"}"#, "`access_token` is empty"),
        (r#"{"access_token":7,"token_type":"Bearer"}"#, "`access_token` is not a text"),
        (r#"{"access_token":"a b","token_type":"Bearer"}"#, "printable ASCII"),
        (r#"{"access_token":"a\r\nb","token_type":"Bearer"}"#, "printable ASCII"),
        (r#"{"access_token":"é","token_type":"Bearer"}"#, "printable ASCII"),
        (&long, "longer than 16 KiB"),
        (r#"["Bearer"]"#, "not an object"),
        (r#"{"access_token":"t","token_type":"Bearer"} trailing"#, "not JSON"),
        (r#"{"access_token":"t","token_type":"Bea"#, "not JSON"),
    ] {
        for headers in [&[][..], JSON] {
            let what = nonsense(read_by(&rules(), 200, headers, body.as_bytes()));
            assert!(what.contains(why), "{body}: {what}");
        }
    }
}

#[test]
fn another_content_type_is_not_read_as_json() {
    let body = format!(r#"{{"access_token":"{TOKEN}","token_type":"Bearer"}}"#);
    for content_type in ["text/html", "text/plain", "application/jwt", "application/jsonp"] {
        nonsense(read_by(&rules(), 200, &[("content-type", content_type)], body.as_bytes()));
    }
}

#[test]
fn a_body_over_the_limit_is_not_read() {
    let ask = Ask { scopes: Scopes::default(), audience: Default::default() };
    let (rules, withheld) = (rules(), Default::default());
    let sent = Moment::default();
    let asked = Asked { ask: &ask, rules: &rules, client_auth: ClientAuth::default(), withheld: &withheld, sent };
    let cut = |status| Answer { status, headers: Default::default(), body: vec![b' '; 9], whole: false };
    assert!(nonsense(answer::read(&cut(200), &asked)).contains("more than 64 KiB"));
    assert!(matches!(answer::read(&cut(503), &asked), Err(Failure::Unavailable { .. })));
}

#[test]
fn a_refusal_names_its_registered_code_and_what_to_do() {
    for (status, code, remedy) in [
        (401, "invalid_client", "`client_auth` (now `client_secret_basic`)"),
        (400, "invalid_scope", "`scopes`"),
        (400, "invalid_target", "`resources`"),
        (400, "unauthorized_client", "`client_credentials`"),
        (400, "unsupported_grant_type", "`client_credentials`"),
        (400, "invalid_request", "log"),
        (400, "invalid_grant", "log"),
    ] {
        let (error, what) = refusal(status, JSON, &format!(r#"{{"error":"{code}","error_description":"no"}}"#));
        assert_eq!(error, Some(code));
        assert!(what.contains("\"no\"") && what.contains(remedy), "{what}");
    }
}

#[test]
fn a_refusal_without_a_registered_code_passes_none_on() {
    for (status, headers, body, says) in [
        (403, JSON, "", "an empty body; some servers answer so to a wrong secret"),
        (401, &[("www-authenticate", "Basic realm=\"idp\"")][..], "", "Basic realm"),
        (400, JSON, r#"{"error":"bad_vibes"}"#, "`bad_vibes`, which is no registered error code"),
        (400, JSON, r#"{"message":"no"}"#, "without `error`"),
        (400, JSON, r#"{"error":{"code":7}}"#, "without `error`"),
        (404, &[("content-type", "text/html")], "<html>", "an HTML page"),
        (405, &[], "", "no token endpoint"),
        (410, &[], "", "no token endpoint"),
        (418, &[], "short and stout", "not JSON"),
    ] {
        let (error, what) = refusal(status, headers, body);
        assert!(error.is_none() && what.contains(says), "{what}");
    }
}

#[test]
fn a_redirect_is_refused_and_its_target_told_without_query() {
    for status in [301, 302, 303, 307, 308] {
        let (_, what) = refusal(status, &[("location", "https://elsewhere/token?state=x")], "");
        assert!(what.contains("to `https://elsewhere/token`, and"), "{what}");
    }
    assert!(refusal(307, &[], "").1.contains("redirects elsewhere"));
}

#[test]
fn an_error_that_comes_with_status_200_is_a_refusal() {
    let (error, what) = refusal(200, JSON, r#"{"error":"invalid_client","error_description":"no"}"#);
    assert!(error == Some("invalid_client") && what.contains("\"no\""), "{what}");
}

#[test]
fn what_passes_is_unavailable_and_retry_after_is_told() {
    for (status, body) in [
        (429, r#"{"error":"slow_down"}"#),
        (503, ""),
        (500, "<html>"),
        (502, "bad gateway"),
        (408, ""),
        (425, ""),
        (400, r#"{"error":"server_error"}"#),
        (403, r#"{"error":"slow_down"}"#),
        (400, r#"{"error":"temporarily_unavailable"}"#),
    ] {
        match read_by(&rules(), status, &[("retry-after", "2")], body.as_bytes()) {
            Err(Failure::Unavailable { retry_after, .. }) => assert_eq!(retry_after, Some(Duration::from_secs(2))),
            other => panic!("{status}: {other:?}"),
        }
    }
}

#[test]
fn another_success_status_is_nonsense() {
    for status in [201, 202, 204, 206, 299, 600, 999] {
        assert!(nonsense(read_by(&rules(), status, JSON, b"{}")).contains(&status.to_string()));
    }
}

#[test]
fn no_message_repeats_our_credential_whatever_the_server_echoes() {
    let basic = "YnVyc2FyOmNhbmFyeS0wMTIzNDU2Nzg5";
    for echo in [SECRET.to_owned(), format!("Basic {basic}"), format!("got: {}...", &SECRET[..10])] {
        let json = serde_json::to_string(&echo).unwrap();
        let said = [
            read_by(&rules(), 400, JSON, format!(r#"{{"error":{json},"error_description":{json}}}"#).as_bytes()),
            read_by(&rules(), 200, JSON, format!(r#"{{"error":{json}}}"#).as_bytes()),
            read_by(&rules(), 500, JSON, format!(r#"{{"error":"x","error_description":{json}}}"#).as_bytes()),
            read_by(&rules(), 401, &[("www-authenticate", &echo)], b""),
            read_by(&rules(), 307, &[("location", &echo)], b""),
            read_by(&rules(), 400, &[], echo.as_bytes()),
            read_by(&rules(), 200, JSON, format!(r#"{{"access_token":"t","token_type":{json}}}"#).as_bytes()),
            success(&rules(), &format!(r#","scope":{json}"#)),
            success(&rules(), &format!(r#","expires_in":{json}"#)),
        ];
        for failure in said.into_iter().filter_map(Result::err) {
            let text = format!("{failure} {failure:?}");
            assert!(!text.contains(&SECRET[..8]) && !text.contains(&basic[..16]), "{text}");
        }
    }
}

#[test]
fn a_description_is_printable_and_short() {
    let body = format!(r#"{{"error":"invalid_scope","error_description":"\u001b[31m\u202e{}"}}"#, "x".repeat(5000));
    let (_, what) = refusal(400, JSON, &body);
    assert!(what.len() < 400 && what.bytes().all(|b| matches!(b, b' '..=b'~')), "{what}");
}

proptest! {
    #[test]
    fn no_bytes_panic_and_a_grant_is_always_sound(status in 100u16..=999, body in ".*", json in any::<bool>()) {
        let headers = if json { JSON } else { &[] };
        if let Ok(grant) = read_by(&rules(), status, headers, body.as_bytes()) {
            prop_assert!(status == 200 && !grant.token.is_empty());
        }
    }
}
