//! The keys behind ServiceAccount tokens: one that signs, and all that are trusted.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use daemon::TokenKey;
use jsonwebtoken::{Algorithm, DecodingKey};
use rcgen::{KeyPair, PublicKeyData, SubjectPublicKeyInfo};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer as _, SubjectPublicKeyInfo as Parsed, X509Certificate};
use x509_parser::public_key::PublicKey;

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("read key {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} holds no usable key (want RSA, or ECDSA on P-256 or P-384, in PEM)")]
    Unusable { path: PathBuf },
}

/// A key that tokens are checked with.
pub(super) struct Verifier {
    pub(super) id: String,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
    /// As the JWKS document shows it.
    pub(super) document: Value,
}

/// All keys.
pub(super) struct Keys {
    /// The one that tokens are signed with.
    pub(super) signer: TokenKey,
    pub(super) verifiers: Vec<Verifier>,
}

impl Keys {
    /// Reads the signing key and the trusted ones. Without a signing key there is one as long as the process lives.
    pub(super) fn read(signing: Option<&Path>, trusted: &[PathBuf]) -> Result<Self, Error> {
        let path = signing.unwrap_or(Path::new("a generated key"));
        let signer = match signing {
            Some(path) => TokenKey::from_pem(&read(path)?),
            None => TokenKey::generate(),
        };
        let unusable = || Error::Unusable { path: path.to_owned() };
        let signer = signer.ok_or_else(unusable)?;
        let own = verifier(signer.public()).ok_or_else(unusable)?;
        let mut verifiers = vec![own];
        for path in trusted {
            let read = public_of(path, &read(path)?)?;
            if !verifiers.iter().any(|known| known.id == read.id) {
                verifiers.push(read);
            }
        }
        Ok(Self { signer, verifiers })
    }
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

fn pair_of(path: &Path, pem: &str) -> Result<KeyPair, Error> {
    KeyPair::from_pem(pem).map_err(|_| Error::Unusable { path: path.to_owned() })
}

/// The id of the public key that a text in PEM holds, if one can be used.
pub(crate) fn public_key_of(pem: &str) -> Option<String> {
    public_of(Path::new(""), pem).ok().map(|verifier| verifier.id)
}

/// The public key of a file that holds either half, or a certificate.
fn public_of(path: &Path, pem: &str) -> Result<Verifier, Error> {
    let info = match (SubjectPublicKeyInfo::from_pem(pem), certified(pem)) {
        (Ok(public), _) => public.subject_public_key_info(),
        (Err(_), Some(certified)) => certified,
        (Err(_), None) => pair_of(path, pem)?.subject_public_key_info(),
    };
    verifier(&info).ok_or_else(|| Error::Unusable { path: path.to_owned() })
}

/// The public key that a certificate is about.
fn certified(pem: &str) -> Option<Vec<u8>> {
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    let (_, parsed) = X509Certificate::from_der(&certificate).ok()?;
    Some(parsed.public_key().raw.to_vec())
}

/// Reads a public key in SPKI form.
fn verifier(info: &[u8]) -> Option<Verifier> {
    let id = TokenKey::id_of(info);
    let (_, parsed) = Parsed::from_der(info).ok()?;
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let (algorithm, key, mut document) = match parsed.parsed().ok()? {
        PublicKey::RSA(rsa) => {
            let strip = |bytes: &[u8]| encode(&bytes[bytes.iter().take_while(|byte| **byte == 0).count()..]);
            let (n, e) = (strip(rsa.modulus), strip(rsa.exponent));
            (Algorithm::RS256, DecodingKey::from_rsa_components(&n, &e).ok()?, json!({"kty": "RSA", "n": n, "e": e}))
        }
        PublicKey::EC(point) => {
            let (algorithm, curve, size) = match point.data().len() {
                65 => (Algorithm::ES256, "P-256", 32),
                97 => (Algorithm::ES384, "P-384", 48),
                _ => return None,
            };
            let (x, y) = point.data()[1..].split_at(size);
            let (x, y) = (encode(x), encode(y));
            (
                algorithm,
                DecodingKey::from_ec_components(&x, &y).ok()?,
                json!({"kty": "EC", "crv": curve, "x": x, "y": y}),
            )
        }
        _ => return None,
    };
    document["use"] = "sig".into();
    document["kid"] = id.clone().into();
    document["alg"] = format!("{algorithm:?}").into();
    Some(Verifier { id, algorithm, key, document })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_stands_for_the_key_that_it_is_about() {
        let directory = tempfile::tempdir().unwrap();
        let (key, certificate) = (directory.path().join("key"), directory.path().join("certificate"));
        let pair = KeyPair::generate().unwrap();
        let signed = rcgen::CertificateParams::new(["sa".to_owned()]).unwrap().self_signed(&pair).unwrap();
        std::fs::write(&key, pair.serialize_pem()).unwrap();
        std::fs::write(&certificate, signed.pem()).unwrap();
        let keys = Keys::read(Some(&key), std::slice::from_ref(&certificate)).unwrap();
        assert_eq!(keys.verifiers.len(), 1, "the certificate is about the signing key");
        let trusted = Keys::read(None, &[certificate]).unwrap();
        assert_eq!(trusted.verifiers[1].id, keys.signer.id());
    }
}
