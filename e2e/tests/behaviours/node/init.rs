//! Containers that prepare the others.

use e2e::Ground;
use serde_json::{Value, json};

use super::tools::{command, condition, get, idle, once, reaches, ready, run, status, with};

fn ends(name: &str, how: &str) -> Value {
    command(name, &json!([format!("/bin/{how}")]))
}

fn spec(first: &str, second: &str, main: Value) -> Value {
    json!({"initContainers": [ends("init1", first), ends("init2", second)], "containers": [main]})
}

fn limited() -> Value {
    with(idle("run1"), json!({"resources": {"limits": {"cpu": "100m"}}}))
}

/// Asserts that both have done their work.
fn are_done(ground: &Ground<'_>, pod: &str) {
    assert_eq!(condition(ground, pod, "Initialized")["status"], "True");
    for name in ["init1", "init2"] {
        let status = status(ground, pod, name);
        assert_eq!((&status["ready"], &status["state"]["terminated"]["exitCode"]), (&json!(true), &json!(0)), "{name}");
    }
}

/// Conformance: [sig-node] InitContainer [NodeConformance] should invoke init containers on a RestartNever pod [Conformance]
pub(super) fn before_one_run(ground: &Ground<'_>) {
    once(ground, "p", spec("true", "true", ends("run1", "true")));
    reaches(ground, "p", "Succeeded");
    are_done(ground, "p");
    assert_eq!(status(ground, "p", "run1")["state"]["terminated"]["exitCode"], 0);
}

/// Conformance: [sig-node] InitContainer [NodeConformance] should invoke init containers on a RestartAlways pod [Conformance]
pub(super) fn before_a_service(ground: &Ground<'_>) {
    run(ground, "p", spec("true", "true", limited()));
    reaches(ground, "p", "Running");
    are_done(ground, "p");
    ready(ground, "p");
}

/// Asserts that a container has not been started, since those that prepare it have not ended well.
fn waits(pod: &Value, list: &str, name: &str) {
    let statuses = pod["status"][list].as_array().into_iter().flatten();
    let Some(status) = statuses.into_iter().find(|status| status["name"] == name) else { return };
    assert_eq!(status["state"]["waiting"]["reason"], "PodInitializing", "{name}: {status}");
    assert_eq!(status["restartCount"], 0, "{name}");
}

fn is_incomplete(ground: &Ground<'_>, pod: &str, names: &str) {
    let initialized = condition(ground, pod, "Initialized");
    assert_eq!(
        (&initialized["status"], &initialized["reason"], &initialized["message"]),
        (
            &json!("False"),
            &json!("ContainersNotInitialized"),
            &json!(format!("containers with incomplete status: [{names}]"))
        )
    );
}

/// Conformance: [sig-node] InitContainer [NodeConformance] should not start app containers and fail the pod if init containers fail on a RestartNever pod [Conformance]
pub(super) fn one_fails_for_good(ground: &Ground<'_>) {
    once(
        ground,
        "p",
        spec("true", "false", with(ends("run1", "true"), json!({"resources": {"limits": {"cpu": "100m"}}}))),
    );
    reaches(ground, "p", "Failed");
    let pod = get(ground, "pod/p");
    waits(&pod, "containerStatuses", "run1");
    assert_eq!(pod["status"]["containerStatuses"].as_array().unwrap().len(), 1);
    let codes = ["init1", "init2"].map(|name| status(ground, "p", name)["state"]["terminated"]["exitCode"].clone());
    assert_eq!(codes, [json!(0), json!(1)]);
    is_incomplete(ground, "p", "init2");
}

/// Conformance: [sig-node] InitContainer [NodeConformance] should not start app containers if init containers fail on a RestartAlways pod [Conformance]
pub(super) fn one_fails_again_and_again(ground: &Ground<'_>) {
    run(ground, "p", spec("false", "true", limited()));
    ground.wait_until("the first was started three times again", || {
        let pod = get(ground, "pod/p");
        waits(&pod, "containerStatuses", "run1");
        waits(&pod, "initContainerStatuses", "init2");
        let first = &pod["status"]["initContainerStatuses"][0];
        assert_ne!(first["state"]["terminated"]["exitCode"], 0);
        first["restartCount"].as_u64().is_some_and(|count| count >= 3)
    });
    assert_eq!(get(ground, "pod/p")["status"]["phase"], "Pending");
    is_incomplete(ground, "p", "init1 init2");
}
