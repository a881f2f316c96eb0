//! What a workload may have: Cedar policies, loaded whole or not at all, judged fail-closed.

use std::collections::BTreeMap;

use crate::access::SecretId;
use crate::name::Name;

/// What the configuration and `workloads.toml` know, so that a policy cannot name what is not there.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Workloads, with their groups.
    pub workloads: BTreeMap<Name, Vec<Name>>,
    /// Operators, with their groups.
    pub operators: BTreeMap<Name, Vec<Name>>,
    /// Providers, with their tags.
    pub providers: BTreeMap<Name, Vec<Name>>,
    /// Secrets, with their tags.
    pub secrets: BTreeMap<SecretId, Vec<Name>>,
    /// What happens to ids that none of these lists.
    pub unknown: UnknownIds,
}

/// What happens to ids in policies that the configuration does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownIds {
    /// They are a fault.
    #[default]
    Refuse,
    /// They are a warning: the set is shared by hosts that differ.
    Warn,
}
