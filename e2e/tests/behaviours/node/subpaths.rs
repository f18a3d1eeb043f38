//! Parts of volumes whose paths are made of variables.

use e2e::Ground;
use serde_json::{Value, json};

use super::tools::{becomes, create, exec, get, gone, idle, logs, once, reaches, restarts, script, with};

fn mount(path: &str, part: &str) -> Value {
    if part.is_empty() {
        return json!({"name": "workdir", "mountPath": path});
    }
    json!({"name": "workdir", "mountPath": path, "subPathExpr": part})
}

fn volumes() -> Value {
    json!([{"name": "workdir", "emptyDir": {}}])
}

/// Conformance: [sig-node] Variable Expansion should allow substituting values in a volume subpath [Conformance]
pub(super) fn part(ground: &Ground<'_>) {
    let mounts = json!([mount("/logscontainer", "$(POD_NAME)"), mount("/testcontainer", "")]);
    let env = json!([{"name": "POD_NAME", "value": "foo"}]);
    let test = script("c", "test -d /testcontainer/foo; echo $?");
    let container = with(test, json!({"env": env, "volumeMounts": mounts}));
    once(ground, "p", json!({"containers": [container], "volumes": volumes()}));
    reaches(ground, "p", "Succeeded");
    assert_eq!(logs(ground, "p", "c"), "0");
}

/// Conformance: [sig-node] Variable Expansion should fail substituting values in a volume subpath with backticks [Conformance]
/// Conformance: [sig-node] Variable Expansion should fail substituting values in a volume subpath with absolute path [Conformance]
pub(super) fn outside(ground: &Ground<'_>) {
    for (name, value) in [("climbs", ".."), ("absolute", "/tmp")] {
        let env = json!([{"name": "POD_NAME", "value": value}]);
        let container = with(idle("c"), json!({"env": env, "volumeMounts": [mount("/logs", "$(POD_NAME)")]}));
        once(ground, name, json!({"containers": [container], "volumes": volumes()}));
    }
    for name in ["climbs", "absolute"] {
        let reason = "{.status.containerStatuses[0].state.waiting.reason}";
        becomes(ground, name, reason, "CreateContainerConfigError");
    }
}

/// A pod with a part of a volume that is named after an annotation.
fn annotated(ground: &Ground<'_>, name: &str, annotations: &Value) {
    let mounts = json!([mount("/subpath_mount", "$(ANNOTATION)/$(POD_NAME)"), mount("/volume_mount", "")]);
    let from = json!({"fieldRef": {"fieldPath": "metadata.annotations['mysubpath']"}});
    let env = json!([{"name": "POD_NAME", "value": "foo"}, {"name": "ANNOTATION", "valueFrom": from}]);
    let container = with(idle("c"), json!({"env": env, "volumeMounts": mounts}));
    let metadata = json!({"name": name, "annotations": annotations});
    let spec = json!({"restartPolicy": "Never", "containers": [container], "volumes": volumes()});
    create(ground, &json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}));
}

fn annotate(ground: &Ground<'_>, name: &str, value: &str) {
    ground.kubectl(&["annotate", "--overwrite", "pod", name, &format!("mysubpath={value}")]).ok();
}

/// Conformance: [sig-node] Variable Expansion should verify that a failing subpath expansion can be modified during the lifecycle of a container [Slow] [Conformance]
pub(super) fn mended(ground: &Ground<'_>) {
    annotated(ground, "p", &json!({"notmysubpath": "mypath"}));
    becomes(ground, "p", "{.status.containerStatuses[0].state.waiting.reason}", "CreateContainerConfigError");
    assert_eq!(get(ground, "pod/p")["status"]["phase"], "Pending");
    annotate(ground, "p", "mypath");
    reaches(ground, "p", "Running");
    ground.kubectl(&["delete", "pod", "p"]).ok();
    gone(ground, "p");
}

/// Conformance: [sig-node] Variable Expansion should succeed in writing subpaths in container [Conformance]
pub(super) fn written(ground: &Ground<'_>) {
    annotated(ground, "p", &json!({"mysubpath": "mypath"}));
    reaches(ground, "p", "Running");
    exec(ground, "p", "c", "touch /volume_mount/mypath/foo/test.log && test -f /subpath_mount/test.log");
    annotate(ground, "p", "mynewpath");
    exec(ground, "p", "c", "test -f /subpath_mount/test.log");
    assert_eq!((&get(ground, "pod/p")["status"]["phase"], restarts(ground, "p", "c")), (&json!("Running"), 0));
    ground.kubectl(&["delete", "pod", "p"]).ok();
    gone(ground, "p");
}
