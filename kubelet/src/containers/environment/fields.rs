//! The downward API: values of a pod's fields and of its containers' resources (upstream: pkg/fieldpath and
//! pkg/api/v1/resource).
use std::net::IpAddr;

use facts::quoted::quoted;
use k8s_openapi::api::core::v1::{ObjectFieldSelector, Pod, ResourceFieldSelector};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::{pod, resources};

/// What the downward API knows beside the pod.
#[derive(Clone, Debug, Default)]
pub(crate) struct Surroundings {
    /// The node's name.
    pub(crate) node_name: String,
    /// The node's addresses, the main one first.
    pub(crate) node_ips: Vec<IpAddr>,
    /// The pod's addresses, the main one first.
    pub(crate) pod_ips: Vec<IpAddr>,
    /// Allocatable CPU in thousandths of a core; what an absent limit stands for.
    pub(crate) milli_cpu: i128,
    /// Allocatable memory in bytes.
    pub(crate) memory: i128,
    /// Allocatable local storage in bytes.
    pub(crate) storage: i128,
}

/// A reference that cannot be resolved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidField {
    /// No such field.
    #[error("unsupported fieldPath: {0}")]
    Field(String),
    /// No such resource.
    #[error("unsupported container resource : {0}")]
    Resource(String),
    /// No such container.
    #[error("container {0} not found")]
    Container(String),
    /// A divisor that is zero or no quantity.
    #[error("invalid divisor {0:?}")]
    Divisor(String),
}

/// The value of `fieldRef`; in volumes, whole maps too.
pub(crate) fn field(pod: &Pod, around: &Surroundings, selector: &ObjectFieldSelector) -> Result<String, InvalidField> {
    let path = selector.field_path.as_str();
    if let Some((map, key)) = subscript(path) {
        let values = match map {
            "metadata.annotations" => pod.metadata.annotations.as_ref(),
            "metadata.labels" => pod.metadata.labels.as_ref(),
            _ => return Err(InvalidField::Field(path.to_owned())),
        };
        return Ok(values.and_then(|values| values.get(key)).cloned().unwrap_or_default());
    }
    let join = |ips: &[IpAddr]| ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let first = |ips: &[IpAddr]| ips.first().map(ToString::to_string).unwrap_or_default();
    let spec = pod::spec(pod);
    Ok(match path {
        "metadata.name" => pod::name(pod).to_owned(),
        "metadata.namespace" => pod::namespace(pod).to_owned(),
        "metadata.uid" => pod::uid(pod).to_owned(),
        "metadata.labels" => format_map(pod.metadata.labels.as_ref()),
        "metadata.annotations" => format_map(pod.metadata.annotations.as_ref()),
        "spec.nodeName" => around.node_name.clone(),
        "spec.serviceAccountName" => spec.service_account_name.clone().unwrap_or_default(),
        "status.hostIP" => first(&around.node_ips),
        "status.hostIPs" => join(&around.node_ips),
        "status.podIP" => first(&around.pod_ips),
        "status.podIPs" => join(&around.pod_ips),
        _ => return Err(InvalidField::Field(path.to_owned())),
    })
}

/// `metadata.labels['key']` in its two parts.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

/// Sorted lines of `key="value"`, as upstream writes a map to a file.
fn format_map(map: Option<&std::collections::BTreeMap<String, String>>) -> String {
    let lines: Vec<_> = map.into_iter().flatten().map(|(key, value)| format!("{key}={}", quoted(value))).collect();
    lines.join("\n")
}

/// The value of `resourceFieldRef` for the container it names, or else `container`.
pub(crate) fn resource(
    pod: &Pod,
    around: &Surroundings,
    container: &str,
    selector: &ResourceFieldSelector,
) -> Result<String, InvalidField> {
    let name = selector.container_name.as_deref().filter(|name| !name.is_empty()).unwrap_or(container);
    let (_, container) = pod::container(pod, name).ok_or_else(|| InvalidField::Container(name.to_owned()))?;
    let unsupported = || InvalidField::Resource(selector.resource.clone());
    let (kind, resource) = selector.resource.split_once('.').ok_or_else(unsupported)?;
    let list = match kind {
        "limits" => resources::limits(&container),
        "requests" => resources::requests(&container),
        _ => return Err(unsupported()),
    };
    let set = list.get(resource).and_then(|quantity| match resource {
        "cpu" => resources::milli(quantity),
        _ => resources::value(quantity).map(|units| units * 1000),
    });
    let node_wide = |value: i128| if kind == "limits" { value } else { 0 };
    let milli = match resource {
        "cpu" => set.filter(|value| *value > 0).unwrap_or(node_wide(around.milli_cpu)),
        "memory" => set.filter(|value| *value > 0).unwrap_or(node_wide(around.memory * 1000)),
        "ephemeral-storage" => set.filter(|value| *value > 0).unwrap_or(node_wide(around.storage * 1000)),
        huge if huge.starts_with("hugepages-") => set.unwrap_or(0),
        _ => return Err(unsupported()),
    };
    let divisor = divisor(selector.divisor.as_ref())?;
    Ok((milli / divisor + i128::from(milli % divisor != 0)).to_string())
}

fn divisor(divisor: Option<&Quantity>) -> Result<i128, InvalidField> {
    let Some(quantity) = divisor else { return Ok(1000) };
    match resources::milli(quantity) {
        Some(0) => Ok(1000),
        Some(milli) if milli > 0 => Ok(milli),
        _ => Err(InvalidField::Divisor(quantity.0.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, expected: Result<&str, InvalidField>) {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "labels": {"a": "1", "b": "x\"y"},
                "annotations": {"odd": "\u{200b}\x1b"}},
            "spec": {"containers": []}
        }))
        .unwrap();
        let around = Surroundings { node_ips: vec![[10, 0, 0, 1].into()], ..Surroundings::default() };
        let selector = ObjectFieldSelector { field_path: path.into(), api_version: None };
        assert_eq!(field(&pod, &around, &selector), expected.map(str::to_owned), "{path}");
    }

    #[test]
    fn fields_have_values() {
        check("metadata.name", Ok("web"));
        check("metadata.labels['a']", Ok("1"));
        check("metadata.labels['none']", Ok(""));
        check("metadata.labels", Ok("a=\"1\"\nb=\"x\\\"y\""));
        check("metadata.annotations", Ok(r#"odd="\u200b\x1b""#));
        check("status.hostIP", Ok("10.0.0.1"));
        check("spec.color", Err(InvalidField::Field("spec.color".into())));
    }

    #[test]
    fn an_absent_limit_is_the_nodes_allocatable() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "web"},
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1500m"}}}]}
        }))
        .unwrap();
        let around = Surroundings { milli_cpu: 4000, ..Surroundings::default() };
        let of = |resource: &str, divisor: Option<&str>| {
            let divisor = divisor.map(|divisor| Quantity(divisor.into()));
            let selector = ResourceFieldSelector { container_name: None, divisor, resource: resource.into() };
            super::resource(&pod, &around, "c", &selector).unwrap()
        };
        assert_eq!(of("limits.cpu", None), "4");
        assert_eq!(of("requests.cpu", None), "2");
        assert_eq!(of("requests.cpu", Some("1m")), "1500");
        assert_eq!(of("requests.memory", None), "0");
    }
}
