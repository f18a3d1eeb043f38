//! What becomes of files when the objects that they come from change, appear and go.

use e2e::{Ground, Run as _};
use serde_json::{Value, json};

use super::files::{CONFIG_MAP, Origin, PROJECTED_CONFIG_MAP, PROJECTED_SECRET, SECRET};
use super::pods::{self, idle, pod, until};

/// Conformance: [sig-storage] ConfigMap updates should be reflected in volume [NodeConformance] [Conformance]
/// Conformance: [sig-storage] ConfigMap optional updates should be reflected in volume [NodeConformance] [Conformance]
/// Conformance: [sig-storage] ConfigMap binary data should be reflected in volume [NodeConformance] [Conformance]
pub(super) fn config_map(ground: &Ground<'_>) {
    let bytes = json!({"dump.bin": "3sr+utD+/w=="});
    let binary = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "binary"},
        "data": {"data-1": "value-1"}, "binaryData": bytes});
    pods::create(ground, &binary);
    updated(ground, CONFIG_MAP, &[CONFIG_MAP.volume("binary", "binary", None, &json!({}))]);
    let dump = ground.exec("p", "hexdump -C /binary/dump.bin | head -n 1; cat /binary/data-1");
    assert!(dump.contains("de ca fe ba d0 fe ff ") && dump.ends_with("value-1"), "{dump}");
}

/// Conformance: [sig-storage] Projected configMap updates should be reflected in volume [NodeConformance] [Conformance]
/// Conformance: [sig-storage] Projected configMap optional updates should be reflected in volume [NodeConformance]
/// [Conformance]
pub(super) fn projected_config_map(ground: &Ground<'_>) {
    updated(ground, PROJECTED_CONFIG_MAP, &[]);
}

/// Conformance: [sig-storage] Secrets optional updates should be reflected in volume [NodeConformance] [Conformance]
pub(super) fn secret(ground: &Ground<'_>) {
    updated(ground, SECRET, &[]);
}

/// Conformance: [sig-storage] Projected secret optional updates should be reflected in volume [NodeConformance]
/// [Conformance]
pub(super) fn projected_secret(ground: &Ground<'_>) {
    updated(ground, PROJECTED_SECRET, &[]);
}

/// Volumes of an object that changes, and of optional ones of which one is deleted, one changed and one created.
fn updated(ground: &Ground<'_>, origin: Origin, more: &[Value]) {
    let first = json!({"data-1": "value-1"});
    for name in ["needed", "deleted", "updated"] {
        pods::create(ground, &origin.object(name, &first));
    }
    let optional = |name: &str| origin.volume(name, name, None, &json!({"optional": true}));
    let needed = origin.volume("needed", "needed", None, &json!({}));
    let volumes = [&[needed, optional("deleted"), optional("updated"), optional("created")][..], more].concat();
    pods::start(ground, &pod("p", &[idle(&volumes)], &volumes));
    let before = "cat /needed/data-1 /deleted/data-1 /updated/data-1; ls /created";
    assert_eq!(ground.exec("p", before), "value-1value-1value-1");

    let replace = |name: &str, data: &Value| {
        ground.command(&["replace", "-f", "-"]).output_with(&origin.object(name, data).to_string()).ok();
    };
    replace("needed", &json!({"data-1": "value-2"}));
    ground.kubectl(&["delete", origin.resource(), "deleted"]).ok();
    replace("updated", &json!({"data-3": "value-3"}));
    pods::create(ground, &origin.object("created", &first));
    until(ground, "p", r#"[ "$(cat /needed/data-1)" = value-2 ]"#);
    until(ground, "p", r#"[ ! -e /deleted/data-1 ]"#);
    until(ground, "p", r#"[ "$(cat /updated/data-3 2>&1)" = value-3 ] && [ ! -e /updated/data-1 ]"#);
    until(ground, "p", r#"[ "$(cat /created/data-1 2>&1)" = value-1 ]"#);
    assert_eq!(ground.value("pod/p", "{.status.containerStatuses[0].restartCount}"), "0");
}
