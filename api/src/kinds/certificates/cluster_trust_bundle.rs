//! ClusterTrustBundles (upstream: `pkg/registry/certificates/clustertrustbundle`).

use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::kinds::kind::{Kind, field};
use crate::kinds::rules::tree::{Errors, Node};
use crate::kinds::rules::{fill, naming, pem};

pub(crate) const KIND: Kind = Kind {
    fields: &[field("spec.signerName")],
    default: fill::with_spec,
    validate,
    validate_new,
    validate_change,
    validate_name: naming::any_name,
    unconditional_update: false,
    ..Kind::cluster("clustertrustbundles", "ClusterTrustBundle")
};

/// The certificates that others may trust: authorities, each once.
fn trust_bundle(at: &Node<'_, '_>, errors: &mut Errors) {
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
fn validate(bundle: &Node<'_, '_>, errors: &mut Errors) {
    let (metadata, spec) = (bundle.field("metadata"), bundle.field("spec"));
    let signer = spec.field("signerName");
    for (field, prefix) in [("generateName", true), ("name", false)] {
        let name = metadata.field(field);
        if !name.text().is_empty() {
            errors.invalid_all(&name, bundle_name(name.text(), signer.text(), prefix));
        }
    }
    if !signer.text().is_empty() {
        naming::signer_name(&signer, errors);
    }
}

/// A new bundle is looked into.
fn validate_new(bundle: &Node<'_, '_>, errors: &mut Errors) {
    trust_bundle(&bundle.field("spec").field("trustBundle"), errors);
}

/// A changed bundle is looked into, and stays with its signer.
fn validate_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
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

    #[test]
    fn a_bundle_is_named_after_its_signer() {
        assert!(bundle_name("a.b", "", false).is_empty());
        assert_eq!(bundle_name("a:b", "", false).len(), 1);
        assert!(bundle_name("example.com:s:b", "example.com/s", false).is_empty());
        assert_eq!(bundle_name("b", "example.com/s", false).len(), 1);
    }
}
