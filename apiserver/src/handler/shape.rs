//! The shape of answers: the object or list itself, a table, or only metadata.

use std::sync::Arc;

use api::resource::split_api_version;
use api::{ApiError, Object, Resource, table};
use bytes::Bytes;
use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::Routed;
use crate::negotiate::{Accept, Encoding, MetaVersion, Shape};
use crate::options::DeleteOptions;
use crate::registry::{Deleted, List, Registry, Written};
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
    row: Arc<Resource>,
    stored: Arc<Resource>,
    registry: Arc<Registry>,
    /// Only the first table of a watch names its columns.
    columns_sent: bool,
    /// An object could not be shown.
    pub(super) failed: bool,
}

impl Shaper {
    pub(super) fn of(routed: &Routed<'_>) -> Result<Self, ApiError> {
        let is_table = matches!(routed.accept.shape, Shape::Table(_));
        let include = match routed.call.query.get("includeObject") {
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
            accept: routed.accept,
            include,
            row: routed.row.clone(),
            stored: routed.cache.row().clone(),
            registry: routed.call.core.registry.clone(),
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
        if self.row.is_custom() {
            split_api_version(cached.api_version()).is_some_and(|(_, version)| version == self.row.version)
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

    fn is_stored_version(&self) -> bool {
        self.row.group == self.stored.group && self.row.version == self.stored.version
    }

    fn is_plain_json(&self) -> bool {
        self.accept.encoding == Encoding::Json && !self.accept.pretty
    }

    /// Stored objects in the version of the path.
    async fn versions(&self, objects: Vec<Object>) -> Result<Vec<Object>, ApiError> {
        if self.is_stored_version() && !self.row.is_custom() {
            return Ok(objects);
        }
        self.registry.convert(&self.stored, &self.row, objects).await
    }

    /// A written object in the version of the path; custom ones are in that already.
    async fn version(&self, object: Object) -> Result<Object, ApiError> {
        if self.is_stored_version() || self.row.is_custom() {
            return Ok(object);
        }
        self.registry.convert_one(&self.stored, &self.row, object).await
    }

    /// One object in its shape.
    pub(super) fn shaped(&mut self, object: &Object) -> Result<Value, ApiError> {
        match self.accept.shape {
            Shape::Object => Ok(object.to_value()),
            Shape::PartialMetadata(version) => Ok(partial(&self.row, object, version)),
            Shape::PartialMetadataList(_) => Err(ApiError::not_acceptable(format!(
                "you requested PartialObjectMetadataList, but the requested object is not a list (*{})",
                go_type(&self.row, &self.row.kind)
            ))),
            Shape::Table(version) => {
                let metadata = json!({"resourceVersion": object.resource_version()});
                Ok(self.table(std::iter::once(object), metadata, version))
            }
        }
    }

    /// The object of a watch event.
    pub(super) async fn event_object(&mut self, cached: &Cached) -> Result<Value, ApiError> {
        let mut object = cached.object();
        if !self.is_in_version(cached) {
            object = self.registry.convert_one(&self.stored, &self.row, object).await?;
        }
        self.shaped(&object)
    }

    fn table<'o>(&mut self, objects: impl Iterator<Item = &'o Object>, metadata: Value, version: MetaVersion) -> Value {
        let now = Timestamp::now();
        let rows: Vec<Value> = objects
            .map(|object| {
                let cells = table::cells(&self.row, object, now);
                match self.include {
                    Include::Nothing => json!({"cells": cells, "object": null}),
                    Include::Metadata => json!({"cells": cells, "object": partial(&self.row, object, version)}),
                    Include::Object => json!({"cells": cells, "object": object.to_value()}),
                }
            })
            .collect();
        let columns = if std::mem::replace(&mut self.columns_sent, true) {
            Value::Null
        } else {
            table::columns(&self.row).iter().map(table::Column::to_value).collect()
        };
        json!({
            "kind": "Table", "apiVersion": version.api_version(), "metadata": metadata,
            "columnDefinitions": columns, "rows": rows,
        })
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
fn go_type(row: &Resource, kind: &str) -> String {
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
    let in_version = shaper.row.is_custom() || shaper.is_stored_version();
    if in_version && shaper.accept.shape == Shape::Object && shaper.is_plain_json() {
        return Ok(response::json_bytes(status, written.bytes.clone()));
    }
    let object = shaper.version(written.object.clone()).await?;
    let tree = shaper.shaped(&object)?;
    Ok(response::value(status, routed.accept, &tree))
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
        Deleted::Gone(object) if routed.row.strategy.delete_returns_object() => {
            let mut shaper = Shaper::of(routed)?;
            let object = shaper.version(object.clone()).await?;
            let tree = shaper.shaped(&object)?;
            Ok(response::value(StatusCode::OK, routed.accept, &tree))
        }
        Deleted::Gone(object) => {
            let mut details = json!({"name": object.name(), "kind": routed.row.plural, "uid": object.uid()});
            if !routed.row.group.is_empty() {
                details["group"] = routed.row.group.as_ref().into();
            }
            Ok(response::value(StatusCode::OK, routed.accept, &response::success(details)))
        }
    }
}

/// A list.
pub(super) async fn list(routed: &Routed<'_>, list: &List) -> Result<Answer, ApiError> {
    let mut shaper = Shaper::of(routed)?;
    let custom = routed.row.is_custom();
    let metadata = list_metadata(list, custom && shaper.accept.shape == Shape::Object);
    match shaper.accept.shape {
        Shape::Object if list.items.iter().all(|cached| shaper.is_plain(cached)) && shaper.is_plain_json() => {
            Ok(response::json_bytes(StatusCode::OK, concatenated(routed, list, &metadata, custom)))
        }
        Shape::Object => {
            let objects = shaper.versions(objects(list)).await?;
            let items: Vec<Value> = objects.into_iter().map(|object| item(object, custom)).collect();
            let row = &routed.row;
            let tree =
                json!({"kind": row.list_kind, "apiVersion": row.api_version(), "metadata": metadata, "items": items});
            Ok(response::value(StatusCode::OK, routed.accept, &tree))
        }
        Shape::PartialMetadataList(version) => {
            let items: Vec<Value> =
                list.items.iter().map(|cached| partial(&routed.row, &cached.object(), version)).collect();
            let items = if items.is_empty() { Value::Null } else { Value::Array(items) };
            let tree = json!({
                "kind": "PartialObjectMetadataList", "apiVersion": version.api_version(), "metadata": metadata, "items": items,
            });
            Ok(response::value(StatusCode::OK, routed.accept, &tree))
        }
        Shape::PartialMetadata(_) => Err(ApiError::not_acceptable(format!(
            "you requested PartialObjectMetadata, but the requested object is a list (*{})",
            go_type(&routed.row, &routed.row.list_kind)
        ))),
        Shape::Table(version) => {
            let objects = shaper.versions(objects(list)).await?;
            let tree = shaper.table(objects.iter(), metadata, version);
            Ok(response::value(StatusCode::OK, routed.accept, &tree))
        }
    }
}

fn objects(list: &List) -> Vec<Object> {
    list.items.iter().map(|cached| cached.object()).collect()
}

fn item(mut object: Object, custom: bool) -> Value {
    if !custom {
        object.root_mut().remove("kind");
        object.root_mut().remove("apiVersion");
    }
    object.into_value()
}

/// The metadata of a list. Lists of custom objects always say where they go on.
fn list_metadata(list: &List, says_continue: bool) -> Value {
    let mut metadata = Map::new();
    if says_continue {
        metadata.insert("continue".into(), "".into());
    }
    metadata.insert("resourceVersion".into(), list.revision.to_string().into());
    if let Some(token) = &list.continuation {
        metadata.insert("continue".into(), token.as_str().into());
    }
    if let Some(remaining) = list.remaining {
        metadata.insert("remainingItemCount".into(), remaining.into());
    }
    Value::Object(metadata)
}

/// The list as JSON, out of the bytes of its items. Items of built-in kinds do not repeat kind and version.
fn concatenated(routed: &Routed<'_>, list: &List, metadata: &Value, custom: bool) -> Bytes {
    let row = &routed.row;
    let head =
        format!(r#"{{"kind":"{}","apiVersion":"{}","metadata":{metadata},"items":["#, row.list_kind, row.api_version());
    let size: usize = list.items.iter().map(|cached| cached.size() + 2).sum();
    let mut out = Vec::with_capacity(head.len() + size + 8);
    out.extend_from_slice(head.as_bytes());
    for (at, cached) in list.items.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        if custom {
            cached.write(&mut out);
        } else {
            out.push(b'{');
            cached.write_item(&mut out);
        }
    }
    out.extend_from_slice(b"]}\n");
    out.into()
}
