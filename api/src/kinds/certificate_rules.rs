//! Rules for what becomes of a CertificateSigningRequest: approval, denial, failure and the certificate itself.

use std::collections::HashSet;

use base64::Engine as _;
use serde_json::Value;

use super::tree::{Errors, Node};

/// Conditions that decide about a request; they never go away again.
const DECISIONS: [&str; 3] = ["Approved", "Denied", "Failed"];

/// Rules for a write to `/status` or `/approval`.
pub(crate) fn change(subresource: &str, new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) -> bool {
    let approves = match subresource {
        "status" => false,
        "approval" => true,
        _ => return false,
    };
    let (status, before) = (new.field("status"), old.field("status"));
    conditions(&status.field("conditions"), errors);
    let certificate = status.field("certificate");
    if let Some(why) = not_certificates(certificate.text()) {
        errors.invalid_value(&certificate, "<certificate data>", &why);
    }
    let (now, then) = (status.field("conditions"), before.field("conditions"));
    for kind in DECISIONS {
        if of_kind(&now, kind).len() < of_kind(&then, kind).len() {
            errors.forbidden(&now, &format!("updates may not remove a condition of type {kind:?}"));
        }
    }
    if !approves {
        keeps_decision(&now, &then, errors);
    }
    let had = before.field("certificate");
    if !had.text().is_empty() && had.text() != certificate.text() {
        errors.forbidden(&certificate, "updates may not modify existing certificate content");
    }
    true
}

fn conditions(conditions: &Node<'_, '_>, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for condition in conditions.items() {
        let (kind, status) = (condition.field("type"), condition.field("status"));
        errors.require_text(&kind);
        if DECISIONS.contains(&kind.text()) {
            errors.one_of(&status, &["True"]);
        } else if errors.require_text(&status) {
            errors.one_of(&status, &["False", "True", "Unknown"]);
        }
        let other = match kind.text() {
            "Approved" => "Denied",
            "Denied" => "Approved",
            _ => "",
        };
        if seen.contains(other) {
            let why = "Approved and Denied conditions are mutually exclusive";
            errors.invalid_value(conditions, kind.text(), why);
        }
        if !seen.insert(kind.text()) {
            errors.duplicate(&kind);
        }
    }
}

/// Who may write the status may not thereby approve.
fn keeps_decision(now: &Node<'_, '_>, then: &Node<'_, '_>, errors: &mut Errors) {
    for kind in ["Approved", "Denied"] {
        let (has, had) = (of_kind(now, kind), of_kind(then, kind));
        if has.len() > had.len() {
            errors.forbidden(now, &format!("updates may not add a condition of type {kind:?}"));
        } else if has.len() == had.len() && has.iter().zip(&had).any(|(has, had)| !same_condition(has, had)) {
            errors.forbidden(now, &format!("updates may not modify a condition of type {kind:?}"));
        }
    }
}

/// Times that a client leaves out are filled in, and say nothing.
fn same_condition(one: &Value, other: &Value) -> bool {
    ["status", "reason", "message"].iter().all(|field| one.get(field) == other.get(field))
}

fn of_kind<'v>(conditions: &Node<'_, 'v>, kind: &str) -> Vec<&'v Value> {
    conditions.list().iter().filter(|condition| condition.get("type").and_then(Value::as_str) == Some(kind)).collect()
}

/// Why these bytes are no certificates in PEM.
fn not_certificates(encoded: &str) -> Option<String> {
    if encoded.is_empty() {
        return None;
    }
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let blocks = text.lines().filter_map(|line| line.strip_prefix("-----BEGIN ")?.strip_suffix("-----"));
    let mut found = false;
    for block in blocks {
        if block != "CERTIFICATE" {
            return Some(format!("only CERTIFICATE PEM blocks are allowed, found {block:?}"));
        }
        found = true;
    }
    (!found).then(|| "must contain at least one CERTIFICATE PEM block".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn errors(subresource: &str, old: Value, new: Value) -> Vec<String> {
        let object = |status: Value| crate::Object::from_value(json!({"status": status})).unwrap();
        let (new, old) = (object(new), object(old));
        let mut errors = Errors::default();
        assert!(change(subresource, &Node::root(new.root()), &Node::root(old.root()), &mut errors));
        errors.0.iter().map(ToString::to_string).collect()
    }

    fn condition(kind: &str) -> Value {
        json!({"type": kind, "status": "True", "reason": "R"})
    }

    #[test]
    fn only_the_approval_decides() {
        let approved = json!({"conditions": [condition("Approved")]});
        assert!(errors("approval", json!({}), approved.clone()).is_empty());
        let refused = errors("status", json!({}), approved.clone());
        assert_eq!(refused, ["status.conditions: Forbidden: updates may not add a condition of type \"Approved\""]);
        let mut other = approved.clone();
        other["conditions"][0]["reason"] = "Mine".into();
        assert_eq!(errors("status", approved.clone(), other).len(), 1);
        assert!(errors("status", approved.clone(), approved).is_empty());
    }

    #[test]
    fn a_certificate_is_set_once() {
        let pem = |text: &str| json!({"certificate": base64::engine::general_purpose::STANDARD.encode(text)});
        let one = pem("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n");
        assert!(errors("status", json!({}), one.clone()).is_empty());
        let two = pem("-----BEGIN CERTIFICATE-----\nBB==\n-----END CERTIFICATE-----\n");
        assert_eq!(errors("status", one, two).len(), 1);
        let key = errors("status", json!({}), pem("-----BEGIN PRIVATE KEY-----\n"));
        assert!(key[0].ends_with("only CERTIFICATE PEM blocks are allowed, found \"PRIVATE KEY\""), "{key:?}");
    }
}
