//! YAML answers: block style with lists not indented below their key, as Kubernetes clients know it. What a reader of
//! YAML 1.1 could take for another type than text is quoted.

use std::fmt::Write as _;

use serde_json::Value;

/// A tree as a YAML document.
pub(super) fn document(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => block(value, 0, &mut out),
        Value::Array(list) if !list.is_empty() => block(value, 0, &mut out),
        _ => {
            scalar(value, 0, &mut out);
            out.push('\n');
        }
    }
    out
}

/// A list or map that is not empty, at the begin of a line; its first line is already indented.
fn block(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Object(map) => {
            for (at, (key, value)) in map.iter().enumerate() {
                if at > 0 {
                    pad(indent, out);
                }
                text(key, indent, true, out);
                out.push(':');
                match value {
                    Value::Object(inner) if !inner.is_empty() => {
                        out.push('\n');
                        pad(indent + 2, out);
                        block(value, indent + 2, out);
                    }
                    Value::Array(inner) if !inner.is_empty() => {
                        out.push('\n');
                        pad(indent, out);
                        block(value, indent, out);
                    }
                    _ => {
                        out.push(' ');
                        scalar(value, indent + 2, out);
                        out.push('\n');
                    }
                }
            }
        }
        Value::Array(list) => {
            for (at, value) in list.iter().enumerate() {
                if at > 0 {
                    pad(indent, out);
                }
                out.push_str("- ");
                if is_block(value) {
                    block(value, indent + 2, out);
                } else {
                    scalar(value, indent + 2, out);
                    out.push('\n');
                }
            }
        }
        _ => scalar(value, indent, out),
    }
}

fn is_block(value: &Value) -> bool {
    match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => !list.is_empty(),
        _ => false,
    }
}

fn pad(indent: usize, out: &mut String) {
    out.extend(std::iter::repeat_n(' ', indent));
}

fn scalar(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::String(string) => text(string, indent, false, out),
        Value::Object(_) => out.push_str("{}"),
        Value::Array(_) => out.push_str("[]"),
        other => {
            let _ = write!(out, "{other}");
        }
    }
}

fn text(string: &str, indent: usize, is_key: bool, out: &mut String) {
    if is_other_type(string) {
        double_quoted(string, out);
    } else if !is_key && string.contains('\n') && is_literal(string) {
        literal(string, indent, out);
    } else if !string.chars().all(is_printable) {
        double_quoted(string, out);
    } else if is_plain(string) {
        out.push_str(string);
    } else {
        let _ = write!(out, "'{}'", string.replace('\'', "''"));
    }
}

/// Whether a YAML 1.1 reader takes the bare text for something other than text.
fn is_other_type(string: &str) -> bool {
    const WORDS: [&str; 13] =
        ["y", "n", "yes", "no", "on", "off", "true", "false", "null", ".nan", ".inf", "-.inf", "+.inf"];
    if string.is_empty() || string == "~" || string == "<<" || string == "=" {
        return true;
    }
    if string.len() <= 5 && WORDS.iter().any(|word| word.eq_ignore_ascii_case(string)) {
        return true;
    }
    // Behind a sign, readers leave out separators before the first digit, too.
    let is_signed = string.starts_with(['-', '+', '.']);
    let digits = string.trim_start_matches(|c| matches!(c, '-' | '+' | '.') || (is_signed && c == '_'));
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return false;
    }
    // Numbers in any base, with separators, base 60 (`12:30`) and dates.
    let number = |c: char| c.is_ascii_hexdigit() || matches!(c, '.' | '_' | '+' | '-' | ':' | 'x' | 'o' | 'b');
    digits.chars().all(|c| number(c) || matches!(c, 'T' | 't' | 'Z' | 'z' | ' ')) && is_number_or_date(digits)
}

fn is_number_or_date(digits: &str) -> bool {
    let plain = digits.replace('_', "");
    let based = |prefix: &str, base: u32| {
        plain.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_digit(base)))
    };
    let sixty = plain.split(':').all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit() || c == '.'));
    let date = digits.len() >= 8
        && digits.splitn(3, '-').filter(|part| part.starts_with(|c: char| c.is_ascii_digit())).count() == 3
        && digits.split('-').next().is_some_and(|year| year.len() == 4);
    plain.parse::<f64>().is_ok() || based("0x", 16) || based("0o", 8) || based("0b", 2) || sixty || date
}

/// Whether a character stands for itself, in quotes at least. The separators of lines and paragraphs (U+0085, U+2028, U+2029) are
/// ends of lines to readers of YAML 1.1.
fn is_printable(c: char) -> bool {
    matches!(c, ' '..='~' | '\u{a0}'..='\u{2027}' | '\u{202a}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}' | '\u{10000}'..)
}

/// Whether the text can stand as a block of lines.
fn is_literal(string: &str) -> bool {
    string.chars().all(|c| c == '\n' || is_printable(c))
        && !string.starts_with([' ', '\n'])
        && !string.lines().any(|line| line.ends_with(' '))
}

fn literal(string: &str, indent: usize, out: &mut String) {
    let kept = match string.as_bytes() {
        [.., b'\n', b'\n'] => "|+",
        [.., b'\n'] => "|",
        _ => "|-",
    };
    out.push_str(kept);
    let body = string.strip_suffix('\n').unwrap_or(string);
    for line in body.split('\n') {
        out.push('\n');
        if !line.is_empty() {
            pad(indent.max(2), out);
            out.push_str(line);
        }
    }
}

fn is_plain(string: &str) -> bool {
    let mut chars = string.chars();
    let (first, second) = (chars.next().unwrap_or(' '), chars.next());
    let begins = match first {
        '-' | '?' | ':' => second.is_some_and(|c| c != ' '),
        _ => !",[]{}#&*!|>'\"%@` ".contains(first),
    };
    begins
        && !string.ends_with([' ', ':'])
        && !string.contains(": ")
        && !string.contains(" #")
        && !string.starts_with("---")
        && !string.starts_with("...")
}

fn double_quoted(string: &str, out: &mut String) {
    out.push('"');
    for c in string.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0' => out.push_str("\\0"),
            c if is_printable(c) => out.push(c),
            c if u32::from(c) <= 0xff => {
                let _ = write!(out, "\\x{:02X}", u32::from(c));
            }
            c if u32::from(c) <= 0xffff => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => {
                let _ = write!(out, "\\U{:08X}", u32::from(c));
            }
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::yaml;
    use super::*;

    #[test]
    fn answers_look_as_clients_know_them() {
        let value = json!({
            "apiVersion": "v1", "code": 404, "details": {"kind": "configmaps", "name": "none"}, "metadata": {},
            "items": [{"a": "x", "b": ["1", "y"]}, "z", []], "message": "configmaps \"none\" not found",
            "text": "a\nb\n", "time": "2024-01-02T03:04:05Z", "on": "12:30", "rule": "a: b", "empty": "",
        });
        let want = r#"apiVersion: v1
code: 404
details:
  kind: configmaps
  name: none
empty: ""
items:
- a: x
  b:
  - "1"
  - "y"
- z
- []
message: configmaps "none" not found
metadata: {}
"on": "12:30"
rule: 'a: b'
text: |
  a
  b
time: "2024-01-02T03:04:05Z"
"#;
        assert_eq!(document(&value), want);
    }

    #[test]
    fn numbers_with_separators_behind_their_sign_are_quoted() {
        for text in ["-_0", "+_1_0", "-_.5", "._5", "-__1e3"] {
            assert_eq!(document(&json!({"a": text})), format!("a: \"{text}\"\n"));
        }
        assert_eq!(document(&json!({"a": "_0", "b": "-_x"})), "a: _0\nb: -_x\n");
    }

    #[test]
    fn ends_of_lines_that_are_not_a_newline_are_escaped() {
        let value = json!({"a\u{2028}b": "\u{2028}", "next": "x\u{85}y", "paragraph": "1\n\u{2029}2\n"});
        let text = document(&value);
        assert_eq!(text, "\"a\\u2028b\": \"\\u2028\"\nnext: \"x\\x85y\"\nparagraph: \"1\\n\\u20292\\n\"\n");
        assert_eq!(yaml::parse(text.as_bytes()).unwrap().0.into_value(), value);
    }

    proptest! {
        #[test]
        fn texts_are_read_back_as_they_were(key in "\\PC{1,12}", value in "\\PC{0,20}|[a-z0-9:.+\\-_ \n#'\"]{0,16}|[0-9a-fxo:._+\\-]{1,8}") {
            let tree = json!({"outer": [{key.clone(): value.clone()}], "last": value});
            let text = document(&tree);
            let (node, duplicate) = yaml::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}:\n{text}"));
            prop_assert_eq!((node.into_value(), duplicate), (tree, None), "{}", text);
        }
    }
}
