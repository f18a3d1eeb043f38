use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use super::*;

/// Notes each call in a file beside it, and answers addresses.
const PLUGIN: &str = r#"#!/bin/sh
echo "$CNI_COMMAND $(basename "$0") ${CNI_NETNS:+there} $(cat)" >> "$(dirname "$0")/calls"
[ ! -e "$(dirname "$0")/broken-$(basename "$0")-$CNI_COMMAND" ] || { echo '{"msg": "broken"}'; exit 1; }
echo '{"cniVersion": "1.0.0", "ips": [{"address": "10.9.0.7/24"}], "by": "'"$(basename "$0")"'"}'
"#;

struct Ground {
    directory: tempfile::TempDir,
    cni: Cni,
}

impl Ground {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in ["conf", "bin"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        for name in ["first", "second"] {
            std::fs::write(at("bin").join(name), PLUGIN).unwrap();
            std::fs::set_permissions(at("bin").join(name), Permissions::from_mode(0o755)).unwrap();
        }
        let list = json!({"cniVersion": "1.0.0", "name": "pods", "plugins": [
            {"type": "first", "own": 1},
            {"type": "second", "capabilities": {"portMappings": true, "bandwidth": true}}]});
        std::fs::write(at("conf/10-pods.conflist"), list.to_string()).unwrap();
        let config = CniConfig { conf_dir: at("conf"), bin_dirs: vec![at("bin")] };
        let cni = Cni::open(Some(config), directory.path(), &at("run"));
        Self { directory, cni }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The verb, the plugin, whether there is a namespace, and the input of each call so far.
    fn calls(&self) -> Vec<(String, Value)> {
        let text = std::fs::read_to_string(self.at("bin/calls")).unwrap_or_default();
        let call = |line: &str| {
            let (head, input) = line.split_at(line.find('{').unwrap());
            (head.trim().to_owned(), serde_json::from_str(input).unwrap())
        };
        text.lines().map(call).collect()
    }

    async fn connect(&self) -> Result<Vec<IpAddr>, Error> {
        // A namespace of its own is not needed to see what plugins are told.
        let namespace = OwnedFd::from(std::fs::File::open("/proc/self/ns/net").unwrap());
        let mapping =
            PortMapping { protocol: "UDP".into(), container_port: 53, host_port: 5353, host_ip: String::new() };
        let config = SandboxConfig {
            name: "p".into(),
            namespace: "ns".into(),
            uid: "u".into(),
            port_mappings: vec![mapping, PortMapping { container_port: 1, ..PortMapping::default() }],
            bandwidth: Bandwidth { ingress: Some(1000), egress: None },
            ..SandboxConfig::default()
        };
        self.cni.connect("s1", namespace, &config).await
    }

    fn left(&self) -> Vec<PathBuf> {
        let entries = |name: &str| std::fs::read_dir(self.at(name)).into_iter().flatten();
        entries("cni").chain(entries("run/netns")).map(|entry| entry.unwrap().path()).collect()
    }
}

fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        assert!(std::env::var_os("E2E_REQUIRED").is_none(), "this test needs root");
        eprintln!("SKIP: not root");
    }
    is_root
}

#[tokio::test]
async fn plugins_are_called_in_their_order_and_in_the_other_one_at_the_end() {
    if !is_root() {
        return;
    }
    let ground = Ground::new();
    assert_eq!(ground.connect().await.unwrap(), [IpAddr::from([10, 9, 0, 7])]);
    let calls = ground.calls();
    assert_eq!(
        calls.iter().map(|(head, _)| head.as_str()).collect::<Vec<_>>(),
        ["ADD first there", "ADD second there"]
    );
    assert_eq!(
        (&calls[0].1["own"], &calls[0].1["name"], &calls[0].1["prevResult"]),
        (&json!(1), &json!("pods"), &json!(null))
    );
    assert_eq!((&calls[1].1["prevResult"]["by"], &calls[0].1["runtimeConfig"]), (&json!("first"), &json!(null)));
    let port = json!({"hostPort": 5353, "containerPort": 53, "protocol": "udp"});
    let limits = json!({"ingressRate": 1000, "ingressBurst": u32::MAX});
    assert_eq!(calls[1].1["runtimeConfig"], json!({"portMappings": [port], "bandwidth": limits}));

    // The configuration is another one by now, or none: a pod is taken down by that which connected it.
    std::fs::remove_file(ground.at("conf/10-pods.conflist")).unwrap();
    let later = Cni::open(None, ground.directory.path(), &ground.at("run"));
    later.disconnect("s1").await.unwrap();
    let calls = ground.calls().split_off(2);
    assert_eq!(
        calls.iter().map(|(head, _)| head.as_str()).collect::<Vec<_>>(),
        ["DEL second there", "DEL first there"]
    );
    assert_eq!(
        (&calls[0].1["prevResult"]["by"], &calls[1].1["prevResult"]["by"]),
        (&json!("second"), &json!("second"))
    );
    assert_eq!(ground.left(), Vec::<PathBuf>::new());
    // Once more is as good.
    later.disconnect("s1").await.unwrap();
    assert_eq!(ground.calls().len(), 4);
}

#[tokio::test]
async fn what_a_plugin_refuses_is_tried_again_until_it_takes_it() {
    if !is_root() {
        return;
    }
    let ground = Ground::new();
    std::fs::write(ground.at("bin/broken-second-ADD"), "").unwrap();
    std::fs::write(ground.at("bin/broken-first-DEL"), "").unwrap();
    let refused = ground.connect().await.unwrap_err().to_string();
    assert_eq!(refused, "network: CNI plugin \"second\" failed (ADD): broken");
    // What the first one did has to go, and is remembered until it has.
    let stuck = ground.cni.disconnect("s1").await.unwrap_err().to_string();
    assert_eq!(stuck, "network: CNI plugin \"first\" failed (DEL): broken");
    assert_eq!(ground.left().len(), 2);
    std::fs::remove_file(ground.at("bin/broken-first-DEL")).unwrap();
    ground.cni.disconnect("s1").await.unwrap();
    assert_eq!(ground.left(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn after_a_reboot_the_namespace_is_gone_and_plugins_are_told_so() {
    if !is_root() {
        return;
    }
    let ground = Ground::new();
    ground.connect().await.unwrap();
    let path = ground.at("run/netns/s1");
    rustix::mount::unmount(&path, UnmountFlags::DETACH).unwrap();
    std::fs::remove_file(&path).unwrap();
    ground.cni.disconnect("s1").await.unwrap();
    let heads: Vec<_> = ground.calls().split_off(2).into_iter().map(|(head, _)| head).collect();
    assert_eq!(heads, ["DEL second", "DEL first"]);
}
