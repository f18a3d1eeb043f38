//! Rules for security contexts.

use super::{shown, windows};
use crate::kinds::pods::volumes::paths::descending_path;
use crate::kinds::rules::shown::Shown;
use crate::kinds::rules::tree::{Errors, Node};

/// User and group ids are 31 bits.
const ID: &str = "must be between 0 and 2147483647, inclusive";

/// The id of a user or group.
pub(crate) fn id(at: &Node<'_, '_>, errors: &mut Errors) {
    if at.integer().is_some_and(|id| !(0..=i64::from(i32::MAX)).contains(&id)) {
        errors.invalid(at, ID);
    }
}

/// The security context of a pod.
pub(crate) fn pod(spec: &Node<'_, '_>, errors: &mut Errors) {
    let at = spec.field("securityContext");
    for key in ["fsGroup", "runAsUser", "runAsGroup"] {
        id(&at.field(key), errors);
    }
    for group in at.field("supplementalGroups").items() {
        id(&group, errors);
    }
    if spec.field("shareProcessNamespace").is_true() && spec.field("hostPID").is_true() {
        let why = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.invalid_value(&at.field("shareProcessNamespace"), true, why);
    }
    errors.none_or_one_of(&at.field("fsGroupChangePolicy"), &["Always", "OnRootMismatch"]);
    errors.none_or_one_of(&at.field("supplementalGroupsPolicy"), &["Merge", "Strict"]);
    // More is to be had where labels are mounted, which is behind a gate that is off.
    errors.none_or_one_of(&at.field("seLinuxChangePolicy"), &["Recursive"]);
    seccomp(&at.field("seccompProfile"), errors);
    app_armor(&at.field("appArmorProfile"), errors);
    windows::options(&at.field("windowsOptions"), errors);
    sysctls(&at.field("sysctls"), spec, errors);
    if spec.field("hostUsers").is_false() {
        // Upstream names two of the fields as Go does.
        for (key, shown) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
            if spec.field(key).is_true() {
                errors.forbidden(&spec.field(shown), "when `pod.Spec.HostUsers` is false");
            }
        }
    }
}

/// The security context of a container.
pub(crate) fn container(at: &Node<'_, '_>, host_users: bool, errors: &mut Errors) {
    if at.is_unset() {
        return;
    }
    for key in ["runAsUser", "runAsGroup"] {
        id(&at.field(key), errors);
    }
    let proc_mount = at.field("procMount");
    errors.none_or_one_of(&proc_mount, &["Default", "Unmasked"]);
    if host_users && proc_mount.text() == "Unmasked" {
        errors.invalid(&proc_mount, "`hostUsers` must be false to use `Unmasked`");
    }
    seccomp(&at.field("seccompProfile"), errors);
    app_armor(&at.field("appArmorProfile"), errors);
    windows::options(&at.field("windowsOptions"), errors);
    if at.field("allowPrivilegeEscalation").is_false() {
        let refused = |what: &str| format!("cannot set `allowPrivilegeEscalation` to false and {what}");
        if at.field("privileged").is_true() {
            errors.invalid_shown(at, &shown::security_context(at), &refused("`privileged` to true"));
        }
        if at.field("capabilities").field("add").texts().any(|name| name == "CAP_SYS_ADMIN") {
            errors.invalid_shown(at, &shown::security_context(at), &refused("`capabilities.Add` CAP_SYS_ADMIN"));
        }
    }
}

const PROFILES: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];

/// The type of a profile; answers whether it is a file of the node's.
fn profile_type(kind: &Node<'_, '_>, what: &str, errors: &mut Errors) -> bool {
    if kind.text().is_empty() {
        errors.required(kind, &format!("type is required when {what} is set"));
    } else {
        errors.one_of(kind, &PROFILES);
    }
    kind.text() == "Localhost"
}

fn seccomp(at: &Node<'_, '_>, errors: &mut Errors) {
    if at.is_unset() {
        return;
    }
    let (kind, file) = (at.field("type"), at.field("localhostProfile"));
    if profile_type(&kind, "seccompProfile", errors) {
        if file.is_unset() {
            errors.required(&file, "must be set when seccomp type is Localhost");
        } else {
            descending_path(&file, errors);
        }
    } else if file.is_set() {
        let shown = Shown::fields([("Type", kind.text().into()), ("LocalhostProfile", file.shown())]);
        errors.invalid_shown(&file, &shown, "can only be set when seccomp type is Localhost");
    }
}

fn app_armor(at: &Node<'_, '_>, errors: &mut Errors) {
    const LONGEST: usize = 4095;
    const MISSING: &str = "must be set when AppArmor type is Localhost";
    if at.is_unset() {
        return;
    }
    let (kind, name) = (at.field("type"), at.field("localhostProfile"));
    if profile_type(&kind, "appArmorProfile", errors) {
        if name.is_unset() {
            errors.required(&name, MISSING);
        } else if name.text().trim() != name.text() {
            errors.invalid(&name, "must not be padded with whitespace");
        } else if name.text().is_empty() {
            errors.required(&name, MISSING);
        }
        if name.text().len() > LONGEST {
            errors.too_long(&name, LONGEST);
        }
    } else if name.is_set() && PROFILES.contains(&kind.text()) {
        errors.invalid(&name, "can only be set when AppArmor type is Localhost");
    }
}

fn sysctls(at: &Node<'_, '_>, spec: &Node<'_, '_>, errors: &mut Errors) {
    let mut seen = std::collections::HashSet::new();
    for sysctl in at.items() {
        let name = sysctl.field("name");
        if name.text().is_empty() {
            errors.required(&name, "");
        } else if !is_sysctl(name.text()) {
            errors.invalid(&name, &format!("must have at most 253 characters and match regex {SYSCTL}"));
        } else if seen.contains(name.text()) {
            errors.duplicate(&name);
        }
        if let Some(shared) = namespace_of(name.text())
            && spec.field(shared).is_true()
        {
            errors.invalid(&name, &format!("may not be specified when '{shared}' is true"));
        }
        seen.insert(name.text());
    }
}

/// Which sharing with the node makes a setting the node's own.
fn namespace_of(sysctl: &str) -> Option<&'static str> {
    const MESSAGES: [&str; 3] = ["kernel.shm", "kernel.msg", "fs.mqueue."];
    let name = sysctl.replace('/', ".");
    if name.starts_with("net.") {
        Some("hostNetwork")
    } else if name == "kernel.sem" || MESSAGES.iter().any(|prefix| name.starts_with(prefix)) {
        Some("hostIPC")
    } else {
        None
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
