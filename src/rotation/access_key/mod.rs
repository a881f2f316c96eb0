//! The rotator `aws-iam-access-key`: the access keys of one IAM user, of which there are two at most.

pub mod answer;
pub mod xml;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::CONTENT_TYPE;
use http::{Method, Request};
use rustls::ClientConfig;

use self::answer::{Key, MOST_BODY_BYTES};
use super::{Admin, Created, Ended, FarId, Found, Held, Invents, Label, Overlap, Rotator, Trouble};
use crate::time::Clock;
use crate::wire::tls::NoTls;
use crate::wire::{Times, Wire};

/// The limits of one call.
const TIMES: Times = Times { connect: Duration::from_secs(3), whole: Duration::from_secs(9), configured: false };

/// How long IAM takes until every one of its servers knows of a change, where nobody says otherwise: it promises no time.
pub const SETTLES_WITHIN: Duration = Duration::from_secs(60);

/// What is configured of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The user.
    pub user: Box<str>,
    /// The region whose STS is asked; it says the partition too.
    pub region: Box<str>,
    /// Where both are reached, without a last `/`; none: where AWS has them.
    pub endpoint: Option<Box<str>>,
    /// How long a new key may take to be accepted.
    pub settles_within: Duration,
}

/// A service of AWS: its name in signatures, the version of its API, where it is, and the region that signatures name.
struct Service {
    name: &'static str,
    version: &'static str,
    url: String,
    region: String,
}

impl Settings {
    /// IAM: one for each partition.
    fn iam(&self) -> Service {
        let (host, region) = match &*self.region {
            region if region.starts_with("cn-") => ("iam.cn-north-1.amazonaws.com.cn", "cn-north-1"),
            region if region.starts_with("us-gov-") => ("iam.us-gov.amazonaws.com", "us-gov-west-1"),
            _ => ("iam.amazonaws.com", "us-east-1"),
        };
        Service { name: "iam", version: "2010-05-08", url: self.url(host), region: region.to_owned() }
    }

    /// STS: one for each region.
    fn sts(&self) -> Service {
        let end = if self.region.starts_with("cn-") { ".cn" } else { "" };
        let url = self.url(&format!("sts.{}.amazonaws.com{end}", self.region));
        Service { name: "sts", version: "2011-06-15", url, region: self.region.to_string() }
    }

    fn url(&self, host: &str) -> String {
        self.endpoint.as_ref().map_or_else(|| format!("https://{host}/"), |endpoint| format!("{endpoint}/"))
    }
}

/// Rotates the access keys of a user.
pub struct AccessKey {
    wire: Wire,
    settings: Settings,
    admin: Admin,
    clock: Arc<dyn Clock>,
}

impl AccessKey {
    /// One that has sent nothing yet.
    ///
    /// # Errors
    /// [`NoTls::NoClient`].
    pub fn new(settings: Settings, admin: Admin, tls: ClientConfig, clock: Arc<dyn Clock>) -> Result<Self, NoTls> {
        Ok(Self { wire: Wire::new(tls, TIMES, MOST_BODY_BYTES)?, settings, admin, clock })
    }

    async fn admin(&self) -> Result<Key, Trouble> {
        let key = Key::of_value(&self.admin.read().await?);
        key.map_err(|why| Trouble::Setup(format!("the admin credential `{}`: {why}", self.admin)))
    }

    /// Has IAM do `action`, by the key of the administrator.
    async fn iam(&self, action: &str, more: &[(&str, &str)]) -> Result<xml::Element, Trouble> {
        let admin = self.admin().await?;
        let fields: Vec<_> = [("UserName", &*self.settings.user)].into_iter().chain(more.iter().copied()).collect();
        let (status, body) = self.ask(&self.settings.iam(), action, &fields, &admin).await?;
        answer::read(status, &body)
    }

    async fn ask(
        &self,
        service: &Service,
        action: &str,
        fields: &[(&str, &str)],
        key: &Key,
    ) -> Result<(u16, Vec<u8>), Trouble> {
        let at = u64::try_from(self.clock.now().wall.micros()).unwrap_or_default();
        let at = SystemTime::UNIX_EPOCH + Duration::from_micros(at);
        let request = signed(service, form(service, action, fields), key, at)?;
        let answer = self.wire.send(request).await.map_err(|why| Trouble::Unavailable(why.0))?;
        if !answer.whole {
            return Err(Trouble::Nonsense(format!("its answer is longer than {MOST_BODY_BYTES} bytes")));
        }
        Ok((answer.status, answer.body))
    }

    /// Ends a key: it stops working, and then is gone. What is not there any more is ended.
    async fn end(&self, id: &FarId) -> Result<(), Trouble> {
        if self.admin().await?.id == *id {
            return Err(Trouble::Setup(format!(
                "the key that is to be ended is the admin credential `{}` itself: put a key of another user there",
                self.admin
            )));
        }
        let key = ("AccessKeyId", id.as_str());
        for (action, more) in [("UpdateAccessKey", &[key, ("Status", "Inactive")][..]), ("DeleteAccessKey", &[key])] {
            match self.iam(action, more).await {
                Ok(_) => {}
                Err(Trouble::Refused(what)) if what == answer::NO_SUCH_ENTITY => return Ok(()),
                Err(trouble) => return Err(trouble),
            }
        }
        Ok(())
    }
}

fn form(service: &Service, action: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("Action", action).append_pair("Version", service.version).extend_pairs(fields);
    form.finish().into_bytes()
}

/// A request with its signature (AWS Signature Version 4).
fn signed(service: &Service, body: Vec<u8>, key: &Key, at: SystemTime) -> Result<Request<Vec<u8>>, Trouble> {
    const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";
    let refused = |what: &str| Trouble::Setup(format!("a request to {} cannot be {what}", service.name));
    let secret = std::str::from_utf8(key.secret.expose()).map_err(|_| refused("signed by a key that is no text"))?;
    let identity = Credentials::new(key.id.as_str(), secret, None, None, "bursar").into();
    let signing = v4::SigningParams::builder().identity(&identity).region(&service.region).name(service.name);
    let signing = signing.time(at).settings(SigningSettings::default()).build().map_err(|_| refused("signed"))?.into();
    let headers = [(CONTENT_TYPE.as_str(), FORM)];
    let signable = SignableRequest::new("POST", &service.url, headers.into_iter(), SignableBody::Bytes(&body));
    let (instructions, _) =
        sign(signable.map_err(|_| refused("built"))?, &signing).map_err(|_| refused("signed"))?.into_parts();
    let request = Request::builder().method(Method::POST).uri(&service.url).header(CONTENT_TYPE, FORM).body(body);
    let mut request = request.map_err(|_| refused("built"))?;
    instructions.apply_to_request_http1x(&mut request);
    Ok(request)
}

impl Rotator for AccessKey {
    fn kind(&self) -> &'static str {
        "aws-iam-access-key"
    }

    fn overlap(&self) -> Overlap {
        Overlap::Two
    }

    fn invents(&self) -> Invents {
        Invents::FarSide
    }

    fn settles_within(&self) -> Duration {
        self.settings.settles_within
    }

    fn list(&self) -> BoxFuture<'_, Result<Option<Vec<Found>>, Trouble>> {
        async { answer::listed(&self.iam("ListAccessKeys", &[]).await?).map(Some) }.boxed()
    }

    fn create<'a>(&'a self, _: &'a Label, _: Option<&'a Held>) -> BoxFuture<'a, Result<Created, Trouble>> {
        async {
            let answer = self.iam("CreateAccessKey", &[]).await?;
            // A crash from here on leaves a key that nobody knows: it is known by not having been there before.
            let (value, far_id) = answer::created(&answer)?;
            Ok(Created { value, far_id: Some(far_id) })
        }
        .boxed()
    }

    fn set<'a>(&'a self, _: &'a Held, _: Option<&'a Held>) -> BoxFuture<'a, Result<(), Trouble>> {
        async { Ok(()) }.boxed()
    }

    fn test<'a>(&'a self, held: &'a Held) -> BoxFuture<'a, Result<bool, Trouble>> {
        async move {
            let key = Key::of_value(&held.value)?;
            let (status, body) = self.ask(&self.settings.sts(), "GetCallerIdentity", &[], &key).await?;
            answer::accepts(status, &body)
        }
        .boxed()
    }

    fn revoke<'a>(&'a self, ended: &'a Ended, _: Option<&'a Held>) -> BoxFuture<'a, Result<(), Trouble>> {
        async move {
            let unknown = |why| {
                Trouble::Setup(format!(
                    "the version that is to be ended: {why}; end its key at IAM, and set `exclusive = false` until it is retired"
                ))
            };
            let id_of = |value| Key::of_value(value).map(|key| key.id).map_err(unknown);
            let of_value = || ended.value.as_deref().map(id_of);
            match ended.far_id.clone().map(Ok).or_else(of_value) {
                Some(id) => self.end(&id?).await,
                None => Err(Trouble::Setup("the id of the key that is to be ended is not known".into())),
            }
        }
        .boxed()
    }
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessKey").field("settings", &self.settings).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn settings(region: &str) -> Settings {
        Settings { user: "svc".into(), region: region.into(), endpoint: None, settles_within: SETTLES_WITHIN }
    }

    #[test]
    fn each_partition_has_its_iam_and_each_region_its_sts() {
        for (region, iam, signed_for, sts) in [
            ("eu-central-1", "https://iam.amazonaws.com/", "us-east-1", "https://sts.eu-central-1.amazonaws.com/"),
            (
                "us-gov-east-1",
                "https://iam.us-gov.amazonaws.com/",
                "us-gov-west-1",
                "https://sts.us-gov-east-1.amazonaws.com/",
            ),
            (
                "cn-north-1",
                "https://iam.cn-north-1.amazonaws.com.cn/",
                "cn-north-1",
                "https://sts.cn-north-1.amazonaws.com.cn/",
            ),
        ] {
            let settings = settings(region);
            assert_eq!((settings.iam().url.as_str(), settings.iam().region.as_str()), (iam, signed_for));
            assert_eq!((settings.sts().url.as_str(), settings.sts().region.as_str()), (sts, region));
        }
    }

    #[test]
    fn a_request_is_signed_and_holds_no_secret() {
        let key = Key { id: "AKIDEXAMPLE".parse().unwrap(), secret: Secret::new(b"secret-canary".to_vec()) };
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_440_938_160);
        let request = signed(&settings("eu-central-1").iam(), b"Action=ListUsers".to_vec(), &key, at).unwrap();
        let signature = request.headers()["authorization"].to_str().unwrap();
        assert!(
            signature.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, SignedHeaders=content-type;host;x-amz-date"),
            "{signature}"
        );
        assert!(!format!("{request:?}").contains("canary") && request.uri() == "https://iam.amazonaws.com/");
    }
}
