//! Workloads (upstream: `pkg/registry/scheduling/workload`; KEP-4671).

use crate::kinds::kind::Kind;

pub(crate) const KIND: Kind = Kind { has_generation: true, ..Kind::namespaced("workloads", "Workload") };
