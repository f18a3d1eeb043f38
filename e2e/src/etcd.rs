//! An etcd of one member on loopback, without TLS.

use std::path::Path;

use crate::image::free_port;
use crate::separate_process::Member;

/// A running etcd; dropping it kills it.
pub struct Etcd {
    port: u16,
    _member: Member,
}

impl Etcd {
    /// Starts an etcd of this name that keeps its data in a folder of `directory`; whoever uses it waits for it.
    pub fn start(directory: &Path, name: &'static str) -> Self {
        let port = free_port();
        let mut member = Member::new(name, "etcd".into(), directory, port, flags(&directory.join(name), port));
        member.start();
        Self { port, _member: member }
    }

    /// Its endpoint.
    pub fn endpoint(&self) -> String {
        endpoint(self.port)
    }
}

fn endpoint(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// Flags of an etcd with its data in a directory.
pub(crate) fn flags(data: &Path, port: u16) -> Vec<String> {
    let (client, peer) = (endpoint(port), endpoint(free_port()));
    vec![
        format!("--data-dir={}", data.display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
    ]
}
