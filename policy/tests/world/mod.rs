//! A bridge with network namespaces behind it, as a node has them for its pods; gone when dropped.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// How long a packet may take that arrives; what takes longer does not arrive.
const WAIT: Duration = Duration::from_millis(700);

/// The node's side.
pub(crate) struct World {
    pub(crate) bridge: String,
    /// The first three numbers of all addresses.
    prefix: [u8; 3],
    namespaces: Vec<String>,
}

/// Whether tests can make namespaces and rules here. Panics instead of answering "no" when `E2E_REQUIRED=1`.
pub(crate) fn can_run() -> bool {
    let tools = ["nft list tables", "ip link"].iter().all(|command| sh(command).is_ok());
    let can = rustix::process::geteuid().is_root() && tools;
    assert!(can || std::env::var_os("E2E_REQUIRED").is_none(), "root, nft and ip are needed");
    if !can {
        eprintln!("SKIP: root, nft and ip are needed");
    }
    can
}

/// Runs a command; its output, or what it complained of.
pub(crate) fn sh(command: &str) -> Result<String, String> {
    let output = Command::new("sh").args(["-c", command]).output().map_err(|err| err.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// Gives nft a text.
pub(crate) fn nft(text: &str) {
    let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    nft.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success(), "{text}");
}

impl World {
    pub(crate) fn new() -> Self {
        let [high, low] = (std::process::id() as u16).to_be_bytes();
        let bridge = format!("cpt{:x}", std::process::id() & 0xf_ffff);
        let world = Self { bridge, prefix: [10, high & 31 | 128, low], namespaces: Vec::new() };
        let (bridge, gateway) = (&world.bridge, world.address(1));
        sh(&format!(
            "ip link add {bridge} type bridge && ip link set {bridge} up && ip address add {gateway}/24 dev {bridge} && \
             echo 1 > /proc/sys/net/ipv4/ip_forward && echo 0 > /proc/sys/net/ipv4/conf/{bridge}/send_redirects"
        ))
        .unwrap();
        world
    }

    pub(crate) fn address(&self, last: u8) -> Ipv4Addr {
        let [a, b, c] = self.prefix;
        Ipv4Addr::new(a, b, c, last)
    }

    /// Makes a namespace with an address, as the runtime connects a pod.
    pub(crate) fn pod(&mut self, last: u8) -> Inside {
        let (bridge, gateway, address) = (&self.bridge, self.address(1), self.address(last));
        let name = format!("{bridge}-{last}");
        let veth = format!("{bridge}v{last}");
        sh(&format!(
            "ip netns add {name} && ip link add {veth} type veth peer name eth0 netns {name} && \
             ip link set {veth} master {bridge} up && ip link set {veth} type bridge_slave hairpin on && \
             ip -n {name} link set lo up && ip -n {name} link set eth0 up && \
             ip -n {name} address add {address}/32 dev eth0 && ip -n {name} route add {gateway} dev eth0 scope link && \
             ip -n {name} route add default via {gateway}"
        ))
        .unwrap();
        self.namespaces.push(name.clone());
        Inside { namespace: Some(name), address: address.into() }
    }

    /// The node itself.
    pub(crate) fn node(&self) -> Inside {
        Inside { namespace: None, address: self.address(1).into() }
    }

    /// Has a pod send frames for another to that pod itself, as whoever may write frames can.
    pub(crate) fn bypass(&self, from: &Inside, to: &Inside) {
        let (own, other) = (from.namespace.as_ref().unwrap(), to.namespace.as_ref().unwrap());
        let (address, link) = (to.address, sh(&format!("ip -n {other} -o link show eth0")).unwrap());
        let mac = link.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).unwrap();
        sh(&format!(
            "ip -n {own} route add {address} dev eth0 scope link && ip -n {own} neigh replace {address} lladdr {mac} dev eth0"
        ))
        .unwrap();
    }

    /// Removes an address from a pod and gives it to another.
    pub(crate) fn move_address(&self, from: &Inside, to: Inside) -> Inside {
        let (old, new) = (from.namespace.as_ref().unwrap(), to.namespace.as_ref().unwrap());
        let address = from.address;
        sh(&format!(
            "ip -n {old} address flush dev eth0; ip -n {new} address add {address}/32 dev eth0 && \
             ip -n {new} address del {}/32 dev eth0 && ip neigh flush dev {}",
            to.address, self.bridge
        ))
        .unwrap();
        Inside { address, ..to }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for namespace in &self.namespaces {
            // A namespace may outlive its name for as long as there is something to be sent.
            let _gone = sh(&format!("ip -n {namespace} link delete eth0; ip netns delete {namespace}"));
        }
        let _gone = sh(&format!("ip link delete {}", self.bridge));
    }
}

/// Somewhere packets come from and go to.
#[derive(Clone)]
pub(crate) struct Inside {
    namespace: Option<String>,
    pub(crate) address: IpAddr,
}

impl Inside {
    /// Does something in its network, on a thread of its own.
    pub(crate) fn run<T: Send + 'static>(&self, what: impl FnOnce() -> T + Send + 'static) -> T {
        let namespace = self.namespace.clone();
        let inside = move || {
            if let Some(name) = namespace {
                let namespace = std::fs::File::open(format!("/run/netns/{name}")).unwrap();
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            }
            what()
        };
        std::thread::spawn(inside).join().unwrap()
    }

    /// Echoes what comes to ports of TCP and UDP, until the test ends.
    pub(crate) fn serve(&self, ports: &[u16]) {
        for port in ports.iter().copied() {
            let address = self.address;
            let (listener, socket) = self
                .run(move || (TcpListener::bind((address, port)).unwrap(), UdpSocket::bind((address, port)).unwrap()));
            std::thread::spawn(move || {
                for mut stream in listener.incoming().flatten() {
                    std::thread::spawn(move || {
                        let mut buffer = [0; 64];
                        while let Ok(length @ 1..) = stream.read(&mut buffer) {
                            if stream.write_all(&buffer[..length]).is_err() {
                                return;
                            }
                        }
                    });
                }
            });
            std::thread::spawn(move || {
                let mut buffer = [0; 64];
                while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    // Nobody may be there to hear it.
                    let _unheard = socket.send_to(&buffer[..length], from);
                }
            });
        }
    }

    /// A connection, if it can be had.
    pub(crate) fn connect(&self, to: impl Into<SocketAddr>) -> Option<TcpStream> {
        let to = to.into();
        self.run(move || TcpStream::connect_timeout(&to, WAIT).ok())
    }

    /// Whether TCP gets an answer.
    pub(crate) fn reaches(&self, to: &Self, port: u16) -> bool {
        self.connect((to.address, port)).is_some_and(|mut stream| echoes(&mut stream))
    }

    /// Whether UDP gets an answer.
    pub(crate) fn reaches_by_udp(&self, to: &Self, port: u16) -> bool {
        let (own, to) = (self.address, to.address);
        self.run(move || {
            let socket = UdpSocket::bind((own, 0)).unwrap();
            socket.set_read_timeout(Some(WAIT)).unwrap();
            socket.send_to(b"x", (to, port)).is_ok() && socket.recv(&mut [0; 8]).is_ok()
        })
    }
}

/// Whether a connection still gets answers.
pub(crate) fn echoes(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(WAIT)).unwrap();
    stream.write_all(b"x").is_ok() && matches!(stream.read(&mut [0; 64]), Ok(1..))
}
