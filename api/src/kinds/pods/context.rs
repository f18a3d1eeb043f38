//! What the rules for containers know of their pod (upstream: `PodValidationOptions`).

use std::collections::HashSet;

use super::volumes;

/// What containers of a pod refer to, and what their pod is like.
pub(crate) struct Context<'a> {
    pub(crate) volumes: &'a volumes::Names<'a>,
    pub(crate) claims: &'a HashSet<&'a str>,
    pub(crate) restart_policy: &'a str,
    /// The seconds that the pod's containers get to end.
    pub(crate) grace: Option<i64>,
    /// Whether the pod shares the users of its node.
    pub(crate) host_users: bool,
    /// Pods themselves are held to more than pod templates.
    pub(crate) is_pod: bool,
}
