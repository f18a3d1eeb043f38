//! What containers write, where they may, and what is told of those that have ended.

use e2e::Ground;
use serde_json::{Value, json};

use super::tools::{
    becomes, command, condition, exec, get, gone, idle, logs, once, reaches, ready, restarts, run, script, status,
    with, wrote,
};

/// Conformance: [sig-node] Kubelet when scheduling a busybox command in a pod should print the output to logs [NodeConformance] [Conformance]
/// Conformance: [sig-node] Kubelet when scheduling a read only busybox container should not write to root filesystem [LinuxOnly] [NodeConformance] [Conformance]
pub(super) fn printed(ground: &Ground<'_>) {
    let read_only = json!({"securityContext": {"readOnlyRootFilesystem": true}});
    let writer = json!(["/bin/sh", "-c", "echo test > /file; sleep 240"]);
    let containers = [
        script("prints", "echo 'Hello World'; echo 'and errors' >&2; sleep 240"),
        with(command("read-only", &writer), read_only),
    ];
    once(ground, "p", json!({"containers": containers}));
    reaches(ground, "p", "Running");
    let written = |container: &str, lines: &[&str]| {
        ground.wait_until("the output is in the logs", || {
            let written = logs(ground, "p", container);
            // What comes by two ways comes in no order.
            let mut found: Vec<&str> = written.lines().collect();
            found.sort_unstable();
            found == lines
        });
    };
    written("prints", &["Hello World", "and errors"]);
    written("read-only", &["/bin/sh: can't create /file: Read-only file system"]);
}

/// Conformance: [sig-node] Kubelet when scheduling a busybox command that always fails in a pod should have an terminated reason [NodeConformance] [Conformance]
/// Conformance: [sig-node] Kubelet when scheduling a busybox command that always fails in a pod should be possible to delete [NodeConformance] [Conformance]
pub(super) fn failed(ground: &Ground<'_>) {
    once(ground, "p", json!({"containers": [command("c", &json!(["/bin/false"]))]}));
    reaches(ground, "p", "Failed");
    let pod = get(ground, "pod/p");
    assert_eq!(pod["status"]["containerStatuses"].as_array().unwrap().len(), 1);
    let ended = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!((&ended["exitCode"], &ended["reason"]), (&json!(1), &json!("Error")));
    ground.kubectl(&["delete", "pod", "p"]).ok();
    gone(ground, "p");
}

/// Conformance: [sig-node] Container Runtime blackbox test on terminated container should report termination message if TerminationMessagePath is set as non-root user and at a non-default path [NodeConformance] [Conformance]
/// Conformance: [sig-node] Container Runtime blackbox test on terminated container should report termination message from log output if TerminationMessagePolicy FallbackToLogsOnError is set [NodeConformance] [Conformance]
/// Conformance: [sig-node] Container Runtime blackbox test on terminated container should report termination message as empty when pod succeeds and TerminationMessagePolicy FallbackToLogsOnError is set [NodeConformance] [Conformance]
/// Conformance: [sig-node] Container Runtime blackbox test on terminated container should report termination message from file when pod succeeds and TerminationMessagePolicy FallbackToLogsOnError is set [NodeConformance] [Conformance]
pub(super) fn last_words(ground: &Ground<'_>) {
    let custom =
        json!({"terminationMessagePath": "/dev/termination-custom-log", "securityContext": {"runAsUser": 10000}});
    let logs_too = json!({"terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "FallbackToLogsOnError"});
    let cases = [
        ("custom", "/bin/echo -n DONE > /dev/termination-custom-log", &custom, 0, Some("DONE")),
        ("error", "/bin/echo -n DONE; /bin/false", &logs_too, 1, Some("DONE")),
        ("success", "/bin/echo -n DONE; /bin/true", &logs_too, 0, None),
        ("file", "/bin/echo -n OK > /dev/termination-log; /bin/echo DONE; /bin/true", &logs_too, 0, Some("OK")),
    ];
    let containers = cases.map(|(name, line, more, _, _)| with(script(name, line), more.clone()));
    once(ground, "p", json!({"containers": containers}));
    reaches(ground, "p", "Failed");
    for (name, _, _, code, message) in cases {
        let ended = &status(ground, "p", name)["state"]["terminated"];
        assert_eq!((&ended["exitCode"], ended["message"].as_str()), (&json!(code), message), "{name}");
    }
}

/// Fails at first, then succeeds, then runs.
const THREE_LIVES: &str = "
echo hello >> /restart-count/n
case $(wc -l < /restart-count/n) in
1) exit 1;;
2) exit 0;;
esac
trap 'exit 0' TERM; sleep 100000 & wait";

/// Conformance: [sig-node] Container Runtime blackbox test when starting a container that exits should run with the expected status [NodeConformance] [Conformance]
pub(super) fn restart_policies(ground: &Ground<'_>) {
    let cases = [
        ("always", "Always", "Running", 2, "True", "running"),
        ("on-failure", "OnFailure", "Succeeded", 1, "False", "terminated"),
        ("never", "Never", "Failed", 0, "False", "terminated"),
    ];
    for (name, policy, ..) in cases {
        let mounts = json!([{"name": "restart-count", "mountPath": "/restart-count"}]);
        let container = with(script("c", THREE_LIVES), json!({"volumeMounts": mounts}));
        let volumes = json!([{"name": "restart-count", "emptyDir": {"medium": "Memory"}}]);
        run(ground, name, json!({"restartPolicy": policy, "containers": [container], "volumes": volumes}));
    }
    for (name, _, phase, count, is_ready, state) in cases {
        becomes(ground, name, "{.status.containerStatuses[0].restartCount}", &count.to_string());
        if state == "running" {
            ready(ground, name);
        }
        reaches(ground, name, phase);
        assert_eq!(condition(ground, name, "Ready")["status"], is_ready, "{name}");
        let found = status(ground, name, "c");
        assert_eq!(found["state"].as_object().unwrap().keys().collect::<Vec<_>>(), [state], "{name}");
        assert_eq!(restarts(ground, name, "c"), count, "{name}");
        ground.kubectl(&["delete", "pod", name]).ok();
        gone(ground, name);
    }
}

/// Conformance: [sig-node] Kubelet when scheduling an agnhost Pod with hostAliases should write entries to /etc/hosts [NodeConformance] [Conformance]
pub(super) fn host_aliases(ground: &Ground<'_>) {
    let aliases = json!([{"ip": "123.45.67.89", "hostnames": ["foo", "bar"]}]);
    let show = command("c", &json!(["cat", "/etc/hosts"]));
    once(ground, "p", json!({"hostAliases": aliases, "containers": [show]}));
    reaches(ground, "p", "Succeeded");
    wrote(ground, "p", "c", &["# Entries added by HostAliases.", "123.45.67.89\tfoo\tbar"]);
}

/// Conformance: [sig-node] KubeletManagedEtcHosts should test kubelet managed /etc/hosts file [NodeConformance] [Conformance]
pub(super) fn etc_hosts(ground: &Ground<'_>) {
    let mount = |path: &str| json!({"name": "host-etc-hosts", "mountPath": path});
    let original = mount("/etc/hosts-original");
    let reader = |name: &str, mounts: Value| with(idle(name), json!({"volumeMounts": mounts}));
    let host_path = json!({"path": "/etc/hosts", "type": "FileOrCreate"});
    let volumes = json!([{"name": "host-etc-hosts", "hostPath": host_path}]);
    let own = [
        reader("one", json!([original])),
        reader("two", json!([original])),
        reader("mounted", json!([original, mount("/etc/hosts")])),
    ];
    run(ground, "own", json!({"containers": own, "volumes": volumes}));
    let of_host = [reader("one", json!([original])), reader("two", json!([original]))];
    run(ground, "host", json!({"hostNetwork": true, "containers": of_host, "volumes": volumes}));
    let cases = [
        ("own", "one", true),
        ("own", "two", true),
        ("own", "mounted", false),
        ("host", "one", false),
        ("host", "two", false),
    ];
    for pod in ["own", "host"] {
        ready(ground, pod);
    }
    for (pod, container, expected) in cases {
        let read = |path: &str| exec(ground, pod, container, &format!("cat {path}"));
        let (hosts, original) = (read("/etc/hosts"), read("/etc/hosts-original"));
        let is_managed = hosts.starts_with("# Kubernetes-managed hosts file.") && hosts != original;
        assert_eq!(is_managed, expected, "{pod}/{container}: {hosts}");
    }
}
