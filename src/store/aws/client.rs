//! (E) Secrets Manager's calls, one function each: what comes back is a value, a fact about labels, or a [`Refusal`] in
//! our words.
//!
//! The SDK tells `tracing` what it sends and hears; none of that reaches our log.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::config::SharedCredentialsProvider;
use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_secretsmanager::primitives::{Blob, DateTime};
use aws_sdk_secretsmanager::types::{Filter, FilterNameStringType};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use tokio::sync::Mutex;
use tracing::instrument::WithSubscriber;
use tracing::subscriber::NoSubscriber;
use url::Url;

use super::connector::Connector;
use super::trouble::{Asked, Refusal, refusal};
use crate::secret::Secret;
use crate::store::StoreError;
use crate::time::Wall;
use crate::wire::NoAnswer;

/// The label of what readers get by default.
pub(super) const CURRENT: &str = "AWSCURRENT";
/// The label of what was Current before.
pub(super) const PREVIOUS: &str = "AWSPREVIOUS";
/// The label of what is to be Current next, of whoever's making.
pub(super) const PENDING: &str = "AWSPENDING";
/// The label of a value that bursar reserved and that waits for its promotion.
pub(super) const RESERVED: &str = "BURSAR_RESERVED";
/// The label under which a book is written before it is the Current one.
pub(super) const BOOK: &str = "BURSAR_BOOK";

/// How often the SDK asks once, and how long it waits in between.
const TRIES: u32 = 3;
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// The most time for one call with all its tries, and the credentials that it may want first.
const MOST_TIME: Duration = Duration::from_secs(12);

/// Secrets Manager in one region.
pub(super) struct Site {
    region: String,
    endpoint: Option<Url>,
    connector: Connector,
    /// None: the default chain.
    credentials: Option<SharedCredentialsProvider>,
    /// Made at the first call, and anew after the credentials were refused: what was rotated in a file is read then.
    client: Mutex<Option<Arc<Client>>>,
}

/// A version with its value.
pub(super) struct Value {
    /// Its id at AWS.
    pub(super) id: String,
    /// When it was made.
    pub(super) created: Wall,
    /// The value.
    pub(super) value: Secret,
}

/// Which version is wanted.
#[derive(Clone, Copy)]
pub(super) enum Wanted<'a> {
    /// The one with AWSCURRENT.
    Current,
    /// The one with this id.
    Id(&'a str),
}

/// What a write came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// It is there.
    Done,
    /// Something else is there already.
    Exists,
    /// There is no such secret.
    Missing,
}

/// The labels of a secret, each with the id of its version.
pub(super) type Labels = Vec<(String, String)>;

impl Site {
    pub(super) fn new(
        region: &str,
        endpoint: Option<&Url>,
        connector: Connector,
        credentials: Option<SharedCredentialsProvider>,
    ) -> Self {
        let (region, endpoint) = (region.to_owned(), endpoint.cloned());
        Self { region, endpoint, connector, credentials, client: Mutex::default() }
    }

    /// A version with its value; none where the secret, the version or its value is not, or the secret is deleted.
    pub(super) async fn value(&self, secret: &str, wanted: Wanted<'_>) -> Result<Option<Value>, StoreError> {
        let asked = Asked { action: "GetSecretValue", secret };
        let call = self.client().await.get_secret_value().secret_id(secret);
        let call = match wanted {
            Wanted::Current => call.version_stage(CURRENT),
            Wanted::Id(id) => call.version_id(id),
        };
        match self.told(quiet(call.send()).await, asked).await {
            Ok(answer) => {
                let text = answer.secret_string.map(|text| Secret::new(text.into_bytes()));
                let value = text.or_else(|| answer.secret_binary.map(|bytes| Secret::new(bytes.into_inner())));
                let created = answer.created_date.map_or_else(Wall::default, wall);
                Ok(answer.version_id.zip(value).map(|(id, value)| Value { id, created, value }))
            }
            Err(Refusal::Missing | Refusal::Closed) => Ok(None),
            Err(other) => Err(fault(other, asked)),
        }
    }

    /// The labels of a secret; none where it is not, or is deleted.
    pub(super) async fn labels(&self, secret: &str) -> Result<Option<Labels>, StoreError> {
        let asked = Asked { action: "DescribeSecret", secret };
        let call = self.client().await.describe_secret().secret_id(secret);
        match self.told(quiet(call.send()).await, asked).await {
            Ok(answer) if answer.deleted_date.is_some() => Ok(None),
            Ok(answer) => {
                let versions = answer.version_ids_to_stages.unwrap_or_default();
                let labels = |(id, labels): (String, Vec<String>)| labels.into_iter().map(move |l| (l, id.clone()));
                Ok(Some(versions.into_iter().flat_map(labels).collect()))
            }
            Err(Refusal::Missing) => Ok(None),
            Err(other) => Err(fault(other, asked)),
        }
    }

    /// Makes a secret with its first version, which has AWSCURRENT.
    pub(super) async fn create(&self, secret: &str, id: &str, value: &Secret) -> Result<Written, StoreError> {
        let asked = Asked { action: "CreateSecret", secret };
        let call = self.client().await.create_secret().name(secret).client_request_token(id);
        let (text, bytes) = said(value);
        let call = call.set_secret_string(text).set_secret_binary(bytes);
        written(self.told(quiet(call.send()).await, asked).await.map(drop), asked)
    }

    /// Makes a version with `labels`, which leave any other; of a secret without versions it has AWSCURRENT, too.
    pub(super) async fn put(
        &self,
        secret: &str,
        id: &str,
        value: &Secret,
        labels: &[&str],
    ) -> Result<Written, StoreError> {
        let asked = Asked { action: "PutSecretValue", secret };
        let call = self.client().await.put_secret_value().secret_id(secret).client_request_token(id);
        let (text, bytes) = said(value);
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        let call = call.set_secret_string(text).set_secret_binary(bytes).set_version_stages(Some(labels));
        written(self.told(quiet(call.send()).await, asked).await.map(drop), asked)
    }

    /// Takes a label from one version, to another or to none. False where it is not at the first.
    pub(super) async fn move_label(
        &self,
        secret: &str,
        label: &str,
        from: &str,
        to: Option<&str>,
    ) -> Result<bool, StoreError> {
        let asked = Asked { action: "UpdateSecretVersionStage", secret };
        let call = self.client().await.update_secret_version_stage().secret_id(secret).version_stage(label);
        let call = call.remove_from_version_id(from).set_move_to_version_id(to.map(str::to_owned));
        match self.told(quiet(call.send()).await, asked).await {
            Ok(_) => Ok(true),
            Err(Refusal::Invalid | Refusal::Missing | Refusal::Exists) => Ok(false),
            Err(other) => Err(fault(other, asked)),
        }
    }

    /// The names that begin with `start`, at most `most` and one.
    pub(super) async fn names(&self, start: &str, most: usize) -> Result<Vec<String>, StoreError> {
        let asked = Asked { action: "ListSecrets", secret: "" };
        let filter = Filter::builder().key(FilterNameStringType::Name).values(start).build();
        let (mut names, mut next) = (Vec::new(), None);
        while names.len() <= most {
            let call = self.client().await.list_secrets().max_results(100).set_next_token(next.take());
            let call = if start.is_empty() { call } else { call.filters(filter.clone()) };
            let answer = self.told(quiet(call.send()).await, asked).await.map_err(|why| fault(why, asked))?;
            names.extend(answer.secret_list.unwrap_or_default().into_iter().filter_map(|secret| secret.name));
            next = answer.next_token.filter(|token| !token.is_empty());
            if next.is_none() {
                break;
            }
        }
        Ok(names)
    }

    async fn client(&self) -> Arc<Client> {
        let mut held = self.client.lock().await;
        if let Some(client) = &*held {
            return Arc::clone(client);
        }
        let retry = RetryConfig::standard().with_max_attempts(TRIES);
        let retry = retry.with_initial_backoff(FIRST_WAIT).with_max_backoff(LONGEST_WAIT);
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .region(Region::new(self.region.clone()))
            .http_client(self.connector.clone())
            .retry_config(retry)
            .timeout_config(TimeoutConfig::builder().operation_timeout(MOST_TIME).build());
        if let Some(endpoint) = &self.endpoint {
            loader = loader.endpoint_url(endpoint.as_str().trim_end_matches('/'));
        }
        if let Some(credentials) = &self.credentials {
            loader = loader.credentials_provider(credentials.clone());
        }
        let client = Arc::new(Client::new(&quiet(loader.load()).await));
        *held = Some(Arc::clone(&client));
        client
    }

    /// The answer, or why there is none.
    async fn told<T, E>(&self, answer: Result<T, SdkError<E, HttpResponse>>, asked: Asked<'_>) -> Result<T, Refusal>
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let refused = match answer {
            Ok(answer) => return Ok(answer),
            Err(error) => why(&error, asked),
        };
        if matches!(refused, Refusal::Stranger(_)) {
            *self.client.lock().await = None;
        }
        Err(refused)
    }
}

/// Runs `call` with nothing of what the SDK tells `tracing` going anywhere.
async fn quiet<T>(call: impl Future<Output = T>) -> T {
    call.with_subscriber(NoSubscriber::default()).await
}

fn why<E: ProvideErrorMetadata + Error + 'static>(error: &SdkError<E, HttpResponse>, asked: Asked<'_>) -> Refusal {
    let unavailable = |what: String| Refusal::Fault(StoreError::Unavailable(what));
    if let Some(service) = error.as_service_error() {
        let status = error.raw_response().map_or(0, |response| response.status().as_u16());
        return refusal(service.code().unwrap_or_default(), status, asked);
    }
    if let Some(response) = error.raw_response() {
        let status = response.status().as_u16();
        return unavailable(format!("its answer (status {status}) is cut off, or not AWS's: check `endpoint`"));
    }
    if let SdkError::DispatchFailure(failure) = error
        && let Some(NoAnswer(what)) = failure.as_connector_error().and_then(|error| error.source()?.downcast_ref())
    {
        let is_ours = failure.is_user();
        return if is_ours { Refusal::Fault(StoreError::Setup(what.clone())) } else { unavailable(what.clone()) };
    }
    if matches!(error, SdkError::TimeoutError(_)) {
        return unavailable(format!("no answer within {} s", MOST_TIME.as_secs()));
    }
    // What is left went wrong before anything was sent: there are no credentials to sign with.
    Refusal::Stranger(StoreError::Setup(
        "no AWS credentials are to be had: neither by the environment, nor a profile, nor the container or the instance; \
         see `docs/stores.md`"
            .into(),
    ))
}

fn written(answer: Result<(), Refusal>, asked: Asked<'_>) -> Result<Written, StoreError> {
    match answer {
        Ok(()) => Ok(Written::Done),
        Err(Refusal::Exists) => Ok(Written::Exists),
        Err(Refusal::Missing) => Ok(Written::Missing),
        Err(other) => Err(fault(other, asked)),
    }
}

fn fault(refusal: Refusal, asked: Asked<'_>) -> StoreError {
    let Asked { action, secret } = asked;
    match refusal {
        Refusal::Stranger(error) | Refusal::Fault(error) => error,
        Refusal::Closed => StoreError::Setup(format!(
            "AWS refuses `{action}` on `{secret}` as it stands: if it is scheduled for deletion, \
             `aws secretsmanager restore-secret --secret-id {secret}` brings it back (InvalidRequestException)"
        )),
        Refusal::Invalid | Refusal::Missing | Refusal::Exists => {
            StoreError::Setup(format!("AWS refuses `{action}` on `{secret}` (InvalidParameterException)"))
        }
    }
}

fn said(value: &Secret) -> (Option<String>, Option<Blob>) {
    match std::str::from_utf8(value.expose()) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(Blob::new(value.expose()))),
    }
}

fn wall(at: DateTime) -> Wall {
    let micros = i128::from(at.secs()) * 1_000_000 + i128::from(at.subsec_nanos() / 1_000);
    Wall::from_micros(micros.try_into().unwrap_or_default())
}
