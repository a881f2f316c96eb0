//! (E) The client: one request over a unix socket, for the command line and the tour.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::response::Parts;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::UnixStream;

/// How long an answer may take: the longest that a provider may take, and some.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest answer that is read, in bytes.
const LONGEST_ANSWER: usize = 4 * 1024 * 1024;

/// The header with what was found in the copy of a store that is the body, as JSON.
pub const CHECKED: header::HeaderName = header::HeaderName::from_static("bursar-checked");

/// The task that carries an answer.
type Driver = tokio::task::JoinHandle<Result<(), hyper::Error>>;

/// What is asked.
#[derive(Debug)]
pub struct Call {
    method: Method,
    path: String,
    body: Bytes,
    form: bool,
}

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// The members of the error body that a client shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Complaint {
    /// The stable code.
    pub error: String,
    /// What is wrong.
    #[serde(default)]
    pub error_description: String,
    /// What to do next.
    #[serde(default)]
    pub remedy: String,
    /// The record of it.
    #[serde(default)]
    pub decision: Option<String>,
    /// The provider's own code.
    #[serde(default)]
    pub provider_error: Option<String>,
    /// `Retry-After`, in seconds; no member of the body.
    #[serde(skip)]
    pub retry_after: Option<u64>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// Nobody listens there, or we may not connect. A verb that has another way takes it then.
    #[error(
        "no bursar answers at `{socket}`: {error}; does it run, is this its socket (`--socket`, `--admin-socket`)?"
    )]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// The connection broke.
    #[error("the agent at `{socket}` closed the connection: {why}")]
    Broken {
        /// The socket.
        socket: PathBuf,
        /// How.
        why: String,
    },
    /// It took too long.
    #[error("the agent at `{0}` did not answer within 60 s")]
    Late(PathBuf),
}

impl Call {
    /// A GET of `path`, with its query.
    #[must_use]
    pub fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), body: Bytes::new(), form: false }
    }

    /// A POST of a form to `path`.
    pub fn form<'a>(path: impl Into<String>, fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        Self { method: Method::POST, path: path.into(), body: body.into(), form: true }
    }

    /// A POST without a body to `path`.
    #[must_use]
    pub fn post(path: impl Into<String>) -> Self {
        Self { method: Method::POST, path: path.into(), body: Bytes::new(), form: false }
    }

    /// A PUT of raw bytes to `path`.
    #[must_use]
    pub fn put(path: impl Into<String>, body: Bytes) -> Self {
        Self { method: Method::PUT, path: path.into(), body, form: false }
    }

    /// A DELETE of `path`, with its query.
    #[must_use]
    pub fn delete(path: impl Into<String>) -> Self {
        Self { method: Method::DELETE, path: path.into(), body: Bytes::new(), form: false }
    }

    /// A POST of raw bytes to `path`.
    #[must_use]
    pub fn post_bytes(path: impl Into<String>, body: Bytes) -> Self {
        Self { method: Method::POST, path: path.into(), body, form: false }
    }

    /// Sends it to the agent at `socket`; what is granted goes to `take` as it comes, and is not in the answer's body.
    ///
    /// # Errors
    /// [`NoAnswer`], also when `take` fails, or the body ends early; a refusal is an answer.
    pub async fn send_into(
        self,
        socket: &Path,
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<Answer, NoAnswer> {
        let broken = |why: &dyn std::fmt::Display| NoAnswer::Broken { socket: socket.to_owned(), why: why.to_string() };
        let late = || NoAnswer::Late(socket.to_owned());
        let (parts, body, driver) = tokio::time::timeout(PATIENCE, self.ask(socket)).await.map_err(|_| late())??;
        let granted = parts.status.is_success();
        let (mut body, mut refusal) = (body, Vec::new());
        while let Some(frame) = tokio::time::timeout(PATIENCE, body.frame()).await.map_err(|_| late())? {
            let Ok(bytes) = frame.map_err(|error| broken(&error))?.into_data() else { continue };
            if granted {
                take(&bytes).map_err(|error| broken(&error))?;
            } else if refusal.len() + bytes.len() <= LONGEST_ANSWER {
                refusal.extend_from_slice(&bytes);
            }
        }
        driver.abort();
        Ok(Answer { status: parts.status, headers: parts.headers, body: refusal.into() })
    }

    /// Sends it to the agent at `socket`.
    ///
    /// # Errors
    /// [`NoAnswer`]; a refusal is an answer.
    pub async fn send(self, socket: &Path) -> Result<Answer, NoAnswer> {
        match tokio::time::timeout(PATIENCE, self.exchange(socket)).await {
            Ok(answer) => answer,
            Err(_) => Err(NoAnswer::Late(socket.to_owned())),
        }
    }

    async fn exchange(self, socket: &Path) -> Result<Answer, NoAnswer> {
        let broken = |why: &dyn std::fmt::Display| NoAnswer::Broken { socket: socket.to_owned(), why: why.to_string() };
        let (parts, body, driver) = self.ask(socket).await?;
        let body = to_bytes(Body::new(body), LONGEST_ANSWER).await.map_err(|error| broken(&error))?;
        driver.abort();
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    }

    /// The head of the answer, its body that is on the way, and the task that carries it.
    async fn ask(self, socket: &Path) -> Result<(Parts, Incoming, Driver), NoAnswer> {
        let stream = UnixStream::connect(socket)
            .await
            .map_err(|error| NoAnswer::Connect { socket: socket.to_owned(), error })?;
        let broken = |why: &dyn std::fmt::Display| NoAnswer::Broken { socket: socket.to_owned(), why: why.to_string() };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
        let driver = tokio::spawn(connection);
        let response = sender.send_request(self.request()).await.map_err(|error| broken(&error))?;
        let (parts, body) = response.into_parts();
        Ok((parts, body, driver))
    }

    fn request(self) -> Request<Body> {
        let mut request = Request::new(Body::from(self.body));
        *request.method_mut() = self.method;
        *request.uri_mut() = self.path.parse().unwrap_or_default();
        let headers = request.headers_mut();
        headers.insert(header::HOST, header::HeaderValue::from_static("localhost"));
        headers.insert("bursar", header::HeaderValue::from_static("1"));
        if self.form {
            let kind = header::HeaderValue::from_static("application/x-www-form-urlencoded");
            headers.insert(header::CONTENT_TYPE, kind);
        }
        request
    }
}

impl Answer {
    /// The body if it was granted, else what was refused and why.
    ///
    /// # Errors
    /// [`Complaint`], made up from the status where the body is none of ours.
    pub fn granted(self) -> Result<Bytes, Box<Complaint>> {
        if self.status.is_success() {
            return Ok(self.body);
        }
        let complaint = serde_json::from_slice(&self.body).unwrap_or_else(|_| Complaint {
            error: "unexpected_answer".into(),
            error_description: format!("the agent answered with status {}", self.status),
            ..Complaint::default()
        });
        let retry_after = self.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        Err(Box::new(Complaint { retry_after, ..complaint }))
    }
}
