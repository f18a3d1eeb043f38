//! Against the kernel, in network namespaces: needs root and `ip`.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::process::Command;
use std::time::{Duration, Instant};

use runtime::namespace::NetworkNamespace;

use super::*;
use crate::links::Links;

const V4: &str = "192.0.2.50";
const V6: &str = "fd00:2::50";

fn run(namespace: &NetworkNamespace, script: &str) -> String {
    let output = namespace.enter(|| Command::new("sh").args(["-ec", script]).output()).unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {text}");
    text
}

/// A machine on a switch, with an address of each family.
fn machine(switch: &NetworkNamespace, number: u8) -> NetworkNamespace {
    let namespace = NetworkNamespace::new().unwrap();
    let (pid, descriptor) = (std::process::id(), namespace.as_fd().as_raw_fd());
    run(
        switch,
        &format!(
            "ip link show s >/dev/null 2>&1 || ip link add s type bridge mcast_snooping 0; ip link set s up; \
             ip link add p{number} type veth peer name eth0; ip link set eth0 netns /proc/{pid}/fd/{descriptor}; \
             ip link set p{number} master s up"
        ),
    );
    run(
        &namespace,
        &format!(
            "ip link set lo up; ip address add 192.0.2.{number}/24 dev eth0; \
             ip address add fd00:2::{number}/64 dev eth0 nodad; ip link set eth0 up"
        ),
    );
    namespace
}

/// Answers in a namespace for as long as something else takes there and in another.
fn speaking<T: std::marker::Send>(
    namespace: &NetworkNamespace,
    number: u8,
    places: &BTreeMap<IpAddr, usize>,
    meanwhile: impl FnOnce() -> T + std::marker::Send,
) -> T {
    std::thread::scope(|scope| {
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let speaking = scope.spawn(move || {
            namespace.enter(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(async {
                    let own: [IpAddr; 2] =
                        [format!("192.0.2.{number}").parse().unwrap(), format!("fd00:2::{number}").parse().unwrap()];
                    let links = Links::read(&own).await.unwrap();
                    assert!(links.of(own[0]).is_none() && links.of("8.8.8.8".parse().unwrap()).is_none());
                    assert!(links.of("192.0.2.255".parse().unwrap()).is_none());
                    let mut speaker = Speaker::open(links.of(V4.parse().unwrap()).unwrap().clone())?;
                    let mut standings = Standings::default();
                    standings.set(places);
                    speaker.hear_of(standings.addresses())?;
                    let mut ticks = tokio::time::interval(Duration::from_millis(100));
                    let speak = async {
                        loop {
                            tokio::select! {
                                _ = ticks.tick() => standings.tick().into_iter().for_each(|what| speaker.send(what)),
                                heard = speaker.readable() => {
                                    heard?;
                                    for address in speaker.listen(&standings)? {
                                        standings.heard(address);
                                    }
                                }
                            }
                        }
                    };
                    tokio::select! {
                        result = speak => result,
                        _ = stopped => Ok(()),
                    }
                })
            })
        });
        let result = meanwhile();
        stop.send(()).unwrap();
        speaking.join().unwrap().unwrap();
        result
    })
}

fn mac_of(namespace: &NetworkNamespace) -> String {
    run(namespace, "cat /sys/class/net/eth0/address 2>/dev/null || true; ip -o link show eth0")
        .split("link/ether ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next())
        .unwrap()
        .to_owned()
}

/// Whether a client's kernel finds an address at a hardware address in time.
fn finds(client: &NetworkNamespace, address: &str, mac: &str) -> bool {
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline {
        client
            .enter(|| {
                let own = if address.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
                let _unreachable = UdpSocket::bind(own)?.send_to(b"x", (address.parse::<IpAddr>().unwrap(), 9));
                Ok(())
            })
            .unwrap();
        if run(client, &format!("ip neighbour show {address}")).contains(mac) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    false
}

#[test]
fn a_client_on_the_link_finds_an_address_at_its_node_and_at_the_next_when_that_one_is_silent() {
    let Ok(switch) = NetworkNamespace::new() else {
        assert!(std::env::var_os("E2E_REQUIRED").is_none(), "needs root");
        eprintln!("SKIP: needs root");
        return;
    };
    let (one, two, client) = (machine(&switch, 1), machine(&switch, 2), machine(&switch, 9));
    let places = |place: usize| -> BTreeMap<IpAddr, usize> {
        [V4, V6].into_iter().map(|text| (text.parse().unwrap(), place)).collect()
    };
    let (first, second) = (mac_of(&one), mac_of(&two));
    let (lead, follow) = (places(0), places(1));
    speaking(&two, 2, &follow, || {
        speaking(&one, 1, &lead, || {
            for address in [V4, V6] {
                assert!(finds(&client, address, &first), "{address}: {}", run(&client, "ip neighbour"));
            }
            std::thread::sleep(Duration::from_secs(1));
            for address in [V4, V6] {
                run(&client, &format!("ip neighbour flush to {address}"));
                assert!(finds(&client, address, &first), "the second keeps quiet while the first answers");
            }
        });
        // The first is silent now; the second tells everybody, also who remembers the first.
        for address in [V4, V6] {
            assert!(finds(&client, address, &second), "{address}: {}", run(&client, "ip neighbour"));
        }
        // It comes back, and the second steps back.
        speaking(&one, 1, &lead, || {
            for address in [V4, V6] {
                assert!(finds(&client, address, &first), "{address}: {}", run(&client, "ip neighbour"));
            }
        });
    });
}
