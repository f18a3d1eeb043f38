//! The certificates by which a cluster is believed, as `cluster-info` publishes them, and the hashes by which they are known
//! beforehand (RFC 7469, as kubeadm's `--discovery-token-ca-cert-hash`: SHA-256 of the public key).

use anyhow::{Context as _, bail};
use base64::Engine as _;
use kube::config::Kubeconfig;
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// More certificates are no cluster's.
const MOST: usize = 16;

/// Server and authorities (PEM) of a kubeconfig without users.
pub(crate) fn published(kubeconfig: &str) -> anyhow::Result<(String, String)> {
    let config = Kubeconfig::from_yaml(kubeconfig).context("it is no kubeconfig")?;
    let cluster = config.clusters.into_iter().next().and_then(|named| named.cluster).context("it names no cluster")?;
    let server = cluster.server.context("it names no server")?;
    let authority = cluster.certificate_authority_data.context("it has no CA")?;
    let pem = base64::engine::general_purpose::STANDARD.decode(authority).context("its CA is not base64")?;
    Ok((server, String::from_utf8(pem).context("its CA is no PEM")?))
}

/// The certificates of a PEM text that have one of these hashes, as DER; the error names the hashes of those there are.
pub(crate) fn pinned(pem: &str, hashes: &[String]) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    let mut others = Vec::new();
    for der in certificates(pem)? {
        let hash = hash(&der)?;
        if hashes.iter().any(|wanted| wanted.eq_ignore_ascii_case(&hash)) { found.push(der) } else { others.push(hash) }
    }
    if found.is_empty() {
        bail!("its CA has the hash {}, which is not the one of --ca-hash: this is another cluster", others.join(", "));
    }
    Ok(found)
}

/// The hash of the first certificate of a PEM text.
pub(crate) fn hash_of(pem: &str) -> anyhow::Result<String> {
    hash(certificates(pem)?.first().context("there is no certificate")?)
}

/// Whether a text has the form of a hash.
pub(crate) fn is_hash(text: &str) -> bool {
    let digits = text.strip_prefix("sha256:");
    digits.is_some_and(|digits| digits.len() == 64 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

fn certificates(pem: &str) -> anyhow::Result<Vec<Vec<u8>>> {
    let blocks = x509_parser::pem::Pem::iter_from_buffer(pem.as_bytes()).take(MOST);
    let blocks = blocks.collect::<Result<Vec<_>, _>>().context("its CA is no PEM")?;
    Ok(blocks.into_iter().filter(|block| block.label == "CERTIFICATE").map(|block| block.contents).collect())
}

fn hash(der: &[u8]) -> anyhow::Result<String> {
    let (_, certificate) = X509Certificate::from_der(der).context("its CA is no certificate")?;
    let digits =
        Sha256::digest(certificate.public_key().raw).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    Ok(format!("sha256:{digits}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ca() -> String {
        rcgen::CertificateParams::new(Vec::new())
            .unwrap()
            .self_signed(&rcgen::KeyPair::generate().unwrap())
            .unwrap()
            .pem()
    }

    #[test]
    fn only_certificates_with_a_hash_that_was_given_are_believed() {
        let (one, other) = (ca(), ca());
        let hash = hash_of(&one).unwrap();
        assert!(is_hash(&hash), "{hash}");
        let both = format!("{other}{one}");
        assert_eq!(pinned(&both, &[hash.to_uppercase().replace("SHA256", "sha256")]).unwrap().len(), 1);
        let refused = pinned(&other, &[hash]).unwrap_err().to_string();
        assert!(refused.contains(&hash_of(&other).unwrap()) && refused.contains("another cluster"), "{refused}");
        assert!(pinned("", &[]).is_err() && pinned("x", &[]).is_err());
    }

    #[test]
    fn what_is_no_kubeconfig_of_a_cluster_is_refused() {
        for (text, words) in [
            ("{{", "no kubeconfig"),
            ("apiVersion: v1\nkind: Config\n", "no cluster"),
            ("clusters: [{name: '', cluster: {certificate-authority-data: ''}}]", "no server"),
            ("clusters: [{name: '', cluster: {server: s}}]", "no CA"),
            ("clusters: [{name: '', cluster: {server: s, certificate-authority-data: '*'}}]", "base64"),
        ] {
            let err = format!("{:#}", published(text).unwrap_err());
            assert!(err.contains(words), "{text}: {err}");
        }
        for bad in ["", "sha256:", "sha256:zz", "sha1:00", &format!("sha256:{}", "0".repeat(63))] {
            assert!(!is_hash(bad), "{bad}");
        }
    }
}
