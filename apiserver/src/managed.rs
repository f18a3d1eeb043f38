//! Who owns which field: `metadata.managedFields`, kept by every write.

use api::apply::{Writer, apply as api_apply, track_update};
use api::{ApiError, Object, Resource};
use jiff::Timestamp;

use crate::options::WriteOptions;

fn writer<'a>(row: &'a Resource, api_version: &'a str, subresource: &'a str, manager: &'a str, now: Timestamp) -> Writer<'a> {
    Writer { manager, api_version, kind: &row.kind, subresource, status_apart: row.has_subresource("status"), now }
}

/// Records the owner of a new object's fields.
pub(crate) fn created(row: &Resource, subresource: &str, object: &mut Object, manager: &str, now: Timestamp) {
    let api_version = row.api_version();
    track_update(None, object, row.schema(), &writer(row, &api_version, subresource, manager, now));
}

/// Records the owner of the fields that an update or patch changes.
pub(crate) fn updated(row: &Resource, subresource: &str, current: &Object, new: &mut Object, manager: &str, now: Timestamp) {
    let api_version = row.api_version();
    track_update(Some(current), new, row.schema(), &writer(row, &api_version, subresource, manager, now));
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
