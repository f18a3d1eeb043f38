//! Pods of the stories about volumes, and waiting for what happens in them.

use e2e::{Ground, Run as _};
use serde_json::{Value, json};

/// What `kubectl wait` is given: far more than it takes, for slow machines.
const PATIENCE: &str = "--timeout=90s";

/// A container that runs a script, with volumes at paths.
pub(super) fn container(name: &str, script: &str, mounts: &[(&str, &str)]) -> Value {
    let mount = |(volume, path): &(&str, &str)| json!({"name": volume, "mountPath": path});
    let mounts: Vec<Value> = mounts.iter().map(mount).collect();
    json!({"name": name, "image": "IMAGE", "command": ["sh", "-c", script], "volumeMounts": mounts})
}

/// A container that does nothing, with each volume at `/<its name>`.
pub(super) fn idle(volumes: &[Value]) -> Value {
    let mounts: Vec<Value> = volumes
        .iter()
        .map(|volume| json!({"name": volume["name"], "mountPath": format!("/{}", volume["name"].as_str().unwrap())}))
        .collect();
    json!({"name": "c", "image": "IMAGE", "command": ["sleep", "100000"], "volumeMounts": mounts})
}

/// A pod that is not started again, and has no time to end.
pub(super) fn pod(name: &str, containers: &[Value], volumes: &[Value]) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
        "restartPolicy": "Never", "terminationGracePeriodSeconds": 0,
        "containers": containers, "volumes": volumes}})
}

/// Creates a pod and waits until all its containers have ended well.
#[track_caller]
pub(super) fn run(ground: &Ground<'_>, pod: &Value) {
    create_until(ground, pod, "Succeeded");
}

/// Creates a pod and waits until it runs.
#[track_caller]
pub(super) fn start(ground: &Ground<'_>, pod: &Value) {
    create_until(ground, pod, "Running");
}

#[track_caller]
fn create_until(ground: &Ground<'_>, pod: &Value, phase: &str) {
    ground.apply(&pod.to_string());
    wait(ground, &format!("pod/{}", pod["metadata"]["name"].as_str().unwrap()), "{.status.phase}", phase);
}

/// Waits until a value of an object is `wanted`, without asking again and again.
#[track_caller]
pub(super) fn wait(ground: &Ground<'_>, object: &str, path: &str, wanted: &str) {
    let waited = ground.kubectl(&["wait", &format!("--for=jsonpath={path}={wanted}"), object, PATIENCE]);
    assert!(waited.success, "{}\n{}", waited.stderr, ground.kubectl(&["get", "pods,pvc,events"]).stdout);
}

/// Waits until an object is gone.
#[track_caller]
pub(super) fn gone(ground: &Ground<'_>, object: &str) {
    ground.kubectl(&["wait", "--for=delete", object, PATIENCE]).ok();
}

/// Waits in a pod's first container until a condition of the shell holds.
#[track_caller]
pub(super) fn until(ground: &Ground<'_>, pod: &str, condition: &str) {
    let script = format!("for i in $(seq 900); do if {condition}; then exit 0; fi; sleep 0.1; done; exit 1");
    let waited = ground.kubectl(&["exec", pod, "--", "sh", "-c", &script]);
    assert!(waited.success, "{condition} does not hold in {pod}: {}", waited.stderr);
}

/// What a container printed.
#[track_caller]
pub(super) fn log(ground: &Ground<'_>, pod: &str, container: &str) -> String {
    ground.kubectl(&["logs", pod, "-c", container]).ok().to_owned()
}

/// Creates objects.
#[track_caller]
pub(super) fn create(ground: &Ground<'_>, object: &Value) {
    ground.command(&["create", "-f", "-"]).output_with(&object.to_string()).ok();
}

/// A script that prints of each file its path, mode and content.
pub(super) fn looking_at(files: &[(&str, &str, &str)]) -> String {
    let paths: Vec<&str> = files.iter().map(|(path, ..)| *path).collect();
    format!(r#"for f in {}; do echo "$f $(stat -Lc %A $f) $(cat $f 2>&1)"; done"#, paths.join(" "))
}

/// What [`looking_at`] prints of files as they shall be.
pub(super) fn looks(files: &[(&str, &str, &str)]) -> String {
    let lines: Vec<String> = files.iter().map(|(path, mode, content)| format!("{path} {mode} {content}")).collect();
    lines.join("\n")
}
