//! The built-in kinds: what each of them does differently, beside its schema.
//!
//! A folder a group, a file or folder a kind, one [`Kind`](kind::Kind) in it. What kinds of several groups share
//! stands in `rules`, what all kinds with pods in them share in `pods`; a group names no other group.
//!
//! To add a kind (`scheduling/workload.rs` is the smallest, `storage/storage_class.rs` one with everything usual):
//!
//! 1. Make `<group>/<kind>.rs` with `pub(super) const KIND: Kind = Kind { .., ..Kind::namespaced("plural", "Kind") }`.
//! 2. Set what differs: `default`, `validate`, `validate_change`, `warn`, `cells`, ...: each is a function in that file.
//!    What is said nowhere is as upstream has it for most kinds; [`Kind`](kind::Kind) tells what each field means.
//! 3. Name it in its group's `GROUP`, in the place of its plural; a version that is stored as another one with
//!    `KIND.stored_in("v1")`. A new group is named in [`GROUPS`], by its priority in discovery.
//! 4. Data: its schema comes with `data/generate.py`; columns stand in `table/columns.txt`, differences between versions
//!    in `catalog/convert`, the roles that may use it in the API server's `authz/bootstrap_policy.txt`, and a line in
//!    `KINDS.md`.

mod admissionregistration;
mod apiextensions;
mod apiregistration;
mod apiserverinternal;
mod apps;
mod authentication;
mod authorization;
mod autoscaling;
mod batch;
mod certificates;
mod coordination;
mod core;
mod discovery;
mod flowcontrol;
pub(crate) mod kind;
mod metrics;
mod networking;
mod node;
pub(crate) mod pods;
mod policy;
mod rbac;
mod resource;
pub(crate) mod rules;
mod scheduling;
mod storage;
mod storagemigration;
#[cfg(test)]
mod tests;

use crate::field::FieldError;
use crate::object::Object;
use kind::Group;
use rules::tree::{Errors, Node};

pub use flowcontrol::mandatory::mandatory_spec;

/// All groups, in the order of discovery: by priority.
pub(crate) static GROUPS: &[Group] = &[
    core::GROUP,
    apiregistration::GROUP,
    apps::GROUP,
    core::EVENTS,
    authentication::GROUP,
    authorization::GROUP,
    autoscaling::GROUP,
    batch::GROUP,
    certificates::GROUP,
    networking::GROUP,
    policy::GROUP,
    rbac::GROUP,
    storage::GROUP,
    admissionregistration::GROUP,
    apiextensions::GROUP,
    scheduling::GROUP,
    coordination::GROUP,
    node::GROUP,
    discovery::GROUP,
    resource::GROUP,
    flowcontrol::GROUP,
    apiserverinternal::GROUP,
    storagemigration::GROUP,
];

/// The groups that no API server of upstream has, and ours only where [`crate::catalog::Catalog::with_resource_metrics`]
/// is called: somebody else's server may serve them.
pub(crate) static OPTIONAL: &[Group] = &[metrics::GROUP];

/// What is wrong with the addresses of a Service, and with the families that it says they are of. This has to be known
/// before addresses are handed out, and so before the other rules are looked at.
pub fn service_addresses(service: &Object) -> Vec<FieldError> {
    let mut errors = Errors::default();
    core::service::validate::addresses(&Node::root(service.root()), &mut errors);
    errors.0
}
