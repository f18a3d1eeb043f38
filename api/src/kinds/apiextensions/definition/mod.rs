//! CustomResourceDefinitions (upstream: `apiextensions-apiserver/pkg/registry/customresourcedefinition`).

mod schema;
mod validate;

use serde_json::{Value, json};

use crate::custom::status;
use crate::kinds::kind::{Kind, Sub};
use crate::kinds::rules::fill::{self, default_pointer, default_zero, object, object_at, text};
use crate::kinds::rules::tree::Fields;
use crate::object::Object;
use crate::strategy::WriteContext;

pub(crate) const KIND: Kind = Kind {
    short_names: &["crd", "crds"],
    categories: &["api-extensions"],
    subresources: &[Sub::STATUS],
    has_generation: true,
    prefix: Some("apiextensions.k8s.io/customresourcedefinitions"),
    hash_version: Some("v1beta1"),
    default,
    prepare_create,
    prepare_update,
    validate: validate::definition,
    validate_new: validate::new_definition,
    validate_change: validate::definition_change,
    validate_status: validate::definition_status,
    validation_may_take_long: true,
    warn: validate::warnings,
    status_metadata: &[],
    unconditional_update: false,
    delete_returns_object: true,
    own_delete: true,
    begin_deletion,
    holds_deletion: |definition| !definition.is_being_deleted(),
    ..Kind::cluster("customresourcedefinitions", "CustomResourceDefinition")
};

/// Defaults of a `CustomResourceDefinition`: names that follow from the kind.
fn default(object: &mut Object) {
    let spec = fill::object(object.root_mut(), "spec");
    let names = fill::object(spec, "names");
    let kind = text(names, "kind").to_owned();
    if !kind.is_empty() {
        default_zero(names, "singular", kind.to_lowercase());
        default_zero(names, "listKind", format!("{kind}List"));
    }
    default_conversion(spec);
    let stored = storage_version(object);
    let status = fill::object(object.root_mut(), "status");
    if status.get("storedVersions").and_then(Value::as_array).is_none_or(Vec::is_empty) && !stored.is_empty() {
        status.insert("storedVersions".to_owned(), stored.into());
    }
}

fn default_conversion(spec: &mut Fields) {
    let conversion = object(spec, "conversion");
    default_zero(conversion, "strategy", "None");
    if let Some(webhook) = object_at(conversion, "webhook")
        && let Some(client) = object_at(webhook, "clientConfig")
        && let Some(service) = object_at(client, "service")
    {
        default_pointer(service, "port", 443);
    }
}

/// A new definition has stored nothing yet but its storage version.
fn prepare_create(_ctx: &WriteContext<'_>, new: &mut Object) {
    let stored = storage_version(new);
    new.set(
        &["status"],
        json!({"conditions": null, "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": stored}),
    );
}

/// The name of the first storage version, if there is one.
fn storage_version(definition: &Object) -> Vec<Value> {
    let versions = definition.get(&["spec", "versions"]).and_then(Value::as_array).into_iter().flatten();
    versions.filter(|v| v["storage"] == true).map(|v| v["name"].clone()).take(1).collect()
}

/// A version that becomes the storage version counts as stored from then on.
fn prepare_update(_ctx: &WriteContext<'_>, new: &mut Object, _old: &Object) {
    let Some(storage) = storage_version(new).pop() else { return };
    let status = object(new.root_mut(), "status");
    let stored = status.entry("storedVersions").or_insert_with(|| json!([]));
    match stored {
        Value::Array(list) if !list.contains(&storage) => list.push(storage),
        Value::Array(_) => {}
        other => *other = json!([storage]),
    }
}

/// A definition goes when its objects are gone.
fn begin_deletion(ctx: &WriteContext<'_>, definition: &mut Object) {
    let mut finalizers: Vec<Value> = definition.finalizers().into_iter().map(Value::from).collect();
    if finalizers.iter().any(|finalizer| finalizer == status::CLEANUP_FINALIZER) {
        return;
    }
    finalizers.push(status::CLEANUP_FINALIZER.into());
    definition.set_metadata("finalizers", finalizers);
    status::set_terminating(definition, &status::Terminating::Pending, ctx.now);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_gets_names_and_no_scope() {
        let written = json!({"spec": {"names": {"kind": "Foo"}, "versions": [{"name": "v1", "storage": true}]}});
        let mut object = Object::from_value(written).expect("an object");
        default(&mut object);
        let want = json!({"names": {"kind": "Foo", "singular": "foo", "listKind": "FooList"},
            "conversion": {"strategy": "None"}, "versions": [{"name": "v1", "storage": true}]});
        assert_eq!(object.root()["spec"], want);
    }
}
