//! Kinds of the group `metrics.k8s.io`: what nodes and pods use (upstream: `k8s.io/metrics` and the metrics-server, which
//! serves them behind an APIService). Nothing of them is stored; a server has them that can ask kubelets.

use jiff::Timestamp;
use serde_json::Value;

use super::kind::{Group, Kind};
use crate::object::Object;
use crate::quantity::Quantity;
use crate::resource::Verb;
use crate::table::cell::Cell::Row;
use crate::table::cell::list;

pub(crate) const GROUP: Group = Group { name: "metrics.k8s.io", versions: &[("v1beta1", &[NODES, PODS])] };

const NODES: Kind =
    Kind { singular: Some("node"), verbs: READ, cells: &[Row(cells)], ..Kind::cluster("nodes", "NodeMetrics") };
const PODS: Kind =
    Kind { singular: Some("pod"), verbs: READ, cells: &[Row(cells)], ..Kind::namespaced("pods", "PodMetrics") };
const READ: &[Verb] = &[Verb::Get, Verb::List];

fn cells(metrics: &Object, _now: Timestamp) -> Vec<Value> {
    let (cpu, memory) = (total(metrics, "cpu").into(), total(metrics, "memory").into());
    vec![metrics.name().into(), cpu, memory, metrics.text(&["window"]).into()]
}

/// What a node uses of a resource, or all containers of a pod together.
fn total(metrics: &Object, resource: &str) -> String {
    let of_node = metrics.get(&["usage", resource]);
    let of_containers = list(metrics, &["containers"]).iter().filter_map(|container| container["usage"].get(resource));
    let amounts = of_node.into_iter().chain(of_containers).filter_map(Quantity::of_value);
    amounts.reduce(|sum, amount| sum + amount).unwrap_or(Quantity::zero()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_row_shows_what_all_containers_use_together() {
        let usage = |cpu: &str, memory: &str| json!({"usage": {"cpu": cpu, "memory": memory}});
        let pod = json!({"metadata": {"name": "p"}, "window": "15s", "containers": [usage("1500m", "3Mi"), usage("1n", "1Ki")]});
        let row = cells(&Object::from_value(pod).unwrap(), Timestamp::UNIX_EPOCH);
        assert_eq!(row, ["p", "1500000001n", "3073Ki", "15s"].map(Value::from));
        let node = json!({"metadata": {"name": "n"}, "window": "1s", "usage": {"cpu": "2", "memory": "1Gi"}});
        let row = cells(&Object::from_value(node).unwrap(), Timestamp::UNIX_EPOCH);
        assert_eq!(row, ["n", "2", "1Gi", "1s"].map(Value::from));
        assert_eq!(cells(&Object::default(), Timestamp::UNIX_EPOCH).len(), 4);
    }
}
