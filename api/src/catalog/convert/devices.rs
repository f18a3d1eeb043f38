//! `resource.k8s.io`: `v1beta1` writes device requests and devices flatter or deeper than the versions after it.

use serde_json::{Map, Value};

use crate::object::Object;

/// What a request of exactly one kind of device holds; `v1beta1` has it in the request itself.
const EXACTLY: [&str; 7] =
    ["deviceClassName", "selectors", "allocationMode", "count", "adminAccess", "tolerations", "capacity"];

/// Between two versions of a kind; only from and to `v1beta1` does the shape change.
pub(super) fn convert(from: &str, to: &str, kind: &str, object: &mut Object) {
    let nest = match (from, to) {
        ("v1beta1", _) => true,
        (_, "v1beta1") => false,
        _ => return,
    };
    let path: &[&str] = match kind {
        "ResourceClaim" => &["spec", "devices", "requests"],
        "ResourceClaimTemplate" => &["spec", "spec", "devices", "requests"],
        "ResourceSlice" => &["spec", "devices"],
        _ => return,
    };
    let Some(Value::Array(list)) = object.get_mut(path) else { return };
    for entry in list.iter_mut().filter_map(Value::as_object_mut) {
        match (kind, nest) {
            ("ResourceSlice", true) => lift_basic(entry),
            ("ResourceSlice", false) => wrap_basic(entry),
            (_, true) => wrap_exactly(entry),
            (_, false) => lift_exactly(entry),
        }
    }
}

fn wrap_exactly(request: &mut Map<String, Value>) {
    let fields: Map<String, Value> =
        EXACTLY.iter().filter_map(|name| request.remove(*name).map(|value| ((*name).to_owned(), value))).collect();
    let is_empty = fields.values().all(|value| value.as_str() == Some(""));
    if !is_empty {
        request.insert("exactly".into(), Value::Object(fields));
    }
}

fn lift_exactly(request: &mut Map<String, Value>) {
    if let Some(Value::Object(fields)) = request.remove("exactly") {
        request.extend(fields);
    }
}

fn lift_basic(device: &mut Map<String, Value>) {
    if let Some(Value::Object(fields)) = device.remove("basic") {
        device.extend(fields);
    }
}

fn wrap_basic(device: &mut Map<String, Value>) {
    let name = device.remove("name");
    let fields = std::mem::take(device);
    device.extend(name.map(|name| ("name".to_owned(), name)));
    device.insert("basic".into(), Value::Object(fields));
}
