//! Request bodies: from JSON, YAML or protobuf to objects, checked against the schema of their kind, and objects in the form in
//! which they are stored and sent.
//!
//! ```text
//! bytes -> parse (json, yaml) -> kind and version -> read (types, unknown fields, nulls) -> canonical -> Object
//! bytes -> envelope (protobuf) -> kind and version -> fields of the kind's message -------^
//! ```
//!
//! Errors and warnings are worded as the reference server words them, which for types is the wording of Go's decoder.

mod base64;
mod canonical;
mod emit;
mod go;
pub mod json;
mod node;
pub mod protobuf;
mod read;
#[cfg(test)]
mod tests;
pub mod time;
pub mod yaml;

use serde_json::{Map, Value};

use crate::custom;
use crate::field::{FieldError, Path};
use crate::object::Object;
use crate::quantity::Quantity;
use crate::resource::{Resource, join_group_version, split_api_version};
use crate::schema::builtin::builtin;
use crate::schema::{Presence, Scalar, SchemaRef};
use crate::status::{ApiError, Qualified};
pub(crate) use read::MAX_FINDINGS;
use read::Words;

pub use node::Node;

/// The encoding of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    Json,
    Yaml,
    Protobuf,
}

/// What to do about unknown and duplicate fields (`fieldValidation`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

impl FieldValidation {
    /// The value of the query parameter; `None` when it is none of the three.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "" | "Warn" => Some(Self::Warn),
            "Ignore" => Some(Self::Ignore),
            "Strict" => Some(Self::Strict),
            _ => None,
        }
    }

    /// Whether unknown and duplicate fields are looked for.
    fn is_strict(self) -> bool {
        self != Self::Ignore
    }
}

/// What a body is expected to be.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    pub group: &'a str,
    pub version: &'a str,
    pub kind: &'a str,
    pub schema: SchemaRef<'a>,
}

impl<'a> Target<'a> {
    /// An object of the resource.
    pub fn of(resource: &'a Resource) -> Self {
        Self { group: &resource.group, version: &resource.version, kind: &resource.kind, schema: resource.schema() }
    }

    /// A built-in kind that need not be a resource: `Scale`, `Eviction`, `Binding`, `TokenRequest`, `DeleteOptions`.
    pub fn builtin(group: &'a str, version: &'a str, kind: &'a str) -> Option<Target<'a>> {
        Some(Target { group, version, kind, schema: builtin().kind(group, version, kind)? })
    }

    /// The options of a request (`DeleteOptions`), which belong to no resource.
    pub fn options(kind: &'a str) -> Option<Target<'a>> {
        let definition = builtin().definition(&format!("io.k8s.apimachinery.pkg.apis.meta.v1.{kind}"))?;
        Some(Target { group: "meta.k8s.io", version: "v1", kind, schema: builtin().schemas().at(definition.id) })
    }

    fn is_custom(&self) -> bool {
        self.schema.node().presence == Presence::AsGiven
    }
}

/// A body that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// In canonical form, with `apiVersion` and `kind` set.
    pub object: Object,
    /// Texts for `Warning` headers.
    pub warnings: Vec<String>,
}

/// Why a document that could be parsed is not an object of its kind: the text alone, without the words around it that
/// depend on where the document came from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DecodeError(pub String);

/// Reads the body of a create or an update.
pub fn decode(
    body: &[u8],
    media: Media,
    target: &Target<'_>,
    validation: FieldValidation,
) -> Result<Decoded, ApiError> {
    let unrecognized = |why: &str| {
        let kind = target.kind;
        let shown = summary(body);
        ApiError::bad_request(format!("the object provided is unrecognized (must be of type {kind}): {why} ({shown})"))
    };
    let (content, api_version, kind) = open(body, media).map_err(|why| unrecognized(&why))?;
    let Some((group, version)) = api_version.as_deref().map_or(Some((target.group, target.version)), split_api_version)
    else {
        let shown = api_version.unwrap_or_default();
        return Err(unrecognized(&format!("unexpected GroupVersion string: {shown}")));
    };
    let kind = kind.as_deref().unwrap_or(target.kind);
    let failed = |why: &str| {
        ApiError::bad_request(format!("{kind} in version {version:?} cannot be handled as a {}: {why}", target.kind))
    };
    if let (Content::Document(document, _), true) = (&content, target.is_custom() && kind != target.kind)
        && (group, version) == (target.group, target.version)
    {
        return Err(wrong_custom_kind(kind, document, target));
    }
    check_kind(group, version, kind, target).map_err(|error| match error {
        KindError::Unexpected(why) => failed(&why),
        KindError::OtherVersion(why) => ApiError::bad_request(why),
    })?;
    let read = match content {
        Content::Document(document, duplicates) => {
            read_document(document, target, validation, told_of(duplicates.as_ref(), validation))
        }
        Content::Message(raw) => read_message(raw, target),
    };
    read.map_err(|error| failed(&error.0))
}

/// What is said of keys that are given twice: as one error, or in a warning for each.
fn told_of(duplicates: Option<&yaml::Duplicates>, validation: FieldValidation) -> Vec<String> {
    match (duplicates, validation) {
        (Some(duplicates), FieldValidation::Strict) => vec![duplicates.to_string()],
        (Some(duplicates), FieldValidation::Warn) => duplicates.iter().map(ToString::to_string).collect(),
        _ => Vec::new(),
    }
}

/// A body of which only kind and version are known.
enum Content<'a> {
    /// JSON or YAML, with the keys that YAML gives twice.
    Document(Node<'a>, Option<yaml::Duplicates>),
    /// The fields of a protobuf message.
    Message(&'a [u8]),
}

/// A body with its `apiVersion` and `kind`; empty ones count as absent.
fn open(body: &[u8], media: Media) -> Result<(Content<'_>, Option<String>, Option<String>), String> {
    let (document, duplicates) = match media {
        Media::Json => {
            let document = json::parse(body);
            (document.map_err(|error| format!("couldn't get version/kind; json parse error: {error}"))?, None)
        }
        Media::Yaml => yaml::parse(body).map_err(|error| error.to_string())?,
        Media::Protobuf => {
            let unknown = protobuf::Unknown::read(body).map_err(|error| error.to_string())?;
            let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
            return Ok((Content::Message(unknown.raw), given(unknown.api_version), given(unknown.kind)));
        }
    };
    let (api_version, kind) = type_of(&document)?;
    Ok((Content::Document(document, duplicates), api_version, kind))
}

/// Reads the fields of a message. Unknown ones are ignored whatever the client wishes, as the reference server does.
fn read_message(raw: &[u8], target: &Target<'_>) -> Result<Decoded, DecodeError> {
    let definition = target.schema.node().definition.as_deref().unwrap_or(target.kind);
    let map = protobuf::decode_fields(raw, definition).map_err(|error| DecodeError(error.to_string()))?;
    Ok(finish(map, target, Vec::new()))
}

/// Reads an object that was decoded before. The kind is not checked.
pub fn decode_value(value: Value, target: &Target<'_>, validation: FieldValidation) -> Result<Decoded, DecodeError> {
    read_document(Node::from(value), target, validation, Vec::new())
}

/// Reads the JSON that a patch has made of an object. The patch may have changed its kind.
pub fn decode_patched(value: Value, target: &Target<'_>, validation: FieldValidation) -> Result<Decoded, DecodeError> {
    let value = match clean(value, target) {
        Ok(map) => return Ok(finish(map, target, Vec::new())),
        Err(value) => value,
    };
    if is_deeper_than(&value, json::MAX_DEPTH) {
        return Err(DecodeError(json::Error::Depth.to_string()));
    }
    let document = Node::from(value);
    let (api_version, kind) = type_of(&document).map_err(DecodeError)?;
    let given = api_version.as_deref().map_or(Some((target.group, target.version)), split_api_version);
    let unexpected = || format!("unexpected GroupVersion string: {}", api_version.as_deref().unwrap_or_default());
    let (group, version) = given.ok_or_else(|| DecodeError(unexpected()))?;
    let kind = kind.as_deref().unwrap_or(target.kind);
    if !is_old(group, version, kind) || (group, kind) != (target.group, target.kind) {
        check_kind(group, version, kind, target).map_err(|error| DecodeError(error.to_string()))?;
    }
    read_document(document, target, validation, Vec::new())
}

/// Reads what a strategic merge has made of an object. Kind and version stay what they were, and wrong types are worded
/// as the reference server words them there, which copies maps into structs without a detour over JSON.
pub fn decode_merged(value: Value, target: &Target<'_>, validation: FieldValidation) -> Result<Decoded, DecodeError> {
    let value = match clean(value, target) {
        Ok(map) => return Ok(finish(map, target, Vec::new())),
        Err(value) => value,
    };
    let (map, findings) = read::read(Node::from(value), target.schema, validation.is_strict(), Words::Copy);
    complete(map, findings, target, validation, Vec::new())
}

/// The tree that server-side apply has merged, as an object in canonical form; kind and version stay what they are. Of a
/// custom object only the metadata has such a form: what its schema does not know goes, and nulls stay.
pub fn settle(merged: Value, schema: SchemaRef<'_>) -> Result<Object, DecodeError> {
    let mut merged = merged;
    if schema.node().presence != Presence::AsGiven {
        merged = Value::Object(copied(merged, schema)?);
    } else {
        custom::settle(&mut merged, schema);
        if let (Some(metadata), Some(schema)) = (merged.get_mut("metadata"), schema.field("metadata"))
            && schema.node().presence != Presence::AsGiven
        {
            *metadata = Value::Object(copied(metadata.take(), schema)?);
        }
    }
    let mut object = Object::from_value(merged).unwrap_or_default();
    canonicalize(&mut object, schema);
    Ok(object)
}

/// The schema of the schemas of CustomResourceDefinitions.
fn schema_props() -> SchemaRef<'static> {
    const NAME: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
    let definition = builtin().definition(NAME).expect("definitions have schemas");
    builtin().schemas().at(definition.id)
}

/// The fields of a built-in struct, as they come out of it.
fn copied(value: Value, schema: SchemaRef<'_>) -> Result<Map<String, Value>, DecodeError> {
    match value {
        Value::Object(map) if read::is_clean(&map, schema, json::MAX_DEPTH) => Ok(map),
        value => {
            let (map, findings) = read::read(Node::from(value), schema, false, Words::Copy);
            findings.error.map_or(Ok(map), |error| Err(DecodeError(error)))
        }
    }
}

/// The fields of a document of this very kind in which reading would find nothing and change nothing; any other document
/// comes back.
fn clean(document: Value, target: &Target<'_>) -> Result<Map<String, Value>, Value> {
    let is_kind = |map: &Map<String, Value>| {
        let text = |field: &str| map.get(field).and_then(Value::as_str).unwrap_or_default();
        text("kind") == target.kind && split_api_version(text("apiVersion")) == Some((target.group, target.version))
    };
    match document {
        Value::Object(map) if is_kind(&map) && read::is_clean(&map, target.schema, json::MAX_DEPTH) => Ok(map),
        other => Err(other),
    }
}

/// Reads the options of a request (`DeleteOptions`), which clients send in the version of any group.
pub fn decode_options(body: &[u8], media: Media, target: &Target<'_>) -> Result<Object, ApiError> {
    let (content, api_version, kind) = open(body, media).map_err(ApiError::bad_request)?;
    let kind = kind.as_deref().unwrap_or(target.kind);
    if kind != target.kind {
        let version = api_version.as_deref().unwrap_or("v1");
        let scheme = "k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme/register.go:27";
        let text = format!("no kind {kind:?} is registered for version {version:?} in scheme {scheme:?}");
        return Err(ApiError::bad_request(text));
    }
    let read = match content {
        Content::Document(document, _) => read_document(document, target, FieldValidation::Ignore, Vec::new()),
        Content::Message(raw) => read_message(raw, target),
    };
    read.map(|decoded| decoded.object).map_err(|error| ApiError::bad_request(error.0))
}

/// Whether lists and objects are nested more than `levels` deep.
pub fn is_deeper_than(value: &Value, levels: usize) -> bool {
    let inside = |value: &Value| levels == 0 || is_deeper_than(value, levels - 1);
    match value {
        Value::Array(list) => levels == 0 || list.iter().any(inside),
        Value::Object(map) => levels == 0 || map.values().any(inside),
        _ => false,
    }
}

/// Brings an object into the form in which it is stored and sent: empty values of optional fields vanish, fields that
/// are always printed appear, quantities and times are in canonical form. Idempotent.
pub fn canonicalize(object: &mut Object, schema: SchemaRef<'_>) {
    if schema.node().presence != Presence::AsGiven {
        canonical::fields(object.root_mut(), schema);
        return;
    }
    // Of a custom object only the metadata has a form of its own.
    if let (Some(metadata), Some(schema)) =
        (object.get_mut(&["metadata"]).and_then(Value::as_object_mut), schema.field("metadata"))
    {
        canonical::fields(metadata, schema);
    }
}

/// A tree as YAML.
pub fn to_yaml(tree: &Value) -> Result<String, std::convert::Infallible> {
    Ok(emit::document(tree))
}

fn read_document(
    document: Node<'_>,
    target: &Target<'_>,
    validation: FieldValidation,
    strict: Vec<String>,
) -> Result<Decoded, DecodeError> {
    let (map, findings) = read::read(document, target.schema, validation.is_strict(), Words::Json);
    complete(map, findings, target, validation, strict)
}

/// Makes the object of what the walk has found; `strict` is what was found before.
fn complete(
    map: Map<String, Value>,
    findings: read::Findings,
    target: &Target<'_>,
    validation: FieldValidation,
    mut strict: Vec<String>,
) -> Result<Decoded, DecodeError> {
    if let Some(error) = findings.error {
        return Err(DecodeError(error));
    }
    let mut found = findings.strict;
    if target.is_custom() {
        // The reference finds duplicates when it parses, then looks at the metadata, and prunes last.
        found.sort_by_key(|text| {
            (text.starts_with("unknown"), !text.starts_with("unknown field \"metadata."), text.clone())
        });
    }
    strict.extend(found);
    if validation == FieldValidation::Strict && !strict.is_empty() {
        return Err(DecodeError(format!("strict decoding error: {}", strict.join(", "))));
    }
    Ok(finish(map, target, strict.iter().map(|text| as_warning(text).to_owned()).collect()))
}

/// What strictness would refuse, as a warning says it: without the words by which YAML's errors begin.
pub fn as_warning(text: &str) -> &str {
    text.trim_start_matches("yaml: unmarshal errors:").trim_start()
}

fn finish(map: Map<String, Value>, target: &Target<'_>, warnings: Vec<String>) -> Decoded {
    let mut object = Object::from_value(Value::Object(map)).unwrap_or_default();
    object.set(&["apiVersion"], join_group_version(target.group, target.version));
    object.set(&["kind"], target.kind);
    canonicalize(&mut object, target.schema);
    Decoded { object, warnings }
}

/// `apiVersion` and `kind` of a document; empty ones count as absent.
fn type_of(document: &Node<'_>) -> Result<(Option<String>, Option<String>), String> {
    if !matches!(document, Node::Object(_) | Node::Null) {
        let shape =
            r#"struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }"#;
        let name = document.type_name();
        return Err(format!(
            "couldn't get version/kind; json parse error: json: cannot unmarshal {name} into Go value of type {shape}"
        ));
    }
    let text = |field: &str| match document.get(field) {
        None | Some(Node::Null) => Ok(None),
        Some(Node::String(text)) => Ok(Some(text.as_ref().to_owned()).filter(|text| !text.is_empty())),
        Some(other) => {
            let name = other.type_name();
            Err(format!(
                "couldn't get version/kind; json parse error: json: cannot unmarshal {name} into Go struct field .{field} of type string"
            ))
        }
    };
    Ok((text("apiVersion")?, text("kind")?))
}

/// Why a document of one kind cannot stand where another is expected.
#[derive(Debug, thiserror::Error)]
enum KindError {
    #[error("{0}")]
    Unexpected(String),
    /// The right kind of another version.
    #[error("{0}")]
    OtherVersion(String),
}

/// Whether a value in a list of resources has more digits than such lists keep.
fn is_too_fine(value: &Value, schema: SchemaRef<'_>) -> bool {
    let amount = || value.as_str().and_then(|text| text.parse::<Quantity>().ok());
    schema.node().scalar == Scalar::Quantity && amount().is_some_and(|amount| amount != amount.to_milli())
}

/// Rounds the amounts of a list of resources, which are no finer than thousandths.
fn round_amounts(list: &mut Map<String, Value>, schema: SchemaRef<'_>) {
    for value in list.values_mut().filter(|value| is_too_fine(value, schema)) {
        if let Some(amount) = Quantity::of_value(value) {
            *value = amount.to_milli().to_string().into();
        }
    }
}

/// Whether upstream still reads a version, though it serves it no more. The fields of these are those of today.
fn is_old(group: &str, version: &str, kind: &str) -> bool {
    match (group, version) {
        ("apps", "v1beta1") => matches!(kind, "ControllerRevision" | "Deployment" | "StatefulSet"),
        ("apps", "v1beta2") => {
            matches!(kind, "ControllerRevision" | "DaemonSet" | "Deployment" | "ReplicaSet" | "StatefulSet")
        }
        ("batch", "v1beta1") => kind == "CronJob",
        _ => false,
    }
}

/// Whether a document of this kind may stand where `target` is expected.
fn check_kind(group: &str, version: &str, kind: &str, target: &Target<'_>) -> Result<(), KindError> {
    if (group, version, kind) == (target.group, target.version, target.kind) {
        return Ok(());
    }
    let given = join_group_version(group, version);
    if target.is_custom() {
        return Err(wrong_version(&given, target));
    }
    let known = builtin().name_of_kind(group, version, kind).is_some();
    if !known && !is_old(group, version, kind) {
        let scheme = "pkg/api/legacyscheme/scheme.go:30";
        let text = format!("no kind {kind:?} is registered for version {given:?} in scheme {scheme:?}");
        return Err(KindError::Unexpected(text));
    }
    if kind == target.kind && internal_package(group) == internal_package(target.group) {
        return Err(wrong_version(&given, target));
    }
    let package = internal_package(target.group);
    let text = format!("converting ({version}.{kind}) to ({package}.{}): unknown conversion", target.kind);
    Err(KindError::Unexpected(text))
}

fn wrong_version(given: &str, target: &Target<'_>) -> KindError {
    let expected = join_group_version(target.group, target.version);
    KindError::OtherVersion(format!(
        "the API version in the data ({given}) does not match the expected API version ({expected})"
    ))
}

/// The error for a body of another kind than the custom resource's: what is valid in it does not matter any more.
fn wrong_custom_kind(kind: &str, document: &Node<'_>, target: &Target<'_>) -> ApiError {
    let name = document.get("metadata").and_then(|metadata| metadata.get("name"));
    let name = if let Some(Node::String(name)) = name { name.as_ref() } else { "" };
    let error = FieldError::invalid(&Path::new("kind"), kind, &format!("must be {}", target.kind));
    ApiError::invalid(Qualified { group: target.group, resource: kind }, name, &[error])
}

/// The Go package of a group's internal types.
fn internal_package(group: &str) -> &str {
    match group {
        "" | "events.k8s.io" => "core",
        "internal.apiserver.k8s.io" => "apiserverinternal",
        _ => group.split('.').next().unwrap_or(group),
    }
}

/// The begin of a body, as errors show it.
fn summary(body: &[u8]) -> String {
    const SHOWN: usize = 30;
    let start = &body[..body.len().min(SHOWN)];
    let text = match body.first() {
        None => return "<empty>".to_owned(),
        Some(b'{') => String::from_utf8_lossy(start).into_owned(),
        Some(_) => start.iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    if body.len() > SHOWN { format!("{text} ...") } else { text }
}
