//! Tokens as they come: read, and checked as far as that goes without a key. Cheap checks come before the one that may
//! ask the issuer for new keys. Upstream: `authenticator/token/oidc`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

use super::keys::{Algorithm, Keys, algorithm};

/// Longer tokens are nobody's.
const MOST_TOKEN: usize = 64 << 10;
/// How many seconds the clock of an issuer may be ahead, for `nbf`; of `exp` nothing is given away. As go-oidc.
const LEEWAY: f64 = 60.0;
/// Google's issuer by the name that it once had.
const GOOGLE: (&str, &str) = ("accounts.google.com", "https://accounts.google.com");

/// A token of which nothing is believed yet.
#[derive(Debug)]
pub(super) struct Token<'t> {
    header: &'t str,
    message: &'t str,
    signature: &'t str,
    /// An object.
    pub(super) claims: Value,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// What a reader must understand; there is nothing that this one does.
    crit: Option<Value>,
}

/// What a signature is checked with.
pub(super) struct Seal<'t> {
    key: Option<String>,
    algorithm: &'static Algorithm,
    message: &'t [u8],
    signature: Vec<u8>,
}

impl<'t> Token<'t> {
    /// Reads a token; `None` when it is none of an issuer of JSON web tokens.
    pub(super) fn read(text: &'t str) -> Option<Self> {
        if text.len() > MOST_TOKEN {
            return None;
        }
        let (message, signature) = text.rsplit_once('.')?;
        let (header, payload) = message.split_once('.')?;
        if payload.contains('.') {
            return None;
        }
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
        claims.is_object().then_some(Self { header, message, signature, claims })
    }

    /// Who says to have issued it.
    pub(super) fn issuer(&self) -> Option<&str> {
        let issuer = self.claims.get("iss")?.as_str()?;
        Some(if issuer == GOOGLE.0 { GOOGLE.1 } else { issuer })
    }

    /// Checks everything but the signature: whom it is for, its times, and how it is signed.
    pub(super) fn check(
        &self,
        audiences: &[String],
        allowed: &[&'static Algorithm],
        now: f64,
    ) -> Result<Seal<'t>, String> {
        self.check_audience(audiences)?;
        self.check_times(now)?;
        let malformed = |why: &dyn std::fmt::Display| format!("malformed jwt: {why}");
        let header = URL_SAFE_NO_PAD.decode(self.header).map_err(|err| malformed(&err))?;
        let header: Header = serde_json::from_slice(&header).map_err(|err| malformed(&err))?;
        if header.crit.is_some() {
            return Err(malformed(&"its header has extensions that must be understood (crit)"));
        }
        let known = algorithm(&header.alg).filter(|known| allowed.iter().any(|allowed| allowed.name == known.name));
        let algorithm = known.ok_or_else(|| {
            let names: Vec<&str> = allowed.iter().map(|algorithm| algorithm.name).collect();
            format!("id token signed with unsupported algorithm, expected {names:?} got {:?}", header.alg)
        })?;
        let signature = URL_SAFE_NO_PAD.decode(self.signature).map_err(|err| malformed(&err))?;
        let key = header.kid.filter(|id| !id.is_empty());
        Ok(Seal { key, algorithm, message: self.message.as_bytes(), signature })
    }

    fn check_audience(&self, wanted: &[String]) -> Result<(), String> {
        let its: Vec<&str> = match self.claims.get("aud") {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(all)) => {
                let texts: Option<Vec<&str>> = all.iter().map(Value::as_str).collect();
                texts.ok_or("failed to unmarshal claims: aud is no list of strings")?
            }
            None | Some(Value::Null) => Vec::new(),
            Some(_) => return Err("failed to unmarshal claims: aud is no string and no list of strings".to_owned()),
        };
        if its.iter().any(|audience| wanted.iter().any(|wanted| wanted == audience)) {
            return Ok(());
        }
        Err(format!("expected audience in {wanted:?} got {its:?}"))
    }

    fn check_times(&self, now: f64) -> Result<(), String> {
        let seconds = |claim: &str| match self.claims.get(claim) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                let seconds = value.as_f64().ok_or_else(|| format!("failed to unmarshal claims: {claim} is no number"));
                seconds.map(|seconds| Some(seconds.trunc()))
            }
        };
        // Upstream reads when it was issued, and asks nothing of it.
        seconds("iat")?;
        if seconds("exp")?.is_none_or(|end| end < now) {
            return Err("token is expired".to_owned());
        }
        if seconds("nbf")?.is_some_and(|start| now + LEEWAY < start) {
            return Err("the current time is before the nbf (not before) time".to_owned());
        }
        Ok(())
    }
}

impl Seal<'_> {
    /// Whether one of these keys made the signature.
    pub(super) fn is_of(&self, keys: &Keys) -> bool {
        keys.verify(self.key.as_deref(), self.algorithm, self.message, &self.signature)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::keys::ALGORITHMS;
    use super::*;

    const NOW: f64 = 1_000_000.5;

    fn encoded(part: &Value) -> String {
        URL_SAFE_NO_PAD.encode(part.to_string())
    }

    fn token(header: &Value, changes: &Value) -> String {
        let mut claims = json!({"iss": "https://issuer", "aud": "us", "exp": 1_000_001});
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        format!("{}.{}.c2ln", encoded(header), encoded(&claims))
    }

    fn check(header: &Value, changes: &Value) -> Result<(), String> {
        let text = token(header, changes);
        let audiences = ["us".to_owned(), "them".to_owned()];
        let allowed: Vec<&Algorithm> = ALGORITHMS.iter().filter(|algorithm| algorithm.name != "RS512").collect();
        Token::read(&text).expect("it is a token").check(&audiences, &allowed, NOW).map(|_| ())
    }

    #[test]
    fn who_issued_a_token_is_read_of_what_has_the_shape_of_one() {
        let issuer = |text: &str| Token::read(text).and_then(|token| token.issuer().map(str::to_owned));
        assert_eq!(issuer(&token(&json!({}), &json!({}))).as_deref(), Some("https://issuer"));
        let google = token(&json!({}), &json!({"iss": "accounts.google.com"}));
        assert_eq!(issuer(&google).as_deref(), Some("https://accounts.google.com"));
        let list = format!("{}.{}.c2ln", encoded(&json!({})), encoded(&json!(["iss"])));
        let huge = token(&json!({}), &json!({"padding": "a".repeat(MOST_TOKEN)}));
        let deep = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode("[".repeat(40_000)));
        let four = format!("{}.x", token(&json!({}), &json!({})));
        for none in ["", "..", "a.b", "abcdef.0123456789abcdef", "e30.e30.e30", "e30.e30=.", &list, &huge, &deep, &four]
        {
            assert_eq!(issuer(none), None, "{}", &none[..none.len().min(80)]);
        }
    }

    #[test]
    fn times_and_audiences_are_checked_before_the_signature() {
        let header = json!({"alg": "RS256"});
        for good in [
            json!({}),
            json!({"aud": ["other", "them"]}),
            json!({"nbf": 1_000_060}),
            json!({"exp": 1_000_001.9, "iat": 9_000_000}),
        ] {
            assert_eq!(check(&header, &good), Ok(()), "{good}");
        }
        for (bad, wanted) in [
            (json!({"exp": 1_000_000}), "expired"),
            (json!({"exp": null}), "expired"),
            (json!({"exp": -1}), "expired"),
            (json!({"exp": "9999999999"}), "exp is no number"),
            (json!({"exp": [9_999_999]}), "exp is no number"),
            (json!({"nbf": 1_000_061}), "nbf"),
            (json!({"iat": "x"}), "iat is no number"),
            (json!({"aud": "other"}), "expected audience"),
            (json!({"aud": []}), "expected audience"),
            (json!({"aud": null}), "expected audience"),
            (json!({"aud": ["us", 1]}), "aud is no list"),
            (json!({"aud": {"us": true}}), "aud is no string"),
        ] {
            let err = check(&header, &bad).unwrap_err();
            assert!(err.contains(wanted), "{bad}: {err}");
        }
    }

    #[test]
    fn only_allowed_algorithms_of_key_pairs_are_taken() {
        for name in ["none", "None", "HS256", "HS384", "HS512", "RS512", "EdDSA", "rs256", ""] {
            let err = check(&json!({"alg": name}), &json!({})).unwrap_err();
            assert!(err.contains("unsupported algorithm"), "{name}: {err}");
        }
        for header in [json!({}), json!({"alg": 1}), json!({"alg": ["RS256"]}), json!({"alg": "RS256", "kid": 1})] {
            assert!(check(&header, &json!({})).unwrap_err().contains("malformed jwt"), "{header}");
        }
        let critical = json!({"alg": "RS256", "crit": ["b64"], "b64": false});
        assert!(check(&critical, &json!({})).unwrap_err().contains("crit"));
        assert_eq!(check(&json!({"alg": "RS256", "kid": "a", "typ": "JWT"}), &json!({})), Ok(()));
    }
}
