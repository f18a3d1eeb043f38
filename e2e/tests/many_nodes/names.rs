//! The records of Services, and who answers for them. The line `Conformance:` in a comment is the codename of what a step checks.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use e2e::{ManyNodes, Run as _, eventually};

use super::services::{service, value};
use super::{NODES, PATIENCE, page_of, pods};

const HEADLESS: &str = "headless.default.svc.cluster.local";
const ADDRESSED: &str = "addressed.default.svc.cluster.local";

/// Conformance: [sig-network] DNS should provide DNS for services [Conformance]
pub(super) fn work(cluster: &ManyNodes, client: &str) {
    const BOTH: &str = "ipFamilyPolicy: PreferDualStack, selector: {app: web}";
    service(cluster, "headless", &format!("clusterIP: None, {BOTH}, ports: [{{name: http, port: 8080}}]"));
    service(cluster, "addressed", &format!("{BOTH}, ports: [{{name: http, port: 80, targetPort: 8080}}]"));
    let own = |family: usize| value(cluster, &["service", "addressed"], &format!("{{.spec.clusterIPs[{family}]}}"));
    let endpoints = |family: usize| pods(cluster, "app=web", &format!("{{.status.podIPs[{family}].ip}}"));
    for (family, kind) in ["a", "aaaa"].into_iter().enumerate() {
        answers(cluster, client, kind, ADDRESSED, &[own(family)]);
        answers(cluster, client, kind, HEADLESS, &endpoints(family));
        answers(cluster, client, "ptr", &own(family), &[ADDRESSED.to_owned()]);
    }
    answers(cluster, client, "srv", &format!("_http._tcp.{ADDRESSED}"), &[format!("80 {ADDRESSED}")]);
    every_endpoint_has_a_name(cluster, client, &[endpoints(0), endpoints(1)].concat());
    for host in
        ["headless:8080", "headless.default:8080", "headless.default.svc:8080", "addressed", "addressed.default.svc"]
    {
        eventually(&format!("{host} is found"), PATIENCE, || {
            page_of(cluster, client, &format!("http://{host}/")).starts_with("many").then_some(())
        });
    }
    connections_are_answered_too(cluster, &own(0));
}

/// Waits until a pod is answered these values, and no others.
fn answers(cluster: &ManyNodes, client: &str, kind: &str, name: &str, wanted: &[String]) {
    let wanted: BTreeSet<String> = wanted.iter().map(|text| spelled(text)).collect();
    let mut last = BTreeSet::new();
    let within = std::time::Instant::now() + PATIENCE;
    while last != wanted {
        assert!(std::time::Instant::now() < within, "{kind} of {name} is {last:?}, not {wanted:?}");
        last = values(cluster, client, kind, name);
    }
}

/// Addresses are compared as such.
fn spelled(text: &str) -> String {
    text.parse::<IpAddr>().map_or_else(|_| text.to_owned(), |address| address.to_string())
}

/// What `nslookup` in a pod finds: addresses, names, or port and target.
fn values(cluster: &ManyNodes, client: &str, kind: &str, name: &str) -> BTreeSet<String> {
    // Without a type it asks for the name of an address.
    let kind = (kind != "ptr").then(|| format!("-type={kind}"));
    let ask = ["exec", client, "--", "nslookup"].into_iter().chain(kind.as_deref()).chain([name]);
    let found = cluster.kubectl(&ask.collect::<Vec<_>>()).stdout;
    let answer = found.lines().skip_while(|line| !line.trim().is_empty());
    let values = answer.filter_map(|line| {
        let address = line.strip_prefix("Address").and_then(|rest| rest.split_whitespace().last());
        // `_http._tcp.web... service = 0 33 80 web...`: priority and weight are the server's choice.
        let service = line.split_once("service = ").and_then(|(_, words)| words.splitn(3, ' ').last());
        let name = line.split_once("name = ").map(|(_, name)| name);
        address.or(service).or(name).map(|value| spelled(value.trim().trim_end_matches('.')))
    });
    values.collect()
}

/// A port of a headless Service is as many records as it has endpoints, and each target is the name of one.
fn every_endpoint_has_a_name(cluster: &ManyNodes, client: &str, addresses: &[String]) {
    let port = format!("_http._tcp.{HEADLESS}");
    let found = eventually("there is a record for each endpoint", PATIENCE, || {
        Some(values(cluster, client, "srv", &port)).filter(|found| found.len() == addresses.len())
    });
    let mut seen = BTreeSet::new();
    for record in &found {
        let (port, target) = record.split_once(' ').unwrap();
        assert!(port == "8080" && target.ends_with(&format!(".{HEADLESS}")), "{record}");
        for address in ["a", "aaaa"].into_iter().flat_map(|kind| values(cluster, client, kind, target)) {
            let back = values(cluster, client, "ptr", &address);
            assert!(back.contains(target), "{address} is {back:?}");
            seen.insert(address);
        }
    }
    assert_eq!(seen, addresses.iter().map(|address| spelled(address)).collect(), "{found:?}");
}

/// The same server answers by TCP (RFC 7766).
fn connections_are_answered_too(cluster: &ManyNodes, wanted: &str) {
    let server = value(cluster, &["service", "kube-dns", "-n", "kube-system"], "{.spec.clusterIP}");
    let mut stream = TcpStream::connect((server.parse::<IpAddr>().unwrap(), 53)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    // Identity 1, recursion desired, one question; after its name the type A and the class IN.
    let mut question = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in ADDRESSED.split('.') {
        question.push(u8::try_from(label.len()).unwrap());
        question.extend(label.as_bytes());
    }
    question.extend([0, 0, 1, 0, 1]);
    let length = u16::try_from(question.len()).unwrap();
    stream.write_all(&[&length.to_be_bytes()[..], &question].concat()).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut answer).unwrap();
    let IpAddr::V4(address) = wanted.parse().unwrap() else { panic!("{wanted}") };
    // One answer, which ends with the length of its data and the data.
    assert_eq!((&answer[..2], answer[3] & 0xf, &answer[6..8]), (&[0, 1][..], 0, &[0, 1][..]), "{answer:?}");
    assert!(answer.windows(6).any(|data| data == [&[0, 4][..], &address.octets()].concat()), "{answer:?}");
}

/// Nothing reaches the server of the first node while this lasts.
struct Deaf;

impl Deaf {
    fn new() -> Self {
        let rules = "table inet ce2e8-deaf { chain input { type filter hook prerouting priority -400; \
                     ip daddr 10.185.0.1 meta l4proto { tcp, udp } th dport 53 drop; }; \
                     chain output { type filter hook output priority -400; \
                     ip daddr 10.185.0.1 meta l4proto { tcp, udp } th dport 53 drop; }; \
                     chain local_ports { type filter hook input priority -400; \
                     meta l4proto { tcp, udp } th dport 53 drop; }; }";
        Command::new("nft").arg(rules).run().ok();
        Self
    }
}

impl Drop for Deaf {
    fn drop(&mut self) {
        Command::new("nft").args(["delete", "table", "inet", "ce2e8-deaf"]).run();
    }
}

pub(super) fn are_answered_without_the_first_nodes_server(cluster: &ManyNodes) {
    let slice = ["get", "endpointslice", "kube-dns", "-n", "kube-system", "-o", "jsonpath={.endpoints[*].nodeName}"];
    eventually("every node answers DNS", PATIENCE, || {
        let named = cluster.kubectl(&slice).stdout;
        NODES.iter().all(|node| named.split(' ').any(|one| one == *node)).then_some(())
    });
    let asks = |node: &str| {
        let pod = &pods(cluster, "app=web", "{.metadata.name} {.spec.nodeName}");
        let line = pod.iter().find(|line| line.ends_with(&format!(" {node}"))).unwrap().clone();
        let pod = line.split(' ').next().unwrap();
        let ask = "for i in 1 2 3 4 5; do timeout 3 nslookup web.default.svc.cluster.local >/dev/null || exit 1; done";
        cluster.kubectl(&["exec", pod, "--", "sh", "-c", ask]).success
    };
    eventually("names are answered everywhere", PATIENCE, || NODES.iter().all(|node| asks(node)).then_some(()));
    let deaf = Deaf::new();
    assert!(!asks("many"), "the first node's server is cut off");
    for node in &NODES[1..] {
        assert!(asks(node), "{node} answers for its own pods");
    }
    drop(deaf);
}
