//! The `continue` token of paged lists: base64 of `{"v":"meta.k8s.io/v1","rv":N,"start":"key"}`, as upstream's.

use api::ApiError;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

const VERSION: &str = "meta.k8s.io/v1";

/// Reads base64 as leniently as Go does.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Where a list goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Continue {
    #[serde(rename = "v", default)]
    version: String,
    /// The revision that all pages are read at; -1 for "the newest, even if it fits no page before".
    #[serde(rename = "rv", default)]
    pub(crate) revision: i64,
    /// The first key of the page, below the resource's prefix.
    #[serde(default)]
    pub(crate) start: String,
}

impl Continue {
    pub(crate) fn new(revision: i64, start: &str) -> Self {
        Self { version: VERSION.to_owned(), revision, start: start.to_owned() }
    }

    pub(crate) fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).expect("three plain fields serialise"))
    }

    pub(crate) fn decode(token: &str) -> Result<Self, ApiError> {
        let refuse =
            |why: String| ApiError::bad_request(format!("invalid continue token: continue key is not valid: {why}"));
        let bytes = LENIENT.decode(token).map_err(|err| refuse(err.to_string()))?;
        let read: Self = serde_json::from_slice(&bytes).map_err(|_| refuse(why_not_json(&bytes)))?;
        if read.version != VERSION {
            return Err(refuse(format!("server does not recognize this encoded version {}", read.version)));
        }
        if read.start.is_empty() || read.revision == 0 {
            return Err(refuse("incorrect encoded start resourceVersion (version meta.k8s.io/v1)".into()));
        }
        if read.start.split('/').any(|part| part == "..") {
            return Err(refuse(format!("invalid start key {:?}", read.start)));
        }
        Ok(read)
    }
}

/// Go's words for bytes that are not JSON.
fn why_not_json(bytes: &[u8]) -> String {
    match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
        None => "unexpected end of JSON input".to_owned(),
        Some(byte) if byte.is_ascii_graphic() => {
            format!("invalid character '{}' looking for beginning of value", char::from(*byte))
        }
        Some(byte) => format!("invalid character '\\u{byte:04x}' looking for beginning of value"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_and_bad_ones_are_refused() {
        let token = Continue::new(7, "ns/a\0");
        assert_eq!(Continue::decode(&token.encode()).unwrap(), token);
        let refused = Continue::decode("golden").unwrap_err().to_string();
        assert!(refused.ends_with(r"invalid character '\u0082' looking for beginning of value"), "{refused}");
        let other = Continue::decode("eyJ2IjoieCJ9").unwrap_err().to_string();
        assert!(other.ends_with("server does not recognize this encoded version x"), "{other}");
    }
}
