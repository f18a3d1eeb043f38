//! What containers run: what their image says, and what their pod says instead.

use std::fs;
use std::process::Command;

use e2e::{Ground, Run as _};
use serde_json::{Value, json};

use super::tools::{exec, idle, logs, once, reaches, run, with};

/// Pushes an image with an entrypoint and arguments of its own: that of busybox with another configuration.
fn image(ground: &Ground<'_>) -> String {
    let folder = ground.cluster.directory().join("entrypoint");
    fs::create_dir_all(&folder).unwrap();
    let tar = |arguments: &[&str]| Command::new("tar").arg("-C").arg(&folder).args(arguments).run().ok().to_owned();
    tar(&["-xf", ground.cluster.directory().join("busybox.tar").to_str().unwrap()]);
    let manifest: Value = serde_json::from_slice(&fs::read(folder.join("manifest.json")).unwrap()).unwrap();
    let name = manifest[0]["Config"].as_str().unwrap();
    let mut config: Value = serde_json::from_slice(&fs::read(folder.join(name)).unwrap()).unwrap();
    config["config"]["Entrypoint"] = json!(["echo", "[the-entrypoint]"]);
    config["config"]["Cmd"] = json!(["[the", "arguments]"]);
    fs::write(folder.join(name), config.to_string()).unwrap();
    let archive = ground.cluster.directory().join("entrypoint.tar");
    tar(&["-cf", archive.to_str().unwrap(), "manifest.json", name, "layer.tar"]);
    let image = ground.cluster.image("entrypoint:1");
    let archive = format!("docker-archive:{}", archive.display());
    let push = ["copy", "--quiet", "--dest-tls-verify=false", &archive, &format!("docker://{image}")];
    Command::new("skopeo").args(push).run().ok();
    image
}

/// Conformance: [sig-node] Containers should use the image defaults if command and args are blank [NodeConformance] [Conformance]
/// Conformance: [sig-node] Containers should be able to override the image's default arguments (container cmd) [NodeConformance] [Conformance]
/// Conformance: [sig-node] Containers should be able to override the image's default command (container entrypoint) [NodeConformance] [Conformance]
/// Conformance: [sig-node] Containers should be able to override the image's default command and arguments [NodeConformance] [Conformance]
pub(super) fn overridden(ground: &Ground<'_>) {
    let image = image(ground);
    let container = |name: &str, more: Value| with(json!({"name": name, "image": image}), more);
    let containers = [
        container("defaults", json!({})),
        container("arguments", json!({"args": ["override", "arguments"]})),
        container("command", json!({"command": ["echo", "[other-entrypoint]"]})),
        container("both", json!({"command": ["echo", "[other-entrypoint]"], "args": ["override", "arguments"]})),
    ];
    once(ground, "p", json!({"containers": containers}));
    reaches(ground, "p", "Succeeded");
    assert_eq!(logs(ground, "p", "defaults"), "[the-entrypoint] [the arguments]");
    assert_eq!(logs(ground, "p", "arguments"), "[the-entrypoint] override arguments");
    assert_eq!(logs(ground, "p", "command"), "[other-entrypoint]");
    assert_eq!(logs(ground, "p", "both"), "[other-entrypoint] override arguments");
}

/// Conformance: [sig-node] ImageVolume should succeed with pod and pull policy of Always [LinuxOnly] [MinimumKubeletVersion:1.35] [Conformance]
pub(super) fn as_volume(ground: &Ground<'_>) {
    let mounts = json!([{"name": "files", "mountPath": "/volume"}]);
    let container = with(idle("c"), json!({"volumeMounts": mounts}));
    let volume = json!({"name": "files", "image": {"reference": "IMAGE", "pullPolicy": "Always"}});
    run(ground, "p", json!({"containers": [container], "volumes": [volume]}));
    reaches(ground, "p", "Running");
    let read = |script: &str| exec(ground, "p", "c", script);
    assert!(read("cat /volume/etc/passwd").contains("nobody:x:65534"));
    assert!(read("ls -l /volume/bin/sh").ends_with("-> busybox"));
}
