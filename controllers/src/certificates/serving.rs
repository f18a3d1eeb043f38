//! Approves the serving certificates of kubelets, where the process that runs the controllers asks for it. Upstream leaves
//! that to administrators or to a controller of theirs: a node says itself which addresses it has, and a certificate for
//! an address that is somebody else's would let it speak in their name.
//!
//! So a request is approved when it is the node's own, names the node and addresses that its Node object has, and when none
//! of these is another node's, a pod's, a Service's or the loopback's. All others wait for an administrator.

use client::{Informer, ObjectKey, write};
use facts::cidr::Cidr;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::PostParams;

use super::policy::{self, Wanted};
use super::{add_condition, condition, watch};
use crate::context::{Controller, Failure, Outcome};
use crate::descriptor::Descriptor;

/// The controller, when it is wanted.
pub(crate) const DESCRIPTOR: Descriptor = Descriptor {
    name: "coracle-kubelet-serving-approver-controller",
    aliases: &[],
    start: |start| {
        let Some(not_nodes) = start.config.approve_serving.clone() else { return Ok(()) };
        let (requests, queue) = watch(start.context);
        let nodes = start.context.informers.of::<Node>();
        let approver = Approver { client: start.context.client.clone(), requests, nodes, not_nodes };
        start.drive("kubelet-serving-approver", (approver, queue), 1)
    },
};

pub(crate) struct Approver {
    client: kube::Client,
    requests: Informer<CertificateSigningRequest>,
    nodes: Informer<Node>,
    not_nodes: Vec<Cidr>,
}

impl Controller for Approver {
    async fn reconcile(&self, key: ObjectKey) -> Outcome {
        let Some(request) = self.requests.get(&key) else { return Ok(None) };
        let is_decided = condition(&request, "Approved").is_some() || condition(&request, "Denied").is_some();
        let wanted = Wanted::parse(&request.spec).ok().filter(|_| !is_decided && is_serving(&request.spec));
        let Some(wanted) = wanted.filter(|wanted| policy::refusal(&request.spec, wanted).is_none()) else {
            return Ok(None);
        };
        let nodes: Vec<_> = self.nodes.list();
        let Some(node) = nodes.iter().find(|node| node.metadata.name.as_deref() == Some(wanted.node())) else {
            return Err(Failure::NotYet(format!("node {} is not there yet", wanted.node())));
        };
        let others = nodes.iter().filter(|other| other.metadata.name != node.metadata.name).map(|node| &**node);
        if let Err(why) = judge(&wanted, node, others, &self.not_nodes) {
            tracing::warn!(request = key.name, node = wanted.node(), why, "serving certificate is not approved");
            return Ok(None);
        }
        let mut approved = (*request).clone();
        let message = "The node asks for its own name and addresses.".to_owned();
        add_condition(&mut approved, "Approved", "AutoApproved", message);
        let api: Api<CertificateSigningRequest> = Api::all(self.client.clone());
        write::ignore_not_found(
            api.replace_subresource("approval", &key.name, &PostParams::default(), &approved).await,
        )?;
        Ok(None)
    }
}

fn is_serving(spec: &CertificateSigningRequestSpec) -> bool {
    spec.signer_name == policy::KUBELET_SERVING
}

/// Whether everything that is asked for is the node's; the error says what is not.
fn judge<'a>(
    wanted: &Wanted,
    node: &Node,
    others: impl Iterator<Item = &'a Node> + Clone,
    not_nodes: &[Cidr],
) -> Result<(), String> {
    if let Some(name) = wanted.dns.iter().find(|name| *name != wanted.node()) {
        return Err(format!("{name:?} is not the node's name"));
    }
    for ip in &wanted.ips {
        let ip = ip.ok_or("a subject alternative name is no address")?;
        let text = ip.to_string();
        let has = |node: &Node| addresses(node).any(|address| address == text);
        if !has(node) {
            return Err(format!("{ip} is no address of the node"));
        }
        if others.clone().any(has) {
            return Err(format!("{ip} is an address of another node, too"));
        }
        if ip.is_loopback() || ip.is_unspecified() || not_nodes.iter().any(|range| range.contains(ip)) {
            return Err(format!("{ip} is no address that a node can have"));
        }
    }
    Ok(())
}

fn addresses(node: &Node) -> impl Iterator<Item = &str> {
    let all = node.status.as_ref().and_then(|status| status.addresses.as_deref()).unwrap_or_default();
    all.iter().filter(|one| one.type_.ends_with("IP")).map(|one| one.address.as_str())
}

#[cfg(test)]
mod tests {
    use super::super::tests::spec;
    use super::*;

    fn node(name: &str, address: &str) -> Node {
        let status = serde_json::json!({"addresses": [{"type": "InternalIP", "address": address}]});
        serde_json::from_value(serde_json::json!({"metadata": {"name": name}, "status": status})).unwrap()
    }

    #[test]
    fn a_node_gets_a_certificate_for_what_is_its_own_and_nothing_else() {
        let ranges = ["10.96.0.0/16".parse().unwrap()];
        for (address, names, expected) in [
            ("192.0.2.1", &["n1", "192.0.2.1"][..], Ok(())),
            ("192.0.2.1", &["192.0.2.1"], Ok(())),
            ("192.0.2.1", &["n2"], Err("not the node's name")),
            ("192.0.2.1", &["kubernetes.default.svc"], Err("not the node's name")),
            ("192.0.2.1", &["n1", "192.0.2.2"], Err("no address of the node")),
            ("192.0.2.2", &["192.0.2.2"], Err("another node")),
            ("10.96.0.1", &["10.96.0.1"], Err("no address that a node can have")),
            ("127.0.0.1", &["127.0.0.1"], Err("no address that a node can have")),
        ] {
            let usages = ["digital signature", "server auth"];
            let spec = spec(policy::KUBELET_SERVING, "system:node:n1", "system:nodes", names, &usages);
            let wanted = Wanted::parse(&spec).ok().unwrap();
            assert_eq!(policy::refusal(&spec, &wanted), None);
            let other = node("n2", "192.0.2.2");
            let judged = judge(&wanted, &node("n1", address), std::iter::once(&other), &ranges);
            match expected {
                Ok(()) => assert_eq!(judged, Ok(()), "{names:?}"),
                Err(words) => assert!(judged.as_ref().is_err_and(|why| why.contains(words)), "{names:?} {judged:?}"),
            }
        }
    }
}
