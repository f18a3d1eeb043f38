//! Property names that are no identifiers, or are words of the language, have other names in expressions.

use std::borrow::Cow;

/// The words of the language.
const RESERVED: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];
const SYMBOLS: [(char, &str); 3] = [('.', "__dot__"), ('-', "__dash__"), ('/', "__slash__")];

/// Whether a name is a word of the language.
pub(crate) fn is_word(name: &str) -> bool {
    RESERVED.contains(&name)
}

/// The name of a property in expressions; `None` when it cannot be named there.
pub fn escape(name: &str) -> Option<Cow<'_, str>> {
    let mut chars = name.chars();
    let head = chars.next()?;
    if head.is_ascii_digit() {
        return None;
    }
    if is_word(name) {
        return Some(Cow::Owned(format!("__{name}__")));
    }
    if !name.contains(['.', '-', '/']) && !name.contains("__") {
        return name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_').then_some(Cow::Borrowed(name));
    }
    let mut out = String::with_capacity(name.len() + 8);
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("__") {
            out.push_str("__underscores__");
            rest = after;
            continue;
        }
        match SYMBOLS.iter().find(|(symbol, _)| *symbol == c) {
            Some((_, word)) => out.push_str(word),
            None if c.is_ascii_alphanumeric() || c == '_' => out.push(c),
            None => return None,
        }
        rest = &rest[c.len_utf8()..];
    }
    Some(Cow::Owned(out))
}

/// The property that a name in expressions stands for; `None` when it stands for none.
pub fn unescape(name: &str) -> Option<Cow<'_, str>> {
    if !name.contains("__") {
        return Some(Cow::Borrowed(name));
    }
    if let Some(word) = name.strip_prefix("__").and_then(|word| word.strip_suffix("__"))
        && is_word(word)
    {
        return Some(Cow::Borrowed(word));
    }
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(at) = rest.find("__") {
        out.push_str(&rest[..at]);
        let tail = &rest[at..];
        let symbol = SYMBOLS.iter().find(|(_, word)| tail.starts_with(word));
        rest = if let Some((symbol, word)) = symbol {
            out.push(*symbol);
            &tail[word.len()..]
        } else {
            out.push_str("__");
            tail.strip_prefix("__underscores__")?
        };
    }
    out.push_str(rest);
    Some(Cow::Owned(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_the_way_there_and_back() {
        let cases = [
            ("namespace", "__namespace__"),
            ("a.b", "a__dot__b"),
            ("x-prop", "x__dash__prop"),
            ("a/b", "a__slash__b"),
            ("redact__d", "redact__underscores__d"),
            ("string", "string"),
            ("_x", "_x"),
        ];
        for (name, escaped) in cases {
            assert_eq!(escape(name).as_deref(), Some(escaped));
            assert_eq!(unescape(escaped).as_deref(), Some(name));
        }
        for none in ["", "1a", "a b", "a$b", "ä"] {
            assert_eq!(escape(none), None, "{none}");
        }
    }
}
