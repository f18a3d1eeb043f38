//! Against the kernel, in network namespaces: needs root and `ip`.

use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::process::Command;
use std::time::Duration;

use runtime::namespace::NetworkNamespace;

use super::*;

/// A node's namespace, and the node as it says of itself.
struct Machine {
    namespace: NetworkNamespace,
    config: Config,
    own: Peer,
}

fn run(namespace: &NetworkNamespace, script: &str) -> String {
    let output = namespace.enter(|| Command::new("sh").args(["-ec", script]).output()).unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {text}");
    text
}

/// A machine behind a router, on a link of its own, with a pod.
fn machine(router: &NetworkNamespace, number: u8) -> Machine {
    let namespace = NetworkNamespace::new().unwrap();
    let descriptor = namespace.as_fd().as_raw_fd();
    let (pid, link) = (std::process::id(), format!("198.51.{number}"));
    run(
        router,
        &format!(
            "ip link add r{number} type veth peer name eth0; ip link set eth0 netns /proc/{pid}/fd/{descriptor}; \
             ip address add {link}.1/24 dev r{number}; ip link set r{number} up; echo 1 > /proc/sys/net/ipv4/ip_forward"
        ),
    );
    run(
        &namespace,
        &format!(
            "ip link set lo up; ip address add {link}.2/24 dev eth0; ip link set eth0 up; \
             ip route add default via {link}.1; ip address add 10.244.{number}.5/32 dev lo"
        ),
    );
    let name = format!("n{number}");
    let config = Config {
        node_name: name.clone(),
        cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap()],
        node_bits: 24,
        not_nodes: Vec::new(),
        tunnel: "test_vxlan".to_owned(),
        tunnel_id: 1,
        tunnel_port: 8472,
    };
    let range = Range { base: Ipv4Addr::new(10, 244, number, 0), bits: 24 };
    let own = Peer { name, address: Ipv4Addr::new(198, 51, number, 2), range };
    Machine { namespace, config, own }
}

impl Machine {
    fn sync(&self, peers: &[&Peer]) -> Synced {
        let peers = peers.iter().map(|peer| (*peer).clone()).collect();
        let plan = Plan { own: Some(self.own.clone()), peers, refused: BTreeMap::new() };
        let synced = self.namespace.enter(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
            runtime.block_on(async { Ok(sync(&Kernel::open().unwrap(), &self.config, plan).await.unwrap()) })
        });
        synced.unwrap()
    }

    /// A socket of its pod.
    fn pod(&self) -> UdpSocket {
        let address = self.own.range.base.to_bits() + 5;
        let socket = self.namespace.enter(|| UdpSocket::bind((Ipv4Addr::from_bits(address), 7000))).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        socket
    }
}

fn talk(from: &UdpSocket, to: &UdpSocket, size: usize) -> bool {
    let mut buffer = vec![0; 65_000];
    from.send_to(&vec![7; size], to.local_addr().unwrap()).is_ok()
        && to.recv_from(&mut buffer).is_ok_and(|(length, sender)| {
            assert_eq!(sender, from.local_addr().unwrap(), "nobody changes whom it is from");
            length == size
        })
}

#[test]
fn nodes_on_different_links_reach_each_others_pods_through_a_tunnel() {
    let Ok(router) = NetworkNamespace::new() else {
        assert!(std::env::var_os("E2E_REQUIRED").is_none(), "needs root");
        eprintln!("SKIP: needs root");
        return;
    };
    let (one, mut two) = (machine(&router, 1), machine(&router, 2));
    for (machine, other) in [(&one, &two), (&two, &one)] {
        let synced = machine.sync(&[&other.own]);
        assert_eq!((synced.peers.len(), synced.refused.len()), (1, 0));
    }
    let link = run(&one.namespace, "ip -d link show test_vxlan");
    assert!(link.contains("mtu 1450") && link.contains("dstport 8472") && link.contains("nolearning"), "{link}");
    let (here, there) = (one.pod(), two.pod());
    for size in [1, 1400, 1500, 9000] {
        assert!(talk(&here, &there, size) && talk(&there, &here, size), "{size} bytes");
    }

    // A second time changes nothing.
    let before = run(&one.namespace, "ip -d link show test_vxlan; ip route; ip neighbour; bridge fdb");
    one.sync(&[&two.own]);
    assert_eq!(run(&one.namespace, "ip -d link show test_vxlan; ip route; ip neighbour; bridge fdb"), before);

    // The node comes back with another address.
    run(&two.namespace, "ip address add 198.51.2.9/24 dev eth0");
    two.own.address = Ipv4Addr::new(198, 51, 2, 9);
    one.sync(&[&two.own]);
    two.sync(&[&one.own]);
    assert!(talk(&here, &there, 1400) && talk(&there, &here, 1400));
    assert!(!run(&one.namespace, "bridge fdb show dev test_vxlan").contains("198.51.2.2 "));

    // Who takes a route away finds it there again; who has one of their own keeps it.
    run(&one.namespace, "ip route delete 10.244.2.0/24");
    one.sync(&[&two.own]);
    assert!(talk(&here, &there, 100));
    run(&one.namespace, "ip route add 10.244.3.0/24 via 198.51.1.1");
    let third = Peer {
        name: "n3".into(),
        address: Ipv4Addr::new(198, 51, 3, 2),
        range: Range { base: Ipv4Addr::new(10, 244, 3, 0), bits: 24 },
    };
    let own = Peer {
        name: "me".into(),
        address: one.own.address,
        range: Range { base: Ipv4Addr::new(10, 244, 4, 0), bits: 24 },
    };
    let synced = one.sync(&[&two.own, &third, &own]);
    assert!(matches!(synced.refused["n3"], Refusal::Routed(_)) && matches!(synced.refused["me"], Refusal::Local(_)));
    assert_eq!(synced.peers, [two.own.clone()]);

    // Nothing of it is left when the other node goes.
    one.sync(&[]);
    let left = run(&one.namespace, "ip route; ip link");
    assert!(!left.contains("10.244.2.0") && !left.contains("vxlan") && left.contains("10.244.3.0/24"), "{left}");
}

#[test]
fn nodes_on_one_link_need_no_tunnel() {
    let Ok(router) = NetworkNamespace::new() else {
        assert!(std::env::var_os("E2E_REQUIRED").is_none(), "needs root");
        return;
    };
    let one = machine(&router, 1);
    let near = Peer {
        name: "near".into(),
        address: Ipv4Addr::new(198, 51, 1, 7),
        range: Range { base: Ipv4Addr::new(10, 244, 7, 0), bits: 24 },
    };
    one.sync(&[&near]);
    let routes = run(&one.namespace, "ip route; ip link");
    assert!(
        routes.contains("10.244.7.0/24 via 198.51.1.7 dev eth0 proto 197") && !routes.contains("vxlan"),
        "{routes}"
    );
}
