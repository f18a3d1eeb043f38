//! Rules that many kinds share: names, times.

use jiff::Timestamp;

use crate::names;

/// Any object name that is a DNS subdomain.
pub(crate) fn subdomain_name(name: &str, prefix: bool) -> Vec<String> {
    names::dns1123_subdomain(&unfinished(name, prefix))
}

/// An object name that is one DNS label.
pub(crate) fn label_name(name: &str, prefix: bool) -> Vec<String> {
    names::dns1123_label(&unfinished(name, prefix))
}

/// An object name that can stand in a URL path.
pub(crate) fn path_segment_name(name: &str, prefix: bool) -> Vec<String> {
    names::path_segment(name, prefix)
}

/// Any name at all.
pub(crate) fn any_name(_name: &str, _prefix: bool) -> Vec<String> {
    Vec::new()
}

/// A `generateName` may end in a dash, since characters follow.
fn unfinished(name: &str, prefix: bool) -> String {
    match name.strip_suffix('-') {
        Some(head) if prefix && !head.is_empty() => format!("{}a", &head[..head.len() - head.chars().next_back().map_or(0, char::len_utf8)]),
        _ => name.to_owned(),
    }
}

/// A time as the API writes it: RFC 3339, whole seconds, UTC.
pub(crate) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
