//! StorageClasses (upstream: `pkg/registry/storage/storageclass`).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::kinds::kind::Kind;
use crate::kinds::rules::fill::default_pointer;
use crate::kinds::rules::tree::{Errors, Node};
use crate::kinds::rules::{labels, naming};
use crate::object::Object;
use crate::table::cell::Cell::{Age, By, Flag, Text, TextOr};

pub(crate) const KIND: Kind = Kind {
    short_names: &["sc"],
    cells: &[
        By(marked_name),
        Text(&["provisioner"]),
        TextOr(&["reclaimPolicy"], "Delete"),
        TextOr(&["volumeBindingMode"], "Immediate"),
        Flag(&["allowVolumeExpansion"], false),
        Age,
    ],
    default,
    validate,
    validate_change,
    rechecks: (1, 1),
    delete_returns_object: true,
    ..Kind::cluster("storageclasses", "StorageClass")
};

fn default(object: &mut Object) {
    let root = object.root_mut();
    default_pointer(root, "reclaimPolicy", "Delete");
    default_pointer(root, "volumeBindingMode", "Immediate");
}

fn validate(class: &Node<'_, '_>, errors: &mut Errors) {
    let provisioner = class.field("provisioner");
    if errors.require_text(&provisioner) {
        errors.invalid_all(&provisioner, naming::qualified_name(&provisioner.text().to_lowercase()));
    }
    parameters(&class.field("parameters"), errors);
    errors.none_or_one_of(&class.field("reclaimPolicy"), &["Delete", "Retain"]);
    let binding = class.field("volumeBindingMode");
    if binding.is_unset() {
        errors.required(&binding, "");
    } else {
        errors.one_of(&binding, &["Immediate", "WaitForFirstConsumer"]);
    }
    topologies(&class.field("allowedTopologies"), errors);
}

/// Where volumes of a class may be: each place once, by keys named once, with values named once.
fn topologies(at: &Node<'_, '_>, errors: &mut Errors) {
    // Upstream begins with as many empty places as there are terms, and compares with them, too.
    let mut places = vec![BTreeMap::new(); at.list().len()];
    for term in at.items() {
        let mut place = BTreeMap::new();
        let expressions = term.field("matchLabelExpressions");
        for requirement in expressions.items() {
            let (key, values) = (requirement.field("key"), requirement.field("values"));
            let mut set = BTreeSet::new();
            if values.is_empty() {
                errors.required(&values, "");
            }
            for value in values.items() {
                if !set.insert(value.text()) {
                    errors.duplicate(&value);
                }
            }
            labels::label_name(&key, errors);
            if place.insert(key.text(), set).is_some() {
                errors.duplicate(&key);
            }
        }
        for _ in places.iter().filter(|known| **known == place) {
            errors.duplicate_value(&expressions, "");
        }
        places.push(place);
    }
}

pub(crate) fn parameters(at: &Node<'_, '_>, errors: &mut Errors) {
    if at.map().is_some_and(|map| map.len() > 512) {
        errors.too_long(at, 512);
        return;
    }
    let mut size = 0;
    for (key, value) in at.entries() {
        if key.is_empty() {
            errors.invalid_value(at, key, "field can not be empty.");
        }
        size += key.len() + value.text().len();
    }
    if size > 256 * 1024 {
        errors.too_long(at, 256 * 1024);
    }
}

/// What may not change in a `StorageClass`.
fn validate_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    for key in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
        errors.immutable(&new.field(key), &old.field(key));
    }
}

/// The name, marked when the class is the default one.
pub(crate) fn default_marked(class: &Object, annotations: &[&str]) -> Value {
    let default = annotations.iter().any(|key| class.annotation(key) == Some("true"));
    if default { format!("{} (default)", class.name()).into() } else { class.name().into() }
}

fn marked_name(class: &Object) -> Value {
    default_marked(
        class,
        &["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::rules::checks::check_rule;
    use serde_json::json;

    #[test]
    fn each_place_is_named_once() {
        let zone = json!({"matchLabelExpressions": [{"key": "zone", "values": ["a"]}]});
        let class =
            |terms: Value| json!({"provisioner": "p", "volumeBindingMode": "Immediate", "allowedTopologies": terms});
        check_rule(super::validate, class(json!([zone])), &[]);
        let twice = ["allowedTopologies[1].matchLabelExpressions: Duplicate value: \"\""];
        check_rule(super::validate, class(json!([zone, zone])), &twice);
        check_rule(
            super::validate,
            class(json!([{}])),
            &["allowedTopologies[0].matchLabelExpressions: Duplicate value: \"\""],
        );
    }
}
