//! A container's environment (upstream: makeEnvironmentVariables of pkg/kubelet/kubelet_pods.go).
pub(crate) mod expand;
pub(crate) mod fields;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    ConfigMap, Container, EnvFromSource, EnvVar, EnvVarSource, FileKeySelector, Pod, Service,
};
use runtime::beneath::{Directory, Links};

use crate::pod;
use crate::references::{Missing, References};
use expand::expand;
use fields::{InvalidField, Surroundings};

/// Why an environment cannot be made; the text is what `CreateContainerConfigError` shows.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A referenced object is not to be had.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// It has no such key.
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    NoKey {
        /// The key.
        key: String,
        /// `ConfigMap` or `Secret`.
        kind: &'static str,
        /// The object's namespace.
        namespace: String,
        /// The object's name.
        name: String,
    },
    /// A field reference that means nothing.
    #[error(transparent)]
    Field(#[from] InvalidField),
    /// A Secret value that is not text.
    #[error("the value of key {key} in Secret {name} is not UTF-8 text")]
    NotText {
        /// The key.
        key: String,
        /// The Secret.
        name: String,
    },
    /// A `fileKeyRef` that cannot be followed.
    #[error("couldn't resolve environment variable file: {0}")]
    File(String),
}

/// What an environment is made from.
pub(crate) struct Sources<'a> {
    /// The pod.
    pub(crate) pod: &'a Pod,
    /// Addresses and node sizes.
    pub(crate) around: &'a Surroundings,
    /// ConfigMaps and Secrets.
    pub(crate) references: &'a References,
    /// All Services of the cluster.
    pub(crate) services: &'a [Arc<Service>],
    /// Namespace of the `kubernetes` Service, which every pod sees.
    pub(crate) master_namespace: &'a str,
    /// Host directory of a volume, for `fileKeyRef`.
    pub(crate) volume: &'a (dyn Fn(&str) -> Option<std::path::PathBuf> + Send + Sync),
}

/// The environment in the order it was named, without repetitions: services first, then `envFrom`, then `env`.
pub(crate) async fn environment(sources: &Sources<'_>, container: &Container) -> Result<Vec<(String, String)>, Error> {
    let links = pod::spec(sources.pod).enable_service_links.unwrap_or(true);
    let mut env = BTreeMap::new();
    let from_services = service_variables(pod::namespace(sources.pod), links, sources);
    for source in container.env_from.iter().flatten() {
        extend_from(sources, source, &mut env).await?;
    }
    // Service variables are visible to `$(NAME)`, but anything the pod sets wins over them.
    let mut visible = from_services.clone();
    visible.extend(env.clone());
    let mut order = Vec::new();
    for variable in container.env.iter().flatten() {
        if let Some(value) = value_of(sources, container, variable, &visible).await? {
            visible.insert(variable.name.clone(), value.clone());
            env.insert(variable.name.clone(), value);
            order.push(variable.name.clone());
        }
    }
    let mut seen = BTreeSet::new();
    let names = order.iter().chain(env.keys()).chain(from_services.keys());
    let names: Vec<_> = names.filter(|name| seen.insert((*name).clone())).collect();
    Ok(names.into_iter().filter_map(|name| Some((name.clone(), visible.get(name)?.clone()))).collect())
}

async fn extend_from(
    sources: &Sources<'_>,
    from: &EnvFromSource,
    env: &mut BTreeMap<String, String>,
) -> Result<(), Error> {
    let prefix = from.prefix.as_deref().unwrap_or_default();
    if let Some(reference) = &from.config_map_ref {
        let found = optional(sources.references.config_map(&reference.name).await, reference.optional)?;
        for (key, value) in found.iter().flat_map(|map| map.data.iter().flatten()) {
            env.insert(format!("{prefix}{key}"), value.clone());
        }
    }
    if let Some(reference) = &from.secret_ref {
        let found = optional(sources.references.secret(&reference.name).await, reference.optional)?;
        for (key, value) in found.iter().flat_map(|secret| secret.data.iter().flatten()) {
            env.insert(format!("{prefix}{key}"), text(key, &reference.name, &value.0)?);
        }
    }
    Ok(())
}

fn text(key: &str, name: &str, bytes: &[u8]) -> Result<String, Error> {
    let not_text = |_| Error::NotText { key: key.to_owned(), name: name.to_owned() };
    String::from_utf8(bytes.to_vec()).map_err(not_text)
}

/// An object that may be missing if the reference says so.
fn optional<K>(found: Result<Arc<K>, Missing>, optional: Option<bool>) -> Result<Option<Arc<K>>, Missing> {
    match found {
        Err(Missing::NotFound { .. }) if optional == Some(true) => Ok(None),
        found => found.map(Some),
    }
}

async fn value_of(
    sources: &Sources<'_>,
    container: &Container,
    variable: &EnvVar,
    visible: &BTreeMap<String, String>,
) -> Result<Option<String>, Error> {
    match (&variable.value, &variable.value_from) {
        (Some(value), None) => Ok(Some(expand(value, visible))),
        (Some(value), Some(_)) if !value.is_empty() => Ok(Some(expand(value, visible))),
        (_, None) => Ok(Some(String::new())),
        (_, Some(from)) => referenced(sources, container, from).await,
    }
}

async fn referenced(
    sources: &Sources<'_>,
    container: &Container,
    from: &EnvVarSource,
) -> Result<Option<String>, Error> {
    if let Some(selector) = &from.field_ref {
        return Ok(Some(fields::field(sources.pod, sources.around, selector)?));
    }
    if let Some(selector) = &from.resource_field_ref {
        return Ok(Some(fields::resource(sources.pod, sources.around, &container.name, selector)?));
    }
    let no_key = |kind, key: &str, name: &str| Error::NoKey {
        key: key.to_owned(),
        kind,
        namespace: pod::namespace(sources.pod).to_owned(),
        name: name.to_owned(),
    };
    if let Some(selector) = &from.config_map_key_ref {
        let found = optional(sources.references.config_map(&selector.name).await, selector.optional)?;
        let Some(map) = found else { return Ok(None) };
        return match config_value(&map, &selector.key) {
            None if selector.optional == Some(true) => Ok(None),
            None => Err(no_key("ConfigMap", &selector.key, &selector.name)),
            value => Ok(value),
        };
    }
    if let Some(selector) = &from.secret_key_ref {
        let found = optional(sources.references.secret(&selector.name).await, selector.optional)?;
        let Some(secret) = found else { return Ok(None) };
        return match secret.data.as_ref().and_then(|data| data.get(&selector.key)) {
            None if selector.optional == Some(true) => Ok(None),
            None => Err(no_key("Secret", &selector.key, &selector.name)),
            Some(value) => text(&selector.key, &selector.name, &value.0).map(Some),
        };
    }
    match &from.file_key_ref {
        Some(selector) => from_file(sources, selector),
        None => Ok(Some(String::new())),
    }
}

fn config_value(map: &ConfigMap, key: &str) -> Option<String> {
    map.data.as_ref()?.get(key).cloned()
}

/// Bytes of a file of variables, as upstream (KEP-3721).
const MAX_FILE: u64 = 64 << 10;

/// Reads one variable from a file of `NAME=value` lines in a volume.
fn from_file(sources: &Sources<'_>, selector: &FileKeySelector) -> Result<Option<String>, Error> {
    let directory = (sources.volume)(&selector.volume_name)
        .ok_or_else(|| Error::File(format!("volume {:?} is not mounted", selector.volume_name)))?;
    from_volume(&directory, selector)
}

fn from_volume(directory: &Path, selector: &FileKeySelector) -> Result<Option<String>, Error> {
    let optional = selector.optional == Some(true);
    let leaves = || Error::File(format!("path {:?} leaves its volume", selector.path));
    let relative = Path::new(&selector.path);
    if relative.components().any(|part| !matches!(part, std::path::Component::Normal(_))) {
        return Err(leaves());
    }
    // Containers write there: a link would show files of the node, a pipe would hold this up.
    let read = Directory::open(directory, Links::Within).and_then(|volume| volume.read(relative, MAX_FILE));
    let bytes = match read {
        Ok(bytes) => bytes,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound && optional => return Ok(None),
        Err(err) if err.kind() == std::io::ErrorKind::CrossesDevices => return Err(leaves()),
        Err(err) => return Err(Error::File(format!("{}: {err}", selector.path))),
    };
    let text = String::from_utf8(bytes).map_err(|err| Error::File(format!("{}: {err}", selector.path)))?;
    let value = text.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name == selector.key).then(|| unquote(value).to_owned())
    });
    match value {
        None if !optional => Err(Error::File(format!("key {:?} not found in {:?}", selector.key, selector.path))),
        value => Ok(value),
    }
}

fn unquote(value: &str) -> &str {
    let value = value.trim();
    value.strip_prefix('\'').and_then(|inner| inner.strip_suffix('\'')).unwrap_or(value)
}

/// The docker-links style variables of the services a pod sees: `kubernetes` always, others of its namespace on request.
fn service_variables(namespace: &str, links: bool, sources: &Sources<'_>) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    for service in sources.services {
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let of = service.metadata.namespace.as_deref().unwrap_or_default();
        let is_master = of == sources.master_namespace && name == "kubernetes";
        if !(is_master || (links && of == namespace)) {
            continue;
        }
        if is_master && of != namespace && links && variables.contains_key("KUBERNETES_SERVICE_HOST") {
            continue;
        }
        add_service(name, service, &mut variables);
    }
    variables
}

fn add_service(name: &str, service: &Service, variables: &mut BTreeMap<String, String>) {
    let Some(spec) = &service.spec else { return };
    let ip = spec.cluster_ip.as_deref().unwrap_or_default();
    let ports = spec.ports.as_deref().unwrap_or_default();
    let Some(first) = ports.first().filter(|_| !ip.is_empty() && ip != "None") else { return };
    let prefix = name.to_uppercase().replace('-', "_");
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    let mut set = |suffix: &str, value: String| {
        variables.insert(format!("{prefix}_{suffix}"), value);
    };
    set("SERVICE_HOST", ip.to_owned());
    set("SERVICE_PORT", first.port.to_string());
    for (index, port) in ports.iter().enumerate() {
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            set(&format!("SERVICE_PORT_{}", name.to_uppercase().replace('-', "_")), port.port.to_string());
        }
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let scheme = protocol.to_lowercase();
        let url = format!("{scheme}://{host}:{}", port.port);
        if index == 0 {
            set("PORT", url.clone());
        }
        let base = format!("PORT_{}_{}", port.port, protocol.to_uppercase());
        set(&base, url);
        set(&format!("{base}_PROTO"), scheme);
        set(&format!("{base}_PORT"), port.port.to_string());
        set(&format!("{base}_ADDR"), ip.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_becomes_docker_style_variables() {
        let service: Service = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "my-db", "namespace": "a"},
            "spec": {"clusterIP": "10.96.0.5", "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}]}
        }))
        .unwrap();
        let mut variables = BTreeMap::new();
        add_service("my-db", &service, &mut variables);
        assert_eq!(variables["MY_DB_SERVICE_HOST"], "10.96.0.5");
        assert_eq!(variables["MY_DB_SERVICE_PORT_SQL"], "5432");
        assert_eq!(variables["MY_DB_PORT"], "tcp://10.96.0.5:5432");
        assert_eq!(variables["MY_DB_PORT_5432_TCP_ADDR"], "10.96.0.5");
    }

    #[test]
    fn a_file_of_variables_is_a_plain_one_in_its_volume() {
        let volume = tempfile::tempdir().unwrap();
        let path = |name: &str| volume.path().join(name);
        let read = |name: &str| {
            let selector = FileKeySelector { key: "KEY".into(), path: name.into(), ..FileKeySelector::default() };
            from_volume(volume.path(), &selector).map_err(|err| err.to_string())
        };
        std::fs::write(path("good"), "A=b\nKEY='value'\n").unwrap();
        std::os::unix::fs::symlink("good", path("inside")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", path("outside")).unwrap();
        std::fs::File::create(path("endless")).unwrap().set_len(1 << 40).unwrap();
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o666));
        rustix::fs::mknodat(rustix::fs::CWD, path("pipe"), kind, mode, 0).unwrap();
        for name in ["good", "inside"] {
            assert_eq!(read(name).unwrap().as_deref(), Some("value"), "{name}");
        }
        for (name, why) in
            [("outside", "leaves its volume"), ("endless", "longer than"), ("pipe", "not a regular file")]
        {
            assert!(read(name).unwrap_err().contains(why), "{name}");
        }
    }

    #[test]
    fn a_headless_service_gives_no_variables() {
        let service: Service = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "db"}, "spec": {"clusterIP": "None", "ports": [{"port": 1}]}
        }))
        .unwrap();
        let mut variables = BTreeMap::new();
        add_service("db", &service, &mut variables);
        assert!(variables.is_empty());
    }
}
