//! Rules for environment variables, and for the fields and resources that these and files of the downward API show.

use super::requirements;
use crate::kinds::pods::volumes::paths::descending_path;
use crate::kinds::rules::naming;
use crate::kinds::rules::tree::{Errors, Node};

/// The `env` of a container.
pub(crate) fn variables(at: &Node<'_, '_>, errors: &mut Errors) {
    for variable in at.items() {
        let name = variable.field("name");
        if errors.require_text(&name) {
            errors.invalid_all(&name, naming::environment_name(name.text()));
        }
        let source = variable.field("valueFrom");
        if source.is_set() {
            value_source(&source, !variable.field("value").text().is_empty(), errors);
        }
    }
}

fn value_source(at: &Node<'_, '_>, has_value: bool, errors: &mut Errors) {
    let mut count = 0;
    for (key, rule) in [
        ("fieldRef", field_reference as fn(&Node<'_, '_>, &mut Errors)),
        ("resourceFieldRef", resource_selector),
        ("configMapKeyRef", key_reference),
        ("secretKeyRef", key_reference),
        ("fileKeyRef", file_reference),
    ] {
        let source = at.field(key);
        if source.is_set() {
            count += 1;
            rule(&source, errors);
        }
    }
    if count == 0 {
        let text =
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        errors.invalid_value(at, "", text);
    } else if has_value {
        errors.invalid_value(at, "", "may not be specified when `value` is not empty");
    } else if count > 1 {
        errors.invalid_value(at, "", "may not have more than one field specified at a time");
    }
}

/// Fields that environment variables can show.
const ENVIRONMENT_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Fields that files can show.
const FILE_FIELDS: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
/// Fields of pods that can be named beside those, but shown nowhere.
const OTHER_FIELDS: [&str; 3] = ["spec.restartPolicy", "spec.schedulerName", "status.phase"];

fn field_reference(at: &Node<'_, '_>, errors: &mut Errors) {
    field_selector(at, &ENVIRONMENT_FIELDS, errors);
}

/// A reference to a field of the pod, for files of the downward API.
pub(crate) fn file_field_reference(at: &Node<'_, '_>, errors: &mut Errors) {
    field_selector(at, &FILE_FIELDS, errors);
}

fn field_selector(at: &Node<'_, '_>, allowed: &[&str], errors: &mut Errors) {
    let (version, path) = (at.field("apiVersion"), at.field("fieldPath"));
    if !errors.require_text(&version) || !errors.require_text(&path) {
        return;
    }
    let field = match internal_field(version.text(), path.text()) {
        Ok(field) => field,
        Err(why) => return errors.invalid(&path, &format!("error converting fieldPath: {why}")),
    };
    match subscripted(field) {
        Some(("metadata.annotations", key)) => qualified(at, &key.to_lowercase(), errors),
        Some((_, key)) => qualified(at, key, errors),
        None if allowed.contains(&field) => {}
        None => errors.push(crate::FieldError::not_supported(&path.path(), field, allowed)),
    }
}

fn qualified(at: &Node<'_, '_>, key: &str, errors: &mut Errors) {
    for why in naming::qualified_name(key) {
        errors.invalid_value(at, key, &why);
    }
}

/// `map['key']` taken apart.
fn subscripted(field: &str) -> Option<(&str, &str)> {
    field.strip_suffix("']")?.split_once("['").filter(|(map, _)| !map.is_empty())
}

/// The field that a path names, or why it names none.
fn internal_field<'p>(version: &str, path: &'p str) -> Result<&'p str, String> {
    if version != "v1" {
        return Err(format!("unsupported pod version: {version}"));
    }
    if let Some((map, _)) = subscripted(path) {
        return match map {
            "metadata.annotations" | "metadata.labels" => Ok(path),
            _ => Err(format!("field label does not support subscript: {path}")),
        };
    }
    if path == "spec.host" {
        return Ok("spec.nodeName");
    }
    let known = ENVIRONMENT_FIELDS.iter().chain(&FILE_FIELDS).chain(&OTHER_FIELDS).any(|field| *field == path);
    if known { Ok(path) } else { Err(format!("field label not supported: {path}")) }
}

/// A reference to a resource of a container, for files of the downward API.
pub(crate) fn file_resource_reference(at: &Node<'_, '_>, errors: &mut Errors) {
    if errors.require_text(&at.field("containerName")) {
        resource_selector(at, errors);
    } else {
        requirements::divisor(at, errors);
    }
}

/// A reference to a resource of a container.
fn resource_selector(at: &Node<'_, '_>, errors: &mut Errors) {
    const KNOWN: [&str; 6] = [
        "limits.cpu",
        "limits.ephemeral-storage",
        "limits.memory",
        "requests.cpu",
        "requests.ephemeral-storage",
        "requests.memory",
    ];
    let resource = at.field("resource");
    let huge = ["limits.hugepages-", "requests.hugepages-"].iter().any(|prefix| resource.text().starts_with(prefix));
    if errors.require_text(&resource) && !KNOWN.contains(&resource.text()) && !huge {
        errors.not_supported(&resource, &KNOWN);
    }
    requirements::divisor(at, errors);
}

fn key_reference(at: &Node<'_, '_>, errors: &mut Errors) {
    let (name, key) = (at.field("name"), at.field("key"));
    for why in naming::subdomain(name.text()) {
        errors.invalid_value(&name, name.text(), &why);
    }
    if errors.require_text(&key) {
        errors.invalid_all(&key, naming::config_map_key(key.text()));
    }
}

fn file_reference(at: &Node<'_, '_>, errors: &mut Errors) {
    let (key, path) = (at.field("key"), at.field("path"));
    errors.require_text(&at.field("volumeName"));
    if errors.require_text(&key) {
        errors.invalid_all(&key, naming::environment_name(key.text()));
    }
    if errors.require_text(&path) {
        descending_path(&path, errors);
    }
}

/// The `envFrom` of a container.
pub(crate) fn sources(at: &Node<'_, '_>, errors: &mut Errors) {
    for source in at.items() {
        let prefix = source.field("prefix");
        if !prefix.text().is_empty() {
            errors.invalid_all(&prefix, naming::environment_name(prefix.text()));
        }
        let (map, secret) = (source.field("configMapRef"), source.field("secretRef"));
        for reference in [&map, &secret].into_iter().filter(|reference| reference.is_set()) {
            let name = reference.field("name");
            if errors.require_text(&name) {
                errors.invalid_all(&name, naming::subdomain_name(name.text(), true));
            }
        }
        // Upstream names the list here, not the element.
        match (map.is_set(), secret.is_set()) {
            (false, false) => errors.invalid_value(at, "", "must specify one of: `configMapRef` or `secretRef`"),
            (true, true) => errors.invalid_value(at, "", "may not have more than one field specified at a time"),
            _ => {}
        }
    }
}
