//! A certificate of our own making, for a server that was given none: upstream's `kubelet.crt` and `kubelet.key`.
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

/// The certificate and key in `directory`, made when they are not there.
pub(crate) fn self_signed(directory: &Path, node: &str, addresses: &[IpAddr]) -> anyhow::Result<(PathBuf, PathBuf)> {
    let (certificate, key) = (directory.join("kubelet.crt"), directory.join("kubelet.key"));
    if !(certificate.exists() && key.exists()) {
        let hint =
            || format!("make a certificate in {} (give --tls-cert-file, or another --cert-dir)", directory.display());
        make(directory, (&certificate, &key), node, addresses).with_context(hint)?;
    }
    Ok((certificate, key))
}

fn make(directory: &Path, (certificate, key): (&Path, &Path), node: &str, addresses: &[IpAddr]) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory)?;
    let mut params = CertificateParams::new([node.to_owned()])?;
    params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, node);
    let pair = KeyPair::generate()?;
    let signed = params.self_signed(&pair)?;
    let mut file = std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(key)?;
    file.write_all(pair.serialize_pem().as_bytes())?;
    file.sync_all()?;
    std::fs::write(certificate, signed.pem())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_made_once() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().join("pki");
        let (certificate, _) = self_signed(&at, "n1", &[[127, 0, 0, 1].into()]).unwrap();
        let first = std::fs::read(&certificate).unwrap();
        self_signed(&at, "n1", &[]).unwrap();
        assert_eq!(std::fs::read(&certificate).unwrap(), first);
        let err = self_signed(Path::new("/proc/nowhere"), "n1", &[]).unwrap_err();
        assert!(format!("{err:#}").contains("--cert-dir"), "{err:#}");
    }
}
