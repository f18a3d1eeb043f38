//! What differs from kind to kind, beside the schema: hooks with defaults, called by the API server's one registry.
//!
//! Order on create: decoded by the schema -> `default` -> managedFields -> mutating admission -> `prepare_create` ->
//! addresses of Services -> `validate_create` -> validating admission -> `canonicalize` -> commit. On update and patch the
//! `_update` hooks take their places, with the object that is being replaced.

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::field::FieldError;
use crate::object::Object;

/// What a hook may know of the request.
#[derive(Clone, Copy, Debug)]
pub struct WriteContext<'a> {
    /// The time of the request.
    pub now: Timestamp,
    /// Name of the user who writes.
    pub user: &'a User,
    /// The subresource that is written; `""` for the object itself.
    pub subresource: &'a str,
}

/// Who a request is from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: Vec<(String, Vec<String>)>,
}

/// What happens to dependents on delete when the client does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultDeletion {
    /// The garbage collector deletes dependents afterwards.
    Background,
    /// Dependents are kept (`ReplicationController`, `Job`).
    Orphan,
}

/// How often checks of `metadata` are repeated on update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetadataRechecks {
    /// Labels, annotations, owners and finalizers once more.
    pub whole: usize,
    /// The change once more, which looks at labels, annotations, owners and finalizers too.
    pub change: usize,
}

/// The fields of the metadata that clients decide.
pub const STATUS_METADATA: [&str; 4] = ["labels", "annotations", "finalizers", "ownerReferences"];

/// Whether anything beside kind, metadata and status differs.
pub fn content_changed(new: &Object, old: &Object) -> bool {
    fn content(object: &Object) -> impl Iterator<Item = (&String, &Value)> {
        const BESIDE: [&str; 4] = ["apiVersion", "kind", "metadata", "status"];
        object.root().iter().filter(|(name, value)| !BESIDE.contains(&name.as_str()) && !value.is_null())
    }
    content(new).count() != content(old).count()
        || content(new).any(|(name, value)| old.root().get(name) != Some(value))
}

/// The hooks of one kind. Every hook has a default; a kind writes only what is special.
pub trait Strategy: Send + Sync {
    /// Fills in default values. Runs on every decoded body, before admission, and must be idempotent.
    fn default(&self, _object: &mut Object) {}

    /// As [`Self::default`], for what server-side apply has merged. Of a custom object upstream does not decode that once
    /// more, so that nulls which may not be there are left for validation to refuse.
    fn default_merged(&self, object: &mut Object) {
        self.default(object);
    }

    /// Drops and sets fields that the client does not decide. The registry has already cleared `status` (for rows
    /// with a `status` subresource, unless [`Self::keeps_status_on_create`]) and set `metadata` (uid, creationTimestamp, generation).
    fn prepare_create(&self, _ctx: &WriteContext<'_>, _new: &mut Object) {}

    /// As [`Self::prepare_create`], before an update. The registry has already kept the old `status` and counts
    /// `metadata.generation` afterwards, when anything beside `metadata` and `status` has changed.
    fn prepare_update(&self, _ctx: &WriteContext<'_>, _new: &mut Object, _old: &Object) {}

    /// Semantic rules for a new object. Types, required fields and enums have been checked by the schema;
    /// `metadata` by the registry. Must not depend on anything but its arguments.
    fn validate_create(&self, _ctx: &WriteContext<'_>, _new: &Object) -> Vec<FieldError> {
        Vec::new()
    }

    /// Semantic rules for a change, immutable fields included.
    fn validate_update(&self, ctx: &WriteContext<'_>, new: &Object, _old: &Object) -> Vec<FieldError> {
        self.validate_create(ctx, new)
    }

    /// Rules for a write to `/status`; the registry has already restored everything but `status`.
    fn validate_status_update(&self, _ctx: &WriteContext<'_>, _new: &Object, _old: &Object) -> Vec<FieldError> {
        Vec::new()
    }

    /// Sets fields that a status write decides beside `status` itself.
    fn prepare_status_update(&self, _ctx: &WriteContext<'_>, _new: &mut Object, _old: &Object) {}

    /// Whether the rules may take long: where what a client sends is compiled.
    fn validation_may_take_long(&self) -> bool {
        false
    }

    /// Texts for `Warning` headers.
    fn warnings(&self, _new: &Object, _old: Option<&Object>) -> Vec<String> {
        Vec::new()
    }

    /// Texts for `Warning` headers of a new object that is prepared, but may yet be refused.
    fn preparation_warnings(&self, _new: &Object) -> Vec<String> {
        Vec::new()
    }

    /// Texts for `Warning` headers of a write to `/status`.
    fn status_warnings(&self, _new: &Object) -> Vec<String> {
        Vec::new()
    }

    /// The rule for `metadata.name`: why `name` is not allowed; empty when it is. `prefix` is true when the server
    /// will add random characters (`generateName`).
    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String>;

    /// The fields of the metadata that a write to `/status` may change beside who owns what: all that clients decide, as
    /// upstream's older kinds allow, or fewer.
    fn status_metadata(&self) -> &'static [&'static str] {
        &STATUS_METADATA
    }

    /// Whether it is recorded who owns fields of the spec: not where nobody can change it.
    fn tracks_spec(&self) -> bool {
        true
    }

    /// Which checks of `metadata` the kind repeats on update. The registry checks the whole and the change once; clients
    /// see each repetition as one more cause.
    fn metadata_rechecks(&self) -> MetadataRechecks {
        MetadataRechecks { whole: 0, change: 0 }
    }

    /// Whether an update counts as a new generation, for rows that count them.
    fn is_new_generation(&self, new: &Object, old: &Object) -> bool {
        content_changed(new, old)
    }

    /// Takes out of the metadata, where it is shown without the rest, what is in it only because the version has no
    /// field for it.
    fn metadata_alone(&self, _metadata: &mut Map<String, Value>) {}

    /// Whether PUT to a missing name creates it.
    fn allow_create_on_update(&self) -> bool {
        false
    }

    /// Whether PUT without a resourceVersion replaces whatever is there.
    fn allow_unconditional_update(&self) -> bool {
        true
    }

    /// What happens to dependents when the client does not say.
    fn default_deletion(&self) -> DefaultDeletion {
        DefaultDeletion::Background
    }

    /// A warning for a DELETE that does not say what happens to dependents.
    fn silent_deletion_warning(&self) -> Option<&'static str> {
        None
    }

    /// Whether DELETE answers with the deleted object instead of a `Status`.
    fn delete_returns_object(&self) -> bool {
        false
    }

    /// Whether upstream deletes it in a way of its own, with other words for preconditions that fail.
    fn has_own_delete(&self) -> bool {
        false
    }

    /// Whether objects are forgotten after a while (events): they own nothing, and nothing waits for them.
    fn expires(&self) -> bool {
        false
    }

    /// Whether a new object keeps the `status` of its body (nodes, which register with one).
    fn keeps_status_on_create(&self) -> bool {
        false
    }

    /// Whether something other than `metadata.finalizers` keeps an object whose deletion has begun (the finalizers in
    /// a namespace's spec).
    fn holds_deletion(&self, _object: &Object) -> bool {
        false
    }

    /// For kinds that are deleted gracefully (pods): the seconds that this deletion takes, given the seconds asked
    /// for. `None` for all other kinds.
    fn grace_period(&self, _object: &Object, _asked: Option<i64>) -> Option<i64> {
        None
    }

    /// Prepares an object whose graceful deletion begins (`metadata` is already set).
    fn begin_deletion(&self, _ctx: &WriteContext<'_>, _object: &mut Object) {}
}
