//! Which groups and versions go to which server: made of the APIServices, and looked into by every request. Upstream:
//! `APIAggregator`.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use api::catalog::{Catalog, Group};
use api::custom;
use serde_json::Value;

use super::backend::Backend;
use super::found::Shown;
use super::priorities::{FIRST, Priority, REGISTRATION, otherwise};
use super::whole::Memory;

/// All APIServices at one moment.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// By group and version.
    entries: HashMap<String, HashMap<String, Entry>>,
    has_claims: bool,
}

#[derive(Debug)]
struct Entry {
    priority: Priority,
    claim: Option<Arc<Claim>>,
}

/// A version that another server serves.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) backend: Arc<Backend>,
    /// What the server says that it serves.
    pub(super) shown: Arc<Shown>,
    /// What it has told of its version in the OpenAPI v2 document.
    pub(super) whole: Arc<Memory>,
    /// Whether its APIService has the condition `Available`.
    pub(crate) is_available: bool,
}

impl Claim {
    /// The entry of the version in aggregated discovery.
    pub(crate) fn entry(&self, version: &str) -> Value {
        self.shown.get().entry(version)
    }
}

impl Table {
    pub(super) fn add(&mut self, (group, version): (&str, &str), priority: Priority, claim: Option<Claim>) {
        self.has_claims |= claim.is_some();
        let entry = Entry { priority, claim: claim.map(Arc::new) };
        self.entries.entry(group.to_owned()).or_default().insert(version.to_owned(), entry);
    }

    fn entry(&self, group: &str, version: &str) -> Option<&Entry> {
        self.entries.get(group)?.get(version)
    }

    /// Whether other servers serve anything.
    pub(super) fn has_claims(&self) -> bool {
        self.has_claims
    }

    /// Who serves a version, if not this server.
    pub(crate) fn claim(&self, group: &str, version: &str) -> Option<&Arc<Claim>> {
        self.entry(group, version)?.claim.as_ref()
    }

    /// What the APIService of a version says, if there is one.
    pub(super) fn priority(&self, group: &str, version: &str) -> Option<Priority> {
        self.entry(group, version).map(|entry| entry.priority)
    }

    /// The groups and versions of other servers.
    pub(crate) fn claimed(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.entries.iter().flat_map(|(group, versions)| versions.iter().map(move |it| (group, it)));
        all.filter(|(_, (_, entry))| entry.claim.is_some())
            .map(|(group, (version, _))| (group.as_str(), version.as_str()))
    }

    /// The claims themselves.
    pub(crate) fn claims(&self) -> impl Iterator<Item = &Arc<Claim>> {
        self.entries.values().flat_map(HashMap::values).filter_map(|entry| entry.claim.as_ref())
    }
}

/// All groups and versions, those of other servers included, in the order of discovery (upstream's
/// `SortedByGroupAndVersion`).
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
        _ => table.priority(group, version).unwrap_or_else(|| otherwise(group, version)),
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
    use crate::aggregator::priorities::built_in;

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
