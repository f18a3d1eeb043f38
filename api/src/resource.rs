//! A resource: one row of the catalog. Built-in kinds and CRDs are values of the same type.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use crate::custom::Custom;
use crate::schema::{SchemaRef, Whole};
use crate::status::Qualified;
use crate::strategy::Strategy;
use crate::table::cell::Cell;

pub use crate::text::{Text, split_api_version};

/// Everything the server knows of one resource in one version.
#[derive(Clone)]
pub struct Resource {
    /// `""` for the core group.
    pub group: Text,
    pub version: Text,
    /// `pods`.
    pub plural: Text,
    /// `pod`.
    pub singular: Text,
    /// `Pod`.
    pub kind: Text,
    /// `PodList`.
    pub list_kind: Text,
    pub short_names: Vec<Text>,
    /// `all`, ...
    pub categories: Vec<Text>,
    pub namespaced: bool,
    /// The verbs of the resource itself, as discovery shows them.
    pub verbs: Vec<Verb>,
    pub subresources: Vec<Subresource>,
    /// Group and version in which objects are stored; the same for all versions of a resource. The group differs from
    /// `group` for events, which two groups share.
    pub storage_group: Text,
    pub storage_version: Text,
    /// The version that `storageVersionHash` is made of, where it is not `storage_version`.
    pub hash_version: Option<Text>,
    /// Where values lie in the store, without the leading `/registry/`: `pods`, `deployments`,
    /// `apiextensions.k8s.io/customresourcedefinitions`, ... as upstream lays them out.
    pub storage_prefix: Text,
    pub schema: Whole,
    /// Field selectors that lists and watches accept besides `metadata.name` and `metadata.namespace`. Their paths are
    /// those of the stored version.
    pub selectable_fields: Vec<SelectableField>,
    /// Whether `metadata.generation` counts changes of the spec.
    pub has_generation: bool,
    pub strategy: Arc<dyn Strategy>,
    /// How rows look in `kubectl get`.
    pub columns: Columns,
    /// The text of the `Warning` header for requests to this version.
    pub deprecation: Option<Text>,
    /// Set for rows that come from a CustomResourceDefinition.
    pub custom: Option<Arc<Custom>>,
}

/// A verb of the API (`kubectl api-resources -o wide`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    Create,
    Delete,
    DeleteCollection,
    Get,
    List,
    Patch,
    Update,
    Watch,
}

impl Verb {
    /// All verbs that a stored resource has.
    pub const STORED: [Self; 8] = [
        Self::Create,
        Self::Delete,
        Self::DeleteCollection,
        Self::Get,
        Self::List,
        Self::Patch,
        Self::Update,
        Self::Watch,
    ];

    /// The verb as RBAC and discovery spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
            Self::Get => "get",
            Self::List => "list",
            Self::Patch => "patch",
            Self::Update => "update",
            Self::Watch => "watch",
        }
    }

    /// The verb of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::STORED.into_iter().find(|verb| verb.as_str() == name)
    }
}

/// A subresource as discovery shows it. What it *does* is decided by its name in the API server; `status` and CRD
/// `scale` run on the generic path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subresource {
    /// `status`, `scale`, `log`, ...
    pub name: Text,
    /// Group, version and kind of its bodies where they differ from the resource's.
    pub kind: Option<GroupVersionKind>,
    /// As discovery spells them.
    pub verbs: Vec<Text>,
}

/// Group, version and kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVersionKind {
    pub group: Text,
    pub version: Text,
    pub kind: Text,
}

/// A field that selectors may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectableField {
    /// As written in a selector: `spec.nodeName`.
    pub name: Text,
    /// The path of its value; an absent value selects as `""` (or `absent`, such as `false` for booleans). Behind a step
    /// `|` is the path of what counts if that is empty.
    pub path: Vec<Text>,
    pub absent: Text,
}

/// Where the table columns of a resource come from.
#[derive(Clone, Debug, Default)]
pub enum Columns {
    /// Name and age (`Created At`).
    #[default]
    Default,
    /// Those of `columns.txt`, with these cells.
    BuiltIn(&'static [Cell]),
    /// `additionalPrinterColumns` of a CRD, as written.
    Custom(Arc<Value>),
}

impl Resource {
    /// `v1`, `apps/v1`.
    pub fn api_version(&self) -> String {
        join_group_version(&self.group, &self.version)
    }

    /// Group and plural, as most error texts name it.
    pub fn qualified(&self) -> Qualified<'_> {
        Qualified { group: &self.group, resource: &self.plural }
    }

    /// Group and kind, as `Invalid` errors name it.
    pub fn qualified_kind(&self) -> Qualified<'_> {
        Qualified { group: &self.group, resource: &self.kind }
    }

    /// The schema of a whole object.
    pub fn schema(&self) -> SchemaRef<'_> {
        self.schema.get()
    }

    /// Whether it has the subresource.
    pub fn has_subresource(&self, name: &str) -> bool {
        self.subresource(name).is_some()
    }

    /// The subresource of that name.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|sub| sub.name == name)
    }

    /// Whether it comes from a CustomResourceDefinition.
    pub fn is_custom(&self) -> bool {
        self.custom.is_some()
    }

    /// Whether it has the verb.
    pub fn allows(&self, verb: Verb) -> bool {
        self.verbs.contains(&verb)
    }

    /// Whether objects are kept in the store, unlike those of reviews.
    pub fn is_stored(&self) -> bool {
        self.allows(Verb::Get) && self.allows(Verb::Create)
    }

    /// Whether this row is the version in which objects are stored.
    pub fn is_storage_version(&self) -> bool {
        self.version == self.storage_version && self.group == self.storage_group
    }

    /// `apiVersion` of stored objects.
    pub fn storage_api_version(&self) -> String {
        join_group_version(&self.storage_group, &self.storage_version)
    }

    /// The key of an object, without the leading `/registry/`: `pods/default/web`; the prefix of all objects of a
    /// namespace with an empty `name`.
    pub fn storage_key(&self, namespace: &str, name: &str) -> String {
        if self.namespaced {
            format!("{}/{namespace}/{name}", self.storage_prefix)
        } else {
            format!("{}/{name}", self.storage_prefix)
        }
    }
}

/// `v1`, `apps/v1`.
pub fn join_group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Resource({}.{}/{})", self.plural, self.group, self.version)
    }
}
