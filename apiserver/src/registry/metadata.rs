//! The rules of `metadata`, the same for every kind (upstream: `rest.FillObjectMetaSystemFields`,
//! `api/validation.ValidateObjectMeta`).

use std::collections::BTreeSet;

use api::field::{FieldError, Path};
use api::strategy::MetadataRechecks;
use api::{ApiError, Object, Resource};
use serde_json::{Map, Value, json};

/// Upstream's limit for all annotations together.
const ANNOTATION_BYTES: usize = 256 * 1024;
/// The 422 of an object. A text that comes twice is said once; its causes stay.
pub(crate) fn refused(row: &Resource, name: &str, errors: &[FieldError]) -> ApiError {
    let mut unique: Vec<FieldError> = Vec::with_capacity(errors.len());
    for error in errors {
        if !unique.contains(error) {
            unique.push(error.clone());
        }
    }
    let message = ApiError::invalid(row.qualified_kind(), name, &unique).status().message.clone();
    let mut refused = ApiError::invalid(row.qualified_kind(), name, errors);
    refused.status_mut().message = message;
    refused
}

/// Fills in the namespace of the path, or refuses another one.
pub(crate) fn check_namespace(row: &Resource, namespace: &str, object: &mut Object) -> Result<(), ApiError> {
    let given = object.namespace();
    if !row.namespaced {
        if !given.is_empty() {
            // A namespaced name in a cluster-scoped object is dropped, as upstream does for requests at cluster scope.
            object.metadata_mut().remove("namespace");
        }
        return Ok(());
    }
    if given.is_empty() {
        object.set_metadata("namespace", namespace);
    } else if given != namespace {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}

/// Refuses a body without a name, or with one that is not the one in the path.
pub(crate) fn check_named(name: &str, object: &mut Object) -> Result<(), ApiError> {
    if object.name().is_empty() {
        let why = format!("the name of the object ({name} based on URL) was undeterminable: name must be provided");
        return Err(ApiError::bad_request(why));
    }
    check_name(name, object)
}

/// Names a body after the path, or refuses another name.
pub(crate) fn check_name(name: &str, object: &mut Object) -> Result<(), ApiError> {
    let given = object.name();
    if given.is_empty() {
        object.set_metadata("name", name);
        return Ok(());
    }
    if given == name {
        return Ok(());
    }
    Err(ApiError::bad_request(format!("the name of the object ({given}) does not match the name on the URL ({name})")))
}

/// Removes owners that are listed twice, with a warning.
pub(crate) fn dedupe_owners(object: &mut Object, warnings: &mut Vec<String>) {
    let Some(Value::Array(owners)) = object.get_mut(&["metadata", "ownerReferences"]) else { return };
    let mut seen: Vec<Value> = Vec::with_capacity(owners.len());
    let mut doubled = Vec::new();
    owners.retain(|owner| {
        if seen.contains(owner) {
            doubled.push(owner.get("uid").and_then(Value::as_str).unwrap_or("").to_owned());
            return false;
        }
        seen.push(owner.clone());
        true
    });
    if !doubled.is_empty() {
        let uids = doubled.into_iter().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ");
        let text = format!(
            ".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, \
             and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {uids}"
        );
        if !warnings.contains(&text) {
            warnings.push(text);
        }
    }
}

/// What only the server sets survives an update.
pub(crate) fn keep_system_fields(new: &mut Object, old: &Object) {
    for field in ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"] {
        let given = new.get(&["metadata", field]).is_some_and(|value| !value.is_null());
        let begins_deletion = field.starts_with("deletion") && !old.is_being_deleted();
        // That is refused, rather than forgotten.
        if given && (field == "uid" || begins_deletion) {
            continue;
        }
        match old.get(&["metadata", field]) {
            Some(value) => new.set_metadata(field, value.clone()),
            None => {
                new.metadata_mut().remove(field);
            }
        }
    }
    new.metadata_mut().remove("selfLink");
}

/// The 409 of a lost race.
pub(crate) fn modified(row: &Resource, name: &str) -> ApiError {
    let why = "the object has been modified; please apply your changes to the latest version and try again";
    ApiError::conflict(row.qualified(), name, why)
}

/// Whether an update changes nothing. Who owns which fields counts; when they were written does not.
pub(crate) fn same(new: &Object, old: &Object) -> bool {
    same_fields(new.root(), old.root(), &[], |name, new, old| match (name, new, old) {
        ("metadata", Value::Object(new), Value::Object(old)) => {
            same_fields(new, old, &["resourceVersion"], |name, new, old| match (name, new, old) {
                ("managedFields", Value::Array(new), Value::Array(old)) => same_owners(new, old),
                _ => new == old,
            })
        }
        _ => new == old,
    })
}

fn same_owners(new: &[Value], old: &[Value]) -> bool {
    let same = |(new, old): (&Value, &Value)| match (new, old) {
        (Value::Object(new), Value::Object(old)) => same_fields(new, old, &["time"], |_, new, old| new == old),
        _ => new == old,
    };
    new.len() == old.len() && new.iter().zip(old).all(same)
}

/// Whether two maps have the same fields, those of `skipped` aside, whose values are the same by `same`.
fn same_fields(
    new: &Map<String, Value>,
    old: &Map<String, Value>,
    skipped: &[&str],
    same: impl Fn(&str, &Value, &Value) -> bool,
) -> bool {
    let counts = |(name, _): &(&String, &Value)| !skipped.contains(&name.as_str());
    new.iter().filter(counts).count() == old.iter().filter(counts).count()
        && new.iter().filter(counts).all(|(name, new)| old.get(name).is_some_and(|old| same(name, new, old)))
}

/// Whether nothing holds an object whose deletion has begun.
pub(crate) fn may_vanish(row: &Resource, object: &Object) -> bool {
    let graceful = object.integer(&["metadata", "deletionGracePeriodSeconds"]).unwrap_or(0) > 0;
    !graceful && object.finalizers().is_empty() && !row.strategy.holds_deletion(object)
}

/// Checks the metadata of a new object.
pub(crate) fn validate(row: &Resource, object: &Object) -> Vec<FieldError> {
    let at = Path::new("metadata");
    let mut errors = Vec::new();
    let generate = object.text(&["metadata", "generateName"]);
    if !generate.is_empty() {
        let texts = row.strategy.validate_name(generate, true);
        errors.extend(texts.iter().map(|text| FieldError::invalid(&at.child("generateName"), generate, text)));
    }
    let name = object.name();
    if name.is_empty() {
        errors.push(FieldError::required(&at.child("name"), "name or generateName is required"));
    } else {
        let texts = row.strategy.validate_name(name, false);
        errors.extend(texts.iter().map(|text| FieldError::invalid(&at.child("name"), name, text)));
    }
    if row.namespaced {
        let namespace = object.namespace();
        if namespace.is_empty() {
            errors.push(FieldError::required(&at.child("namespace"), ""));
        } else {
            let texts = api::names::dns1123_label(namespace);
            errors.extend(texts.iter().map(|text| FieldError::invalid(&at.child("namespace"), namespace, text)));
        }
    }
    if object.generation() < 0 {
        errors.push(FieldError::invalid(
            &at.child("generation"),
            object.generation(),
            "must be greater than or equal to 0",
        ));
    }
    validate_common(row, object, &mut errors);
    errors
}

fn validate_common(row: &Resource, object: &Object, errors: &mut Vec<FieldError>) {
    let at = Path::new("metadata");
    errors.extend(validate_labels(object, &at.child("labels")));
    errors.extend(validate_annotations(object, &at.child("annotations")));
    errors.extend(validate_owners(object, &at.child("ownerReferences")));
    errors.extend(validate_finalizers(object, &at.child("finalizers")));
    if !row.is_custom() && !LENIENT_GROUPS.contains(&row.group.as_ref()) {
        errors.extend(validate_finalizer_domains(object, &at.child("finalizers")));
    }
    errors.extend(validate_managed_fields(object, &at.child("managedFields")));
}

fn validate_labels(object: &Object, at: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (key, value) in object.labels().into_iter().flatten() {
        errors.extend(api::names::qualified_name(key).iter().map(|text| FieldError::invalid(at, key.as_str(), text)));
        let value = value.as_str().unwrap_or("");
        errors.extend(api::names::label_value(value).iter().map(|text| FieldError::invalid(at, value, text)));
    }
    errors
}

fn validate_annotations(object: &Object, at: &Path) -> Vec<FieldError> {
    let annotations = object.get(&["metadata", "annotations"]).and_then(Value::as_object);
    let mut errors = Vec::new();
    let mut bytes = 0;
    for (key, value) in annotations.into_iter().flatten() {
        // Annotation keys may have capital letters in their prefix.
        let texts = api::names::qualified_name(&key.to_ascii_lowercase());
        errors.extend(texts.iter().map(|text| FieldError::invalid(at, key.as_str(), text)));
        bytes += key.len() + value.as_str().map_or(0, str::len);
    }
    if bytes > ANNOTATION_BYTES {
        errors.push(FieldError::too_long(at, ANNOTATION_BYTES));
    }
    errors
}

fn validate_owners(object: &Object, at: &Path) -> Vec<FieldError> {
    let Some(Value::Array(owners)) = object.get(&["metadata", "ownerReferences"]) else { return Vec::new() };
    let mut errors = Vec::new();
    let mut controllers: Vec<&Value> = Vec::new();
    for owner in owners {
        let text = |field: &str| owner.get(field).and_then(Value::as_str).unwrap_or("");
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        // What cannot be read as a group and a version is taken for neither.
        let (group, version) = match api_version.split_once('/') {
            Some((_, rest)) if rest.contains('/') => ("", ""),
            Some(both) => both,
            None => ("", api_version),
        };
        if version.is_empty() {
            errors.push(FieldError::invalid(&at.child("apiVersion"), api_version, "version must not be empty"));
        }
        for (field, value) in [("kind", kind), ("name", text("name")), ("uid", text("uid"))] {
            if value.is_empty() {
                errors.push(FieldError::invalid(&at.child(field), "", "must not be empty"));
            }
        }
        if kind == "Event" && (group.is_empty() || group == "events.k8s.io") {
            let detail = format!("{group}/{version}, Kind=Event is disallowed from being an owner");
            errors.push(go_struct_error(at, owner, &detail));
        }
        if owner.get("controller") == Some(&json!(true)) {
            controllers.push(owner);
        }
    }
    if let [first, second, ..] = controllers.as_slice() {
        let text = |owner: &Value, field: &str| owner.get(field).and_then(Value::as_str).unwrap_or("").to_owned();
        let name = |owner: &Value| format!("{}/{}", text(owner, "kind"), text(owner, "name"));
        let detail = format!(
            "Only one reference can have Controller set to true. Found \"true\" in references for {} and {}",
            name(first),
            name(second)
        );
        errors.push(go_struct_error(at, &Value::Array(owners.clone()), &detail));
    }
    errors
}

/// Shows a value with the field order of Go's struct, as upstream's error texts do.
fn go_struct_error(at: &Path, value: &Value, detail: &str) -> FieldError {
    let mut error = FieldError::invalid(at, Value::Null, detail);
    error.message = format!("Invalid value: {}: {detail}", in_struct_order(value));
    error
}

fn in_struct_order(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(in_struct_order).collect::<Vec<_>>().join(",")),
        Value::Object(owner) => {
            let order = ["apiVersion", "kind", "name", "uid", "controller", "blockOwnerDeletion"];
            let fields = order.iter().filter_map(|field| owner.get(*field).map(|value| format!("{field:?}:{value}")));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
        }
        other => other.to_string(),
    }
}

/// Finalizers that need no domain.
const STANDARD_FINALIZERS: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];

/// Groups whose kinds upstream validates as it does custom resources.
const LENIENT_GROUPS: [&str; 4] =
    ["admissionregistration.k8s.io", "apiextensions.k8s.io", "apiregistration.k8s.io", "coordination.k8s.io"];

fn validate_finalizers(object: &Object, at: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let finalizers = object.finalizers();
    for finalizer in &finalizers {
        let texts = api::names::qualified_name(finalizer);
        errors.extend(texts.iter().map(|text| FieldError::invalid(at, *finalizer, text)));
    }
    if finalizers.contains(&"orphan") && finalizers.contains(&"foregroundDeletion") {
        let detail = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.push(FieldError::invalid(at, json!(finalizers), detail));
    }
    errors
}

/// Finalizers of built-in kinds are Kubernetes' own or have a domain.
fn validate_finalizer_domains(object: &Object, at: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, finalizer) in object.finalizers().into_iter().enumerate() {
        if !finalizer.contains('/') && !STANDARD_FINALIZERS.contains(&finalizer) {
            let detail = "name is neither a standard finalizer name nor is it fully qualified";
            errors.push(FieldError::invalid(&at.index(index), finalizer, detail));
        }
    }
    errors
}

fn validate_managed_fields(object: &Object, at: &Path) -> Vec<FieldError> {
    let entries = object.get(&["metadata", "managedFields"]).and_then(Value::as_array);
    let mut errors = Vec::new();
    for (index, entry) in entries.into_iter().flatten().enumerate() {
        let at = at.index(index);
        let text = |field: &str| entry.get(field).and_then(Value::as_str).unwrap_or("");
        if !matches!(text("operation"), "Apply" | "Update") {
            errors.push(FieldError::invalid(&at.child("operation"), text("operation"), "must be `Apply` or `Update`"));
        }
        if !text("fieldsType").is_empty() && text("fieldsType") != "FieldsV1" {
            errors.push(FieldError::invalid(&at.child("fieldsType"), text("fieldsType"), "must be `FieldsV1`"));
        }
        if text("manager").len() > 128 {
            errors.push(FieldError::too_long(&at.child("manager"), 128));
        }
    }
    errors
}

/// Checks the metadata of a change as often as upstream does, which lists each cause as often: the whole and the change
/// once, and what the kind's own rules repeat. The check of a change looks at the whole, too.
pub(crate) fn validate_update(
    row: &Resource,
    rechecks: MetadataRechecks,
    new: &Object,
    old: &Object,
) -> Vec<FieldError> {
    let changes = 1 + rechecks.change;
    let change = validate_change(new, old);
    let mut errors: Vec<FieldError> = std::iter::repeat_n(change, changes).flatten().collect();
    let mut whole = Vec::new();
    validate_common(row, new, &mut whole);
    errors.extend(std::iter::repeat_n(whole, 1 + rechecks.whole + changes).flatten());
    errors
}

/// What a change may not do.
fn validate_change(new: &Object, old: &Object) -> Vec<FieldError> {
    let at = Path::new("metadata");
    let mut errors = Vec::new();
    if old.is_being_deleted() {
        let known = old.finalizers();
        let added: Vec<&str> = new.finalizers().into_iter().filter(|finalizer| !known.contains(finalizer)).collect();
        if !added.is_empty() {
            let shown: Vec<String> = added.iter().map(|finalizer| format!("\"{finalizer}\"")).collect();
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                shown.join(", ")
            );
            errors.push(FieldError::forbidden(&at.child("finalizers"), &detail));
        }
    }
    for field in ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        let (now, before) = (new.get(&["metadata", field]), old.get(&["metadata", field]));
        if now != before {
            let value = now.cloned().unwrap_or(Value::Null);
            errors.push(FieldError::invalid(&at.child(field), value, "field is immutable"));
        }
    }
    if new.generation() < old.generation() {
        errors.push(FieldError::invalid(&at.child("generation"), new.generation(), "must not be decremented"));
    }
    errors
}
