//! The Pod Security Standards as functions over a pod's spec, in the order and words of upstream's checks.

use serde_json::Value;

/// How much pods may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Privileged,
    Baseline,
    Restricted,
}

impl Level {
    /// Reads a label.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "privileged" => Some(Self::Privileged),
            "baseline" => Some(Self::Baseline),
            "restricted" => Some(Self::Restricted),
            _ => None,
        }
    }
}

/// One check that a pod fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) reason: String,
    pub(super) detail: String,
}

const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
const SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];
const VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
    "image",
];
const SELINUX_TYPES: [&str; 5] = ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];

/// A pod's spec and all its containers.
struct Pod<'a> {
    spec: &'a Value,
    containers: Vec<(&'a str, &'a Value)>,
}

/// What a spec violates at a level.
pub(super) fn violations(spec: &Value, level: Level) -> Vec<Violation> {
    if level == Level::Privileged {
        return Vec::new();
    }
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    let containers = lists.iter().filter_map(|list| spec.get(list)?.as_array()).flatten();
    let named = containers.map(|container| (container.get("name").and_then(Value::as_str).unwrap_or(""), container));
    let pod = Pod { spec, containers: named.collect() };
    let restricted = level == Level::Restricted;
    let mut checks: Vec<fn(&Pod<'_>) -> Option<Violation>> = vec![app_armor];
    if !restricted {
        checks.push(capabilities_baseline);
    }
    checks.push(host_namespaces);
    if !restricted {
        checks.push(host_path);
    }
    checks.extend([host_ports as fn(&Pod<'_>) -> Option<Violation>, probes, privileged, proc_mount, selinux]);
    if !restricted {
        checks.push(seccomp_baseline);
    }
    checks.extend([sysctls as fn(&Pod<'_>) -> Option<Violation>, host_process]);
    if restricted {
        checks.extend([
            escalation as fn(&Pod<'_>) -> Option<Violation>,
            capabilities_restricted,
            volumes,
            non_root,
            root_user,
            seccomp_restricted,
        ]);
    }
    checks.into_iter().filter_map(|check| check(&pod)).collect()
}

fn violation(reason: &str, detail: String) -> Option<Violation> {
    Some(Violation { reason: reason.to_owned(), detail })
}

fn quoted<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}

/// `container "a"`, `containers "a", "b"`.
fn named(what: &str, names: &[&str]) -> String {
    format!("{what}{} {}", if names.len() == 1 { "" } else { "s" }, quoted(names.iter().copied()))
}

fn is_true(value: Option<&Value>) -> bool {
    value == Some(&Value::Bool(true))
}

impl<'a> Pod<'a> {
    /// The containers whose security context satisfies `is_bad`.
    fn bad(&self, is_bad: impl Fn(&Value) -> bool) -> Vec<&'a str> {
        let context = |container: &'a Value| container.get("securityContext").unwrap_or(&Value::Null);
        self.containers.iter().filter(|(_, container)| is_bad(context(container))).map(|(name, _)| *name).collect()
    }

    fn context(&self, field: &str) -> Option<&'a Value> {
        self.spec.get("securityContext")?.get(field).filter(|value| !value.is_null())
    }

    /// `pod`, `container "a"` or `pod and container "a"`.
    fn pod_and(&self, pod: bool, containers: &[&str]) -> String {
        match (pod, containers.is_empty()) {
            (true, true) => "pod".to_owned(),
            (true, false) => format!("pod and {}", named("container", containers)),
            (false, _) => named("container", containers),
        }
    }
}

fn app_armor(pod: &Pod<'_>) -> Option<Violation> {
    let is_bad = |profile: Option<&Value>| {
        profile.and_then(|p| p.get("type")).and_then(Value::as_str).is_some_and(|t| t == "Unconfined")
    };
    let (of_pod, bad) =
        (is_bad(pod.context("appArmorProfile")), pod.bad(|context| is_bad(context.get("appArmorProfile"))));
    if !of_pod && bad.is_empty() {
        return None;
    }
    violation(
        "forbidden AppArmor profile",
        format!("{} must not set AppArmor profile type to \"Unconfined\"", pod.pod_and(of_pod, &bad)),
    )
}

fn added(context: &Value) -> impl Iterator<Item = &str> {
    context.pointer("/capabilities/add").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

fn forbidden_capabilities(pod: &Pod<'_>, allowed: &[&str]) -> Option<String> {
    let bad = pod.bad(|context| added(context).any(|capability| !allowed.contains(&capability)));
    if bad.is_empty() {
        return None;
    }
    let contexts = pod.containers.iter().filter_map(|(_, container)| container.get("securityContext"));
    let mut capabilities: Vec<&str> =
        contexts.flat_map(added).filter(|capability| !allowed.contains(capability)).collect();
    capabilities.sort_unstable();
    capabilities.dedup();
    Some(format!(
        "{} must not include {} in securityContext.capabilities.add",
        named("container", &bad),
        quoted(capabilities)
    ))
}

fn capabilities_baseline(pod: &Pod<'_>) -> Option<Violation> {
    forbidden_capabilities(pod, &CAPABILITIES).and_then(|detail| violation("non-default capabilities", detail))
}

fn host_namespaces(pod: &Pod<'_>) -> Option<Violation> {
    let set = ["hostNetwork", "hostPID", "hostIPC"].into_iter().filter(|field| is_true(pod.spec.get(*field)));
    let texts: Vec<String> = set.map(|field| format!("{field}=true")).collect();
    if texts.is_empty() { None } else { violation("host namespaces", texts.join(", ")) }
}

fn volumes_with<'a>(pod: &Pod<'a>, is_bad: impl Fn(&Value) -> bool) -> Vec<&'a Value> {
    pod.spec.get("volumes").and_then(Value::as_array).into_iter().flatten().filter(|volume| is_bad(volume)).collect()
}

fn names_of<'a>(values: &[&'a Value]) -> Vec<&'a str> {
    values.iter().filter_map(|value| value.get("name")?.as_str()).collect()
}

fn host_path(pod: &Pod<'_>) -> Option<Violation> {
    let bad = volumes_with(pod, |volume| volume.get("hostPath").is_some());
    if bad.is_empty() { None } else { violation("hostPath volumes", named("volume", &names_of(&bad))) }
}

fn host_ports(pod: &Pod<'_>) -> Option<Violation> {
    let ports = |container: &Value| -> Vec<i64> {
        let ports = container.get("ports").and_then(Value::as_array).into_iter().flatten();
        ports.filter_map(|port| port.get("hostPort")?.as_i64()).filter(|port| *port != 0).collect()
    };
    let bad: Vec<&str> =
        pod.containers.iter().filter(|(_, container)| !ports(container).is_empty()).map(|(name, _)| *name).collect();
    if bad.is_empty() {
        return None;
    }
    let mut all: Vec<i64> = pod.containers.iter().flat_map(|(_, container)| ports(container)).collect();
    all.sort_unstable();
    all.dedup();
    let texts: Vec<String> = all.iter().map(ToString::to_string).collect();
    let verb = if bad.len() == 1 { "uses" } else { "use" };
    let plural = if all.len() == 1 { "" } else { "s" };
    violation("hostPort", format!("{} {verb} hostPort{plural} {}", named("container", &bad), texts.join(", ")))
}

/// Probes and hooks must not be sent to other hosts.
fn probes(pod: &Pod<'_>) -> Option<Violation> {
    let actions = ["/livenessProbe", "/readinessProbe", "/startupProbe", "/lifecycle/postStart", "/lifecycle/preStop"];
    let host = |container: &Value| {
        let of = |action: &str, kind: &str| {
            container.pointer(&format!("{action}/{kind}/host")).and_then(Value::as_str).is_some_and(|h| !h.is_empty())
        };
        actions.iter().any(|action| of(action, "httpGet") || of(action, "tcpSocket"))
    };
    let bad: Vec<&str> =
        pod.containers.iter().filter(|(_, container)| host(container)).map(|(name, _)| *name).collect();
    if bad.is_empty() {
        None
    } else {
        violation(
            "probe or lifecycle host",
            format!("{} must not set probe or lifecycle host", named("container", &bad)),
        )
    }
}

fn privileged(pod: &Pod<'_>) -> Option<Violation> {
    let bad = pod.bad(|context| is_true(context.get("privileged")));
    if bad.is_empty() {
        None
    } else {
        violation("privileged", format!("{} must not set securityContext.privileged=true", named("container", &bad)))
    }
}

fn proc_mount(pod: &Pod<'_>) -> Option<Violation> {
    let bad =
        pod.bad(|context| context.get("procMount").and_then(Value::as_str).is_some_and(|mount| mount != "Default"));
    if bad.is_empty() {
        None
    } else {
        violation(
            "procMount",
            format!("{} must not set securityContext.procMount to \"Unmasked\"", named("container", &bad)),
        )
    }
}

fn selinux(pod: &Pod<'_>) -> Option<Violation> {
    let is_bad = |options: Option<&Value>| {
        let text = |field: &str| options.and_then(|o| o.get(field)).and_then(Value::as_str).unwrap_or("");
        !SELINUX_TYPES.contains(&text("type")) || !text("user").is_empty() || !text("role").is_empty()
    };
    let (of_pod, bad) =
        (is_bad(pod.context("seLinuxOptions")), pod.bad(|context| is_bad(context.get("seLinuxOptions"))));
    if !of_pod && bad.is_empty() {
        return None;
    }
    violation("seLinuxOptions", format!("{} set forbidden securityContext.seLinuxOptions", pod.pod_and(of_pod, &bad)))
}

fn seccomp_type(profile: Option<&Value>) -> Option<&str> {
    profile?.get("type")?.as_str()
}

fn seccomp_baseline(pod: &Pod<'_>) -> Option<Violation> {
    let is_bad = |profile: Option<&Value>| seccomp_type(profile) == Some("Unconfined");
    let (of_pod, bad) =
        (is_bad(pod.context("seccompProfile")), pod.bad(|context| is_bad(context.get("seccompProfile"))));
    if !of_pod && bad.is_empty() {
        return None;
    }
    violation(
        "seccompProfile",
        format!("{} must not set securityContext.seccompProfile.type to \"Unconfined\"", pod.pod_and(of_pod, &bad)),
    )
}

fn sysctls(pod: &Pod<'_>) -> Option<Violation> {
    let list = pod.context("sysctls").and_then(Value::as_array).into_iter().flatten();
    let bad: Vec<&str> =
        list.filter_map(|sysctl| sysctl.get("name")?.as_str()).filter(|name| !SYSCTLS.contains(name)).collect();
    if bad.is_empty() { None } else { violation("forbidden sysctls", bad.join(", ")) }
}

fn host_process(pod: &Pod<'_>) -> Option<Violation> {
    let is_bad = |options: Option<&Value>| is_true(options.and_then(|options| options.get("hostProcess")));
    let (of_pod, bad) =
        (is_bad(pod.context("windowsOptions")), pod.bad(|context| is_bad(context.get("windowsOptions"))));
    if !of_pod && bad.is_empty() {
        return None;
    }
    violation(
        "hostProcess",
        format!("{} must not set securityContext.windowsOptions.hostProcess=true", pod.pod_and(of_pod, &bad)),
    )
}

fn escalation(pod: &Pod<'_>) -> Option<Violation> {
    let bad = pod.bad(|context| context.get("allowPrivilegeEscalation") != Some(&Value::Bool(false)));
    if bad.is_empty() {
        return None;
    }
    violation(
        "allowPrivilegeEscalation != false",
        format!("{} must set securityContext.allowPrivilegeEscalation=false", named("container", &bad)),
    )
}

fn capabilities_restricted(pod: &Pod<'_>) -> Option<Violation> {
    let drops_all = |context: &Value| {
        let dropped = context.pointer("/capabilities/drop").and_then(Value::as_array).into_iter().flatten();
        dropped.into_iter().any(|capability| capability == "ALL")
    };
    let bad = pod.bad(|context| !drops_all(context));
    let mut details = Vec::new();
    if !bad.is_empty() {
        details.push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", named("container", &bad)));
    }
    details.extend(forbidden_capabilities(pod, &["NET_BIND_SERVICE"]));
    if details.is_empty() { None } else { violation("unrestricted capabilities", details.join("; ")) }
}

fn volumes(pod: &Pod<'_>) -> Option<Violation> {
    let kind = |volume: &Value| {
        volume.as_object().and_then(|map| map.keys().find(|key| *key != "name").cloned()).unwrap_or_default()
    };
    let bad = volumes_with(pod, |volume| !VOLUMES.contains(&kind(volume).as_str()));
    if bad.is_empty() {
        return None;
    }
    let mut kinds: Vec<String> = bad.iter().map(|volume| kind(volume)).collect();
    kinds.sort();
    kinds.dedup();
    let verb = if bad.len() == 1 { "uses" } else { "use" };
    let plural = if kinds.len() == 1 { "" } else { "s" };
    let detail = format!(
        "{} {verb} restricted volume type{plural} {}",
        named("volume", &names_of(&bad)),
        quoted(kinds.iter().map(String::as_str))
    );
    violation("restricted volume types", detail)
}

fn non_root(pod: &Pod<'_>) -> Option<Violation> {
    let of_pod = pod.context("runAsNonRoot");
    let explicit = pod.bad(|context| context.get("runAsNonRoot") == Some(&Value::Bool(false)));
    if of_pod == Some(&Value::Bool(false)) || !explicit.is_empty() {
        let who = pod.pod_and(of_pod == Some(&Value::Bool(false)), &explicit);
        return violation("runAsNonRoot != true", format!("{who} must not set securityContext.runAsNonRoot=false"));
    }
    if is_true(of_pod) {
        return None;
    }
    let bad = pod.bad(|context| !is_true(context.get("runAsNonRoot")));
    if bad.is_empty() {
        return None;
    }
    violation(
        "runAsNonRoot != true",
        format!("pod or {} must set securityContext.runAsNonRoot=true", named("container", &bad)),
    )
}

fn root_user(pod: &Pod<'_>) -> Option<Violation> {
    let is_root = |user: Option<&Value>| user.and_then(Value::as_i64) == Some(0);
    let (of_pod, bad) = (is_root(pod.context("runAsUser")), pod.bad(|context| is_root(context.get("runAsUser"))));
    if !of_pod && bad.is_empty() {
        None
    } else {
        violation("runAsUser=0", format!("{} must not set runAsUser=0", pod.pod_and(of_pod, &bad)))
    }
}

fn seccomp_restricted(pod: &Pod<'_>) -> Option<Violation> {
    let good = |profile: Option<&Value>| matches!(seccomp_type(profile), Some("RuntimeDefault" | "Localhost"));
    let of_pod = pod.context("seccompProfile");
    let explicit = pod.bad(|context| context.get("seccompProfile").is_some_and(|profile| !good(Some(profile))));
    let pod_is_bad = of_pod.is_some() && !good(of_pod);
    if pod_is_bad || !explicit.is_empty() {
        let who = pod.pod_and(pod_is_bad, &explicit);
        return violation(
            "seccompProfile",
            format!("{who} must not set securityContext.seccompProfile.type to \"Unconfined\""),
        );
    }
    if good(of_pod) {
        return None;
    }
    let bad = pod.bad(|context| !good(context.get("seccompProfile")));
    if bad.is_empty() {
        return None;
    }
    let who = named("container", &bad);
    violation(
        "seccompProfile",
        format!("pod or {who} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\""),
    )
}
