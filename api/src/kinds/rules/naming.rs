//! Rules for names of objects, and what else is a name (upstream: `apimachinery/pkg/api/validation/generic.go`).

use jiff::Timestamp;

use super::addresses;
use super::tree::{Errors, Node};

pub(crate) use crate::names::{
    config_map_key, dns1035_label, dns1123_label as label, dns1123_subdomain as subdomain,
    environment_variable_name as environment_name, http_header_name, label_value, percent, port_name, qualified_name,
    unfinished, wildcard_dns1123_subdomain,
};

/// The name of a signer: a domain and a path.
pub(crate) fn signer_name(at: &Node<'_, '_>, errors: &mut Errors) {
    const LONGEST_DOMAIN: usize = 253;
    const LONGEST: usize = LONGEST_DOMAIN + 1 + 63 + 1 + 253;
    if !errors.require_text(at) {
        return;
    }
    let Some((domain, path)) = at.text().split_once('/').filter(|(_, path)| !path.contains('/')) else {
        errors.invalid(at, "must be a fully qualified domain and path of the form 'example.com/signer-name'");
        return;
    };
    if domain.len() > LONGEST_DOMAIN {
        errors.too_long(at, LONGEST_DOMAIN);
    }
    first_wrong_label(domain, label, at, errors);
    if !domain.contains('.') {
        errors.invalid_value(at, domain, "should be a domain with at least two segments separated by dots");
    }
    first_wrong_label(path, subdomain, at, errors);
    if at.text().len() > LONGEST {
        errors.too_long(at, LONGEST);
    }
}

/// Of a part of a signer's name, only the first label that is wrong is told of.
fn first_wrong_label(part: &str, rule: fn(&str) -> Vec<String>, at: &Node<'_, '_>, errors: &mut Errors) {
    let wrong = part.split('.').map(|label| (label, rule(label))).find(|(_, wrong)| !wrong.is_empty());
    for (label, why) in wrong.into_iter().flat_map(|(label, wrong)| wrong.into_iter().map(move |why| (label, why))) {
        errors.invalid_value(at, part, &format!("validating label {label:?}: {why}"));
    }
}

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

/// The name of a CSI driver.
pub(crate) fn csi_driver_name(at: &Node<'_, '_>, errors: &mut Errors) {
    if !errors.require_text(at) {
        return;
    }
    if at.text().len() > 63 {
        errors.too_long(at, 63);
    }
    for why in subdomain(&at.text().to_lowercase()) {
        errors.invalid(at, &why);
    }
}

/// A domain and a path, as `acme.io/foo`.
pub(crate) fn domain_prefixed(at: &Node<'_, '_>, errors: &mut Errors) {
    match at.text().split_once('/') {
        Some((domain, path)) if !domain.is_empty() && !path.is_empty() => {
            errors.invalid_all(at, subdomain(domain));
        }
        _ => errors.invalid(at, "must be a domain-prefixed path (such as \"acme.io/foo\")"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_signer_is_a_domain_and_a_path() {
        let wrong = |name: &str| {
            let object = json!({"signerName": name});
            let mut errors = Errors::default();
            signer_name(&Node::root(object.as_object().expect("an object")).field("signerName"), &mut errors);
            errors.0.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert!(wrong("example.com/a.b").is_empty());
        let form = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        assert_eq!(wrong("a/b/c"), [format!("signerName: Invalid value: \"a/b/c\": {form}")]);
        let label = label("A_").remove(0);
        let dots = "should be a domain with at least two segments separated by dots";
        assert_eq!(
            wrong("A_/x"),
            [
                format!("signerName: Invalid value: \"A_\": validating label \"A_\": {label}"),
                format!("signerName: Invalid value: \"A_\": {dots}"),
            ]
        );
        assert_eq!(wrong("example.com/").len(), 1);
    }

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
