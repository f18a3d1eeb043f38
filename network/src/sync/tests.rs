//! Against the kernel, in network namespaces: needs root and `ip`.

use std::net::{IpAddr, UdpSocket};
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
    pod: IpAddr,
}

fn run(namespace: &NetworkNamespace, script: &str) -> String {
    let output = namespace.enter(|| Command::new("sh").args(["-ec", script]).output()).unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {text}");
    text
}

/// What differs between the families.
#[derive(Clone, Copy)]
struct Numbers {
    family: Family,
    /// Beginnings of the addresses of links, and of the ranges of pods; a number follows, then the rest.
    link: &'static str,
    pods: &'static str,
    /// What stands between a number and that of a host.
    between: &'static str,
    /// Lengths of the prefixes of the cluster's range, a node's range, and an address.
    bits: [u8; 3],
    flag: &'static str,
    tunnel: &'static str,
    mtu: &'static str,
}

const V4: Numbers = Numbers {
    family: Family::V4,
    link: "198.51.",
    pods: "10.244.",
    between: ".",
    bits: [16, 24, 32],
    flag: "-4",
    tunnel: "test_vxlan",
    mtu: "mtu 1450",
};
const V6: Numbers = Numbers {
    family: Family::V6,
    link: "2001:db8:0:",
    pods: "fd00:10:0:",
    between: "::",
    bits: [48, 64, 128],
    flag: "-6",
    tunnel: "test_vxlan6",
    mtu: "mtu 1430",
};

impl Numbers {
    /// The address of a host on the link of a number.
    fn host(&self, number: u8, host: u8) -> IpAddr {
        format!("{}{number}{}{host}", self.link, self.between).parse().unwrap()
    }

    fn base(&self, number: u8) -> IpAddr {
        let rest = if self.family == Family::V4 { ".0" } else { "::" };
        format!("{}{number}{rest}", self.pods).parse().unwrap()
    }

    fn range(&self, number: u8) -> Range {
        Range { base: self.base(number), bits: self.bits[1] }
    }

    fn pod(&self, number: u8) -> IpAddr {
        format!("{}{number}{}5", self.pods, self.between).parse().unwrap()
    }

    fn peer(&self, name: &str, number: u8, address: IpAddr) -> Peer {
        Peer { name: name.into(), address, range: self.range(number) }
    }

    /// A machine behind a router, on a link of its own, with a pod.
    fn machine(self, router: &NetworkNamespace, number: u8) -> Machine {
        let namespace = NetworkNamespace::new().unwrap();
        let descriptor = namespace.as_fd().as_raw_fd();
        let (pid, [_, node, whole], flag) = (std::process::id(), self.bits, self.flag);
        let (first, second, pod) = (self.host(number, 1), self.host(number, 2), self.pod(number));
        // IPv6 asks whether an address is another's for a second, but for those with `nodad`.
        let nodad = if self.family == Family::V6 { "nodad" } else { "" };
        run(
            router,
            &format!(
                "ip link add r{number} type veth peer name eth0; ip link set eth0 netns /proc/{pid}/fd/{descriptor}; \
                 ip address add {first}/{node} dev r{number} {nodad}; ip link set r{number} up; \
                 echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding"
            ),
        );
        run(
            &namespace,
            &format!(
                "ip link set lo up; ip address add {second}/{node} dev eth0 {nodad}; ip link set eth0 up; \
                 ip {flag} route add default via {first}; ip address add {pod}/{whole} dev lo {nodad}"
            ),
        );
        let name = format!("n{number}");
        let config = Config {
            node_name: name.clone(),
            cluster_cidrs: vec![Range { base: self.base(0), bits: self.bits[0] }.cidr()],
            node_bits: [24, 64],
            not_nodes: Vec::new(),
            tunnel: "test_vxlan".to_owned(),
            tunnel_id: 1,
            tunnel_port: 8472,
        };
        Machine { namespace, config, own: self.peer(&name, number, second), pod }
    }
}

impl Machine {
    fn sync(&self, peers: &[&Peer]) -> Synced {
        let peers = peers.iter().map(|peer| (*peer).clone()).collect();
        let plan = Plan { own: Some(self.own.clone()), peers, refused: BTreeMap::new() };
        let synced = self.namespace.enter(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
            let family = self.own.family();
            runtime.block_on(async { Ok(sync(&Kernel::open().unwrap(), &self.config, family, plan).await.unwrap()) })
        });
        synced.unwrap()
    }

    /// A socket of its pod.
    fn pod(&self) -> UdpSocket {
        let socket = self.namespace.enter(|| UdpSocket::bind((self.pod, 7000))).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        socket
    }
}

/// A router, where this machine can have one.
fn router() -> Option<NetworkNamespace> {
    let router = NetworkNamespace::new().ok();
    if router.is_none() {
        assert!(std::env::var_os("E2E_REQUIRED").is_none(), "needs root");
        eprintln!("SKIP: needs root");
    }
    router
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
    across_a_router(V4);
}

#[test]
fn nodes_on_different_links_reach_each_others_pods_of_ipv6_through_a_tunnel() {
    across_a_router(V6);
}

fn across_a_router(numbers: Numbers) {
    let Some(router) = router() else { return };
    let Numbers { flag, tunnel, .. } = numbers;
    let (one, mut two) = (numbers.machine(&router, 1), numbers.machine(&router, 2));
    for (machine, other) in [(&one, &two), (&two, &one)] {
        let synced = machine.sync(&[&other.own]);
        assert_eq!((synced.peers.len(), synced.refused.len()), (1, 0), "{:?}", synced.refused);
    }
    let link = run(&one.namespace, &format!("ip -d link show {tunnel}"));
    assert!(link.contains(numbers.mtu) && link.contains("dstport 8472") && link.contains("nolearning"), "{link}");
    let (here, there) = (one.pod(), two.pod());
    for size in [1, 1400, 1500, 9000] {
        assert!(talk(&here, &there, size) && talk(&there, &here, size), "{size} bytes");
    }

    // A second time changes nothing.
    let all = format!("ip -d link show {tunnel}; ip {flag} route; ip {flag} neighbour show dev {tunnel}; bridge fdb");
    let before = run(&one.namespace, &all);
    one.sync(&[&two.own]);
    assert_eq!(run(&one.namespace, &all), before);

    // The node comes back with another address.
    let (old, new, bits) = (two.own.address, numbers.host(2, 9), numbers.bits[1]);
    let nodad = if numbers.family == Family::V6 { "nodad" } else { "" };
    run(&two.namespace, &format!("ip address add {new}/{bits} dev eth0 {nodad}"));
    two.own.address = new;
    one.sync(&[&two.own]);
    two.sync(&[&one.own]);
    assert!(talk(&here, &there, 1400) && talk(&there, &here, 1400));
    assert!(!run(&one.namespace, &format!("bridge fdb show dev {tunnel}")).contains(&format!("{old} ")));

    // Who takes a route away finds it there again; who has one of their own keeps it.
    let [second, third] = [2, 3].map(|number| numbers.range(number).cidr());
    run(&one.namespace, &format!("ip {flag} route delete {second}"));
    one.sync(&[&two.own]);
    assert!(talk(&here, &there, 100));
    run(&one.namespace, &format!("ip {flag} route add {third} via {}", numbers.host(1, 1)));
    let routed = numbers.peer("n3", 3, numbers.host(3, 2));
    let own = numbers.peer("me", 4, one.own.address);
    let synced = one.sync(&[&two.own, &routed, &own]);
    assert!(matches!(synced.refused["n3"], Refusal::Routed(_)) && matches!(synced.refused["me"], Refusal::Local(_)));
    assert_eq!(synced.peers, [two.own.clone()]);

    // Nothing of it is left when the other node goes.
    one.sync(&[]);
    let left = run(&one.namespace, &format!("ip {flag} route; ip link"));
    let (second, third) = (second.to_string(), third.to_string());
    assert!(!left.contains(&second) && !left.contains("vxlan") && left.contains(&third), "{left}");
}

#[test]
fn nodes_on_one_link_need_no_tunnel() {
    let Some(router) = router() else { return };
    for (numbers, number) in [(V4, 1), (V6, 2)] {
        let one = numbers.machine(&router, number);
        let near = numbers.peer("near", 7, numbers.host(number, 7));
        one.sync(&[&near]);
        let routes = run(&one.namespace, &format!("ip {} route; ip link", numbers.flag));
        let route = format!("{} via {} dev eth0 proto 197", numbers.range(7).cidr(), near.address);
        assert!(routes.contains(&route) && !routes.contains("vxlan"), "{routes}");
    }
}
