//! A runtime of its own for each test: own directories, bridge, table and cgroups; all gone afterwards.

#![allow(dead_code, clippy::unwrap_used)] // Each test binary uses a part of this.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use runtime::local::{Config, LocalRuntime, NetworkConfig, SYSCALL_QUIET};
use runtime::{
    ContainerConfig, ContainerState, ContainerStatus, Event, Exit, Image, NamespaceOptions, Resources, Runtime as _,
    SandboxConfig, Security, SyscallPolicy,
};

/// Nothing here takes longer, also on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Node {
    pub(crate) runtime: LocalRuntime,
    pub(crate) config: Config,
    pub(crate) name: String,
    /// The last runtime with other settings that a test has opened beside; its pods, and those of others before, which it
    /// took up, go with the node.
    pub(crate) other: Mutex<Option<LocalRuntime>>,
    directory: tempfile::TempDir,
}

/// Runs a test on a node of its own, or skips it loudly where that is not possible.
pub(crate) async fn on_a_node<F: Future<Output = ()> + Send + 'static>(test: impl FnOnce(std::sync::Arc<Node>) -> F) {
    if let Some(missing) = missing() {
        assert!(std::env::var_os("E2E_REQUIRED").is_none(), "this test needs {missing}");
        eprintln!("SKIP: this test needs {missing}");
        return;
    }
    let node = std::sync::Arc::new(Node::new().await);
    let result = tokio::spawn(tokio::time::timeout(3 * PATIENCE, test(node.clone()))).await;
    let other = node.other.lock().unwrap().take();
    if let Some(other) = other {
        for sandbox in other.sandboxes().await.unwrap() {
            other.remove_sandbox(&sandbox.id).await.unwrap();
        }
    }
    node.runtime.tear_down().await.unwrap();
    match result {
        Ok(finished) => finished.expect("the test ends in time"),
        Err(err) => std::panic::resume_unwind(err.into_panic()),
    }
}

fn missing() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("root");
    }
    let tools = [("/bin/busybox", "a static busybox"), ("/usr/sbin/nft", "nft")];
    tools.into_iter().find(|(path, _)| !Path::new(path).exists()).map(|(_, what)| what)
}

impl Node {
    async fn new() -> Self {
        static COUNT: AtomicU8 = AtomicU8::new(0);
        let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let name = format!("crt{:x}n{count:x}", process & 0xf_ffff);
        let directory = tempfile::tempdir().unwrap();
        let config = Config {
            root: directory.path().join("root"),
            run: directory.path().join("run"),
            shim: vec![env!("CARGO_BIN_EXE_coracle-shim").to_owned()],
            insecure_registries: vec!["127.0.0.1".to_owned()],
            syscall_policy: SyscallPolicy::Audit,
            syscall_quiet: SYSCALL_QUIET,
            network: NetworkConfig { bridge: name.clone(), table: name.clone(), ..NetworkConfig::default() },
        };
        let runtime = LocalRuntime::open(config.clone()).await.unwrap();
        let [high, low] = (process as u16).to_be_bytes();
        let v4 = format!("10.{}.{low}.{}/26", high | 64, count.wrapping_mul(64));
        let v6 = format!("fd00:{:x}:{count:x}::/64", process & 0xffff);
        runtime.set_pod_cidrs(&[v4, v6]).await.unwrap();
        Self { runtime, config, name, other: Mutex::default(), directory }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Makes and imports an image with busybox in it.
    pub(crate) async fn busybox(&self) -> Image {
        self.import(&layer()).await
    }

    /// Makes and imports an image of several layers, the lowest first.
    pub(crate) async fn import_as(&self, name: &str, layers: &[&[u8]]) -> Image {
        let tar = self.path("named.tar");
        std::fs::write(&tar, archive_of(name, layers)).unwrap();
        self.runtime.import_images(tar).await.unwrap().remove(0)
    }

    /// Makes and imports an image of one layer.
    pub(crate) async fn import(&self, layer: &[u8]) -> Image {
        let tar = self.path("image.tar");
        std::fs::write(&tar, archive(layer)).unwrap();
        self.runtime.import_images(tar).await.unwrap().remove(0)
    }

    pub(crate) fn sandbox_config(&self, name: &str) -> SandboxConfig {
        SandboxConfig {
            name: name.to_owned(),
            namespace: "test".to_owned(),
            log_directory: self.path("logs").join(name),
            cgroup_parent: format!("{}/{name}", self.name),
            ..SandboxConfig::default()
        }
    }

    pub(crate) async fn sandbox(&self, name: &str) -> String {
        self.runtime.run_sandbox(&self.sandbox_config(name)).await.unwrap().id
    }

    pub(crate) async fn sandbox_with(&self, name: &str, namespaces: NamespaceOptions) -> String {
        let config = SandboxConfig { namespaces, ..self.sandbox_config(name) };
        self.runtime.run_sandbox(&config).await.unwrap().id
    }

    pub(crate) async fn start(&self, sandbox: &str, config: ContainerConfig) -> String {
        let id = self.runtime.create_container(sandbox, &config).await.unwrap();
        self.runtime.start_container(&id).await.unwrap();
        id
    }

    /// Runs a shell script in a new pod to its end; returns its end and its output without the log's columns.
    pub(crate) async fn run(&self, script: &str, adjust: impl FnOnce(&mut ContainerConfig)) -> (Exit, String) {
        let image = self.busybox().await;
        let sandbox = self.sandbox(&format!("run{}", rand::random::<u32>())).await;
        let mut config = shell(&image, script);
        adjust(&mut config);
        let id = self.start(&sandbox, config).await;
        let exit = self.wait(&id).await;
        let output = self.output(&id).await;
        (exit, output)
    }

    /// Waits for a container's end.
    pub(crate) async fn wait(&self, id: &str) -> Exit {
        let mut events = self.runtime.events();
        loop {
            if let ContainerState::Exited(exit) = self.status(id).await.state {
                return exit;
            }
            tokio::time::timeout(PATIENCE, events.next()).await.expect("an event in time");
        }
    }

    pub(crate) async fn status(&self, id: &str) -> ContainerStatus {
        self.runtime.container_status(id).await.unwrap()
    }

    /// Reads a container's log without its columns.
    pub(crate) async fn output(&self, id: &str) -> String {
        let log = std::fs::read_to_string(self.status(id).await.log_path).unwrap();
        log.lines().map(|line| line.splitn(4, ' ').nth(3).unwrap().to_owned() + "\n").collect()
    }

    /// Waits until a container has said something.
    pub(crate) async fn until_output(&self, id: &str, text: &str) {
        let said = async {
            while !self.output(id).await.contains(text) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, said).await.expect("the output in time");
    }

    /// The process id of a sandbox's shim.
    pub(crate) fn shim(&self, sandbox: &str) -> u32 {
        let file = self.config.root.join("sandboxes").join(sandbox).join("sandbox.json");
        let saved: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        u32::try_from(saved["shim_pid"].as_u64().unwrap()).unwrap()
    }

    pub(crate) async fn exec(&self, id: &str, script: &str) -> (i32, String) {
        let command = ["sh", "-c", script].map(str::to_owned);
        let output = self.runtime.exec_sync(id, &command, PATIENCE).await.unwrap();
        (output.exit_code, String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap())
    }

    /// Waits for an event that meets a condition.
    pub(crate) async fn hear(
        events: &mut (impl futures::Stream<Item = Event> + Unpin),
        wanted: impl Fn(&Event) -> bool,
    ) {
        let found = async { while !wanted(&events.next().await.expect("events go on")) {} };
        tokio::time::timeout(PATIENCE, found).await.expect("the event in time");
    }
}

/// A container that runs a shell script.
pub(crate) fn shell(image: &Image, script: &str) -> ContainerConfig {
    ContainerConfig {
        name: "main".to_owned(),
        image: image.id.clone(),
        command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        log_path: PathBuf::from("main/0.log"),
        resources: Resources { pids_limit: 100, ..Resources::default() },
        security: Security { no_new_privileges: true, ..Security::default() },
        ..ContainerConfig::default()
    }
}

/// A container that does nothing until it is told to stop.
pub(crate) fn sleeper(image: &Image) -> ContainerConfig {
    shell(image, "trap 'exit 3' TERM; echo up; while :; do sleep 1000 & wait $!; done")
}

fn append(builder: &mut tar::Builder<Vec<u8>>, path: &str, content: &[u8], mode: u32) {
    let mut header = tar::Header::new_ustar();
    header.set_mode(mode);
    header.set_size(content.len() as u64);
    header.set_cksum();
    builder.append_data(&mut header, path, content).unwrap();
}

pub(crate) fn layer() -> Vec<u8> {
    layer_with(|_| {})
}

/// The layer with busybox, and whatever else.
pub(crate) fn layer_with(more: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    append(&mut builder, "bin/busybox", &std::fs::read("/bin/busybox").unwrap(), 0o755);
    let tools = "sh cat ls sleep id wget mount tail httpd stty ps tty true head unshare hostname ip touch grep";
    for tool in tools.split(' ') {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, format!("bin/{tool}"), "busybox").unwrap();
    }
    append(&mut builder, "etc/passwd", b"root:x:0:0::/root:/bin/sh\nweb:x:101:102::/var/web:/bin/sh\n", 0o644);
    append(&mut builder, "etc/group", b"root:x:0:\nweb:x:102:\nlogs:x:7:web\n", 0o644);
    append(&mut builder, "etc/secret", b"from the image\n", 0o600);
    more(&mut builder);
    builder.into_inner().unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The configuration of an image with this layer.
pub(crate) fn image_config(layer: &[u8]) -> String {
    image_config_of(&[layer])
}

fn image_config_of(layers: &[&[u8]]) -> String {
    let layers: Vec<_> = layers.iter().map(|layer| format!("sha256:{}", sha256(layer))).collect();
    serde_json::json!({
        "architecture": if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" }, "os": "linux",
        "config": {"Env": ["PATH=/bin", "FROM_IMAGE=yes"], "Cmd": ["sh"], "WorkingDir": "/srv"},
        "rootfs": {"type": "layers", "diff_ids": layers},
    })
    .to_string()
}

/// An image in `docker save` form.
pub(crate) fn archive(layer: &[u8]) -> Vec<u8> {
    archive_of("busybox:test", &[layer])
}

/// An image of several layers, the lowest first.
fn archive_of(name: &str, layers: &[&[u8]]) -> Vec<u8> {
    let files: Vec<_> = (0..layers.len()).map(|index| format!("layer{index}.tar")).collect();
    let manifest = serde_json::json!([{"Config": "config.json", "RepoTags": [name], "Layers": files}]).to_string();
    let mut builder = tar::Builder::new(Vec::new());
    append(&mut builder, "config.json", image_config_of(layers).as_bytes(), 0o644);
    for (file, layer) in files.iter().zip(layers) {
        append(&mut builder, file, layer, 0o644);
    }
    append(&mut builder, "manifest.json", manifest.as_bytes(), 0o644);
    builder.into_inner().unwrap()
}

/// A layer of these files, each with its mode.
pub(crate) fn files(files: &[(&str, &str, u32)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content, mode) in files {
        append(&mut builder, path, content.as_bytes(), *mode);
    }
    builder.into_inner().unwrap()
}
