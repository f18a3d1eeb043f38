//! What changes of the cluster do to the table, and to addresses that change hands.

use host::nft::Family;

use super::*;
use crate::text::{self, Place};

#[test]
fn pods_elsewhere_are_peers_and_are_isolated_by_their_own_node() {
    let mut cluster = Cluster::new();
    cluster.set_pod("x", "b", "there", &["10.244.9.9"], json!({"pod": "b"}));
    let peer = json!([{"podSelector": {"matchLabels": {"pod": "b"}}}]);
    cluster.apply("x", "p", json!({"podSelector": {}, "ingress": [{"from": peer}]}));
    assert!(cluster.passes("10.244.9.9", &ip("x", "a"), Some(Protocol::Tcp), 80));
    assert!(cluster.passes(&ip("x", "a"), "10.244.9.9", Some(Protocol::Tcp), 80));
    let here = |address: &str| match &cluster.model.table.sets[PODS] {
        Set::Addresses(known) => known.contains(&Element { address: address.parse().unwrap(), port: None }),
        other => panic!("{other:?}"),
    };
    assert!(here(&ip("x", "a")) && !here("10.244.9.9"));
}

#[test]
fn an_address_that_is_used_again_has_nothing_of_the_pod_before() {
    let peer = json!([{"podSelector": {"matchLabels": {"pod": "b"}}}]);
    let policy = json!({"podSelector": {"matchLabels": {"pod": "a"}}, "ingress": [{"from": peer}]});
    let (target, address) = (ip("x", "a"), ip("x", "b"));
    let open = |cluster: &Cluster| cluster.passes(&address, &target, Some(Protocol::Tcp), 80);
    let known = |cluster: &Cluster| cluster.passes(&address, &address, None, 0);
    // The news of the new pod comes before that of the old one's end, or after it.
    for new_first in [true, false] {
        let mut cluster = Cluster::new();
        cluster.apply("x", "p", policy.clone());
        assert!(open(&cluster) && known(&cluster));
        for step in [new_first, !new_first] {
            if step {
                cluster.set_pod("x", "new", NODE, &[&address], json!({"pod": "new"}));
            } else {
                cluster.remove_pod("x", "b");
            }
            assert!(!open(&cluster), "new first: {new_first}");
        }
        assert!(known(&cluster), "in the end it is the new pod's");
    }
    // While both claim it, it is nobody's: neither is a peer, and neither is let through unjudged.
    let mut cluster = Cluster::new();
    cluster.apply("x", "p", policy);
    cluster.set_pod("x", "twin", NODE, &[&address], json!({"pod": "b"}));
    assert!(!open(&cluster) && !known(&cluster));
    cluster.remove_pod("x", "twin");
    assert!(open(&cluster) && known(&cluster));
}

#[test]
fn pods_and_policies_that_say_the_same_share_chains_and_sets() {
    let mut cluster = Cluster::new();
    let rule = json!([{"from": [{"namespaceSelector": {"matchLabels": {"ns": "z"}}}]}]);
    for namespace in ["x", "y"] {
        for name in ["p", "q"] {
            cluster.apply(namespace, name, json!({"podSelector": {}, "ingress": rule}));
        }
    }
    let table = &cluster.model.table;
    assert_eq!((table.chains.len(), table.sets.len(), table.verdicts.len()), (1, 2, 12));
    cluster.forbids(&["x/* x/*", "x/* y/*", "y/* x/*", "y/* y/*"]);
}

#[test]
fn a_change_tells_the_kernel_of_itself_only() {
    let place = Place { table: "t", bridge: "br0" };
    let mut cluster = Cluster::new();
    let peer = json!([{"podSelector": {"matchLabels": {"pod": "b"}}}]);
    cluster.apply("x", "p", json!({"podSelector": {"matchLabels": {"pod": "a"}}, "ingress": [{"from": peer}]}));
    let told = |cluster: &mut Cluster| {
        let text = text::change(&place, Family::V4, &cluster.model.table);
        cluster.model.table.settled();
        text
    };
    assert!(told(&mut cluster).starts_with("add table ip t\ndelete table ip t\ntable ip t {\n"));
    assert_eq!(told(&mut cluster), "");
    let set = cluster.model.table.sets.keys().find(|name| *name != PODS).unwrap().clone();
    cluster.set_pod("x", "d", NODE, &["10.244.1.1"], json!({"pod": "b"}));
    let mut lines: Vec<String> = told(&mut cluster).lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(
        lines,
        [
            "add element ip t pods { 10.244.1.1 }".to_owned(),
            format!("add element ip t {set} {{ 10.244.1.1 }}"),
            "add element ip t selves { 10.244.1.1 . 10.244.1.1 }".to_owned(),
        ]
    );
    // What comes to nothing is not told.
    cluster.remove_pod("x", "d");
    cluster.set_pod("x", "d", NODE, &["10.244.1.1"], json!({"pod": "b"}));
    assert_eq!(told(&mut cluster), "");
    cluster.remove_policy("x", "p");
    let text = told(&mut cluster);
    let at = |word: &str| text.find(word).unwrap_or_else(|| panic!("{word}: {text}"));
    assert!(at("delete element ip t ingress") < at("flush chain") && at("delete chain") < at("delete set"), "{text}");
}
