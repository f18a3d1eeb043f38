//! Formats of texts and numbers. Those that are not listed here are not checked, as the reference does not check unknown
//! ones.

use std::net::{Ipv4Addr, Ipv6Addr};

use base64::Engine as _;
use serde_json::Value;

use super::combination;
use crate::field::{FieldError, Path};
use crate::names;

/// The formats of texts that the reference knows, without dashes, as it compares them.
const KNOWN: [&str; 27] = [
    "bsonobjectid",
    "uri",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "cidr",
    "mac",
    "uuid",
    "uuid3",
    "uuid4",
    "uuid5",
    "isbn",
    "isbn10",
    "isbn13",
    "creditcard",
    "ssn",
    "hexcolor",
    "rgbcolor",
    "byte",
    "password",
    "date",
    "duration",
    "datetime",
    "quantity",
    "k8sshortname",
    "k8slongname",
];

/// Whether the reference knows a format of values of a type (`""` when the schema has none); others it ignores.
pub(crate) fn is_known(format: &str, type_: &str) -> bool {
    match type_ {
        "" | "string" => KNOWN.contains(&format.replace('-', "").as_str()),
        "integer" => matches!(format, "int32" | "int64"),
        "number" => matches!(format, "float" | "double"),
        _ => false,
    }
}

/// A value against a format.
pub(super) fn check(value: &Value, format: &str, path: &Path, errors: &mut Vec<FieldError>) {
    match value {
        Value::Number(number) => {
            let range = match format {
                "int32" => i64::from(i32::MIN)..=i64::from(i32::MAX),
                _ => return,
            };
            if !number.as_i64().is_some_and(|number| range.contains(&number)) {
                errors
                    .push(combination(format!("Checked value must be of type integer with format {format} in {path}")));
            }
        }
        Value::String(text) if !fits(text, format) => {
            errors.push(FieldError::type_invalid(
                path,
                text.as_str(),
                &format!("{path} in body must be of type {format}: {text:?}"),
            ));
        }
        _ => {}
    }
}

fn fits(text: &str, format: &str) -> bool {
    match format {
        "date-time" | "datetime" => text.parse::<jiff::Timestamp>().is_ok(),
        "date" => text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(),
        "byte" => base64::engine::general_purpose::STANDARD.decode(text).is_ok(),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => facts::cidr::parse(text).is_some(),
        "mac" => is_mac(text),
        "uuid" => is_uuid(text, None),
        "uuid3" => is_uuid(text, Some('3')),
        "uuid4" => is_uuid(text, Some('4')),
        "uuid5" => is_uuid(text, Some('5')),
        "k8s-short-name" => names::dns1123_label(text).is_empty(),
        "k8s-long-name" => text.len() <= names::SUBDOMAIN_MAX && names::is_subdomain(text),
        "hostname" => text.len() <= names::SUBDOMAIN_MAX && names::is_subdomain(&text.to_ascii_lowercase()),
        "email" => {
            text.split_once('@').is_some_and(|(user, host)| !user.is_empty() && !host.is_empty() && !text.contains(' '))
        }
        "uri" => text.split_once(':').is_some_and(|(scheme, rest)| is_scheme(scheme) && !rest.is_empty()),
        _ => true,
    }
}

fn is_mac(text: &str) -> bool {
    let parts: Vec<&str> = text.split([':', '-']).collect();
    matches!(parts.len(), 6 | 8 | 20)
        && parts.iter().all(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn is_uuid(text: &str, version: Option<char>) -> bool {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    digits.len() == 32
        && digits.bytes().all(|b| b.is_ascii_hexdigit())
        && version.is_none_or(|version| digits.chars().nth(12) == Some(version))
}

fn is_scheme(scheme: &str) -> bool {
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_addresses_are_read_as_everywhere() {
        for (text, is_fine) in [
            ("10.0.0.1/8", true),
            ("fd00::/64", true),
            ("10.0.0.0/08", true),
            ("10.0.0.0/+8", false),
            ("10.0.0.0/33", false),
            ("10.0.0.0/", false),
            ("010.0.0.0/8", false),
        ] {
            assert_eq!(fits(text, "cidr"), is_fine, "{text}");
        }
    }
}
