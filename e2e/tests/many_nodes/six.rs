//! A cluster without IPv4: two nodes, and all that pods and users of a cluster do.

use e2e::{ManyNodes, can_run, eventually};

use super::services::{service, value};
use super::{PATIENCE, daemons, page_of, pods};

const NODES: [&str; 2] = ["six", "six-2"];

#[test]
fn a_cluster_without_ipv4_is_a_whole_cluster() {
    if !can_run() {
        return;
    }
    let mut cluster = ManyNodes::up_of_ipv6(NODES.len());
    cluster.apply(&daemons());
    cluster.kubectl(&["rollout", "status", "daemonset/web", "--timeout=90s"]).ok();
    nobody_has_an_address_of_ipv4(&cluster);
    every_pod_reaches_every_other(&cluster);
    the_api_server_is_who_it_says_at_every_address(&cluster);
    nodes_tell_of_their_pods(&cluster);
    a_policy_holds(&cluster);
    cluster.stop();
}

fn nobody_has_an_address_of_ipv4(cluster: &ManyNodes) {
    let all = [
        value(cluster, &["pods", "-A"], "{.items[*].status.podIPs[*].ip} {.items[*].status.hostIPs[*].ip}"),
        value(cluster, &["services", "-A"], "{.items[*].spec.clusterIPs[*]}"),
        value(cluster, &["endpointslices", "-A"], "{.items[*].endpoints[*].addresses[*]}"),
        value(cluster, &["nodes"], "{.items[*].status.addresses[?(@.type==\"InternalIP\")].address}"),
        value(cluster, &["nodes"], "{.items[*].spec.podCIDRs[*]}"),
    ]
    .join(" ");
    let strange: Vec<&str> = all.split_whitespace().filter(|address| !address.starts_with("fd00:10:19")).collect();
    assert!(strange.is_empty(), "{strange:?} of {all}");
    let families = value(cluster, &["services", "-A"], "{.items[*].spec.ipFamilies}");
    assert!(families.contains("IPv6") && !families.contains("IPv4"), "{families}");
    let first =
        |service: &str, namespace: &str| value(cluster, &["service", service, "-n", namespace], "{.spec.clusterIP}");
    assert_eq!(
        (first("kubernetes", "default"), first("kube-dns", "kube-system")),
        ("fd00:10:196::1".to_owned(), "fd00:10:196::a".to_owned())
    );
}

/// By address, by name, and by the port of every node.
fn every_pod_reaches_every_other(cluster: &ManyNodes) {
    service(cluster, "ported", "type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]");
    let port = value(cluster, &["service", "ported"], "{.spec.ports[0].nodePort}");
    let web = pods(cluster, "app=web", "{.metadata.name} {.status.podIP} {.spec.nodeName}");
    assert_eq!(web.len(), NODES.len(), "{web:?}");
    for from in &web {
        let pod = from.split(' ').next().unwrap();
        let reaches = |url: &str, node: &str| {
            eventually(&format!("{pod} reaches {url}"), PATIENCE, || {
                page_of(cluster, pod, url).starts_with(node).then_some(())
            });
        };
        for to in &web {
            let fields: Vec<&str> = to.split(' ').collect();
            reaches(&format!("http://[{}]:8080/", fields[1]), fields[2]);
        }
        for name in ["web", "web.default.svc.cluster.local", "web6"] {
            reaches(&format!("http://{name}/"), "six");
        }
        for number in 1..=NODES.len() {
            reaches(&format!("http://[fd00:10:195::{number}]:{port}/"), "six");
        }
    }
}

/// Its certificate names its Service's address and its node's: kubectl checks that.
fn the_api_server_is_who_it_says_at_every_address(cluster: &ManyNodes) {
    let [server, ..] = cluster.invitation();
    assert!(server.starts_with("https://[fd00:10:195::1]:"), "{server}");
    for server in [&server, "https://[fd00:10:196::1]:443"] {
        eventually(&format!("{server} answers"), PATIENCE, || {
            cluster.kubectl(&["--server", server, "get", "--raw", "/version"]).success.then_some(())
        });
    }
}

/// The API server reaches every kubelet, and believes its certificate.
fn nodes_tell_of_their_pods(cluster: &ManyNodes) {
    for pod in pods(cluster, "app=web", "{.metadata.name}") {
        cluster.kubectl(&["logs", &pod]).ok();
        assert_eq!(cluster.kubectl(&["exec", &pod, "--", "echo", "here"]).ok(), "here");
    }
}

/// Pods stay ready: their own node asks them.
fn a_policy_holds(cluster: &ManyNodes) {
    let web = pods(cluster, "app=web", "{.metadata.name} {.status.podIP}");
    let (from, to) = (web[0].split_once(' ').unwrap().0, web[1].split_once(' ').unwrap().1);
    let url = format!("http://[{to}]:8080/");
    let reached = || page_of(cluster, from, &url).starts_with("six");
    cluster.apply(
        "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: none}, \
         spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress]}}",
    );
    eventually("no pod reaches another", PATIENCE, || (!reached()).then_some(()));
    let ready = value(cluster, &["daemonset", "web"], "{.status.numberReady}");
    assert_eq!(ready, NODES.len().to_string());
    cluster.kubectl(&["delete", "networkpolicy", "none"]).ok();
    eventually("it is reached again", PATIENCE, || reached().then_some(()));
}
