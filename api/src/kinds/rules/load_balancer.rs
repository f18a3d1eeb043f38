//! Load balancers in the status of Services and Ingresses (upstream: `core.LoadBalancerStatus`).

use super::tree::{Errors, Node};
use super::{addresses, naming};

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
