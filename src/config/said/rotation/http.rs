//! `[secret.NAME.rotation.http]`: calls to a service that issues credentials.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Random;
use crate::config::said::SecretRef;
use crate::config::words::Period;

/// Calls to a service that issues credentials over HTTP.
///
/// In the texts of a call, `{admin}`, `{label}`, `{id}` and `{value}` are put in; `{admin/user}` is a part of what is JSON.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// A definition that is built in, instead of the calls.
    pub preset: Option<Preset>,
    /// What `{base}` stands for: the beginning of the service's addresses, `https`, or `http` to this host alone.
    #[schemars(extend("examples" = ["https://hub.example.com/hub/api"]))]
    pub base: Option<String>,
    /// What further placeholders stand for: `{user}` with `values = { user = "svc" }`. No secrets.
    pub values: BTreeMap<String, String>,
    /// The credential with which the calls are made.
    pub admin: Option<SecretRef>,
    /// Whether nobody else makes credentials there, so that what belongs to no version is ours.
    pub exclusive: bool,
    /// The certificate authorities that vouch for the service (PEM). Without one, the system's.
    pub ca_file: Option<PathBuf>,
    /// How many credentials the service accepts at once.
    pub overlap: HttpOverlap,
    /// How long the service may take to accept a new credential.
    #[schemars(extend("examples" = ["30s"]))]
    pub settles_within: Option<Period>,
    /// Has the service make a credential: it invents the value.
    pub create: Option<HttpCall>,
    /// What the answer to `create` holds.
    pub made: Option<HttpMade>,
    /// Tells the service a value that bursar has made: `{value}`. Instead of `create`.
    pub set: Option<HttpCall>,
    /// The value that bursar makes, with `set`.
    pub random: Option<Random>,
    /// Asks which credentials there are.
    pub list: Option<HttpCall>,
    /// What the answer to `list` holds.
    pub found: Option<HttpFound>,
    /// Uses a credential, as a reader would.
    pub test: Option<HttpCall>,
    /// Ends a credential.
    pub revoke: Option<HttpCall>,
}

/// A definition that is built in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// API tokens of a user of JupyterHub. `base` ends in `/hub/api`; `values` has `user`.
    Jupyterhub,
    /// Secret ids of a role of OpenBao's AppRole. `base` is its address; `values` has `role` and `role_id`.
    OpenbaoApprole,
}

/// How many credentials a service accepts at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HttpOverlap {
    /// The old one and the new one, until `revoke`.
    #[default]
    Two,
    /// One: making a new one ends the former.
    One,
}

/// A call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpCall {
    /// The method.
    #[serde(default)]
    pub method: HttpMethod,
    /// The address.
    #[schemars(extend("examples" = ["{base}/users/{user}/tokens"]))]
    pub url: String,
    /// The headers.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Name and password for HTTP's Basic scheme, with a `:` between.
    #[serde(default)]
    #[schemars(extend("examples" = ["{admin/sid}:{admin/secret}"]))]
    pub basic: Option<String>,
    /// The body, as JSON text whose texts have placeholders.
    #[serde(default)]
    #[schemars(extend("examples" = ["{\"note\":\"{label}\"}"]))]
    pub json: Option<String>,
    /// The body, as the fields of a form.
    #[serde(default)]
    pub form: Option<BTreeMap<String, String>>,
    /// The statuses that mean that it has happened.
    #[schemars(length(min = 1, max = 16), inner(range(min = 200, max = 599)))]
    pub expect: Vec<u16>,
    /// The statuses that mean that there is no such credential: 401 and 403 for `test`, 404 and 410 for `revoke`, unless set.
    #[serde(default)]
    #[schemars(length(max = 16), inner(range(min = 200, max = 599)))]
    pub absent: Option<Vec<u16>>,
}

/// The method of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum HttpMethod {
    /// GET.
    #[default]
    Get,
    /// POST.
    Post,
    /// PUT.
    Put,
    /// PATCH.
    Patch,
    /// DELETE.
    Delete,
}

/// What the answer to `create` holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HttpMade {
    /// Where its id stands (RFC 6901).
    #[schemars(extend("examples" = ["/id"]))]
    pub id: Option<String>,
    /// The value that is served, of `{reply/…}` and `{id}`.
    #[schemars(extend("examples" = ["{reply/token}"]))]
    pub value: Option<String>,
    /// The value that is served, as JSON text whose texts have placeholders. Instead of `value`.
    #[schemars(extend("examples" = ["{\"id\":\"{id}\",\"secret\":\"{reply/secret}\"}"]))]
    pub value_json: Option<String>,
}

/// What the answer to `list` holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpFound {
    /// Where the array of them stands (RFC 6901).
    #[schemars(extend("examples" = ["/api_tokens"]))]
    pub items: String,
    /// Where the id of one stands in it.
    #[schemars(extend("examples" = ["/id"]))]
    pub id: String,
    /// Where the text that holds the label of one stands in it.
    #[schemars(extend("examples" = ["/note"]))]
    pub label: String,
    /// Where the address of the next page stands in the answer, if the list has pages.
    #[serde(default)]
    #[schemars(extend("examples" = ["/links/next"]))]
    pub next: Option<String>,
    /// The number of the first page, where the `url` of `list` has `{page}`.
    #[serde(default = "one")]
    pub first_page: u32,
}

const fn one() -> u32 {
    1
}
