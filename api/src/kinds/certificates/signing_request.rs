//! Rules for what a CertificateSigningRequest asks for, and for the names of signers.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use x509_parser::prelude::{FromDer as _, X509CertificationRequest};

use crate::kinds::rules::tree::{Errors, Node};
use crate::kinds::rules::{naming, pem};

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
        signer_name(&signer, errors);
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

/// The name of a signer: a domain and a path.
pub(crate) fn signer_name(at: &Node<'_, '_>, errors: &mut Errors) {
    const LONGEST_DOMAIN: usize = 253;
    const LONGEST: usize = LONGEST_DOMAIN + 1 + 63 + 1 + 253;
    if !errors.require_text(at) {
        return;
    }
    let Some((domain, path)) = at.text().split_once('/').filter(|(_, path)| !path.contains('/')) else {
        errors.invalid(at, "must be a fully qualified domain and path of the form 'example.com/signer-name'");
        return;
    };
    if domain.len() > LONGEST_DOMAIN {
        errors.too_long(at, LONGEST_DOMAIN);
    }
    first_wrong_label(domain, naming::label, at, errors);
    if !domain.contains('.') {
        errors.invalid_value(at, domain, "should be a domain with at least two segments separated by dots");
    }
    first_wrong_label(path, naming::subdomain, at, errors);
    if at.text().len() > LONGEST {
        errors.too_long(at, LONGEST);
    }
}

/// Of a part of a signer's name, only the first label that is wrong is told of.
fn first_wrong_label(part: &str, rule: fn(&str) -> Vec<String>, at: &Node<'_, '_>, errors: &mut Errors) {
    let wrong = part.split('.').map(|label| (label, rule(label))).find(|(_, wrong)| !wrong.is_empty());
    for (label, why) in wrong.into_iter().flat_map(|(label, wrong)| wrong.into_iter().map(move |why| (label, why))) {
        errors.invalid_value(at, part, &format!("validating label {label:?}: {why}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_signer_is_a_domain_and_a_path() {
        let wrong = |name: &str| {
            let object = json!({"signerName": name});
            let mut errors = Errors::default();
            signer_name(&Node::root(object.as_object().expect("an object")).field("signerName"), &mut errors);
            errors.0.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert!(wrong("example.com/a.b").is_empty());
        let form = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        assert_eq!(wrong("a/b/c"), [format!("signerName: Invalid value: \"a/b/c\": {form}")]);
        let label = naming::label("A_").remove(0);
        let dots = "should be a domain with at least two segments separated by dots";
        assert_eq!(
            wrong("A_/x"),
            [
                format!("signerName: Invalid value: \"A_\": validating label \"A_\": {label}"),
                format!("signerName: Invalid value: \"A_\": {dots}"),
            ]
        );
        assert_eq!(wrong("example.com/").len(), 1);
    }

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
}
