//! A pod as the checks see it, and the words for what they find.

use serde_json::Value;

/// One check that a pod fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) reason: String,
    pub(super) detail: String,
}

/// Checks of what there is only on Linux.
pub(super) fn unless_windows(pod: &Pod<'_>, check: fn(&Pod<'_>) -> Option<Violation>) -> Option<Violation> {
    let is_windows = pod.spec.pointer("/os/name").is_some_and(|name| name == "windows");
    if is_windows { None } else { check(pod) }
}

/// Checks of users that are the host's, too, if the pod has none of its own.
pub(super) fn unless_own_users(pod: &Pod<'_>, check: fn(&Pod<'_>) -> Option<Violation>) -> Option<Violation> {
    let has_own = pod.spec.get("hostUsers") == Some(&Value::Bool(false));
    if has_own { None } else { check(pod) }
}

pub(super) fn violation(reason: &str, detail: String) -> Option<Violation> {
    Some(Violation { reason: reason.to_owned(), detail })
}

pub(super) fn quoted<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

/// `container "a"`, `containers "a", "b"`.
pub(super) fn named(what: &str, names: &[&str]) -> String {
    format!("{} {}", plural(what, names.len()), quoted(names.iter().copied()))
}

/// `container`, or `containers` if there are not exactly one.
pub(super) fn plural(what: &str, count: usize) -> String {
    format!("{what}{}", if count == 1 { "" } else { "s" })
}

/// Sorted, each once.
pub(super) fn set<T: Ord>(values: impl IntoIterator<Item = T>) -> Vec<T> {
    let set: std::collections::BTreeSet<T> = values.into_iter().collect();
    set.into_iter().collect()
}

pub(super) fn is_true(value: Option<&Value>) -> bool {
    value == Some(&Value::Bool(true))
}

/// A pod's spec, its annotations and all its containers.
pub(super) struct Pod<'a> {
    pub(super) spec: &'a Value,
    pub(super) containers: Vec<(&'a str, &'a Value)>,
    metadata: Option<&'a Value>,
}

impl<'a> Pod<'a> {
    pub(super) fn new(metadata: Option<&'a Value>, spec: &'a Value) -> Self {
        let lists = ["initContainers", "containers", "ephemeralContainers"];
        let containers = lists.iter().filter_map(|list| spec.get(list)?.as_array()).flatten();
        let named =
            containers.map(|container| (container.get("name").and_then(Value::as_str).unwrap_or(""), container));
        Self { spec, containers: named.collect(), metadata }
    }

    /// The annotations whose names begin so.
    pub(super) fn annotations(&self, prefix: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let all = self.metadata.and_then(|metadata| metadata.get("annotations")?.as_object());
        let text = |(key, value): (&'a String, &'a Value)| Some((key.as_str(), value.as_str()?));
        all.into_iter().flatten().filter_map(text).filter(move |(key, _)| key.starts_with(prefix))
    }

    /// The containers of which it is so.
    pub(super) fn containers_where(&self, is_bad: impl Fn(&Value) -> bool) -> Vec<&'a str> {
        self.containers.iter().filter(|(_, container)| is_bad(container)).map(|(name, _)| *name).collect()
    }

    /// The containers whose security context is bad.
    pub(super) fn bad(&self, is_bad: impl Fn(&Value) -> bool) -> Vec<&'a str> {
        self.containers_where(|container| is_bad(container.get("securityContext").unwrap_or(&Value::Null)))
    }

    /// A field of the pod's security context.
    pub(super) fn context(&self, field: &str) -> Option<&'a Value> {
        self.spec.get("securityContext")?.get(field).filter(|value| !value.is_null())
    }

    /// What stands at a field in the security contexts of the pod and its containers.
    pub(super) fn everywhere(&self, field: &str) -> impl Iterator<Item = &'a Value> {
        let containers = self.containers.iter().filter_map(move |(_, container)| {
            container.get("securityContext")?.get(field).filter(|value| !value.is_null())
        });
        let containers: Vec<_> = self.context(field).into_iter().chain(containers).collect();
        containers.into_iter()
    }

    /// `pod`, `container "a"` or `pod and container "a"`.
    pub(super) fn pod_and(of_pod: bool, containers: &[&str]) -> Vec<String> {
        let pod = of_pod.then(|| "pod".to_owned());
        pod.into_iter().chain((!containers.is_empty()).then(|| named("container", containers))).collect()
    }
}
