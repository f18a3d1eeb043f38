//! The rules for names, labels and keys, with the texts in which the API refuses them.
//!
//! Every function answers why the value is refused; an empty list means that it is fine.

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN: &str = r"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const DNS_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const WILDCARD: &str = r"a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\*\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const QUALIFIED: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
const C_IDENTIFIER: &str = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')";
const ENVIRONMENT: &str =
    "a valid environment variable name must consist only of printable ASCII characters other than '='";
const PERCENT: &str = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";
const HEADER: &str = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";

/// The longest DNS label and the longest part of a qualified name.
pub const LABEL_MAX: usize = 63;
/// The longest DNS subdomain.
pub const SUBDOMAIN_MAX: usize = 253;

/// A DNS label: `my-name`.
pub fn dns1123_label(value: &str) -> Vec<String> {
    let mut errors = too_long(value, LABEL_MAX);
    if !is_label(value) {
        errors.push(if is_subdomain(value) { "must not contain dots".to_owned() } else { LABEL.to_owned() });
    }
    errors
}

/// DNS labels joined by dots: `example.com`.
pub fn dns1123_subdomain(value: &str) -> Vec<String> {
    let mut errors = too_long(value, SUBDOMAIN_MAX);
    refuse_unless(is_subdomain(value), SUBDOMAIN, &mut errors);
    errors
}

/// A DNS label that begins with a letter, as Services once needed.
pub fn dns1035_label(value: &str) -> Vec<String> {
    let mut errors = too_long(value, LABEL_MAX);
    refuse_unless(is_label(value) && value.starts_with(|c: char| c.is_ascii_lowercase()), DNS_1035, &mut errors);
    errors
}

/// `*.example.com`.
pub fn wildcard_dns1123_subdomain(value: &str) -> Vec<String> {
    let mut errors = too_long(value, SUBDOMAIN_MAX);
    refuse_unless(value.strip_prefix("*.").is_some_and(is_subdomain), WILDCARD, &mut errors);
    errors
}

/// The key of a label or annotation: `name` or `example.com/name`.
pub fn qualified_name(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    let mut parts = value.split('/');
    let name = match (parts.next(), parts.next(), parts.next()) {
        (Some(name), None, _) => name,
        (Some(""), Some(name), None) => {
            errors.push("prefix part must be non-empty".to_owned());
            name
        }
        (Some(prefix), Some(name), None) => {
            errors.extend(dns1123_subdomain(prefix).into_iter().map(|error| format!("prefix part {error}")));
            name
        }
        _ => {
            let prefixed = "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
            return vec![format!("a valid label key {QUALIFIED} {prefixed}")];
        }
    };
    if name.is_empty() {
        errors.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_MAX {
        errors.push(format!("name part must be no more than {LABEL_MAX} bytes"));
    }
    if !is_qualified(name) {
        errors.push(format!("name part {QUALIFIED}"));
    }
    errors
}

/// The value of a label.
pub fn label_value(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > LABEL_MAX {
        errors.push(format!("must be no more than {LABEL_MAX} bytes"));
    }
    refuse_unless(value.is_empty() || is_qualified(value), LABEL_VALUE, &mut errors);
    errors
}

/// The name of a port (an IANA service name).
pub fn port_name(value: &str) -> Vec<String> {
    let mut errors = too_long(value, 15);
    let charset = !value.is_empty() && value.bytes().all(|b| b == b'-' || b.is_ascii_lowercase() || b.is_ascii_digit());
    refuse_unless(charset, "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)", &mut errors);
    let letter = value.bytes().any(|b| b.is_ascii_lowercase());
    refuse_unless(letter, "must contain at least one letter (a-z)", &mut errors);
    refuse_unless(!value.contains("--"), "must not contain consecutive hyphens", &mut errors);
    let ends = !value.is_empty() && (value.starts_with('-') || value.ends_with('-'));
    refuse_unless(!ends, "must not begin or end with a hyphen", &mut errors);
    errors
}

/// The number of a port.
pub fn port_number(port: i64) -> Vec<String> {
    if (1..=65535).contains(&port) { Vec::new() } else { vec!["must be between 1 and 65535, inclusive".to_owned()] }
}

/// A key of a ConfigMap or Secret.
pub fn config_map_key(value: &str) -> Vec<String> {
    let mut errors = too_long(value, SUBDOMAIN_MAX);
    let charset = !value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    refuse_unless(charset, CONFIG_KEY, &mut errors);
    match value {
        "." => errors.push("must not be '.'".to_owned()),
        ".." => errors.push("must not be '..'".to_owned()),
        _ if value.starts_with("..") => errors.push("must not start with '..'".to_owned()),
        _ => {}
    }
    errors
}

/// A C identifier.
pub fn c_identifier(value: &str) -> Vec<String> {
    let starts = value.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let mut errors = Vec::new();
    refuse_unless(starts && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), C_IDENTIFIER, &mut errors);
    errors
}

/// The name of an environment variable.
pub fn environment_variable_name(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    let printable = !value.is_empty() && value.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=');
    refuse_unless(printable, ENVIRONMENT, &mut errors);
    errors
}

/// `25%`.
pub fn percent(value: &str) -> Vec<String> {
    let digits = value.strip_suffix('%').unwrap_or("");
    let mut errors = Vec::new();
    refuse_unless(!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()), PERCENT, &mut errors);
    errors
}

/// The name of an HTTP header.
pub fn http_header_name(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    refuse_unless(
        !value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'),
        HEADER,
        &mut errors,
    );
    errors
}

/// What is checked of a name. A prefix such as `generateName` may end in a dash, since characters follow (upstream's
/// `maskTrailingDash`, which spares the character before the dash, too).
pub fn unfinished(name: &str, prefix: bool) -> String {
    match name.strip_suffix('-') {
        Some(head) if prefix && !head.is_empty() => {
            let cut = head.char_indices().next_back().map_or(0, |(at, _)| at);
            format!("{}a", &head[..cut])
        }
        _ => name.to_owned(),
    }
}

/// Whether `value` is a DNS label, regardless of its length.
pub fn is_label(value: &str) -> bool {
    let ends = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = value.as_bytes();
    ends(bytes.first())
        && ends(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}

/// Whether `value` is a DNS subdomain, regardless of its length.
pub fn is_subdomain(value: &str) -> bool {
    value.split('.').all(is_label)
}

fn is_qualified(value: &str) -> bool {
    let bytes = value.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
}

fn too_long(value: &str, max: usize) -> Vec<String> {
    if value.len() > max { vec![format!("must be no more than {max} characters")] } else { Vec::new() }
}

fn refuse_unless(fine: bool, text: &str, errors: &mut Vec<String>) {
    if !fine {
        errors.push(text.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: fn(&str) -> Vec<String>, good: &[&str], bad: &[&str]) {
        for value in good {
            assert_eq!(rule(value), Vec::<String>::new(), "{value:?} is fine");
        }
        for value in bad {
            assert!(!rule(value).is_empty(), "{value:?} is refused");
        }
    }

    #[test]
    fn names_are_told_from_what_is_none() {
        let long = "a".repeat(64);
        check(dns1123_label, &["a", "1", "a-b", "1-a"], &["", "-a", "a-", "A", "a_b", "a.b", &long, "ä"]);
        check(dns1123_subdomain, &["a", "a.b", "1.a-b.c"], &["", ".", "a.", ".a", "a..b", "A.b", &"a.".repeat(200)]);
        check(dns1035_label, &["a", "a1-b"], &["1a", "", "a-"]);
        check(wildcard_dns1123_subdomain, &["*.a", "*.a.b"], &["*", "*.", "a.b", "*.*.a"]);
        check(qualified_name, &["a", "A.b_c-d", "x.y/Z"], &["", "/a", "a/", "X/y", "a/b/c", "-a", "a.", &long]);
        check(label_value, &["", "a", "A_b.c"], &["-a", "a b", &long]);
        check(port_name, &["a", "a-1", "http"], &["", "1", "a--b", "-a", "a-", "Http", "sixteen-chars-xx"]);
        check(config_map_key, &["a", ".a", "A_b-c.d"], &["", ".", "..", "..a", "a/b"]);
        check(c_identifier, &["_a", "A1"], &["", "1a", "a-b"]);
        check(environment_variable_name, &["A", "1 x"], &["", "A=B", "ä", "a\n"]);
        check(percent, &["0%", "100%"], &["%", "1", "-1%", "1.5%"]);
    }

    #[test]
    fn a_name_with_dots_where_none_may_be_is_told_so() {
        assert_eq!(dns1123_label("a.b"), ["must not contain dots"]);
    }

    #[test]
    fn an_empty_key_is_refused_twice() {
        assert_eq!(qualified_name("").len(), 2);
    }
}
