//! A certificate of our own making, for a server that was given none (upstream: `MaybeDefaultWithSelfSignedCerts`).

use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The certificate and key in `directory`, made for these addresses and this machine when they are not there.
pub(crate) fn self_signed(
    directory: &Path,
    addresses: impl Iterator<Item = IpAddr>,
) -> Result<(PathBuf, PathBuf), Failure> {
    let (certificate, key) = (directory.join("apiserver.crt"), directory.join("apiserver.key"));
    if certificate.exists() && key.exists() {
        return Ok((certificate, key));
    }
    make(directory, &certificate, &key, addresses)?;
    tracing::info!(certificate = %certificate.display(), "made a self-signed serving certificate");
    Ok((certificate, key))
}

fn make(
    directory: &Path,
    certificate: &Path,
    key: &Path,
    addresses: impl Iterator<Item = IpAddr>,
) -> Result<(), Failure> {
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
    let all = addresses.chain([IpAddr::V4(Ipv4Addr::LOCALHOST)]);
    params.subject_alt_names.extend(all.map(SanType::IpAddress));
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
