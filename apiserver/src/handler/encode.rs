//! The shape of answers: the object or list itself, a table, or only metadata. Upstream: `handlers/response.go`.

use std::sync::Arc;

use api::resource::split_api_version;
use api::{ApiError, Object, Resource, table};
use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::call::{Call, Routed};
use crate::registry::{Deleted, Registry, Written};
use crate::request::negotiate::{Accept, Encoding, MetaVersion, Shape};
use crate::request::options::DeleteOptions;
use crate::response::{self, Answer};
use crate::watch_cache::Cached;

/// How much of each object a table row carries (`includeObject`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Include {
    Nothing,
    Metadata,
    Object,
}

/// Makes answers in the shape and version that a client asked for.
pub(super) struct Shaper {
    accept: Accept,
    include: Include,
    client_row: Arc<Resource>,
    stored_row: Arc<Resource>,
    registry: Arc<Registry>,
    /// Only the first table of a watch names its columns.
    columns_sent: bool,
    /// An object could not be shown.
    pub(super) failed: bool,
}

impl Shaper {
    pub(super) fn of(routed: &Routed<'_>) -> Result<Self, ApiError> {
        Self::new(routed.call, routed.accept, &routed.client_row, routed.stored_row())
    }

    fn new(
        call: &Call<'_>,
        accept: Accept,
        client_row: &Arc<Resource>,
        stored_row: &Arc<Resource>,
    ) -> Result<Self, ApiError> {
        let is_table = matches!(accept.shape, Shape::Table(_));
        let include = match call.query.get("includeObject") {
            Some("None") => Include::Nothing,
            Some("Object") => Include::Object,
            None | Some("" | "Metadata") => Include::Metadata,
            Some(_) if !is_table => Include::Metadata,
            Some(other) => {
                let why = "must be 'Metadata', 'Object', 'None', or empty";
                return Err(ApiError::bad_request(format!(
                    "Unable to convert to Table as requested: includeObject: Invalid value: {other:?}: {why}"
                )));
            }
        };
        Ok(Self {
            accept,
            include,
            client_row: client_row.clone(),
            stored_row: stored_row.clone(),
            registry: call.core.registry.clone(),
            columns_sent: false,
            failed: false,
        })
    }

    /// Whether the cached bytes are the answer.
    pub(super) fn is_plain(&self, cached: &Cached) -> bool {
        self.accept.shape == Shape::Object && self.is_plain_json() && self.is_in_version(cached)
    }

    /// Whether a cached object is in the version of the path. Custom objects may have been stored in any version.
    fn is_in_version(&self, cached: &Cached) -> bool {
        if self.client_row.is_custom() {
            split_api_version(cached.api_version()).is_some_and(|(_, version)| version == self.client_row.version)
        } else {
            self.is_stored_version()
        }
    }

    /// Whether the protobuf frames that the events of the cache keep are the answer.
    pub(super) fn is_shared_protobuf(&self) -> bool {
        self.accept.encoding == Encoding::Protobuf && self.accept.shape == Shape::Object && self.is_stored_version()
    }

    pub(super) fn encoding(&self) -> Encoding {
        self.accept.encoding
    }

    pub(super) fn is_stored_version(&self) -> bool {
        self.client_row.group == self.stored_row.group && self.client_row.version == self.stored_row.version
    }

    pub(super) fn is_plain_json(&self) -> bool {
        self.accept.encoding == Encoding::Json && !self.accept.pretty
    }

    /// A written object in the version of the path; custom ones are in that already.
    async fn version(&self, object: Object) -> Result<Object, ApiError> {
        if self.is_stored_version() || self.client_row.is_custom() {
            return Ok(object);
        }
        self.registry.convert_one(&self.stored_row, &self.client_row, object).await
    }

    /// One object in its shape.
    pub(super) fn shaped(&mut self, object: &Object) -> Result<Value, ApiError> {
        match self.accept.shape {
            Shape::Object => Ok(object.to_value()),
            Shape::PartialMetadata(version) => Ok(self.partial(object, version)),
            Shape::PartialMetadataList(_) => Err(ApiError::not_acceptable(format!(
                "you requested PartialObjectMetadataList, but the requested object is not a list (*{})",
                go_type(&self.client_row, &self.client_row.kind)
            ))),
            Shape::Table(version) => {
                let metadata = json!({"resourceVersion": object.resource_version()});
                Ok(self.table(object, metadata, version))
            }
        }
    }

    /// The object of a watch event.
    pub(super) async fn event_object(&mut self, cached: &Cached) -> Result<Value, ApiError> {
        let is_in_version = self.is_in_version(cached);
        if let (Shape::PartialMetadata(version), true) = (&self.accept.shape, is_in_version) {
            return Ok(self.partial(&cached.without_content(), *version));
        }
        let mut object = cached.object();
        if !is_in_version {
            object = self.registry.convert_one(&self.stored_row, &self.client_row, object).await?;
        }
        self.shaped(&object)
    }

    fn table(&mut self, object: &Object, metadata: Value, version: MetaVersion) -> Value {
        let rows = [self.table_row(object, version, Timestamp::now())];
        let columns = if std::mem::replace(&mut self.columns_sent, true) {
            Value::Null
        } else {
            table::columns(&self.client_row).iter().map(table::Column::to_value).collect()
        };
        json!({
            "kind": "Table", "apiVersion": version.api_version(), "metadata": metadata,
            "columnDefinitions": columns, "rows": rows,
        })
    }

    /// One row of a table.
    pub(super) fn table_row(&self, object: &Object, version: MetaVersion, now: Timestamp) -> Value {
        let cells = table::cells(&self.client_row, object, now);
        match self.include {
            Include::Nothing => json!({"cells": cells, "object": null}),
            Include::Metadata => json!({"cells": cells, "object": self.partial(object, version)}),
            Include::Object => json!({"cells": cells, "object": object.to_value()}),
        }
    }

    /// The metadata of an object alone.
    pub(super) fn partial(&self, object: &Object, version: MetaVersion) -> Value {
        partial(&self.client_row, object, version)
    }
}

fn partial(row: &Resource, object: &Object, version: MetaVersion) -> Value {
    let mut tree = table::partial_metadata(object);
    if let Some(metadata) = tree["metadata"].as_object_mut() {
        row.strategy.metadata_alone(metadata);
    }
    tree["apiVersion"] = version.api_version().into();
    tree
}

/// The Go type that upstream's texts name.
pub(super) fn go_type(row: &Resource, kind: &str) -> String {
    let package = match row.group.as_ref() {
        "" | "events.k8s.io" => "core",
        group => group.split('.').next().unwrap_or(group),
    };
    format!("{package}.{kind}")
}

/// An object of the cache.
pub(super) async fn cached(routed: &Routed<'_>, status: StatusCode, cached: &Cached) -> Result<Answer, ApiError> {
    let mut shaper = Shaper::of(routed)?;
    if shaper.is_plain(cached) {
        return Ok(response::json_bytes(status, cached.bytes()));
    }
    let tree = shaper.event_object(cached).await?;
    Ok(response::value(status, routed.accept, &tree))
}

/// An object that was written.
pub(super) async fn written(routed: &Routed<'_>, status: StatusCode, written: &Written) -> Result<Answer, ApiError> {
    let mut shaper = Shaper::of(routed)?;
    let in_version = shaper.client_row.is_custom() || shaper.is_stored_version();
    if in_version && shaper.accept.shape == Shape::Object && shaper.is_plain_json() {
        return Ok(response::json_bytes(status, written.bytes.clone()));
    }
    let object = shaper.version(written.object.clone()).await?;
    let tree = shaper.shaped(&object)?;
    Ok(response::value(status, routed.accept, &tree))
}

/// An object that is made for the answer, and stored nowhere.
pub(crate) fn made(call: &Call<'_>, row: &Arc<Resource>, object: &Object) -> Result<Answer, ApiError> {
    let accept = call.accept(row)?;
    let tree = Shaper::new(call, accept, row, row)?.shaped(object)?;
    Ok(response::value(StatusCode::OK, accept, &tree))
}

/// A list of such objects.
pub(crate) fn made_list(call: &Call<'_>, row: &Arc<Resource>, objects: Vec<Object>) -> Result<Answer, ApiError> {
    let accept = call.accept(row)?;
    let shaper = Shaper::new(call, accept, row, row)?;
    let list = |kind: &str, version: &str, items: Vec<Value>| json!({"kind": kind, "apiVersion": version, "metadata": {}, "items": items});
    let tree = match accept.shape {
        Shape::Object => {
            let bare = |object: Object| {
                let mut item = object.into_value();
                item.as_object_mut().into_iter().for_each(|item| {
                    item.remove("kind");
                    item.remove("apiVersion");
                });
                item
            };
            list(&row.list_kind, &row.api_version(), objects.into_iter().map(bare).collect())
        }
        Shape::PartialMetadataList(version) => {
            let items = objects.iter().map(|object| shaper.partial(object, version)).collect();
            list("PartialObjectMetadataList", version.api_version(), items)
        }
        Shape::Table(version) => {
            let columns: Value = table::columns(row).iter().map(table::Column::to_value).collect();
            let now = Timestamp::now();
            let rows: Vec<Value> = objects.iter().map(|object| shaper.table_row(object, version, now)).collect();
            let version = version.api_version();
            json!({
                "kind": "Table", "apiVersion": version, "metadata": {}, "columnDefinitions": columns, "rows": rows,
            })
        }
        Shape::PartialMetadata(_) => {
            let what = go_type(row, &row.list_kind);
            let why = format!("you requested PartialObjectMetadata, but the requested object is a list (*{what})");
            return Err(ApiError::not_acceptable(why));
        }
    };
    Ok(response::value(StatusCode::OK, accept, &tree))
}

/// The answer to a delete.
pub(super) async fn deleted(
    routed: &Routed<'_>,
    options: &DeleteOptions,
    deleted: &Deleted,
) -> Result<Answer, ApiError> {
    match deleted {
        Deleted::Pending(object) => {
            let accepted = options.orphan_dependents == Some(false);
            written(routed, if accepted { StatusCode::ACCEPTED } else { StatusCode::OK }, object).await
        }
        Deleted::Gone(object) if routed.client_row.strategy.delete_returns_object() => {
            let mut shaper = Shaper::of(routed)?;
            let object = shaper.version(object.clone()).await?;
            let tree = shaper.shaped(&object)?;
            Ok(response::value(StatusCode::OK, routed.accept, &tree))
        }
        Deleted::Gone(object) => {
            let mut details = json!({"name": object.name(), "kind": routed.client_row.plural, "uid": object.uid()});
            if !routed.client_row.group.is_empty() {
                details["group"] = routed.client_row.group.as_ref().into();
            }
            Ok(response::value(StatusCode::OK, routed.accept, &response::success(details)))
        }
    }
}
