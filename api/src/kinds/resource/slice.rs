//! Rules for what drivers publish of their devices: where they are, what they are like, what they share.

use serde_json::Value;

use super::capacity;
use super::shared::{MOST_TAINTS, binding_conditions, label, pool_name, qualified, taint};
use crate::kinds::kind::{Kind, field};
use crate::kinds::rules::fill::{self, default_pointer};
use crate::kinds::rules::lists::{bounded, distinct, name_of};
use crate::kinds::rules::naming::{self, csi_driver_name};
use crate::kinds::rules::node_selector;
use crate::kinds::rules::shown::Shown;
use crate::kinds::rules::tree::{Errors, Node};
use crate::object::Object;
use crate::table::cell::Cell::{Age, Name, Text, TextOr};
use crate::table::cell::UNSET;

pub(crate) const KIND: Kind = Kind {
    has_generation: true,
    fields: &[field("spec.nodeName"), field("spec.driver")],
    cells: &[
        Name,
        TextOr(&["spec", "nodeName"], UNSET),
        Text(&["spec", "driver"]),
        Text(&["spec", "pool", "name"]),
        Age,
    ],
    default,
    validate_new,
    validate_change,
    delete_returns_object: true,
    ..Kind::cluster("resourceslices", "ResourceSlice")
};

fn default(object: &mut Object) {
    let spec = fill::object(object.root_mut(), "spec");
    let pool = fill::object(spec, "pool");
    default_pointer(pool, "name", "");
    default_pointer(pool, "generation", 0);
    default_pointer(pool, "resourceSliceCount", 0);
    default_pointer(spec, "driver", "");
}

/// The most devices of a slice.
const MOST_DEVICES: usize = 128;
/// The most devices of a slice where some have taints or consume counters.
const MOST_SPECIAL_DEVICES: usize = 64;

/// A new `ResourceSlice`.
fn validate_new(slice: &Node<'_, '_>, errors: &mut Errors) {
    let spec = slice.field("spec");
    slice_spec(&spec, None, errors);
}

/// A changed `ResourceSlice`: it stays with its driver, pool and node.
fn validate_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    slice_spec(&new.field("spec"), Some(&old.field("spec")), errors);
}

fn slice_spec(spec: &Node<'_, '_>, old: Option<&Node<'_, '_>>, errors: &mut Errors) {
    csi_driver_name(&spec.field("driver"), errors);
    let pool = spec.field("pool");
    let (name, generation, count) = (pool.field("name"), pool.field("generation"), pool.field("resourceSliceCount"));
    pool_name(&name, errors);
    if count.number() <= 0 {
        errors.invalid_value(&count, count.number(), "must be greater than zero");
    }
    if generation.number() < 0 {
        errors.invalid(&generation, "must be greater than or equal to zero");
    }
    if let Some(old) = old {
        errors.immutable(&name, &old.field("pool").field("name"));
        errors.immutable(&spec.field("driver"), &old.field("driver"));
        errors.immutable(&spec.field("nodeName"), &old.field("nodeName"));
    }
    where_slice_is(spec, errors);
    let (devices, counters) = (spec.field("devices"), spec.field("sharedCounters"));
    if devices.is_set() && counters.is_set() {
        errors.invalid_value(spec, "", "only one of `sharedCounters` or `devices` is allowed");
    }
    let special =
        |device: &Node<'_, '_>| ["taints", "consumesCounters"].iter().any(|list| !device.field(list).is_empty());
    let most = if devices.items().any(|device| special(&device)) { MOST_SPECIAL_DEVICES } else { MOST_DEVICES };
    let before = old.map(|old| old.field("devices"));
    distinct(&devices, most, name_of, errors, |at, errors| {
        let had = before.as_ref().and_then(|list| {
            list.list().iter().position(|had| had["name"] == at.field("name").text()).map(|index| list.index(index))
        });
        device(at, had.as_ref(), spec.field("perDeviceNodeSelection").is_true(), errors);
    });
    distinct(&counters, 8, name_of, errors, |set, errors| {
        label(&set.field("name"), errors);
        capacity::counters(&set.field("counters"), errors);
    });
}

/// A slice is for one node, for selected ones, for all, or leaves it to each device.
fn where_slice_is(spec: &Node<'_, '_>, errors: &mut Errors) {
    const ONE: &str = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    let mut given = Vec::new();
    let (node, selector) = (spec.field("nodeName"), spec.field("nodeSelector"));
    if node.is_set() && node.text().is_empty() {
        errors.invalid(&node, "must be either unset or set to a non-empty string");
    } else if node.is_set() {
        given.push("`nodeName`");
        errors.invalid_all(&node, naming::subdomain(node.text()));
    }
    if selector.is_set() {
        given.push("`nodeSelector`");
        node_selector::node_selector(&selector, errors);
        let terms = selector.field("nodeSelectorTerms");
        if terms.list().len() != 1 {
            let shown = node_selector::shown_terms(&selector.field("nodeSelectorTerms"));
            errors.invalid_shown(&terms, &shown, "must have exactly one node selector term");
        }
    }
    for (flag, name) in [("allNodes", "`allNodes`"), ("perDeviceNodeSelection", "`perDeviceNodeSelection`")] {
        let at = spec.field(flag);
        if at.is_true() {
            given.push(name);
        } else if at.is_set() {
            errors.invalid(&at, "must be either unset or set to true");
        }
    }
    match given.len() {
        0 => errors.required(spec, ONE),
        1 => {}
        _ => {
            let given = format!("{{{}}}", given.join(", "));
            errors.invalid_value(spec, given, &format!("{ONE}, but multiple fields are set"));
        }
    }
}

fn device(at: &Node<'_, '_>, had: Option<&Node<'_, '_>>, has_place: bool, errors: &mut Errors) {
    /// The most attributes and capacities of a device.
    const MOST_PROPERTIES: usize = 32;
    label(&at.field("name"), errors);
    let (attributes, capacity) = (at.field("attributes"), at.field("capacity"));
    let count = [&attributes, &capacity].iter().filter_map(|map| map.map()).map(|map| map.len()).sum::<usize>();
    if count > MOST_PROPERTIES {
        let why = format!("the total number of attributes and capacities must not exceed {MOST_PROPERTIES}");
        errors.invalid_value(at, count, &why);
    }
    for (name, value) in attributes.entries() {
        qualified(name, &attributes, errors);
        attribute(&value, errors);
    }
    if had.is_none_or(|had| !had.field("capacity").is_same(&capacity)) {
        let shared = at.field("allowMultipleAllocations").is_true();
        for (name, value) in capacity.entries() {
            qualified(name, &capacity, errors);
            capacity::request_policy(&value, shared, errors);
        }
    }
    let taints = at.field("taints");
    if had.is_none_or(|had| !had.field("taints").is_same(&taints)) {
        bounded(&taints, MOST_TAINTS, errors, taint);
    }
    let set_name = |at: &Node<'_, '_>| at.field("counterSet").text().to_owned();
    distinct(&at.field("consumesCounters"), 2, set_name, errors, |consumed, errors| {
        label(&consumed.field("counterSet"), errors);
        capacity::counters(&consumed.field("counters"), errors);
    });
    where_device_is(at, has_place, errors);
    binding_conditions(at, errors);
}

/// A device has a place of its own just where its slice leaves it to the devices.
fn where_device_is(at: &Node<'_, '_>, has_place: bool, errors: &mut Errors) {
    const ONE: &str = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when \
                       `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
    const NONE: &str = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to \
                        true in the ResourceSlice spec";
    let (node, selector, all) = (at.field("nodeName"), at.field("nodeSelector"), at.field("allNodes"));
    if !has_place {
        if node.is_set() || selector.is_set() || all.is_set() {
            errors.invalid_value(at, Value::Null, NONE);
        }
        return;
    }
    let mut given = Vec::new();
    if node.is_set() && node.text().is_empty() {
        errors.invalid(&node, "must not be empty");
    } else if node.is_set() {
        given.push("`nodeName`");
        errors.invalid_all(&node, naming::subdomain(node.text()));
    }
    if selector.is_set() {
        given.push("`nodeSelector`");
        node_selector::node_selector(&selector, errors);
    }
    if all.is_true() {
        given.push("`allNodes`");
    } else if all.is_set() {
        errors.invalid(&all, "must be either unset or set to true");
    }
    match given.len() {
        0 => errors.required(at, ONE),
        1 => {}
        _ => errors.invalid_value(at, format!("{{{}}}", given.join(", ")), ONE),
    }
}

/// An attribute of a device: one value of one type.
fn attribute(at: &Node<'_, '_>, errors: &mut Errors) {
    const LONGEST: usize = 64;
    const ONE: &str = "exactly one value must be specified";
    const TYPES: [(&str, &str); 8] = [
        ("IntValue", "int"),
        ("BoolValue", "bool"),
        ("StringValue", "string"),
        ("VersionValue", "version"),
        ("IntValues", "ints"),
        ("BoolValues", "bools"),
        ("StringValues", "strings"),
        ("VersionValues", "versions"),
    ];
    let short = |at: &Node<'_, '_>, errors: &mut Errors| {
        if at.text().len() > LONGEST {
            errors.too_long(at, LONGEST);
        }
    };
    short(&at.field("string"), errors);
    let version = at.field("version");
    if version.is_set() && cel::SemanticVersion::parse(version.text()).is_none() {
        errors.invalid(&version, "must be a string compatible with semver.org spec 2.0.0");
    }
    short(&version, errors);
    for list in at.field("strings").items().chain(at.field("versions").items()) {
        short(&list, errors);
    }
    match TYPES.iter().filter(|(_, field)| at.field(field).is_set()).count() {
        0 => errors.invalid_value(at, "", ONE),
        1 => {}
        _ => errors.invalid_shown(at, &Shown::fields(TYPES.map(|(name, field)| (name, at.field(field).shown()))), ONE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(spec: Value, want: &[&str]) {
        let slice = json!({"spec": spec});
        let mut errors = Errors::default();
        super::validate_new(&Node::root(slice.as_object().expect("an object")), &mut errors);
        assert_eq!(errors.0.iter().map(ToString::to_string).collect::<Vec<_>>(), want);
    }

    fn with(devices: Value) -> Value {
        json!({"driver": "d.example.com", "nodeName": "n", "pool": {"name": "p", "resourceSliceCount": 1}, "devices": devices})
    }

    #[test]
    fn a_slice_is_in_one_place() {
        let mut spec = with(json!([]));
        check(spec.clone(), &[]);
        spec["allNodes"] = true.into();
        check(
            spec.clone(),
            &[
                "spec: Invalid value: \"{`nodeName`, `allNodes`}\": exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required, but multiple fields are set",
            ],
        );
        spec["allNodes"] = false.into();
        spec["nodeName"] = Value::Null;
        check(
            spec,
            &[
                "spec.allNodes: Invalid value: false: must be either unset or set to true",
                "spec: Required value: exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required",
            ],
        );
    }

    #[test]
    fn devices_are_told_apart_by_their_names() {
        check(with(json!([{"name": "a"}, {"name": "a"}])), &["spec.devices[1]: Duplicate value: \"a\""]);
        check(with(json!([{"name": ""}])), &["spec.devices[0].name: Required value"]);
        let many = (0..129).map(|n| json!({"name": format!("d{n}")})).collect::<Vec<_>>();
        check(with(many.into()), &["spec.devices: Too many: 129: must have at most 128 items"]);
        let tainted = (0..65).map(|n| json!({"name": format!("d{n}"), "taints": [{"key": "k", "effect": "None"}]}));
        check(with(tainted.collect()), &["spec.devices: Too many: 65: must have at most 64 items"]);
    }

    #[test]
    fn an_attribute_has_one_value_and_a_proper_name() {
        let device = |attributes: Value| with(json!([{"name": "a", "attributes": attributes}]));
        check(device(json!({"x": {"string": "s"}, "y.example.com/z": {"version": "1.2.3-rc.1+b"}})), &[]);
        check(
            device(json!({"x": {}})),
            &["spec.devices[0].attributes[x]: Invalid value: \"\": exactly one value must be specified"],
        );
        check(
            device(json!({"x": {"version": "1.2"}})),
            &[
                "spec.devices[0].attributes[x].version: Invalid value: \"1.2\": must be a string compatible with semver.org spec 2.0.0",
            ],
        );
        check(
            device(json!({"a/b/c": {"int": 1}})),
            &["spec.devices[0].attributes: Invalid value: \"a/b/c\": must not contain more than one slash"],
        );
    }

    #[test]
    fn a_place_of_its_own_needs_the_slice_to_say_so() {
        check(
            with(json!([{"name": "a", "nodeName": "n"}])),
            &[
                "spec.devices[0]: Invalid value: null: `nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec",
            ],
        );
    }

    #[test]
    fn binding_conditions_come_in_pairs() {
        check(
            with(json!([{"name": "a", "bindingConditions": ["x", "x"]}])),
            &[
                "spec.devices[0].bindingConditions[1]: Duplicate value: \"x\"",
                "spec.devices[0].bindingFailureConditions: Invalid value: null: bindingFailureConditions are required to use bindingConditions",
            ],
        );
    }
}
