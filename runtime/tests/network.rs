//! The pod network under attack: by pods, by other processes, and by somebody who removes parts of it.
#![allow(clippy::unwrap_used)]

mod node;

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use node::{Node, PATIENCE, on_a_node, shell, sleeper};
use runtime::local::{Config, LocalRuntime, NetworkConfig};
use runtime::{ContainerState, PortMapping, Runtime as _, SandboxConfig};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// How long an attack waits for an answer.
const WAIT: Duration = Duration::from_millis(700);

fn run(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

async fn pid(node: &Node, container: &str) -> u32 {
    match node.status(container).await.state {
        ContainerState::Running { pid, .. } => pid,
        other => panic!("{other:?}"),
    }
}

/// Does something in the network of a process.
fn inside<T: Send + 'static>(pid: u32, what: impl FnOnce() -> T + Send + 'static) -> T {
    let namespace = std::fs::File::open(format!("/proc/{pid}/ns/net")).unwrap();
    let thread = std::thread::spawn(move || {
        move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), Some(LinkNameSpaceType::Network)).unwrap();
        what()
    });
    thread.join().unwrap()
}

/// What a server answers, if one does.
fn fetch(to: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&to, WAIT).ok()?;
    stream.set_read_timeout(Some(WAIT)).ok()?;
    // A connection is enough to call it reached.
    let _reset = stream.write_all(b"GET / HTTP/1.0\r\n\r\n");
    let mut answer = String::new();
    let _reset = stream.read_to_string(&mut answer);
    Some(answer)
}

/// A server on this machine that tells a secret to whoever connects.
fn secret_at(address: &str) -> SocketAddr {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _gone = stream.and_then(|mut stream| {
                stream.read_exact(&mut [0; 18])?;
                stream.write_all(b"secret")
            });
        }
    });
    at
}

/// Waits until something holds.
async fn eventually(what: &str, holds: impl Fn() -> bool) -> Duration {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    began.elapsed()
}

#[tokio::test]
async fn a_pod_does_not_reach_the_nodes_loopback() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let host_ip = "127.0.0.1".to_owned();
        let mapping = PortMapping { protocol: "TCP".into(), container_port: 8080, host_port: port, host_ip };
        let config = SandboxConfig { port_mappings: vec![mapping], ..node.sandbox_config("victim") };
        let victim = node.runtime.run_sandbox(&config).await.unwrap().id;
        node.start(&victim, shell(&image, "echo hi > /srv/index.html; exec httpd -f -p 8080 -h /srv")).await;
        let sandbox = node.runtime.run_sandbox(&node.sandbox_config("evil")).await.unwrap();
        let container = node.start(&sandbox.id, sleeper(&image)).await;
        let (pid, IpAddr::V4(own)) = (pid(&node, &container).await, sandbox.ips[0]) else { panic!("an IPv4 address") };
        let gateway = gateway(own);
        // The node itself reaches the host port on its loopback, which is what `route_localnet` is for.
        eventually("the host port answers the node", || fetch(([127, 0, 0, 1], port).into()).is_some()).await;
        let away = format!(
            "nsenter -t {pid} -n sh -c 'echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet; \
             ip address del 127.0.0.1/8 dev lo; ip route add 127.0.0.0/8 via {gateway} dev eth0 src {own}'"
        );
        assert_eq!(run(&away), "");
        let open = secret_at("0.0.0.0");
        let reachable = inside(pid, move || fetch((gateway, open.port()).into()));
        assert_eq!(reachable.as_deref(), Some("secret"), "what listens everywhere is reached: packets do go out");
        let hidden = secret_at("127.0.0.1");
        let elsewhere = secret_at("127.8.8.8");
        let (mut tried, mut through) = (0, 0);
        for to in [hidden, elsewhere, ([127, 0, 0, 1], open.port()).into(), ([127, 0, 0, 1], port).into()] {
            tried += 1;
            through += u64::from(inside(pid, move || fetch(to)).is_some());
        }
        tried += 2;
        through += u64::from(datagram_arrives(pid, own.into(), Ipv4Addr::LOCALHOST));
        assert_eq!(run(&format!("nsenter -t {pid} -n ip address add 127.5.5.5/32 dev eth0")), "");
        through += u64::from(datagram_arrives(pid, Ipv4Addr::new(127, 5, 5, 5).into(), gateway));
        assert!(datagram_arrives(pid, own.into(), gateway), "a plain datagram arrives");
        faults::Attack::new("network: pod to the node's loopback").tried(tried, through).record();
    })
    .await;
}

/// The first address of the pod's /26.
fn gateway(pod: Ipv4Addr) -> Ipv4Addr {
    Ipv4Addr::from_bits((pod.to_bits() & !63) + 1)
}

/// Whether a datagram that a pod sends from an address arrives at the node.
fn datagram_arrives(pid: u32, from: IpAddr, to: Ipv4Addr) -> bool {
    let server = UdpSocket::bind(("0.0.0.0", 0)).unwrap();
    server.set_read_timeout(Some(WAIT)).unwrap();
    let port = server.local_addr().unwrap().port();
    inside(pid, move || UdpSocket::bind((from, 0)).unwrap().send_to(b"x", (to, port)).unwrap());
    server.recv(&mut [0; 8]).is_ok()
}

/// A server in a pod's network that tells whoever connects from where.
fn telling_peers(pid: u32) {
    inside(pid, || {
        let listener = TcpListener::bind("[::]:8080").unwrap();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let from = stream.peer_addr().unwrap().ip().to_canonical();
                let _gone =
                    stream.read_exact(&mut [0; 18]).and_then(|()| stream.write_all(from.to_string().as_bytes()));
            }
        })
    });
}

#[tokio::test]
async fn pods_have_an_address_of_each_family_and_answer_at_both() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let host_port = 31_998;
        let mapping = PortMapping { protocol: "TCP".into(), container_port: 8080, host_port, host_ip: String::new() };
        let config = SandboxConfig { port_mappings: vec![mapping], ..node.sandbox_config("server") };
        let server = node.runtime.run_sandbox(&config).await.unwrap();
        let [IpAddr::V4(v4), IpAddr::V6(v6)] = server.ips[..] else { panic!("{:?}", server.ips) };
        telling_peers(pid(&node, &node.start(&server.id, sleeper(&image)).await).await);
        let client = node.runtime.run_sandbox(&node.sandbox_config("client")).await.unwrap();
        let inner = pid(&node, &node.start(&client.id, sleeper(&image)).await).await;
        let router = std::net::Ipv6Addr::from_bits(v6.to_bits() & !0xffff | 1);
        for (own, to) in [(client.ips[0], SocketAddr::from((v4, 8080))), (client.ips[1], (v6, 8080).into())] {
            assert!(fetch(to).is_some(), "the node reaches {to}");
            let told = inside(inner, move || fetch(to));
            assert_eq!(told, Some(own.to_string()), "the pod's own address is seen at {to}");
        }
        for at in [SocketAddr::from((gateway(v4), host_port)), (router, host_port).into()] {
            assert!(inside(inner, move || fetch(at)).is_some(), "the host port answers at {at}");
        }
        let way = run(&format!("nsenter -t {inner} -n ip -6 route get {v6}"));
        assert!(way.contains(&format!("via {router}")), "nobody told it of a shorter way: {way}");
        let believes = run(&format!(
            "nsenter -t {inner} -n sh -c 'cd /proc/sys/net/ipv6/conf/eth0; cat accept_ra accept_redirects'"
        ));
        assert_eq!(believes, "0\n0\n", "another pod is nobody's router (CVE-2020-10749)");
    })
    .await;
}

#[tokio::test]
async fn the_bridge_keeps_its_hardware_address_while_pods_come_and_go() {
    on_a_node(|node| async move {
        let bridge = node.config.network.bridge.clone();
        let address = || run(&format!("ip -o link show dev {bridge} | grep -o 'ether [0-9a-f:]*'"));
        let (before, mut seen) = (address(), Vec::new());
        for number in 0..4 {
            let pod = node.sandbox(&format!("p{number}")).await;
            seen.push(address());
            node.runtime.remove_sandbox(&pod).await.unwrap();
            seen.push(address());
        }
        assert!(before.starts_with("ether ") && seen.iter().all(|one| *one == before), "{before} {seen:?}");
    })
    .await;
}

#[tokio::test]
async fn what_somebody_removes_of_the_network_comes_back_within_seconds() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let server = node.runtime.run_sandbox(&node.sandbox_config("server")).await.unwrap();
        node.start(&server.id, shell(&image, "echo hi > /srv/index.html; exec httpd -f -p 8080 -h /srv")).await;
        let at: SocketAddr = (server.ips[0], 8080).into();
        let (bridge, table) = (node.config.network.bridge.clone(), node.config.network.table.clone());
        let answers = || fetch(at).is_some_and(|answer| answer.ends_with("hi\n"));
        eventually("the pod answers", answers).await;
        let rules = || run(&format!("nft list table ip {table}; nft list table ip6 {table}"));
        let before = rules();
        let has_rules = || rules() == before;
        let IpAddr::V4(own) = server.ips[0] else { panic!("an IPv4 address") };
        let mut slowest = Duration::ZERO;
        for removal in [
            format!("ip link delete {bridge}"),
            format!("ip link set {bridge} down"),
            format!("ip address flush dev {bridge}"),
            format!("nft delete table ip {table}"),
            format!("nft flush chain ip {table} postrouting"),
            format!("nft flush chain ip {table} guard"),
            format!("nft delete table ip6 {table}"),
            format!("ip link delete {bridge}; nft delete table ip {table}"),
        ] {
            assert_eq!(run(&removal), "", "{removal}");
            // The last of the settings is made after the pods are attached.
            let localnet = format!("/proc/sys/net/ipv4/conf/{bridge}/route_localnet");
            let is_set = || std::fs::read_to_string(&localnet).is_ok_and(|set| set.trim() == "1");
            let took = eventually(&removal, || answers() && has_rules() && is_set()).await;
            assert!(run(&format!("ip -o address show dev {bridge}")).contains(&format!(" {}/", gateway(own))));
            slowest = slowest.max(took);
        }
        let late = node.runtime.run_sandbox(&node.sandbox_config("late")).await.unwrap();
        node.start(&late.id, shell(&image, "exec httpd -f -p 8080 -h /srv")).await;
        eventually("a pod that came later answers", || fetch((late.ips[0], 8080).into()).is_some()).await;
        faults::Attack::new("network: bridge, addresses and rules removed")
            .tried(8, 0)
            .figure("slowest repair, ms", slowest.as_millis())
            .record();
    })
    .await;
}

#[tokio::test]
async fn what_is_repaired_is_repaired_once_and_own_changes_are_no_news() {
    on_a_node(|node| async move {
        let table = node.config.network.table.clone();
        let handle = || run(&format!("nft -a list table ip {table} | head -1"));
        node.sandbox("quiet").await;
        let mapping = PortMapping {
            protocol: "TCP".into(),
            container_port: 80,
            host_port: 31_999,
            host_ip: "127.0.0.1".to_owned(),
        };
        let config = SandboxConfig { port_mappings: vec![mapping], ..node.sandbox_config("ported") };
        node.runtime.run_sandbox(&config).await.unwrap();
        let settled = handle();
        assert!(settled.contains("handle"), "{settled}");
        // Longer than a repair would take to begin; the table would have another handle then.
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(handle(), settled);
    })
    .await;
}

/// As through a Service; where `br_netfilter` is on, the bridge itself has to give the packets back.
#[tokio::test]
async fn a_pod_reaches_itself_by_an_address_that_is_translated_to_its_own() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let sandbox = node.runtime.run_sandbox(&node.sandbox_config("own")).await.unwrap();
        let container = node.start(&sandbox.id, shell(&image, "echo hi > /srv/i; exec httpd -f -p 8080 -h /srv")).await;
        let (pid, IpAddr::V4(own)) = (pid(&node, &container).await, sandbox.ips[0]) else { panic!("an IPv4 address") };
        eventually("it serves", || fetch((own, 8080).into()).is_some()).await;
        let table = format!("{}-hairpin", node.config.network.table);
        let chain = |name: &str, at: &str, rule: &str| format!("chain {name} {{ type nat hook {at}; {rule}; }};");
        let to = chain("a", "prerouting priority dstnat", &format!("ip saddr {own} ip daddr 192.0.2.77 dnat to {own}"));
        let from = format!("ct status dnat ip saddr {own} ip daddr {own} masquerade");
        let from = chain("b", "postrouting priority srcnat", &from);
        let rules = format!("table ip {table} {{ {to} {from} }}");
        run(&format!("echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables; nft '{rules}'"));
        let answer = inside(pid, || fetch(([192, 0, 2, 77], 8080).into()));
        run(&format!("nft delete table ip {table}"));
        assert!(answer.is_some(), "nothing came back");
        let bridge = &node.config.network.bridge;
        let lets_back = || run(&format!("ip -d link show master {bridge}")).contains("hairpin on");
        assert!(lets_back());
        run(&format!("ip link del {bridge}"));
        eventually("so it is with a bridge that was made anew", lets_back).await;
    })
    .await;
}

/// The name of the variable that makes [`as_another_process`] do something.
const OTHER: &str = "CORACLE_TEST_OTHER_PROCESS";

#[tokio::test]
async fn another_process_gets_neither_the_bridge_nor_the_table_nor_the_directory() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let server = node.runtime.run_sandbox(&node.sandbox_config("server")).await.unwrap();
        node.start(&server.id, shell(&image, "echo hi > /srv/index.html; exec httpd -f -p 8080 -h /srv")).await;
        let at: SocketAddr = (server.ips[0], 8080).into();
        eventually("the pod answers", || fetch(at).is_some()).await;
        let (name, own) = (node.name.as_str(), node.config.root.display().to_string());
        let (rest, elsewhere) = (node.path("elsewhere").display().to_string(), format!("{name}x"));
        let rules = run(&format!("nft list table ip {name}"));
        let mut through = 0;
        for (bridge, table, root, word) in [
            (name, elsewhere.as_str(), rest.as_str(), "interface"),
            (elsewhere.as_str(), name, &rest, "nftables table"),
            (elsewhere.as_str(), elsewhere.as_str(), &own, "is in use by process"),
        ] {
            let mut other = Command::new(std::env::current_exe().unwrap());
            other.args(["--exact", "as_another_process", "--nocapture"]);
            let output = other.env(OTHER, format!("{bridge} {table} {root}")).output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(said.contains("refused: ") && said.contains(word), "{said}");
            assert!(said.contains(&std::process::id().to_string()), "the holder is named: {said}");
            through += u64::from(fetch(at).is_none() || run(&format!("nft list table ip {name}")) != rules);
        }
        assert_eq!(run(&format!("ip -o link show {elsewhere} 2>/dev/null; ls /sys/class/net | grep {elsewhere}")), "");
        faults::Attack::new("network: another process with the same names").tried(3, through).record();
    })
    .await;
}

/// Not a test of its own: what another process does, which is this program started again.
#[tokio::test]
async fn as_another_process() {
    let Ok(words) = std::env::var(OTHER) else { return };
    let words: Vec<&str> = words.split(' ').collect();
    let run = std::path::Path::new("/run/coracle").join(words[0]);
    let network = NetworkConfig { bridge: words[0].into(), table: words[1].into(), ..NetworkConfig::default() };
    let config = Config { root: words[2].into(), run, network, ..Config::new().unwrap() };
    match LocalRuntime::open(config).await {
        Ok(runtime) => {
            runtime.tear_down().await.unwrap();
            println!("got through");
        }
        Err(err) => {
            println!("refused: {err}: {}", std::error::Error::source(&err).map_or(String::new(), ToString::to_string))
        }
    }
}

#[tokio::test]
async fn a_bridge_that_somebody_else_made_is_used_and_left() {
    on_a_node(|node| async move {
        let name = format!("{}f", node.name);
        assert_eq!(run(&format!("ip link add {name} type bridge")), "");
        let network = NetworkConfig { bridge: name.clone(), table: name.clone(), ..NetworkConfig::default() };
        let config =
            Config { root: node.path("foreign"), run: node.path("foreign-run"), network, ..node.config.clone() };
        let runtime = LocalRuntime::open(config).await.unwrap();
        runtime.set_pod_cidrs(&["10.63.255.0/29".to_owned()]).await.unwrap();
        assert!(run(&format!("ip -o address show dev {name}")).contains("10.63.255.1/29"));
        runtime.tear_down().await.unwrap();
        assert_eq!(run(&format!("ip link delete {name}")), "", "it is there still");
    })
    .await;
}

#[tokio::test]
async fn a_pods_cgroup_and_shared_memory_come_back_with_its_next_container() {
    on_a_node(|node| async move {
        let image = node.busybox().await;
        let resources = runtime::Resources { memory_limit: 64 << 20, ..runtime::Resources::default() };
        let config = SandboxConfig { resources, ..node.sandbox_config("pod") };
        let sandbox = node.runtime.run_sandbox(&config).await.unwrap().id;
        let first = node.start(&sandbox, shell(&image, "exit 0")).await;
        node.wait(&first).await;
        node.runtime.remove_container(&first).await.unwrap();
        let shm = node.config.run.join("shm").join(&sandbox);
        let limit = || {
            run(&format!(
                "cat $(find /sys/fs/cgroup -path '*{}/pod/memory.*' | grep -E '/memory.(limit_in_bytes|max)$')",
                node.name
            ))
        };
        assert_eq!(limit().trim(), (64 << 20).to_string());
        assert_eq!(run(&format!("umount {}", shm.display())), "");
        run(&format!("find /sys/fs/cgroup -depth -type d -path '*{}/pod*' -exec rmdir {{}} ';'", node.name));
        assert_eq!(run(&format!("find /sys/fs/cgroup -type d -path '*{}/pod'", node.name)), "", "cgroups are gone");
        let second = node.start(&sandbox, shell(&image, "mount | grep 'shm on /dev/shm.*65536k'")).await;
        assert_eq!(node.wait(&second).await.code, 0, "{}", node.output(&second).await);
        assert_eq!(limit().trim(), (64 << 20).to_string());
        assert!(run("cat /proc/self/mountinfo").contains(&shm.display().to_string()));
    })
    .await;
}
