//! The keys of ConfigMaps and Secrets as files, by themselves and as parts of projected volumes.

use e2e::Ground;
use serde_json::{Value, json};

use super::pods::{self, container, log, looking_at, looks, pod};

/// Whose keys become files, and in what sort of volume.
#[derive(Clone, Copy)]
pub(super) struct Origin {
    /// The volume's or projection's field.
    pub(super) kind: &'static str,
    pub(super) projected: bool,
}

pub(super) const CONFIG_MAP: Origin = Origin { kind: "configMap", projected: false };
pub(super) const PROJECTED_CONFIG_MAP: Origin = Origin { kind: "configMap", projected: true };
pub(super) const SECRET: Origin = Origin { kind: "secret", projected: false };
pub(super) const PROJECTED_SECRET: Origin = Origin { kind: "secret", projected: true };

impl Origin {
    /// Its resource, as kubectl knows it.
    pub(super) fn resource(self) -> &'static str {
        if self.kind == "secret" { "secret" } else { "configmap" }
    }

    /// An object with these keys.
    pub(super) fn object(self, name: &str, data: &Value) -> Value {
        let (kind, field) = if self.kind == "secret" { ("Secret", "stringData") } else { ("ConfigMap", "data") };
        json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, field: data})
    }

    /// A volume of an object; `more` are fields of the part that names it.
    pub(super) fn volume(self, name: &str, object: &str, mode: Option<u32>, more: &Value) -> Value {
        let reference = if self.kind == "secret" && !self.projected { "secretName" } else { "name" };
        let mut source = more.clone();
        source[reference] = json!(object);
        let (field, mut source) = match self.projected {
            true => ("projected", json!({"sources": [{self.kind: source}]})),
            false => (self.kind, source),
        };
        if let Some(mode) = mode {
            source["defaultMode"] = json!(mode);
        }
        json!({"name": name, field: source})
    }
}

/// Conformance: [sig-storage] ConfigMap should be consumable from pods in volume [NodeConformance] [Conformance]
/// Conformance: [sig-storage] ConfigMap should be consumable from pods in volume as non-root [NodeConformance]
/// [Conformance]
/// Conformance: [sig-storage] ConfigMap should be consumable from pods in volume with defaultMode set [LinuxOnly]
/// [NodeConformance] [Conformance]
/// Conformance: [sig-storage] ConfigMap should be consumable from pods in volume with mappings [NodeConformance]
/// [Conformance]
/// Conformance: [sig-storage] ConfigMap should be consumable from pods in volume with mappings and Item mode set
/// [LinuxOnly] [NodeConformance] [Conformance]
/// Conformance: [sig-storage] ConfigMap should be consumable from pods in volume with mappings as non-root
/// [NodeConformance] [Conformance]
/// Conformance: [sig-storage] ConfigMap should be consumable in multiple volumes in the same pod [NodeConformance]
/// [Conformance]
pub(super) fn config_map(ground: &Ground<'_>) {
    consumed_by_root_and_others(ground, CONFIG_MAP);
}

/// Conformance: [sig-storage] Projected configMap should be consumable from pods in volume [NodeConformance]
/// [Conformance]
/// Conformance: [sig-storage] Projected configMap should be consumable from pods in volume as non-root
/// [NodeConformance] [Conformance]
/// Conformance: [sig-storage] Projected configMap should be consumable from pods in volume with defaultMode set
/// [LinuxOnly] [NodeConformance] [Conformance]
/// Conformance: [sig-storage] Projected configMap should be consumable from pods in volume with mappings
/// [NodeConformance] [Conformance]
/// Conformance: [sig-storage] Projected configMap should be consumable from pods in volume with mappings and Item mode
/// set [LinuxOnly] [NodeConformance] [Conformance]
/// Conformance: [sig-storage] Projected configMap should be consumable from pods in volume with mappings as non-root
/// [NodeConformance] [Conformance]
/// Conformance: [sig-storage] Projected configMap should be consumable in multiple volumes in the same pod
/// [NodeConformance] [Conformance]
pub(super) fn projected_config_map(ground: &Ground<'_>) {
    consumed_by_root_and_others(ground, PROJECTED_CONFIG_MAP);
}

/// Conformance: [sig-storage] Secrets should be consumable from pods in volume [NodeConformance] [Conformance]
/// Conformance: [sig-storage] Secrets should be consumable from pods in volume with defaultMode set [LinuxOnly]
/// [NodeConformance] [Conformance]
/// Conformance: [sig-storage] Secrets should be consumable from pods in volume with mappings [NodeConformance]
/// [Conformance]
/// Conformance: [sig-storage] Secrets should be consumable from pods in volume with mappings and Item Mode set
/// [LinuxOnly] [NodeConformance] [Conformance]
/// Conformance: [sig-storage] Secrets should be consumable in multiple volumes in a pod [NodeConformance] [Conformance]
/// Conformance: [sig-storage] Secrets should be consumable from pods in volume as non-root with defaultMode and fsGroup
/// set [LinuxOnly] [NodeConformance] [Conformance]
/// Conformance: [sig-storage] Secrets should be able to mount in a volume regardless of a different secret existing with
/// same name in different namespace [NodeConformance] [Conformance]
pub(super) fn secret(ground: &Ground<'_>) {
    let other = format!("{}-other", ground.namespace);
    ground.cluster.kubectl(&["create", "namespace", &other]).ok();
    let arguments =
        ["create", "secret", "generic", "o", "--from-literal=this=should-not-be-seen", "--namespace", &other];
    ground.cluster.kubectl(&arguments).ok();
    consumed_by_root_and_others(ground, SECRET);
    consumed_by_group(ground, SECRET);
    ground.cluster.kubectl(&["delete", "namespace", &other, "--wait=false"]).ok();
}

/// Conformance: [sig-storage] Projected secret should be consumable from pods in volume [NodeConformance] [Conformance]
/// Conformance: [sig-storage] Projected secret should be consumable from pods in volume with defaultMode set [LinuxOnly]
/// [NodeConformance] [Conformance]
/// Conformance: [sig-storage] Projected secret should be consumable from pods in volume with mappings [NodeConformance]
/// [Conformance]
/// Conformance: [sig-storage] Projected secret should be consumable from pods in volume with mappings and Item Mode set
/// [LinuxOnly] [NodeConformance] [Conformance]
/// Conformance: [sig-storage] Projected secret should be consumable in multiple volumes in a pod [NodeConformance]
/// [Conformance]
/// Conformance: [sig-storage] Projected secret should be consumable from pods in volume as non-root with defaultMode and
/// fsGroup set [LinuxOnly] [NodeConformance] [Conformance]
pub(super) fn projected_secret(ground: &Ground<'_>) {
    consumed_by_root_and_others(ground, PROJECTED_SECRET);
    consumed_by_group(ground, PROJECTED_SECRET);
}

const DENIED: &str = "cat: can't open '/private/data-1': Permission denied";

/// One object in five volumes of a pod with two containers, of root and of somebody else.
fn consumed_by_root_and_others(ground: &Ground<'_>, origin: Origin) {
    let data = json!({"data-1": "value-1", "data-2": "value-2\n", "data-3": "value-3"});
    pods::create(ground, &origin.object("o", &data));
    let mapped = |more: &Value| {
        let mut item = more.clone();
        item["key"] = json!("data-2");
        item["path"] = json!("path/to/data-2");
        json!({"items": [item]})
    };
    let volumes = [
        origin.volume("plain", "o", None, &json!({})),
        origin.volume("again", "o", None, &json!({})),
        origin.volume("private", "o", Some(0o400), &json!({})),
        origin.volume("mapped", "o", None, &mapped(&json!({}))),
        origin.volume("mapped-private", "o", None, &mapped(&json!({"mode": 0o400}))),
    ];
    let names = ["plain", "again", "private", "mapped", "mapped-private"];
    let paths = names.map(|name| format!("/{name}"));
    let mounts: Vec<(&str, &str)> = names.into_iter().zip(paths.iter().map(String::as_str)).collect();
    let everybody = [
        ("/plain/data-1", "-rw-r--r--", "value-1"),
        ("/again/data-1", "-rw-r--r--", "value-1"),
        ("/again/data-3", "-rw-r--r--", "value-3"),
        ("/mapped/path/to/data-2", "-rw-r--r--", "value-2"),
    ];
    let private =
        [("/private/data-1", "-r--------", "value-1"), ("/mapped-private/path/to/data-2", "-r--------", "value-2")];
    let of_root = [&everybody[..], &private].concat();
    let of_others = [&everybody[..], &[("/private/data-1", "-r--------", DENIED)]].concat();
    let listing = "; echo $(ls /plain) of $(ls /mapped); (echo x >> /plain/data-1) 2>/dev/null || echo read-only";
    let root = container("root", &(looking_at(&of_root) + listing), &mounts);
    let mut other = container("other", &(looking_at(&of_others) + listing), &mounts);
    other["securityContext"] = json!({"runAsUser": 1000});
    pods::run(ground, &pod("p", &[root, other], &volumes));
    let listed = "\ndata-1 data-2 data-3 of path\nread-only";
    assert_eq!(log(ground, "p", "root"), looks(&of_root) + listed);
    assert_eq!(log(ground, "p", "other"), looks(&of_others) + listed);
}

/// Somebody reads what only a group may, which is the pod's `fsGroup`.
fn consumed_by_group(ground: &Ground<'_>, origin: Origin) {
    let volume = origin.volume("files", "o", Some(0o440), &json!({}));
    let script = "cd /files; stat -Lc '%A %u %g' data-1; cat data-1; id -G";
    let mut pod = pod("of-group", &[container("c", script, &[("files", "/files")])], &[volume]);
    pod["spec"]["securityContext"] = json!({"runAsUser": 1000, "fsGroup": 1001});
    pods::run(ground, &pod);
    assert_eq!(log(ground, "of-group", "c"), "-r--r----- 0 1001\nvalue-10 1001");
}
