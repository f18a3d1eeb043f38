//! From bodies to objects: what the client sent, read by the codec against the schema of its kind. Upstream:
//! `runtime/serializer`, strict decoding KEP-2885.

use api::codec::yaml::Duplicates;
use api::codec::{self, Decoded, FieldValidation, Media, Target, protobuf};
use api::patch::{PatchType, go_format, strict_findings, undecodable};
use api::{ApiError, Object, Resource};
use bytes::Bytes;
use http::HeaderMap;
use serde_json::Value;

use crate::request::negotiate::media_type;

/// The encoding of a body, by its content type.
pub(crate) fn media(headers: &HeaderMap) -> Result<Media, ApiError> {
    match media_type(headers).as_deref() {
        Some("" | "application/json") => Ok(Media::Json),
        Some("application/yaml") => Ok(Media::Yaml),
        Some(protobuf::MEDIA_TYPE) => Ok(Media::Protobuf),
        _ => Err(ApiError::unsupported_media_type(
            "the body of the request was in an unknown format - accepted media types include: application/json, \
             application/yaml, application/vnd.kubernetes.protobuf",
        )),
    }
}

/// Reads the body of a create or update of the resource's kind.
pub(crate) fn body(
    row: &Resource,
    headers: &HeaderMap,
    body: &Bytes,
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> Result<Object, ApiError> {
    of_kind(&Target::of(row), headers, body, validation, warnings)
}

/// Reads a body of any kind.
pub(crate) fn of_kind(
    target: &Target<'_>,
    headers: &HeaderMap,
    body: &Bytes,
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> Result<Object, ApiError> {
    let media = media(headers)?;
    if media == Media::Protobuf && target.schema.node().definition.is_none() {
        return Err(ApiError::unsupported_media_type(
            "the body of the request was in an unknown format - accepted media types include: application/json, \
             application/yaml",
        ));
    }
    let decoded = codec::decode(body, media, target, validation)?;
    Ok(keep(decoded, validation, warnings))
}

/// Reads a body of a built-in kind that is no resource (`Binding`, `DeleteOptions`).
pub(crate) fn builtin(
    (group, version, kind): (&str, &str, &str),
    headers: &HeaderMap,
    body: &Bytes,
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> Result<Object, ApiError> {
    let unknown = || ApiError::internal(format!("{group}/{version} {kind} has no schema"));
    let target = Target::builtin(group, version, kind).ok_or_else(unknown)?;
    of_kind(&target, headers, body, validation, warnings)
}

/// Reads `DeleteOptions`, whose unknown fields are ignored.
pub(crate) fn delete_options(headers: &HeaderMap, body: &Bytes) -> Result<Object, ApiError> {
    let target = Target::options("DeleteOptions").ok_or_else(|| ApiError::internal("DeleteOptions has no schema"))?;
    codec::decode_options(body, media(headers)?, &target)
}

/// Reads the document that a patch makes.
pub(crate) fn patched(
    row: &Resource,
    merged: impl Fn() -> Result<Value, ApiError>,
    kind: PatchType,
    patch: &[u8],
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> Result<Object, ApiError> {
    let document = merged()?;
    let shown = || match kind {
        PatchType::Strategic => go_format(&serde_json::from_slice(patch).unwrap_or_default()),
        // Made once more: it was taken apart to be read.
        _ => merged().map_or_else(|_| String::new(), |document| document.to_string()),
    };
    let findings = if validation == FieldValidation::Ignore { Vec::new() } else { strict_findings(patch) };
    if validation == FieldValidation::Strict && !findings.is_empty() {
        return Err(undecodable(&shown(), &format!("strict decoding error: {}", findings.join(", "))));
    }
    warnings.extend(findings);
    let decoded = match kind {
        PatchType::Strategic => codec::decode_merged(document, &Target::of(row), validation),
        _ => codec::decode_patched(document, &Target::of(row), validation),
    };
    let decoded = decoded.map_err(|err| undecodable(&shown(), &err.0))?;
    Ok(keep(decoded, validation, warnings))
}

/// An apply configuration, and the keys that it gives twice.
pub(crate) struct Configuration {
    pub(crate) object: Object,
    duplicates: Option<Duplicates>,
}

impl Configuration {
    /// Says what is given twice, which comes after what applying has to say.
    pub(crate) fn check(&self, validation: FieldValidation, warnings: &mut Vec<String>) -> Result<(), ApiError> {
        let Some(duplicates) = &self.duplicates else { return Ok(()) };
        match validation {
            FieldValidation::Strict => {
                let why = format!("error strict decoding YAML: error converting YAML to JSON: {duplicates}");
                return Err(ApiError::bad_request(why));
            }
            FieldValidation::Warn => warnings.extend(duplicates.iter().map(ToString::to_string)),
            FieldValidation::Ignore => {}
        }
        Ok(())
    }
}

/// Reads an apply configuration: YAML, of which JSON is a part. Only its shape is checked; the schema is by apply.
pub(crate) fn configuration(body: &Bytes) -> Result<Configuration, ApiError> {
    let (node, duplicates) = codec::yaml::parse(body)
        .map_err(|err| ApiError::bad_request(format!("error decoding YAML: error converting YAML to JSON: {err}")))?;
    let object = Object::from_value(node.into_value())
        .ok_or_else(|| ApiError::bad_request("error decoding YAML: the configuration is not an object"))?;
    Ok(Configuration { object, duplicates })
}

fn keep(decoded: Decoded, validation: FieldValidation, warnings: &mut Vec<String>) -> Object {
    if validation == FieldValidation::Warn {
        warnings.extend(decoded.warnings);
    }
    decoded.object
}
