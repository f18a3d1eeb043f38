//! Rows of the core group.

use super::Printer;
use crate::kinds::core::pod::cells;
use crate::kinds::core::{
    component_status, config_map, endpoints, event, namespace, node, persistent_volume, persistent_volume_claim,
    pod_template, replication_controller, resource_quota, secret, service, service_account,
};

pub(crate) fn printer(plural: &str) -> Option<Printer> {
    Some(match plural {
        "componentstatuses" => component_status::cells,
        "configmaps" => config_map::cells,
        "endpoints" => endpoints::cells,
        "events" => event::cells,
        "namespaces" => namespace::cells,
        "nodes" => node::cells,
        "persistentvolumeclaims" => persistent_volume_claim::cells,
        "persistentvolumes" => persistent_volume::cells,
        "pods" => cells::cells,
        "podtemplates" => pod_template::cells,
        "replicationcontrollers" => replication_controller::cells,
        "resourcequotas" => resource_quota::cells,
        "secrets" => secret::cells,
        "serviceaccounts" => service_account::cells,
        "services" => service::cells::service,
        _ => return None,
    })
}
