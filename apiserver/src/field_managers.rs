//! Who owns which field: `metadata.managedFields`, kept by every write.

use api::apply::{Writer, apply as api_apply, track_update};
use api::catalog::Catalog;
use api::{ApiError, Object, Resource, codec};
use jiff::Timestamp;

use crate::request::options::WriteOptions;

/// The manager of what the server writes.
const SELF: &str = "kube-apiserver";

fn writer<'a>(
    row: &'a Resource,
    api_version: &'a str,
    subresource: &'a str,
    manager: &'a str,
    now: Timestamp,
) -> Writer<'a> {
    let (status_apart, spec_apart) = (row.has_subresource("status"), !row.strategy.tracks_spec());
    Writer { manager, api_version, kind: &row.kind, subresource, status_apart, spec_apart, now }
}

/// The versions that a write involves: the client's, and the one that the registry works with.
#[derive(Clone, Copy)]
pub(crate) struct Versions<'a> {
    pub(crate) catalog: &'a Catalog,
    pub(crate) client_row: &'a Resource,
    pub(crate) working_row: &'a Resource,
}

/// Records who owns which field after a write, in the version that the client speaks. `current` is absent on create.
pub(crate) fn track(
    versions: Versions<'_>,
    subresource: &str,
    current: Option<&Object>,
    new: &mut Object,
    manager: &str,
    now: Timestamp,
) -> Result<(), ApiError> {
    let Versions { catalog, client_row, working_row } = versions;
    let api_version = client_row.api_version();
    let writer = writer(client_row, &api_version, subresource, manager, now);
    if client_row.group == working_row.group && client_row.version == working_row.version {
        track_update(current, new, client_row.schema(), &writer);
        return Ok(());
    }
    let shown = |object: &Object| -> Result<Object, ApiError> {
        let mut shown = catalog.convert(working_row, client_row, object.clone())?;
        codec::canonicalize(&mut shown, client_row.schema());
        Ok(shown)
    };
    let current = current.map(shown).transpose()?;
    let mut converted = shown(new)?;
    track_update(current.as_ref(), &mut converted, client_row.schema(), &writer);
    match converted.remove(&["metadata", "managedFields"]) {
        Some(managed) => new.set_metadata("managedFields", managed),
        None => {
            new.metadata_mut().remove("managedFields");
        }
    }
    Ok(())
}

/// Records what the server itself has changed in an object in its stored version.
pub(crate) fn track_own(row: &Resource, subresource: &str, before: &Object, new: &mut Object) {
    let api_version = row.api_version();
    track_update(Some(before), new, row.schema(), &writer(row, &api_version, subresource, SELF, Timestamp::now()));
}

/// Applies a configuration.
pub(crate) fn apply(
    row: &Resource,
    subresource: &str,
    live: Option<&Object>,
    configuration: &Object,
    options: &WriteOptions,
    now: Timestamp,
) -> Result<Object, ApiError> {
    let api_version = row.api_version();
    let writer = writer(row, &api_version, subresource, &options.field_manager, now);
    Ok(api_apply(live, configuration, row.schema(), &writer, options.force)?.object)
}
