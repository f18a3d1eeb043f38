//! Pods that may not send or receive as fast as they can.
#![allow(clippy::unwrap_used)]

mod node;

use std::io::Write as _;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use node::{Node, on_a_node, sleeper};
use runtime::{Bandwidth, ContainerState, Runtime as _, SandboxConfig};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

async fn pid(node: &Node, container: &str) -> u32 {
    match node.status(container).await.state {
        ContainerState::Running { pid, .. } => pid,
        other => panic!("{other:?}"),
    }
}

/// Does something in the network of a process, or in this one's.
fn inside<T: Send + 'static>(pid: Option<u32>, what: impl FnOnce() -> T + Send + 'static) -> T {
    let enter = move || {
        if let Some(pid) = pid {
            let namespace = std::fs::File::open(format!("/proc/{pid}/ns/net")).unwrap();
            move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), Some(LinkNameSpaceType::Network)).unwrap();
        }
        what()
    };
    std::thread::spawn(enter).join().unwrap()
}

/// How long so many bytes take from one network to another, both of which are those of a process, or this one's.
fn time_to_send(bytes: usize, from: Option<u32>, to: Option<u32>, address: IpAddr) -> Duration {
    let listener = inside(to, move || TcpListener::bind((address, 0)).unwrap());
    let at = listener.local_addr().unwrap();
    let reading = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        std::io::copy(&mut stream, &mut std::io::sink()).unwrap()
    });
    let began = Instant::now();
    inside(from, move || TcpStream::connect(at).unwrap().write_all(&vec![0; bytes]).unwrap());
    assert_eq!(reading.join().unwrap(), bytes as u64);
    began.elapsed()
}

#[tokio::test]
async fn a_pod_receives_and_sends_as_fast_as_it_may() {
    const BYTES: usize = 1_000_000;
    on_a_node(|node| async move {
        let image = node.busybox().await;
        // Half a second and a whole one for so many bytes.
        let bandwidth = Bandwidth { ingress: Some(16_000_000), egress: Some(8_000_000) };
        let config = SandboxConfig { bandwidth, ..node.sandbox_config("slow") };
        let slow = node.runtime.run_sandbox(&config).await.unwrap();
        let free = node.runtime.run_sandbox(&node.sandbox_config("free")).await.unwrap();
        let slow = (Some(pid(&node, &node.start(&slow.id, sleeper(&image)).await).await), slow.ips[0]);
        let free = (Some(pid(&node, &node.start(&free.id, sleeper(&image)).await).await), free.ips[0]);
        let (received, sent) = (time_to_send(BYTES, None, slow.0, slow.1), time_to_send(BYTES, slow.0, free.0, free.1));
        let others = time_to_send(BYTES, None, free.0, free.1);
        assert!(received > Duration::from_millis(400) && sent > Duration::from_millis(800), "{received:?} {sent:?}");
        assert!(received < Duration::from_secs(3) && sent < Duration::from_secs(6), "{received:?} {sent:?}");
        assert!(others < received, "{others:?}: nobody else is slow");
        let rate = Bandwidth { ingress: Some(80_000_000_000), egress: None };
        let config = SandboxConfig { bandwidth: rate, ..node.sandbox_config("fast") };
        node.runtime.run_sandbox(&config).await.unwrap();
        let bridge = &node.config.network.bridge;
        let script = format!("for link in $(ls /sys/class/net/{bridge}/brif); do tc qdisc show dev $link; done");
        let links = Command::new("sh").args(["-c", &script]).output().unwrap();
        let links = String::from_utf8_lossy(&links.stdout);
        assert!(links.contains("rate 80Gbit") && links.contains("rate 16Mbit"), "{links}");
    })
    .await;
}
