//! Custom resources: from a CustomResourceDefinition to rows of the catalog.
//!
//! ```text
//! CustomResourceDefinition -> Definition -> a row for each served version (catalog)
//!                                       \-> the storage row (watch cache)
//! ```
//!
//! A row of a custom resource is worked with in its own version: bodies are checked, defaulted and admitted in the
//! version of the request, and only what goes to the store is converted.

mod scale;
mod schema;
pub mod status;
mod strategy;
mod values;
mod version;
mod written;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use serde_json::Value;

use crate::object::Object;
use crate::resource::{
    Columns, GroupVersionKind, Resource, SelectableField, Subresource, Text, Verb, split_api_version,
};
use crate::rules::RuleSet;
use crate::schema::{SchemaId, SchemaRef, Schemas};
use strategy::CustomStrategy;

pub use scale::{FieldPath, Scale};
pub(crate) use schema::read as read_schema;
pub(crate) use values::{prune, settle};
pub use version::{Priority, priority};
pub(crate) use written::Written;

/// What only rows of custom resources have.
#[derive(Debug)]
pub struct Custom {
    /// The definition is being deleted: nothing new may be created.
    pub terminating: bool,
    /// Where `/scale` finds its values.
    pub scale: Option<Scale>,
    /// How objects of one version become objects of another.
    pub conversion: Conversion,
    versions: Arc<HashMap<String, Version>>,
}

/// `spec.conversion`.
#[derive(Clone, Debug, PartialEq)]
pub enum Conversion {
    /// Only `apiVersion` changes.
    None,
    /// A webhook converts.
    Webhook(Arc<Webhook>),
}

/// A conversion webhook.
#[derive(Clone, Debug, PartialEq)]
pub struct Webhook {
    /// The name of the definition.
    pub definition: String,
    /// `clientConfig`, as written.
    pub client_config: Value,
    /// `conversionReviewVersions`.
    pub review_versions: Vec<String>,
}

/// The schema of a version.
#[derive(Clone, Debug)]
struct Version {
    schemas: Arc<Schemas>,
    root: SchemaId,
    written: Arc<Written>,
    /// Compiled when the first object is checked: most versions are never written in.
    rules: Arc<OnceLock<RuleSet>>,
}

impl Version {
    /// Reads `schema.openAPIV3Schema`.
    fn read(written: &Value) -> Self {
        let (schemas, root) = schema::read(written);
        Self { schemas: Arc::new(schemas), root, written: Arc::new(Written::new(written)), rules: Arc::default() }
    }

    fn schema(&self) -> SchemaRef<'_> {
        self.schemas.at(self.root)
    }

    fn rules(&self) -> &RuleSet {
        self.rules.get_or_init(|| RuleSet::compile(&self.written.schema()))
    }
}

impl Custom {
    /// Brings an object as it lies in the store into the form that clients see: what the schema of the version that it
    /// was stored in does not know goes, and its defaults come. Answers whether it changed.
    pub fn revive(&self, object: &mut Object) -> bool {
        let pruned = self.prune(object);
        let defaulted = self.version_of(object).is_some_and(|version| version.default(object));
        pruned || defaulted
    }

    /// An object of another version as one of `api_version`, where only the version changes. Without what that version
    /// does not know.
    pub fn renamed(&self, mut object: Object, api_version: &str) -> Object {
        if object.api_version() != api_version {
            object.set(&["apiVersion"], api_version);
            self.prune(&mut object);
        }
        object
    }

    /// The schema of a version as its author wrote it.
    pub(crate) fn written(&self, version: &str) -> Option<&Written> {
        self.versions.get(version).map(|version| &*version.written)
    }

    /// Whether objects of other versions are made by a webhook.
    pub fn is_converted_elsewhere(&self) -> bool {
        matches!(self.conversion, Conversion::Webhook(_))
    }

    /// Drops what the schema of the object's version does not know; answers whether there was any.
    pub fn prune(&self, object: &mut Object) -> bool {
        let Some(version) = self.version_of(object) else { return false };
        let mut tree = std::mem::take(object).into_value();
        let pruned = values::prune(&mut tree, version.schema());
        *object = Object::from_value(tree).unwrap_or_default();
        version.drop_nulls(object) || pruned
    }

    fn version_of(&self, object: &Object) -> Option<&Version> {
        self.versions.get(split_api_version(object.api_version())?.1)
    }
}

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
            schemas: Arc::clone(&version.schemas),
            schema: version.root,
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

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or("")
}

fn texts<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a str> {
    value.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}
