//! Certificates for names of their own (`--tls-sni-cert-key`).

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// A certificate and its key, for certain names or for those that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedCertificate {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Names, also as `*.example.com`.
    pub names: Vec<String>,
}

impl FromStr for NamedCertificate {
    type Err = String;

    /// Reads `certificate,key` or `certificate,key:name,name`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (files, names) = text.split_once(':').unwrap_or((text, ""));
        let (certificate, key) = files
            .split_once(',')
            .filter(|(certificate, key)| !certificate.is_empty() && !key.is_empty() && !key.contains(','))
            .ok_or("want CERTIFICATE,KEY or CERTIFICATE,KEY:NAME,NAME")?;
        let names = names.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_lowercase).collect();
        Ok(Self { certificate: certificate.into(), key: key.into(), names })
    }
}

/// Chooses the certificate by the name that the client asks for.
#[derive(Debug)]
pub(super) struct Shown {
    default: Arc<CertifiedKey>,
    named: Vec<(Vec<String>, Arc<CertifiedKey>)>,
}

impl Shown {
    /// Loads the named certificates.
    pub(super) fn new<E>(
        default: Arc<CertifiedKey>,
        named: &[NamedCertificate],
        load: impl Fn(&Path, &Path) -> Result<Arc<CertifiedKey>, E>,
    ) -> Result<Self, E> {
        let read = |one: &NamedCertificate| {
            let pair = load(&one.certificate, &one.key)?;
            let names = if one.names.is_empty() { names_of(&pair) } else { one.names.clone() };
            Ok((names, pair))
        };
        Ok(Self { default, named: named.iter().map(read).collect::<Result<_, E>>()? })
    }

    /// An exact name is better than a pattern, and the first of equals counts.
    fn choose(&self, name: &str) -> &Arc<CertifiedKey> {
        let name = name.to_lowercase();
        let of = |matches: &dyn Fn(&String) -> bool| {
            self.named.iter().find(|(names, _)| names.iter().any(matches)).map(|(_, pair)| pair)
        };
        let below = name.split_once('.').map(|(_, parent)| format!("*.{parent}"));
        let exact = of(&|known| *known == name);
        exact.or_else(|| of(&|known| Some(known) == below.as_ref())).unwrap_or(&self.default)
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(hello.server_name().map_or(&self.default, |name| self.choose(name)).clone())
    }
}

/// The names that a certificate is about.
fn names_of(pair: &CertifiedKey) -> Vec<String> {
    let parsed = pair.cert.first().and_then(|certificate| X509Certificate::from_der(certificate).ok());
    let Some((_, parsed)) = parsed else { return Vec::new() };
    let alternative = parsed.subject_alternative_name().ok().flatten();
    let listed = alternative.into_iter().flat_map(|names| &names.value.general_names);
    let listed = listed.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_lowercase()),
        _ => None,
    });
    listed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_certificate_is_two_files_and_names() {
        let read = "a.crt,a.key:*.Example.com, b".parse::<NamedCertificate>().unwrap();
        assert_eq!((read.certificate, read.key), ("a.crt".into(), "a.key".into()));
        assert_eq!(read.names, ["*.example.com", "b"]);
        for bad in ["", "a.crt", "a,b,c", ",k", "a,:x"] {
            assert!(bad.parse::<NamedCertificate>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_best_name_decides() {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let make = |name: &str| {
            let pair = rcgen::KeyPair::generate().unwrap();
            let signed = rcgen::CertificateParams::new([name.to_owned()]).unwrap().self_signed(&pair).unwrap();
            let key = rustls::pki_types::PrivateKeyDer::try_from(pair.serialize_der()).unwrap();
            Arc::new(CertifiedKey::from_der(vec![signed.der().clone()], key, &provider).unwrap())
        };
        let (default, own, pattern) = (make("default"), make("own.example.com"), make("other"));
        let pairs = [("own", own.clone()), ("pattern", pattern.clone())];
        let named = ["own,k", "pattern,k:*.example.com"].map(|text| text.parse().unwrap());
        let load = |path: &Path, _: &Path| {
            let found = pairs.iter().find(|(name, _)| Path::new(name) == path);
            Ok::<_, ()>(found.unwrap().1.clone())
        };
        let shown = Shown::new(default.clone(), &named, load).unwrap();
        for (name, wanted) in [
            ("OWN.example.com", &own),
            ("x.example.com", &pattern),
            ("a.x.example.com", &default),
            ("localhost", &default),
        ] {
            assert!(Arc::ptr_eq(shown.choose(name), wanted), "{name}");
        }
    }
}
