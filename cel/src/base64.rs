//! Bytes as JSON has them (RFC 4648), read as upstream does, which has two opinions: what a schema calls `byte` is converted
//! by the alphabet for URLs (`strfmt.Base64`), and `format.byte()` takes the standard one (`govalidator.IsBase64`).

use base64::alphabet::URL_SAFE;
use base64::engine::general_purpose::{GeneralPurpose, PAD, STANDARD};
use base64::{DecodeError, Engine as _};

/// With padding. Bits that belong to no byte may be anything.
const FOR_URLS: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, PAD.with_decode_allow_trailing_bits(true));

/// Bytes as text.
pub(crate) fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The bytes that a text means in the alphabet for URLs, with its padding; line breaks count for nothing. The error is Go's.
pub(crate) fn decode(text: &str) -> Result<Vec<u8>, String> {
    let packed = text.replace(['\r', '\n'], "");
    FOR_URLS.decode(&packed).map_err(|err| {
        let at = match err {
            DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol { offset: at, .. } => at,
            DecodeError::InvalidLength(_) | DecodeError::InvalidPadding => packed.len() - packed.len() % 4,
        };
        format!("illegal base64 data at input byte {at}")
    })
}

/// Whether a text is something in the standard alphabet, with its padding.
pub(crate) fn is_standard(text: &str) -> bool {
    let digits = text.trim_end_matches('=');
    !text.is_empty()
        && text.len().is_multiple_of(4)
        && text.len() - digits.len() <= 2
        && digits.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_the_way_there_and_back() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
            assert_eq!(encode(bytes.as_bytes()), text);
            assert_eq!(decode(text).as_deref(), Ok(bytes.as_bytes()));
        }
        assert_eq!(decode("Zm9v\r\nYg==").as_deref(), Ok(&b"foob"[..]));
        assert_eq!(decode("Zh==").as_deref(), Ok(&b"f"[..]), "the last four bits belong to no byte");
        assert_eq!(decode("-_--"), Ok(vec![0xfb, 0xff, 0xbe]));
    }

    #[test]
    fn the_padding_and_the_alphabet_are_not_free() {
        let wrong = [("Z", 0), ("Zg", 0), ("Zm9vZg", 4), ("Zg!=", 2), ("+/+/", 0), ("Zg==Zg==", 2)];
        for (text, at) in wrong {
            let want = format!("illegal base64 data at input byte {at}");
            assert_eq!(decode(text), Err(want), "{text}");
        }
        assert!(decode("Zh======").is_err() && decode("Z=g=").is_err());
    }

    #[test]
    fn the_format_knows_the_standard_alphabet_only() {
        for text in ["Zg==", "Zm8=", "Zm9v", "+/+/", "Zh=="] {
            assert!(is_standard(text), "{text}");
        }
        for text in ["", "Zg", "Zg=", "-_-_", "Zh======", "Z===", "====", "Zm9v\n", "Zg!="] {
            assert!(!is_standard(text), "{text}");
        }
    }
}
