use serde_json::json;

use super::*;

fn config() -> Config {
    Config {
        node_name: "own".to_owned(),
        cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap()],
        node_bits: [24, 64],
        not_nodes: vec!["10.96.0.0/16".parse().unwrap()],
        tunnel: "t".to_owned(),
        tunnel_id: 1,
        tunnel_port: 8472,
    }
}

/// A node that was made on that day of January.
fn node(name: &str, day: u8, range: &str, address: &str) -> Arc<Node> {
    let node = json!({
        "metadata": {"name": name, "creationTimestamp": format!("2026-01-{day:02}T00:00:00Z")},
        "spec": {"podCIDR": range, "podCIDRs": [range]},
        "status": {"addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": address}]},
    });
    Arc::new(serde_json::from_value(node).unwrap())
}

fn own() -> Arc<Node> {
    node("own", 9, "10.244.0.0/24", "192.0.2.1")
}

fn reached(plan: &Plan) -> Vec<&str> {
    plan.peers.iter().map(|peer| peer.name.as_str()).collect()
}

#[test]
fn the_pods_of_every_other_node_are_reached_by_its_address() {
    let nodes = [own(), node("b", 1, "10.244.1.0/24", "192.0.2.2"), node("c", 2, "10.244.2.0/24", "198.51.100.3")];
    let plan = plan(&config(), Family::V4, &nodes, &[]);
    assert_eq!(plan.own.as_ref().unwrap().range.cidr().to_string(), "10.244.0.0/24");
    let told: Vec<_> = plan.peers.iter().map(|peer| format!("{} by {}", peer.range.cidr(), peer.address)).collect();
    assert_eq!(told, ["10.244.1.0/24 by 192.0.2.2", "10.244.2.0/24 by 198.51.100.3"]);
    assert!(plan.refused.is_empty());
}

#[test]
fn a_node_that_takes_what_is_not_its_own_is_refused_and_nobody_else() {
    for (range, address, words) in [
        ("0.0.0.0/0", "192.0.2.9", "not within the cluster"),
        ("10.0.0.0/8", "192.0.2.9", "not within the cluster"),
        ("192.0.2.0/24", "192.0.2.9", "not within the cluster"),
        ("10.244.0.0/16", "192.0.2.9", "larger than the /24"),
        ("10.244.0.128/25", "192.0.2.9", "overlaps that of node own"),
        ("10.244.1.0/24", "192.0.2.9", "overlaps that of node b"),
        ("10.244.9.7/24", "192.0.2.9", "no IPv4 range"),
        ("10.244.9.1/32", "192.0.2.9", "no IPv4 range"),
        ("fd00::/64", "192.0.2.9", "no IPv4 range"),
        ("bad", "192.0.2.9", "no IPv4 range"),
        ("10.244.9.0/24", "192.0.2.1", "that of node own"),
        ("10.244.9.0/24", "192.0.2.2", "that of node b"),
        ("10.244.9.0/24", "10.244.1.5", "where pods or Services are"),
        ("10.244.9.0/24", "10.96.0.1", "where pods or Services are"),
        ("10.244.9.0/24", "127.0.0.1", "no IPv4 address that another machine can have"),
        ("10.244.9.0/24", "169.254.169.254", "no IPv4 address that another machine can have"),
        ("10.244.9.0/24", "0.0.0.0", "no IPv4 address that another machine can have"),
        ("10.244.9.0/24", "fd00::1", "no IPv4 address that another machine can have"),
        ("10.244.9.0/24", "192.0.2.1; reboot", "no IPv4 address that another machine can have"),
    ] {
        let nodes = [own(), node("b", 1, "10.244.1.0/24", "192.0.2.2"), node("hostile", 2, range, address)];
        let plan = plan(&config(), Family::V4, &nodes, &[]);
        assert_eq!(reached(&plan), ["b"], "{range} {address}");
        let refused: Vec<_> = plan.refused.iter().map(|(node, why)| format!("{node}: {why}")).collect();
        assert!(refused.len() == 1 && refused[0].starts_with("hostile: "), "{refused:?}");
        assert!(refused[0].contains(words), "{refused:?}");
    }
}

#[test]
fn who_had_something_first_keeps_it_even_from_an_older_node() {
    let old = |address| node("old", 1, "10.244.1.0/24", address);
    let young = node("young", 5, "10.244.2.0/24", "192.0.2.5");
    let first = plan(&config(), Family::V4, &[own(), old("192.0.2.2"), Arc::clone(&young)], &[]);
    assert_eq!(reached(&first), ["old", "young"]);
    let nodes = [own(), old("192.0.2.5"), young];
    let second = plan(&config(), Family::V4, &nodes, &first.peers);
    assert_eq!(reached(&second), ["young"]);
    assert!(second.refused["old"].to_string().contains("that of node young"));
    assert_eq!(
        reached(&plan(&config(), Family::V4, &nodes, &[])),
        ["old"],
        "to a process that begins, the older is right"
    );
}

#[test]
fn a_node_without_range_or_address_is_waited_for() {
    let mut bare = (*node("bare", 1, "10.244.1.0/24", "192.0.2.3")).clone();
    bare.spec = None;
    let without = plan(&config(), Family::V4, &[own(), Arc::new(bare.clone())], &[]);
    assert_eq!((without.peers.len(), without.refused.len()), (0, 0));
    bare.spec = node("bare", 1, "10.244.1.0/24", "").spec.clone();
    bare.status = None;
    let without = plan(&config(), Family::V4, &[own(), Arc::new(bare)], &[]);
    assert_eq!((without.peers.len(), without.refused.len()), (0, 0));
}

#[test]
fn a_cluster_of_both_families_has_routes_in_each() {
    let mut config = config();
    config.cluster_cidrs.push("fd00:10::/48".parse().unwrap());
    assert_eq!(config.families(), [Family::V4, Family::V6]);
    let dual = |name: &str, day, number: u8, v6: &str| {
        let mut node = (*node(name, day, &format!("10.244.{number}.0/24"), &format!("192.0.2.{number}"))).clone();
        node.spec.as_mut().unwrap().pod_cidrs.as_mut().unwrap().push(format!("fd00:10:0:{number}::/64"));
        let mut address = node.status.as_ref().unwrap().addresses.as_ref().unwrap()[1].clone();
        address.address = v6.to_owned();
        node.status.as_mut().unwrap().addresses.as_mut().unwrap().push(address);
        Arc::new(node)
    };
    let nodes = [
        dual("own", 1, 1, "fd00:1::1"),
        dual("b", 2, 2, "fd00:1::2"),
        dual("taken", 3, 3, "fd00:1::2"),
        dual("pod", 4, 4, "fd00:10:0:2::5"),
        dual("near", 5, 5, "fe80::1"),
        node("old", 6, "10.244.6.0/24", "192.0.2.6"),
    ];
    let v6 = plan(&config, Family::V6, &nodes, &[]);
    assert_eq!(reached(&v6), ["b"], "{v6:?}");
    assert_eq!(
        (v6.peers[0].address.to_string(), v6.peers[0].range.cidr().to_string()),
        ("fd00:1::2".into(), "fd00:10:0:2::/64".into())
    );
    for (name, words) in
        [("taken", "that of node b"), ("pod", "where pods or Services are"), ("near", "no IPv6 address that another")]
    {
        assert!(v6.refused[name].to_string().contains(words), "{name}: {}", v6.refused[name]);
    }
    assert!(!v6.refused.contains_key("old"), "a node need not have IPv6");
    let v4 = plan(&config, Family::V4, &nodes, &v6.peers);
    assert_eq!(reached(&v4), ["b", "taken", "pod", "near", "old"]);
}

#[test]
fn hardware_addresses_of_a_tunnel_are_those_of_the_nodes_and_locally_administered() {
    assert_eq!(mac("192.0.2.1".parse().unwrap()), [0x0a, 0x58, 192, 0, 2, 1]);
    let (one, other) = (mac("fd00::1".parse().unwrap()), mac("fd00::2".parse().unwrap()));
    assert!(one != other && one[0] == 0x0a, "{one:?} {other:?}");
}
