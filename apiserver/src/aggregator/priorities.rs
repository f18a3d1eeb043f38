//! The order of groups and versions in discovery (upstream's `apiVersionPriorities`, `SortedByGroupAndVersion`).

use std::cmp::Reverse;

use api::catalog::{Catalog, Group};
use api::custom;

use super::table::Table;

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
const FIRST: Priority = Priority { group: 20_001, version: 0 };

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

/// All groups and versions, those of other servers included, in the order of discovery.
pub(crate) fn groups<'a>(catalog: &'a Catalog, table: &'a Table) -> Vec<Group<'a>> {
    let mut groups = catalog.groups();
    for (name, version) in table.claimed() {
        match groups.iter_mut().find(|group| group.name == name) {
            Some(group) if group.versions.contains(&version) => {}
            Some(group) => group.versions.push(version),
            None => groups.push(Group { name, versions: vec![version] }),
        }
    }
    let priority = |group: &str, version: &str| match group {
        REGISTRATION => FIRST,
        _ => table.priority(group, version).or_else(|| built_in(group, version)).unwrap_or(CUSTOM),
    };
    for group in &mut groups {
        let name = group.name;
        group.versions.sort_by_cached_key(|version| {
            (Reverse(priority(name, version).version), Reverse(custom::priority(version)))
        });
    }
    let highest =
        |group: &Group<'_>| group.versions.iter().map(|version| priority(group.name, version).group).max().unwrap_or(0);
    groups.sort_by_cached_key(|group| (Reverse(highest(group)), group.name));
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_version_has_its_place_and_the_order_is_that_of_the_catalog() {
        let catalog = Catalog::everything();
        for group in catalog.groups().iter().filter(|group| group.name != REGISTRATION) {
            for version in &group.versions {
                assert!(built_in(group.name, version).is_some(), "{}/{version}", group.name);
            }
        }
        let named = |groups: Vec<Group<'_>>| -> Vec<String> {
            let groups = groups.into_iter().filter(|group| !group.name.is_empty());
            groups.map(|group| format!("{} {:?}", group.name, group.versions)).collect()
        };
        assert_eq!(named(groups(&catalog, &Table::default())), named(catalog.groups()));
    }
}
