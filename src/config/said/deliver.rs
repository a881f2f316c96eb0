//! `[deliver.NAME]`: a file for a program that cannot ask.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::access::{Audience, Scope};
use crate::config::words::{Mode, Period};
use crate::name::Name;

/// A file for a program that cannot ask, kept as it should be: exactly one of `secret`, `token` and `template` says what
/// stands in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Deliver {
    /// For whom: a `[workload.NAME]` of `workloads.toml`. Policy has to permit it what stands in the file.
    #[schemars(extend("examples" = ["checkout"]))]
    pub workload: Name,
    /// The file: absolute, in a folder in which nobody else may write, best on a tmpfs. It is replaced whole.
    #[schemars(extend("examples" = ["/run/bursar-delivery/checkout-key"]))]
    pub path: PathBuf,
    /// The mode of the file.
    #[serde(default = "read_by_its_owner")]
    pub mode: Mode,
    /// The user that owns the file: a name or a uid. Another than the agent's needs CAP_CHOWN.
    #[serde(default)]
    #[schemars(length(min = 1, max = 63), extend("examples" = ["checkout"]))]
    pub owner: Option<String>,
    /// The group of the file: a name or a gid. One in which the agent's user is not needs CAP_CHOWN.
    #[serde(default)]
    #[schemars(length(min = 1, max = 63), extend("examples" = ["checkout"]))]
    pub group: Option<String>,
    /// The value of a `[secret.NAME]`, and nothing else.
    #[serde(default)]
    #[schemars(extend("examples" = ["stripe-api-key"]))]
    pub secret: Option<Name>,
    /// A token, and nothing else.
    #[serde(default)]
    pub token: Option<DeliverToken>,
    /// A template: the file that holds its text. It is read at start and at a reload.
    #[serde(default)]
    #[schemars(extend("examples" = ["templates/app.conf.j2"]))]
    pub template: Option<PathBuf>,
    /// How the program is told that the file is new.
    #[serde(default)]
    pub then: Option<Then>,
    /// What becomes of the file when policy does not allow it any more.
    #[serde(default)]
    pub on_denied: OnDenied,
}

const fn read_by_its_owner() -> Mode {
    Mode(0o400)
}

/// The token that is delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeliverToken {
    /// The provider: a `[provider.NAME]` of this configuration.
    #[schemars(extend("examples" = ["stripe"]))]
    pub provider: Name,
    /// Its scopes. Without any they are the provider's `default_scopes`.
    #[serde(default)]
    #[schemars(extend("examples" = [["charges:read"]]))]
    pub scopes: BTreeSet<Scope>,
    /// Whom it is for. Without any they are all that the provider lists.
    #[serde(default)]
    #[schemars(extend("examples" = [["https://api.example.com"]]))]
    pub audience: BTreeSet<Audience>,
}

/// How a program is told: by a signal to the pid in `pid_file`, or by a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Then {
    /// The signal. Another user's process needs CAP_KILL.
    #[serde(default)]
    #[schemars(extend("examples" = ["HUP"]))]
    pub signal: Option<Signal>,
    /// The file in which the program's pid stands.
    #[serde(default)]
    #[schemars(extend("examples" = ["/run/nginx.pid"]))]
    pub pid_file: Option<PathBuf>,
    /// The command, with its arguments: no shell. It runs as the agent's user, and is given no secret.
    #[serde(default)]
    #[schemars(length(min = 1, max = 64), extend("examples" = [["/usr/bin/systemctl", "reload", "nginx"]]))]
    pub command: Option<Vec<String>>,
    /// How long the command may take. Without one it is `30s`.
    #[serde(default)]
    #[schemars(extend("examples" = ["30s"]))]
    pub timeout: Option<Period>,
}

/// How long a command may take, unless the configuration says otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// A signal by which a program is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Signal {
    /// SIGHUP: most servers read their configuration anew.
    Hup,
    /// SIGINT.
    Int,
    /// SIGQUIT.
    Quit,
    /// SIGTERM: it ends, and whoever keeps it running starts it again.
    Term,
    /// SIGUSR1.
    Usr1,
    /// SIGUSR2.
    Usr2,
}

/// What becomes of a file when policy does not allow it any more, or the configuration does not name it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnDenied {
    /// It is taken away.
    #[default]
    Remove,
    /// It stays, and grows old.
    Keep,
}
