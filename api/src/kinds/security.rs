//! Rules for security contexts.

use serde_json::Value;

use super::tree::{Errors, Node};

/// User and group ids are 31 bits.
const ID: &str = "must be between 0 and 2147483647, inclusive";

fn id(at: &Node<'_, '_>, errors: &mut Errors) {
    if at.integer().is_some_and(|id| !(0..=i64::from(i32::MAX)).contains(&id)) {
        errors.invalid(at, ID);
    }
}

/// The security context of a pod.
pub(crate) fn pod(at: &Node<'_, '_>, errors: &mut Errors) {
    for key in ["fsGroup", "runAsUser", "runAsGroup"] {
        id(&at.field(key), errors);
    }
    for group in at.field("supplementalGroups").items() {
        id(&group, errors);
    }
    errors.none_or_one_of(&at.field("fsGroupChangePolicy"), &["Always", "OnRootMismatch"]);
    errors.none_or_one_of(&at.field("supplementalGroupsPolicy"), &["Merge", "Strict"]);
    errors.none_or_one_of(&at.field("seLinuxChangePolicy"), &["MountOption", "Recursive"]);
    profile(&at.field("seccompProfile"), "seccomp", errors);
    profile(&at.field("appArmorProfile"), "AppArmor", errors);
    sysctls(&at.field("sysctls"), errors);
}

/// The security context of a container.
pub(crate) fn container(at: &Node<'_, '_>, errors: &mut Errors) {
    if at.is_unset() {
        return;
    }
    for key in ["runAsUser", "runAsGroup"] {
        id(&at.field(key), errors);
    }
    let proc_mount = at.field("procMount");
    errors.none_or_one_of(&proc_mount, &["Default", "Unmasked"]);
    profile(&at.field("seccompProfile"), "seccomp", errors);
    profile(&at.field("appArmorProfile"), "AppArmor", errors);
    if at.field("allowPrivilegeEscalation").is_false() {
        if at.field("privileged").is_true() {
            errors.invalid(at, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true");
        }
        if at.field("capabilities").field("add").texts().any(|name| name == "CAP_SYS_ADMIN") {
            errors.invalid(at, "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN");
        }
    }
}

fn profile(at: &Node<'_, '_>, what: &str, errors: &mut Errors) {
    if at.is_unset() {
        return;
    }
    let (kind, local) = (at.field("type"), at.field("localhostProfile"));
    match kind.text() {
        "" => errors.required(&kind, &format!("type is required when {}Profile is set", field_stem(what))),
        "Localhost" => {
            if local.text().is_empty() {
                errors.required(&local, &format!("must be set when {what} type is Localhost"));
            } else if what == "seccomp" {
                super::volumes::descending_path(&local, errors);
            } else if local.text().trim() != local.text() {
                errors.invalid(&local, "must not be padded with whitespace");
            }
        }
        "RuntimeDefault" | "Unconfined" => {
            if local.is_set() {
                errors.invalid(&local, &format!("can only be set when {what} type is Localhost"));
            }
        }
        _ => errors.one_of(&kind, &["Localhost", "RuntimeDefault", "Unconfined"]),
    }
}

fn field_stem(what: &str) -> &str {
    if what == "AppArmor" { "appArmor" } else { what }
}

fn sysctls(at: &Node<'_, '_>, errors: &mut Errors) {
    let mut seen = std::collections::HashSet::new();
    for sysctl in at.items() {
        let name = sysctl.field("name");
        if name.text().is_empty() {
            errors.required(&name, "");
        } else if !is_sysctl(name.text()) {
            errors.invalid(&name, &format!("must have at most 253 characters and match regex {SYSCTL}"));
        } else if !seen.insert(name.text().replace('/', ".")) {
            errors.duplicate(&name);
        }
    }
}

/// How upstream writes the form of a sysctl's name.
const SYSCTL: &str = "^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";

fn is_sysctl(name: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    name.len() <= 253
        && name.split(['.', '/']).all(|part| {
            let bytes = part.as_bytes();
            bytes.iter().all(|b| alphanumeric(*b) || matches!(b, b'-' | b'_'))
                && bytes.first().copied().is_some_and(alphanumeric)
                && bytes.last().copied().is_some_and(alphanumeric)
        })
}

/// Whether a value is `true`, for namespaces shared with the node.
pub(crate) fn shares(spec: &Node<'_, '_>, key: &str) -> bool {
    spec.field(key).value().and_then(Value::as_bool).unwrap_or(false)
}
