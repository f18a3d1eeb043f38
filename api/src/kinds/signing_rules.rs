//! Rules for what a CertificateSigningRequest asks for, and for the names of signers.

use std::collections::HashSet;

use base64::Engine as _;

use super::rules;
use super::tree::{Errors, Node};

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

/// A `CertificateSigningRequest`.
pub(crate) fn signing_request(request: &Node<'_, '_>, errors: &mut Errors) {
    let spec = request.field("spec");
    let body = spec.field("request");
    if let Some(why) = not_a_request(body.text()) {
        errors.invalid_value(&body, body.text(), why);
    }
    let usages = spec.field("usages");
    if usages.is_empty() {
        errors.required(&usages, "");
    }
    let mut seen = HashSet::new();
    for usage in usages.items() {
        errors.one_of(&usage, &USAGES);
        if !seen.insert(usage.text()) {
            errors.duplicate(&usage);
        }
    }
    signer_name(&spec.field("signerName"), errors);
    let expiration = spec.field("expirationSeconds");
    if expiration.integer().is_some_and(|seconds| seconds < 600) {
        errors.invalid(&expiration, "may not specify a duration less than 600 seconds (10 minutes)");
    }
}

/// Why these bytes are no PEM certificate request.
fn not_a_request(encoded: &str) -> Option<&'static str> {
    const WHY: &str = "PEM block type must be CERTIFICATE REQUEST";
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let fine =
        text.contains("-----BEGIN CERTIFICATE REQUEST-----") && text.contains("-----END CERTIFICATE REQUEST-----");
    (!fine).then_some(WHY)
}

/// The name of a signer: a domain and a path.
pub(crate) fn signer_name(at: &Node<'_, '_>, errors: &mut Errors) {
    if !errors.require_text(at) {
        return;
    }
    let Some((domain, path)) = at.text().split_once('/') else {
        errors.invalid(at, "must be a fully qualified domain and path of the form 'example.com/signer-name'");
        return;
    };
    for why in rules::subdomain(domain) {
        errors.invalid_value(at, domain, &format!("validating label {domain:?}: {why}"));
    }
    if domain.split('.').count() < 2 {
        errors.invalid_value(at, domain, "should be a domain with at least two segments separated by dots");
    }
    if path.is_empty() {
        errors.invalid_value(at, path, "validating label \"\": must be non-empty");
    }
}
