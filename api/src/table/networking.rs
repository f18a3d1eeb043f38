//! Rows of networking and discovery.

use super::Printer;
use crate::kinds::discovery::endpoint_slice;
use crate::kinds::networking::{ingress, ingress_class, ip_address, network_policy, service_cidr};

pub(crate) fn printer(plural: &str) -> Option<Printer> {
    Some(match plural {
        "endpointslices" => endpoint_slice::cells,
        "ingressclasses" => ingress_class::cells,
        "ingresses" => ingress::cells,
        "ipaddresses" => ip_address::cells,
        "networkpolicies" => network_policy::cells,
        "servicecidrs" => service_cidr::cells,
        _ => return None,
    })
}
