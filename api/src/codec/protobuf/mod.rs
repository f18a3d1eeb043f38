//! The protobuf encoding of Kubernetes: between its bytes and JSON trees, by a table of messages and without generated
//! types.
//!
//! ```text
//! "k8s\0"  Unknown { 1: TypeMeta { 1: apiVersion, 2: kind }, 2: raw, 3: contentEncoding, 4: contentType }
//!                                                            raw = the message of the kind
//! frame of a watch:  length (4 bytes, big endian)  WatchEvent { 1: type, 2: RawExtension { 1: "k8s\0" .. } }
//! ```
//!
//! The table (`data/protobuf.txt`) is read on first use. Unknown fields are skipped, as the reference server does. An
//! absent value and the zero of a field that is no pointer are the same: neither is in a tree that was decoded.

mod decode;
mod encode;
mod forms;
mod list;
mod table;
#[cfg(test)]
mod tests;
pub(crate) mod wire;

use serde_json::{Map, Value};

use super::json;
use crate::resource::{join_group_version, split_api_version};
use crate::schema::builtin::builtin;
use table::{Message, Table};
use wire::{Reader, Wire, Writer};

pub use list::Items;

/// The media type of objects.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
/// The media type of watches.
pub const STREAM_MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf;stream=watch";

/// What every object begins with.
const MAGIC: &[u8] = b"k8s\0";
/// How deeply messages may be nested.
const MAX_DEPTH: usize = 128;

/// Why bytes are no object, or an object has no bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("empty data")]
    Empty,
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    Foreign,
    #[error("{kind:?} of {api_version:?} has no protobuf encoding")]
    UnknownKind { api_version: String, kind: String },
    /// `path` names the field, `""` for the object itself.
    #[error("proto: {path}{}{why}", if path.is_empty() { "" } else { ": " })]
    Field { path: String, why: String },
}

impl Error {
    fn new(why: impl Into<String>) -> Self {
        Self::Field { path: String::new(), why: why.into() }
    }

    fn expected(what: &str) -> Self {
        Self::new(format!("must be {what}"))
    }

    /// The same error, seen from one level above.
    fn within(self, name: &str) -> Self {
        match self {
            Self::Field { path, why } if path.is_empty() => Self::Field { path: name.to_owned(), why },
            Self::Field { path, why } => Self::Field { path: format!("{name}.{path}"), why },
            other => other,
        }
    }
}

/// The envelope of an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unknown<'a> {
    pub api_version: &'a str,
    pub kind: &'a str,
    /// The message of the kind.
    pub raw: &'a [u8],
}

impl<'a> Unknown<'a> {
    /// Opens an envelope.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Error> {
        if bytes.is_empty() {
            return Err(Error::Empty);
        }
        let mut reader = Reader::new(bytes.strip_prefix(MAGIC).ok_or(Error::Foreign)?);
        let mut unknown = Self::default();
        while let Some((number, wire)) = reader.tag()? {
            match (number, wire) {
                (1, Wire::Bytes) => unknown.read_type(reader.bytes()?).map_err(|err| err.within("typeMeta"))?,
                (2, Wire::Bytes) => unknown.raw = reader.bytes()?,
                (3, Wire::Bytes) => {
                    let encoding = reader.text()?;
                    if !encoding.is_empty() {
                        return Err(Error::new(format!("{encoding:?} is not supported")).within("contentEncoding"));
                    }
                }
                _ => reader.skip(number, wire)?,
            }
        }
        Ok(unknown)
    }

    fn read_type(&mut self, bytes: &'a [u8]) -> Result<(), Error> {
        let mut reader = Reader::new(bytes);
        while let Some((number, wire)) = reader.tag()? {
            match (number, wire) {
                (1, Wire::Bytes) => self.api_version = reader.text()?,
                (2, Wire::Bytes) => self.kind = reader.text()?,
                _ => reader.skip(number, wire)?,
            }
        }
        Ok(())
    }
}

/// Whether objects of this kind have a protobuf encoding; those of CRDs have none, nor have tables.
pub fn has_kind(group: &str, version: &str, kind: &str) -> bool {
    message_of(group, version, kind).is_some()
}

/// Reads an object with its envelope.
pub fn decode(bytes: &[u8]) -> Result<Value, Error> {
    embedded(bytes, 0).map(Value::Object)
}

/// Reads the fields of `definition` (`io.k8s.api.core.v1.Pod`), which an envelope holds.
pub fn decode_fields(raw: &[u8], definition: &str) -> Result<Map<String, Value>, Error> {
    let message = Table::get().message(definition).ok_or_else(|| unknown_kind("", definition))?;
    let fields = decode::fields(raw, message, 0)?;
    // A message may be several levels in JSON, and may hold JSON.
    if fields.values().any(|value| super::is_deeper_than(value, json::MAX_DEPTH - 1)) {
        return Err(Error::new(json::Error::Depth.to_string()));
    }
    Ok(fields)
}

/// Writes an object with its envelope; kind and version are those of the tree.
pub fn encode(tree: &Value) -> Result<Vec<u8>, Error> {
    let text = |name: &str| tree.get(name).and_then(Value::as_str).unwrap_or("");
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let (group, version) = split_api_version(api_version).unwrap_or_default();
    let message = message_of(group, version, kind).ok_or_else(|| unknown_kind(api_version, kind))?;
    encode_as(tree, message, api_version, kind)
}

fn encode_as(tree: &Value, message: &Message, api_version: &str, kind: &str) -> Result<Vec<u8>, Error> {
    let mut out = Writer::default();
    begin(&mut out, api_version, kind)?;
    out.nested(2, |out| encode::message(out, tree, message, 0))?;
    end(&mut out);
    Ok(out.into_bytes())
}

/// What stands before the message of an object.
fn begin(out: &mut Writer, api_version: &str, kind: &str) -> Result<(), Error> {
    out.raw(MAGIC);
    out.nested(1, |out| {
        out.bytes(1, api_version.as_bytes());
        out.bytes(2, kind.as_bytes());
        Ok(())
    })
}

/// What stands behind it.
fn end(out: &mut Writer) {
    out.bytes(3, b"");
    out.bytes(4, b"");
}

/// The frame of a watch around an encoded object.
pub fn watch_frame(event: &str, object: &[u8]) -> Vec<u8> {
    let mut out = Writer::default();
    out.raw(&[0; 4]);
    out.bytes(1, event.as_bytes());
    let inside = out.nested(2, |out| {
        out.bytes(1, object);
        Ok(())
    });
    inside.expect("bytes are always written");
    let mut frame = out.into_bytes();
    let length = u32::try_from(frame.len() - 4).expect("an object is smaller than 4 GiB");
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame
}

/// An object that stands in another one, or alone.
fn embedded(bytes: &[u8], depth: usize) -> Result<Map<String, Value>, Error> {
    let unknown = Unknown::read(bytes)?;
    let (group, version) = split_api_version(unknown.api_version).unwrap_or_default();
    let message = message_of(group, version, unknown.kind);
    let message = message.ok_or_else(|| unknown_kind(unknown.api_version, unknown.kind))?;
    let mut map = decode::fields(unknown.raw, message, depth)?;
    map.insert("apiVersion".to_owned(), join_group_version(group, version).into());
    map.insert("kind".to_owned(), unknown.kind.into());
    Ok(map)
}

fn message_of(group: &str, version: &str, kind: &str) -> Option<&'static Message> {
    let table = Table::get();
    if let Some(name) = builtin().name_of_kind(group, version, kind) {
        return table.message(name);
    }
    let package = match (kind, version) {
        ("PartialObjectMetadataList", "v1beta1") => "v1beta1",
        ("CreateOptions" | "DeleteOptions" | "GetOptions" | "ListOptions" | "PatchOptions" | "UpdateOptions", _)
        | ("PartialObjectMetadata" | "PartialObjectMetadataList" | "Status" | "WatchEvent", _) => "v1",
        _ => return None,
    };
    table.message(&format!("io.k8s.apimachinery.pkg.apis.meta.{package}.{kind}"))
}

fn unknown_kind(api_version: &str, kind: &str) -> Error {
    Error::UnknownKind { api_version: api_version.to_owned(), kind: kind.to_owned() }
}
