//! What no pod may do but a privileged one.

use serde_json::Value;

use super::pod::{Pod, Violation, is_true, named, plural, quoted, set, unless_own_users, violation};

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
/// In the order in which they became safe.
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
const SELINUX_TYPES: [&str; 4] = ["", "container_t", "container_init_t", "container_kvm_t"];

fn text<'a>(of: &'a Value, field: &str) -> &'a str {
    of.get(field).and_then(Value::as_str).unwrap_or("")
}

/// A profile is named in a field, or in an annotation of former times.
pub(super) fn app_armor(pod: &Pod<'_>) -> Option<Violation> {
    const FIELD: &str = "appArmorProfile";
    let is_bad = |profile: &Value| !matches!(text(profile, "type"), "RuntimeDefault" | "Localhost");
    let of_pod = pod.context(FIELD).is_some_and(is_bad);
    let mut who = Pod::pod_and(of_pod, &pod.bad(|context| context.get(FIELD).is_some_and(is_bad)));
    let mut values: Vec<String> =
        set(pod.everywhere(FIELD).filter(|profile| is_bad(profile)).map(|profile| text(profile, "type").to_owned()));
    let allowed = |value: &str| value.is_empty() || value == "runtime/default" || value.starts_with("localhost/");
    let annotations = pod.annotations("container.apparmor.security.beta.kubernetes.io/");
    let annotations: Vec<String> =
        annotations.filter(|(_, value)| !allowed(value)).map(|(key, value)| format!("{key}={value:?}")).collect();
    if !annotations.is_empty() {
        who.push(plural("annotation", annotations.len()));
        values.extend(annotations);
    }
    if who.is_empty() {
        return None;
    }
    let detail = format!(
        "{} must not set AppArmor profile type to {}",
        who.join(" and "),
        quoted(values.iter().map(String::as_str))
    );
    violation(&plural("forbidden AppArmor profile", values.len()), detail)
}

fn added(context: &Value) -> impl Iterator<Item = &str> {
    context.pointer("/capabilities/add").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// What is wrong with the capabilities that containers add.
pub(super) fn forbidden_capabilities(pod: &Pod<'_>, allowed: &[&str]) -> Option<String> {
    let bad = pod.bad(|context| added(context).any(|capability| !allowed.contains(&capability)));
    if bad.is_empty() {
        return None;
    }
    let contexts = pod.containers.iter().filter_map(|(_, container)| container.get("securityContext"));
    let capabilities = set(contexts.flat_map(added).filter(|capability| !allowed.contains(capability)));
    let who = named("container", &bad);
    Some(format!("{who} must not include {} in securityContext.capabilities.add", quoted(capabilities)))
}

pub(super) fn capabilities(pod: &Pod<'_>) -> Option<Violation> {
    forbidden_capabilities(pod, &CAPABILITIES).and_then(|detail| violation("non-default capabilities", detail))
}

pub(super) fn host_namespaces(pod: &Pod<'_>) -> Option<Violation> {
    let set = ["hostNetwork", "hostPID", "hostIPC"].into_iter().filter(|field| is_true(pod.spec.get(*field)));
    let texts: Vec<String> = set.map(|field| format!("{field}=true")).collect();
    if texts.is_empty() { None } else { violation("host namespaces", texts.join(", ")) }
}

/// The volumes of which it is so.
pub(super) fn volumes_with<'a>(pod: &Pod<'a>, is_bad: impl Fn(&Value) -> bool) -> Vec<&'a Value> {
    pod.spec.get("volumes").and_then(Value::as_array).into_iter().flatten().filter(|volume| is_bad(volume)).collect()
}

pub(super) fn names_of<'a>(values: &[&'a Value]) -> Vec<&'a str> {
    values.iter().filter_map(|value| value.get("name")?.as_str()).collect()
}

pub(super) fn host_path(pod: &Pod<'_>) -> Option<Violation> {
    let bad = volumes_with(pod, |volume| volume.get("hostPath").is_some());
    if bad.is_empty() { None } else { violation("hostPath volumes", named("volume", &names_of(&bad))) }
}

pub(super) fn host_ports(pod: &Pod<'_>) -> Option<Violation> {
    let ports = |container: &Value| -> Vec<String> {
        let ports = container.get("ports").and_then(Value::as_array).into_iter().flatten();
        let ports = ports.filter_map(|port| port.get("hostPort")?.as_i64()).filter(|port| *port != 0);
        ports.map(|port| port.to_string()).collect()
    };
    let bad = pod.containers_where(|container| !ports(container).is_empty());
    if bad.is_empty() {
        return None;
    }
    // Sorted as texts.
    let all = set(pod.containers.iter().flat_map(|(_, container)| ports(container)));
    let verb = if bad.len() == 1 { "uses" } else { "use" };
    let what = plural("hostPort", all.len());
    violation("hostPort", format!("{} {verb} {what} {}", named("container", &bad), all.join(", ")))
}

/// Probes and hooks must not be sent to other hosts.
pub(super) fn probes(pod: &Pod<'_>) -> Option<Violation> {
    const WHAT: &str = "probe or lifecycle host";
    let hosts = |container: &Value| -> Vec<String> {
        let actions =
            ["/livenessProbe", "/readinessProbe", "/startupProbe", "/lifecycle/postStart", "/lifecycle/preStop"];
        let at = |action: &str, kind: &str| {
            let host = container.pointer(&format!("{action}/{kind}/host")).and_then(Value::as_str);
            host.filter(|host| !host.is_empty()).map(str::to_owned)
        };
        actions.iter().flat_map(|action| [at(action, "httpGet"), at(action, "tcpSocket")]).flatten().collect()
    };
    let bad = set(pod.containers_where(|container| !hosts(container).is_empty()));
    if bad.is_empty() {
        return None;
    }
    let all = set(pod.containers.iter().flat_map(|(_, container)| hosts(container)));
    let verb = if bad.len() == 1 { "uses" } else { "use" };
    let shown = quoted(all.iter().map(String::as_str));
    violation(WHAT, format!("{} {verb} {} {shown}", named("container", &bad), plural(WHAT, all.len())))
}

pub(super) fn privileged(pod: &Pod<'_>) -> Option<Violation> {
    let bad = pod.bad(|context| is_true(context.get("privileged")));
    if bad.is_empty() {
        return None;
    }
    violation("privileged", format!("{} must not set securityContext.privileged=true", named("container", &bad)))
}

pub(super) fn proc_mount(pod: &Pod<'_>) -> Option<Violation> {
    let mount = |context: &Value| context.get("procMount").and_then(Value::as_str).map(str::to_owned);
    let is_bad = |mount: &String| mount != "Default";
    let bad = pod.bad(|context| mount(context).as_ref().is_some_and(is_bad));
    if bad.is_empty() {
        return None;
    }
    let contexts = pod.containers.iter().filter_map(|(_, container)| container.get("securityContext"));
    let mounts = set(contexts.filter_map(mount).filter(is_bad));
    let shown = quoted(mounts.iter().map(String::as_str));
    violation("procMount", format!("{} must not set securityContext.procMount to {shown}", named("container", &bad)))
}

/// A pod with users of its own sees nothing of the host in `/proc`.
pub(super) fn proc_mount_of_hosts_users(pod: &Pod<'_>) -> Option<Violation> {
    unless_own_users(pod, proc_mount)
}

pub(super) fn selinux(pod: &Pod<'_>) -> Option<Violation> {
    selinux_types(pod, &SELINUX_TYPES)
}

pub(super) fn selinux_with_engine(pod: &Pod<'_>) -> Option<Violation> {
    let mut types = SELINUX_TYPES.to_vec();
    types.push("container_engine_t");
    selinux_types(pod, &types)
}

fn selinux_types(pod: &Pod<'_>, types: &[&str]) -> Option<Violation> {
    const FIELD: &str = "seLinuxOptions";
    let is_bad = |options: &Value| {
        !types.contains(&text(options, "type"))
            || !text(options, "user").is_empty()
            || !text(options, "role").is_empty()
    };
    let of_pod = pod.context(FIELD).is_some_and(is_bad);
    let who = Pod::pod_and(of_pod, &pod.bad(|context| context.get(FIELD).is_some_and(is_bad)));
    if who.is_empty() {
        return None;
    }
    let options: Vec<&Value> = pod.everywhere(FIELD).collect();
    let wrong = set(options.iter().map(|options| text(options, "type")).filter(|kind| !types.contains(kind)));
    let mut what = Vec::new();
    if !wrong.is_empty() {
        what.push(named("type", &wrong));
    }
    for field in ["user", "role"] {
        if options.iter().any(|options| !text(options, field).is_empty()) {
            what.push(format!("{field} may not be set"));
        }
    }
    let detail = format!("{} set forbidden securityContext.seLinuxOptions: {}", who.join(" and "), what.join("; "));
    violation(FIELD, detail)
}

/// Before there was a field, annotations named the profile.
pub(super) fn seccomp_annotations(pod: &Pod<'_>) -> Option<Violation> {
    const OF_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
    let is_bad =
        |value: &str| !matches!(value, "runtime/default" | "docker/default") && !value.starts_with("localhost/");
    let containers = pod
        .annotations(OF_CONTAINER)
        .filter(|(key, _)| pod.containers.iter().any(|(name, _)| key.strip_prefix(OF_CONTAINER) == Some(*name)));
    let of_pod = pod.annotations("seccomp.security.alpha.kubernetes.io/pod");
    let of_pod = of_pod.filter(|(key, _)| *key == "seccomp.security.alpha.kubernetes.io/pod");
    let forbidden = containers.chain(of_pod).filter(|(_, value)| is_bad(value));
    let forbidden = set(forbidden.map(|(key, value)| format!("{key}={value:?}")));
    if forbidden.is_empty() {
        return None;
    }
    violation("seccompProfile", format!("forbidden {} {}", plural("annotation", forbidden.len()), forbidden.join(", ")))
}

/// Whether a seccomp profile is one of those that confine.
pub(super) fn confines(profile: &Value) -> bool {
    matches!(text(profile, "type"), "RuntimeDefault" | "Localhost")
}

pub(super) fn seccomp(pod: &Pod<'_>) -> Option<Violation> {
    const FIELD: &str = "seccompProfile";
    let is_bad = |profile: &Value| !confines(profile);
    let of_pod = pod.context(FIELD).is_some_and(is_bad);
    let who = Pod::pod_and(of_pod, &pod.bad(|context| context.get(FIELD).is_some_and(is_bad)));
    if who.is_empty() {
        return None;
    }
    let values = set(pod.everywhere(FIELD).filter(|profile| is_bad(profile)).map(|profile| text(profile, "type")));
    let who = who.join(" and ");
    violation(FIELD, format!("{who} must not set securityContext.seccompProfile.type to {}", quoted(values)))
}

/// Only the first `SAFE` sysctls may be set.
pub(super) fn sysctls<const SAFE: usize>(pod: &Pod<'_>) -> Option<Violation> {
    let list = pod.context("sysctls").and_then(Value::as_array).into_iter().flatten();
    let safe = SYSCTLS.get(..SAFE).unwrap_or(&SYSCTLS);
    let bad: Vec<&str> =
        list.filter_map(|sysctl| sysctl.get("name")?.as_str()).filter(|name| !safe.contains(name)).collect();
    if bad.is_empty() { None } else { violation("forbidden sysctls", bad.join(", ")) }
}

pub(super) fn host_process(pod: &Pod<'_>) -> Option<Violation> {
    const FIELD: &str = "windowsOptions";
    let is_bad = |options: Option<&Value>| is_true(options.and_then(|options| options.get("hostProcess")));
    let who = Pod::pod_and(is_bad(pod.context(FIELD)), &pod.bad(|context| is_bad(context.get(FIELD))));
    if who.is_empty() {
        return None;
    }
    let who = who.join(" and ");
    violation("hostProcess", format!("{who} must not set securityContext.windowsOptions.hostProcess=true"))
}
