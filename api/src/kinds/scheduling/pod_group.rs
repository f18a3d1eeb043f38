//! PodGroups (upstream: `pkg/registry/scheduling/podgroup`; KEP-4671).

use crate::kinds::kind::{Kind, Sub};

pub(crate) const KIND: Kind =
    Kind { subresources: &[Sub::STATUS], has_generation: true, ..Kind::namespaced("podgroups", "PodGroup") };
