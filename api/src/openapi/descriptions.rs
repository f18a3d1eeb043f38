//! The documentation of built-in definitions and their fields, which is not read before somebody asks for a document.

use std::collections::HashMap;
use std::io::Read as _;
use std::sync::OnceLock;

use flate2::read::GzDecoder;

/// The documentation, compressed.
const DESCRIPTIONS: &[u8] = include_bytes!("../../data/descriptions.txt.gz");

/// The documentation of a definition (empty `field`) or of one of its fields.
pub(super) fn description(definition: &str, field: &str) -> Option<String> {
    static TEXT: OnceLock<String> = OnceLock::new();
    static LINES: OnceLock<HashMap<(&str, &str), &str>> = OnceLock::new();
    let lines = LINES.get_or_init(|| {
        let mut lines = HashMap::new();
        let mut definition = "";
        for line in TEXT.get_or_init(decompressed).lines() {
            let (field, text) = line.strip_prefix(' ').map_or((None, line), |line| (Some(line), line));
            let Some((name, json)) = text.split_once(' ') else { continue };
            if field.is_none() {
                definition = name;
            }
            lines.insert((definition, if field.is_some() { name } else { "" }), json);
        }
        lines
    });
    serde_json::from_str(lines.get(&(definition, field))?).ok()
}

fn decompressed() -> String {
    let mut text = String::new();
    GzDecoder::new(DESCRIPTIONS).read_to_string(&mut text).expect("the file in this crate is compressed text");
    text
}
