use serde_json::json;

use super::*;

fn config() -> Config {
    Config {
        node_name: "own".to_owned(),
        cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap()],
        node_bits: 24,
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
    let plan = plan(&config(), &nodes, &[]);
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
        ("10.244.9.0/24", "127.0.0.1", "no address that another machine can have"),
        ("10.244.9.0/24", "169.254.169.254", "no address that another machine can have"),
        ("10.244.9.0/24", "0.0.0.0", "no address that another machine can have"),
        ("10.244.9.0/24", "fd00::1", "no address that another machine can have"),
        ("10.244.9.0/24", "192.0.2.1; reboot", "no address that another machine can have"),
    ] {
        let nodes = [own(), node("b", 1, "10.244.1.0/24", "192.0.2.2"), node("hostile", 2, range, address)];
        let plan = plan(&config(), &nodes, &[]);
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
    let first = plan(&config(), &[own(), old("192.0.2.2"), Arc::clone(&young)], &[]);
    assert_eq!(reached(&first), ["old", "young"]);
    let nodes = [own(), old("192.0.2.5"), young];
    let second = plan(&config(), &nodes, &first.peers);
    assert_eq!(reached(&second), ["young"]);
    assert!(second.refused["old"].to_string().contains("that of node young"));
    assert_eq!(reached(&plan(&config(), &nodes, &[])), ["old"], "to a process that begins, the older is right");
}

#[test]
fn a_node_without_range_or_address_is_waited_for() {
    let mut bare = (*node("bare", 1, "10.244.1.0/24", "192.0.2.3")).clone();
    bare.spec = None;
    let without = plan(&config(), &[own(), Arc::new(bare.clone())], &[]);
    assert_eq!((without.peers.len(), without.refused.len()), (0, 0));
    bare.spec = node("bare", 1, "10.244.1.0/24", "").spec.clone();
    bare.status = None;
    let without = plan(&config(), &[own(), Arc::new(bare)], &[]);
    assert_eq!((without.peers.len(), without.refused.len()), (0, 0));
}
