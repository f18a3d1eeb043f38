//! Who writes, and which fields that can be.

use jiff::Timestamp;
use serde_json::Value;

use super::managers::{ManagerId, Operation, Owner};
use super::set::FieldSet;
use crate::codec::canonicalize;
use crate::object::Object;
use crate::schema::SchemaRef;

/// Fields that nobody owns.
const UNOWNED: [&[&str]; 12] = [
    &["apiVersion"],
    &["kind"],
    &["metadata"],
    &["metadata", "name"],
    &["metadata", "namespace"],
    &["metadata", "creationTimestamp"],
    &["metadata", "selfLink"],
    &["metadata", "uid"],
    &["metadata", "clusterName"],
    &["metadata", "generation"],
    &["metadata", "managedFields"],
    &["metadata", "resourceVersion"],
];

/// Who writes, and how.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// The `fieldManager` of the request, or the default of its user agent.
    pub manager: &'a str,
    /// Version and kind of the bodies that this path takes.
    pub api_version: &'a str,
    pub kind: &'a str,
    /// `""` for the object itself.
    pub subresource: &'a str,
    /// Whether `status` is only written through `/status`.
    pub status_apart: bool,
    /// Whether nobody owns fields of `spec`.
    pub spec_apart: bool,
    pub now: Timestamp,
}

impl Writer<'_> {
    pub(super) fn id(&self, operation: Operation) -> ManagerId {
        ManagerId::new(self.manager, operation, self.api_version, self.subresource)
    }

    pub(super) fn owner(&self, set: FieldSet) -> Owner {
        Owner { set, api_version: self.api_version.to_owned(), time: None }
    }

    /// What a create starts from, in canonical form.
    pub(super) fn empty_object(&self, schema: SchemaRef<'_>) -> Object {
        let mut object = Object::default();
        object.set(&["apiVersion"], self.api_version);
        object.set(&["kind"], self.kind);
        canonicalize(&mut object, schema);
        object
    }

    /// Whether this path writes the field of the root: `/status` writes nothing else, and nothing else writes it.
    fn writes(&self, field: &str) -> bool {
        match (self.status_apart, self.subresource) {
            (true, "status") => matches!(field, "apiVersion" | "kind" | "metadata" | "status"),
            (true, "") => field != "status",
            _ => true,
        }
    }

    /// The fields of the set that this path can write.
    pub(super) fn writable(&self, mut set: FieldSet) -> FieldSet {
        set.retain_fields(|name| self.writes(name) && (name != "spec" || !self.spec_apart));
        set
    }

    /// The fields of the set that this path can write and that somebody can own.
    pub(super) fn owned(&self, set: FieldSet) -> FieldSet {
        let mut set = self.writable(set);
        UNOWNED.iter().for_each(|path| set.remove(path));
        set
    }

    /// A configuration as it is merged. On the path of the object itself that is all of it: the status has no owner there,
    /// and whoever prepares the write takes it back, unless the kind registers itself with one.
    pub(super) fn configuration(&self, patch: &Object) -> Value {
        let mut configuration = patch.clone();
        // Typed clients send null for the time that the server sets.
        if configuration.get(&["metadata", "creationTimestamp"]).is_some_and(Value::is_null) {
            configuration.remove(&["metadata", "creationTimestamp"]);
        }
        if self.subresource == "status" {
            configuration.root_mut().retain(|name, _| self.writes(name));
        }
        configuration.into_value()
    }
}
