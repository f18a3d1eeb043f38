//! What containers may do on their node.

use e2e::Ground;
use serde_json::{Value, json};

use super::tools::{command, logs, once, reaches, script, with};

/// Conformance: [sig-node] Security Context When creating a container with runAsUser should run the container with uid 65534 [LinuxOnly] [NodeConformance] [Conformance]
/// Conformance: [sig-node] Security Context When creating a pod with privileged should run the container as unprivileged when false [LinuxOnly] [NodeConformance] [Conformance]
/// Conformance: [sig-node] Security Context When creating a pod with readOnlyRootFilesystem should run the container with writable rootfs when readOnlyRootFilesystem=false [NodeConformance] [Conformance]
/// Conformance: [sig-node] Security Context should support container.SecurityContext.RunAsUser And container.SecurityContext.RunAsGroup [LinuxOnly] [Conformance]
/// Conformance: [sig-node] Security Context should support pod.Spec.SecurityContext.RunAsUser And pod.Spec.SecurityContext.RunAsGroup [LinuxOnly] [Conformance]
pub(super) fn have_rights(ground: &Ground<'_>) {
    let container =
        |name: &str, line: &str, context: Value| with(script(name, line), json!({"securityContext": context}));
    let containers = [
        container("nobody", "test $(id -u) -eq 65534 && id -u", json!({"runAsUser": 65534})),
        container(
            "unprivileged",
            "ip link add dummy0 type dummy 2>&1 || true",
            json!({"privileged": false, "runAsUser": 0}),
        ),
        container(
            "writable",
            "touch checkfile && echo written",
            json!({"readOnlyRootFilesystem": false, "runAsUser": 0}),
        ),
        container("own", "id", json!({"runAsUser": 1001, "runAsGroup": 2002})),
        container("of-pod", "id", json!({})),
    ];
    let context = json!({"runAsUser": 1002, "runAsGroup": 2003});
    once(ground, "p", json!({"containers": containers, "securityContext": context}));
    reaches(ground, "p", "Succeeded");
    let printed = |name: &str| logs(ground, "p", name);
    assert_eq!(printed("nobody"), "65534");
    assert!(printed("unprivileged").contains("Operation not permitted"), "{}", printed("unprivileged"));
    assert_eq!(printed("writable"), "written");
    assert!(printed("own").starts_with("uid=1001 gid=2002"), "{}", printed("own"));
    assert!(printed("of-pod").starts_with("uid=1002 gid=2003"), "{}", printed("of-pod"));
}

/// Conformance: [sig-node] Security Context when creating containers with AllowPrivilegeEscalation should not allow privilege escalation when false [LinuxOnly] [NodeConformance] [Conformance]
pub(super) fn gain_no_rights(ground: &Ground<'_>) {
    let mounts = json!([{"name": "v", "mountPath": "/v"}]);
    let make = "cp /bin/busybox /v/su && chmod 4755 /v/su";
    let setup = with(script("setup", make), json!({"volumeMounts": mounts}));
    // This su works for root's own process only, whoever starts it.
    let line = "id -u; grep NoNewPrivs /proc/self/status; /v/su nobody -c true < /dev/null 2>&1; true";
    let container = |name: &str, may: bool| {
        let context = json!({"runAsUser": 1000, "allowPrivilegeEscalation": may});
        with(script(name, line), json!({"securityContext": context, "volumeMounts": mounts}))
    };
    let containers = [container("may", true), container("may-not", false)];
    let volumes = json!([{"name": "v", "emptyDir": {}}]);
    let spec = json!({"initContainers": [setup], "containers": containers, "volumes": volumes});
    once(ground, "p", spec);
    reaches(ground, "p", "Succeeded");
    let (may, may_not) = (logs(ground, "p", "may"), logs(ground, "p", "may-not"));
    let refused = "must be suid to work properly";
    assert!(may_not.starts_with("1000\nNoNewPrivs:\t1\n") && may_not.contains(refused), "{may_not}");
    assert!(may.starts_with("1000\nNoNewPrivs:\t0\n") && !may.contains(refused), "{may}");
}

/// Conformance: [sig-node] Sysctls [LinuxOnly] [NodeConformance] should support sysctls [Environment:NotInUserNS] [Conformance]
pub(super) fn set_sysctls(ground: &Ground<'_>) {
    let sysctls = json!([{"name": "kernel.shm_rmid_forced", "value": "1"}]);
    let show = command("c", &json!(["/bin/sysctl", "kernel.shm_rmid_forced"]));
    once(ground, "p", json!({"securityContext": {"sysctls": sysctls}, "containers": [show]}));
    reaches(ground, "p", "Succeeded");
    assert_eq!(logs(ground, "p", "c"), "kernel.shm_rmid_forced = 1");
}
