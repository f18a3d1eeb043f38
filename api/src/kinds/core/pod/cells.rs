//! How pods are printed: the one kind whose status column is a story (upstream: `printPod`).

use jiff::Timestamp;
use serde_json::Value;

use crate::object::Object;
use crate::table::cell::{NONE, age, list, or, text};
use crate::table::duration::since;

pub(crate) fn cells(pod: &Object, now: Timestamp) -> Vec<Value> {
    let summary = Summary::of(pod);
    let restarts = match summary.last_restart {
        Some(last) if summary.restarts != 0 => format!("{} ({} ago)", summary.restarts, since(last, now)),
        _ => summary.restarts.to_string(),
    };
    let ip = list(pod, &["status", "podIPs"]).first().map_or("", |first| text(first, "ip"));
    vec![
        pod.name().into(),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        restarts.into(),
        age(pod, now).into(),
        or(ip, NONE).into(),
        or(pod.text(&["spec", "nodeName"]), NONE).into(),
        or(pod.text(&["status", "nominatedNodeName"]), NONE).into(),
        readiness_gates(pod).into(),
    ]
}

/// What the containers of a pod say together.
#[derive(Default)]
struct Summary {
    reason: String,
    ready: usize,
    total: usize,
    restarts: i64,
    last_restart: Option<Timestamp>,
}

/// Restarts of some containers.
#[derive(Default)]
struct Restarts {
    count: i64,
    last: Option<Timestamp>,
}

impl Restarts {
    fn add(&mut self, status: &Value) {
        self.count += status.get("restartCount").and_then(Value::as_i64).unwrap_or(0);
        let finished = status.pointer("/lastState/terminated/finishedAt").and_then(Value::as_str);
        self.last = self.last.max(finished.and_then(|at| at.parse().ok()));
    }
}

impl Summary {
    fn of(pod: &Object) -> Self {
        let sidecars = sidecars(pod);
        let mut summary = Self { total: list(pod, &["spec", "containers"]).len() + sidecars.len(), ..Self::default() };
        summary.reason = first_reason(pod);
        let (mut all, mut of_sidecars) = (Restarts::default(), Restarts::default());
        let initializing = summary.init_containers(pod, &sidecars, &mut all, &mut of_sidecars);
        if !initializing || pod.has_condition("Initialized") {
            all = of_sidecars;
            summary.containers(pod, &mut all);
        }
        (summary.restarts, summary.last_restart) = (all.count, all.last);
        if pod.is_being_deleted() {
            if pod.text(&["status", "reason"]) == "NodeLost" {
                summary.reason = "Unknown".to_owned();
            } else if !matches!(pod.text(&["status", "phase"]), "Succeeded" | "Failed") {
                summary.reason = "Terminating".to_owned();
            }
        }
        summary
    }

    /// Goes through the init containers up to the first that is not done; whether there is one.
    fn init_containers(
        &mut self,
        pod: &Object,
        sidecars: &[&str],
        all: &mut Restarts,
        of_sidecars: &mut Restarts,
    ) -> bool {
        for (index, status) in list(pod, &["status", "initContainerStatuses"]).iter().enumerate() {
            let sidecar = sidecars.contains(&text(status, "name"));
            all.add(status);
            if sidecar {
                of_sidecars.add(status);
            }
            let terminated = status.pointer("/state/terminated");
            if terminated.is_some_and(|state| exit_code(state) == 0) {
                continue;
            }
            if sidecar && status.get("started") == Some(&Value::Bool(true)) {
                self.ready += usize::from(is_ready(status));
                continue;
            }
            let waiting = status.pointer("/state/waiting").map_or("", |state| text(state, "reason"));
            self.reason = match terminated {
                Some(state) => format!("Init:{}", why_terminated(state)),
                None if !matches!(waiting, "" | "PodInitializing") => format!("Init:{waiting}"),
                None => format!("Init:{index}/{}", list(pod, &["spec", "initContainers"]).len()),
            };
            return true;
        }
        false
    }

    /// Goes through the containers; the first one that has something to tell decides.
    fn containers(&mut self, pod: &Object, restarts: &mut Restarts) {
        let mut running = false;
        for status in list(pod, &["status", "containerStatuses"]).iter().rev() {
            restarts.add(status);
            let waiting = status.pointer("/state/waiting").map_or("", |state| text(state, "reason"));
            if !waiting.is_empty() {
                self.reason = waiting.to_owned();
            } else if let Some(state) = status.pointer("/state/terminated") {
                self.reason = why_terminated(state);
            } else if is_ready(status) && status.pointer("/state/running").is_some() {
                running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" && running {
            self.reason = if pod.has_condition("Ready") { "Running" } else { "NotReady" }.to_owned();
        }
    }
}

/// Names of init containers that go on running.
fn sidecars(pod: &Object) -> Vec<&str> {
    let init = list(pod, &["spec", "initContainers"]).iter();
    init.filter(|container| text(container, "restartPolicy") == "Always")
        .map(|container| text(container, "name"))
        .collect()
}

/// The reason before any container is asked.
fn first_reason(pod: &Object) -> String {
    let scheduled = pod.condition("PodScheduled");
    let gated = scheduled.is_some_and(|scheduled| text(scheduled, "reason") == "SchedulingGated");
    let phase = or(pod.text(&["status", "reason"]), pod.text(&["status", "phase"]));
    if gated { "SchedulingGated" } else { phase }.to_owned()
}

fn is_ready(status: &Value) -> bool {
    status.get("ready") == Some(&Value::Bool(true))
}

fn exit_code(state: &Value) -> i64 {
    state.get("exitCode").and_then(Value::as_i64).unwrap_or(0)
}

fn why_terminated(state: &Value) -> String {
    let signal = state.get("signal").and_then(Value::as_i64).unwrap_or(0);
    match text(state, "reason") {
        "" if signal != 0 => format!("Signal:{signal}"),
        "" => format!("ExitCode:{}", exit_code(state)),
        reason => reason.to_owned(),
    }
}

fn readiness_gates(pod: &Object) -> String {
    let gates = list(pod, &["spec", "readinessGates"]);
    if gates.is_empty() {
        return NONE.to_owned();
    }
    let open = gates.iter().filter(|gate| pod.has_condition(text(gate, "conditionType"))).count();
    format!("{open}/{}", gates.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Ready, status and restarts of a pod at 1970-01-01T00:10:00Z.
    fn check(spec: Value, status: Value, want: [&str; 3]) {
        let pod = Object::from_value(json!({"metadata": {"name": "p"}, "spec": spec, "status": status})).unwrap();
        let cells = cells(&pod, Timestamp::from_second(600).unwrap());
        assert_eq!(cells[1..4], want.map(Value::from), "{status}");
    }

    #[test]
    fn the_status_says_what_keeps_the_pod_from_running() {
        let one = json!({"containers": [{"name": "c"}]});
        let status = |state: Value| json!({"phase": "Running", "containerStatuses": [{"name": "c", "restartCount": 3, "state": state, "lastState": {"terminated": {"finishedAt": "1970-01-01T00:05:00Z"}}}]});
        check(one.clone(), json!({"phase": "Pending"}), ["0/1", "Pending", "0"]);
        check(
            one.clone(),
            status(json!({"waiting": {"reason": "CrashLoopBackOff"}})),
            ["0/1", "CrashLoopBackOff", "3 (5m ago)"],
        );
        check(one.clone(), status(json!({"terminated": {"exitCode": 2}})), ["0/1", "ExitCode:2", "3 (5m ago)"]);
        check(
            one.clone(),
            status(json!({"terminated": {"exitCode": 2, "signal": 9}})),
            ["0/1", "Signal:9", "3 (5m ago)"],
        );
        let running = json!({"phase": "Running", "containerStatuses": [{"name": "c", "ready": true, "restartCount": 0, "state": {"running": {}}}]});
        check(one.clone(), running, ["1/1", "Running", "0"]);
        let gated = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]});
        check(one, gated, ["0/1", "SchedulingGated", "0"]);
    }

    #[test]
    fn init_containers_are_counted_until_they_are_done() {
        let spec = json!({"containers": [{"name": "c"}], "initContainers": [{"name": "a"}, {"name": "s", "restartPolicy": "Always"}, {"name": "b"}]});
        let done = json!({"name": "a", "restartCount": 1, "state": {"terminated": {"exitCode": 0}}});
        let sidecar = json!({"name": "s", "ready": true, "started": true, "restartCount": 2, "state": {"running": {}}});
        let waiting = json!({"name": "b", "restartCount": 0, "state": {"waiting": {"reason": "PodInitializing"}}});
        check(
            spec.clone(),
            json!({"phase": "Pending", "initContainerStatuses": [done, sidecar, waiting]}),
            ["1/2", "Init:2/3", "3"],
        );
        let failed =
            json!({"name": "a", "restartCount": 1, "state": {"terminated": {"exitCode": 1, "reason": "Error"}}});
        check(spec, json!({"phase": "Pending", "initContainerStatuses": [failed]}), ["0/2", "Init:Error", "1"]);
    }

    #[test]
    fn deleted_pods_terminate_until_their_phase_is_final() {
        let mut pod = Object::from_value(
            json!({"metadata": {"deletionTimestamp": "1970-01-01T00:00:00Z"}, "status": {"phase": "Running"}}),
        )
        .unwrap();
        assert_eq!(cells(&pod, Timestamp::UNIX_EPOCH)[2], "Terminating");
        pod.set(&["status", "phase"], "Succeeded");
        assert_eq!(cells(&pod, Timestamp::UNIX_EPOCH)[2], "Succeeded");
    }
}
