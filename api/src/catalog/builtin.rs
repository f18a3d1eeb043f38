//! The built-in resources: a row for each kind in each version, in the order of discovery.

use std::sync::Arc;

use crate::kinds::kind::{Field, Group, Kind, Sub};
use crate::kinds::{GROUPS, OPTIONAL};
use crate::resource::{Columns, Resource, Text};
use crate::schema::Whole;
use crate::schema::builtin::builtin;

/// The kinds of [`GROUPS`] as resources.
pub(super) fn rows() -> impl Iterator<Item = Arc<Resource>> {
    rows_of(GROUPS)
}

/// The kinds of [`OPTIONAL`] as resources.
pub(super) fn optional() -> impl Iterator<Item = Arc<Resource>> {
    rows_of(OPTIONAL)
}

fn rows_of(groups: &'static [Group]) -> impl Iterator<Item = Arc<Resource>> {
    groups.iter().flat_map(|group| {
        let versions = group.versions.iter();
        versions.flat_map(|(version, kinds)| kinds.iter().map(|kind| Arc::new(resource(group.name, version, kind))))
    })
}

/// The same row for a server that has `PodGroup`s; `None` when that makes no difference.
pub(super) fn with_groups(row: &Resource) -> Option<Arc<Resource>> {
    let group = GROUPS.iter().find(|group| row.group == group.name)?;
    let (version, kinds) = group.versions.iter().find(|(version, _)| row.version == *version)?;
    let kind = kinds.iter().find(|kind| row.plural == kind.plural && !kind.gated.is_empty())?;
    Some(Arc::new(resource(group.name, version, &Kind { has_groups: true, ..*kind })))
}

fn resource(group: &'static str, version: &'static str, kind: &Kind) -> Resource {
    let schemas = builtin();
    let schema = schemas.kind(group, version, kind.kind).expect("every kind has a definition");
    let borrowed = |texts: &'static [&'static str]| texts.iter().map(|text| Text::Borrowed(*text)).collect();
    Resource {
        group: group.into(),
        version: version.into(),
        plural: kind.plural.into(),
        singular: kind.singular.map_or_else(|| kind.kind.to_lowercase().into(), Text::Borrowed),
        kind: kind.kind.into(),
        list_kind: format!("{}List", kind.kind).into(),
        short_names: borrowed(kind.short_names),
        categories: borrowed(kind.categories),
        namespaced: kind.namespaced,
        verbs: kind.verbs.to_vec(),
        subresources: kind.subresources.iter().map(Sub::subresource).collect(),
        storage_group: kind.storage_group.unwrap_or(group).into(),
        storage_version: kind.storage_version.unwrap_or(version).into(),
        hash_version: kind.hash_version.map(Text::Borrowed),
        storage_prefix: kind.prefix.unwrap_or(kind.plural).into(),
        schema: Whole::known(schemas.schemas(), schema.id()),
        selectable_fields: kind.fields.iter().map(Field::selectable).collect(),
        has_generation: kind.has_generation,
        strategy: Arc::new(*kind),
        columns: if kind.cells.is_empty() { Columns::Default } else { Columns::BuiltIn(kind.cells) },
        deprecation: kind.deprecation.map(Text::Borrowed),
        custom: None,
    }
}
