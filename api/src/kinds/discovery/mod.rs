//! Kinds of the group `discovery.k8s.io`: where Services lead (upstream: `pkg/apis/discovery`,
//! `pkg/registry/discovery`).

mod endpoint_slice;

use super::kind::Group;

pub(crate) const GROUP: Group = Group { name: "discovery.k8s.io", versions: &[("v1", &[endpoint_slice::KIND])] };
