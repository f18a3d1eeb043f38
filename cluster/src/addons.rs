//! What a cluster has beside the API server's own bootstrap objects: the DNS Service and the rights of its server.

use std::net::IpAddr;

use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

/// The field manager of these objects.
const MANAGER: &str = "coracle";
/// The user that the DNS server is.
pub(crate) const DNS_USER: &str = "system:coracle:dns";

/// Applies the objects; an object that somebody else changed in other fields keeps those.
pub(crate) async fn ensure(client: &kube::Client, dns_service: IpAddr, dns_server: IpAddr) -> kube::Result<()> {
    for object in objects(dns_service, dns_server) {
        apply(client, object).await?;
    }
    Ok(())
}

async fn apply(client: &kube::Client, object: Value) -> kube::Result<()> {
    let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or("").to_owned();
    let (group, version) = text("/apiVersion").split_once('/').map_or((String::new(), text("/apiVersion")), |(group, version)| (group.to_owned(), version.to_owned()));
    let resource = ApiResource::from_gvk(&GroupVersionKind { group, version, kind: text("/kind") });
    let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
    let api: Api<DynamicObject> = if namespace.is_empty() {
        Api::all_with(client.clone(), &resource)
    } else {
        Api::namespaced_with(client.clone(), &namespace, &resource)
    };
    api.patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&object)).await.map(|_| ())
}

fn objects(dns_service: IpAddr, dns_server: IpAddr) -> [Value; 4] {
    let family = if dns_server.is_ipv4() { "IPv4" } else { "IPv6" };
    let ports = |key: &str| json!([{"name": "dns", "protocol": "UDP", key: 53}, {"name": "dns-tcp", "protocol": "TCP", key: 53}]);
    [
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": {"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS"}},
            "spec": {"clusterIP": dns_service.to_string(), "ports": ports("port")},
        }),
        // Without a selector the Service's endpoints are ours to say: the server runs on the node itself.
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
            "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": {
                "kubernetes.io/service-name": "kube-dns", "endpointslice.kubernetes.io/managed-by": MANAGER,
            }},
            "endpoints": [{"addresses": [dns_server.to_string()], "conditions": {"ready": true}}],
            "ports": ports("port"),
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": DNS_USER},
            "rules": [
                {"apiGroups": [""], "resources": ["namespaces", "services"], "verbs": ["get", "list", "watch"]},
                {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["get", "list", "watch"]},
            ],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": DNS_USER},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": DNS_USER},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": DNS_USER}],
        }),
    ]
}
