//! Secrets (upstream: `pkg/registry/core/secret`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::config_map::{self, MAX_DATA};
use crate::kinds::kind::{Kind, field};
use crate::kinds::rules::fill::{self, default_zero};
use crate::kinds::rules::naming;
use crate::kinds::rules::tree::{Errors, Node};
use crate::object::Object;
use crate::table::cell::Cell::{Age, Count, Name, Text};

pub(crate) const KIND: Kind = Kind {
    fields: &[field("type")],
    cells: &[Name, Text(&["type"]), Count(&["data"]), Age],
    default,
    validate,
    validate_change,
    warn,
    rechecks: (1, 1),
    ..Kind::namespaced("secrets", "Secret")
};

/// Defaults of a `Secret`; `stringData` is a way to write `data` and is never kept.
fn default(object: &mut Object) {
    default_zero(object.root_mut(), "type", "Opaque");
    let Some(Value::Object(texts)) = object.remove(&["stringData"]) else { return };
    if texts.is_empty() {
        return;
    }
    let data = fill::object(object.root_mut(), "data");
    for (key, value) in texts {
        let encoded = STANDARD.encode(value.as_str().unwrap_or(""));
        data.insert(key, encoded.into());
    }
}

fn validate(secret: &Node<'_, '_>, errors: &mut Errors) {
    let data = secret.field("data");
    let mut size = 0;
    for (key, value) in data.entries() {
        for why in naming::config_map_key(key) {
            errors.invalid_value(&value, key, &why);
        }
        size += config_map::decoded_length(value.text());
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
fn validate_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    errors.immutable(&new.field("type"), &old.field("type"));
    config_map::frozen(new, old, &["data"], errors);
}

/// A `Secret` that is not the pair it says it is.
fn warn(new: &Node<'_, '_>, old: Option<&Node<'_, '_>>, texts: &mut Vec<String>) {
    if new.field("type").text() != "kubernetes.io/tls"
        || old.is_some_and(|old| old.field("data").value() == new.field("data").value())
    {
        return;
    }
    let data = new.field("data");
    texts.extend(certificate_wrong(&pem_types(data.field("tls.crt").text())));
    if texts.is_empty() {
        texts.extend(key_wrong(&pem_types(data.field("tls.key").text())));
    }
}

/// The types of the PEM blocks in a value of a `Secret`.
fn pem_types(encoded: &str) -> Vec<String> {
    use base64::Engine as _;
    let standard = base64::engine::general_purpose::STANDARD;
    let bytes = standard.decode(encoded).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let mut types = Vec::new();
    let mut rest: &str = &text;
    while let Some((_, after)) = rest.split_once("-----BEGIN ") {
        rest = after;
        let Some((kind, body)) = after.split_once("-----") else { break };
        let Some((body, after)) = body.split_once(&format!("-----END {kind}-----")) else { continue };
        let plain: String = body.chars().filter(|c| !c.is_whitespace()).collect();
        if standard.decode(plain).is_ok() {
            types.push(kind.to_owned());
            rest = after;
        }
    }
    types
}

fn certificate_wrong(types: &[String]) -> Option<String> {
    match types {
        _ if types.iter().any(|kind| kind == "CERTIFICATE") => None,
        [] => Some("tls: failed to find any PEM data in certificate input".to_owned()),
        [one] if one.ends_with("PRIVATE KEY") => Some(
            "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs may \
             have been switched"
                .to_owned(),
        ),
        _ => Some(format!(
            "tls: failed to find \"CERTIFICATE\" PEM block in certificate input after skipping PEM blocks of the \
             following types: [{}]",
            types.join(" ")
        )),
    }
}

fn key_wrong(types: &[String]) -> Option<String> {
    match types {
        _ if types.iter().any(|kind| kind == "PRIVATE KEY" || kind.ends_with(" PRIVATE KEY")) => None,
        [] => Some("tls: failed to find any PEM data in key input".to_owned()),
        [one] if one == "CERTIFICATE" => {
            Some("tls: found a certificate rather than a key in the PEM for the private key".to_owned())
        }
        _ => Some(format!(
            "tls: failed to find PEM block with type ending in \"PRIVATE KEY\" in key input after skipping PEM blocks of \
             the following types: [{}]",
            types.join(" ")
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::rules::checks::check_warnings;

    #[test]
    fn secrets_without_certificate_or_key_are_told() {
        let pem = |kind: &str| {
            let text = format!("-----BEGIN {kind}-----\nAAAA\n-----END {kind}-----\n");
            base64::engine::general_purpose::STANDARD.encode(text)
        };
        let secret_of = |certificate: &str, key: &str| json!({"type": "kubernetes.io/tls", "data": {"tls.crt": certificate, "tls.key": key}});
        let (certificate, key) = (pem("CERTIFICATE"), pem("RSA PRIVATE KEY"));
        for (secret, want) in [
            (secret_of(&certificate, &key), vec![]),
            (secret_of("", ""), vec!["tls: failed to find any PEM data in certificate input"]),
            (secret_of(&certificate, ""), vec!["tls: failed to find any PEM data in key input"]),
            (
                secret_of(&key, &certificate),
                vec![
                    "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs may have been switched",
                ],
            ),
            (
                secret_of(&certificate, &certificate),
                vec!["tls: found a certificate rather than a key in the PEM for the private key"],
            ),
        ] {
            check_warnings(super::warn, &secret, None, &want);
        }
    }
}
