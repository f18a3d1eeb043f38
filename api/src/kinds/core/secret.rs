//! Rules for core kinds without a file of their own.

use std::net::IpAddr;

use serde_json::{Map, Value};

use crate::kinds::rules::tree::{Errors, Node};
use crate::kinds::rules::{addresses, labels, naming};

/// The most that a ConfigMap or Secret may hold.
const MAX_DATA: usize = 1024 * 1024;
const WHEN_IMMUTABLE: &str = "field is immutable when `immutable` is set";

/// A `ConfigMap`.
pub(crate) fn config_map(map: &Node<'_, '_>, errors: &mut Errors) {
    let (data, binary) = (map.field("data"), map.field("binaryData"));
    let mut size = 0;
    for (key, value) in data.entries() {
        for why in naming::config_map_key(key) {
            errors.invalid_value(&value, key, &why);
        }
        if binary.map().is_some_and(|map| map.contains_key(key)) {
            errors.invalid_value(&value, key, "duplicate of key present in binaryData");
        }
        size += value.text().len();
    }
    for (key, value) in binary.entries() {
        for why in naming::config_map_key(key) {
            errors.invalid_value(&value, key, &why);
        }
        size += decoded_length(value.text());
    }
    too_much_data(size, errors);
}

/// Upstream names no field here, which prints as an empty index.
fn too_much_data(size: usize, errors: &mut Errors) {
    if size > MAX_DATA {
        errors.push(crate::FieldError::too_long(&crate::Path::default().key(""), MAX_DATA));
    }
}

fn decoded_length(base64: &str) -> usize {
    let padding = base64.bytes().rev().take_while(|b| *b == b'=').count();
    (base64.len() / 4 * 3).saturating_sub(padding)
}

/// What may not change in a `ConfigMap`.
pub(crate) fn config_map_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    frozen(new, old, &["data", "binaryData"], errors);
}

fn frozen(new: &Node<'_, '_>, old: &Node<'_, '_>, keys: &[&str], errors: &mut Errors) {
    if !old.field("immutable").is_true() {
        return;
    }
    if !new.field("immutable").is_true() {
        errors.forbidden(&new.field("immutable"), WHEN_IMMUTABLE);
    }
    let empty = Map::new();
    for key in keys {
        let (new, old) = (new.field(key), old.field(key));
        if new.map().unwrap_or(&empty) != old.map().unwrap_or(&empty) {
            errors.forbidden(&new, WHEN_IMMUTABLE);
        }
    }
}

/// A `Secret`.
pub(crate) fn secret(secret: &Node<'_, '_>, errors: &mut Errors) {
    let data = secret.field("data");
    let mut size = 0;
    for (key, value) in data.entries() {
        for why in naming::config_map_key(key) {
            errors.invalid_value(&value, key, &why);
        }
        size += decoded_length(value.text());
    }
    if size > MAX_DATA {
        errors.too_long(&data, MAX_DATA);
    }
    let has = |key: &str| data.map().is_some_and(|map| map.contains_key(key));
    match secret.field("type").text() {
        "kubernetes.io/tls" => {
            for key in ["tls.crt", "tls.key"].into_iter().filter(|key| !has(key)) {
                errors.required(&data.key(key), "");
            }
        }
        "kubernetes.io/dockercfg" => registry_credentials(&data, ".dockercfg", errors),
        "kubernetes.io/dockerconfigjson" => registry_credentials(&data, ".dockerconfigjson", errors),
        "kubernetes.io/basic-auth" if !has("username") && !has("password") => {
            errors.required(&data.key("username"), "");
            errors.required(&data.key("password"), "");
        }
        "kubernetes.io/ssh-auth" if data.field("ssh-privatekey").text().is_empty() => {
            errors.required(&data.key("ssh-privatekey"), "");
        }
        "kubernetes.io/service-account-token" => token_account(secret, errors),
        _ => {}
    }
}

fn token_account(secret: &Node<'_, '_>, errors: &mut Errors) {
    const ACCOUNT: &str = "kubernetes.io/service-account.name";
    let metadata = secret.field("metadata");
    let annotations = metadata.field("annotations");
    if annotations.map().and_then(|map| map.get(ACCOUNT)).and_then(Value::as_str).unwrap_or("").is_empty() {
        errors.required(&annotations.key(ACCOUNT), "");
    }
}

fn registry_credentials(data: &Node<'_, '_>, key: &'static str, errors: &mut Errors) {
    use base64::Engine as _;
    let Some(encoded) = data.map().and_then(|map| map.get(key)).and_then(Value::as_str) else {
        errors.required(&data.key(key), "");
        return;
    };
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded).unwrap_or_default();
    if let Some(why) = not_an_object(&bytes) {
        errors.invalid_value(&data.key(key), "<secret contents redacted>", &why);
    }
}

/// Why this is no JSON object, in Go's words.
fn not_an_object(text: &[u8]) -> Option<String> {
    if let Err(why) = crate::codec::json::parse(text) {
        return Some(why.to_string());
    }
    let kind = match text.iter().find(|byte| !byte.is_ascii_whitespace())? {
        b'{' | b'n' => return None,
        b'[' => "array",
        b'"' => "string",
        b't' | b'f' => "bool",
        _ => "number",
    };
    Some(format!("json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"))
}

/// What may not change in a `Secret`.
pub(crate) fn secret_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    errors.immutable(&new.field("type"), &old.field("type"));
    frozen(new, old, &["data"], errors);
}

/// `Endpoints`.
pub(crate) fn endpoints(endpoints: &Node<'_, '_>, errors: &mut Errors) {
    let subsets = endpoints.field("subsets");
    for subset in subsets.items() {
        let (ready, waiting) = (subset.field("addresses"), subset.field("notReadyAddresses"));
        if ready.is_empty() && waiting.is_empty() {
            errors.required(&subset, "must specify `addresses` or `notReadyAddresses`");
        }
        for address in ready.items().chain(waiting.items()) {
            endpoint_address(&address, errors);
        }
        let ports = subset.field("ports");
        let several = ports.list().len() > 1;
        for port in ports.items() {
            endpoint_port(&port, several, errors);
        }
    }
}

fn endpoint_address(address: &Node<'_, '_>, errors: &mut Errors) {
    let ip = address.field("ip");
    for why in addresses::ip(ip.text()) {
        errors.invalid_value(&ip, ip.text(), &why);
    }
    for key in ["hostname", "nodeName"] {
        let name = address.field(key);
        if name.is_set() && !(key == "hostname" && name.text().is_empty()) {
            let wrong = if key == "hostname" { naming::label(name.text()) } else { naming::subdomain(name.text()) };
            errors.invalid_all(&name, wrong);
        }
    }
    ordinary_address(&ip, errors);
}

/// Addresses that traffic can be sent to: neither unspecified, nor this machine, nor this link.
pub(crate) fn ordinary_address(at: &Node<'_, '_>, errors: &mut Errors) {
    let Some(address) = addresses::generous(at.text()) else {
        errors.invalid_value(at, at.text(), "must be a valid IP address");
        return;
    };
    if address.is_unspecified() {
        errors.invalid(at, &format!("may not be unspecified ({})", at.text()));
    }
    if address.is_loopback() {
        errors.invalid(at, "may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    let (unicast, multicast) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[0] == 224 && v4.octets()[1] == 0 && v4.octets()[2] == 0),
        IpAddr::V6(v6) => (v6.segments()[0] & 0xffc0 == 0xfe80, v6.segments()[0] & 0xff0f == 0xff02),
    };
    if unicast {
        errors.invalid(at, "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if multicast {
        errors.invalid(at, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}

fn endpoint_port(port: &Node<'_, '_>, needs_name: bool, errors: &mut Errors) {
    let (name, protocol) = (port.field("name"), port.field("protocol"));
    if name.text().is_empty() {
        if needs_name {
            errors.required(&name, "");
        }
    } else {
        errors.invalid_all(&name, naming::label(name.text()));
    }
    labels::port_number(&port.field("port"), errors);
    if errors.require_text(&protocol) {
        errors.one_of(&protocol, &["SCTP", "TCP", "UDP"]);
    }
    let application = port.field("appProtocol");
    if application.is_set() {
        errors.invalid_all(&application, naming::qualified_name(application.text()));
    }
}

/// A `Namespace`. Upstream names the list for what is wrong in an element.
pub(crate) fn namespace(namespace: &Node<'_, '_>, errors: &mut Errors) {
    let spec = namespace.field("spec");
    let list = spec.field("finalizers");
    list.texts().for_each(|finalizer| finalizer_name(&list, finalizer, errors));
}

/// The finalizers of a `Namespace`, by the subresource that changes them.
pub(crate) fn namespace_finalizers(name: &str, new: &Node<'_, '_>, _old: &Node<'_, '_>, errors: &mut Errors) -> bool {
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

/// The phase of a `Namespace` follows from its deletion. Upstream spells the path with a capital letter.
pub(crate) fn namespace_status(new: &Node<'_, '_>, _old: &Node<'_, '_>, errors: &mut Errors) {
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
