//! Directories of a pod's own, and volumes that upstream once made of them.

use e2e::Ground;
use serde_json::{Value, json};

use super::files::{CONFIG_MAP, SECRET};
use super::pods::{self, container, idle, log, pod};

/// Conformance: [sig-storage] EmptyDir volumes volume on default medium should have the correct mode [LinuxOnly]
/// [NodeConformance] [Conformance]
/// Conformance: [sig-storage] EmptyDir volumes volume on tmpfs should have the correct mode [LinuxOnly]
/// [NodeConformance] [Conformance]
/// Conformance: [sig-storage] EmptyDir volumes should support (root,0644,default) [LinuxOnly] [NodeConformance]
/// [Conformance]
/// Conformance: [sig-storage] EmptyDir volumes should support (root,0666,default) [LinuxOnly] [NodeConformance]
/// [Conformance]
/// Conformance: [sig-storage] EmptyDir volumes should support (root,0777,default) [LinuxOnly] [NodeConformance]
/// [Conformance]
/// Conformance: [sig-storage] EmptyDir volumes should support (root,0644,tmpfs) [LinuxOnly] [NodeConformance]
/// [Conformance]
/// Conformance: [sig-storage] EmptyDir volumes should support (root,0666,tmpfs) [LinuxOnly] [NodeConformance]
/// [Conformance]
/// Conformance: [sig-storage] EmptyDir volumes should support (root,0777,tmpfs) [LinuxOnly] [NodeConformance]
/// [Conformance]
/// Conformance: [sig-storage] EmptyDir volumes should support (non-root,0644,default) [LinuxOnly] [NodeConformance]
/// [Conformance]
/// Conformance: [sig-storage] EmptyDir volumes should support (non-root,0666,default) [LinuxOnly] [NodeConformance]
/// [Conformance]
/// Conformance: [sig-storage] EmptyDir volumes should support (non-root,0777,default) [LinuxOnly] [NodeConformance]
/// [Conformance]
/// Conformance: [sig-storage] EmptyDir volumes should support (non-root,0644,tmpfs) [LinuxOnly] [NodeConformance]
/// [Conformance]
/// Conformance: [sig-storage] EmptyDir volumes should support (non-root,0666,tmpfs) [LinuxOnly] [NodeConformance]
/// [Conformance]
/// Conformance: [sig-storage] EmptyDir volumes should support (non-root,0777,tmpfs) [LinuxOnly] [NodeConformance]
/// [Conformance]
pub(super) fn modes(ground: &Ground<'_>) {
    // Root and somebody else each have a volume of both media to themselves.
    let users = [("root", 0), ("other", 1001)];
    let volume =
        |user: &str, medium: &str, source: &Value| json!({"name": format!("{user}-{medium}"), "emptyDir": source});
    let volumes: Vec<Value> = users
        .iter()
        .flat_map(|(user, _)| [volume(user, "disk", &json!({})), volume(user, "memory", &json!({"medium": "Memory"}))])
        .collect();
    let containers = users.map(|(user, id)| {
        let (disk, memory) = (format!("{user}-disk"), format!("{user}-memory"));
        let mut container = container(user, WRITING, &[(&disk, "/disk"), (&memory, "/memory")]);
        container["securityContext"] = json!({"runAsUser": id});
        container
    });
    let mut pod = pod("p", &containers, &volumes);
    // What the suite's pods ask for, too: no module of the kernel looks at it here.
    pod["spec"]["securityContext"] = json!({"seLinuxOptions": {"level": "s0"}});
    pods::run(ground, &pod);
    for (user, id) in users {
        assert_eq!(log(ground, "p", user), written_by(id));
    }
}

/// Writes a file of each mode into each volume, as one who takes no mode away, and runs what may be run.
const WRITING: &str = r#"umask 0
for volume in /disk /memory; do
  echo "$volume $(stat -c %A $volume)"
  for mode in 0644 0666 0777; do
    file=$volume/test-$mode
    echo "echo mount-tester new file" > $file && chmod $mode $file
    echo "$file $(stat -c '%A %u' $file) $(cat $file)"
  done
  $volume/test-0777
done
stat -f -c %T /memory"#;

fn written_by(user: u32) -> String {
    let mut lines = Vec::new();
    for (volume, mode) in [("/disk", "drwxrwxrwx"), ("/memory", "drwxrwxrwt")] {
        lines.push(format!("{volume} {mode}"));
        for (mode, shown) in [("0644", "-rw-r--r--"), ("0666", "-rw-rw-rw-"), ("0777", "-rwxrwxrwx")] {
            lines.push(format!("{volume}/test-{mode} {shown} {user} echo mount-tester new file"));
        }
        lines.push("mount-tester new file".to_owned());
    }
    lines.push("tmpfs".to_owned());
    lines.join("\n")
}

/// Conformance: [sig-storage] EmptyDir volumes pod should support shared volumes between containers [Conformance]
pub(super) fn shared(ground: &Ground<'_>) {
    let volume = json!({"name": "shared", "emptyDir": {}});
    let main = container("main", "sleep 100000", &[("shared", "/usr/share/volumeshare")]);
    let sub =
        container("sub", "echo Hello from the sub-container > /pod-data/shareddata.txt", &[("shared", "/pod-data")]);
    pods::start(ground, &pod("p", &[main, sub], &[volume]));
    pods::until(ground, "p", "[ -s /usr/share/volumeshare/shareddata.txt ]");
    assert_eq!(ground.exec("p", "cat /usr/share/volumeshare/shareddata.txt"), "Hello from the sub-container");
}

/// Conformance: [sig-storage] EmptyDir wrapper volumes should not conflict [Conformance]
pub(super) fn wrapped(ground: &Ground<'_>) {
    pods::create(ground, &SECRET.object("same", &json!({"data-1": "of the secret"})));
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "same"},
        "binaryData": {"data-1": "b2YgdGhlIG1hcA=="}});
    pods::create(ground, &map);
    let volumes =
        [SECRET.volume("secret", "same", None, &json!({})), CONFIG_MAP.volume("map", "same", None, &json!({}))];
    pods::start(ground, &pod("p", &[idle(&volumes)], &volumes));
    assert_eq!(ground.exec("p", "cat /secret/data-1; echo; cat /map/data-1"), "of the secret\nof the map");
}

const MAPS: usize = 50;
const PODS: usize = 5;

/// Conformance: [sig-storage] EmptyDir wrapper volumes should not cause race condition when used for configmaps [Serial]
/// [Conformance]
pub(super) fn many_wrapped(ground: &Ground<'_>) {
    let maps: Vec<Value> =
        (0..MAPS).map(|index| CONFIG_MAP.object(&format!("m{index}"), &json!({"data-1": index.to_string()}))).collect();
    pods::create(ground, &json!({"apiVersion": "v1", "kind": "List", "items": maps}));
    let items = json!({"items": [{"key": "data-1", "path": "data-1"}]});
    let volume = |index| CONFIG_MAP.volume(&format!("m{index}"), &format!("m{index}"), None, &items);
    let volumes: Vec<Value> = (0..MAPS).map(volume).collect();
    let template = pod("p", &[idle(&volumes)], &volumes);
    let mut spec = template["spec"].clone();
    spec["restartPolicy"] = json!("Always");
    spec["dnsPolicy"] = json!("Default");
    let labels = json!({"name": "wrapped"});
    let controller = json!({"apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "rc"},
        "spec": {"replicas": PODS, "selector": labels, "template": {"metadata": {"labels": labels}, "spec": spec}}});
    ground.apply(&controller.to_string());
    pods::wait(ground, "rc/rc", "{.status.readyReplicas}", &PODS.to_string());
    let all: String = (0..MAPS).map(|index| index.to_string()).collect();
    let script = format!("for i in $(seq 0 {}); do cat /m$i/data-1; done", MAPS - 1);
    for pod in ground.value("pods", "{.items[*].metadata.name}").split(' ') {
        assert_eq!(ground.exec(pod, &script), all);
    }
}
