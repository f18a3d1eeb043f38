//! What schedulers and drivers write into the status of a `ResourceClaim`: who uses it, what was allocated, how it
//! does.

use std::collections::HashSet;

use serde_json::Value;

use super::shared::{self, RequestNames, binding_conditions, configuration, pool_name, raw, toleration};
use crate::field::{FieldError, Kind};
use crate::kinds::rules::fill::object;
use crate::kinds::rules::lists::{bounded, distinct};
use crate::kinds::rules::naming::{self, csi_driver_name};
use crate::kinds::rules::tree::{Errors, Fields, IMMUTABLE, Node};
use crate::kinds::rules::{addresses, conditions, node_selector};
use crate::object::Object;
use crate::strategy::WriteContext;

const UNBOUNDED: usize = usize::MAX;

/// What a driver says of a device goes when the device is allocated no more.
pub(crate) fn prepare(_ctx: &WriteContext<'_>, new: &mut Object, old: &Object) {
    let allocated = |claim: &Object| {
        let results = claim.get(&["status", "allocation", "devices", "results"]).and_then(Value::as_array);
        results.into_iter().flatten().map(device_of).collect::<HashSet<String>>()
    };
    let kept = allocated(new);
    let gone: HashSet<String> = allocated(old).difference(&kept).cloned().collect();
    if gone.is_empty() {
        return;
    }
    let status: &mut Fields = object(new.root_mut(), "status");
    if let Some(devices) = status.get_mut("devices").and_then(Value::as_array_mut) {
        devices.retain(|device| !gone.contains(&device_of(device)));
        if devices.is_empty() {
            status.remove("devices");
        }
    }
}

/// A device as upstream spells it: driver, pool, name and, for a part of it, which part.
fn device_of(device: &Value) -> String {
    let texts = ["driver", "pool", "device", "shareID"].map(|key| device.get(key).and_then(Value::as_str));
    let [driver, pool, name, share] = texts;
    let mut spelled = [driver, pool, name].map(Option::unwrap_or_default).join("/");
    if let Some(share) = share {
        spelled.push('/');
        spelled.push_str(share);
    }
    spelled
}

/// The status of a `ResourceClaim`.
pub(crate) fn change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let (spec, status, before) = (new.field("spec"), new.field("status"), old.field("status"));
    let names = RequestNames::of(&spec.field("devices"));
    let (users, allocation) = (status.field("reservedFor"), status.field("allocation"));
    let uid = |user: &Node<'_, '_>| user.field("uid").text().to_owned();
    distinct(&users, 256, uid, errors, |user, errors| {
        for field in ["resource", "name", "uid"] {
            errors.require_text(&user.field(field));
        }
    });
    devices(&status, errors);
    let deleted = new.field("metadata").field("deletionTimestamp").is_set();
    if !users.is_empty() && allocation.is_unset() {
        errors.forbidden(&users, "may not be specified when `allocated` is not set");
    } else if deleted && users.list().iter().any(|user| !before.field("reservedFor").list().contains(user)) {
        let why = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
        errors.forbidden(&users, why);
    }
    let had = before.field("allocation");
    if had.is_set() && allocation.is_set() {
        if !allocation.is_same(&had) {
            errors.invalid(&allocation, IMMUTABLE);
        }
    } else if allocation.is_set() {
        new_allocation(&allocation, &names, errors);
    }
}

fn new_allocation(at: &Node<'_, '_>, names: &RequestNames<'_>, errors: &mut Errors) {
    let devices = at.field("devices");
    bounded(&devices.field("results"), 32, errors, |result, errors| {
        names.check(&result.field("request"), errors);
        identity(result, errors);
        binding_conditions(result, errors);
        bounded(&result.field("tolerations"), shared::MOST_TAINTS, errors, toleration);
    });
    bounded(&devices.field("config"), 64, errors, |config, errors| {
        let source = config.field("source");
        if errors.require_text(&source) {
            errors.one_of(&source, &["FromClaim", "FromClass"]);
        }
        names.check_all(&config.field("requests"), errors);
        configuration(config, true, errors);
    });
    let selector = at.field("nodeSelector");
    if selector.is_set() {
        node_selector::node_selector(&selector, errors);
    }
}

/// Which device it is about.
fn identity(at: &Node<'_, '_>, errors: &mut Errors) {
    csi_driver_name(&at.field("driver"), errors);
    pool_name(&at.field("pool"), errors);
    let device = at.field("device");
    errors.invalid_all(&device, naming::label(device.text()));
    let share = at.field("shareID");
    if share.is_set() && !is_uuid(share.text()) {
        let why = "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase hexadecimal characters";
        errors.invalid(&share, why);
    }
}

fn is_uuid(text: &str) -> bool {
    let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    text.len() == 36
        && text.bytes().enumerate().all(|(at, b)| if matches!(at, 8 | 13 | 18 | 23) { b == b'-' } else { is_digit(b) })
}

/// What drivers say of devices that are allocated.
fn devices(status: &Node<'_, '_>, errors: &mut Errors) {
    const MOST_CONDITIONS: usize = 8;
    let allocation = status.field("allocation");
    let allocated: HashSet<String> =
        allocation.field("devices").field("results").list().iter().map(device_of).collect();
    let key = |device: &Node<'_, '_>| device.value().map(device_of).unwrap_or_default();
    distinct(&status.field("devices"), UNBOUNDED, key, errors, |device, errors| {
        identity(device, errors);
        let name = device.value().map(device_of).unwrap_or_default();
        if !allocated.contains(&name) {
            let message = format!("Invalid value: {name}: must be an allocated device in the claim");
            errors.push(FieldError { path: device.path(), kind: Kind::Invalid, message });
        }
        let conditions = device.field("conditions");
        if conditions.list().len() > MOST_CONDITIONS {
            errors.too_many(&conditions, conditions.list().len(), MOST_CONDITIONS);
        }
        conditions::conditions(&conditions, errors);
        if device.field("data").is_set() {
            raw(&device.field("data"), true, errors);
        }
        network(&device.field("networkData"), errors);
    });
}

fn network(at: &Node<'_, '_>, errors: &mut Errors) {
    for (field, most) in [("interfaceName", 256), ("hardwareAddress", 128)] {
        if at.field(field).text().len() > most {
            errors.too_long(&at.field(field), most);
        }
    }
    let text = |at: &Node<'_, '_>| at.text().to_owned();
    distinct(&at.field("ips"), 16, text, errors, |address, errors| match addresses::parse_cidr(address.text()) {
        None => {
            let why = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)";
            errors.invalid(address, why);
        }
        Some((ip, length)) => {
            let canonical = format!("{ip}/{length}");
            if canonical != address.text() {
                errors.invalid(address, &format!("must be in canonical form ({canonical:?})"));
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(status: Value, before: Value, want: &[&str]) {
        let spec = json!({"devices": {"requests": [{"name": "r", "exactly": {}}]}});
        let (new, old) = (json!({"spec": spec, "status": status}), json!({"spec": spec, "status": before}));
        let root = |tree: &Value| tree.as_object().expect("an object").clone();
        let mut errors = Errors::default();
        change(&Node::root(&root(&new)), &Node::root(&root(&old)), &mut errors);
        assert_eq!(errors.0.iter().map(ToString::to_string).collect::<Vec<_>>(), want);
    }

    fn result() -> Value {
        json!({"request": "r", "driver": "d.example.com", "pool": "p", "device": "x"})
    }

    #[test]
    fn an_allocation_names_requests_and_stays() {
        let allocation = json!({"devices": {"results": [result()]}});
        check(json!({"allocation": allocation}), json!({}), &[]);
        let mut other = allocation.clone();
        other["devices"]["results"][0]["request"] = "q".into();
        let why =
            "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
        let want = format!("status.allocation.devices.results[0].request: Invalid value: \"q\": {why}");
        check(json!({"allocation": other}), json!({}), &[&want]);
        let none = json!({"devices": {"results": []}});
        let want = ["status.allocation: Invalid value: {\"devices\":{\"results\":[]}}: field is immutable"];
        check(json!({"allocation": none}), json!({"allocation": allocation}), &want);
    }

    #[test]
    fn users_need_an_allocation() {
        let users = json!([{"resource": "pods", "name": "a", "uid": "u"}]);
        let want = ["status.reservedFor: Forbidden: may not be specified when `allocated` is not set"];
        check(json!({"reservedFor": users}), json!({}), &want);
    }

    #[test]
    fn drivers_speak_of_allocated_devices_only() {
        let allocation = json!({"devices": {"results": [result()]}});
        let mut device = result();
        device.as_object_mut().unwrap().remove("request");
        check(json!({"allocation": allocation, "devices": [device]}), json!({"allocation": allocation}), &[]);
        device["device"] = "y".into();
        let want = ["status.devices[0]: Invalid value: d.example.com/p/y: must be an allocated device in the claim"];
        check(json!({"allocation": allocation, "devices": [device]}), json!({"allocation": allocation}), &want);
    }

    #[test]
    fn what_is_said_of_a_device_goes_with_it() {
        let object = |status: Value| Object::from_value(json!({"status": status})).unwrap();
        let user = crate::strategy::User::default();
        let now = "2026-01-02T03:04:05Z".parse().unwrap();
        let context = WriteContext { now, user: &user, subresource: "status" };
        let old = object(json!({"allocation": {"devices": {"results": [result()]}}, "devices": [result()]}));
        let mut new = object(json!({"devices": [result()]}));
        prepare(&context, &mut new, &old);
        assert!(new.get(&["status", "devices"]).is_none());
    }
}
