use std::time::SystemTime;

use runtime::{Exit, SandboxConfig, SandboxStatus};
use serde_json::{Value, json};

use super::*;

fn sandbox(attempt: u32, ready: bool) -> SandboxStatus {
    SandboxStatus {
        id: format!("s{attempt}"),
        config: SandboxConfig { attempt, ..SandboxConfig::default() },
        ready,
        created_at: SystemTime::UNIX_EPOCH,
        ips: vec![],
    }
}

/// `up`, `new` or an exit code.
fn record(name: &str, attempt: u32, state: &str) -> ContainerStatus {
    let at = SystemTime::UNIX_EPOCH;
    let state = match state {
        "up" => ContainerState::Running { pid: 1, started_at: at },
        "new" => ContainerState::Created,
        code => ContainerState::Exited(Exit {
            code: code.parse().unwrap(),
            signal: None,
            started_at: Some(at),
            finished_at: at,
            reason: String::new(),
            message: String::new(),
        }),
    };
    ContainerStatus {
        id: format!("{name}-{attempt}"),
        sandbox: "s0".into(),
        name: name.into(),
        attempt,
        state,
        created_at: at,
        image: String::new(),
        image_ref: String::new(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        log_path: "".into(),
    }
}

struct Case {
    spec: Value,
    live: bool,
    records: Vec<ContainerStatus>,
    health: BTreeMap<String, Health>,
    busy: BTreeSet<String>,
    condemned: BTreeSet<String>,
}

fn case(spec: Value, records: &[(&str, u32, &str)]) -> Case {
    let records = records.iter().map(|(name, attempt, state)| record(name, *attempt, state)).collect();
    Case { spec, live: true, records, health: BTreeMap::new(), busy: BTreeSet::new(), condemned: BTreeSet::new() }
}

/// Says in one line what would be done.
fn plan(case: Case) -> String {
    let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "uid": "u"}, "spec": case.spec})).unwrap();
    let sandboxes = if case.live { vec![sandbox(0, true)] } else { vec![] };
    let seen = Seen::new(sandboxes, case.records);
    let view = View { pod: &pod, seen: &seen, health: &case.health, busy: &case.busy, condemned: &case.condemned };
    let actions = compute_actions(&view);
    let mut words = Vec::new();
    words.extend(actions.create_sandbox.map(|attempt| format!("sandbox {attempt}")));
    words.extend(actions.kill.iter().map(|kill| format!("kill {} {}s", kill.id, kill.grace.as_secs())));
    words.extend(actions.start.iter().map(|name| format!("start {name}")));
    words.extend(actions.finished.then(|| "finish".to_owned()));
    words.join(", ")
}

fn one(policy: &str) -> Value {
    json!({"restartPolicy": policy, "containers": [{"name": "a"}]})
}

fn with_init() -> Value {
    json!({
        "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}, {"name": "j"}],
        "containers": [{"name": "a"}, {"name": "b"}],
    })
}

#[test]
fn a_new_pod_gets_a_sandbox_and_then_its_containers() {
    assert_eq!(plan(Case { live: false, ..case(one("Always"), &[]) }), "sandbox 0");
    assert_eq!(plan(case(one("Always"), &[])), "start a");
    assert_eq!(plan(case(one("Always"), &[("a", 0, "up")])), "");
}

#[test]
fn a_busy_container_is_left_alone() {
    let busy = BTreeSet::from(["a".to_owned()]);
    assert_eq!(plan(Case { busy, ..case(one("Always"), &[]) }), "");
}

#[test]
fn ended_containers_are_restarted_by_policy() {
    let check = |policy: &str, state: &str, expected: &str| {
        assert_eq!(plan(case(one(policy), &[("a", 0, state)])), expected, "{policy} {state}");
    };
    check("Always", "0", "start a");
    check("Always", "1", "start a");
    check("OnFailure", "1", "start a");
    check("OnFailure", "0", "finish");
    check("Never", "0", "finish");
    check("Never", "1", "finish");
    check("Never", "new", "start a");
}

#[test]
fn a_containers_own_rules_win_over_the_pods_policy() {
    let rules = json!([{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]);
    let spec = json!({"restartPolicy": "Never",
        "containers": [{"name": "a", "restartPolicy": "Never", "restartPolicyRules": rules}]});
    assert_eq!(plan(case(spec.clone(), &[("a", 0, "42")])), "start a");
    assert_eq!(plan(case(spec, &[("a", 0, "1")])), "finish");
}

#[test]
fn init_containers_run_one_after_the_other_and_sidecars_stay() {
    let check = |records: &[(&str, u32, &str)], expected: &str| assert_eq!(plan(case(with_init(), records)), expected);
    check(&[], "start i");
    check(&[("i", 0, "up")], "");
    check(&[("i", 0, "1")], "start i");
    check(&[("i", 0, "0")], "start s");
    check(&[("i", 0, "0"), ("s", 0, "up")], "start j");
    check(&[("i", 0, "0"), ("s", 0, "1")], "start s");
    check(&[("i", 0, "0"), ("s", 0, "up"), ("j", 0, "0")], "start a, start b");
    let up = [("i", 0, "0"), ("j", 0, "0"), ("a", 0, "up"), ("b", 0, "up")];
    check(&[&up[..], &[("s", 0, "0")]].concat(), "start s");
}

#[test]
fn a_failed_init_container_of_policy_never_ends_the_pod() {
    let mut spec = with_init();
    spec["restartPolicy"] = json!("Never");
    assert_eq!(plan(case(spec, &[("i", 0, "1")])), "finish");
}

#[test]
fn sidecars_do_not_keep_a_finished_pod_alive() {
    let mut spec = with_init();
    spec["restartPolicy"] = json!("Never");
    let records = [("i", 0, "0"), ("j", 0, "0"), ("s", 0, "up"), ("a", 0, "0"), ("b", 0, "0")];
    assert_eq!(plan(case(spec, &records)), "finish");
}

#[test]
fn failed_probes_condemn_a_container_with_their_own_grace() {
    let spec = json!({"terminationGracePeriodSeconds": 30, "containers": [
        {"name": "a", "livenessProbe": {"terminationGracePeriodSeconds": 5}, "startupProbe": {}}]});
    let check = |health: Health, expected: &str| {
        let health = BTreeMap::from([("a-0".to_owned(), health)]);
        assert_eq!(plan(Case { health, ..case(spec.clone(), &[("a", 0, "up")]) }), expected);
    };
    check(Health { started: Some(true), live: Some(true), ready: Some(false) }, "");
    check(Health { started: Some(true), live: Some(false), ready: None }, "kill a-0 5s");
    check(Health { started: Some(false), live: None, ready: None }, "kill a-0 30s");
}

#[test]
fn a_changed_image_replaces_the_container() {
    let mut old = record("a", 0, "up");
    old.labels.insert(HASH_LABEL.into(), "another".into());
    let mut case = case(one("Always"), &[]);
    case.records.push(old);
    assert_eq!(plan(case), "kill a-0 30s");
}

#[test]
fn what_was_stopped_to_be_started_again_is_started_whatever_it_exited_with() {
    let check = |policy: &str, expected: &str| {
        let mut case = case(one(policy), &[("a", 0, "0")]);
        case.condemned.insert("a-0".to_owned());
        assert_eq!(plan(case), expected, "{policy}");
    };
    check("Always", "start a");
    check("OnFailure", "start a");
    check("Never", "finish");
}

#[test]
fn a_size_that_needs_a_new_start_stops_the_container() {
    let sized = |policy: &str| {
        let mut spec = one("Always");
        let container = &mut spec["containers"][0];
        container["resources"] = json!({"requests": {"cpu": "2"}});
        container["resizePolicy"] = json!([{"resourceName": "cpu", "restartPolicy": policy}]);
        let mut old = record("a", 0, "up");
        old.annotations
            .insert(crate::containers::labels::RESOURCES.into(), json!({"requests": {"cpu": "1"}}).to_string());
        let mut case = case(spec, &[]);
        case.records.push(old);
        plan(case)
    };
    assert_eq!(sized("RestartContainer"), "kill a-0 30s");
    assert_eq!(sized("NotRequired"), "");
}

#[test]
fn a_lost_sandbox_is_replaced_unless_the_pod_is_over() {
    let check = |policy: &str, state: &str, expected: &str| {
        let pod: Pod = serde_json::from_value(json!({"spec": one(policy)})).unwrap();
        let seen = Seen::new(vec![sandbox(3, false)], vec![record("a", 0, state)]);
        let (health, none) = (BTreeMap::new(), BTreeSet::new());
        let view = View { pod: &pod, seen: &seen, health: &health, busy: &none, condemned: &none };
        let actions = compute_actions(&view);
        let text = format!("{:?} {} {}", actions.create_sandbox, actions.finished, actions.kill.len());
        assert_eq!(text, expected, "{policy} {state}");
    };
    check("Always", "1", "Some(4) false 0");
    check("Always", "up", "Some(4) false 1");
    check("OnFailure", "0", "None true 0");
    check("Never", "1", "None true 0");
}

#[test]
fn sidecars_stop_after_the_others_and_in_reverse() {
    let spec = json!({
        "initContainers": [{"name": "s", "restartPolicy": "Always"}, {"name": "t", "restartPolicy": "Always"}],
        "containers": [{"name": "a"}],
    });
    let pod: Pod = serde_json::from_value(json!({"spec": spec})).unwrap();
    let check = |running: &[&str], expected: &[&str]| {
        let records = running.iter().map(|name| record(name, 0, "up")).collect();
        let seen = Seen::new(vec![], records);
        let next: Vec<_> = stop_next(&pod, &seen).iter().map(|container| container.name.as_str()).collect();
        assert_eq!(next, expected);
    };
    check(&["s", "t", "a"], &["a"]);
    check(&["s", "t"], &["t"]);
    check(&["s"], &["s"]);
    check(&[], &[]);
}

#[test]
fn the_hash_covers_name_and_image() {
    let container = |image: &str| Container { name: "a".into(), image: Some(image.into()), ..Container::default() };
    assert_eq!(container_hash(&container("x")), container_hash(&container("x")));
    assert_ne!(container_hash(&container("x")), container_hash(&container("y")));
}
