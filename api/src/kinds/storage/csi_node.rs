//! CSINodes (upstream: `pkg/registry/storage/csinode`).

use std::collections::HashSet;

use serde_json::Value;

use crate::kinds::kind::Kind;
use crate::kinds::rules::naming;
use crate::kinds::rules::shown::Shown;
use crate::kinds::rules::tree::{Errors, IMMUTABLE, Node};
use crate::table::cell::Cell::{Age, Count, Name};

pub(crate) const KIND: Kind = Kind {
    cells: &[Name, Count(&["spec", "drivers"]), Age],
    validate,
    validate_change,
    rechecks: (2, 0),
    unconditional_update: false,
    delete_returns_object: true,
    ..Kind::cluster("csinodes", "CSINode")
};

/// The most characters of the name that a driver has for a node.
const LONGEST_NODE_ID: usize = 256;

fn validate(node: &Node<'_, '_>, errors: &mut Errors) {
    let mut names = HashSet::new();
    let spec = node.field("spec");
    for driver in spec.field("drivers").items() {
        let (name, id) = (driver.field("name"), driver.field("nodeID"));
        naming::csi_driver_name(&name, errors);
        if errors.require_text(&id) && id.text().len() > LONGEST_NODE_ID {
            errors.invalid(&id, &format!("must be {LONGEST_NODE_ID} characters or less"));
        }
        let allocatable = driver.field("allocatable");
        errors.non_negative(&allocatable.field("count"));
        if !names.insert(name.text()) {
            errors.push(crate::FieldError::duplicate(&name.path(), name.text()));
        }
        topology_keys(&driver, errors);
    }
}

/// The keys are told of as if they were the driver.
fn topology_keys(driver: &Node<'_, '_>, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for key in driver.field("topologyKeys").texts() {
        if key.is_empty() {
            errors.required(driver, "");
        }
        if !seen.insert(key) {
            errors.duplicate_value(driver, key);
        }
        for why in naming::qualified_name(key) {
            errors.invalid_value(driver, key, &why);
        }
    }
}

/// What a `CSINode` says of a driver stays, but for how many volumes it has room for. Upstream's rules for a change hold
/// those for a node once more.
fn validate_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    const STAYS: [&str; 3] = ["name", "nodeID", "topologyKeys"];
    validate(new, errors);
    let (spec, before) = (new.field("spec"), old.field("spec"));
    let (drivers, had) = (spec.field("drivers"), before.field("drivers"));
    for had in had.items() {
        for now in drivers.items().filter(|now| now.field("name").text() == had.field("name").text()) {
            if STAYS.iter().any(|key| !now.field(key).is_same(&had.field(key))) {
                let [name, id, keys] = STAYS.map(|key| now.field(key).shown());
                let shown = Shown::fields([
                    ("Name", name),
                    ("NodeID", id),
                    ("TopologyKeys", keys),
                    ("Allocatable", Value::Null),
                ]);
                errors.invalid_shown(&drivers, &shown, IMMUTABLE);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::rules::checks::check_rule;
    use serde_json::json;

    #[test]
    fn the_keys_of_a_driver_are_told_of_as_the_driver() {
        let node = json!({"spec": {"drivers": [{"name": "d", "nodeID": "n", "topologyKeys": ["a", "a", ""]}]}});
        let empty = naming::qualified_name("");
        check_rule(
            validate,
            node,
            &[
                "spec.drivers[0]: Duplicate value: \"a\"",
                "spec.drivers[0]: Required value",
                &format!("spec.drivers[0]: Invalid value: \"\": {}", empty[0]),
                &format!("spec.drivers[0]: Invalid value: \"\": {}", empty[1]),
            ],
        );
    }
}
