//! Questions that a pod's object answers: identity, kinds of containers, policies (upstream: pkg/api/v1/pod and
//! pkg/kubelet/types).
use std::time::Duration;

pub(crate) use facts::pods::{is_sidecar, is_terminal, is_terminating as is_deleting};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodSpec, PodStatus, Probe};

/// Annotation that names where a pod came from: `file` for manifests, `api` otherwise.
pub(crate) const CONFIG_SOURCE: &str = "kubernetes.io/config.source";
/// Annotation with the hash of a static pod's manifest.
pub(crate) const CONFIG_HASH: &str = "kubernetes.io/config.hash";
/// Annotation on the API's copy of a static pod; its value is the static pod's hash.
pub(crate) const CONFIG_MIRROR: &str = "kubernetes.io/config.mirror";

const DEFAULT_GRACE: i64 = 30;

/// The part a container has in its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Role {
    /// Runs to its end before the next one starts.
    Init,
    /// An init container with `restartPolicy: Always`.
    Sidecar,
    /// One of `spec.containers`.
    App,
    /// Added to a running pod for debugging.
    Ephemeral,
}

/// The pod's uid, or nothing for an object that no server has seen.
pub(crate) fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

/// The pod's name.
pub(crate) fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// The pod's namespace.
pub(crate) fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or("default")
}

/// `name_namespace(uid)`, as upstream's messages name pods.
pub(crate) fn describe(pod: &Pod) -> String {
    format!("{}_{}({})", name(pod), namespace(pod), uid(pod))
}

/// The value of an annotation.
pub(crate) fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// The pod's spec; a pod without one has no containers.
pub(crate) fn spec(pod: &Pod) -> &PodSpec {
    static EMPTY: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);
    pod.spec.as_ref().unwrap_or(&EMPTY)
}

/// The pod's status; empty when it has none.
pub(crate) fn status(pod: &Pod) -> &PodStatus {
    static EMPTY: std::sync::LazyLock<PodStatus> = std::sync::LazyLock::new(PodStatus::default);
    pod.status.as_ref().unwrap_or(&EMPTY)
}

/// Whether the pod came from a manifest on this node.
pub(crate) fn is_static(pod: &Pod) -> bool {
    annotation(pod, CONFIG_SOURCE).is_some_and(|source| source != "api")
}

/// Whether the pod is one without which the node, or the cluster, does not work (upstream: `IsCriticalPod`).
pub(crate) fn is_critical(pod: &Pod) -> bool {
    const SYSTEM_CRITICAL: i32 = 2_000_000_000;
    is_static(pod) || is_mirror(pod) || spec(pod).priority.is_some_and(|priority| priority >= SYSTEM_CRITICAL)
}

/// Whether the pod is the API's copy of a static pod.
pub(crate) fn is_mirror(pod: &Pod) -> bool {
    annotation(pod, CONFIG_MIRROR).is_some()
}

/// Whether the pod uses the node's network.
pub(crate) fn is_host_network(pod: &Pod) -> bool {
    spec(pod).host_network.unwrap_or(false)
}

/// `Always`, `OnFailure` or `Never`.
pub(crate) fn restart_policy(pod: &Pod) -> &str {
    spec(pod).restart_policy.as_deref().unwrap_or("Always")
}

/// The init containers, sidecars among them.
pub(crate) fn init_containers(pod: &Pod) -> &[Container] {
    spec(pod).init_containers.as_deref().unwrap_or_default()
}

/// Every container of the pod with its role: init, app, then ephemeral ones.
pub(crate) fn containers(pod: &Pod) -> Vec<(Role, Container)> {
    let init = init_containers(pod).iter().map(|container| {
        let role = if is_sidecar(container) { Role::Sidecar } else { Role::Init };
        (role, container.clone())
    });
    let app = spec(pod).containers.iter().map(|container| (Role::App, container.clone()));
    let ephemeral = ephemeral_containers(pod).into_iter().map(|container| (Role::Ephemeral, container));
    init.chain(app).chain(ephemeral).collect()
}

/// The images that the pod's containers run and mount.
pub(crate) fn images(pod: &Pod) -> Vec<String> {
    containers(pod).iter().flat_map(|(_, container)| images_of(pod, container)).collect()
}

/// The image that a container runs, and those that it mounts.
pub(crate) fn images_of(pod: &Pod, container: &Container) -> Vec<String> {
    let mounted = |name: &str| container.volume_mounts.iter().flatten().any(|mount| mount.name == name);
    let volumes = spec(pod).volumes.iter().flatten().filter(|volume| mounted(&volume.name));
    let shown = volumes.filter_map(|volume| volume.image.as_ref()?.reference.clone());
    container.image.clone().into_iter().chain(shown).collect()
}

/// A container by name, with its role.
pub(crate) fn container(pod: &Pod, name: &str) -> Option<(Role, Container)> {
    containers(pod).into_iter().find(|(_, container)| container.name == name)
}

/// The pod's ephemeral containers in the shape of ordinary ones.
pub(crate) fn ephemeral_containers(pod: &Pod) -> Vec<Container> {
    spec(pod).ephemeral_containers.iter().flatten().map(as_container).collect()
}

/// The container whose processes the ephemeral container `name` shall see.
pub(crate) fn debug_target<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    let ephemeral = spec(pod).ephemeral_containers.iter().flatten().find(|container| container.name == name)?;
    ephemeral.target_container_name.as_deref().filter(|target| !target.is_empty())
}

fn as_container(from: &EphemeralContainer) -> Container {
    let from = from.clone();
    Container {
        args: from.args,
        command: from.command,
        env: from.env,
        env_from: from.env_from,
        image: from.image,
        image_pull_policy: from.image_pull_policy,
        lifecycle: from.lifecycle,
        liveness_probe: from.liveness_probe,
        name: from.name,
        ports: from.ports,
        readiness_probe: from.readiness_probe,
        resize_policy: from.resize_policy,
        resources: from.resources,
        restart_policy: from.restart_policy,
        restart_policy_rules: from.restart_policy_rules,
        security_context: from.security_context,
        startup_probe: from.startup_probe,
        stdin: from.stdin,
        stdin_once: from.stdin_once,
        termination_message_path: from.termination_message_path,
        termination_message_policy: from.termination_message_policy,
        tty: from.tty,
        volume_devices: from.volume_devices,
        volume_mounts: from.volume_mounts,
        working_dir: from.working_dir,
    }
}

/// How long the pod's containers may take to stop.
pub(crate) fn grace(pod: &Pod) -> Duration {
    let seconds = pod
        .metadata
        .deletion_grace_period_seconds
        .or(spec(pod).termination_grace_period_seconds)
        .unwrap_or(DEFAULT_GRACE);
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// The grace for a container that a probe condemned: the probe's own, or the pod's.
pub(crate) fn probe_grace(pod: &Pod, probe: Option<&Probe>) -> Duration {
    probe
        .and_then(|probe| probe.termination_grace_period_seconds)
        .and_then(|seconds| u64::try_from(seconds).ok())
        .map_or_else(|| grace(pod), Duration::from_secs)
}

/// Whether an ended container may be started again, by its own policy and rules and then the pod's.
pub(crate) fn may_restart(pod: &Pod, role: Role, container: &Container, exit_code: i32) -> bool {
    if role == Role::Ephemeral {
        return false;
    }
    if rule_asks_for_restart(container, exit_code) {
        return true;
    }
    let policy = match role {
        Role::Sidecar => "Always",
        _ => container_restart_policy(pod, container),
    };
    match policy {
        "Never" => false,
        "OnFailure" => exit_code != 0,
        // A finished init container is not run again in the same sandbox.
        _ => role != Role::Init || exit_code != 0,
    }
}

/// The container's own restart policy, or else the pod's.
pub(crate) fn container_restart_policy<'a>(pod: &'a Pod, container: &'a Container) -> &'a str {
    container.restart_policy.as_deref().unwrap_or_else(|| restart_policy(pod))
}

fn rule_asks_for_restart(container: &Container, exit_code: i32) -> bool {
    container.restart_policy_rules.iter().flatten().any(|rule| {
        let Some(on) = &rule.exit_codes else { return false };
        let listed = on.values.iter().flatten().any(|value| *value == exit_code);
        let matches = if on.operator == "NotIn" { !listed } else { listed };
        matches && rule.action == "Restart"
    })
}

/// When the pod's `activeDeadlineSeconds` run out.
pub(crate) fn deadline(pod: &Pod) -> Option<Timestamp> {
    let seconds = spec(pod).active_deadline_seconds?;
    let start = status(pod).start_time.as_ref()?.0;
    start.checked_add(jiff::SignedDuration::from_secs(seconds)).ok()
}
