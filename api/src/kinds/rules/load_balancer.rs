//! Load balancers in the status of Services and Ingresses (upstream: `core.LoadBalancerStatus`).

use super::tree::{Errors, Node};
use super::{addresses, naming};
use crate::object::Object;
use crate::table::cell::{list, or, text};

/// The name of a load balancer's host.
pub(crate) fn host(name: &Node<'_, '_>, errors: &mut Errors) {
    if !name.text().is_empty() {
        errors.invalid_all(name, naming::subdomain(name.text()));
        if name.text().parse::<std::net::IpAddr>().is_ok() {
            errors.invalid(name, "must be a DNS name, not an IP address");
        }
    }
}

/// Where the load balancer of a `Service` or `Ingress` is.
pub(crate) fn warn(new: &Node<'_, '_>, texts: &mut Vec<String>) {
    let status = new.field("status");
    let balancer = status.field("loadBalancer");
    for one in balancer.field("ingress").items() {
        let ip = one.field("ip");
        texts.extend(addresses::ip_warning(&ip.path(), ip.text()));
    }
}

/// The addresses of a load balancer, in order and once each.
pub(crate) fn addresses(object: &Object) -> Vec<&str> {
    let ingress = list(object, &["status", "loadBalancer", "ingress"]).iter();
    let mut addresses: Vec<&str> = ingress.map(|entry| or(text(entry, "ip"), text(entry, "hostname"))).collect();
    addresses.retain(|address| !address.is_empty());
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}
