//! Datagrams, and Services and nodes whose ports are many or the same. The line `Conformance:` in a comment is the codename of
//! what a step checks.
//!
//! Each pod of [`server`] answers with its name: pages at 8080, pages that say "again" at 8082, datagrams at 8081.

use std::collections::BTreeSet;

use e2e::{IMAGE, ManyNodes, eventually};
use serde_json::Value;

use super::services::{patch, service, value};
use super::{NODES, PATIENCE, page_of};

/// Busybox has neither a server nor a client of datagrams: the node's perl is used, in a root made of its `/usr`.
const ROOT: &str = "ln -s usr/bin usr/lib usr/lib64 /host; mkdir /host/dev; touch /host/dev/null; ";
const SERVE: &str = r#"$s = IO::Socket::IP->new(LocalHost => "::", V6Only => 0, LocalPort => 8081, Proto => "udp") or die $@;
    $s->send($ENV{NAME}) while defined $s->recv($m, 99);"#;
const ASK: &str = r#"$s = IO::Socket::IP->new(PeerHost => $ARGV[0], PeerPort => $ARGV[1], Proto => "udp") or die $@;
    $s->send("hostname"); alarm 2; $s->recv($m, 99); print $m"#;

/// All steps; `client` is a pod of the cluster's network.
pub(super) fn work(cluster: &ManyNodes, client: &str) {
    let names: Vec<String> = (1..=NODES.len()).map(|number| format!("datagrams-{number}")).collect();
    for (node, name) in NODES.iter().zip(&names) {
        server(cluster, name, node, "labels: {app: datagrams}", "");
        server(cluster, &format!("host-of-{node}"), node, "labels: {app: host-of}", "hostNetwork: true, ");
    }
    datagrams_reach_pods(cluster, &names);
    protocols_share_a_port(cluster, client, &names[0]);
    every_port_has_its_endpoints(cluster, client);
    slices_have_ports_of_their_own(cluster, client, &names[1]);
    pods_share_a_port_of_a_node(cluster);
    cluster.kubectl(&["delete", "pods", "-l", "app in (datagrams, host-of)"]).ok();
}

/// Makes a pod on a node and waits for it; `more` goes before its containers.
fn server(cluster: &ManyNodes, name: &str, node: &str, labels: &str, more: &str) {
    with_ports(cluster, name, node, labels, more, "");
}

fn with_ports(cluster: &ManyNodes, name: &str, node: &str, labels: &str, more: &str, ports: &str) {
    // What is in the node's own network serves nothing: its ports are taken.
    let run = if more.is_empty() {
        "mkdir /tmp/a /tmp/b; echo $NAME > /tmp/a/index.html; echo $NAME again > /tmp/b/index.html; \
         httpd -p 8080 -h /tmp/a; httpd -p 8082 -h /tmp/b; exec chroot /host perl -MIO::Socket::IP -e \"$SERVE\""
    } else {
        "exec sleep 100000"
    };
    let pod = serde_json::json!({"SERVE": SERVE, "run": format!("{ROOT}{run}")});
    cluster.apply(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, {labels}}}, spec: {{{more} \
         nodeSelector: {{kubernetes.io/hostname: {node}}}, terminationGracePeriodSeconds: 0, \
         volumes: [{{name: host, hostPath: {{path: /usr}}}}], containers: [{{name: c, image: '{IMAGE}', \
         imagePullPolicy: Never, command: [sh, -c, {run}], ports: [{ports}], \
         volumeMounts: [{{name: host, mountPath: /host/usr, readOnly: true}}], \
         env: [{{name: NAME, value: {name}}}, {{name: SERVE, value: {serve}}}]}}]}}}}",
        run = pod["run"],
        serve = pod["SERVE"],
    ));
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod", name, "--timeout=60s"]).ok();
}

/// What a pod is answered to a datagram; nothing where nobody answers.
fn answer(cluster: &ManyNodes, pod: &str, address: &str, port: &str) -> String {
    let ask = ["exec", pod, "--", "chroot", "/host", "perl", "-MIO::Socket::IP", "-e", ASK, address, port];
    cluster.kubectl(&ask).stdout.trim().to_owned()
}

/// Conformance: [sig-network] Networking Granular Checks: Pods should function for intra-pod communication: udp [NodeConformance] [Conformance]
/// Conformance: [sig-network] Networking Granular Checks: Pods should function for node-pod communication: udp [LinuxOnly] [NodeConformance] [Conformance]
fn datagrams_reach_pods(cluster: &ManyNodes, names: &[String]) {
    let hosts: Vec<String> = NODES.iter().map(|node| format!("host-of-{node}")).collect();
    for to in names {
        let address = value(cluster, &["pod", to], "{.status.podIP}");
        for from in names.iter().chain(&hosts) {
            eventually(&format!("a datagram of {from} reaches {to}"), PATIENCE, || {
                (answer(cluster, from, &address, "8081") == *to).then_some(())
            });
        }
    }
}

/// Conformance: [sig-network] Services should serve endpoints on same port and different protocols [Conformance]
fn protocols_share_a_port(cluster: &ManyNodes, client: &str, asks: &str) {
    const TCP: &str = r#"{"name": "tcp", "port": 80, "targetPort": 8080, "protocol": "TCP"}"#;
    const UDP: &str = r#"{"name": "udp", "port": 80, "targetPort": 8081, "protocol": "UDP"}"#;
    service(cluster, "both", &format!("selector: {{app: datagrams}}, ports: [{TCP}, {UDP}]"));
    let address = value(cluster, &["service", "both"], "{.spec.clusterIP}");
    let url = format!("http://{address}/");
    for (ports, tcp, udp) in
        [(format!("{TCP}, {UDP}"), true, true), (TCP.into(), true, false), (UDP.into(), false, true)]
    {
        patch(cluster, "both", &format!(r#"{{"spec": {{"ports": [{ports}]}}}}"#));
        eventually(&format!("TCP answers: {tcp}, UDP answers: {udp}"), PATIENCE, || {
            let pages = page_of(cluster, client, &url).starts_with("datagrams-");
            (pages == tcp && answer(cluster, asks, &address, "80").starts_with("datagrams-") == udp).then_some(())
        });
    }
}

/// The ports of a Service and the addresses behind each, by its slices.
fn endpoints(cluster: &ManyNodes, service: &str) -> BTreeSet<(String, String)> {
    let label = format!("kubernetes.io/service-name={service}");
    let slices = cluster.kubectl(&["get", "endpointslices", "-l", &label, "-o", "json"]);
    let slices: Value = serde_json::from_str(slices.ok()).unwrap();
    let mut found = BTreeSet::new();
    for slice in slices["items"].as_array().unwrap() {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let ports: Vec<String> =
            slice["ports"].as_array().into_iter().flatten().map(|port| text(&port["name"])).collect();
        for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
            found.extend(ports.iter().map(|port| (port.clone(), text(&endpoint["addresses"][0]))));
        }
    }
    found
}

/// Conformance: [sig-network] Services should serve multiport endpoints from pods [Conformance]
fn every_port_has_its_endpoints(cluster: &ManyNodes, client: &str) {
    service(
        cluster,
        "multiport",
        "selector: {app: multiport}, ports: [{name: one, port: 80, targetPort: first}, \
         {name: two, port: 81, targetPort: second}]",
    );
    let is = |wanted: &[(&str, &str)]| {
        let wanted: BTreeSet<_> = wanted.iter().map(|(port, ip)| ((*port).to_owned(), (*ip).to_owned())).collect();
        eventually(&format!("the endpoints are {wanted:?}"), PATIENCE, || {
            (endpoints(cluster, "multiport") == wanted).then_some(())
        });
    };
    let pod = |name: &str, node: &str, port: &str| {
        with_ports(cluster, name, node, "labels: {app: multiport}", "", port);
        value(cluster, &["pod", name], "{.status.podIP}")
    };
    let page = |port: u16, wanted: &str| {
        let url = format!("http://multiport:{port}/");
        eventually(&format!("{url} is {wanted}"), PATIENCE, || {
            (page_of(cluster, client, &url) == wanted).then_some(())
        });
    };
    is(&[]);
    let one = pod("multiport-1", NODES[0], "{name: first, containerPort: 8080}");
    is(&[("one", &one)]);
    let two = pod("multiport-2", NODES[1], "{name: second, containerPort: 8082}");
    is(&[("one", &one), ("two", &two)]);
    page(80, "multiport-1");
    page(81, "multiport-2 again");
    cluster.kubectl(&["delete", "pod", "multiport-1"]).ok();
    is(&[("two", &two)]);
    page(80, "");
    cluster.kubectl(&["delete", "pod", "multiport-2"]).ok();
    is(&[]);
}

/// Conformance: [sig-network] EndpointSlice should support a Service with multiple ports specified in multiple EndpointSlices [Conformance]
fn slices_have_ports_of_their_own(cluster: &ManyNodes, client: &str, pod: &str) {
    service(cluster, "split", "ports: [{name: one, port: 80}, {name: two, port: 81}]");
    let address = value(cluster, &["pod", pod], "{.status.podIP}");
    for (name, port) in [("one", 8080), ("two", 8082)] {
        cluster.apply(&format!(
            "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: split-{name}, \
             labels: {{kubernetes.io/service-name: split}}}}, addressType: IPv4, \
             endpoints: [{{addresses: [{address}]}}], ports: [{{name: {name}, port: {port}, protocol: TCP}}]}}"
        ));
    }
    for (url, wanted) in [("http://split:80/", pod.to_owned()), ("http://split:81/", format!("{pod} again"))] {
        eventually(&format!("{url} is {wanted}"), PATIENCE, || (page_of(cluster, client, url) == wanted).then_some(()));
    }
}

/// Conformance: [sig-network] HostPort validates that there is no conflict between pods with same hostPort but different hostIP and protocol [LinuxOnly] [Conformance]
fn pods_share_a_port_of_a_node(cluster: &ManyNodes) {
    const NODE: (&str, &str) = (NODES[1], "10.185.0.2");
    for (name, address, protocol, port) in
        [("loopback", "127.0.0.1", "TCP", 8080), ("pages", NODE.1, "TCP", 8080), ("messages", NODE.1, "UDP", 8081)]
    {
        let port = format!("{{containerPort: {port}, hostPort: 54323, hostIP: {address}, protocol: {protocol}}}");
        with_ports(cluster, name, NODE.0, "", "", &port);
    }
    let inside = format!("host-of-{}", NODE.0);
    let outside = format!("host-of-{}", NODES[2]);
    for (from, address, wanted) in
        [(&inside, "127.0.0.1", "loopback"), (&inside, NODE.1, "pages"), (&outside, NODE.1, "pages")]
    {
        eventually(&format!("{from} gets the page of {wanted}"), PATIENCE, || {
            (page_of(cluster, from, &format!("http://{address}:54323/")) == wanted).then_some(())
        });
    }
    for from in [&inside, &outside] {
        eventually(&format!("{from} is answered by messages"), PATIENCE, || {
            (answer(cluster, from, NODE.1, "54323") == "messages").then_some(())
        });
    }
    cluster.kubectl(&["delete", "pod", "loopback", "pages", "messages"]).ok();
}
