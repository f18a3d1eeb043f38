//! Custom resources: from a CustomResourceDefinition to rows of the catalog.
//!
//! ```text
//! CustomResourceDefinition -> Definition -> a row for each served version (catalog)
//!                                       \-> the storage row (watch cache)
//! ```
//!
//! A row of a custom resource is worked with in its own version: bodies are checked, defaulted and admitted in the
//! version of the request, and only what goes to the store is converted.

mod definition;
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
use crate::rules::RuleSet;
use crate::schema::{SchemaRef, Whole};
use crate::text::split_api_version;

pub use definition::Definition;
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

/// The schema of a version. What it is compiled to is made when the first object needs it: most versions are never used.
#[derive(Clone, Debug)]
struct Version {
    schema: Whole,
    written: Arc<Written>,
    rules: Arc<OnceLock<RuleSet>>,
}

impl Version {
    /// Reads `schema.openAPIV3Schema`.
    fn read(written: &Value) -> Self {
        let written = Arc::new(Written::new(written));
        let read = Arc::clone(&written);
        let schema = Whole::later(move || {
            let (schemas, root) = schema::read(&read.schema());
            (Arc::new(schemas), root)
        });
        Self { schema, written, rules: Arc::default() }
    }

    fn schema(&self) -> SchemaRef<'_> {
        self.schema.get()
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
