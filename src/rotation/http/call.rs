//! One call of a definition: the request it makes, and what its status says of it. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, HeaderName, Method, Request};

use super::template::{Given, Slot, Template, Tree, What, Written};
use crate::rotation::Trouble;

/// A call to the far side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// How.
    pub method: Method,
    /// Where to.
    pub url: Template,
    /// The headers.
    pub headers: Vec<(HeaderName, Template)>,
    /// Name and password of HTTP's Basic scheme, with `:` between (RFC 7617); none: no such header.
    pub basic: Option<Template>,
    /// What is sent.
    pub body: Body,
    /// The statuses that mean that it has happened.
    pub expect: Vec<u16>,
    /// The statuses that mean that there is no such credential.
    pub absent: Vec<u16>,
}

/// What a call sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Nothing.
    None,
    /// JSON.
    Json(Tree),
    /// A form: `application/x-www-form-urlencoded`.
    Form(Vec<(String, Template)>),
}

/// What a status says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// It has happened.
    Yes,
    /// There is no such credential.
    Absent,
}

impl Call {
    /// The request.
    ///
    /// # Errors
    /// As [`Template::fill`]; [`Trouble::Setup`] for what does not fit into a header or a URL. No text holds a secret.
    pub fn request(&self, given: &Given<'_>) -> Result<Request<Vec<u8>>, Trouble> {
        let (kind, body) = self.body.bytes(given)?;
        let mut request = Request::builder().method(self.method.clone()).uri(self.url.fill(given, Written::Encoded)?);
        request = request.header(ACCEPT, "application/json");
        if let Some(kind) = kind {
            request = request.header(CONTENT_TYPE, kind);
        }
        let refused = |_| Trouble::Setup("the URL of the call cannot be used".into());
        let mut request = request.body(body).map_err(refused)?;
        for (name, template) in &self.headers {
            let value = header(name, template.fill(given, Written::Plain)?)?;
            request.headers_mut().insert(name.clone(), value);
        }
        if let Some(basic) = &self.basic {
            let basic = basic.fill(given, Written::Plain)?;
            let value = header(&AUTHORIZATION, format!("Basic {}", STANDARD.encode(basic)))?;
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        Ok(request)
    }

    /// The placeholders of all but the URL.
    #[must_use]
    pub fn slots_beside_the_url(&self) -> Vec<&Slot> {
        let templates = self.headers.iter().map(|(_, template)| template).chain(&self.basic);
        let mut slots: Vec<_> = templates.flat_map(Template::slots).collect();
        match &self.body {
            Body::None => {}
            Body::Json(tree) => slots.extend(tree.slots()),
            Body::Form(fields) => slots.extend(fields.iter().flat_map(|(_, template)| template.slots())),
        }
        slots
    }

    /// Whether it speaks of `what`.
    #[must_use]
    pub fn speaks_of(&self, what: What) -> bool {
        self.url.slots().chain(self.slots_beside_the_url()).any(|slot| slot.what == what)
    }

    /// What an answer's status says of it.
    ///
    /// # Errors
    /// [`Trouble::Refused`] where nothing can have happened, [`Trouble::Unavailable`] and [`Trouble::Nonsense`] where it may.
    pub fn said(&self, status: u16, headers: &HeaderMap) -> Result<Said, Trouble> {
        if self.expect.contains(&status) {
            return Ok(Said::Yes);
        }
        if self.absent.contains(&status) {
            return Ok(Said::Absent);
        }
        Err(match status {
            // It may have begun all the same, or will do it when it is asked again.
            408 | 425 | 429 | 500.. => Trouble::Unavailable(format!("it answers {status}{}", later(headers))),
            401 | 403 => Trouble::Refused(format!("it answers {status}: may the `admin` credential do this?")),
            400..=499 => Trouble::Refused(format!("it answers {status}")),
            300..=399 => {
                Trouble::Nonsense(format!("it answers {status}: redirects are not followed, correct the `url`"))
            }
            _ => Trouble::Nonsense(format!("it answers {status}, which `expect` does not list")),
        })
    }
}

impl Body {
    fn bytes(&self, given: &Given<'_>) -> Result<(Option<&'static str>, Vec<u8>), Trouble> {
        Ok(match self {
            Self::None => (None, Vec::new()),
            Self::Json(tree) => (Some("application/json"), tree.fill(given)?.to_string().into_bytes()),
            Self::Form(fields) => {
                let mut form = form_urlencoded::Serializer::new(String::new());
                for (name, template) in fields {
                    form.append_pair(name, &template.fill(given, Written::Plain)?);
                }
                (Some("application/x-www-form-urlencoded"), form.finish().into_bytes())
            }
        })
    }
}

/// A header that nothing prints.
fn header(name: &HeaderName, value: String) -> Result<HeaderValue, Trouble> {
    let refused =
        |_| Trouble::Setup(format!("what goes into the header `{name}` holds characters that no header may hold"));
    let mut value = HeaderValue::try_from(value).map_err(refused)?;
    value.set_sensitive(true);
    Ok(value)
}

/// When it wants to be asked again, where it says that in seconds (RFC 9110 §10.2.3).
fn later(headers: &HeaderMap) -> String {
    let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse::<u32>().ok());
    seconds.map(|seconds| format!(", and wants to be asked again in {seconds} s")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rotation::http::template::Values;
    use crate::secret::Secret;

    fn call() -> Call {
        let text = |text| Template::parse(text, &Values::new(), Written::Plain).unwrap();
        Call {
            method: Method::POST,
            url: text("https://a.test/keys/{id}"),
            headers: vec![(HeaderName::from_static("dd-api-key"), text("{admin/key}"))],
            basic: Some(text("me:{value}")),
            body: Body::Form(vec![("Name".into(), text("{id}"))]),
            expect: vec![201],
            absent: vec![404],
        }
    }

    #[test]
    fn a_request_holds_what_was_given_and_shows_no_secret() {
        let (admin, value) = (Secret::new(br#"{"key":"k-1"}"#.to_vec()), Secret::new(b"s:2".to_vec()));
        let id = "a b".parse().unwrap();
        let given = Given { id: Some(&id), admin: Some(&admin), value: Some(&value), ..Given::default() };
        let request = call().request(&given).unwrap();
        assert_eq!(request.uri(), "https://a.test/keys/a%20b");
        assert_eq!(request.headers()["dd-api-key"], "k-1");
        assert_eq!(request.headers()["authorization"], "Basic bWU6czoy");
        assert_eq!(request.body(), b"Name=a+b");
        assert!(!format!("{:?}", request.headers()).contains("k-1"));
    }

    #[test]
    fn a_secret_that_fits_into_no_header_is_told_without_it() {
        let (admin, value) = (Secret::new(br#"{"key":"k\nX: 1"}"#.to_vec()), Secret::new(b"s".to_vec()));
        let id = "a".parse().unwrap();
        let given = Given { id: Some(&id), admin: Some(&admin), value: Some(&value), ..Given::default() };
        let refused = call().request(&given).unwrap_err();
        assert!(matches!(&refused, Trouble::Setup(what) if what.contains("dd-api-key") && !what.contains("k\n")));
    }

    #[test]
    fn a_status_says_whether_it_can_have_happened() {
        let said = |status| call().said(status, &HeaderMap::new());
        assert_eq!((said(201), said(404)), (Ok(Said::Yes), Ok(Said::Absent)));
        for status in [400, 401, 403, 409, 410, 422] {
            assert!(matches!(said(status), Err(Trouble::Refused(_))), "{status}");
        }
        for status in [408, 425, 429, 500, 502, 503, 599] {
            assert!(matches!(said(status), Err(Trouble::Unavailable(_))), "{status}");
        }
        for status in [200, 204, 302, 307] {
            assert!(matches!(said(status), Err(Trouble::Nonsense(_))), "{status}");
        }
        let headers = [(RETRY_AFTER, HeaderValue::from_static("7"))].into_iter().collect();
        let busy = call().said(429, &headers).unwrap_err();
        assert!(busy.to_string().contains("in 7 s"), "{busy}");
    }
}
