//! What stands between `-----BEGIN` and `-----END`, as leniently as Go reads it: anything may stand around the
//! blocks, and
//! what is no proper block is passed over.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// One block.
pub(crate) struct Block {
    pub(crate) label: String,
    pub(crate) has_headers: bool,
    pub(crate) bytes: Vec<u8>,
}

/// All blocks of a text.
pub(crate) fn blocks(text: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(label) = boundary(line, "BEGIN") else { continue };
        let rest = lines.clone();
        match block(label, &mut lines) {
            Some(block) => found.push(block),
            None => lines = rest,
        }
    }
    found
}

fn boundary<'t>(line: &'t str, word: &str) -> Option<&'t str> {
    line.trim_end().strip_prefix("-----")?.strip_prefix(word)?.strip_prefix(' ')?.strip_suffix("-----")
}

fn block(label: &str, lines: &mut std::str::Lines<'_>) -> Option<Block> {
    let (mut encoded, mut has_headers) = (String::new(), false);
    for line in lines {
        if let Some(end) = boundary(line, "END") {
            let bytes = STANDARD.decode(encoded).ok().filter(|_| end == label)?;
            return Some(Block { label: label.to_owned(), has_headers, bytes });
        }
        if line.starts_with("-----") {
            return None;
        }
        if encoded.is_empty() && line.contains(':') {
            has_headers = true;
        } else {
            encoded.push_str(line.trim());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_among_other_text() {
        let text =
            "hello\n-----BEGIN A-----\nAA==\n-----END A-----\n\n-----BEGIN B-----\nX: y\n\nAAAA\n-----END B-----";
        let found: Vec<_> = blocks(text).into_iter().map(|b| (b.label, b.has_headers, b.bytes.len())).collect();
        assert_eq!(found, [("A".to_owned(), false, 1), ("B".to_owned(), true, 3)]);
        assert!(blocks("-----BEGIN A-----\nAA==\n-----END B-----\n").is_empty());
        assert!(blocks("-----BEGIN A-----\n-----BEGIN A-----\n").is_empty());
    }
}
