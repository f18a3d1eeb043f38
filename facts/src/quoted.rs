//! Text in quotes, as Go's `%q` writes it: in files of the downward API, and in words for people (upstream: `Quote` of
//! strconv).

use std::fmt::Write as _;

/// The text in double quotes; what cannot be printed is escaped.
pub fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            c if is_printable(c) => out.push(c),
            c => escape(&mut out, u32::from(c)),
        }
    }
    out.push('"');
    out
}

fn escape(out: &mut String, c: u32) {
    let written = match c {
        0..=0x7f => write!(out, "\\x{c:02x}"),
        0x80..=0xffff => write!(out, "\\u{c:04x}"),
        _ => write!(out, "\\U{c:08x}"),
    };
    written.expect("a string takes all that is written");
}

/// Letters, marks, numbers, punctuation, symbols and the plain blank. The standard library knows, but for marks at the
/// beginning of a text, which it escapes.
fn is_printable(c: char) -> bool {
    let mut after_another = [0; 5];
    after_another[0] = b'a';
    let length = c.encode_utf8(&mut after_another[1..]).len();
    let text = std::str::from_utf8(&after_another[..=length]).expect("two characters");
    c == '\'' || text.escape_debug().count() == 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_go_escapes_is_escaped_as_go_does() {
        let check = |text: &str, expected: &str| assert_eq!(quoted(text), expected, "{text:?}");
        check("plain it's", r#""plain it's""#);
        check("a\"b\\c", r#""a\"b\\c""#);
        check("\x07\x08\x0c\n\r\t\x0b", r#""\a\b\f\n\r\t\v""#);
        check("\0\x1b\x7f", r#""\x00\x1b\x7f""#);
        check("é 漢 🦀 e\u{301} \u{301}", "\"é 漢 🦀 e\u{301} \u{301}\"");
        check("\u{80}\u{a0}\u{200b}\u{2028}\u{feff}", r#""\u0080\u00a0\u200b\u2028\ufeff""#);
        check("\u{e0001}\u{10ffff}", r#""\U000e0001\U0010ffff""#);
    }
}
