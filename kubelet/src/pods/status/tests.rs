use std::time::SystemTime;

use k8s_openapi::api::core::v1::ContainerStatus;
use runtime::{ContainerState, Exit, SandboxConfig, SandboxStatus};
use serde_json::{Value, json};

use super::*;

fn at(second: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(second)
}

fn record(name: &str, attempt: u32, code: Option<i32>) -> runtime::ContainerStatus {
    let state = match code {
        None => ContainerState::Running { pid: 1, started_at: at(10) },
        Some(code) => ContainerState::Exited(Exit {
            code,
            signal: None,
            started_at: Some(at(10)),
            finished_at: at(20),
            reason: if code == 0 { "Completed".into() } else { "Error".into() },
            message: String::new(),
        }),
    };
    runtime::ContainerStatus {
        id: format!("{name}{attempt}"),
        sandbox: "s".into(),
        name: name.into(),
        attempt,
        state,
        created_at: at(5),
        image: "busybox:1".into(),
        image_ref: "sha256:1".into(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        log_path: "".into(),
    }
}

#[derive(Default)]
struct Case {
    spec: Value,
    old: Value,
    records: Vec<runtime::ContainerStatus>,
    waiting: Vec<(&'static str, &'static str)>,
    starting: Vec<&'static str>,
    health: Vec<(&'static str, Health)>,
    ended: bool,
    pending: Option<Pending>,
    in_progress: bool,
}

impl Case {
    fn of(spec: Value, records: Vec<runtime::ContainerStatus>) -> Self {
        Self { spec, records, old: json!({}), ..Self::default() }
    }

    fn build(self) -> PodStatus {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "uid": "u", "generation": 2}, "spec": self.spec, "status": self.old
        }))
        .unwrap();
        let sandbox = SandboxStatus {
            id: "s".into(),
            config: SandboxConfig::default(),
            ready: true,
            created_at: at(1),
            ips: vec![[10, 0, 0, 5].into()],
        };
        let waiting = |reason: &str| Waiting { reason: reason.into(), message: "because".into() };
        build(&Facts {
            pod: &pod,
            seen: &Seen::new(vec![sandbox], self.records),
            health: &self.health.into_iter().map(|(id, health)| (id.to_owned(), health)).collect(),
            starting: &self.starting.into_iter().map(str::to_owned).collect(),
            waiting: &self.waiting.into_iter().map(|(name, reason)| (name.to_owned(), waiting(reason))).collect(),
            messages: &BTreeMap::new(),
            verdict: None,
            ended: self.ended,
            condemned: &BTreeSet::new(),
            resize: Resize {
                pending: self.pending.as_ref(),
                in_progress: self.in_progress.then_some(Some(2)),
                error: self.in_progress.then_some("too small"),
            },
            node_ips: &[[10, 1, 1, 1].into()],
            now: Timestamp::from_second(100).unwrap(),
        })
    }
}

fn one(policy: &str) -> Value {
    json!({"restartPolicy": policy, "containers": [{"name": "a", "image": "busybox:1"}]})
}

fn app(status: &PodStatus) -> &ContainerStatus {
    &status.container_statuses.as_ref().unwrap()[0]
}

fn truth<'a>(status: &'a PodStatus, kind: &str) -> &'a str {
    &status.conditions.as_ref().unwrap().iter().find(|condition| condition.type_ == kind).unwrap().status
}

#[test]
fn a_pod_that_is_being_made_is_pending() {
    let status = Case::of(one("Always"), vec![]).build();
    assert_eq!(status.phase.as_deref(), Some("Pending"));
    let waiting = app(&status).state.as_ref().unwrap().waiting.as_ref().unwrap();
    assert_eq!(waiting.reason.as_deref(), Some("ContainerCreating"));
    assert_eq!((truth(&status, "Initialized"), truth(&status, "Ready")), ("True", "False"));
    assert_eq!((status.pod_ip.as_deref(), status.host_ip.as_deref()), (Some("10.0.0.5"), Some("10.1.1.1")));
    assert_eq!(status.observed_generation, Some(2));
}

#[test]
fn phases_follow_containers_and_policy() {
    let check = |policy: &str, code: Option<i32>, ended: bool, expected: &str| {
        let status = Case { ended, ..Case::of(one(policy), vec![record("a", 0, code)]) }.build();
        assert_eq!(status.phase.as_deref(), Some(expected), "{policy} {code:?} {ended}");
    };
    check("Always", None, false, "Running");
    check("Always", Some(0), false, "Running");
    check("OnFailure", Some(1), false, "Running");
    check("OnFailure", Some(0), false, "Succeeded");
    check("Never", Some(1), false, "Failed");
    check("Always", Some(0), true, "Succeeded");
    check("Always", Some(137), true, "Failed");
}

#[test]
fn a_container_that_is_restarted_by_its_own_policy_or_rules_keeps_a_pod_of_policy_never_running() {
    let check = |container: Value, code: i32, expected: &str| {
        let mut spec = one("Never");
        spec["containers"][0].as_object_mut().unwrap().extend(container.as_object().unwrap().clone());
        let status = Case::of(spec.clone(), vec![record("a", 0, Some(code))]).build();
        assert_eq!(status.phase.as_deref(), Some(expected), "{spec} {code}");
        let waiting =
            Case { waiting: vec![("a", "CrashLoopBackOff")], ..Case::of(spec, vec![record("a", 0, Some(code))]) };
        if expected == "Running" {
            assert_eq!(waiting.build().phase.as_deref(), Some("Running"), "in its back-off");
        }
    };
    let rules = json!([{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]);
    check(json!({"restartPolicy": "Never", "restartPolicyRules": rules}), 42, "Running");
    check(json!({"restartPolicy": "Never", "restartPolicyRules": rules}), 1, "Failed");
    check(json!({"restartPolicy": "OnFailure"}), 1, "Running");
    check(json!({"restartPolicy": "OnFailure"}), 0, "Succeeded");
    check(json!({"restartPolicy": "Always"}), 0, "Running");
}

#[test]
fn containers_share_the_room_for_termination_messages() {
    const NAMES: [&str; 4] = ["a", "b", "c", "d"];
    let check = |containers: usize, expected: usize| {
        let mut spec = one("Never");
        let list: Vec<Value> = (0..containers).map(|at| json!({"name": NAMES[at], "image": "i"})).collect();
        spec["containers"] = list.into();
        let mut ended = record("a", 0, Some(1));
        let runtime::ContainerState::Exited(exit) = &mut ended.state else { panic!("it ended") };
        exit.message = "ä".repeat(2500);
        let status = Case::of(spec, vec![ended]).build();
        let message = app(&status).state.as_ref().unwrap().terminated.as_ref().unwrap().message.clone().unwrap();
        assert_eq!(message.len(), expected);
    };
    check(1, 5000);
    check(3, 4096);
    check(4, 3072);
}

#[test]
fn a_crashing_container_waits_and_remembers_its_end() {
    let records = vec![record("a", 0, Some(1)), record("a", 1, Some(2))];
    let status = Case { waiting: vec![("a", "CrashLoopBackOff")], ..Case::of(one("Always"), records) }.build();
    let container = app(&status);
    assert_eq!(container.restart_count, 1);
    assert_eq!(container.state.as_ref().unwrap().waiting.as_ref().unwrap().reason.as_deref(), Some("CrashLoopBackOff"));
    let last = container.last_state.as_ref().unwrap().terminated.as_ref().unwrap();
    assert_eq!((last.exit_code, last.container_id.as_deref()), (2, Some("coracle://a1")));
    assert_eq!(status.phase.as_deref(), Some("Running"));
}

#[test]
fn readiness_needs_the_probes_word() {
    let spec = json!({"containers": [{"name": "a", "readinessProbe": {}, "startupProbe": {}}]});
    let check = |health: Health, expected: (bool, bool)| {
        let status =
            Case { health: vec![("a0", health)], ..Case::of(spec.clone(), vec![record("a", 0, None)]) }.build();
        assert_eq!((app(&status).started.unwrap(), app(&status).ready), expected);
    };
    check(Health::default(), (false, false));
    check(Health { started: Some(true), live: None, ready: None }, (true, false));
    check(Health { started: Some(true), live: None, ready: Some(true) }, (true, true));
}

#[test]
fn a_container_whose_start_is_not_complete_is_not_shown_as_running() {
    let status = Case { starting: vec!["a"], ..Case::of(one("Always"), vec![record("a", 0, None)]) }.build();
    assert!(app(&status).state.as_ref().unwrap().waiting.is_some());
    assert_eq!(status.phase.as_deref(), Some("Pending"));
}

#[test]
fn a_readiness_gate_holds_the_pod_back() {
    let mut spec = one("Always");
    spec["readinessGates"] = json!([{"conditionType": "x/y"}]);
    let status = Case::of(spec.clone(), vec![record("a", 0, None)]).build();
    assert_eq!((truth(&status, "ContainersReady"), truth(&status, "Ready")), ("True", "False"));
    let old = json!({"conditions": [{"type": "x/y", "status": "True"}]});
    let status = Case { old, ..Case::of(spec, vec![record("a", 0, None)]) }.build();
    assert_eq!((truth(&status, "Ready"), truth(&status, "x/y")), ("True", "True"));
}

#[test]
fn transition_times_stay_while_nothing_changes() {
    let first = Case::of(one("Always"), vec![record("a", 0, None)]).build();
    let mut old = serde_json::to_value(&first).unwrap();
    for condition in old["conditions"].as_array_mut().unwrap() {
        condition["lastTransitionTime"] = json!("1970-01-01T00:00:01Z");
    }
    let known: PodStatus = serde_json::from_value(old.clone()).unwrap();
    let second = Case { old, ..Case::of(one("Always"), vec![record("a", 0, None)]) }.build();
    assert_eq!(known, second);
    assert_eq!(patch::status_patch("u", &known, &second), None);
}

#[test]
fn a_container_without_a_record_keeps_its_past() {
    let ended = json!({"terminated": {"exitCode": 0, "reason": "Completed"}});
    let old = json!({"phase": "Succeeded", "containerStatuses": [{"name": "a", "image": "i", "imageID": "x",
        "ready": false, "restartCount": 4, "containerID": "coracle://gone", "state": ended}]});
    let status = Case { old, ended: true, ..Case::of(one("Never"), vec![]) }.build();
    assert_eq!((app(&status).restart_count, status.phase.as_deref()), (4, Some("Succeeded")));
    assert_eq!(app(&status).state.as_ref().unwrap().terminated.as_ref().unwrap().exit_code, 0);
}

#[test]
fn patches_hold_changes_and_clear_what_is_gone() {
    let old: PodStatus = serde_json::from_value(json!({
        "phase": "Pending", "reason": "Because", "podIPs": [{"ip": "1.1.1.1"}], "nominatedNodeName": "n",
        "conditions": [{"type": "Ready", "status": "False", "reason": "X"}, {"type": "mine", "status": "True"}],
    }))
    .unwrap();
    let new: PodStatus = serde_json::from_value(json!({
        "phase": "Running", "podIPs": [{"ip": "2.2.2.2"}],
        "conditions": [{"type": "Ready", "status": "True"}, {"type": "mine", "status": "False"}],
    }))
    .unwrap();
    let expected = json!({"metadata": {"uid": "u"}, "status": {
        "phase": "Running", "reason": null,
        "podIPs": [{"$patch": "replace"}, {"ip": "2.2.2.2"}],
        "conditions": [{"type": "Ready", "status": "True", "reason": null, "message": null}],
    }});
    assert_eq!(patch::status_patch("u", &old, &new), Some(expected));
}

#[test]
fn a_resize_shows_what_is_promised_and_what_is_given_until_they_agree() {
    let spec = json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "2"}}}]});
    let given = |cpu: &str| {
        let mut record = record("c", 0, None);
        let resources = json!({"requests": {"cpu": cpu}}).to_string();
        record.annotations.insert(crate::containers::labels::RESOURCES.to_owned(), resources);
        vec![record]
    };
    let going_on = Case { in_progress: true, ..Case::of(spec.clone(), given("1")) }.build();
    let shown = app(&going_on);
    assert_eq!(shown.allocated_resources.as_ref().unwrap()["cpu"].0, "2");
    assert_eq!(shown.resources.as_ref().unwrap().requests.as_ref().unwrap()["cpu"].0, "1");
    let of = |status: &PodStatus, kind: &str| status.conditions.iter().flatten().find(|one| one.type_ == kind).cloned();
    let condition = of(&going_on, "PodResizeInProgress").unwrap();
    assert_eq!((condition.reason.as_deref(), condition.message.as_deref()), (Some("Error"), Some("too small")));
    let pending = Pending { reason: crate::pods::resize::Reason::Deferred, message: "no room".to_owned() };
    let waiting = Case { pending: Some(pending), ..Case::of(spec.clone(), given("2")) }.build();
    let condition = of(&waiting, "PodResizePending").unwrap();
    assert_eq!((condition.reason.as_deref(), condition.observed_generation), (Some("Deferred"), Some(2)));
    let settled = Case::of(spec, given("2")).build();
    let patch = patch::status_patch("u", &going_on, &settled).unwrap();
    let conditions = patch["status"]["conditions"].as_array().unwrap();
    assert!(conditions.contains(&json!({"type": "PodResizeInProgress", "$patch": "delete"})));
}
