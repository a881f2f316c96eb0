//! (E) The HTTP client that AWS's SDK is given: our own, on rustls with ring, bounded in bytes and time.
//!
//! The SDK's requests to Secrets Manager and STS go through it, and those of its credential chain to the container's and
//! the instance's metadata. Plain http goes to these and to this host, and nowhere else, whatever the environment says.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use http::{Request, Uri};
use rustls::ClientConfig;
use tokio::time::timeout;

use crate::store::StoreError;
use crate::wire::{Answer, LOCALHOST, NoAnswer, Times, Wire};

/// The limits of one request.
const TIMES: Times = Times { connect: Duration::from_secs(2), whole: Duration::from_secs(4), configured: false };
/// How much of a body is read: a page of a hundred secrets with their tags, or one value in base64.
const MOST_BODY_BYTES: usize = 4 << 20;
/// Where AWS's metadata services are: of instances (IPv4, IPv6), of ECS, of EKS (IPv4, IPv6).
const METADATA: [&str; 5] = ["169.254.169.254", "fd00:ec2::254", "169.254.170.2", "169.254.170.23", "fd00:ec2::23"];

/// The client.
#[derive(Clone)]
pub(super) struct Connector {
    wire: Arc<Wire>,
    /// The most time for one request, where the SDK wants less than we do.
    most_time: Duration,
}

impl Connector {
    pub(super) fn new(tls: ClientConfig) -> Result<Self, StoreError> {
        let wire = Wire::new(tls, TIMES, MOST_BODY_BYTES).map_err(|why| StoreError::Setup(why.to_string()))?;
        Ok(Self { wire: Arc::new(wire), most_time: TIMES.whole })
    }

    async fn send(self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let request = request.try_into_http1x().map_err(|why| ConnectorError::user(why.into()))?;
        let (head, body) = request.into_parts();
        if !may_be_asked(&head.uri) {
            let refused = "plain http to another host than this one is refused: use an `https` endpoint";
            return Err(ConnectorError::user(Box::new(NoAnswer(refused.into()))));
        }
        let streamed = || ConnectorError::user(Box::new(NoAnswer("the request is a stream".into())));
        let body = body.bytes().ok_or_else(streamed)?.to_vec();
        let late = |_| ConnectorError::timeout(Box::new(NoAnswer("no whole answer in time".into())));
        let sent = timeout(self.most_time, self.wire.send(Request::from_parts(head, body))).await.map_err(late)?;
        let answer = sent.map_err(|why| ConnectorError::io(Box::new(why)))?;
        response(answer).map_err(|why| ConnectorError::other(Box::new(why), None))
    }
}

fn may_be_asked(uri: &Uri) -> bool {
    if uri.scheme_str() != Some("http") {
        return true;
    }
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_loopback = host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    is_loopback || host.eq_ignore_ascii_case(LOCALHOST) || METADATA.contains(&host)
}

fn response(answer: Answer) -> Result<HttpResponse, NoAnswer> {
    let Answer { status, headers, body, whole } = answer;
    if !whole {
        return Err(NoAnswer(format!("its answer is longer than {MOST_BODY_BYTES} bytes")));
    }
    let odd = || NoAnswer("its answer is not HTTP that AWS speaks".into());
    let mut response = http::Response::builder().status(status).body(SdkBody::from(body)).map_err(|_| odd())?;
    *response.headers_mut() = headers;
    response.try_into().map_err(|_| odd())
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::new(self.clone().send(request))
    }
}

impl HttpClient for Connector {
    fn http_connector(&self, settings: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        let wanted = settings.connect_timeout().zip(settings.read_timeout()).map(|(connect, read)| connect + read);
        let most_time = wanted.map_or(self.most_time, |wanted| wanted.min(self.most_time));
        SharedHttpConnector::new(Self { wire: Arc::clone(&self.wire), most_time })
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_stays_on_this_host() {
        for good in [
            "https://secretsmanager.eu-central-1.amazonaws.com/",
            "http://127.0.0.1:5555/",
            "http://[::1]:1/",
            "http://localhost/",
            "http://169.254.169.254/latest",
            "http://[fd00:ec2::254]/latest",
            "http://169.254.170.2/v2",
        ] {
            assert!(may_be_asked(&good.parse().unwrap()), "{good}");
        }
        for bad in [
            "http://10.0.0.1/",
            "http://secretsmanager.amazonaws.com/",
            "http://169.254.1.1/",
            "http://localhost.evil/",
        ] {
            assert!(!may_be_asked(&bad.parse().unwrap()), "{bad}");
        }
    }
}
