//! How much this server prefers its own groups and versions (upstream's `apiVersionPriorities`).

/// How much a group, and a version in its group, is preferred: `groupPriorityMinimum` and `versionPriority`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Priority {
    pub(super) group: i64,
    pub(super) version: i64,
}

/// That of custom resources.
pub(super) const CUSTOM: Priority = Priority { group: 1000, version: 100 };

/// The group of APIServices comes first, whatever an APIService says.
pub(super) const REGISTRATION: &str = "apiregistration.k8s.io";
pub(super) const FIRST: Priority = Priority { group: 20_001, version: 0 };

/// A group, its priority, and those of its versions.
type Row = (&'static str, i64, &'static [(&'static str, i64)]);

const BUILT_IN: &[Row] = &[
    ("", 18_000, &[("v1", 1)]),
    ("apps", 17_800, &[("v1", 15)]),
    ("events.k8s.io", 17_750, &[("v1", 15)]),
    ("authentication.k8s.io", 17_700, &[("v1", 15)]),
    ("authorization.k8s.io", 17_600, &[("v1", 15)]),
    ("autoscaling", 17_500, &[("v2", 30), ("v1", 15)]),
    ("batch", 17_400, &[("v1", 15)]),
    ("certificates.k8s.io", 17_300, &[("v1", 15), ("v1beta1", 9), ("v1alpha1", 1)]),
    ("networking.k8s.io", 17_200, &[("v1", 15), ("v1beta1", 9)]),
    ("policy", 17_100, &[("v1", 15)]),
    ("rbac.authorization.k8s.io", 17_000, &[("v1", 15)]),
    ("storage.k8s.io", 16_800, &[("v1", 15), ("v1beta1", 9)]),
    ("admissionregistration.k8s.io", 16_700, &[("v1", 15), ("v1beta1", 12), ("v1alpha1", 9)]),
    ("apiextensions.k8s.io", 16_700, &[("v1", 15)]),
    ("scheduling.k8s.io", 16_600, &[("v1", 15), ("v1alpha2", 9)]),
    ("coordination.k8s.io", 16_500, &[("v1", 15), ("v1beta1", 13), ("v1alpha2", 12)]),
    ("node.k8s.io", 16_300, &[("v1", 15)]),
    ("discovery.k8s.io", 16_200, &[("v1", 15)]),
    ("resource.k8s.io", 16_200, &[("v1", 20), ("v1beta2", 15), ("v1beta1", 9), ("v1alpha3", 1)]),
    ("flowcontrol.apiserver.k8s.io", 16_100, &[("v1", 21)]),
    ("internal.apiserver.k8s.io", 16_000, &[("v1alpha1", 9)]),
    ("storagemigration.k8s.io", 15_800, &[("v1beta1", 9)]),
];

/// The priority of a built-in version that has an APIService.
pub(super) fn built_in(group: &str, version: &str) -> Option<Priority> {
    let (_, priority, versions) = BUILT_IN.iter().find(|(name, ..)| *name == group)?;
    let (_, version) = versions.iter().find(|(name, _)| *name == version)?;
    Some(Priority { group: *priority, version: *version })
}

/// The priority of a version that no APIService is about.
pub(super) fn otherwise(group: &str, version: &str) -> Priority {
    match group {
        // That of the metrics-server's APIService: somebody else may serve it.
        "metrics.k8s.io" => Priority { group: 100, version: 100 },
        _ => built_in(group, version).unwrap_or(CUSTOM),
    }
}
