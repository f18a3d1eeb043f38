//! Rules for the sources of volumes that pods and PersistentVolumes share.

use super::paths::{descending_path, no_back_steps};
use crate::kinds::rules::naming;
use crate::kinds::rules::tree::{Errors, Node};

/// Who has the source: PersistentVolumes say more, since they are in no namespace.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holder {
    Pod,
    PersistentVolume,
}

/// A second source. Upstream misspells two of the paths.
pub(crate) fn one_more(volume: &Node<'_, '_>, key: &str, errors: &mut Errors) {
    let shown = match key {
        "cephfs" => "cephFS",
        "downwardAPI" => "downwarAPI",
        key => key,
    };
    errors.forbidden(&volume.field(shown), "may not specify more than 1 volume type");
}

/// The source at `key` of a volume.
pub(crate) fn shared(volume: &Node<'_, '_>, key: &str, holder: Holder, errors: &mut Errors) {
    let source = volume.field(key);
    for field in required(key) {
        errors.require_text(&source.field(field));
    }
    match key {
        "hostPath" => host_path(&source, errors),
        "nfs" => {
            let path = source.field("path");
            if !path.text().starts_with('/') {
                errors.invalid_value(&path, path.text(), "must be an absolute path");
            }
        }
        "gitRepo" => descending_path(&source.field("directory"), errors),
        "gcePersistentDisk" => {
            // Upstream's path is shorter than the field.
            let at = volume.field("persistentDisk").path();
            disk(&Node::at(&at, source.value()), "pdName", errors);
        }
        "awsElasticBlockStore" => disk(&source, "volumeID", errors),
        "iscsi" => iscsi(&source, holder, errors),
        "fc" => fibre_channel(&source, errors),
        "cephfs" | "rbd" if source.field("monitors").is_empty() => errors.required(&source.field("monitors"), ""),
        "quobyte" => quobyte(&source, errors),
        "flocker" => flocker(&source, errors),
        "flexVolume" => flex_options(&source.field("options"), errors),
        "azureDisk" => azure_disk(&source, errors),
        "storageos" => storage_os(&source, holder, errors),
        "cinder" => secret_reference(&source.field("secretRef"), holder, errors),
        "glusterfs" if holder == Holder::PersistentVolume => {
            let namespace = source.field("endpointsNamespace");
            if namespace.is_set() && namespace.text().is_empty() {
                errors.invalid(&namespace, "if the endpointnamespace is set, it must be a valid namespace name");
            } else if namespace.is_set() {
                errors.invalid_all(&namespace, naming::label(namespace.text()));
            }
        }
        "azureFile" if holder == Holder::PersistentVolume && source.field("secretNamespace").is_set() => {
            errors.require_text(&source.field("secretNamespace"));
        }
        _ => {}
    }
}

/// Texts that a source must have.
fn required(key: &str) -> &'static [&'static str] {
    match key {
        "nfs" => &["server", "path"],
        "iscsi" => &["targetPortal", "iqn"],
        "glusterfs" => &["endpoints", "path"],
        "rbd" => &["image"],
        "cinder" | "portworxVolume" => &["volumeID"],
        "flexVolume" => &["driver"],
        "azureFile" => &["secretName", "shareName"],
        "vsphereVolume" => &["volumePath"],
        "quobyte" => &["volume"],
        "azureDisk" => &["diskName", "diskURI"],
        "photonPersistentDisk" => &["pdID"],
        "scaleIO" => &["gateway", "system", "volumeName"],
        "storageos" => &["volumeName"],
        "gitRepo" => &["repository"],
        _ => &[],
    }
}

fn host_path(source: &Node<'_, '_>, errors: &mut Errors) {
    let path = source.field("path");
    if !errors.require_text(&path) {
        return;
    }
    no_back_steps(&path, errors);
    errors.none_or_one_of(
        &source.field("type"),
        &["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"],
    );
}

fn disk(source: &Node<'_, '_>, name: &str, errors: &mut Errors) {
    errors.require_text(&source.field(name));
    let partition = source.field("partition");
    if !(0..=255).contains(&partition.number()) {
        errors.invalid(&partition, "must be between 1 and 255, inclusive");
    }
}

fn unit_number(at: &Node<'_, '_>, errors: &mut Errors) {
    if !(0..=255).contains(&at.number()) {
        errors.invalid(at, "must be between 0 and 255, inclusive");
    }
}

/// An initiator that is named for a volume has no long name.
pub(crate) fn short_portal(at: &Node<'_, '_>, volume: &str, iscsi: &Node<'_, '_>, errors: &mut Errors) {
    if volume.len() + 1 + iscsi.field("targetPortal").text().len() > 64 {
        errors.invalid(
            at,
            "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is \
             specified.",
        );
    }
}

fn iscsi(source: &Node<'_, '_>, holder: Holder, errors: &mut Errors) {
    let (name, initiator) = (source.field("iqn"), source.field("initiatorName"));
    if !name.text().is_empty() {
        iscsi_name(&name, name.text(), holder, errors);
    }
    unit_number(&source.field("lun"), errors);
    let secret = source.field("secretRef");
    let authenticates = source.field("chapAuthDiscovery").is_true() || source.field("chapAuthSession").is_true();
    if authenticates && secret.is_unset() {
        errors.required(&secret, "");
    }
    if holder == Holder::PersistentVolume && secret.is_set() {
        errors.require_text(&secret.field("name"));
    }
    if initiator.is_set() {
        iscsi_name(&source.field("initiatorname"), initiator.text(), holder, errors);
    }
}

fn iscsi_name(at: &Node<'_, '_>, name: &str, holder: Holder, errors: &mut Errors) {
    let known = ["iqn", "eui", "naa"].into_iter().find(|prefix| name.starts_with(prefix));
    match known {
        None if holder == Holder::Pod => {
            errors.invalid_value(at, name, "must be valid format starting with iqn, eui, or naa");
        }
        Some(prefix) if is_iscsi_name(prefix, name) => {}
        _ => errors.invalid_value(at, name, "must be valid format"),
    }
}

/// `iqn.2021-05.com.example:disk`, `eui.` with 16 letters or digits, `naa.` with 32.
fn is_iscsi_name(prefix: &str, name: &str) -> bool {
    let Some(rest) = name.strip_prefix(prefix).filter(|rest| !rest.is_empty()) else { return false };
    let rest = rest.get(1..).unwrap_or("");
    let alphanumeric =
        |text: &str, length: usize| text.len() == length && text.bytes().all(|b| b.is_ascii_alphanumeric());
    match prefix {
        "eui" => alphanumeric(rest, 16),
        "naa" => alphanumeric(rest, 32),
        _ => {
            let Some((authority, disk)) = rest.split_once(':') else { return false };
            let bytes = authority.as_bytes();
            let dated = bytes.len() > 8
                && bytes[..7].iter().enumerate().all(|(at, b)| if at == 4 { *b == b'-' } else { b.is_ascii_digit() })
                && bytes[7] == b'.'
                && bytes[8..].iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'));
            dated && !disk.is_empty() && !disk.contains(|c: char| ",;*&$|".contains(c) || c.is_whitespace())
        }
    }
}

fn fibre_channel(source: &Node<'_, '_>, errors: &mut Errors) {
    let (targets, ids, unit) = (source.field("targetWWNs"), source.field("wwids"), source.field("lun"));
    match (targets.is_empty(), ids.is_empty()) {
        (true, true) => errors.required(&targets, "must specify either targetWWNs or wwids, but not both"),
        (false, false) => errors.invalid(&targets, "targetWWNs and wwids can not be specified simultaneously"),
        _ => {}
    }
    if !targets.is_empty() {
        if unit.is_unset() {
            errors.required(&unit, "lun is required if targetWWNs is specified");
        } else {
            unit_number(&unit, errors);
        }
    }
}

fn quobyte(source: &Node<'_, '_>, errors: &mut Errors) {
    const PAIRS: &str = "must be a host:port pair or multiple pairs separated by commas";
    let (registry, tenant) = (source.field("registry"), source.field("tenant"));
    if registry.text().is_empty() {
        errors.required(&registry, PAIRS);
    } else if tenant.text().len() >= 65 {
        errors.required(&tenant, "must be a UUID and may not exceed a length of 64 characters");
    } else {
        for _ in registry.text().split(',').filter(|pair| !is_host_and_port(pair)) {
            errors.invalid(&registry, PAIRS);
        }
    }
}

fn is_host_and_port(pair: &str) -> bool {
    match pair.strip_prefix('[') {
        Some(rest) => rest.split_once("]:").is_some_and(|(_, port)| !port.contains([':', '[', ']'])),
        None => pair.split_once(':').is_some_and(|(_, port)| !port.contains(':')) && !pair.contains(['[', ']']),
    }
}

fn flocker(source: &Node<'_, '_>, errors: &mut Errors) {
    let (name, id) = (source.field("datasetName"), source.field("datasetUUID"));
    match (name.text().is_empty(), id.text().is_empty()) {
        (true, true) => errors.required(source, "one of datasetName and datasetUUID is required"),
        (false, false) => {
            let why = "datasetName and datasetUUID can not be specified simultaneously";
            errors.invalid_value(source, "resource", why);
        }
        _ => {}
    }
    if name.text().contains('/') {
        errors.invalid(&name, "must not contain '/'");
    }
}

fn flex_options(options: &Node<'_, '_>, errors: &mut Errors) {
    for (key, at) in options.entries() {
        let domain = format!(".{}", key.split('/').next().unwrap_or(key).to_lowercase());
        if domain.ends_with(".kubernetes.io") || domain.ends_with(".k8s.io") {
            errors.invalid_value(&at, key, "kubernetes.io and k8s.io namespaces are reserved");
        }
    }
}

fn azure_disk(source: &Node<'_, '_>, errors: &mut Errors) {
    const MANAGED: &str =
        "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}";
    const BLOB: &str = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd";
    let (kind, uri) = (source.field("kind"), source.field("diskURI"));
    errors.none_or_one_of(&source.field("cachingMode"), &["None", "ReadOnly", "ReadWrite"]);
    errors.none_or_one_of(&kind, &["Dedicated", "Managed", "Shared"]);
    let (prefix, form) = if kind.text() == "Managed" { ("/subscriptions/", MANAGED) } else { ("https://", BLOB) };
    if kind.is_set() && !uri.text().starts_with(prefix) {
        errors.push(crate::FieldError::not_supported(&uri.path(), uri.text(), &[form]));
    }
}

fn storage_os(source: &Node<'_, '_>, holder: Holder, errors: &mut Errors) {
    for key in ["volumeName", "volumeNamespace"] {
        let name = source.field(key);
        if !name.text().is_empty() {
            errors.invalid_all(&name, naming::label(name.text()));
        }
    }
    secret_reference(&source.field("secretRef"), holder, errors);
}

fn secret_reference(secret: &Node<'_, '_>, holder: Holder, errors: &mut Errors) {
    if secret.is_set() {
        errors.require_text(&secret.field("name"));
        if holder == Holder::PersistentVolume {
            errors.require_text(&secret.field("namespace"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(key: &str, source: Value, want: &[&str]) {
        let volume = json!({key: source});
        let mut errors = Errors::default();
        shared(&Node::root(volume.as_object().expect("an object")), key, Holder::Pod, &mut errors);
        let mut texts: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
        texts.sort_unstable();
        assert_eq!(texts, want);
    }

    #[test]
    fn sources_are_told_what_is_wrong_with_them() {
        check("nfs", json!({"server": "s", "path": "/x"}), &[]);
        check(
            "nfs",
            json!({"path": "x"}),
            &["nfs.path: Invalid value: \"x\": must be an absolute path", "nfs.server: Required value"],
        );
        check("iscsi", json!({"targetPortal": "p", "iqn": "iqn.2021-05.com.example:disk", "lun": 0}), &[]);
        check(
            "iscsi",
            json!({"targetPortal": "p", "iqn": "iqn.com", "lun": 256, "chapAuthSession": true}),
            &[
                "iscsi.iqn: Invalid value: \"iqn.com\": must be valid format",
                "iscsi.lun: Invalid value: 256: must be between 0 and 255, inclusive",
                "iscsi.secretRef: Required value",
            ],
        );
        check(
            "gcePersistentDisk",
            json!({"partition": 300}),
            &[
                "persistentDisk.partition: Invalid value: 300: must be between 1 and 255, inclusive",
                "persistentDisk.pdName: Required value",
            ],
        );
        check(
            "flocker",
            json!({"datasetName": "a/b"}),
            &["flocker.datasetName: Invalid value: \"a/b\": must not contain '/'"],
        );
        check(
            "fc",
            json!({"targetWWNs": ["a"]}),
            &["fc.lun: Required value: lun is required if targetWWNs is specified"],
        );
        check("quobyte", json!({"registry": "a:1,[::1]:2", "volume": "v"}), &[]);
    }

    #[test]
    fn names_of_iscsi_have_three_forms() {
        for (prefix, name, want) in [
            ("eui", "eui.0123456789abcdef", true),
            ("eui", "eui.0", false),
            ("naa", "naa.0123456789abcdef0123456789abcdef", true),
            ("iqn", "iqn.2021-05.example:x,y", false),
            ("iqn", "iqn.21-05.example:x", false),
            ("iqn", "iqn", false),
            ("iqn", "iqné", false),
        ] {
            assert_eq!(is_iscsi_name(prefix, name), want, "{name}");
        }
    }
}
