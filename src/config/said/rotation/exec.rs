//! `[secret.NAME.rotation.exec]`: a program.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{HttpOverlap, Random};
use crate::config::said::SecretRef;
use crate::config::words::Period;

/// A program of yours, started once for each act. It hears and says JSON; `docs/rotators/exec.md` says which.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Exec {
    /// The program. Nobody but root and bursar's user may be able to change it.
    #[schemars(extend("examples" = ["/usr/local/lib/bursar/rotate-example"]))]
    pub program: PathBuf,
    /// What it is told with each act. No secrets.
    #[serde(default)]
    pub values: BTreeMap<String, String>,
    /// The credential with which it acts: it is told with each act.
    #[serde(default)]
    pub admin: Option<SecretRef>,
    /// Whether nobody else makes credentials there, so that what belongs to no version is ours.
    #[serde(default)]
    pub exclusive: bool,
    /// How many credentials the far side accepts at once.
    #[serde(default)]
    pub overlap: HttpOverlap,
    /// Who chooses the value.
    #[serde(default)]
    pub invents: ExecInvents,
    /// The value that bursar makes, with `invents = "us"`.
    #[serde(default)]
    pub random: Option<Random>,
    /// How long the far side may take to accept a new credential.
    #[serde(default)]
    #[schemars(extend("examples" = ["30s"]))]
    pub settles_within: Option<Period>,
    /// How long one act may take: at most `18s`. Then the program is killed, with its process group.
    #[serde(default)]
    #[schemars(extend("examples" = ["10s"]))]
    pub timeout: Option<Period>,
}

/// Who chooses the value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExecInvents {
    /// The far side, which says it once.
    #[default]
    FarSide,
    /// bursar: it is stored before the far side hears of it.
    Us,
}
