//! A real registry on loopback, with an image made on the spot from static busybox.

use std::net::TcpListener;
use std::ops::Range;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use crate::command::{Run as _, eventually};
use crate::workspace;

/// A running registry; dropping it stops it.
pub struct Registry {
    process: Child,
    port: u16,
}

impl Registry {
    /// Starts a registry that keeps its data in `directory`, and pushes the busybox image.
    pub fn start(directory: &Path) -> Self {
        let port = free_port();
        let config = directory.join("registry.yml");
        let data = directory.join("registry");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: 127.0.0.1:{port}}}\n",
            data.display()
        );
        std::fs::write(&config, text).expect("the directory is writable");
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry starts");
        let registry = Self { process, port };
        eventually("the registry listens", Duration::from_secs(10), || {
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        });
        let archive = directory.join("busybox.tar");
        Command::new(workspace().join("manifests/busybox-image")).arg(&archive).run().ok();
        for name in ["busybox:1", "busybox:2"] {
            Command::new("skopeo")
                .args(["copy", "--quiet", "--dest-tls-verify=false"])
                .arg(format!("docker-archive:{}", archive.display()))
                .arg(format!("docker://127.0.0.1:{port}/{name}"))
                .run()
                .ok();
        }
        registry
    }

    /// The flag of a node that may pull from it: it is on loopback, without TLS.
    pub fn flag(&self) -> String {
        format!("--insecure-registry=127.0.0.1:{}", self.port)
    }

    /// The name of an image in this registry: `busybox:1` and `busybox:2` exist.
    pub fn image(&self, name: &str) -> String {
        format!("127.0.0.1:{}/{name}", self.port)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ended = self.process.kill();
        let _reaped = self.process.wait();
    }
}

/// A port of loopback that nobody uses at this moment. It lies below those that the kernel gives to connections, one of
/// which might have it by the time that it is listened on.
pub(crate) fn free_port() -> u16 {
    const PORTS: Range<u16> = 20_000..32_000;
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let begin = std::process::id().wrapping_mul(101);
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let mut ports = std::iter::repeat_with(|| {
        let step = begin.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed).into()) % PORTS.len() as u32;
        PORTS.start + u16::try_from(step).expect("less than the number of ports")
    });
    ports.by_ref().take(PORTS.len()).find(is_free).expect("loopback has free ports")
}
