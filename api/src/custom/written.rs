//! A schema as its author wrote it. It is kept compressed: rules are compiled from it once, and documents made of it, but
//! objects are checked with the nodes of the arena.

use std::io::Read as _;

use flate2::Compression;
use flate2::read::{DeflateDecoder, DeflateEncoder};
use serde_json::Value;
use sha2::{Digest as _, Sha512};

/// SHA-512.
pub(crate) type Digest = [u8; 64];

/// `schema.openAPIV3Schema` of one version.
#[derive(Debug)]
pub(crate) struct Written {
    zipped: Box<[u8]>,
    digest: Digest,
}

impl Written {
    pub(crate) fn new(schema: &Value) -> Self {
        let text = schema.to_string();
        let mut zipped = Vec::new();
        let mut encoder = DeflateEncoder::new(text.as_bytes(), Compression::fast());
        encoder.read_to_end(&mut zipped).expect("memory can be read");
        Self { zipped: zipped.into(), digest: Sha512::digest(&text).into() }
    }

    /// The schema; `null` when the version has none.
    pub(crate) fn schema(&self) -> Value {
        serde_json::from_reader(std::io::BufReader::new(DeflateDecoder::new(&*self.zipped)))
            .expect("what was compressed here is JSON")
    }

    /// A digest of the schema.
    pub(crate) fn digest(&self) -> &Digest {
        &self.digest
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_schema_comes_back_as_it_was_written() {
        let schema = json!({"type": "object", "description": "ü \u{0} \"".repeat(9000), "minimum": 1.5});
        let written = Written::new(&schema);
        assert_eq!(written.schema(), schema);
        assert!(written.zipped.len() < 2000, "{}", written.zipped.len());
        assert_ne!(written.digest(), Written::new(&json!(null)).digest());
    }
}
