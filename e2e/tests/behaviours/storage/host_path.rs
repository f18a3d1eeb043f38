//! What is on the node already.

use e2e::Ground;
use serde_json::{Value, json};

use super::pods::{self, container, log, pod};

/// Each type has what it promises, or is made; what is not there is said.
pub(super) fn types(ground: &Ground<'_>) {
    let place = ground.cluster.directory().join("host-paths");
    std::fs::create_dir_all(place.join("directory")).unwrap();
    std::fs::write(place.join("file"), "of the node").unwrap();
    let volume = |name: &str, path: &str, kind: &str| -> Value {
        json!({"name": name, "hostPath": {"path": place.join(path), "type": kind}})
    };
    let volumes = [
        volume("any", "", ""),
        volume("directory", "directory", "Directory"),
        volume("file", "file", "File"),
        volume("new-directory", "a/b", "DirectoryOrCreate"),
        volume("new-file", "new", "FileOrCreate"),
        volume("null", "/dev/null", "CharDevice"),
    ];
    let mounts = [
        ("any", "/any"),
        ("directory", "/directory"),
        ("file", "/file"),
        ("new-directory", "/new-directory"),
        ("new-file", "/new-file"),
        ("null", "/null"),
    ];
    let script = r#"cat /file; echo
echo from the pod > /directory/written; echo x > /new-directory/y; echo z > /new-file
cat /any/directory/written /any/a/b/y /any/new; stat -c %A /new-directory /new-file /null"#;
    pods::run(ground, &pod("p", &[container("c", script, &mounts)], &volumes));
    let modes = "drwxr-xr-x\n-rw-r--r--\ncrw-rw-rw-";
    assert_eq!(log(ground, "p", "c"), format!("of the node\nfrom the pod\nx\nz\n{modes}"));
    assert_eq!(std::fs::read_to_string(place.join("directory/written")).unwrap(), "from the pod\n");

    let missing = place.join("missing");
    let refused = pod("refused", &[container("c", "true", &[("v", "/v")])], &[volume("v", "missing", "Directory")]);
    ground.apply(&refused.to_string());
    let wanted = format!(r#"volume "v" : hostPath type check failed: {} is not a directory"#, missing.display());
    ground.wait_until("an event says what is missing", || {
        let events = ground.value("events", "{.items[?(@.reason=='FailedMount')].message}");
        events.contains(&wanted)
    });
}
