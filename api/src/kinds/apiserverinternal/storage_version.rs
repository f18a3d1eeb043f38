//! StorageVersions (upstream: `pkg/registry/apiserverinternal/storageversion`).

use std::collections::HashMap;

use crate::kinds::kind::{Kind, Sub};
use crate::kinds::rules::tree::{Errors, Node};
use crate::kinds::rules::{lists, naming};
use crate::names;

pub(crate) const KIND: Kind = Kind {
    subresources: &[Sub::STATUS],
    validate_status,
    validate_name,
    status_metadata: &[],
    unconditional_update: false,
    ..Kind::cluster("storageversions", "StorageVersion")
};

/// The name of a `StorageVersion`: a group and a resource.
fn validate_name(name: &str, _prefix: bool) -> Vec<String> {
    let Some((group, resource)) = name.rsplit_once('.') else {
        return vec!["name must be in the form of <group>.<resource>".to_owned()];
    };
    let group = naming::subdomain(group).into_iter().map(|why| format!("the group segment {why}"));
    let resource = names::dns1035_label(resource).into_iter().map(|why| format!("the resource segment {why}"));
    group.chain(resource).collect()
}

/// What servers say of the versions they store.
fn validate_status(new: &Node<'_, '_>, _old: &Node<'_, '_>, errors: &mut Errors) {
    let status = new.field("status");
    let servers = status.field("storageVersions");
    lists::distinct(
        &servers,
        usize::MAX,
        |server| server.field("apiServerID").text().to_owned(),
        errors,
        server_version,
    );
    common_version(&status, errors);
    version_conditions(&status, errors);
}

fn server_version(server: &Node<'_, '_>, errors: &mut Errors) {
    let (id, encoding, decodable) =
        (server.field("apiServerID"), server.field("encodingVersion"), server.field("decodableVersions"));
    for why in naming::subdomain(id.text()) {
        errors.invalid_value(&id, id.text(), &why);
    }
    api_version(&encoding, errors);
    for version in decodable.items() {
        api_version(&version, errors);
    }
    if !decodable.texts().any(|version| version == encoding.text()) {
        errors.invalid(&decodable, &format!("decodableVersions must include encodingVersion {}", encoding.text()));
    }
    for version in server.field("servedVersions").items() {
        api_version(&version, errors);
        if !decodable.texts().any(|known| known == version.text()) {
            let known = decodable.texts().collect::<Vec<_>>().join(" ");
            let why = format!(
                "individual served version : {} must be included in decodableVersions : [{known}]",
                version.text()
            );
            errors.invalid(&version, &why);
        }
    }
}

fn api_version(at: &Node<'_, '_>, errors: &mut Errors) {
    const EMPTY: &str = "must be non-empty";
    let (group, version) =
        at.text().split_once('/').map_or((None, at.text()), |(group, version)| (Some(group), version));
    let part = |what: &str, text: &str, rule: fn(&str) -> Vec<String>| {
        let wrong = if text.is_empty() { vec![EMPTY.to_owned()] } else { rule(text) };
        wrong.into_iter().map(|why| format!("{what} part: {why}")).collect::<Vec<_>>()
    };
    let mut wrong = group.map(|group| part("group", group, naming::subdomain)).unwrap_or_default();
    wrong.extend(part("version", version, names::dns1035_label));
    if !wrong.is_empty() {
        errors.invalid_value(at, at.text(), &wrong.join(","));
    }
}

/// The version that all servers write, if it is one.
fn common_version(status: &Node<'_, '_>, errors: &mut Errors) {
    let (told, servers) = (status.field("commonEncodingVersion"), status.field("storageVersions"));
    let versions: Vec<&str> = servers.list().iter().map(|one| one["encodingVersion"].as_str().unwrap_or("")).collect();
    let actual = versions.first().filter(|first| versions.iter().all(|version| version == *first));
    match actual {
        None if told.is_set() => errors.invalid(
            &told,
            "should be nil if servers do not agree on the same encoding version, or if there is no server reporting the supported versions yet",
        ),
        Some(actual) if told.is_unset() => errors.invalid(&told, &format!("the common encoding version is {actual}")),
        Some(actual) if told.text() != *actual => {
            errors.invalid(&told, &format!("the actual common encoding version is {actual}"));
        }
        _ => {}
    }
}

/// Upstream's paths lack the name of the list.
fn version_conditions(status: &Node<'_, '_>, errors: &mut Errors) {
    let mut seen = HashMap::new();
    let path = status.path();
    let conditions = Node::at(&path, status.field("conditions").value());
    for (index, condition) in conditions.items().enumerate() {
        let (kind, state) = (condition.field("type"), condition.field("status"));
        if let Some(first) = seen.insert(kind.text(), index) {
            let why = format!("the type of the condition is not unique, it also appears in conditions[{first}]");
            errors.invalid(&kind, &why);
        }
        for at in [&kind, &state] {
            for why in naming::qualified_name(at.text()) {
                errors.invalid_value(at, at.text(), &why);
            }
        }
        for field in ["reason", "message"] {
            if condition.field(field).text().is_empty() {
                errors.required(&condition.field(field), &format!("{field} cannot be empty"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::rules::checks::check_change;
    use serde_json::{Value, json};

    #[test]
    fn servers_that_agree_have_a_common_version() {
        let server = |id: &str, version: &str| json!({"apiServerID": id, "encodingVersion": version, "decodableVersions": [version]});
        let status = |common: Value, servers: Value| json!({"status": {"commonEncodingVersion": common, "storageVersions": servers}});
        check_change(
            validate_status,
            status("v1".into(), json!([server("a", "v1"), server("b", "v1")])),
            json!({}),
            &[],
        );
        check_change(
            validate_status,
            status(Value::Null, json!([server("a", "v1")])),
            json!({}),
            &["status.commonEncodingVersion: Invalid value: null: the common encoding version is v1"],
        );
        check_change(
            validate_status,
            status("v1".into(), json!([server("a", "v1"), server("a", "v1")])),
            json!({}),
            &["status.storageVersions[1]: Duplicate value: \"a\""],
        );
    }

    #[test]
    fn the_name_of_a_version_is_a_group_and_a_resource() {
        assert!(validate_name("apps.deployments", false).is_empty());
        assert_eq!(validate_name("deployments", false), ["name must be in the form of <group>.<resource>"]);
    }
}
