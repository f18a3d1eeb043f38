//! Keys that sign JSON Web Tokens (RFC 7519), read from PEM.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PublicKeyData as _};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, SubjectPublicKeyInfo};
use x509_parser::public_key::PublicKey;

/// A private key: RSA, or of an elliptic curve, P-256 or P-384.
pub struct TokenKey {
    id: String,
    algorithm: Algorithm,
    public: Vec<u8>,
    key: EncodingKey,
}

/// A token that could not be signed.
#[derive(Debug, thiserror::Error)]
#[error("sign a token")]
pub struct SignError(#[from] jsonwebtoken::errors::Error);

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl TokenKey {
    /// Reads a key in any of the three forms that PEM files hold it in; `None` if there is none of use.
    pub fn from_pem(pem: &str) -> Option<Self> {
        Self::of(pem, &KeyPair::from_pem(pem).ok()?)
    }

    /// A new key.
    pub fn generate() -> Option<Self> {
        let pair = KeyPair::generate().ok()?;
        Self::of(&pair.serialize_pem(), &pair)
    }

    fn of(pem: &str, pair: &KeyPair) -> Option<Self> {
        let public = pair.subject_public_key_info();
        let algorithm = algorithm_of(&public)?;
        let key = encoding(pem, &public, algorithm)?;
        Some(Self { id: Self::id_of(&public), algorithm, public, key })
    }

    /// The name of a key in the headers of tokens, by its public half (a SubjectPublicKeyInfo in DER): upstream's, the hash of
    /// exactly these bytes.
    pub fn id_of(public: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(Sha256::digest(public))
    }

    /// Its own name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its public half, a SubjectPublicKeyInfo in DER.
    pub fn public(&self) -> &[u8] {
        &self.public
    }

    /// A token with these claims.
    ///
    /// # Errors
    /// The claims are no JSON object.
    pub fn sign(&self, claims: &impl Serialize) -> Result<String, SignError> {
        let mut header = Header::new(self.algorithm);
        header.typ = None;
        header.kid = Some(self.id.clone());
        Ok(jsonwebtoken::encode(&header, claims, &self.key)?)
    }
}

/// A JSON Web Signature of a text by a secret that both sides know (HS256), without the text, which the other side has (RFC
/// 7515, appendix F). `id` says which secret it was.
///
/// # Errors
/// None but those of the library.
pub fn sign_detached(text: &str, id: &str, secret: &str) -> Result<String, SignError> {
    let header = serde_json::json!({"alg": "HS256", "kid": id}).to_string();
    let header = URL_SAFE_NO_PAD.encode(header);
    let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(text));
    let key = EncodingKey::from_secret(secret.as_bytes());
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256)?;
    Ok(format!("{header}..{signature}"))
}

fn algorithm_of(public: &[u8]) -> Option<Algorithm> {
    let (_, parsed) = SubjectPublicKeyInfo::from_der(public).ok()?;
    match parsed.parsed().ok()? {
        PublicKey::RSA(_) => Some(Algorithm::RS256),
        PublicKey::EC(point) => match point.data().len() {
            65 => Some(Algorithm::ES256),
            97 => Some(Algorithm::ES384),
            _ => None,
        },
        _ => None,
    }
}

/// The key in the form that the signer reads.
fn encoding(pem: &str, public: &[u8], algorithm: Algorithm) -> Option<EncodingKey> {
    match (algorithm, PrivateKeyDer::from_pem_slice(pem.as_bytes()).ok()?) {
        (Algorithm::RS256, _) => EncodingKey::from_rsa_pem(pem.as_bytes()).ok(),
        (_, PrivateKeyDer::Sec1(key)) => Some(EncodingKey::from_ec_der(&pkcs8_of(public, key.secret_sec1_der())?)),
        (_, key) => Some(EncodingKey::from_ec_der(key.secret_der())),
    }
}

/// Wraps a key of an elliptic curve (RFC 5915) as RFC 5208 does, which adds its kind: that of its public half.
fn pkcs8_of(public: &[u8], sec1: &[u8]) -> Option<Vec<u8>> {
    const VERSION: [u8; 3] = [0x02, 0x01, 0x00];
    let (_, parsed) = SubjectPublicKeyInfo::from_der(public).ok()?;
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

#[cfg(test)]
mod tests {
    use jsonwebtoken::{DecodingKey, Validation};
    use serde_json::{Value, json};

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
    fn a_key_may_have_the_older_forms() {
        for pem in older_forms() {
            let key = TokenKey::from_pem(&pem).unwrap_or_else(|| panic!("{pem}"));
            let token = key.sign(&json!({"sub": "x"})).unwrap();
            let mut validation = Validation::new(key.algorithm);
            validation.required_spec_claims.clear();
            let (_, parsed) = SubjectPublicKeyInfo::from_der(key.public()).unwrap();
            let verifier = match parsed.parsed().unwrap() {
                PublicKey::RSA(_) => DecodingKey::from_rsa_der(&parsed.subject_public_key.data),
                _ => DecodingKey::from_ec_der(&parsed.subject_public_key.data),
            };
            let read = jsonwebtoken::decode::<Value>(&token, &verifier, &validation).unwrap();
            assert_eq!((&read.claims["sub"], read.header.kid.as_deref()), (&json!("x"), Some(key.id())));
        }
    }

    #[test]
    fn what_is_no_key_is_none() {
        for pem in ["", "x", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
            assert!(TokenKey::from_pem(pem).is_none(), "{pem}");
        }
    }
}
