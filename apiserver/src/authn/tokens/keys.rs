//! The keys behind ServiceAccount tokens: one that signs, and all that are trusted.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use rcgen::{KeyPair, PublicKeyData, SubjectPublicKeyInfo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
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

/// The key that tokens are signed with.
pub(super) struct Signer {
    pub(super) id: String,
    pub(super) algorithm: Algorithm,
    pub(super) key: EncodingKey,
}

/// All keys.
pub(super) struct Keys {
    pub(super) signer: Signer,
    pub(super) verifiers: Vec<Verifier>,
}

impl Keys {
    /// Reads the signing key and the trusted ones. Without a signing key there is one as long as the process lives.
    pub(super) fn read(signing: Option<&Path>, trusted: &[PathBuf]) -> Result<Self, Error> {
        let path = signing.unwrap_or(Path::new("a generated key"));
        let unusable = || Error::Unusable { path: path.to_owned() };
        let pem = match signing {
            Some(path) => read(path)?,
            None => KeyPair::generate().map_err(|_| unusable())?.serialize_pem(),
        };
        let pair = pair_of(path, &pem)?;
        let own = verifier(&pair.subject_public_key_info()).ok_or_else(unusable)?;
        let signer = Signer {
            id: own.id.clone(),
            algorithm: own.algorithm,
            key: encoding(&pem, &pair, own.algorithm).ok_or_else(unusable)?,
        };
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

/// The signing key in the form that the signer reads. Files hold it in any of three.
fn encoding(pem: &str, pair: &KeyPair, algorithm: Algorithm) -> Option<EncodingKey> {
    match (algorithm, PrivateKeyDer::from_pem_slice(pem.as_bytes()).ok()?) {
        (Algorithm::RS256, _) => EncodingKey::from_rsa_pem(pem.as_bytes()).ok(),
        (_, PrivateKeyDer::Sec1(key)) => {
            let pkcs8 = pkcs8_of(&pair.subject_public_key_info(), key.secret_sec1_der())?;
            Some(EncodingKey::from_ec_der(&pkcs8))
        }
        (_, key) => Some(EncodingKey::from_ec_der(key.secret_der())),
    }
}

/// Wraps a key of an elliptic curve (RFC 5915) as RFC 5208 does, which adds its kind: that of its public half.
fn pkcs8_of(public: &[u8], sec1: &[u8]) -> Option<Vec<u8>> {
    const VERSION: [u8; 3] = [0x02, 0x01, 0x00];
    let (_, parsed) = Parsed::from_der(public).ok()?;
    let oid = |oid: &[u8]| element(0x06, oid);
    let curve = parsed.algorithm.parameters.as_ref()?.as_oid().ok()?;
    let kind = [oid(parsed.algorithm.algorithm.as_bytes()), oid(curve.as_bytes())].concat();
    Some(element(0x30, &[VERSION.to_vec(), element(0x30, &kind), element(0x04, sec1)].concat()))
}

/// An element of DER.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let length: Vec<u8> = length.into_iter().skip_while(|byte| *byte == 0).collect();
    let header = match length.as_slice() {
        [] => vec![tag, 0],
        [short] if *short < 0x80 => vec![tag, *short],
        long => [&[tag, 0x80 | u8::try_from(long.len()).unwrap_or(u8::MAX)], long].concat(),
    };
    [header.as_slice(), content].concat()
}

/// Reads a public key in SPKI form. Its id is upstream's: the hash of exactly these bytes.
fn verifier(info: &[u8]) -> Option<Verifier> {
    let id = URL_SAFE_NO_PAD.encode(Sha256::digest(info));
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

    /// A private key of each kind in PEM, in the older form that openssl and kubeadm write.
    fn older_forms() -> [String; 2] {
        let rsa = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        let ec = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let inner = |pair: &KeyPair| {
            let (_, sequence) = x509_parser::der_parser::parse_der(pair.serialized_der()).unwrap();
            sequence.as_sequence().unwrap()[2].as_slice().unwrap().to_vec()
        };
        let pem = |kind: &str, der: &[u8]| {
            let text = base64::engine::general_purpose::STANDARD.encode(der);
            let lines: Vec<&str> = (0..text.len()).step_by(64).map(|at| &text[at..text.len().min(at + 64)]).collect();
            format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", lines.join("\n"))
        };
        // The inner form of an elliptic key does not name its curve, so openssl's form has it behind the key.
        [pem("RSA PRIVATE KEY", &inner(&rsa)), pem("EC PRIVATE KEY", &with_curve(&inner(&ec)))]
    }

    /// Puts the name of P-256 into an ECPrivateKey, before the public key.
    fn with_curve(sec1: &[u8]) -> Vec<u8> {
        const P256: [u8; 12] = [0xa0, 10, 0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
        // Version and the 32 bytes of the key come first.
        let (head, public) = sec1[2..].split_at(3 + 2 + 32);
        element(0x30, &[head, &P256, public].concat())
    }

    #[test]
    fn a_signing_key_may_have_the_older_forms() {
        let directory = tempfile::tempdir().unwrap();
        for pem in older_forms() {
            let path = directory.path().join("sa.key");
            std::fs::write(&path, &pem).unwrap();
            let keys = Keys::read(Some(&path), &[]).unwrap_or_else(|err| panic!("{err}:\n{pem}"));
            let header = jsonwebtoken::Header::new(keys.signer.algorithm);
            let token = jsonwebtoken::encode(&header, &json!({"sub": "x"}), &keys.signer.key).unwrap();
            let mut validation = jsonwebtoken::Validation::new(keys.signer.algorithm);
            validation.required_spec_claims.clear();
            let read = jsonwebtoken::decode::<Value>(&token, &keys.verifiers[0].key, &validation).unwrap();
            assert_eq!(read.claims["sub"], "x");
        }
    }

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
        assert_eq!(trusted.verifiers[1].id, keys.signer.id);
    }
}
