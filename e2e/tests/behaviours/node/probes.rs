//! What is asked of containers all the time, and what follows from their answers.

use e2e::Ground;
use serde_json::{Value, json};

use super::tools::{condition, exec, get, logs, reaches, ready, restarts, run, script, status, with};

/// Asked once a second; the first bad answer counts.
fn probe(action: Value) -> Value {
    with(json!({"periodSeconds": 1, "failureThreshold": 1}), action)
}

fn probed(ground: &Ground<'_>, pod: &str, line: &str, probe: &str, how: Value) {
    let container = with(script("c", line), json!({probe: how}));
    run(ground, pod, json!({"containers": [container]}));
}

/// Seconds.
const DAY: i64 = 24 * 60 * 60;

/// The second of the day of a time as objects have it, such as `2026-11-30T21:48:58Z`.
fn second(time: &Value) -> i64 {
    let text = time.as_str().unwrap();
    let clock = text.split_once('T').unwrap().1.trim_end_matches('Z');
    clock.split(':').fold(0, |sum, part| sum * 60 + part.parse::<i64>().unwrap())
}

/// Conformance: [sig-node] Probing container should be restarted with a exec "cat /tmp/health" liveness probe [NodeConformance] [Conformance]
/// Conformance: [sig-node] Probing container should be restarted with a /healthz http liveness probe [NodeConformance] [Conformance]
/// Conformance: [sig-node] Probing container should be restarted with a GRPC liveness probe [NodeConformance] [Conformance]
pub(super) fn of_dying_containers(ground: &Ground<'_>) {
    // Each is well for some seconds, but for the last: nobody listens there.
    let ill = "echo ok > /tmp/health; sleep 12; rm /tmp/health; sleep 600";
    let exec = json!({"exec": {"command": ["cat", "/tmp/health"]}, "initialDelaySeconds": 5, "timeoutSeconds": 10});
    probed(ground, "exec", ill, "livenessProbe", probe(exec));
    let ill = "mkdir /www; echo ok > /www/healthz; httpd -p 8080 -h /www; sleep 12; rm /www/healthz; sleep 600";
    let http = json!({"httpGet": {"path": "/healthz", "port": 8080}, "initialDelaySeconds": 5, "timeoutSeconds": 10});
    probed(ground, "http", ill, "livenessProbe", probe(http));
    let grpc = json!({"grpc": {"port": 2333}, "initialDelaySeconds": 4});
    probed(ground, "grpc", "nc -ll -p 5000 -e cat", "livenessProbe", probe(grpc));
    for (name, why) in [
        ("exec", "can't open '/tmp/health'"),
        ("http", "statuscode: 404"),
        ("grpc", "timeout: failed to connect service"),
    ] {
        ground.wait_until("it is started again", || restarts(ground, name, "c") >= 1);
        let events = format!("involvedObject.name={name},reason=Unhealthy");
        let message =
            ground.kubectl(&["get", "events", "--field-selector", &events, "-o", "jsonpath={.items[*].message}"]);
        let message = message.ok();
        assert!(message.contains("Liveness probe failed") && message.contains(why), "{name}: {message}");
        let last = &status(ground, name, "c")["lastState"]["terminated"];
        let lived = (second(&last["finishedAt"]) - second(&last["startedAt"])).rem_euclid(DAY);
        assert!(lived >= 3, "{name} was well for {lived} s only");
    }
}

/// Asked once a second; on a machine that is held up, an answer or two may be late.
fn patient(action: Value) -> Value {
    with(probe(action), json!({"failureThreshold": 10, "timeoutSeconds": 30}))
}

/// How often a probe must have been answered before one believes that it goes on so.
const ENOUGH: usize = 5;

/// Conformance: [sig-node] Probing container should *not* be restarted with a exec "cat /tmp/health" liveness probe [NodeConformance] [Conformance]
/// Conformance: [sig-node] Probing container should *not* be restarted with a /healthz http liveness probe [NodeConformance] [Conformance]
/// Conformance: [sig-node] Probing container should *not* be restarted with a tcp:8080 liveness probe [NodeConformance] [Conformance]
pub(super) fn of_healthy_containers(ground: &Ground<'_>) {
    let counting = "echo x >> /tmp/n; cat /tmp/health";
    let command = json!({"exec": {"command": ["sh", "-c", counting]}, "initialDelaySeconds": 1});
    probed(ground, "exec", "echo ok > /tmp/health; sleep 600", "livenessProbe", patient(command));
    let http = json!({"httpGet": {"path": "/healthz", "port": 8080}, "initialDelaySeconds": 1});
    let serve = "mkdir /www; echo ok > /www/healthz; exec httpd -f -vv -p 8080 -h /www";
    probed(ground, "http", serve, "livenessProbe", patient(http));
    // It is open, and speaks no HTTP.
    let tcp = json!({"tcpSocket": {"port": 8080}, "initialDelaySeconds": 1});
    probed(ground, "tcp", "exec nc -ll -p 8080 -e sh -c 'echo x >> /tmp/n'", "livenessProbe", patient(tcp));
    let count = |pod: &str| match pod {
        "http" => logs(ground, pod, "c").matches("url:/healthz").count(),
        _ => exec(ground, pod, "c", "cat /tmp/n 2>/dev/null | wc -l").parse().unwrap(),
    };
    for name in ["exec", "http", "tcp"] {
        reaches(ground, name, "Running");
        ground.wait_until("it was asked often", || count(name) >= ENOUGH);
        assert_eq!(restarts(ground, name, "c"), 0, "{name}");
        assert_eq!(get(ground, &format!("pod/{name}"))["status"]["phase"], "Running", "{name}");
    }
}

/// Conformance: [sig-node] Probing container with readiness probe should not be ready before initial delay and never restart [NodeConformance] [Conformance]
pub(super) fn of_readiness_after_a_delay(ground: &Ground<'_>) {
    const DELAY: i64 = 5;
    let how = probe(json!({"exec": {"command": ["true"]}, "initialDelaySeconds": DELAY}));
    probed(ground, "p", "sleep 600", "readinessProbe", how);
    reaches(ground, "p", "Running");
    ready(ground, "p");
    let began = second(&status(ground, "p", "c")["state"]["running"]["startedAt"]);
    let was_ready = second(&condition(ground, "p", "Ready")["lastTransitionTime"]);
    // It may be midnight between them.
    let delay = (was_ready - began).rem_euclid(DAY);
    assert!((DELAY..DAY / 2).contains(&delay), "ready {delay} s after its start");
    assert_eq!(restarts(ground, "p", "c"), 0);
}

/// Conformance: [sig-node] Probing container with readiness probe that fails should never be ready and never restart [NodeConformance] [Conformance]
pub(super) fn of_readiness_that_never_comes(ground: &Ground<'_>) {
    let how = probe(json!({"exec": {"command": ["sh", "-c", "echo x >> /tmp/n; false"]}}));
    probed(ground, "p", "sleep 600", "readinessProbe", how);
    reaches(ground, "p", "Running");
    let count = || exec(ground, "p", "c", "cat /tmp/n 2>/dev/null | wc -l").parse::<usize>().unwrap();
    ground.wait_until("it was asked often", || {
        assert_eq!(condition(ground, "p", "Ready")["status"], "False");
        count() >= ENOUGH
    });
    let status = status(ground, "p", "c");
    assert_eq!((&status["ready"], &status["restartCount"]), (&json!(false), &json!(0)));
}
