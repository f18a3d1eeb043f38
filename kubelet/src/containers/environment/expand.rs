//! `$(NAME)` references in commands, arguments, environment values and sub-paths (upstream:
//! third_party/forked/golang/expansion).
use std::collections::BTreeMap;

/// Replaces `$(NAME)` by its value; `$$` is a dollar sign, and a reference to nothing stays as it is.
pub(crate) fn expand(text: &str, values: &BTreeMap<String, String>) -> String {
    expand_with(text, |name| values.get(name).cloned()).0
}

/// Like [`expand`], but refuses references to nothing and returns their first name.
pub(crate) fn expand_strict(text: &str, values: &BTreeMap<String, String>) -> Result<String, String> {
    match expand_with(text, |name| values.get(name).cloned()) {
        (text, None) => Ok(text),
        (_, Some(missing)) => Err(missing),
    }
}

fn expand_with(text: &str, value: impl Fn(&str) -> Option<String>) -> (String, Option<String>) {
    let mut out = String::with_capacity(text.len());
    let mut missing = None;
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match value(name) {
                Some(value) => out.push_str(&value),
                None => {
                    missing.get_or_insert_with(|| name.to_owned());
                    out.push_str(&format!("$({name})"));
                }
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    (out, missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_expand_as_upstream() {
        let values = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        let check = |text: &str, expected: &str| assert_eq!(expand(text, &values), expected, "{text}");
        check("x$(A)y", "x1y");
        check("$$(A)", "$(A)");
        check("$(B)", "$(B)");
        check("$(A", "$(A");
        check("$A $", "$A $");
        check("$$$(A)", "$1");
    }

    #[test]
    fn strict_expansion_names_what_is_missing() {
        assert_eq!(expand_strict("$(B)", &BTreeMap::new()), Err("B".to_owned()));
    }
}
