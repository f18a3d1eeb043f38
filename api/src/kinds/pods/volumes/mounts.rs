//! Rules for what containers see of volumes.

use std::collections::HashSet;

use super::paths::{descending_path, has_back_steps};
use crate::kinds::pods::context::Context;
use crate::kinds::rules::tree::{Errors, Node};

/// The texts at `key` of the elements of a list.
fn texts<'v>(list: &Node<'_, 'v>, key: &str) -> HashSet<&'v str> {
    list.list().iter().filter_map(|one| one.get(key)?.as_str()).collect()
}

/// The `volumeMounts` of a container. Upstream names the list for what is wrong with the way of mounting.
pub(crate) fn mounts(container: &Node<'_, '_>, context: &Context<'_>, errors: &mut Errors) {
    let (list, devices) = (container.field("volumeMounts"), container.field("volumeDevices"));
    let (device_names, device_paths) = (texts(&devices, "name"), texts(&devices, "devicePath"));
    let mut paths = HashSet::new();
    for mount in list.items() {
        let (name, path) = (mount.field("name"), mount.field("mountPath"));
        errors.require_text(&name);
        if !context.volumes.contains(name.text()) {
            errors.push(crate::FieldError::not_found(&name.path(), name.text()));
        }
        errors.require_text(&path);
        if !paths.insert(path.text()) {
            errors.invalid_value(&path, path.text(), "must be unique");
        }
        if device_names.contains(name.text()) {
            errors.invalid(&name, "must not already exist in volumeDevices");
        }
        if device_paths.contains(path.text()) {
            errors.invalid(&path, "must not already exist as a path in volumeDevices");
        }
        let expression = mount.field("subPathExpr");
        if !expression.text().is_empty() && !mount.field("subPath").text().is_empty() {
            errors.invalid(&expression, "subPathExpr and subPath are mutually exclusive");
        }
        let at = list.path();
        manner(&Node::at(&at, mount.value()), container, errors);
    }
}

fn manner(mount: &Node<'_, '_>, container: &Node<'_, '_>, errors: &mut Errors) {
    for key in ["subPath", "subPathExpr"] {
        let path = mount.field(key);
        if !path.text().is_empty() {
            descending_path(&path, errors);
        }
    }
    let propagation = mount.field("mountPropagation");
    errors.none_or_one_of(&propagation, &["Bidirectional", "HostToContainer", "None"]);
    if propagation.text() == "Bidirectional" && !container.field("securityContext").field("privileged").is_true() {
        let why = "Bidirectional mount propagation is available only to privileged containers";
        errors.forbidden(&propagation, why);
    }
    recursive_read_only(mount, errors);
}

fn recursive_read_only(mount: &Node<'_, '_>, errors: &mut Errors) {
    let recursive = mount.field("recursiveReadOnly");
    match recursive.text() {
        "Disabled" => {}
        "Enabled" | "IfPossible" => {
            if !mount.field("readOnly").is_true() {
                errors.forbidden(&recursive, "may only be specified when readOnly is true");
            }
            if !matches!(mount.field("mountPropagation").text(), "" | "None") {
                errors.forbidden(&recursive, "may only be specified when mountPropagation is None or not specified");
            }
        }
        _ => errors.none_or_one_of(&recursive, &["Disabled", "Enabled", "IfPossible"]),
    }
}

/// The `volumeDevices` of a container.
pub(crate) fn devices(container: &Node<'_, '_>, context: &Context<'_>, errors: &mut Errors) {
    const NO_CLAIM: &str = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
    let mounts = container.field("volumeMounts");
    let (mount_names, mount_paths) = (texts(&mounts, "name"), texts(&mounts, "mountPath"));
    let (mut names, mut paths) = (HashSet::new(), HashSet::new());
    for device in container.field("volumeDevices").items() {
        let (name, path) = (device.field("name"), device.field("devicePath"));
        if errors.require_text(&name) && !names.insert(name.text()) {
            errors.invalid(&name, "must be unique");
        }
        if !context.volumes.contains(name.text()) {
            errors.push(crate::FieldError::not_found(&name.path(), name.text()));
        } else if !context.volumes.is_claim(name.text()) {
            errors.invalid(&name, NO_CLAIM);
        }
        errors.require_text(&path);
        if paths.contains(path.text()) {
            errors.invalid_value(&path, path.text(), "must be unique");
        }
        if has_back_steps(path.text()) {
            errors.invalid(&path, "can not contain backsteps ('..')");
        } else {
            paths.insert(path.text());
        }
        if mount_names.contains(name.text()) {
            errors.invalid(&name, "must not already exist in volumeMounts");
        }
        if mount_paths.contains(path.text()) {
            errors.invalid(&path, "must not already exist as a path in volumeMounts");
        }
    }
}
