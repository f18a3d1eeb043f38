//! The Pod Security Standards as a table of checks: what holds at a level, from which version of the policy on. Order,
//! versions and words are upstream's (`pod-security-admission/policy`).

use serde_json::Value;

use super::pod::{Pod, Violation, unless_own_users, unless_windows};
use super::settings::{Level, Standard};
use super::{baseline, restricted};

type Check = fn(&Pod<'_>) -> Option<Violation>;

/// A check, and what it says from which minor version on.
struct Versioned {
    id: &'static str,
    by_version: &'static [(u32, Check)],
    /// The check of the level below that it says all of.
    instead_of: &'static str,
}

const fn check(id: &'static str, by_version: &'static [(u32, Check)]) -> Versioned {
    Versioned { id, by_version, instead_of: "" }
}

const fn stricter(id: &'static str, instead_of: &'static str, by_version: &'static [(u32, Check)]) -> Versioned {
    Versioned { id, by_version, instead_of }
}

const BASELINE: &[Versioned] = &[
    check("appArmorProfile", &[(0, baseline::app_armor)]),
    check("capabilities_baseline", &[(0, baseline::capabilities)]),
    check("hostNamespaces", &[(0, baseline::host_namespaces)]),
    check("hostPathVolumes", &[(0, baseline::host_path)]),
    check("hostPorts", &[(0, baseline::host_ports)]),
    check("hostProbesAndHostLifecycle", &[(34, baseline::probes)]),
    check("privileged", &[(0, baseline::privileged)]),
    check("procMount", &[(0, baseline::proc_mount), (35, baseline::proc_mount_of_hosts_users)]),
    check("seLinuxOptions", &[(0, baseline::selinux), (31, baseline::selinux_with_engine)]),
    check("seccompProfile_baseline", &[(0, baseline::seccomp_annotations), (19, baseline::seccomp)]),
    check(
        "sysctls",
        &[
            (0, baseline::sysctls::<5>),
            (27, baseline::sysctls::<6>),
            (29, baseline::sysctls::<10>),
            (32, baseline::sysctls::<12>),
        ],
    ),
    check("windowsHostProcess", &[(0, baseline::host_process)]),
];

const RESTRICTED: &[Versioned] = &[
    check(
        "allowPrivilegeEscalation",
        &[(8, restricted::escalation), (25, |pod| unless_windows(pod, restricted::escalation))],
    ),
    stricter(
        "capabilities_restricted",
        "capabilities_baseline",
        &[(22, restricted::capabilities), (25, |pod| unless_windows(pod, restricted::capabilities))],
    ),
    stricter("procMount_restricted", "procMount", &[(35, baseline::proc_mount)]),
    stricter("restrictedVolumes", "hostPathVolumes", &[(0, restricted::volumes)]),
    check("runAsNonRoot", &[(0, restricted::non_root), (35, |pod| unless_own_users(pod, restricted::non_root))]),
    check("runAsUser", &[(23, restricted::root_user), (35, |pod| unless_own_users(pod, restricted::root_user))]),
    stricter(
        "seccompProfile_restricted",
        "seccompProfile_baseline",
        &[(19, restricted::seccomp), (25, |pod| unless_windows(pod, restricted::seccomp))],
    ),
];

/// What a pod violates: one with this spec and, in `metadata`, these annotations.
pub(super) fn violations(metadata: Option<&Value>, spec: &Value, standard: &Standard) -> Vec<Violation> {
    if standard.level == Level::Privileged {
        return Vec::new();
    }
    let at = |versioned: &Versioned| {
        versioned.by_version.iter().rev().find(|(from, _)| *from <= standard.version).map(|(_, check)| *check)
    };
    let restricted: Vec<(&Versioned, Check)> = match standard.level {
        Level::Restricted => RESTRICTED.iter().filter_map(|one| at(one).map(|check| (one, check))).collect(),
        _ => Vec::new(),
    };
    let is_replaced = |id: &str| restricted.iter().any(|(one, _)| one.instead_of == id);
    let baseline = BASELINE.iter().filter(|one| !is_replaced(one.id)).filter_map(at);
    let pod = Pod::new(metadata, spec);
    baseline.chain(restricted.iter().map(|(_, check)| *check)).filter_map(|check| check(&pod)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(level: Level, version: u32, pod: &Value, want: &[&str]) {
        let standard = Standard { level, version, shown: String::new() };
        let found = violations(pod.get("metadata"), &pod["spec"], &standard);
        let shown: Vec<String> = found.iter().map(|one| format!("{} ({})", one.reason, one.detail)).collect();
        assert_eq!(shown, want);
    }

    fn pod(context: &Value) -> Value {
        json!({"spec": {"securityContext": context, "containers": [{"name": "c"}]}})
    }

    #[test]
    fn it_is_said_what_of_the_selinux_options_is_forbidden() {
        let odd = pod(&json!({"seLinuxOptions": {"type": "container_engine_t", "user": "u"}}));
        let at = "seLinuxOptions (pod set forbidden securityContext.seLinuxOptions:";
        check(Level::Baseline, u32::MAX, &odd, &[&format!("{at} user may not be set)")]);
        check(Level::Baseline, 20, &odd, &[&format!("{at} type \"container_engine_t\"; user may not be set)")]);
    }

    #[test]
    fn an_older_policy_knows_less() {
        let kept = pod(&json!({"sysctls": [{"name": "net.ipv4.tcp_rmem"}]}));
        check(Level::Baseline, 32, &kept, &[]);
        check(Level::Baseline, 31, &kept, &["forbidden sysctls (net.ipv4.tcp_rmem)"]);
        let probed = json!({"spec": {"containers": [{"name": "c", "livenessProbe": {"tcpSocket": {"host": "h"}}}]}});
        check(Level::Baseline, 33, &probed, &[]);
        check(
            Level::Baseline,
            34,
            &probed,
            &["probe or lifecycle host (container \"c\" uses probe or lifecycle host \"h\")"],
        );
    }

    #[test]
    fn a_stricter_check_replaces_the_other_once_it_is_there() {
        let context = json!({"seccompProfile": {"type": "Unconfined"}, "runAsNonRoot": true});
        let spec = json!({"hostUsers": false, "securityContext": context, "containers": [{"name": "c", "securityContext":
            {"procMount": "Unmasked", "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"], "add": ["X"]}}}]});
        let pod = json!({"spec": spec});
        let mount = "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")";
        let seccomp = "seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")";
        let capability = |reason: &str| {
            format!("{reason} (container \"c\" must not include \"X\" in securityContext.capabilities.add)")
        };
        check(Level::Baseline, u32::MAX, &pod, &[&capability("non-default capabilities"), seccomp]);
        check(Level::Restricted, u32::MAX, &pod, &[&capability("unrestricted capabilities"), mount, seccomp]);
        check(Level::Restricted, 20, &pod, &[&capability("non-default capabilities"), mount, seccomp]);
    }

    #[test]
    fn annotations_of_former_times_count() {
        let pod = json!({"metadata": {"annotations": {
            "container.apparmor.security.beta.kubernetes.io/c": "unconfined",
            "container.seccomp.security.alpha.kubernetes.io/c": "unconfined",
        }}, "spec": {"containers": [{"name": "c"}]}});
        let armor = "forbidden AppArmor profile (annotation must not set AppArmor profile type to \
                     \"container.apparmor.security.beta.kubernetes.io/c=\"unconfined\"\")";
        let seccomp = "seccompProfile (forbidden annotation \
                       container.seccomp.security.alpha.kubernetes.io/c=\"unconfined\")";
        check(Level::Baseline, 18, &pod, &[armor, seccomp]);
        check(Level::Baseline, 19, &pod, &[armor]);
    }
}
