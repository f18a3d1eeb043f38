//! Namespaces (upstream: `pkg/registry/core/namespace`).

use serde_json::{Value, json};

use crate::kinds::kind::{Kind, Sub, field};
use crate::kinds::rules::fill::{self, default_zero, object};
use crate::kinds::rules::naming;
use crate::kinds::rules::tree::{Errors, Node};
use crate::object::Object;
use crate::resource::Verb;
use crate::strategy::WriteContext;
use crate::table::cell::Cell::{Age, Name, Text};

pub(crate) const KIND: Kind = Kind {
    verbs: &[Verb::Create, Verb::Delete, Verb::Get, Verb::List, Verb::Patch, Verb::Update, Verb::Watch],
    short_names: &["ns"],
    subresources: &[Sub::own("finalize", &["update"]), Sub::STATUS],
    fields: &[field("status.phase")],
    cells: &[Name, Text(&["status", "phase"]), Age],
    default,
    prepare_create,
    prepare_update,
    validate,
    validate_status,
    validate_subresource,
    validate_name: naming::label_name,
    rechecks: (1, 1),
    delete_returns_object: true,
    own_delete: true,
    begin_deletion,
    holds_deletion,
    ..Kind::cluster("namespaces", "Namespace")
};

/// Defaults of a `Namespace`: its name is also a label, so that selectors can name it.
fn default(object: &mut Object) {
    let name = object.name().to_owned();
    if !name.is_empty() {
        fill::object(object.metadata_mut(), "labels").insert("kubernetes.io/metadata.name".to_owned(), name.into());
    }
    fill::object(object.root_mut(), "spec");
    default_zero(fill::object(object.root_mut(), "status"), "phase", "Active");
}

/// A new namespace is held by the namespace controller until its contents are gone.
fn prepare_create(_ctx: &WriteContext<'_>, new: &mut Object) {
    new.set(&["status"], json!({"phase": "Active"}));
    let spec = object(new.root_mut(), "spec");
    let finalizers = spec.entry("finalizers").or_insert_with(|| json!([]));
    if let Value::Array(list) = finalizers {
        if !list.iter().any(|finalizer| finalizer == "kubernetes") {
            list.push("kubernetes".into());
        }
    } else {
        *finalizers = json!(["kubernetes"]);
    }
}

/// Only `/finalize` changes the finalizers of a namespace's spec.
fn prepare_update(ctx: &WriteContext<'_>, new: &mut Object, old: &Object) {
    if ctx.subresource == "finalize" {
        return;
    }
    match old.get(&["spec", "finalizers"]).cloned() {
        Some(finalizers) => new.set(&["spec", "finalizers"], finalizers),
        None => {
            new.remove(&["spec", "finalizers"]);
        }
    }
}

/// A namespace that is being deleted says so.
fn begin_deletion(_ctx: &WriteContext<'_>, namespace: &mut Object) {
    namespace.set(&["status", "phase"], "Terminating");
}

/// A namespace stays until the finalizers of its spec are gone.
fn holds_deletion(namespace: &Object) -> bool {
    namespace.get(&["spec", "finalizers"]).and_then(Value::as_array).is_some_and(|list| !list.is_empty())
}

/// A `Namespace`. Upstream names the list for what is wrong in an element.
fn validate(namespace: &Node<'_, '_>, errors: &mut Errors) {
    let spec = namespace.field("spec");
    let list = spec.field("finalizers");
    list.texts().for_each(|finalizer| finalizer_name(&list, finalizer, errors));
}

/// The phase of a `Namespace` follows from its deletion. Upstream spells the path with a capital letter.
fn validate_status(new: &Node<'_, '_>, _old: &Node<'_, '_>, errors: &mut Errors) {
    let (metadata, status) = (new.field("metadata"), new.field("status"));
    let phase = status.field("phase").text();
    let shown = status.field("Phase");
    if metadata.field("deletionTimestamp").is_unset() {
        if phase != "Active" {
            errors.invalid_value(&shown, phase, "may only be 'Active' if `deletionTimestamp` is empty");
        }
    } else if phase != "Terminating" {
        errors.invalid_value(&shown, phase, "may only be 'Terminating' if `deletionTimestamp` is not empty");
    }
}

/// The finalizers of a `Namespace`, by the subresource that changes them.
fn validate_subresource(name: &str, new: &Node<'_, '_>, _old: &Node<'_, '_>, errors: &mut Errors) -> bool {
    if name != "finalize" {
        return false;
    }
    let spec = new.field("spec");
    for finalizer in spec.field("finalizers").items() {
        finalizer_name(&finalizer, finalizer.text(), errors);
    }
    true
}

/// Finalizers are Kubernetes' own, or have a domain.
fn finalizer_name(at: &Node<'_, '_>, name: &str, errors: &mut Errors) {
    const ALIEN: &str = "name is neither a standard finalizer name nor is it fully qualified";
    for why in naming::qualified_name(name) {
        errors.invalid_value(at, name, &why);
    }
    if !name.contains('/') && !matches!(name, "kubernetes" | "orphan" | "foregroundDeletion") {
        errors.invalid_value(at, name, ALIEN);
    }
}
