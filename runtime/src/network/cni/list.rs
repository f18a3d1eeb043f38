//! A network configuration: a list of plugins (CNI specification, section 1).

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::disk::io_error;
use crate::{Bandwidth, Error, PortMapping};

/// Host ports.
pub(super) const PORT_MAPPINGS: &str = "portMappings";
/// Limits of a pod's traffic.
pub(super) const BANDWIDTH: &str = "bandwidth";

/// The versions whose results are read here, the newest first.
const VERSIONS: [&str; 5] = ["1.1.0", "1.0.0", "0.4.0", "0.3.1", "0.3.0"];
/// What a file holds at most, in bytes.
const LONGEST: u64 = 1 << 20;

/// The plugins that connect a pod, in their order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct List {
    pub(super) name: String,
    /// The version that plugins are spoken to in.
    pub(super) cni_version: String,
    pub(super) plugins: Vec<Value>,
}

impl List {
    /// The first file of a directory, by its name. As upstream, one that cannot be used gives way to the next; the last
    /// one's fault is told where none can.
    pub(super) fn first_in(directory: &Path) -> Result<Self, Error> {
        let mut fault = None;
        for path in files(directory)? {
            match read(&path) {
                Ok(list) => return Ok(list),
                Err(err) => {
                    tracing::debug!(path = %path.display(), error = &err as &dyn std::error::Error, "no use of it");
                    fault = Some(err);
                }
            }
        }
        let none = || Error::Network { reason: format!("no CNI configuration in {}", directory.display()) };
        Err(fault.unwrap_or_else(none))
    }

    /// Fails where a pod asks for what no plugin can do: it would be without it in silence.
    pub(super) fn check_capabilities(&self, ports: &[PortMapping], bandwidth: Bandwidth) -> Result<(), Error> {
        let wanted = [
            (PORT_MAPPINGS, "host ports", !ports.is_empty()),
            (BANDWIDTH, "bandwidth limits", bandwidth != Bandwidth::default()),
        ];
        for (capability, what, _) in wanted.into_iter().filter(|(.., is_wanted)| *is_wanted) {
            if !self.plugins.iter().any(|plugin| is_capable(plugin, capability)) {
                let name = &self.name;
                let reason = format!("{what}: no plugin of the network {name:?} has the capability {capability}");
                return Err(Error::Network { reason });
            }
        }
        Ok(())
    }

    fn of(value: &Value) -> Result<Self, String> {
        // Older files hold one plugin, without a list.
        let plugins = match value.get("plugins") {
            Some(plugins) => plugins.as_array().cloned().ok_or("plugins: must be a list")?,
            None => vec![value.clone()],
        };
        let name = value["name"].as_str().unwrap_or_default();
        let is_good = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
        if name.is_empty() || !is_good(name) {
            return Err(format!("name: {name:?}: must be of letters, digits, _ . and -"));
        }
        if plugins.is_empty() {
            return Err("plugins: must not be empty".to_owned());
        }
        for (at, plugin) in plugins.iter().enumerate() {
            // It becomes part of a path.
            let kind = plugin["type"].as_str().unwrap_or_default();
            if kind.is_empty() || kind.contains('/') || matches!(kind, "." | "..") {
                return Err(format!("plugins[{at}].type: {kind:?}: must be the name of a plugin"));
            }
        }
        Ok(Self { name: name.to_owned(), cni_version: version(value)?, plugins })
    }
}

/// The newest version that the file has and that is known here.
fn version(value: &Value) -> Result<String, String> {
    let one = value["cniVersion"].as_str().unwrap_or("0.1.0");
    let all = value["cniVersions"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let offered: Vec<&str> = all.chain([one]).collect();
    let best = VERSIONS.into_iter().find(|known| offered.contains(known));
    best.map(str::to_owned).ok_or_else(|| format!("cniVersion: {one:?}: must be one of {}", VERSIONS.join(", ")))
}

/// Whether a plugin takes something from the runtime.
pub(super) fn is_capable(plugin: &Value, capability: &str) -> bool {
    plugin["capabilities"][capability].as_bool().unwrap_or(false)
}

fn files(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = match std::fs::read_dir(directory) {
        // A plugin that is yet to be installed makes it.
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(io_error("read", directory))?,
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<Vec<_>>>();
    let mut paths = paths.map_err(io_error("read", directory))?;
    let counts = |path: &Path| {
        path.extension().is_some_and(|kind| ["conflist", "conf", "json"].iter().any(|known| kind == *known))
    };
    paths.retain(|path| counts(path) && path.is_file());
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> Result<List, Error> {
    use std::io::Read as _;
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(io_error("open", path))?;
    file.take(LONGEST).read_to_string(&mut text).map_err(io_error("read", path))?;
    let wrong = |why: String| Error::Network { reason: format!("{}: {why}", path.display()) };
    let value = serde_json::from_str(&text).map_err(|err| wrong(err.to_string()))?;
    List::of(&value).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_list_and_a_single_plugin_are_read() {
        let many = json!({"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "bridge"}, {"type": "portmap"}]});
        let list = List::of(&many).unwrap();
        assert_eq!((list.name.as_str(), list.cni_version.as_str(), list.plugins.len()), ("pods", "1.0.0", 2));
        let one = List::of(&json!({"cniVersion": "0.3.1", "name": "old", "type": "bridge", "bridge": "x"})).unwrap();
        assert_eq!(one.plugins[0]["bridge"], "x");
        let several =
            json!({"cniVersions": ["0.4.0", "1.0.0", "9.0.0"], "cniVersion": "0.4.0", "name": "n", "type": "x"});
        assert_eq!(List::of(&several).unwrap().cni_version, "1.0.0");
    }

    #[test]
    fn what_cannot_be_used_is_named_by_its_field() {
        let check = |value: Value, field: &str| {
            let why = List::of(&value).unwrap_err();
            assert!(why.starts_with(field), "{why}");
        };
        check(json!({"name": "n", "type": "bridge"}), "cniVersion");
        check(json!({"cniVersion": "0.2.0", "name": "n", "type": "bridge"}), "cniVersion");
        check(json!({"cniVersion": "1.0.0", "type": "bridge"}), "name");
        check(json!({"cniVersion": "1.0.0", "name": "../n", "type": "bridge"}), "name");
        check(json!({"cniVersion": "1.0.0", "name": "n", "plugins": []}), "plugins");
        check(json!({"cniVersion": "1.0.0", "name": "n", "plugins": {}}), "plugins");
        for kind in ["", "..", "/bin/sh", "a/b"] {
            check(json!({"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": kind}]}), "plugins[0].type");
        }
    }

    #[test]
    fn the_first_file_that_can_be_used_counts() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        let none = List::first_in(directory.path()).unwrap_err().to_string();
        assert!(none.contains("no CNI configuration in"), "{none}");
        assert!(List::first_in(&directory.path().join("none")).is_err());
        write("00-readme.txt", "{}");
        write("10-broken.conflist", "{");
        let broken = List::first_in(directory.path()).unwrap_err().to_string();
        assert!(broken.contains("10-broken.conflist"), "{broken}");
        write("30-b.conf", r#"{"cniVersion": "1.0.0", "name": "b", "type": "bridge"}"#);
        write("20-a.conflist", r#"{"cniVersion": "1.0.0", "name": "a", "plugins": [{"type": "bridge"}]}"#);
        assert_eq!(List::first_in(directory.path()).unwrap().name, "a");
    }

    #[test]
    fn what_no_plugin_can_do_is_refused() {
        let list = json!({"cniVersion": "1.0.0", "name": "n", "plugins": [
            {"type": "bridge"}, {"type": "portmap", "capabilities": {"portMappings": true}}]});
        let list = List::of(&list).unwrap();
        let port = PortMapping { host_port: 80, ..PortMapping::default() };
        assert!(list.check_capabilities(&[port], Bandwidth::default()).is_ok());
        let limit = Bandwidth { ingress: Some(1), egress: None };
        let refused = list.check_capabilities(&[], limit).unwrap_err().to_string();
        assert!(refused.contains("bandwidth limits: no plugin of the network \"n\""), "{refused}");
    }
}
