//! What a pod's sandbox is made with: names, kernel parameters, user namespace and runtime class (upstream:
//! generatePodSandboxConfig in pkg/kubelet/kuberuntime).

mod bandwidth;
pub(crate) mod pod_dns;
pub(crate) mod runtime_class;
pub(crate) mod sysctls;
pub(crate) mod user_ids;

use k8s_openapi::api::core::v1::Pod;
use runtime::{NamespaceOptions, PortMapping, Resources, SandboxConfig};

use crate::containers::labels::labels;
use crate::context::Context;
use crate::{pod, resources};

/// What the runtime is asked for; the ids of a user namespace come later, with a range that is free. The error is what an
/// annotation of the pod has wrong.
pub(crate) fn config(context: &Context, pod: &Pod, attempt: u32) -> Result<SandboxConfig, String> {
    let spec = pod::spec(pod);
    let (hostname, _) = pod_dns::hostname(pod, &context.dns.domain, &context.node_name);
    let wanted_sysctls = spec.security_context.as_ref().and_then(|context| context.sysctls.clone());
    let annotations = pod.metadata.annotations.clone().unwrap_or_default();
    Ok(SandboxConfig {
        name: pod::name(pod).to_owned(),
        namespace: pod::namespace(pod).to_owned(),
        uid: pod::uid(pod).to_owned(),
        attempt,
        hostname,
        log_directory: context.pod_log_dir(pod),
        dns: pod_dns::resolv_conf(pod, &context.dns),
        port_mappings: port_mappings(pod),
        bandwidth: bandwidth::of(&annotations)?,
        labels: labels(pod),
        annotations,
        namespaces: NamespaceOptions {
            host_network: spec.host_network.unwrap_or(false),
            host_pid: spec.host_pid.unwrap_or(false),
            host_ipc: spec.host_ipc.unwrap_or(false),
            shared_pid: spec.share_process_namespace.unwrap_or(false),
            users: None,
        },
        sysctls: wanted_sysctls.into_iter().flatten().map(|one| (sysctls::with_dots(&one.name), one.value)).collect(),
        cgroup_parent: resources::cgroup_parent(&context.cgroup_root, pod),
        resources: resources::pod_resources(pod, context.pids_limit),
        node_limits: Resources { pids_limit: context.node_pids_limit, ..Default::default() },
    })
}

fn port_mappings(pod: &Pod) -> Vec<PortMapping> {
    if pod::is_host_network(pod) {
        return Vec::new();
    }
    let containers = pod::containers(pod);
    let ports = containers.iter().flat_map(|(_, container)| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            Some(PortMapping {
                protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
                container_port: u16::try_from(port.container_port).ok()?,
                host_port: u16::try_from(port.host_port?).ok().filter(|port| *port > 0)?,
                host_ip: port.host_ip.clone().unwrap_or_default(),
            })
        })
        .collect()
}
