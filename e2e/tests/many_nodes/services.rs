//! Services, names and proxies on three nodes. The line `Conformance:` in a comment is the codename of what a step checks.

use std::collections::BTreeSet;
use std::process::Command;

use e2e::{IMAGE, ManyNodes, Run as _, eventually};

use super::{NODES, PATIENCE, page_of, pods};

/// Fetches of one client by which two endpoints show that they take turns.
const FETCHES: usize = 40;

/// All steps; the pods of `app=web` answer with the names of their nodes.
pub(super) fn work(cluster: &ManyNodes) {
    let web = pods(cluster, "app=web", "{.metadata.name} {.status.podIP} {.spec.nodeName}");
    let client = web[0].split(' ').next().unwrap().to_owned();
    nodes_reach_pods(&web);
    node_ports_answer_at_every_node(cluster, &client);
    a_client_stays_with_its_endpoint(cluster, &client);
    types_change(cluster, &client);
    slices_add_up(cluster, &web, &client);
    names_of_pods(cluster, &client);
    the_api_server_is_a_way_in(cluster, &client);
    super::names::work(cluster, &client);
    super::ports::work(cluster, &client);
    super::way_in::work(cluster);
}

fn from_this_machine(url: &str) -> String {
    Command::new("timeout").args(["5", "busybox", "wget", "-q", "-O", "-", url]).run().stdout.trim().to_owned()
}

/// Conformance: [sig-network] Networking Granular Checks: Pods should function for node-pod communication: http [LinuxOnly] [NodeConformance] [Conformance]
fn nodes_reach_pods(web: &[String]) {
    for pod in web {
        let fields: Vec<&str> = pod.split(' ').collect();
        assert_eq!(from_this_machine(&format!("http://{}:8080/", fields[1])), fields[2], "{pod}");
    }
}

pub(super) fn value(cluster: &ManyNodes, object: &[&str], path: &str) -> String {
    let output = format!("jsonpath={path}");
    let arguments: Vec<&str> = ["get"].iter().chain(object).copied().chain(["-o", &output]).collect();
    cluster.kubectl(&arguments).ok().trim().to_owned()
}

pub(super) fn patch(cluster: &ManyNodes, service: &str, patch: &str) {
    cluster.kubectl(&["patch", "service", service, "--type=merge", "-p", patch]).ok();
}

pub(super) fn service(cluster: &ManyNodes, name: &str, spec: &str) {
    cluster.apply(&format!("{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{{spec}}}}}"));
}

const TO_WEB: &str = "selector: {app: web}, ports: [{port: 80, targetPort: 8080}]";

/// Conformance: [sig-network] Services should be able to create a functioning NodePort service [Conformance]
/// Conformance: [sig-network] Services should serve a basic endpoint from pods [Conformance]
fn node_ports_answer_at_every_node(cluster: &ManyNodes, client: &str) {
    service(cluster, "ported", &format!("type: NodePort, {TO_WEB}"));
    let port = value(cluster, &["service", "ported"], "{.spec.ports[0].nodePort}");
    for number in 1..=NODES.len() {
        let url = format!("http://10.185.0.{number}:{port}/");
        let answers =
            || from_this_machine(&url).starts_with("many") && page_of(cluster, client, &url).starts_with("many");
        eventually(&format!("{url} answers"), PATIENCE, || answers().then_some(()));
    }
    eventually("the Service answers", PATIENCE, || {
        page_of(cluster, client, "http://ported/").starts_with("many").then_some(())
    });
}

/// Which endpoints answer a client, one fetch after another.
fn endpoints(cluster: &ManyNodes, client: &str, url: &str) -> BTreeSet<String> {
    let script = format!("for i in $(seq {FETCHES}); do timeout 5 wget -q -O - {url} || echo none; done");
    let output = cluster.kubectl(&["exec", client, "--", "sh", "-c", &script]).stdout;
    output.lines().map(str::to_owned).collect()
}

/// Conformance: [sig-network] Services should have session affinity work for service with type clusterIP [LinuxOnly] [Conformance]
/// Conformance: [sig-network] Services should have session affinity work for NodePort service [LinuxOnly] [Conformance]
/// Conformance: [sig-network] Services should be able to switch session affinity for service with type clusterIP [LinuxOnly] [Conformance]
/// Conformance: [sig-network] Services should be able to switch session affinity for NodePort service [LinuxOnly] [Conformance]
fn a_client_stays_with_its_endpoint(cluster: &ManyNodes, client: &str) {
    service(cluster, "sticky", &format!("type: NodePort, sessionAffinity: ClientIP, {TO_WEB}"));
    let port = value(cluster, &["service", "sticky"], "{.spec.ports[0].nodePort}");
    for url in ["http://sticky/".to_owned(), format!("http://10.185.0.2:{port}/")] {
        let stays = || {
            let seen = endpoints(cluster, client, &url);
            seen.len() == 1 && !seen.contains("none")
        };
        eventually(&format!("{url} is one endpoint"), PATIENCE, || stays().then_some(()));
        patch(cluster, "sticky", r#"{"spec": {"sessionAffinity": "None"}}"#);
        eventually(&format!("{url} is all endpoints"), PATIENCE, || {
            (endpoints(cluster, client, &url).iter().filter(|one| one.starts_with("many")).count() > 1).then_some(())
        });
        patch(cluster, "sticky", r#"{"spec": {"sessionAffinity": "ClientIP"}}"#);
        eventually(&format!("{url} is one endpoint again"), PATIENCE, || stays().then_some(()));
    }
}

/// Conformance: [sig-network] Services should be able to change the type from ClusterIP to ExternalName [Conformance]
/// Conformance: [sig-network] Services should be able to change the type from ExternalName to ClusterIP [Conformance]
/// Conformance: [sig-network] Services should be able to change the type from ExternalName to NodePort [Conformance]
/// Conformance: [sig-network] Services should be able to change the type from NodePort to ExternalName [Conformance]
/// Conformance: [sig-network] DNS should provide DNS for ExternalName services [Conformance]
fn types_change(cluster: &ManyNodes, client: &str) {
    let answers = |what: &str| {
        eventually(what, PATIENCE, || page_of(cluster, client, "http://change/").starts_with("many").then_some(()));
    };
    let is_a_name = || {
        let ask = ["exec", client, "--", "nslookup", "change.default.svc.cluster.local"];
        eventually("it is another name", PATIENCE, || {
            cluster.kubectl(&ask).stdout.contains("web.default.svc.cluster.local").then_some(())
        });
        answers("it leads there");
    };
    const NAME: &str = r#"{"spec": {"type": "ExternalName", "externalName": "web.default.svc.cluster.local",
        "clusterIP": null, "clusterIPs": null, "ipFamilies": null, "ipFamilyPolicy": null}}"#;
    service(cluster, "change", TO_WEB);
    answers("it answers at its address");
    patch(cluster, "change", NAME);
    is_a_name();
    patch(cluster, "change", r#"{"spec": {"type": "ClusterIP", "externalName": null}}"#);
    answers("it has an address again");
    patch(cluster, "change", NAME);
    is_a_name();
    patch(cluster, "change", r#"{"spec": {"type": "NodePort", "externalName": null}}"#);
    answers("it has an address and a port");
    let port = value(cluster, &["service", "change"], "{.spec.ports[0].nodePort}");
    let url = format!("http://10.185.0.3:{port}/");
    eventually("its port answers", PATIENCE, || from_this_machine(&url).starts_with("many").then_some(()));
    patch(cluster, "change", NAME);
    is_a_name();
}

/// Conformance: [sig-network] EndpointSlice should support a Service with multiple endpoint IPs specified in multiple EndpointSlices [Conformance]
fn slices_add_up(cluster: &ManyNodes, web: &[String], client: &str) {
    service(cluster, "sliced", "ports: [{name: http, port: 80, targetPort: 8080}]");
    for (number, pod) in web.iter().take(2).enumerate() {
        let address = pod.split(' ').nth(1).unwrap();
        cluster.apply(&format!(
            "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: sliced-{number}, \
             labels: {{kubernetes.io/service-name: sliced}}}}, addressType: IPv4, \
             endpoints: [{{addresses: [{address}]}}], ports: [{{name: http, port: 8080}}]}}"
        ));
    }
    eventually("both slices' endpoints answer", PATIENCE, || {
        (endpoints(cluster, client, "http://sliced/").iter().filter(|one| one.starts_with("many")).count() == 2)
            .then_some(())
    });
}

/// Conformance: [sig-network] DNS should provide DNS for pods for Hostname [Conformance]
/// Conformance: [sig-network] DNS should provide DNS for pods for Subdomain [Conformance]
/// Conformance: [sig-network] DNS should provide /etc/hosts entries for the cluster [Conformance]
/// Conformance: [sig-network] DNS should support configurable pod DNS nameservers [Conformance]
fn names_of_pods(cluster: &ManyNodes, client: &str) {
    service(cluster, "peers", "clusterIP: None, selector: {app: peer}, ports: [{port: 80}]");
    let pod = |name: &str, more: &str| {
        cluster.apply(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {{app: {name}}}}}, spec: {{{more}, \
             terminationGracePeriodSeconds: 0, containers: [{{name: c, image: '{IMAGE}', imagePullPolicy: Never, \
             command: [sleep, '100000']}}]}}}}"
        ));
        cluster.kubectl(&["wait", "--for=condition=Ready", "pod", name, "--timeout=60s"]).ok();
    };
    pod("peer", "hostname: querier, subdomain: peers");
    let address = value(cluster, &["pod", "peer"], "{.status.podIP}");
    for name in ["querier.peers.default.svc.cluster.local", "peers.default.svc.cluster.local"] {
        let ask = ["exec", client, "--", "nslookup", name];
        eventually(&format!("{name} is the pod"), PATIENCE, || {
            cluster.kubectl(&ask).stdout.contains(&address).then_some(())
        });
    }
    let hosts = cluster.kubectl(&["exec", "peer", "--", "cat", "/etc/hosts"]).stdout;
    let own = hosts.lines().find(|line| line.starts_with(&address)).unwrap_or_else(|| panic!("{hosts}")).to_owned();
    assert!(own.contains("querier.peers.default.svc.cluster.local") && own.ends_with("querier"), "{own}");
    pod("resolver", "dnsPolicy: None, dnsConfig: {nameservers: [1.1.1.1], searches: [resolv.conf.local]}");
    let file = cluster.kubectl(&["exec", "resolver", "--", "cat", "/etc/resolv.conf"]);
    let lines: Vec<&str> = file.ok().lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert!(lines.contains(&"nameserver 1.1.1.1") && lines.contains(&"search resolv.conf.local"), "{lines:?}");
    cluster.kubectl(&["delete", "pod", "peer", "resolver"]).ok();
}

/// Conformance: [sig-network] Proxy version v1 should proxy through a service and a pod [Conformance]
fn the_api_server_is_a_way_in(cluster: &ManyNodes, pod: &str) {
    for path in ["services/web:80", "services/http:web:80", &format!("pods/{pod}:8080")] {
        let raw = format!("/api/v1/namespaces/default/{path}/proxy/");
        eventually(&raw, PATIENCE, || {
            cluster.kubectl(&["get", "--raw", &raw]).stdout.trim().starts_with("many").then_some(())
        });
    }
}
