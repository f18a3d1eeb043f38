//! Keys that sign tokens, for tests.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair,
    KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512,
    RsaEncoding, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use x509_parser::der_parser::parse_der;

/// The key of an issuer of tokens.
pub struct SigningKey {
    id: String,
    algorithm: &'static str,
    pair: Pair,
    document: Value,
}

enum Pair {
    Rsa(Box<RsaKeyPair>, &'static dyn RsaEncoding),
    Ecdsa(Box<EcdsaKeyPair>),
}

impl SigningKey {
    /// A new key for an algorithm such as `RS256`.
    ///
    /// # Panics
    /// When there is no such algorithm.
    pub fn generate(algorithm: &str, id: &str) -> Self {
        match algorithm {
            "RS256" => Self::rsa("RS256", &RSA_PKCS1_SHA256, id),
            "RS384" => Self::rsa("RS384", &RSA_PKCS1_SHA384, id),
            "RS512" => Self::rsa("RS512", &RSA_PKCS1_SHA512, id),
            "PS256" => Self::rsa("PS256", &RSA_PSS_SHA256, id),
            "PS384" => Self::rsa("PS384", &RSA_PSS_SHA384, id),
            "PS512" => Self::rsa("PS512", &RSA_PSS_SHA512, id),
            "ES256" => Self::ecdsa("ES256", "P-256", EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).ok(), id),
            "ES384" => Self::ecdsa("ES384", "P-384", EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).ok(), id),
            "ES512" => Self::ecdsa("ES512", "P-521", EcdsaKeyPair::generate(&ECDSA_P521_SHA512_FIXED_SIGNING).ok(), id),
            other => panic!("no algorithm {other:?}"),
        }
    }

    fn rsa(algorithm: &'static str, encoding: &'static dyn RsaEncoding, id: &str) -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key can be generated");
        let (_, sequence) = parse_der(pair.public_key().as_ref()).expect("a public key is DER");
        let numbers = sequence.as_sequence().expect("a public key is a sequence");
        let number = |at: usize| {
            let bytes: &[u8] = numbers[at].as_slice().expect("a number has bytes");
            URL_SAFE_NO_PAD.encode(&bytes[bytes.iter().take_while(|byte| **byte == 0).count()..])
        };
        let document = json!({"kty": "RSA", "use": "sig", "kid": id, "n": number(0), "e": number(1)});
        Self { id: id.to_owned(), algorithm, pair: Pair::Rsa(Box::new(pair), encoding), document }
    }

    fn ecdsa(algorithm: &'static str, curve: &str, pair: Option<EcdsaKeyPair>, id: &str) -> Self {
        let pair = pair.expect("a key can be generated");
        let point = &pair.public_key().as_ref()[1..];
        let (x, y) = point.split_at(point.len() / 2);
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        let document = json!({"kty": "EC", "use": "sig", "kid": id, "crv": curve, "x": x, "y": y});
        Self { id: id.to_owned(), algorithm, pair: Pair::Ecdsa(Box::new(pair)), document }
    }

    /// The algorithm that it signs with.
    pub fn algorithm(&self) -> &'static str {
        self.algorithm
    }

    /// The public half, as a key set has it.
    pub fn document(&self) -> &Value {
        &self.document
    }

    /// A token with these claims.
    pub fn sign(&self, claims: &Value) -> String {
        self.sign_with(&json!({"alg": self.algorithm, "kid": self.id}), claims)
    }

    /// A token with a header of one's own.
    ///
    /// # Panics
    /// When the system has no random numbers.
    pub fn sign_with(&self, header: &Value, claims: &Value) -> String {
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let message = format!("{}.{}", encode(header), encode(claims));
        let random = SystemRandom::new();
        let signature = match &self.pair {
            Pair::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(*encoding, &random, message.as_bytes(), &mut signature).expect("the key can sign");
                signature
            }
            Pair::Ecdsa(pair) => pair.sign(&random, message.as_bytes()).expect("the key can sign").as_ref().to_vec(),
        };
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}
