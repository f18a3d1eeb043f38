//! The kubelet against a real API server in this process and a runtime in memory.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod node;

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use node::{TestNode, condition, container, is_ready, phase, waiting_reason};
use runtime::Runtime as _;
use runtime::fake::Behavior;
use serde_json::json;

#[tokio::test]
async fn the_node_registers_and_becomes_ready() {
    let node = TestNode::start().await;
    let object = node.wait_for_node(is_ready).await;
    assert_eq!(object.metadata.labels.unwrap()["kubernetes.io/hostname"], "node-1");
    let status = object.status.unwrap();
    assert!(status.allocatable.unwrap().contains_key("cpu"));
    assert!(status.node_info.unwrap().kubelet_version.starts_with("v1.36."));
    node.wait_for_lease().await;
}

#[tokio::test]
async fn a_pod_runs_becomes_ready_and_is_deleted() {
    let node = TestNode::start().await;
    node.create("web", json!({"containers": [{"name": "c", "image": "busybox:1"}]})).await;
    let pod = node.wait_for("web", |pod| condition(pod, "Ready") == Some("True")).await;
    assert_eq!(phase(&pod), "Running");
    let status = pod.status.clone().unwrap();
    assert!(status.pod_ip.is_some() && status.host_ip.is_some());
    assert_eq!(status.qos_class.as_deref(), Some("BestEffort"));
    let status = container(&pod, "c");
    assert!(status.ready && status.started == Some(true) && status.restart_count == 0);
    assert!(status.container_id.as_ref().unwrap().starts_with("coracle://"));
    node.delete("web").await;
    node.wait_until_gone("web").await;
    node.wait_for_no_sandboxes().await;
}

#[tokio::test]
async fn an_unusual_system_call_is_an_event_of_its_pod() {
    let node = TestNode::start().await;
    node.create("odd", json!({"containers": [{"name": "c", "image": "busybox:1"}]})).await;
    let pod = node.wait_for("odd", |pod| condition(pod, "Ready") == Some("True")).await;
    let id = container(&pod, "c").container_id.unwrap();
    let unusual = runtime::UnusualCall {
        call: "unshare".to_owned(),
        program: "nginx (/usr/sbin/nginx)".to_owned(),
        reason: "it has run for 500 s without such a call".to_owned(),
        refused: false,
    };
    let calls = runtime::WatchedCalls { counts: Vec::new(), unusual: vec![unusual] };
    node.runtime.tell_calls(id.strip_prefix("coracle://").unwrap(), calls).unwrap();
    node.wait_for_event("odd", "UnusualSystemCall").await;
}

#[tokio::test]
async fn an_ended_container_is_restarted_and_then_backs_off() {
    let node = TestNode::start().await;
    node.runtime.behave("c", [Behavior::Exit { after: Duration::from_millis(20), code: 3 }]);
    node.create("crash", json!({"containers": [{"name": "c", "image": "busybox:1"}]})).await;
    let pod = node.wait_for("crash", |pod| waiting_reason(pod, "c") == Some("CrashLoopBackOff")).await;
    let status = container(&pod, "c");
    assert_eq!(status.restart_count, 1);
    let last = status.last_state.unwrap().terminated.unwrap();
    assert_eq!((last.exit_code, last.reason.as_deref()), (3, Some("Error")));
    assert!(
        status
            .state
            .unwrap()
            .waiting
            .unwrap()
            .message
            .unwrap()
            .starts_with("back-off 10s restarting failed container=c")
    );
    node.wait_for_event("crash", "BackOff").await;
}

#[tokio::test]
async fn a_pod_that_never_restarts_succeeds_or_fails() {
    let node = TestNode::start().await;
    node.runtime.behave("good", [Behavior::Exit { after: Duration::ZERO, code: 0 }]);
    node.runtime.behave("bad", [Behavior::Exit { after: Duration::ZERO, code: 1 }]);
    let spec = |name: &str| json!({"restartPolicy": "Never", "containers": [{"name": name, "image": "busybox:1"}]});
    node.create("one", spec("good")).await;
    node.create("two", spec("bad")).await;
    node.wait_for("one", |pod| phase(pod) == "Succeeded").await;
    let failed = node.wait_for("two", |pod| phase(pod) == "Failed").await;
    assert_eq!(condition(&failed, "Ready"), Some("False"));
}

#[tokio::test]
async fn init_containers_run_in_order_before_the_others() {
    let node = TestNode::start().await;
    let end = Behavior::Exit { after: Duration::ZERO, code: 0 };
    node.runtime.behave("first", [end.clone()]);
    node.runtime.behave("second", [end]);
    let spec = json!({
        "initContainers": [
            {"name": "first", "image": "busybox:1"},
            {"name": "side", "image": "busybox:1", "restartPolicy": "Always"},
            {"name": "second", "image": "busybox:1"},
        ],
        "containers": [{"name": "c", "image": "busybox:1"}],
    });
    node.create("init", spec).await;
    node.wait_for("init", |pod| condition(pod, "Ready") == Some("True")).await;
    let starts: Vec<String> = node
        .runtime
        .calls()
        .into_iter()
        .filter_map(|call| call.strip_prefix("start_container ").map(str::to_owned))
        .collect();
    assert_eq!(starts, ["first", "side", "second", "c"]);
}

#[tokio::test]
async fn the_images_of_volumes_are_pulled_by_their_own_policies_before_a_container_that_mounts_them_starts() {
    let node = TestNode::start().await;
    let spec = |image: &str, policy: &str| {
        json!({
            "containers": [{"name": "c", "image": "busybox:1", "volumeMounts": [{"name": "files", "mountPath": "/f"}]}],
            "volumes": [
                {"name": "files", "image": {"reference": image, "pullPolicy": policy}},
                {"name": "unused", "image": {"reference": "unused:1"}},
            ],
        })
    };
    node.create("good", spec("files:1", "IfNotPresent")).await;
    node.wait_for("good", |pod| phase(pod) == "Running").await;
    let calls = node.runtime.calls();
    let at = |what: &str| calls.iter().position(|call| call == what);
    assert!(at("pull_image files:1").is_some() && at("pull_image files:1") < at("create_container c"), "{calls:?}");
    assert_eq!(at("pull_image unused:1"), None);
    node.runtime.fail_pull("gone:1", "manifest unknown");
    node.create("bad", spec("gone:1", "Always")).await;
    node.wait_for("bad", |pod| waiting_reason(pod, "c") == Some("ErrImagePull")).await;
    node.wait_for("bad", |pod| waiting_reason(pod, "c") == Some("ImagePullBackOff")).await;
    node.create("never", spec("absent:1", "Never")).await;
    node.wait_for("never", |pod| waiting_reason(pod, "c") == Some("ErrImageNeverPull")).await;
}

#[tokio::test]
async fn a_missing_image_shows_the_registrys_words_and_backs_off() {
    let node = TestNode::start().await;
    node.runtime.fail_pull("nowhere/app:1", "manifest unknown");
    node.create("pull", json!({"containers": [{"name": "c", "image": "nowhere/app:1"}]})).await;
    let pod = node.wait_for("pull", |pod| waiting_reason(pod, "c") == Some("ErrImagePull")).await;
    assert!(container(&pod, "c").state.unwrap().waiting.unwrap().message.unwrap().contains("manifest unknown"));
    node.wait_for("pull", |pod| waiting_reason(pod, "c") == Some("ImagePullBackOff")).await;
    node.wait_for_event("pull", "Failed").await;
}

#[tokio::test]
async fn a_missing_config_map_holds_the_container_back_until_it_exists() {
    let node = TestNode::start().await;
    let env = json!([{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "a"}}}]);
    node.create("env", json!({"containers": [{"name": "c", "image": "busybox:1", "env": env}]})).await;
    let pod = node.wait_for("env", |pod| waiting_reason(pod, "c") == Some("CreateContainerConfigError")).await;
    let message = container(&pod, "c").state.unwrap().waiting.unwrap().message.unwrap();
    assert_eq!(message, "configmaps \"settings\" not found");
    node.create_config_map("settings", &[("a", "1")]).await;
    node.wait_for("env", |pod| condition(pod, "Ready") == Some("True")).await;
}

#[tokio::test]
async fn volumes_hold_what_their_sources_say_and_follow_changes() {
    let node = TestNode::start().await;
    node.create_config_map("files", &[("a", "1")]).await;
    let spec = json!({
        "containers": [{"name": "c", "image": "busybox:1", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
        "volumes": [{"name": "v", "configMap": {"name": "files"}}],
    });
    let pod = node.create("volumes", spec).await;
    node.wait_for("volumes", |pod| condition(pod, "Ready") == Some("True")).await;
    let volume = node.pod_dir(&pod).join("volumes/kubernetes.io~configmap/v");
    assert_eq!(std::fs::read_to_string(volume.join("a")).unwrap(), "1");
    node.update_config_map("files", &[("a", "2"), ("b", "3")]).await;
    node.eventually(|| std::fs::read_to_string(volume.join("b")).is_ok_and(|text| text == "3")).await;
    assert_eq!(std::fs::read_to_string(volume.join("a")).unwrap(), "2");
}

#[tokio::test]
async fn readiness_follows_its_probe_and_liveness_restarts() {
    let node = TestNode::start().await;
    let answer = std::sync::Arc::new(std::sync::atomic::AtomicI32::new(1));
    let code = std::sync::Arc::clone(&answer);
    node.runtime.on_exec(move |_, command| runtime::ExecOutput {
        stdout: Vec::new(),
        stderr: b"not yet".to_vec(),
        exit_code: if command[0] == "alive" { 0 } else { code.load(std::sync::atomic::Ordering::SeqCst) },
    });
    let probe = |command: &str| json!({"exec": {"command": [command]}, "periodSeconds": 1, "failureThreshold": 1});
    let spec = json!({"containers": [{"name": "c", "image": "busybox:1", "readinessProbe": probe("ready"), "livenessProbe": probe("alive")}]});
    node.create("probed", spec).await;
    let pod = node.wait_for("probed", |pod| phase(pod) == "Running").await;
    assert_eq!(condition(&pod, "Ready"), Some("False"));
    node.wait_for_event("probed", "Unhealthy").await;
    answer.store(0, std::sync::atomic::Ordering::SeqCst);
    node.wait_for("probed", |pod| condition(pod, "Ready") == Some("True")).await;
    node.runtime.on_exec(|_, _| runtime::ExecOutput { stdout: Vec::new(), stderr: Vec::new(), exit_code: 1 });
    node.wait_for("probed", |pod| container(pod, "c").restart_count == 1).await;
}

#[tokio::test]
async fn readiness_is_asked_for_until_the_containers_of_a_deleted_pod_end() {
    let node = TestNode::start().await;
    let answer =
        |exit_code| move |_: &str, _: &[String]| runtime::ExecOutput { stdout: vec![], stderr: vec![], exit_code };
    node.runtime.on_exec(answer(0));
    node.runtime.behave("c", [Behavior::IgnoreStop]);
    let probe = json!({"exec": {"command": ["ready"]}, "periodSeconds": 1, "failureThreshold": 1});
    node.create("drained", json!({"containers": [{"name": "c", "image": "busybox:1", "readinessProbe": probe}]})).await;
    node.wait_for("drained", |pod| condition(pod, "Ready") == Some("True")).await;
    // Longer than the probe's period, however slow the machine is.
    node.delete_within("drained", 60).await;
    node.runtime.on_exec(answer(1));
    let pod = node.wait_for("drained", |pod| condition(pod, "Ready") == Some("False")).await;
    assert!(container(&pod, "c").state.unwrap().running.is_some(), "it has not ended yet");
    node.force_delete("drained").await;
    node.wait_until_gone("drained").await;
}

#[tokio::test]
async fn a_container_whose_rules_ask_for_it_is_restarted_in_a_pod_that_never_restarts() {
    let node = TestNode::start().await;
    let after = Duration::from_millis(20);
    node.runtime.behave("c", [Behavior::Exit { after, code: 42 }, Behavior::Exit { after, code: 3 }]);
    let rule = json!({"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}});
    let container = json!({"name": "c", "image": "busybox:1", "restartPolicy": "Never", "restartPolicyRules": [rule]});
    node.create("ruled", json!({"restartPolicy": "Never", "containers": [container]})).await;
    let pod = node.wait_for("ruled", |pod| phase(pod) == "Failed").await;
    let status = node::container(&pod, "c");
    assert_eq!((status.restart_count, status.state.unwrap().terminated.unwrap().exit_code), (1, 3));
}

#[tokio::test]
async fn a_restart_of_the_kubelet_leaves_containers_running() {
    let mut node = TestNode::start().await;
    node.create("stays", json!({"containers": [{"name": "c", "image": "busybox:1"}]})).await;
    let before = node.wait_for("stays", |pod| condition(pod, "Ready") == Some("True")).await;
    let calls = node.runtime.calls().len();
    node.restart_kubelet().await;
    node.create("next", json!({"containers": [{"name": "c", "image": "busybox:1"}]})).await;
    node.wait_for("next", |pod| condition(pod, "Ready") == Some("True")).await;
    let after = node.get("stays").await;
    assert_eq!(container(&before, "c").container_id, container(&after, "c").container_id);
    assert_eq!(before.metadata.resource_version, after.metadata.resource_version, "its status was written again");
    let touched = node.runtime.calls().split_off(calls);
    assert!(!touched.iter().any(|call| call.contains("stays") || call.starts_with("stop")), "{touched:?}");
}

#[tokio::test]
async fn a_pod_that_vanished_while_the_kubelet_was_away_is_removed() {
    let mut node = TestNode::start().await;
    node.create("orphan", json!({"containers": [{"name": "c", "image": "busybox:1"}]})).await;
    node.wait_for("orphan", |pod| condition(pod, "Ready") == Some("True")).await;
    node.stop_kubelet().await;
    node.force_delete("orphan").await;
    assert_eq!(node.runtime.sandboxes().await.unwrap().len(), 1);
    node.start_kubelet();
    node.wait_for_no_sandboxes().await;
}

#[tokio::test]
async fn a_pod_that_does_not_fit_is_refused() {
    let node = TestNode::start().await;
    node.wait_for_node(|node| node.status.is_some()).await;
    let huge =
        json!({"containers": [{"name": "c", "image": "busybox:1", "resources": {"requests": {"cpu": "100000"}}}]});
    node.create("huge", huge).await;
    let pod: Pod = node.wait_for("huge", |pod| phase(pod) == "Failed").await;
    assert_eq!(pod.status.unwrap().reason.as_deref(), Some("OutOfcpu"));
}

#[tokio::test]
async fn a_pod_out_of_time_fails() {
    let node = TestNode::start().await;
    let spec = json!({"activeDeadlineSeconds": 1, "containers": [{"name": "c", "image": "busybox:1"}]});
    node.create("late", spec).await;
    let pod = node.wait_for("late", |pod| phase(pod) == "Failed").await;
    assert_eq!(pod.status.unwrap().reason.as_deref(), Some("DeadlineExceeded"));
}

#[tokio::test]
async fn a_node_that_was_taken_for_lost_is_ready_again_once_it_hears_of_it() {
    let node = TestNode::start().await;
    node.wait_for_node(is_ready).await;
    node.declare_lost().await;
    node.wait_for_node(is_ready).await;
}

#[tokio::test]
async fn a_pod_with_an_unsafe_sysctl_is_refused_and_one_with_a_safe_one_runs() {
    let node = TestNode::start().await;
    let spec = |name: &str| {
        json!({
            "securityContext": {"sysctls": [{"name": name, "value": "1"}]},
            "containers": [{"name": "c", "image": "busybox:1"}]
        })
    };
    node.create("safe", spec("net/ipv4/tcp_syncookies")).await;
    node.create("unsafe", spec("net.core.somaxconn")).await;
    let refused = node.wait_for("unsafe", |pod| phase(pod) == "Failed").await.status.unwrap();
    let message = "Pod was rejected: forbidden sysctl: \"net.core.somaxconn\" not allowlisted";
    assert_eq!((refused.reason.as_deref(), refused.message.as_deref()), (Some("SysctlForbidden"), Some(message)));
    node.wait_for_event("unsafe", "SysctlForbidden").await;
    node.wait_for("safe", |pod| condition(pod, "Ready") == Some("True")).await;
    let sandboxes = node.runtime.sandboxes().await.unwrap();
    let sysctls: Vec<_> = sandboxes.iter().flat_map(|sandbox| sandbox.config.sysctls.clone()).collect();
    assert_eq!(sysctls, [("net.ipv4.tcp_syncookies".to_owned(), "1".to_owned())]);
}

#[tokio::test]
async fn a_sub_path_that_leads_out_of_its_volume_keeps_a_container_from_being_made() {
    let node = TestNode::start().await;
    let volume = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/etc", volume.path().join("link")).unwrap();
    let spec = |sub_path: &str| {
        let mount = json!({"name": "v", "mountPath": "/v", "subPath": sub_path});
        json!({"restartPolicy": "Never", "containers": [{"name": "c", "image": "busybox:1", "volumeMounts": [mount]}],
            "volumes": [{"name": "v", "hostPath": {"path": volume.path()}}]})
    };
    node.create("out", spec("link")).await;
    node.create("in", spec("a/b")).await;
    let pod = node.wait_for("out", |pod| waiting_reason(pod, "c") == Some("CreateContainerConfigError")).await;
    assert_eq!(phase(&pod), "Pending");
    let waiting = container(&pod, "c").state.unwrap().waiting.unwrap();
    let wanted = r#"failed to prepare subPath for volumeMount "v" of container "c""#;
    assert_eq!(waiting.message.as_deref(), Some(wanted));
    node.wait_for("in", |pod| phase(pod) == "Running").await;
    assert!(volume.path().join("a/b").is_dir());
    std::fs::remove_file(volume.path().join("link")).unwrap();
    node.wait_for("out", |pod| phase(pod) == "Running").await;
}
