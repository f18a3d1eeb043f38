//! Rules that many kinds share: names, numbers in texts, times.

use jiff::Timestamp;

use super::addresses;

pub(crate) use crate::names::{
    config_map_key, dns1035_label, dns1123_label as label, dns1123_subdomain as subdomain,
    environment_variable_name as environment_name, http_header_name, label_value, percent, port_name, qualified_name,
    wildcard_dns1123_subdomain,
};

/// An object name that is a DNS subdomain.
pub(crate) fn subdomain_name(name: &str, prefix: bool) -> Vec<String> {
    subdomain(&unfinished(name, prefix))
}

/// An object name that is one DNS label.
pub(crate) fn label_name(name: &str, prefix: bool) -> Vec<String> {
    label(&unfinished(name, prefix))
}

/// An object name that can stand in a URL path.
pub(crate) fn path_segment_name(name: &str, prefix: bool) -> Vec<String> {
    if !prefix && matches!(name, "." | "..") {
        return vec![format!("may not be '{name}'")];
    }
    let found = ["/", "%"].into_iter().filter(|part| name.contains(part));
    found.map(|part| format!("may not contain '{part}'")).collect()
}

/// An object name that is an IP address.
pub(crate) fn ip_name(name: &str, _prefix: bool) -> Vec<String> {
    addresses::canonical_ip(name)
}

/// Any name at all.
pub(crate) fn any_name(_name: &str, _prefix: bool) -> Vec<String> {
    Vec::new()
}

/// A `generateName` may end in a dash, since characters follow.
fn unfinished(name: &str, prefix: bool) -> String {
    match name.strip_suffix('-') {
        Some(head) if prefix && !head.is_empty() => {
            let cut = head.char_indices().next_back().map_or(0, |(at, _)| at);
            format!("{}a", &head[..cut])
        }
        _ => name.to_owned(),
    }
}

/// Whether a text is a percentage.
pub(crate) fn is_percent(text: &str) -> bool {
    text.strip_suffix('%').is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

/// The number of a percentage.
pub(crate) fn percent_of(text: &str) -> Option<i64> {
    if is_percent(text) { text.strip_suffix('%')?.parse().ok() } else { None }
}

/// Why this is not a DNS search domain, whose labels may hold underscores and begin with one.
pub(crate) fn search_domain(text: &str) -> Vec<String> {
    const FORM: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', \
                        and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation \
                        is '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')";
    let mut wrong = Vec::new();
    if text.len() > 253 {
        wrong.push("must be no more than 253 characters".to_owned());
    }
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let is_label = |label: &str| {
        let bytes = label.strip_prefix('_').unwrap_or(label).as_bytes();
        bytes.iter().all(|b| alphanumeric(*b) || matches!(b, b'-' | b'_'))
            && bytes.first().copied().is_some_and(alphanumeric)
            && bytes.last().copied().is_some_and(alphanumeric)
    };
    if !text.split('.').all(is_label) {
        wrong.push(FORM.to_owned());
    }
    wrong
}

/// A time as the API writes it: RFC 3339, whole seconds, UTC.
pub(crate) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_name_may_end_in_a_dash() {
        assert_eq!(unfinished("web-", true), "wea");
        assert_eq!(unfinished("web-", false), "web-");
        assert_eq!(unfinished("é-", true), "a");
    }

    #[test]
    fn percentages_are_digits_and_a_sign() {
        assert!(is_percent("25%"));
        assert!(!is_percent("25") && !is_percent("%") && !is_percent("-1%"));
    }
}
