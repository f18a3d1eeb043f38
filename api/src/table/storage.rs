//! Rows of storage and dynamic resources.

use jiff::Timestamp;
use serde_json::Value;

use super::Printer;
use super::core::joined_or_none;
use super::text::{UNSET, age, list, or, text};
use crate::object::Object;

pub(super) fn printer(plural: &str) -> Option<Printer> {
    Some(match plural {
        "csidrivers" => driver,
        "csinodes" => csi_node,
        "deviceclasses" | "resourceclaimtemplates" => name_and_age,
        "resourceclaims" => claim,
        "resourceslices" => slice,
        "storageclasses" => storage_class,
        "volumeattachments" => attachment,
        "volumeattributesclasses" => attributes_class,
        _ => return None,
    })
}

fn flag(object: &Object, path: &[&str], otherwise: bool) -> Value {
    object.get(path).and_then(Value::as_bool).unwrap_or(otherwise).into()
}

fn name_and_age(object: &Object, now: Timestamp) -> Vec<Value> {
    vec![object.name().into(), age(object, now).into()]
}

/// The name, marked when the class is the default one.
fn marked_name(class: &Object, annotations: &[&str]) -> Value {
    let default = annotations.iter().any(|key| class.annotation(key) == Some("true"));
    if default { format!("{} (default)", class.name()).into() } else { class.name().into() }
}

fn storage_class(class: &Object, now: Timestamp) -> Vec<Value> {
    let annotations =
        ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
    vec![
        marked_name(class, &annotations),
        class.text(&["provisioner"]).into(),
        or(class.text(&["reclaimPolicy"]), "Delete").into(),
        or(class.text(&["volumeBindingMode"]), "Immediate").into(),
        flag(class, &["allowVolumeExpansion"], false),
        age(class, now).into(),
    ]
}

fn attributes_class(class: &Object, now: Timestamp) -> Vec<Value> {
    let name = marked_name(class, &["storageclass.kubernetes.io/is-default-class"]);
    vec![name, class.text(&["driverName"]).into(), age(class, now).into()]
}

fn driver(driver: &Object, now: Timestamp) -> Vec<Value> {
    let requests = list(driver, &["spec", "tokenRequests"]).iter().map(|request| text(request, "audience"));
    let requests = requests.collect::<Vec<_>>().join(",");
    vec![
        driver.name().into(),
        flag(driver, &["spec", "attachRequired"], true),
        flag(driver, &["spec", "podInfoOnMount"], false),
        flag(driver, &["spec", "storageCapacity"], false),
        or(&requests, UNSET).into(),
        flag(driver, &["spec", "requiresRepublish"], false),
        joined_or_none(list(driver, &["spec", "volumeLifecycleModes"])).into(),
        age(driver, now).into(),
    ]
}

fn csi_node(node: &Object, now: Timestamp) -> Vec<Value> {
    vec![node.name().into(), list(node, &["spec", "drivers"]).len().into(), age(node, now).into()]
}

fn attachment(attachment: &Object, now: Timestamp) -> Vec<Value> {
    vec![
        attachment.name().into(),
        attachment.text(&["spec", "attacher"]).into(),
        attachment.text(&["spec", "source", "persistentVolumeName"]).into(),
        attachment.text(&["spec", "nodeName"]).into(),
        flag(attachment, &["status", "attached"], false),
        age(attachment, now).into(),
    ]
}

fn claim(claim: &Object, now: Timestamp) -> Vec<Value> {
    let allocated = claim.get(&["status", "allocation"]).is_some_and(|allocation| !allocation.is_null());
    let reserved = !list(claim, &["status", "reservedFor"]).is_empty();
    let states = [
        ("deleted", claim.is_being_deleted()),
        ("allocated", allocated),
        ("reserved", allocated && reserved),
        ("pending", !allocated && !claim.is_being_deleted()),
    ];
    let states: Vec<&str> = states.into_iter().filter(|(_, holds)| *holds).map(|(state, _)| state).collect();
    vec![claim.name().into(), states.join(",").into(), age(claim, now).into()]
}

fn slice(slice: &Object, now: Timestamp) -> Vec<Value> {
    vec![
        slice.name().into(),
        or(slice.text(&["spec", "nodeName"]), UNSET).into(),
        slice.text(&["spec", "driver"]).into(),
        slice.text(&["spec", "pool", "name"]).into(),
        age(slice, now).into(),
    ]
}
