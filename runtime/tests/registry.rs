//! Pulling from a real registry on the loopback address; needs `docker-registry` besides what the other tests need.
#![allow(clippy::unwrap_used)]

mod node;

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use node::{PATIENCE, on_a_node, shell};
use oci_client::client::{Client, ClientConfig, ClientProtocol, Config, ImageLayer};
use oci_client::secrets::RegistryAuth;
use runtime::{ContainerConfig, Error, Runtime as _};

struct Registry {
    process: Child,
    address: String,
    _directory: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// Starts a registry on a free port; `None` where there is none to start.
async fn registry() -> Option<Registry> {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (address, directory) = (format!("127.0.0.1:{port}"), tempfile::tempdir().unwrap());
    let config = format!(
        "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n",
        directory.path().join("blobs").display()
    );
    let file = directory.path().join("config.yml");
    std::fs::write(&file, config).unwrap();
    let started =
        Command::new("docker-registry").arg("serve").arg(&file).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let Ok(process) = started else {
        assert!(std::env::var_os("E2E_REQUIRED").is_none(), "this test needs docker-registry");
        eprintln!("SKIP: this test needs docker-registry");
        return None;
    };
    let registry = Registry { process, address: address.clone(), _directory: directory };
    let listening = async {
        while tokio::net::TcpStream::connect(&address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, listening).await.expect("the registry listens in time");
    Some(registry)
}

/// Pushes a busybox image, its layer compressed with gzip.
async fn push(name: &str) {
    let layer = node::layer();
    let config = Config::oci_v1(node::image_config(&layer), None);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &layer).unwrap();
    let layers = [ImageLayer::oci_v1_gzip(gzip.finish().unwrap(), None)];
    let client = Client::new(ClientConfig { protocol: ClientProtocol::Http, ..ClientConfig::default() });
    let reference = name.parse().unwrap();
    client.push(&reference, &layers, config, &RegistryAuth::Anonymous, None).await.unwrap();
}

#[tokio::test]
async fn an_image_is_pulled_by_tag_and_digest_and_runs() {
    let Some(registry) = registry().await else { return };
    on_a_node(|node| async move {
        let name = format!("{}/team/busybox:1", registry.address);
        push(&name).await;
        let pulls = futures::future::join_all((0..3).map(|_| node.runtime.pull_image(&name, None))).await;
        let image = pulls.into_iter().next().unwrap().unwrap();
        assert_eq!(image.tags, std::slice::from_ref(&name));
        let by_digest = node.runtime.pull_image(&image.digests[0], None).await.unwrap();
        assert_eq!(by_digest.id, image.id);
        assert_eq!(node.runtime.image_status(&name).await.unwrap().unwrap().id, image.id);
        let sandbox = node.sandbox("pulled").await;
        let id = node.start(&sandbox, shell(&image, "echo pulled")).await;
        assert_eq!(node.wait(&id).await.code, 0);
        assert_eq!(node.output(&id).await, "pulled\n");
        node.runtime.remove_image(&name).await.unwrap();
        assert!(node.runtime.images().await.unwrap().is_empty());
        let again = ContainerConfig { attempt: 1, ..shell(&image, "true") };
        assert!(matches!(node.runtime.create_container(&sandbox, &again).await, Err(Error::NotFound { .. })));
    })
    .await;
}

#[tokio::test]
async fn a_pull_that_fails_says_what_the_registry_said() {
    let Some(registry) = registry().await else { return };
    on_a_node(|node| async move {
        push(&format!("{}/busybox:1", registry.address)).await;
        let check = async |name: String, reason: &str| {
            let err = node.runtime.pull_image(&name, None).await.unwrap_err().to_string();
            assert!(err.contains(reason) && err.contains(&name), "{err}");
        };
        check(format!("{}/busybox:2", registry.address), "manifest unknown").await;
        check(format!("{}/nobody:1", registry.address), "unknown").await;
        check("127.0.0.1:1/busybox:1".to_owned(), "onnection refused").await;
        let port = registry.address.rsplit_once(':').unwrap().1.to_owned();
        check(format!("localhost:{port}/busybox:1"), "--insecure-registry").await;
        check(format!("127.0.0.2:{port}/busybox:1"), "--insecure-registry").await;
        check("Not A Name".to_owned(), "invalid reference format").await;
        assert_eq!(std::fs::read_dir(node.config.root.join("partial")).unwrap().count(), 0);
    })
    .await;
}
