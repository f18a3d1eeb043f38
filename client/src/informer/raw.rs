//! An object as its text. Watches of all kinds are one piece of code over it; each kind only adds how it is decoded.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube_core::{ApiResource, DynamicResourceScope, Resource};
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// An object that has not been decoded, apart from its version, by which the watch goes on.
#[derive(Clone, Debug)]
pub(super) struct Raw {
    metadata: ObjectMeta,
    text: Box<str>,
}

impl Raw {
    /// The object. The error says what is no such object.
    pub(super) fn decode<K: DeserializeOwned>(&self) -> Result<K, serde_json::Error> {
        serde_json::from_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<str>::from(Box::<RawValue>::deserialize(deserializer)?);
        let Head { metadata } = serde_json::from_str(&text).map_err(D::Error::custom)?;
        let resource_version = metadata.resource_version.map(Cow::into_owned);
        let shorter = metadata.managed_fields.and_then(|fields| without(&text, fields.get()));
        let text = shorter.map_or(text, String::into_boxed_str);
        Ok(Self { metadata: ObjectMeta { resource_version, ..ObjectMeta::default() }, text })
    }
}

/// What is read of each object.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    metadata: Metadata<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    #[serde(borrow)]
    resource_version: Option<Cow<'a, str>>,
    /// No component looks at them: as a tree they cost more than most objects.
    #[serde(borrow)]
    managed_fields: Option<&'a RawValue>,
}

/// A text with `null` for a part of it; `None` when it is none.
fn without(text: &str, part: &str) -> Option<String> {
    let start = (part.as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
    let (before, after) = (text.get(..start)?, text.get(start.checked_add(part.len())?..)?);
    Some([before, "null", after].concat())
}

impl Resource for Raw {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        Cow::Borrowed(&resource.kind)
    }

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        Cow::Borrowed(&resource.group)
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        Cow::Borrowed(&resource.version)
    }

    fn api_version(resource: &ApiResource) -> Cow<'_, str> {
        Cow::Borrowed(&resource.api_version)
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        Cow::Borrowed(&resource.plural)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    fn read(text: &str) -> (Raw, ConfigMap) {
        let raw: Raw = serde_json::from_str(text).unwrap();
        let decoded = raw.decode().unwrap();
        (raw, decoded)
    }

    #[test]
    fn managed_fields_are_left_out_and_nothing_else() {
        let text = r#"{"metadata": {"name": "a\u00e9", "managedFields": [{"manager": "m", "fieldsV1": {"f:data": {}}}],
            "resourceVersion": "7", "labels": {"managedFields": "[]"}}, "data": {"k": "}"}}"#;
        let (raw, decoded) = read(text);
        assert!(!raw.text.contains("fieldsV1"), "{}", raw.text);
        assert_eq!(raw.metadata.resource_version.as_deref(), Some("7"));
        let mut whole: ConfigMap = serde_json::from_str(text).unwrap();
        assert!(whole.metadata.managed_fields.take().is_some());
        assert_eq!(decoded, whole);
    }

    #[test]
    fn an_object_without_managed_fields_stays_as_it_is() {
        let text = r#"{"metadata":{"name":"a","resourceVersion":"\u0037"}}"#;
        let (raw, decoded) = read(text);
        assert_eq!((&*raw.text, raw.metadata.resource_version.as_deref()), (text, Some("7")));
        assert_eq!(decoded.metadata.name.as_deref(), Some("a"));
    }
}
