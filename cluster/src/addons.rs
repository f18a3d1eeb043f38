//! What a cluster has beside the API server's own bootstrap objects: the DNS Service, the class of local volumes, and the
//! rights of those who serve them or enforce NetworkPolicies.

use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::wait::await_condition;
use serde::Deserialize as _;
use serde_json::Value;

/// The field manager of these objects.
const MANAGER: &str = "coracle";
/// The Service of the DNS server and the server's rights, for `kubectl apply` after its addresses are filled in.
const MANIFEST: &str = include_str!("../../manifests/dns.yaml");
/// A node that registers later than this has something else wrong with it.
const PATIENCE: Duration = Duration::from_secs(60);
/// The user that the DNS server is.
pub(crate) const DNS_USER: &str = "system:coracle:dns";
/// The class of local volumes, and their provisioner's rights.
const LOCAL_STORAGE: &str = include_str!("../../manifests/local-storage.yaml");
/// The user that the provisioner of local volumes is.
pub(crate) const PROVISIONER_USER: &str = "system:coracle:provisioner";

/// The rights of those who enforce NetworkPolicies.
const NETWORK_POLICY: &str = include_str!("../../manifests/network-policy.yaml");
/// The user that they are.
pub(crate) const NETWORK_POLICY_USER: &str = "system:coracle:network-policy";

/// Applies the objects; an object that somebody else changed in other fields keeps those. A storage class that is there
/// stays as it is: whether it is the default is the users' to say. Without a `dns_server` somebody else keeps the endpoints of
/// DNS.
pub(crate) async fn ensure(client: &kube::Client, dns_service: IpAddr, dns_server: Option<IpAddr>) -> kube::Result<()> {
    let own = [LOCAL_STORAGE, NETWORK_POLICY].into_iter().flat_map(documents);
    let dns = dns(dns_service, dns_server.unwrap_or(dns_service));
    for object in dns.into_iter().chain(own) {
        match object["kind"].as_str() {
            Some("EndpointSlice") if dns_server.is_none() => {}
            Some("StorageClass") => create(client, &object).await?,
            _ => apply(client, &object).await?,
        }
    }
    Ok(())
}

/// Gives the node, once it is there, the role that `kubectl get nodes` shows. Nodes may not name their own (KEP-279), and
/// pods are scheduled to it all the same: it has no taint.
pub(crate) async fn name_role(client: kube::Client, node: &str) -> kube::Result<()> {
    let nodes: Api<Node> = Api::all(client);
    let there = await_condition(nodes.clone(), node, |node: Option<&Node>| node.is_some());
    if tokio::time::timeout(PATIENCE, there).await.is_err() {
        return Ok(());
    }
    let role = serde_json::json!({"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}});
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    nodes.patch_metadata(node, &params, &Patch::Merge(role)).await.map(|_| ())
}

/// Applies an object; what somebody else changed in other fields stays.
pub(crate) async fn apply(client: &kube::Client, object: &Value) -> kube::Result<()> {
    let (api, name) = place(client, object);
    api.patch(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(object)).await.map(|_| ())
}

async fn create(client: &kube::Client, object: &Value) -> kube::Result<()> {
    let (api, _) = place(client, object);
    let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    let object = serde_json::from_value(object.clone()).expect("an object of a manifest has a kind and a name");
    match api.create(&params, &object).await {
        Err(err) if client::write::is_already_exists(&err) => Ok(()),
        made => made.map(|_| ()),
    }
}

/// Where an object of a manifest belongs, and its name there.
fn place<'a>(client: &kube::Client, object: &'a Value) -> (Api<DynamicObject>, &'a str) {
    let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or("");
    let (group, version) = text("/apiVersion").split_once('/').unwrap_or(("", text("/apiVersion")));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, text("/kind")));
    let api = match text("/metadata/namespace") {
        "" => Api::all_with(client.clone(), &resource),
        namespace => Api::namespaced_with(client.clone(), namespace, &resource),
    };
    (api, text("/metadata/name"))
}

/// The objects of the manifest, with these addresses in their places.
fn dns(dns_service: IpAddr, dns_server: IpAddr) -> Vec<Value> {
    let family = if dns_server.is_ipv4() { "IPv4" } else { "IPv6" };
    // Quoted: to YAML, an IPv6 address in a list is no plain word.
    let address = |address: IpAddr| format!("\"{address}\"");
    let manifest = MANIFEST
        .replace("DNS_SERVICE_IP", &address(dns_service))
        .replace("DNS_SERVER_IP", &address(dns_server))
        .replace("ADDRESS_FAMILY", family);
    documents(&manifest)
}

/// The EndpointSlice of DNS with these endpoints.
pub(crate) fn dns_slice(family: &str, endpoints: Vec<Value>) -> Value {
    let is_slice = |object: &Value| object["kind"] == "EndpointSlice";
    let mut slice =
        documents(MANIFEST).into_iter().find(is_slice).expect("the manifest has the slice: a test reads it");
    slice["addressType"] = family.into();
    slice["endpoints"] = endpoints.into();
    slice
}

/// The objects of a manifest of ours.
pub(crate) fn documents(manifest: &str) -> Vec<Value> {
    let documents = serde_yaml::Deserializer::from_str(manifest);
    documents.map(|document| Value::deserialize(document).expect("the manifest is YAML: a test reads it")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_gets_the_addresses_and_names_the_servers_user() {
        for (service, server, family) in [("10.96.0.10", "10.0.0.1", "IPv4"), ("fd00::a", "fd00:1::1", "IPv6")] {
            let objects = dns(service.parse().unwrap(), server.parse().unwrap());
            assert_eq!(objects.len(), 4);
            assert_eq!(objects[0]["spec"]["clusterIP"], service);
            assert_eq!(objects[1]["endpoints"][0]["addresses"][0], server);
            assert_eq!(objects[1]["addressType"], family);
            assert_eq!(objects[3]["subjects"][0]["name"], DNS_USER);
        }
    }

    #[test]
    fn the_class_of_local_volumes_names_the_provisioner_and_its_user() {
        let objects = documents(LOCAL_STORAGE);
        assert_eq!(objects[0]["provisioner"], provisioner::NAME);
        assert_eq!(objects[2]["subjects"][0]["name"], PROVISIONER_USER);
    }

    #[test]
    fn the_rights_to_enforce_policies_are_their_users() {
        assert_eq!(documents(NETWORK_POLICY)[1]["subjects"][0]["name"], NETWORK_POLICY_USER);
    }
}
