//! Names that say what is called by them.

use sha2::{Digest as _, Sha256};

/// A name for a text that no other text has.
pub(crate) fn short_hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}
