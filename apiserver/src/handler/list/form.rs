//! One item of a list in the shape and encoding that its client asked for.

use std::sync::Arc;

use api::catalog::Catalog;
use api::codec::protobuf;
use api::{ApiError, Object, Resource, table};
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::LARGE;
use super::envelope::{self, Envelope, INDENT};
use crate::call::Routed;
use crate::handler::encode::{Shaper, go_type};
use crate::registry::List;
use crate::request::negotiate::{Accept, Encoding, Shape};
use crate::watch_cache::Cached;

/// How the items of one list are written.
pub(super) struct Form {
    shaper: Shaper,
    accept: Accept,
    client_row: Arc<Resource>,
    stored_row: Arc<Resource>,
    catalog: Catalog,
    /// All fields but the items, in order.
    fields: Map<String, Value>,
    /// The name of the field with the items.
    name: &'static str,
    /// Whether the bytes of the cache are the items.
    is_plain: bool,
    protobuf: Option<protobuf::Items>,
    /// What ages are counted to.
    began: Timestamp,
}

impl Form {
    pub(super) fn of(routed: &Routed<'_>, shaper: Shaper, list: &List) -> Result<Self, ApiError> {
        let row = &routed.client_row;
        let custom = row.is_custom();
        let shape = routed.accept.shape;
        let metadata = metadata(list, custom && shape == Shape::Object);
        let (fields, name) = match shape {
            Shape::Object => {
                (json!({"kind": row.list_kind, "apiVersion": row.api_version(), "metadata": metadata}), "items")
            }
            Shape::PartialMetadataList(version) => {
                let kind = "PartialObjectMetadataList";
                (json!({"kind": kind, "apiVersion": version.api_version(), "metadata": metadata}), "items")
            }
            Shape::Table(version) => {
                let columns: Value = table::columns(row).iter().map(table::Column::to_value).collect();
                let version = version.api_version();
                let fields = json!({
                    "kind": "Table", "apiVersion": version, "metadata": metadata, "columnDefinitions": columns,
                });
                (fields, "rows")
            }
            Shape::PartialMetadata(_) => {
                let what = go_type(row, &row.list_kind);
                let why = format!("you requested PartialObjectMetadata, but the requested object is a list (*{what})");
                return Err(ApiError::not_acceptable(why));
            }
        };
        let Value::Object(fields) = fields else { return Err(ApiError::internal("a list is an object")) };
        let is_plain = shape == Shape::Object
            && shaper.is_plain_json()
            && (!custom || list.items.iter().all(|cached| shaper.is_plain(cached)))
            && (custom || shaper.is_stored_version());
        let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or("");
        let protobuf = match routed.accept.encoding {
            Encoding::Protobuf => {
                Some(protobuf::Items::of(text("apiVersion"), text("kind")).map_err(ApiError::internal)?)
            }
            _ => None,
        };
        Ok(Self {
            shaper,
            accept: routed.accept,
            client_row: row.clone(),
            stored_row: routed.stored_row().clone(),
            catalog: routed.call.core.registry.catalog(),
            fields,
            name,
            is_plain,
            protobuf,
            began: Timestamp::now(),
        })
    }

    /// What goes around the items; that of a protobuf list must know how long they are.
    pub(super) fn envelope(&self, items: Option<u64>) -> Result<Envelope, ApiError> {
        if self.is_plain {
            let field = |name: &str| self.fields.get(name).unwrap_or(&Value::Null);
            let head = format!(
                r#"{{"kind":{},"apiVersion":{},"metadata":{},"items":["#,
                field("kind"),
                field("apiVersion"),
                field("metadata")
            );
            return Ok(Envelope { head: head.into_bytes(), tail: b"]}\n".to_vec() });
        }
        match (self.accept.encoding, &self.protobuf) {
            (Encoding::Protobuf, Some(kind)) => {
                let list = Value::Object(self.fields.clone());
                let head = kind.head(&list, items.unwrap_or(0)).map_err(ApiError::internal)?;
                Ok(Envelope { head, tail: protobuf::Items::tail() })
            }
            (Encoding::Yaml, _) => Ok(envelope::yaml(&self.fields, self.name)),
            _ if self.accept.pretty => Ok(envelope::pretty(&self.fields, self.name)),
            _ => Ok(envelope::json(&self.fields, self.name)),
        }
    }

    /// What goes behind the head when there are no items, given what goes behind items.
    pub(super) fn empty(&self, mut envelope: Envelope) -> Envelope {
        let is_null = matches!(self.accept.shape, Shape::PartialMetadataList(_));
        let (encoding, pretty) = (self.accept.encoding, self.accept.pretty);
        let word = if is_null { "null" } else { "[]" };
        match encoding {
            Encoding::Protobuf => {}
            Encoding::Yaml => envelope.head.extend_from_slice(format!(" {word}\n").as_bytes()),
            Encoding::Json => {
                // The brackets go.
                let opened = envelope.head.pop();
                debug_assert_eq!(opened, Some(b'['));
                envelope.head.extend_from_slice(word.as_bytes());
                let closed = if pretty && !self.is_plain { "\n  ]".len() } else { "]".len() };
                envelope.tail.drain(..closed);
            }
        }
        envelope
    }

    /// Writes an object of the cache. `is_first` if nothing goes before it.
    pub(super) fn write(&self, cached: &Cached, is_first: bool, out: &mut Vec<u8>) -> Result<(), ApiError> {
        if !self.is_plain {
            let object = if is_metadata(self.accept.shape) { cached.without_content() } else { cached.object() };
            return self.write_tree(&self.tree(self.version(object)?), is_first, out);
        }
        if !is_first {
            out.push(b',');
        }
        if self.client_row.is_custom() {
            cached.write(out);
        } else {
            // Items of built-in kinds do not repeat kind and version.
            out.push(b'{');
            cached.write_item(out);
        }
        Ok(())
    }

    /// Whether an object is so large that its bytes in the cache are sent, and no copy.
    pub(super) fn shares(&self, cached: &Cached) -> bool {
        self.is_plain && cached.size() >= LARGE
    }

    /// As [`Self::write`], of an object that is shared: returns what goes on behind what it writes.
    pub(super) fn begin(&self, cached: &Cached, is_first: bool, out: &mut Vec<u8>) -> Bytes {
        if !is_first {
            out.push(b',');
        }
        let is_item = !self.client_row.is_custom();
        if is_item {
            out.push(b'{');
        }
        cached.begin(is_item, out)
    }

    /// Writes an object that is in the version of the path.
    pub(super) fn write_object(&self, object: Object, is_first: bool, out: &mut Vec<u8>) -> Result<(), ApiError> {
        self.write_tree(&self.tree(object), is_first, out)
    }

    /// How long the encoded item is.
    pub(super) fn encoded_size(&self, cached: &Cached) -> Result<u64, ApiError> {
        let is_known = self.accept.shape == Shape::Object && self.shaper.is_stored_version();
        if let Some(size) = cached.encoded_size().filter(|_| is_known) {
            return Ok(size.into());
        }
        let mut out = Vec::new();
        self.write(cached, true, &mut out)?;
        if is_known {
            cached.note_encoded_size(out.len());
        }
        Ok(out.len() as u64)
    }

    /// An object of the cache in the version of the path.
    fn version(&self, object: Object) -> Result<Object, ApiError> {
        let elsewhere = || self.client_row.custom.as_ref().is_some_and(|custom| custom.is_converted_elsewhere());
        if is_metadata(self.accept.shape)
            || (self.shaper.is_stored_version() && !self.client_row.is_custom())
            || elsewhere()
        {
            return Ok(object);
        }
        self.catalog.convert(&self.stored_row, &self.client_row, object)
    }

    fn tree(&self, mut object: Object) -> Value {
        match self.accept.shape {
            Shape::Table(version) => self.shaper.table_row(&object, version, self.began),
            Shape::PartialMetadataList(version) => self.shaper.partial(&object, version),
            Shape::Object | Shape::PartialMetadata(_) => {
                if !self.client_row.is_custom() {
                    object.root_mut().remove("kind");
                    object.root_mut().remove("apiVersion");
                }
                object.into_value()
            }
        }
    }

    fn write_tree(&self, item: &Value, is_first: bool, out: &mut Vec<u8>) -> Result<(), ApiError> {
        match (self.accept.encoding, &self.protobuf) {
            (Encoding::Protobuf, Some(kind)) => kind.write(item, out).map_err(ApiError::internal)?,
            (Encoding::Yaml, _) => {
                if is_first {
                    out.push(b'\n');
                }
                let text = envelope::in_yaml(&json!({ "a": [item] }));
                out.extend_from_slice(text.strip_prefix("a:\n").unwrap_or(&text).as_bytes());
            }
            _ => {
                if !is_first {
                    out.push(b',');
                }
                if self.accept.pretty {
                    out.extend_from_slice(format!("\n{INDENT}").as_bytes());
                    out.extend_from_slice(envelope::indented(item, INDENT).as_bytes());
                } else {
                    serde_json::to_writer(out, item).expect("JSON trees with string keys always serialise");
                }
            }
        }
        Ok(())
    }
}

/// The metadata of a list. Lists of custom objects always say where they go on.
fn metadata(list: &List, says_continue: bool) -> Value {
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

/// Whether objects are shown without what is not metadata, which no version differs in.
pub(super) fn is_metadata(shape: Shape) -> bool {
    matches!(shape, Shape::PartialMetadataList(_))
}
