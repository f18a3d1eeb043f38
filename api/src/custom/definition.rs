//! From a CustomResourceDefinition to the rows of its versions.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::strategy::CustomStrategy;
use super::{Conversion, Custom, FieldPath, Scale, Version, Webhook, priority};
use crate::object::Object;
use crate::resource::{Columns, GroupVersionKind, Resource, SelectableField, Subresource, Verb};
use crate::text::Text;

/// A definition as the server works with it.
#[derive(Clone, Debug)]
pub struct Definition {
    /// A row for each served version, in the order of the definition.
    pub served: Vec<Arc<Resource>>,
    /// The version in which objects are stored, with the selectable fields of all versions.
    pub storage: Arc<Resource>,
}

impl Definition {
    /// Reads a valid definition; `None` when it has no storage version. `accepted` are the names that it may use.
    pub fn read(object: &Object) -> Option<Self> {
        let spec = object.root().get("spec")?;
        let written: Vec<&Value> = spec.get("versions")?.as_array()?.iter().collect();
        let schemas: HashMap<String, Version> = written
            .iter()
            .map(|version| {
                let schema = version.pointer("/schema/openAPIV3Schema").unwrap_or(&Value::Null);
                (text(version, "name").to_owned(), Version::read(schema))
            })
            .collect();
        let shared = Shared {
            object,
            spec,
            names: object
                .get(&["status", "acceptedNames"])
                .filter(|names| !text(names, "kind").is_empty())
                .unwrap_or(&spec["names"]),
            storage: written.iter().find(|version| version["storage"] == true).map(|version| text(version, "name"))?,
            conversion: conversion(object, spec),
            versions: Arc::new(schemas),
        };
        let served = written.iter().filter(|version| version["served"] == true);
        let served = served.filter_map(|version| shared.row(version)).map(Arc::new).collect();
        let storage = written.iter().find(|version| version["storage"] == true)?;
        let mut storage = shared.row(storage)?;
        for version in &written {
            for field in selectable_fields(version) {
                if !storage.selectable_fields.contains(&field) {
                    storage.selectable_fields.push(field);
                }
            }
        }
        Some(Self { served, storage: Arc::new(storage) })
    }
}

/// What the versions of a definition have in common.
struct Shared<'a> {
    object: &'a Object,
    spec: &'a Value,
    names: &'a Value,
    storage: &'a str,
    conversion: Conversion,
    versions: Arc<HashMap<String, Version>>,
}

impl Shared<'_> {
    fn row(&self, written: &Value) -> Option<Resource> {
        let name = text(written, "name");
        let version = self.versions.get(name)?;
        let own = |name: &str| Text::Owned(text(self.names, name).to_owned());
        let list = |name: &str| -> Vec<Text> { texts(self.names, name).map(|text| text.to_owned().into()).collect() };
        let (group, plural) = (text(self.spec, "group"), text(&self.spec["names"], "plural"));
        let scale = written.pointer("/subresources/scale").filter(|scale| scale.is_object()).map(scale);
        let has_status = written.pointer("/subresources/status").is_some_and(Value::is_object);
        let terminating = self.object.is_being_deleted();
        let strategy = CustomStrategy { version: version.clone(), has_status, scale: scale.clone() };
        Some(Resource {
            group: group.to_owned().into(),
            version: name.to_owned().into(),
            plural: plural.to_owned().into(),
            singular: own("singular"),
            kind: own("kind"),
            list_kind: own("listKind"),
            short_names: list("shortNames"),
            categories: list("categories"),
            namespaced: text(self.spec, "scope") == "Namespaced",
            verbs: VERBS.to_vec(),
            subresources: subresources(group, name, text(self.names, "kind"), has_status, scale.is_some()),
            storage_group: group.to_owned().into(),
            storage_version: self.storage.to_owned().into(),
            hash_version: None,
            storage_prefix: format!("{group}/{plural}").into(),
            schema: version.schema.clone(),
            selectable_fields: selectable_fields(written).collect(),
            has_generation: true,
            strategy: Arc::new(strategy),
            columns: Columns::Custom(Arc::new(written.get("additionalPrinterColumns").cloned().unwrap_or_default())),
            deprecation: self.deprecation(written).map(Text::Owned),
            custom: Some(Arc::new(Custom {
                terminating,
                scale,
                conversion: self.conversion.clone(),
                versions: Arc::clone(&self.versions),
            })),
        })
    }

    /// The warning of a deprecated version: the author's own, or one that names a newer version.
    fn deprecation(&self, written: &Value) -> Option<String> {
        if written["deprecated"] != true {
            return None;
        }
        if let Some(own) = written.get("deprecationWarning").and_then(Value::as_str) {
            return Some(own.to_owned());
        }
        let (group, kind, name) = (text(self.spec, "group"), text(&self.spec["names"], "kind"), text(written, "name"));
        let versions = self.spec["versions"].as_array().into_iter().flatten();
        let newer = versions
            .filter(|version| version["served"] == true && version["deprecated"] != true)
            .map(|version| text(version, "name"))
            .filter(|version| priority(version) > priority(name))
            .max_by_key(|version| priority(version));
        let instead = newer.map_or_else(String::new, |newer| format!("; use {group}/{newer} {kind}"));
        Some(format!("{group}/{name} {kind} is deprecated{instead}"))
    }
}

/// In the order in which discovery of custom resources shows them.
const VERBS: [Verb; 8] =
    [Verb::Delete, Verb::DeleteCollection, Verb::Get, Verb::List, Verb::Patch, Verb::Create, Verb::Update, Verb::Watch];

fn subresources(group: &str, version: &str, kind: &str, status: bool, scale: bool) -> Vec<Subresource> {
    let verbs = || ["get", "patch", "update"].map(Text::Borrowed).to_vec();
    let of = |group: &str, version: &str, kind: &str| GroupVersionKind {
        group: group.to_owned().into(),
        version: version.to_owned().into(),
        kind: kind.to_owned().into(),
    };
    let status =
        status.then(|| Subresource { name: "status".into(), kind: Some(of(group, version, kind)), verbs: verbs() });
    let scale = scale.then(|| Subresource {
        name: "scale".into(),
        kind: Some(of("autoscaling", "v1", "Scale")),
        verbs: verbs(),
    });
    status.into_iter().chain(scale).collect()
}

fn scale(written: &Value) -> Scale {
    let selector = text(written, "labelSelectorPath");
    Scale {
        spec_replicas: FieldPath::new(text(written, "specReplicasPath")),
        status_replicas: FieldPath::new(text(written, "statusReplicasPath")),
        label_selector: (!selector.is_empty()).then(|| FieldPath::new(selector)),
    }
}

fn selectable_fields(version: &Value) -> impl Iterator<Item = SelectableField> {
    let fields = version.get("selectableFields").and_then(Value::as_array).into_iter().flatten();
    fields.map(|field| {
        let path = FieldPath::new(text(field, "jsonPath"));
        let steps = path.fields().into_iter().map(|step| step.to_owned().into()).collect();
        SelectableField { name: path.fields().join(".").into(), path: steps, absent: "".into() }
    })
}

fn conversion(object: &Object, spec: &Value) -> Conversion {
    let conversion = &spec["conversion"];
    if text(conversion, "strategy") != "Webhook" {
        return Conversion::None;
    }
    let webhook = &conversion["webhook"];
    Conversion::Webhook(Arc::new(Webhook {
        definition: object.name().to_owned(),
        client_config: webhook["clientConfig"].clone(),
        review_versions: texts(webhook, "conversionReviewVersions").map(str::to_owned).collect(),
    }))
}

pub(super) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or("")
}

pub(super) fn texts<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a str> {
    value.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}
