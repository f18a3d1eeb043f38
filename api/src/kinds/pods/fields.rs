//! Defaults that containers and volumes share (upstream: `SetDefaults_ObjectFieldSelector`, `SetDefaults_Container`).

use crate::kinds::rules::fill::{default_pointer, default_zero, object_at};
use crate::kinds::rules::tree::Fields;

/// Defaults of `fieldRef` and `resourceFieldRef`, which environment and downward API share.
pub(crate) fn field_reference(source: &mut Fields) {
    if let Some(field) = object_at(source, "fieldRef") {
        default_zero(field, "apiVersion", "v1");
    }
    if let Some(resource) = object_at(source, "resourceFieldRef") {
        default_pointer(resource, "divisor", "0");
    }
}

/// An image without a tag, or tagged `latest`, is pulled every time; one named by digest is not, nor what names none.
pub(crate) fn pull_policy(image: &str) -> &'static str {
    /// A part of a name, but for the name of a registry.
    fn is_part(part: &str) -> bool {
        let sound = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let ends = part.bytes().next().is_some_and(sound) && part.bytes().last().is_some_and(sound);
        ends && part.bytes().all(|byte| sound(byte) || matches!(byte, b'.' | b'_' | b'-'))
    }
    let (name, digest) = image.split_once('@').map_or((image, ""), |(name, digest)| (name, digest));
    let last = name.rsplit('/').next().unwrap_or(name);
    let (last, tag) = last.split_once(':').map_or((last, None), |(last, tag)| (last, Some(tag)));
    match (tag, digest) {
        _ if !is_part(last) => "IfNotPresent",
        (Some("latest"), _) | (None, "") => "Always",
        _ => "IfNotPresent",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_decides_the_pull_policy() {
        let cases = [
            ("img", "Always"),
            ("img:latest", "Always"),
            ("img:1", "IfNotPresent"),
            ("host:5000/img", "Always"),
            ("host:5000/img:1", "IfNotPresent"),
            ("img@sha256:00", "IfNotPresent"),
            ("", "IfNotPresent"),
            ("IMG", "IfNotPresent"),
            ("host:5000/", "IfNotPresent"),
        ];
        for (image, want) in cases {
            assert_eq!(pull_policy(image), want, "{image}");
        }
    }
}
