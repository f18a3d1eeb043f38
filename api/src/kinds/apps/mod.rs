//! Kinds of the group `apps`: what keeps pods running (upstream: `pkg/apis/apps`, `pkg/registry/apps`).

mod controller_revision;
mod daemon_set;
mod deployment;
mod replica_set;
mod stateful_set;

use super::kind::Group;

pub(crate) const GROUP: Group = Group {
    name: "apps",
    versions: &[(
        "v1",
        &[controller_revision::KIND, daemon_set::KIND, deployment::KIND, replica_set::KIND, stateful_set::KIND],
    )],
};
