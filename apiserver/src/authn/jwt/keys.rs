//! The keys that an issuer publishes (RFC 7517), and the algorithms that its tokens may be signed with (RFC 7518). There
//! are only signatures of key pairs among them: what a public key could serve as a secret for is not known here.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, EcdsaVerificationAlgorithm,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// An issuer has no more keys: a token without a key's id is tried with all of them.
const MOST_KEYS: usize = 128;
/// Bytes of the longest modulus, 8192 bits, and of the longest exponent.
const MOST_MODULUS: usize = 1024;
const MOST_EXPONENT: usize = 4;

/// A way to sign tokens.
#[derive(Debug)]
pub(super) struct Algorithm {
    pub(super) name: &'static str,
    scheme: Scheme,
}

#[derive(Debug)]
enum Scheme {
    Rsa(&'static RsaParameters),
    Ecdsa(Curve, &'static EcdsaVerificationAlgorithm),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Curve {
    P256,
    P384,
    P521,
}

/// All that upstream takes, too.
pub(super) static ALGORITHMS: [Algorithm; 9] = [
    Algorithm { name: "ES256", scheme: Scheme::Ecdsa(Curve::P256, &ECDSA_P256_SHA256_FIXED) },
    Algorithm { name: "ES384", scheme: Scheme::Ecdsa(Curve::P384, &ECDSA_P384_SHA384_FIXED) },
    Algorithm { name: "ES512", scheme: Scheme::Ecdsa(Curve::P521, &ECDSA_P521_SHA512_FIXED) },
    Algorithm { name: "PS256", scheme: Scheme::Rsa(&RSA_PSS_2048_8192_SHA256) },
    Algorithm { name: "PS384", scheme: Scheme::Rsa(&RSA_PSS_2048_8192_SHA384) },
    Algorithm { name: "PS512", scheme: Scheme::Rsa(&RSA_PSS_2048_8192_SHA512) },
    Algorithm { name: "RS256", scheme: Scheme::Rsa(&RSA_PKCS1_2048_8192_SHA256) },
    Algorithm { name: "RS384", scheme: Scheme::Rsa(&RSA_PKCS1_2048_8192_SHA384) },
    Algorithm { name: "RS512", scheme: Scheme::Rsa(&RSA_PKCS1_2048_8192_SHA512) },
];

/// The algorithm with a name.
pub(super) fn algorithm(name: &str) -> Option<&'static Algorithm> {
    ALGORITHMS.iter().find(|algorithm| algorithm.name == name)
}

/// The keys of an issuer.
#[derive(Debug, Default)]
pub(super) struct Keys(Vec<Key>);

#[derive(Debug)]
struct Key {
    id: String,
    material: Material,
}

#[derive(Debug)]
enum Material {
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    Point {
        curve: Curve,
        /// Uncompressed (SEC 1).
        point: Vec<u8>,
    },
}

impl Keys {
    /// Reads a key set. Keys of other kinds, and those that are not for signatures, are left out.
    pub(super) fn parse(document: &[u8]) -> Result<Self, String> {
        let tree: Value = serde_json::from_slice(document).map_err(|err| err.to_string())?;
        let keys = tree.get("keys").and_then(Value::as_array).ok_or("the document has no list \"keys\"")?;
        if keys.len() > MOST_KEYS {
            return Err(format!("{} keys are more than {MOST_KEYS}", keys.len()));
        }
        Ok(Self(keys.iter().filter_map(key).collect()))
    }

    /// Whether one of the keys made this signature. A token may name the key by its id.
    pub(super) fn verify(&self, id: Option<&str>, algorithm: &Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let candidates = self.0.iter().filter(|key| id.is_none_or(|id| key.id == id));
        candidates.into_iter().any(|key| key.material.verify(algorithm, message, signature))
    }
}

impl Material {
    fn verify(&self, algorithm: &Algorithm, message: &[u8], signature: &[u8]) -> bool {
        match (self, &algorithm.scheme) {
            (Self::Rsa { modulus: n, exponent: e }, Scheme::Rsa(parameters)) => {
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signature).is_ok()
            }
            (Self::Point { curve, point }, Scheme::Ecdsa(wanted, parameters)) if curve == wanted => {
                UnparsedPublicKey::new(*parameters, point).verify(message, signature).is_ok()
            }
            _ => false,
        }
    }
}

fn key(document: &Value) -> Option<Key> {
    let text = |field: &str| document.get(field).and_then(Value::as_str);
    if text("use").is_some_and(|purpose| purpose != "sig") {
        return None;
    }
    let bytes = |field: &str| URL_SAFE_NO_PAD.decode(text(field)?).ok();
    let material = match text("kty")? {
        "RSA" => {
            let (modulus, exponent) = (number(bytes("n")?), number(bytes("e")?));
            let fits = (1..=MOST_MODULUS).contains(&modulus.len()) && (1..=MOST_EXPONENT).contains(&exponent.len());
            fits.then_some(Material::Rsa { modulus, exponent })?
        }
        "EC" => {
            let (curve, size) = match text("crv")? {
                "P-256" => (Curve::P256, 32),
                "P-384" => (Curve::P384, 48),
                "P-521" => (Curve::P521, 66),
                _ => return None,
            };
            let (x, y) = (bytes("x")?, bytes("y")?);
            let fits = x.len() == size && y.len() == size;
            fits.then(|| Material::Point { curve, point: [&[4], &x[..], &y[..]].concat() })?
        }
        _ => return None,
    };
    Some(Key { id: text("kid").unwrap_or("").to_owned(), material })
}

/// Without the zeros that it begins with.
fn number(bytes: Vec<u8>) -> Vec<u8> {
    bytes.into_iter().skip_while(|byte| *byte == 0).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::SigningKey;
    use super::*;

    fn signed_by(keys: &Keys, key: &SigningKey, id: Option<&str>) -> bool {
        let token = key.sign(&json!({"sub": "jane"}));
        let (message, signature) = token.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        keys.verify(id, algorithm(key.algorithm()).unwrap(), message.as_bytes(), &signature)
    }

    #[test]
    fn signatures_of_every_algorithm_are_checked_by_the_key_that_made_them() {
        for Algorithm { name, .. } in &ALGORITHMS {
            let (key, other) = (SigningKey::generate(name, "a"), SigningKey::generate(name, "a"));
            let set = json!({"keys": [{"kty": "oct", "k": "AAAA"}, other.document(), key.document()]}).to_string();
            let keys = Keys::parse(set.as_bytes()).unwrap();
            assert!(signed_by(&keys, &key, Some("a")), "{name}");
            assert!(signed_by(&keys, &key, None), "{name}");
            assert!(!signed_by(&keys, &key, Some("b")), "{name}");
            let others = Keys::parse(json!({"keys": [other.document()]}).to_string().as_bytes()).unwrap();
            assert!(!signed_by(&others, &key, None), "{name}");
        }
    }

    #[test]
    fn a_key_is_good_for_algorithms_of_its_kind_alone() {
        let keys = ["RS256", "ES256", "ES384"].map(|name| SigningKey::generate(name, name));
        let set = json!({"keys": keys.each_ref().map(|key| key.document().clone())}).to_string();
        let set = Keys::parse(set.as_bytes()).unwrap();
        for key in &keys {
            let token = key.sign(&json!({}));
            let (message, signature) = token.rsplit_once('.').unwrap();
            let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
            for algorithm in &ALGORITHMS {
                let good = set.verify(None, algorithm, message.as_bytes(), &signature);
                assert_eq!(good, algorithm.name == key.algorithm(), "{} as {}", key.algorithm(), algorithm.name);
            }
        }
        assert!(["none", "HS256", "EdDSA", "rs256", ""].iter().all(|name| algorithm(name).is_none()));
    }

    #[test]
    fn a_document_that_is_no_key_set_is_refused_and_odd_keys_are_left_out() {
        for bad in ["", "[]", "{}", r#"{"keys": {}}"#] {
            assert!(Keys::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        let many = json!({"keys": vec![json!({}); MOST_KEYS + 1]}).to_string();
        assert!(Keys::parse(many.as_bytes()).unwrap_err().contains("more than 128"));
        let long = "A".repeat(100_000);
        let good = SigningKey::generate("ES256", "a").document().clone();
        let mut encrypts = good.clone();
        encrypts["use"] = "enc".into();
        let odd = json!({"keys": [
            1, {}, {"kty": "RSA"}, {"kty": "RSA", "n": "AQAB", "e": ""}, {"kty": "RSA", "n": format!("_{long}"), "e": "AQAB"},
            {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}, {"kty": "EC", "crv": "secp256k1"}, {"kty": "oct", "k": "AA"},
            encrypts, good,
        ]});
        assert_eq!(Keys::parse(odd.to_string().as_bytes()).unwrap().0.len(), 1);
    }
}
