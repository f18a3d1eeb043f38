//! The cluster's keys and certificates: a CA, a certificate for each server and each component, the key that signs
//! ServiceAccount tokens, and the CA of front proxies.
//!
//! Everything lies in one directory (mode 0700; keys 0600) under kubeadm's file names, is made when missing, and is
//! made again when it is about to expire, no longer names the addresses asked for, or does not say whose key signed it. Groups are a certificate's
//! `O`, the user its `CN` (<https://kubernetes.io/docs/setup/best-practices/certificates/>).

use std::fs;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// The CAs: the names of their files, and their own.
const CA: (&str, &str) = ("ca", "coracle-ca");
const FRONT_PROXY_CA: (&str, &str) = ("front-proxy-ca", "front-proxy-ca");
const ETCD_CA: (&str, &str) = ("ca", "etcd-ca");
/// Lifetime of the CA.
const CA_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// Lifetime of everything that the CA signs.
const LEAF_LIFETIME: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// A certificate with less than this left is made anew at start.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Why the keys and certificates cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("{verb} {path}")]
    Io {
        verb: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} does not hold what its name says (delete it to have it made anew)")]
    Damaged {
        path: PathBuf,
        #[source]
        source: rcgen::Error,
    },
    #[error("{path}: {reason} (delete it to have it made anew)")]
    Unreadable { path: PathBuf, reason: String },
    #[error("make certificate {name}")]
    Make {
        name: String,
        #[source]
        source: rcgen::Error,
    },
}

/// A certificate and its private key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

/// Whom a client certificate names.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// The user.
    pub user: &'a str,
    /// Its group, `""` for none.
    pub group: &'a str,
}

/// The directory of keys and certificates of one cluster.
#[derive(Debug)]
pub struct Pki {
    directory: PathBuf,
    ca: Pair,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    /// Opens the directory, making it and the CA when missing.
    pub fn open(directory: &Path) -> Result<Self, PkiError> {
        Self::of(directory, CA)
    }

    /// The CA of front proxies beside the other: whom it vouches for may speak for others, so it signs for nobody else.
    pub fn front_proxy(&self) -> Result<Self, PkiError> {
        Self::of(&self.directory, FRONT_PROXY_CA)
    }

    /// The CA of etcd, in the directory `etcd`: whom the API server believes has no say in the store.
    pub fn etcd(&self) -> Result<Self, PkiError> {
        Self::of(&self.directory.join("etcd"), ETCD_CA)
    }

    /// Another machine's directory, for leaves of the same CA. Of the CA itself that machine gets the certificate only.
    pub fn elsewhere(&self, directory: &Path) -> Result<Self, PkiError> {
        make_directory(directory)?;
        write_secret(&directory.join("ca.crt"), &self.ca.certificate)?;
        let issuer = issuer(&self.ca, &self.directory, CA.0)?;
        Ok(Self { directory: directory.to_owned(), ca: self.ca.clone(), issuer })
    }

    /// A CA of the directory, by the name of its files and its own.
    fn of(directory: &Path, (file, name): (&str, &str)) -> Result<Self, PkiError> {
        make_directory(directory)?;
        let ca = match read_pair(directory, file)? {
            Some(pair) => pair,
            None => make_ca(directory, file, name)?,
        };
        let issuer = issuer(&ca, directory, file)?;
        Ok(Self { directory: directory.to_owned(), ca, issuer })
    }

    /// The CA's certificate and key.
    pub fn ca(&self) -> &Pair {
        &self.ca
    }

    /// The path of a file in the directory.
    pub fn path(&self, file: &str) -> PathBuf {
        self.directory.join(file)
    }

    /// A client certificate, in `<name>.crt` and `<name>.key`.
    pub fn client(&self, name: &str, identity: Identity<'_>) -> Result<Pair, PkiError> {
        self.leaf(name, &[], |params| {
            params.distinguished_name.push(DnType::CommonName, identity.user);
            if !identity.group.is_empty() {
                params.distinguished_name.push(DnType::OrganizationName, identity.group);
            }
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        })
    }

    /// A serving certificate for these DNS names and addresses, in `<name>.crt` and `<name>.key`.
    pub fn server(
        &self,
        name: &str,
        identity: Identity<'_>,
        names: &[&str],
        addresses: &[IpAddr],
    ) -> Result<Pair, PkiError> {
        self.serving(name, identity, (names, addresses), vec![ExtendedKeyUsagePurpose::ServerAuth])
    }

    /// The same for a server that shows its certificate to other servers, too, as members of etcd do.
    pub fn peer(
        &self,
        name: &str,
        identity: Identity<'_>,
        names: &[&str],
        addresses: &[IpAddr],
    ) -> Result<Pair, PkiError> {
        let both = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.serving(name, identity, (names, addresses), both)
    }

    fn serving(
        &self,
        name: &str,
        identity: Identity<'_>,
        (names, addresses): (&[&str], &[IpAddr]),
        usages: Vec<ExtendedKeyUsagePurpose>,
    ) -> Result<Pair, PkiError> {
        let mut subjects = Vec::new();
        for dns_name in names {
            let text = (*dns_name).try_into().map_err(|source| PkiError::Make { name: name.to_owned(), source })?;
            subjects.push(SanType::DnsName(text));
        }
        subjects.extend(addresses.iter().map(|address| SanType::IpAddress(*address)));
        self.leaf(name, &subjects, |params| {
            params.distinguished_name.push(DnType::CommonName, identity.user);
            if !identity.group.is_empty() {
                params.distinguished_name.push(DnType::OrganizationName, identity.group);
            }
            params.extended_key_usages = usages;
        })
    }

    /// The key pair that signs ServiceAccount tokens (P-256), in `sa.key` and `sa.pub`; returns the private key.
    pub fn service_account_key(&self) -> Result<String, PkiError> {
        let path = self.path("sa.key");
        if let Some(key) = read(&path)? {
            KeyPair::from_pem(&key).map_err(|source| PkiError::Damaged { path, source })?;
            return Ok(key);
        }
        let key = KeyPair::generate().map_err(|source| PkiError::Make { name: "sa".to_owned(), source })?;
        write_secret(&path, &key.serialize_pem())?;
        write_secret(&self.path("sa.pub"), &key.public_key_pem())?;
        sync_names(&self.directory)?;
        Ok(key.serialize_pem())
    }

    fn leaf(
        &self,
        name: &str,
        subjects: &[SanType],
        describe: impl FnOnce(&mut CertificateParams),
    ) -> Result<Pair, PkiError> {
        if let Some(pair) = read_pair(&self.directory, name)?
            && self.still_good(name, &pair, subjects)?
        {
            return Ok(pair);
        }
        let make_error = |source| PkiError::Make { name: name.to_owned(), source };
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.subject_alt_names = subjects.to_vec();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        // RFC 5280, 4.2.1.1: clients that are strict, such as Python's, refuse certificates without it.
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = validity(LEAF_LIFETIME);
        describe(&mut params);
        let key = KeyPair::generate().map_err(make_error)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(make_error)?;
        let pair = Pair { certificate: certificate.pem(), key: key.serialize_pem() };
        write_pair(&self.directory, name, &pair)?;
        Ok(pair)
    }

    /// Whether the certificate is from our CA and says so, has time left and names every subject.
    fn still_good(&self, name: &str, pair: &Pair, subjects: &[SanType]) -> Result<bool, PkiError> {
        let unreadable = |reason: String| PkiError::Unreadable { path: self.path(&format!("{name}.crt")), reason };
        let (_, pem) =
            x509_parser::pem::parse_x509_pem(pair.certificate.as_bytes()).map_err(|err| unreadable(err.to_string()))?;
        let (_, certificate) = X509Certificate::from_der(&pem.contents).map_err(|err| unreadable(err.to_string()))?;
        let (_, ca_pem) = x509_parser::pem::parse_x509_pem(self.ca.certificate.as_bytes())
            .map_err(|err| unreadable(err.to_string()))?;
        let (_, ca) = X509Certificate::from_der(&ca_pem.contents).map_err(|err| unreadable(err.to_string()))?;
        let authority = |certificate: &X509Certificate<'_>| {
            certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
                x509_parser::extensions::ParsedExtension::AuthorityKeyIdentifier(id) => {
                    id.key_identifier.as_ref().map(|id| id.0.to_vec())
                }
                _ => None,
            })
        };
        let subject_key = ca.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            x509_parser::extensions::ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
            _ => None,
        });
        let signed_by = authority(&certificate);
        // A CA that somebody else made may have no identifier that a certificate could name.
        let ours = certificate.issuer() == ca.subject()
            && signed_by.is_some()
            && (subject_key.is_none() || signed_by == subject_key);
        let left = certificate.validity().time_to_expiration();
        let fresh = left.is_some_and(|left| left.whole_seconds() > RENEW_BEFORE.as_secs().cast_signed());
        let named = certificate.subject_alternative_name().ok().flatten();
        let names = named.as_ref().map(|names| names.value.general_names.as_slice()).unwrap_or_default();
        Ok(ours && fresh && subjects.iter().all(|wanted| names.iter().any(|name| same_subject(wanted, name))))
    }
}

fn same_subject(wanted: &SanType, have: &GeneralName<'_>) -> bool {
    match (wanted, have) {
        (SanType::DnsName(wanted), GeneralName::DNSName(have)) => wanted.as_str() == *have,
        (SanType::IpAddress(IpAddr::V4(wanted)), GeneralName::IPAddress(have)) => wanted.octets() == *have,
        (SanType::IpAddress(IpAddr::V6(wanted)), GeneralName::IPAddress(have)) => wanted.octets() == *have,
        _ => false,
    }
}

fn make_directory(directory: &Path) -> Result<(), PkiError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(|source| io_error("make directory", directory, source))
}

/// What signs for a CA, whose files have this name.
fn issuer(ca: &Pair, directory: &Path, file: &str) -> Result<Issuer<'static, KeyPair>, PkiError> {
    let damaged = |kind: &str| {
        let path = directory.join(format!("{file}.{kind}"));
        move |source| PkiError::Damaged { path, source }
    };
    let key = KeyPair::from_pem(&ca.key).map_err(damaged("key"))?;
    Issuer::from_ca_cert_pem(&ca.certificate, key).map_err(damaged("crt"))
}

fn make_ca(directory: &Path, file: &str, name: &str) -> Result<Pair, PkiError> {
    let make_error = |source| PkiError::Make { name: file.to_owned(), source };
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = validity(CA_LIFETIME);
    let key = KeyPair::generate().map_err(make_error)?;
    let certificate = params.self_signed(&key).map_err(make_error)?;
    let pair = Pair { certificate: certificate.pem(), key: key.serialize_pem() };
    write_pair(directory, file, &pair)?;
    sync_names(directory)?;
    Ok(pair)
}

/// Has the names in a directory, and its own, survive a power cut: what the store holds is signed by keys that nobody can make
/// again. Other files are made anew where they are gone.
fn sync_names(directory: &Path) -> Result<(), PkiError> {
    for directory in std::iter::once(directory).chain(directory.parent().filter(|above| !above.as_os_str().is_empty()))
    {
        let synced = fs::File::open(directory).and_then(|opened| opened.sync_all());
        synced.map_err(|source| io_error("sync", directory, source))?;
    }
    Ok(())
}

/// From a day ago, so that a peer whose clock is behind accepts it, to `lifetime` from now.
fn validity(lifetime: Duration) -> (time::OffsetDateTime, time::OffsetDateTime) {
    let now = SystemTime::now();
    ((now - DAY).into(), (now + lifetime).into())
}

fn read_pair(directory: &Path, name: &str) -> Result<Option<Pair>, PkiError> {
    let certificate = read(&directory.join(format!("{name}.crt")))?;
    let key = read(&directory.join(format!("{name}.key")))?;
    Ok(certificate.zip(key).map(|(certificate, key)| Pair { certificate, key }))
}

fn write_pair(directory: &Path, name: &str, pair: &Pair) -> Result<(), PkiError> {
    write_secret(&directory.join(format!("{name}.key")), &pair.key)?;
    write_secret(&directory.join(format!("{name}.crt")), &pair.certificate)
}

fn read(path: &Path) -> Result<Option<String>, PkiError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(io_error("read", path, source)),
    }
}

/// Writes a file of mode 0600 so that a reader sees the old text or the new one, never a part.
pub fn write_secret(path: &Path, text: &str) -> Result<(), PkiError> {
    let draft = path.with_extension("draft");
    let write = |draft: &Path| {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(draft, path)
    };
    write(&draft).map_err(|source| io_error("write", path, source))
}

fn io_error(verb: &'static str, path: &Path, source: io::Error) -> PkiError {
    PkiError::Io { verb, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
