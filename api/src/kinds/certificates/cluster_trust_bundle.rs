//! Rules for what becomes of a CertificateSigningRequest: approval, denial, failure and the certificate itself.

use std::collections::HashSet;

use base64::Engine as _;
use serde_json::Value;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::signing_request;
use crate::kinds::rules::tree::{Errors, Node};
use crate::kinds::rules::{naming, pem};

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
    let (now, then) = (status.field("conditions"), before.field("conditions"));
    conditions(&now, &then, errors);
    let (certificate, had) = (status.field("certificate"), before.field("certificate"));
    if certificate.text() != had.text()
        && not_certificates(had.text()).is_none()
        && let Some(why) = not_certificates(certificate.text())
    {
        errors.invalid_value(&certificate, "<certificate data>", &why);
    }
    for kind in DECISIONS {
        if of_kind(&now, kind).len() < of_kind(&then, kind).len() {
            errors.forbidden(&now, &format!("updates may not remove a condition of type {kind:?}"));
        }
    }
    if !approves {
        keeps_decision(&now, &then, errors);
    }
    if !had.text().is_empty() && had.text() != certificate.text() {
        errors.forbidden(&certificate, "updates may not modify existing certificate content");
    }
    true
}

/// What is already wrong may stay wrong.
fn conditions(conditions: &Node<'_, '_>, before: &Node<'_, '_>, errors: &mut Errors) {
    let had: Vec<&str> = before.list().iter().map(|had| had["type"].as_str().unwrap_or("")).collect();
    let may_be_unnamed = had.contains(&"");
    let may_repeat = had.iter().collect::<HashSet<_>>().len() < had.len();
    let may_contradict = had.contains(&"Approved") && had.contains(&"Denied");
    let mut seen = HashSet::new();
    for condition in conditions.items() {
        let (kind, status) = (condition.field("type"), condition.field("status"));
        if !may_be_unnamed {
            errors.require_text(&kind);
        }
        if errors.require_text(&status) {
            let decides = DECISIONS.contains(&kind.text());
            errors.one_of(&status, if decides { &["True"] } else { &["False", "True", "Unknown"] });
        }
        let other = match kind.text() {
            "Approved" => "Denied",
            "Denied" => "Approved",
            _ => "",
        };
        if !other.is_empty() && seen.contains(other) && !may_contradict {
            let why = "Approved and Denied conditions are mutually exclusive";
            errors.invalid_value(conditions, kind.text(), why);
        }
        if !seen.insert(kind.text()) && !may_repeat {
            errors.push(crate::FieldError::duplicate(&kind.path(), kind.text()));
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
    let blocks = pem::blocks(&String::from_utf8_lossy(&bytes));
    for block in &blocks {
        if block.label != "CERTIFICATE" {
            return Some(format!("only CERTIFICATE PEM blocks are allowed, found {:?}", block.label));
        }
        if block.has_headers {
            return Some("no PEM block headers are permitted".to_owned());
        }
        let mut rest = block.bytes.as_slice();
        if rest.is_empty() {
            return Some("found CERTIFICATE PEM block containing 0 certificates".to_owned());
        }
        while !rest.is_empty() {
            let Ok((left, _)) = X509Certificate::from_der(rest) else {
                return Some("x509: malformed certificate".to_owned());
            };
            rest = left;
        }
    }
    blocks.is_empty().then(|| "must contain at least one CERTIFICATE PEM block".to_owned())
}

/// The certificates that others may trust: authorities, each once.
pub(crate) fn trust_bundle(at: &Node<'_, '_>, errors: &mut Errors) {
    const MOST_BYTES: usize = 1 << 20;
    if at.text().len() > MOST_BYTES {
        errors.too_long(at, MOST_BYTES);
        return;
    }
    let blocks = pem::blocks(at.text());
    let wrong: Vec<String> = blocks.iter().enumerate().filter_map(|(at, block)| not_an_anchor(at, block)).collect();
    if !wrong.is_empty() {
        for why in wrong {
            errors.invalid_value(at, OMITTED, &why);
        }
        return;
    }
    if blocks.is_empty() {
        errors.invalid_value(at, OMITTED, "at least one trust anchor must be provided");
    }
    let mut seen: Vec<(&[u8], Vec<String>)> = Vec::new();
    for (index, block) in blocks.iter().enumerate() {
        match seen.iter_mut().find(|(bytes, _)| *bytes == block.bytes) {
            Some((_, indices)) => indices.push(index.to_string()),
            None => seen.push((&block.bytes, vec![index.to_string()])),
        }
    }
    for (_, indices) in seen.iter().filter(|(_, indices)| indices.len() > 1) {
        errors.invalid_value(at, OMITTED, &format!("duplicate trust anchor (indices [{}])", indices.join(" ")));
    }
}

const OMITTED: &str = "<value omitted>";

fn not_an_anchor(index: usize, block: &pem::Block) -> Option<String> {
    let why = if block.label != "CERTIFICATE" {
        format!("has bad block type: {}", block.label)
    } else if block.has_headers {
        "has PEM block headers".to_owned()
    } else {
        match X509Certificate::from_der(&block.bytes) {
            Ok(([], certificate)) if certificate.is_ca() => return None,
            Ok(([], _)) => "does not have the CA bit set".to_owned(),
            _ => "does not parse as X.509".to_owned(),
        }
    };
    Some(format!("entry {index} {why}"))
}

/// A `ClusterTrustBundle`, whose name tells whose it is.
pub(crate) fn cluster_trust_bundle(bundle: &Node<'_, '_>, errors: &mut Errors) {
    let (metadata, spec) = (bundle.field("metadata"), bundle.field("spec"));
    let signer = spec.field("signerName");
    for (field, prefix) in [("generateName", true), ("name", false)] {
        let name = metadata.field(field);
        if !name.text().is_empty() {
            errors.invalid_all(&name, bundle_name(name.text(), signer.text(), prefix));
        }
    }
    if !signer.text().is_empty() {
        signing_request::signer_name(&signer, errors);
    }
}

/// A new bundle is looked into.
pub(crate) fn new_cluster_trust_bundle(bundle: &Node<'_, '_>, errors: &mut Errors) {
    trust_bundle(&bundle.field("spec").field("trustBundle"), errors);
}

/// A changed bundle is looked into, and stays with its signer.
pub(crate) fn cluster_trust_bundle_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let (spec, before) = (new.field("spec"), old.field("spec"));
    if spec.field("trustBundle").text() != before.field("trustBundle").text() {
        trust_bundle(&spec.field("trustBundle"), errors);
    }
    errors.immutable(&spec.field("signerName"), &before.field("signerName"));
}

fn bundle_name(name: &str, signer: &str, prefix: bool) -> Vec<String> {
    if signer.is_empty() {
        if name.contains(':') {
            return vec!["ClusterTrustBundle without signer name must not have \":\" in its name".to_owned()];
        }
        return naming::subdomain_name(name, prefix);
    }
    let required = format!("{}:", signer.replace('/', ":"));
    match name.strip_prefix(&required) {
        Some(rest) => naming::subdomain_name(rest, prefix),
        None => vec![format!("ClusterTrustBundle for signerName {signer} must be named with prefix {required}")],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

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
    fn a_status_says_what_it_may() {
        let contrary = json!({"conditions": [condition("Approved"), condition("Denied"), {"type": "Other"}]});
        let want = [
            "status.conditions: Invalid value: \"Denied\": Approved and Denied conditions are mutually exclusive",
            "status.conditions[2].status: Required value",
        ];
        assert_eq!(errors("approval", json!({}), contrary), want);
    }

    #[test]
    fn a_certificate_is_one() {
        let pem = |text: &str| json!({"certificate": base64::engine::general_purpose::STANDARD.encode(text)});
        let refused = |text: &str| errors("status", json!({}), pem(text)).remove(0);
        let broken = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
        assert!(refused(broken).ends_with("x509: malformed certificate"));
        let key = refused("-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n");
        assert!(key.ends_with("only CERTIFICATE PEM blocks are allowed, found \"PRIVATE KEY\""), "{key:?}");
        assert!(refused("hello").ends_with("must contain at least one CERTIFICATE PEM block"));
        let had = pem(broken);
        let changed = errors("status", had.clone(), pem("hello"));
        assert_eq!(changed, ["status.certificate: Forbidden: updates may not modify existing certificate content"]);
        assert!(errors("status", had.clone(), had).is_empty());
    }

    #[test]
    fn a_bundle_is_named_after_its_signer() {
        assert!(bundle_name("a.b", "", false).is_empty());
        assert_eq!(bundle_name("a:b", "", false).len(), 1);
        assert!(bundle_name("example.com:s:b", "example.com/s", false).is_empty());
        assert_eq!(bundle_name("b", "example.com/s", false).len(), 1);
    }
}
