//! CertificateSigningRequests: who asks, for what, and what was decided (upstream:
//! `pkg/registry/certificates/certificates`).

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer as _, X509Certificate, X509CertificationRequest};

use crate::kinds::kind::{Kind, Sub, field};
use crate::kinds::rules::fill::{self, default_pointer, each};
use crate::kinds::rules::tree::{Errors, Fields, Node};
use crate::kinds::rules::{naming, pem};
use crate::object::Object;
use crate::strategy::WriteContext;
use crate::table::cell::Cell::{Age, By, Name, Text, TextOr};
use crate::table::cell::NONE;
use crate::table::duration::human_duration;

pub(crate) const KIND: Kind = Kind {
    short_names: &["csr"],
    subresources: &[Sub::own("approval", Sub::CHANGE), Sub::STATUS],
    fields: &[field("spec.signerName")],
    cells: &[
        Name,
        Age,
        TextOr(&["spec", "signerName"], NONE),
        Text(&["spec", "username"]),
        By(duration),
        By(signing_status),
    ],
    default,
    fill_status: Some(|_| {}),
    prepare_create,
    prepare_update,
    prepare_status,
    validate,
    validate_subresource,
    validate_name: naming::any_name,
    tracks_spec: false,
    rechecks: (1, 1),
    ..Kind::cluster("certificatesigningrequests", "CertificateSigningRequest")
};

fn default(object: &mut Object) {
    fill::object(object.root_mut(), "spec");
    fill::object(object.root_mut(), "status");
}

/// A request carries who made it; nobody can say otherwise.
fn prepare_create(ctx: &WriteContext<'_>, new: &mut Object) {
    let spec = fill::object(new.root_mut(), "spec");
    for key in ["username", "uid", "groups", "extra"] {
        spec.remove(key);
    }
    let user = ctx.user;
    for (key, value) in [("username", &user.name), ("uid", &user.uid)] {
        if !value.is_empty() {
            spec.insert(key.to_owned(), value.as_str().into());
        }
    }
    if !user.groups.is_empty() {
        spec.insert("groups".to_owned(), json!(user.groups));
    }
    if !user.extra.is_empty() {
        let extra: Fields = user.extra.iter().map(|(key, values)| (key.clone(), json!(values))).collect();
        spec.insert("extra".to_owned(), Value::Object(extra));
    }
}

/// The spec of a signing request never changes.
fn prepare_update(_ctx: &WriteContext<'_>, new: &mut Object, old: &Object) {
    if let Some(spec) = old.get(&["spec"]).cloned() {
        new.set(&["spec"], spec);
    }
}

/// Conditions are dated by the server where the client does not date them; an approval leaves the certificate alone.
fn prepare_status(ctx: &WriteContext<'_>, new: &mut Object, old: &Object) {
    let now = naming::time(ctx.now);
    if ctx.subresource == "approval" {
        match old.get(&["status", "certificate"]).cloned() {
            Some(certificate) => new.set(&["status", "certificate"], certificate),
            None => drop(new.remove(&["status", "certificate"])),
        }
    }
    let before = old.get(&["status", "conditions"]).and_then(Value::as_array).cloned().unwrap_or_default();
    let status = fill::object(new.root_mut(), "status");
    if ctx.subresource == "status" {
        for kind in ["Approved", "Denied"] {
            keep_conditions(status, &before, kind);
        }
    }
    each(status, "conditions", |condition| {
        default_pointer(condition, "lastUpdateTime", now.as_str());
        let same = before
            .iter()
            .find(|had| had.get("type") == condition.get("type") && had.get("status") == condition.get("status"));
        let since = same.and_then(|had| had.get("lastTransitionTime")).filter(|time| !time.is_null()).cloned();
        default_pointer(condition, "lastTransitionTime", since.unwrap_or_else(|| now.as_str().into()));
    });
}

/// Puts conditions of a type back as they were, where there are as many as before.
fn keep_conditions(status: &mut Fields, before: &[Value], kind: &str) {
    let is_kind = |condition: &&Value| condition.get("type").and_then(Value::as_str) == Some(kind);
    let had: Vec<&Value> = before.iter().filter(is_kind).collect();
    let Some(conditions) = status.get_mut("conditions").and_then(Value::as_array_mut) else { return };
    if conditions.iter().filter(is_kind).count() != had.len() {
        return;
    }
    let mut had = had.into_iter();
    for condition in conditions.iter_mut().filter(|condition| is_kind(&&**condition)) {
        if let Some(had) = had.next() {
            *condition = had.clone();
        }
    }
}

const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

fn validate(request: &Node<'_, '_>, errors: &mut Errors) {
    let spec = request.field("spec");
    let body = spec.field("request");
    if let Err(why) = read_request(body.text()) {
        errors.invalid_value(&body, body.text(), &why);
    }
    let usages = spec.field("usages");
    if usages.is_empty() {
        errors.required(&usages, "");
    }
    for usage in usages.items() {
        errors.one_of(&usage, &USAGES);
    }
    let mut seen = HashSet::new();
    for usage in usages.items() {
        if !seen.insert(usage.text()) {
            errors.duplicate(&usage);
        }
    }
    let signer = spec.field("signerName");
    if signer.text() == "kubernetes.io/legacy-unknown" {
        errors.invalid(&signer, "the legacy signerName is not allowed via this API version");
    } else {
        naming::signer_name(&signer, errors);
    }
    let expiration = spec.field("expirationSeconds");
    if expiration.integer().is_some_and(|seconds| seconds < 600) {
        errors.invalid(&expiration, "may not specify a duration less than 600 seconds (10 minutes)");
    }
}

/// Why these bytes are no PEM certificate request.
fn read_request(encoded: &str) -> Result<(), String> {
    let bytes = STANDARD.decode(encoded).unwrap_or_default();
    let first = pem::blocks(&String::from_utf8_lossy(&bytes)).into_iter().next();
    let block = first.filter(|block| block.label == "CERTIFICATE REQUEST");
    let block = block.ok_or("PEM block type must be CERTIFICATE REQUEST")?;
    if let Some(first) = block.bytes.first().filter(|first| **first != 0x30) {
        let (class, tag, compound) = (first >> 6, first & 0x1f, first & 0x20 != 0);
        let length = block.bytes.get(1).copied().unwrap_or_default();
        return Err(format!(
            "asn1: structure error: tags don't match (16 vs {{class:{class} tag:{tag} length:{length} \
             isCompound:{compound}}}) {{optional:false explicit:false application:false private:false defaultValue:<nil> \
             tag:<nil> stringType:0 timeType:0 set:false omitEmpty:false}} certificateRequest @2"
        ));
    }
    match X509CertificationRequest::from_der(&block.bytes) {
        Ok(([], _)) => Ok(()),
        Ok(_) => Err("asn1: syntax error: trailing data".to_owned()),
        Err(_) => Err("asn1: syntax error: data truncated".to_owned()),
    }
}

/// Conditions that decide about a request; they never go away again.
const DECISIONS: [&str; 3] = ["Approved", "Denied", "Failed"];

/// Rules for a write to `/status` or `/approval`.
fn validate_subresource(subresource: &str, new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) -> bool {
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

fn duration(request: &Object) -> Value {
    request.integer(&["spec", "expirationSeconds"]).map_or_else(|| NONE.to_owned(), human_duration).into()
}

fn signing_status(request: &Object) -> Value {
    let has = |type_: &str| request.condition(type_).is_some();
    let mut status = match () {
        () if has("Denied") => "Denied",
        () if has("Approved") => "Approved",
        () => "Pending",
    }
    .to_owned();
    if has("Failed") {
        status.push_str(",Failed");
    }
    if !request.text(&["status", "certificate"]).is_empty() {
        status.push_str(",Issued");
    }
    status.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_a_request_in_pem() {
        let pem = |body: &str| {
            STANDARD.encode(format!("-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n"))
        };
        assert_eq!(read_request("aGVsbG8=").unwrap_err(), "PEM block type must be CERTIFICATE REQUEST");
        assert!(
            read_request(&pem("AQE="))
                .unwrap_err()
                .starts_with("asn1: structure error: tags don't match (16 vs {class:0 tag:1 ")
        );
        assert_eq!(read_request(&pem("MAA=")).unwrap_err(), "asn1: syntax error: data truncated");
    }

    fn errors(subresource: &str, old: Value, new: Value) -> Vec<String> {
        let object = |status: Value| crate::Object::from_value(json!({"status": status})).unwrap();
        let (new, old) = (object(new), object(old));
        let mut errors = Errors::default();
        assert!(validate_subresource(subresource, &Node::root(new.root()), &Node::root(old.root()), &mut errors));
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
}
