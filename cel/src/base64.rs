//! Bytes as JSON has them (RFC 4648).

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD, STANDARD as PADDED};

/// Reads what has no padding any more. Bits that belong to no byte may be anything.
const LENIENT: GeneralPurpose = GeneralPurpose::new(&STANDARD, NO_PAD.with_decode_allow_trailing_bits(true));

/// Bytes as text.
pub(crate) fn encode(bytes: &[u8]) -> String {
    PADDED.encode(bytes)
}

/// The bytes that a text means, with or without padding, in either alphabet.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    LENIENT.decode(text.trim_end_matches('=').replace('-', "+").replace('_', "/")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_the_way_there_and_back() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
            assert_eq!(encode(bytes.as_bytes()), text);
            assert_eq!(decode(text).as_deref(), Some(bytes.as_bytes()));
        }
        assert_eq!(decode("Z"), None);
        assert_eq!(decode("Zg!="), None);
    }

    #[test]
    fn padding_alphabet_and_spare_bits_may_be_any() {
        assert_eq!(decode("Zg"), Some(b"f".to_vec()));
        assert_eq!(decode("Zh======"), Some(b"f".to_vec()), "the last four bits belong to no byte");
        assert_eq!(decode("-_+/"), decode("+/-_"));
        assert_eq!(decode("-_+/"), Some(vec![0xfb, 0xff, 0xbf]));
        assert_eq!(decode("Z=g="), None);
    }
}
