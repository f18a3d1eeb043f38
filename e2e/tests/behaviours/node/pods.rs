//! Pods as a whole: how they come, change and go.

use std::fs::{self, File};
use std::net::IpAddr;

use e2e::Ground;
use serde_json::{Value, json};

use super::tools::{
    becomes, condition, create, exec, get, gone, idle, labelled, logs, parsed, patch, reaches, ready, replace,
    restarts, run,
};

/// A process that a story has started, and that ends with it.
struct Child(std::process::Child);

impl Drop for Child {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Conformance: [sig-node] Pods should be submitted and removed [NodeConformance] [Conformance]
pub(super) fn come_and_go(ground: &Ground<'_>) {
    assert_eq!(labelled(ground, "app=p"), [""; 0]);
    let path = ground.cluster.directory().join("come-and-go.json");
    let watch = ["get", "pods", "-l", "app=p", "--watch", "--output-watch-events", "-o", "json"];
    let watch = ground.command(&watch).stdout(File::create(&path).unwrap()).spawn().unwrap();
    let _watch = Child(watch);
    run(ground, "p", json!({"containers": [idle("c")], "terminationGracePeriodSeconds": 40}));
    assert_eq!(labelled(ground, "app=p"), ["p"]);
    reaches(ground, "p", "Running");
    ground.kubectl(&["delete", "pod", "p", "--grace-period=30", "--wait=false"]).ok();
    let mut told = Vec::new();
    ground.wait_until("its end is watched", || {
        let text = fs::read_to_string(&path).unwrap();
        let events = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
        // The last one may be half written.
        told = events.map_while(Result::ok).collect();
        told.iter().any(|event| event["type"] == "DELETED")
    });
    assert_eq!(told[0]["type"], "ADDED");
    let last = &told.last().unwrap()["object"];
    assert!(last["metadata"]["deletionTimestamp"].is_string(), "{last}");
    assert_eq!(last["spec"]["terminationGracePeriodSeconds"], 40);
    assert_eq!(labelled(ground, "app=p"), [""; 0]);
}

/// Conformance: [sig-node] Pods should be updated [NodeConformance] [Conformance]
/// Conformance: [sig-node] Pods should get a host IP [NodeConformance] [Conformance]
/// Conformance: [sig-node] Pods should allow activeDeadlineSeconds to be updated [NodeConformance] [Conformance]
pub(super) fn change(ground: &Ground<'_>) {
    run(ground, "p", json!({"containers": [idle("c")]}));
    reaches(ground, "p", "Running");
    assert_eq!(labelled(ground, "app=p"), ["p"]);
    let address = ground.value("pod/p", "{.status.hostIP}");
    assert!(address.parse::<IpAddr>().is_ok_and(|address| !address.is_unspecified()), "{address}");
    patch(ground, "p", "merge", None, &json!({"metadata": {"labels": {"app": "updated"}}}));
    assert_eq!(labelled(ground, "app=updated"), ["p"]);
    assert_eq!(get(ground, "pod/p")["status"]["phase"], "Running");
    patch(ground, "p", "merge", None, &json!({"spec": {"activeDeadlineSeconds": 3}}));
    reaches(ground, "p", "Failed");
    assert_eq!(get(ground, "pod/p")["status"]["reason"], "DeadlineExceeded");
}

/// Conformance: [sig-node] Pods should delete a collection of pods [Conformance]
pub(super) fn go_together(ground: &Ground<'_>) {
    let names = ["test-pod-1", "test-pod-2", "test-pod-3"];
    for name in names {
        let metadata = json!({"name": name, "labels": {"type": "Testing"}});
        let spec = json!({"terminationGracePeriodSeconds": 1, "containers": [idle("c")]});
        create(ground, &json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}));
    }
    assert_eq!(labelled(ground, "type=Testing"), names);
    let path = format!("/api/v1/namespaces/{}/pods?labelSelector=type%3DTesting", ground.namespace);
    ground.kubectl(&["delete", "--raw", &path]).ok();
    ground.wait_until("all are gone", || labelled(ground, "type=Testing").is_empty());
}

/// Conformance: [sig-node] Pods should patch a pod status [Conformance]
/// Conformance: [sig-node] Pods should run through the lifecycle of Pods and PodStatus [Conformance]
pub(super) fn status_is_written(ground: &Ground<'_>) {
    run(ground, "p", json!({"containers": [idle("c")]}));
    ready(ground, "p");
    let status = json!({"status": {"message": "Patched by a test", "reason": "E2E"}});
    let patched = patch(ground, "p", "strategic", Some("status"), &status);
    assert_eq!(
        (&patched["status"]["message"], &patched["status"]["reason"]),
        (&json!("Patched by a test"), &json!("E2E"))
    );
    let changes = json!({"metadata": {"labels": {"test-pod-static": "patched"}},
        "spec": {"containers": [{"name": "c", "image": ground.cluster.image("busybox:2")}]}});
    patch(ground, "p", "strategic", None, &changes);
    assert_eq!(labelled(ground, "test-pod-static=patched"), ["p"]);
    let image = "{.status.containerStatuses[0].restartCount}";
    becomes(ground, "p", image, "1");
    ready(ground, "p");
    let path = format!("/api/v1/namespaces/{}/pods/p/status", ground.namespace);
    let mut answer = None;
    ground.wait_until("the status is replaced", || {
        let mut read = parsed(ground.kubectl(&["get", "--raw", &path]).ok());
        let own = json!({"type": "example.com/E2E", "status": "True"});
        read["status"]["conditions"].as_array_mut().unwrap().push(own);
        answer = replace(ground, &path, &read);
        answer.is_some()
    });
    assert_eq!(answer.unwrap()["status"]["phase"], "Running");
    assert_eq!(condition(ground, "p", "example.com/E2E")["status"], "True", "kubelets keep what others say");
    ground.kubectl(&["delete", "pod", "p"]).ok();
    gone(ground, "p");
}

/// Conformance: [sig-node] Ephemeral Containers [NodeConformance] will start an ephemeral container in an existing pod [Conformance]
/// Conformance: [sig-node] Ephemeral Containers [NodeConformance] should update the ephemeral containers in an existing pod [Conformance]
pub(super) fn get_debuggers(ground: &Ground<'_>) {
    run(ground, "p", json!({"containers": [idle("c")]}));
    reaches(ground, "p", "Running");
    let image = format!("--image={}", ground.cluster.image("busybox:1"));
    for (name, count) in [("debugger", 1), ("debugger2", 2)] {
        let container = format!("--container={name}");
        let script = "echo polo; sleep 600";
        let arguments = ["debug", "p", &image, &container, "--profile=general", "--", "sh", "-c", script];
        ground.kubectl(&arguments).ok();
        ground.wait_until("it runs", || super::tools::status(ground, "p", name)["state"]["running"].is_object());
        ground.wait_until("it works", || logs(ground, "p", name).contains("polo"));
        assert_eq!(exec(ground, "p", name, "echo here"), "here");
        let pod = get(ground, "pod/p");
        let lengths = [&pod["spec"]["ephemeralContainers"], &pod["status"]["ephemeralContainerStatuses"]];
        assert_eq!(lengths.map(|list| list.as_array().unwrap().len()), [count, count]);
    }
    assert_eq!(restarts(ground, "p", "c"), 0);
}
