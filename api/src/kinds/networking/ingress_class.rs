//! IngressClasses (upstream: `pkg/registry/networking/ingressclass`).

use jiff::Timestamp;
use serde_json::Value;

use super::ingress;
use crate::kinds::kind::Kind;
use crate::kinds::rules::fill::{self, default_pointer, object_at};
use crate::kinds::rules::naming;
use crate::kinds::rules::tree::{Errors, Node};
use crate::object::Object;
use crate::table::cell::Cell::Row;
use crate::table::cell::{NONE, age, text};

pub(crate) const KIND: Kind = Kind {
    has_generation: true,
    cells: &[Row(cells)],
    default,
    validate,
    validate_change,
    rechecks: (1, 1),
    ..Kind::cluster("ingressclasses", "IngressClass")
};

fn default(object: &mut Object) {
    let spec = fill::object(object.root_mut(), "spec");
    if let Some(parameters) = object_at(spec, "parameters") {
        default_pointer(parameters, "scope", "Cluster");
    }
}

fn validate(class: &Node<'_, '_>, errors: &mut Errors) {
    let spec = class.field("spec");
    let controller = spec.field("controller");
    if controller.text().len() > 250 {
        errors.too_long(&controller, 250);
    }
    if errors.require_text(&controller) {
        naming::domain_prefixed(&controller, errors);
    }
    let parameters = spec.field("parameters");
    if parameters.is_set() {
        class_parameters(&parameters, errors);
    }
}

fn class_parameters(at: &Node<'_, '_>, errors: &mut Errors) {
    ingress::typed_reference(at, false, errors);
    let (scope, namespace) = (at.field("scope"), at.field("namespace"));
    if scope.is_unset() {
        errors.required(&scope, "");
    } else {
        errors.one_of(&scope, &["Cluster", "Namespace"]);
    }
    match scope.text() {
        "Namespace" if namespace.is_unset() => errors.required(&namespace, "`parameters.scope` is set to 'Namespace'"),
        "Namespace" => errors.invalid_all(&namespace, naming::label(namespace.text())),
        "Cluster" if namespace.is_set() => errors.forbidden(&namespace, "`parameters.scope` is set to 'Cluster'"),
        _ => {}
    }
}

/// What may not change in an `IngressClass`.
fn validate_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    errors.immutable(&new.field("spec").field("controller"), &old.field("spec").field("controller"));
}

fn cells(class: &Object, now: Timestamp) -> Vec<Value> {
    let parameters = class.get(&["spec", "parameters"]).filter(|parameters| !parameters.is_null());
    let parameters = parameters.map_or_else(
        || NONE.to_owned(),
        |parameters| {
            let group = text(parameters, "apiGroup");
            let dot = if group.is_empty() { "" } else { "." };
            format!("{}{dot}{group}/{}", text(parameters, "kind"), text(parameters, "name"))
        },
    );
    vec![class.name().into(), class.text(&["spec", "controller"]).into(), parameters.into(), age(class, now).into()]
}
