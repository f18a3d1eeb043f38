//! A certificate of our own making, for a server that was given none.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

use crate::config::Config;
use crate::error::Error;

/// The certificate and key in `directory`, made when they are not there.
pub(crate) fn self_signed(directory: &Path, config: &Config) -> Result<(PathBuf, PathBuf), Error> {
    let (certificate, key) = (directory.join("apiserver.crt"), directory.join("apiserver.key"));
    if certificate.exists() && key.exists() {
        return Ok((certificate, key));
    }
    let failed =
        |source: Box<dyn std::error::Error + Send + Sync>| Error::SelfSigned { path: directory.to_owned(), source };
    make(directory, &certificate, &key, config).map_err(failed)?;
    tracing::info!(certificate = %certificate.display(), "made a self-signed serving certificate");
    Ok((certificate, key))
}

fn make(
    directory: &Path,
    certificate: &Path,
    key: &Path,
    config: &Config,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    fs::create_dir_all(directory)?;
    let mut params = CertificateParams::new(
        [
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        ]
        .map(str::to_owned)
        .to_vec(),
    )?;
    let first = config.service_cluster_ip_ranges.first().map(|range| range.nth(1));
    let addresses = [Some(config.bind_address), config.advertise_address, first, "127.0.0.1".parse().ok()];
    params.subject_alt_names.extend(addresses.into_iter().flatten().map(SanType::IpAddress));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "coracle-apiserver");
    let pair = KeyPair::generate()?;
    let signed = params.self_signed(&pair)?;
    write_private(key, pair.serialize_pem().as_bytes())?;
    fs::write(certificate, signed.pem())?;
    fs::set_permissions(certificate, fs::Permissions::from_mode(0o644))?;
    Ok(())
}

fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
