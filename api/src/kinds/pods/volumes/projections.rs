//! Rules for projected volumes, which gather several sources in one directory.

use std::collections::HashSet;

use super::paths::{local_path, mode};
use super::{downward_file, key_to_path};
use crate::kinds::rules::tree::{Errors, Node};
use crate::kinds::rules::{labels, naming};

/// The paths that are taken, and where upstream reports one that is taken twice: at the volume's source.
struct Paths<'p, 'v> {
    taken: HashSet<&'v str>,
    volume: &'p Node<'p, 'v>,
}

impl<'v> Paths<'_, 'v> {
    fn take(&mut self, path: &'v str, shown: &str, errors: &mut Errors) {
        if !path.is_empty() && !self.taken.insert(path) {
            errors.invalid_value(self.volume, shown, "conflicting duplicate paths");
        }
    }
}

const PARTS: [&str; 6] =
    ["secret", "configMap", "downwardAPI", "serviceAccountToken", "clusterTrustBundle", "podCertificate"];

/// A projected volume.
pub(crate) fn projected(volume: &Node<'_, '_>, errors: &mut Errors) {
    mode(&volume.field("defaultMode"), errors);
    let mut paths = Paths { taken: HashSet::new(), volume };
    for projection in volume.field("sources").items() {
        let given = PARTS.into_iter().filter(|key| projection.field(key).is_set());
        let count = given.inspect(|key| part(key, &projection, &mut paths, errors)).count();
        if count > 1 {
            errors.forbidden(&projection, "may not specify more than 1 volume type per source");
        }
    }
}

fn part<'v>(key: &str, projection: &Node<'_, 'v>, paths: &mut Paths<'_, 'v>, errors: &mut Errors) {
    let part = projection.field(key);
    match key {
        "secret" | "configMap" => {
            let name = part.field("name");
            errors.require_text(&name);
            for item in part.field("items").items() {
                key_to_path(&item, errors);
                paths.take(item.field("path").text(), name.text(), errors);
            }
        }
        "downwardAPI" => {
            for file in part.field("items").items() {
                downward_file(&file, &part, errors);
                paths.take(file.field("path").text(), file.field("path").text(), errors);
            }
        }
        "serviceAccountToken" => token(&part, paths.volume, errors),
        "clusterTrustBundle" => trust_bundle(&part, paths, errors),
        _ => certificate(&part, paths, errors),
    }
}

/// A token lives between ten minutes and very long. Upstream reports its path at the volume's source.
fn token(part: &Node<'_, '_>, volume: &Node<'_, '_>, errors: &mut Errors) {
    let seconds = part.field("expirationSeconds");
    if seconds.number() < 600 {
        errors.invalid_value(&seconds, seconds.number(), "may not specify a duration less than 10 minutes");
    }
    if seconds.number() > 1 << 32 {
        errors.invalid(&seconds, "may not specify a duration larger than 2^32 seconds");
    }
    let at = volume.path();
    let shown = Node::at(&at, part.value());
    local_path(&shown.field("path"), errors);
}

fn trust_bundle<'v>(part: &Node<'_, 'v>, paths: &mut Paths<'_, 'v>, errors: &mut Errors) {
    let (name, signer, selector) = (part.field("name"), part.field("signerName"), part.field("labelSelector"));
    match (name.is_set(), signer.is_set()) {
        (true, true) => errors.invalid(part, "only one of name and signerName may be used"),
        (true, false) => {
            if name.text().is_empty() {
                errors.required(&name, "must be a valid object name");
            }
            for why in bundle_name(name.text()) {
                errors.invalid(&name, &format!("not a valid clustertrustbundlename: {why}"));
            }
            if selector.is_set() {
                errors.invalid(&selector, "labelSelector must be unset if name is specified");
            }
        }
        (false, true) => {
            if signer.text().is_empty() {
                errors.required(&signer, "must be a valid signer name");
            }
            naming::signer_name(&signer, errors);
            labels::selector(&selector, errors);
        }
        (false, false) => errors.required(part, "either name or signerName must be specified"),
    }
    let path = part.field("path");
    local_path(&path, errors);
    paths.take(path.text(), path.text(), errors);
}

/// Names of bundles are their signers', with `:` for `/`, a colon and a name of their own; or just a name.
fn bundle_name(name: &str) -> Vec<String> {
    match name.rsplit_once(':') {
        Some(("", _)) => vec!["ClusterTrustBundle without signer name must not have \":\" in its name".to_owned()],
        Some((_, own)) => naming::subdomain(own),
        None => naming::subdomain(name),
    }
}

fn certificate<'v>(part: &Node<'_, 'v>, paths: &mut Paths<'_, 'v>, errors: &mut Errors) {
    const KEYS: [&str; 6] = ["RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"];
    /// An hour, and 91 days.
    const SECONDS: (i64, i64) = (3600, 7_862_400);
    naming::signer_name(&part.field("signerName"), errors);
    errors.one_of(&part.field("keyType"), &KEYS);
    let seconds = part.field("maxExpirationSeconds");
    if seconds.integer().is_some_and(|seconds| seconds < SECONDS.0) {
        errors.invalid(&seconds, &format!("if provided, maxExpirationSeconds must be >= {}", SECONDS.0));
    }
    if seconds.integer().is_some_and(|seconds| seconds > SECONDS.1) {
        errors.invalid(&seconds, &format!("if provided, maxExpirationSeconds must be <= {}", SECONDS.1));
    }
    let mut given = false;
    for key in ["credentialBundlePath", "keyPath", "certificateChainPath"] {
        let path = part.field(key);
        if !path.text().is_empty() {
            given = true;
            local_path(&path, errors);
            paths.take(path.text(), path.text(), errors);
        }
    }
    if !given {
        errors.required(part, "specify at least one of credentialBundlePath, keyPath, and certificateChainPath");
    }
}
