//! The catalog: every resource that the server serves, built-in and custom, as rows of one table.

mod builtin;
pub(crate) mod convert;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use crate::object::Object;
use crate::resource::{Resource, Text};
use crate::status::ApiError;

pub use crate::schema::builtin::builtin as builtin_schemas;

/// An immutable table of resources. Cheap to clone; a changed table is a new value that shares its rows with the old.
#[derive(Clone, Debug)]
pub struct Catalog(Arc<Table>);

#[derive(Debug, Default)]
struct Table {
    /// In the order of discovery.
    rows: Vec<Arc<Resource>>,
    by_plural: HashMap<Text, Vec<usize>>,
    by_kind: HashMap<Text, Vec<usize>>,
}

impl Catalog {
    /// The built-in resources that are served when nobody asks for more: all stable versions. Made once.
    pub fn builtin() -> Self {
        static BUILTIN: OnceLock<Catalog> = OnceLock::new();
        BUILTIN.get_or_init(|| Self::everything().only(|_, version| is_stable(version))).clone()
    }

    /// All built-in resources, alpha and beta versions included.
    pub fn everything() -> Self {
        static EVERYTHING: OnceLock<Catalog> = OnceLock::new();
        EVERYTHING.get_or_init(|| Self::of(builtin::rows().collect())).clone()
    }

    /// This table with the resource metrics (`metrics.k8s.io`), which only a server has that can ask kubelets.
    #[must_use]
    pub fn with_resource_metrics(&self) -> Self {
        self.with(builtin::optional())
    }

    /// The rows of the groups and versions that `serves` picks (`--runtime-config`).
    #[must_use]
    pub fn only(&self, serves: impl Fn(&str, &str) -> bool) -> Self {
        Self::of(self.iter().filter(|row| serves(&row.group, &row.version)).cloned().collect())
    }

    /// The same rows for a server that has `PodGroup`s, which pods may name.
    #[must_use]
    pub fn with_pod_groups(&self) -> Self {
        Self::of(self.iter().map(|row| builtin::with_groups(row).unwrap_or_else(|| Arc::clone(row))).collect())
    }

    /// A table of these rows, in this order.
    pub fn of(rows: Vec<Arc<Resource>>) -> Self {
        let mut table = Table::default();
        for (at, row) in rows.iter().enumerate() {
            table.by_plural.entry(row.plural.clone()).or_default().push(at);
            table.by_kind.entry(row.kind.clone()).or_default().push(at);
        }
        table.rows = rows;
        Self(Arc::new(table))
    }

    /// This table with `rows` after its own.
    #[must_use]
    pub fn with(&self, rows: impl IntoIterator<Item = Arc<Resource>>) -> Self {
        Self::of(self.0.rows.iter().cloned().chain(rows).collect())
    }

    /// This table without the rows of a resource, whatever their version.
    #[must_use]
    pub fn without(&self, group: &str, plural: &str) -> Self {
        Self::of(self.0.rows.iter().filter(|row| row.group != group || row.plural != plural).cloned().collect())
    }

    /// Whether the other is this very table.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The row of a resource in a version.
    pub fn resource(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        let rows = self.0.by_plural.get(plural)?;
        rows.iter().map(|at| &self.0.rows[*at]).find(|row| row.group == group && row.version == version)
    }

    /// The row of a kind in a version.
    pub fn kind(&self, group: &str, version: &str, kind: &str) -> Option<&Arc<Resource>> {
        let rows = self.0.by_kind.get(kind)?;
        rows.iter().map(|at| &self.0.rows[*at]).find(|row| row.group == group && row.version == version)
    }

    /// All versions of a resource, the preferred one first.
    pub fn versions(&self, group: &str, plural: &str) -> impl Iterator<Item = &Arc<Resource>> {
        let rows = self.0.by_plural.get(plural).into_iter().flatten();
        rows.map(|at| &self.0.rows[*at]).filter(move |row| row.group == group)
    }

    /// The row in whose version the objects of `resource` are stored.
    pub fn storage_row<'a>(&'a self, resource: &'a Arc<Resource>) -> &'a Arc<Resource> {
        self.resource(&resource.storage_group, &resource.storage_version, &resource.plural).unwrap_or(resource)
    }

    /// All rows, in the order of discovery.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.0.rows.iter()
    }

    /// Groups with their versions, in the order of discovery: the first version is the preferred one.
    pub fn groups(&self) -> Vec<Group<'_>> {
        let mut groups: Vec<Group<'_>> = Vec::new();
        for row in self.iter() {
            let at = groups.iter().position(|group| group.name == row.group).unwrap_or_else(|| {
                groups.push(Group { name: &row.group, versions: Vec::new() });
                groups.len() - 1
            });
            if !groups[at].versions.contains(&row.version.as_ref()) {
                groups[at].versions.push(&row.version);
            }
        }
        groups
    }

    /// The rows of one group and version.
    pub fn group_version<'a>(&'a self, group: &'a str, version: &'a str) -> impl Iterator<Item = &'a Arc<Resource>> {
        self.iter().filter(move |row| row.group == group && row.version == version)
    }

    /// An object of version `from` as one of version `to` of the same resource (or of the other group that shares its
    /// storage). Custom resources with a conversion webhook are not converted here.
    pub fn convert(&self, from: &Resource, to: &Resource, object: Object) -> Result<Object, ApiError> {
        convert::convert(from, to, object)
    }
}

/// Whether a version is neither alpha nor beta: `v1`, `v2`.
pub fn is_stable(version: &str) -> bool {
    !version.contains("alpha") && !version.contains("beta")
}

/// A group and its versions, the preferred one first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group<'a> {
    pub name: &'a str,
    pub versions: Vec<&'a str>,
}
