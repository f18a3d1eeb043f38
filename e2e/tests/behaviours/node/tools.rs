//! Pods in few words, and what became of them.

use e2e::{Ground, Run as _};
use serde_json::{Value, json};

/// How long one waits for a pod: far more than it takes, for slow machines.
const PATIENCE: &str = "--timeout=90s";

/// A container that runs a script.
pub(super) fn script(name: &str, script: &str) -> Value {
    command(name, &json!(["sh", "-c", script]))
}

/// A container that runs a command.
pub(super) fn command(name: &str, command: &Value) -> Value {
    json!({"name": name, "image": "IMAGE", "command": command})
}

/// A container that runs until it is told to end, and then ends at once.
pub(super) fn idle(name: &str) -> Value {
    script(name, "trap 'exit 0' TERM; sleep 100000 & wait")
}

/// An object with more fields.
pub(super) fn with(mut object: Value, more: Value) -> Value {
    let (Value::Object(fields), Value::Object(more)) = (&mut object, more) else { panic!("two objects") };
    fields.extend(more);
    object
}

/// Makes a pod that never restarts its containers.
#[track_caller]
pub(super) fn once(ground: &Ground<'_>, name: &str, spec: Value) {
    run(ground, name, with(json!({"restartPolicy": "Never"}), spec));
}

/// Makes a pod that has the label `app` with its name; its containers have a second to end unless it says otherwise.
#[track_caller]
pub(super) fn run(ground: &Ground<'_>, name: &str, spec: Value) {
    let spec = with(json!({"terminationGracePeriodSeconds": 1}), spec);
    let pod =
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": spec});
    create(ground, &pod);
}

/// Makes an object.
#[track_caller]
pub(super) fn create(ground: &Ground<'_>, object: &Value) {
    ground.apply(&object.to_string());
}

/// Waits until a pod is in a phase.
#[track_caller]
pub(super) fn reaches(ground: &Ground<'_>, pod: &str, phase: &str) {
    becomes(ground, pod, "{.status.phase}", phase);
}

/// Waits until a JSONPath of a pod has a value.
#[track_caller]
pub(super) fn becomes(ground: &Ground<'_>, pod: &str, path: &str, value: &str) {
    await_pod(ground, pod, &format!("--for=jsonpath={path}={value}"));
}

/// Waits until a pod is ready.
#[track_caller]
pub(super) fn ready(ground: &Ground<'_>, pod: &str) {
    await_pod(ground, pod, "--for=condition=Ready");
}

/// Waits until a pod is no more.
#[track_caller]
pub(super) fn gone(ground: &Ground<'_>, pod: &str) {
    if ground.kubectl(&["get", "pod", pod]).success {
        await_pod(ground, pod, "--for=delete");
    }
}

#[track_caller]
fn await_pod(ground: &Ground<'_>, pod: &str, what: &str) {
    let waited = ground.kubectl(&["wait", what, &format!("pod/{pod}"), PATIENCE]);
    if !waited.success {
        let told = ground.kubectl(&["describe", "pod", pod]).stdout;
        panic!("{}: {}\n{told}", waited.command, waited.stderr);
    }
}

/// An object such as `pod/p`.
#[track_caller]
pub(super) fn get(ground: &Ground<'_>, object: &str) -> Value {
    parsed(ground.kubectl(&["get", object, "-o", "json"]).ok())
}

/// What kubectl printed as JSON.
#[track_caller]
pub(super) fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|err| panic!("{err}: {text}"))
}

/// The names of the pods with a label.
#[track_caller]
pub(super) fn labelled(ground: &Ground<'_>, label: &str) -> Vec<String> {
    let names = ground.kubectl(&["get", "pods", "-l", label, "-o", "name"]).ok().to_owned();
    names.lines().map(|name| name.trim_start_matches("pod/").to_owned()).collect()
}

/// What a container has written, without surrounding space.
#[track_caller]
pub(super) fn logs(ground: &Ground<'_>, pod: &str, container: &str) -> String {
    ground.kubectl(&["logs", pod, "-c", container]).ok().to_owned()
}

/// Asserts that a container has written these lines, among others.
#[track_caller]
pub(super) fn wrote(ground: &Ground<'_>, pod: &str, container: &str, lines: &[&str]) {
    let written = logs(ground, pod, container);
    for line in lines {
        assert!(written.lines().any(|known| known == *line), "no {line:?} in:\n{written}");
    }
}

/// What a shell command prints in a container, without surrounding space.
#[track_caller]
pub(super) fn exec(ground: &Ground<'_>, pod: &str, container: &str, script: &str) -> String {
    ground.kubectl(&["exec", pod, "-c", container, "--", "sh", "-c", script]).ok().to_owned()
}

/// The status of a container, of whatever kind.
#[track_caller]
pub(super) fn status(ground: &Ground<'_>, pod: &str, container: &str) -> Value {
    let status = &get(ground, &format!("pod/{pod}"))["status"];
    let lists = ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"];
    let mut all = lists.iter().flat_map(|list| status[list].as_array().into_iter().flatten());
    all.find(|status| status["name"] == container).cloned().unwrap_or_default()
}

/// A condition of a pod; null where there is none.
#[track_caller]
pub(super) fn condition(ground: &Ground<'_>, pod: &str, kind: &str) -> Value {
    let pod = get(ground, &format!("pod/{pod}"));
    let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions.find(|condition| condition["type"] == kind).cloned().unwrap_or_default()
}

/// How often a container was started again.
#[track_caller]
pub(super) fn restarts(ground: &Ground<'_>, pod: &str, container: &str) -> u64 {
    status(ground, pod, container)["restartCount"].as_u64().unwrap_or(0)
}

/// Sends a merge patch, and returns the object as it is then.
#[track_caller]
pub(super) fn patch(ground: &Ground<'_>, pod: &str, kind: &str, subresource: Option<&str>, patch: &Value) -> Value {
    let (kind, patch) = (format!("--type={kind}"), patch.to_string());
    let mut arguments = vec!["patch", "pod", pod, &kind, "-p", &patch, "-o", "json"];
    let subresource = subresource.map(|name| format!("--subresource={name}"));
    arguments.extend(subresource.as_deref());
    parsed(ground.kubectl(&arguments).ok())
}

/// Replaces what is at a path of the API, and returns the answer; `None` when somebody else wrote meanwhile.
#[track_caller]
pub(super) fn replace(ground: &Ground<'_>, path: &str, object: &Value) -> Option<Value> {
    let answer = ground.command(&["replace", "--raw", path, "-f", "-"]).output_with(&object.to_string());
    let is_late = !answer.success && answer.stderr.contains("the object has been modified");
    (!is_late).then(|| parsed(answer.ok()))
}
