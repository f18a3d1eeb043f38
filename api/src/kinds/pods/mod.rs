//! What all kinds with pods in them share: defaults, rules and warnings of pod specs (upstream: the parts of
//! `pkg/apis/core` about `PodSpec`, and `pkg/api/pod`).

pub(crate) mod affinity;
pub(crate) mod annotations;
pub(crate) mod containers;
pub(crate) mod context;
pub(crate) mod defaults;
pub(crate) mod environment;
pub(crate) mod fields;
pub(crate) mod gates;
pub(crate) mod probes;
pub(crate) mod requirements;
pub(crate) mod resources;
pub(crate) mod security;
pub(crate) mod shown;
pub(crate) mod spec;
pub(crate) mod volumes;
pub(crate) mod warn;
pub(crate) mod windows;
pub(crate) mod workload;
