//! Which kernel parameters a pod may set for itself: the safe ones, and those that the node's administrator allows.
//! Follows upstream's `pkg/kubelet/sysctl`.
use std::fmt;

use k8s_openapi::api::core::v1::Pod;

use crate::node::machine;
use crate::pod;

/// Parameters that no other pod feels, and since which kernel each is the pod's own.
const SAFE: [(&str, (u32, u32)); 12] = [
    ("kernel.shm_rmid_forced", (0, 0)),
    ("net.ipv4.ip_local_port_range", (0, 0)),
    ("net.ipv4.tcp_syncookies", (0, 0)),
    ("net.ipv4.ping_group_range", (0, 0)),
    ("net.ipv4.ip_unprivileged_port_start", (0, 0)),
    ("net.ipv4.ip_local_reserved_ports", (3, 16)),
    ("net.ipv4.tcp_keepalive_time", (4, 5)),
    ("net.ipv4.tcp_fin_timeout", (4, 6)),
    ("net.ipv4.tcp_keepalive_intvl", (4, 5)),
    ("net.ipv4.tcp_keepalive_probes", (4, 5)),
    ("net.ipv4.tcp_rmem", (4, 15)),
    ("net.ipv4.tcp_wmem", (4, 15)),
];

/// A pattern of the administrator that cannot be allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is no name, nor the beginning of one before a star.
    #[error("{0:?} is not the name of a sysctl, nor one that ends in .* or *")]
    Form(String),
    /// It is the node's, not a pod's.
    #[error("the sysctl {0:?} is not known to be namespaced")]
    Shared(String),
}

/// What may be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowlist {
    names: Vec<String>,
    /// Beginnings of names.
    prefixes: Vec<String>,
}

/// The namespace that holds a parameter; upstream's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Namespace {
    Ipc,
    Net,
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipc => "IPC",
            Self::Net => "Net",
        })
    }
}

impl Allowlist {
    /// The parameters that are safe with this release of the kernel (`6.12.1-arch`), and those of `unsafe_ones`: names,
    /// or beginnings of names with a star behind (`net.core.*`).
    pub fn new(kernel: &str, unsafe_ones: &[String]) -> Result<Self, Error> {
        let mut list = Self::safe_with(kernel);
        for pattern in unsafe_ones.iter().filter(|pattern| !pattern.is_empty()) {
            if !is_pattern(pattern) {
                return Err(Error::Form(pattern.clone()));
            }
            let name = with_dots(pattern);
            let (known, prefix) = match name.strip_suffix('*') {
                Some(prefix) => (&mut list.prefixes, prefix),
                None => (&mut list.names, name.as_str()),
            };
            if namespace_of(prefix).is_none() {
                return Err(Error::Shared(name.clone()));
            }
            known.push(prefix.to_owned());
        }
        Ok(list)
    }

    /// The safe ones alone, with the kernel of this machine.
    pub fn safe() -> Self {
        Self::safe_with(&machine::kernel())
    }

    fn safe_with(kernel: &str) -> Self {
        let version = version(kernel);
        let safe = SAFE.into_iter().filter(|(_, since)| version >= *since);
        Self { names: safe.map(|(name, _)| name.to_owned()).collect(), prefixes: Vec::new() }
    }

    /// Why the node refuses the pod, in upstream's words, if it does.
    pub(crate) fn check(&self, pod: &Pod) -> Result<(), String> {
        let spec = pod::spec(pod);
        let shared = |namespace| match namespace {
            Namespace::Ipc => spec.host_ipc.unwrap_or(false),
            Namespace::Net => spec.host_network.unwrap_or(false),
        };
        let sysctls = spec.security_context.as_ref().and_then(|context| context.sysctls.as_ref());
        for sysctl in sysctls.into_iter().flatten() {
            let name = with_dots(&sysctl.name);
            let listed = self.names.contains(&name) || self.prefixes.iter().any(|prefix| name.starts_with(prefix));
            let listed = listed && is_name(&name);
            let Some(namespace) = namespace_of(&name).filter(|_| listed) else {
                return Err(format!("forbidden sysctl: {name:?} not allowlisted"));
            };
            if shared(namespace) {
                return Err(format!("forbidden sysctl: {name:?} not allowed with host {namespace} enabled"));
            }
        }
        Ok(())
    }
}

/// The name with dots between its parts. Where slashes part it (`net/ipv4/conf/eth0.1/forwarding`), dots and slashes
/// change places, as in sysctl(8).
pub(crate) fn with_dots(name: &str) -> String {
    if name.find(['.', '/']).is_none_or(|at| name[at..].starts_with('.')) {
        return name.to_owned();
    }
    let swap = |letter| match letter {
        '.' => '/',
        '/' => '.',
        letter => letter,
    };
    name.chars().map(swap).collect()
}

fn namespace_of(name: &str) -> Option<Namespace> {
    if name == "kernel.sem" || ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|prefix| name.starts_with(prefix))
    {
        return Some(Namespace::Ipc);
    }
    name.starts_with("net.").then_some(Namespace::Net)
}

/// A name as the API takes it.
fn is_name(text: &str) -> bool {
    !text.ends_with('*') && is_pattern(text)
}

/// A name, perhaps with a star at its end.
fn is_pattern(text: &str) -> bool {
    let name = text.strip_suffix('*').unwrap_or(text);
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_part = |part: &str, cut: bool| {
        let bytes = part.as_bytes();
        let ends = bytes.first().copied().is_some_and(plain) && (cut || bytes.last().copied().is_some_and(plain));
        ends && bytes.iter().all(|byte| plain(*byte) || matches!(byte, b'-' | b'_'))
    };
    let parts: Vec<&str> = name.split(['.', '/']).collect();
    let (last, before) = parts.split_last().expect("a split has at least one part");
    let star = name.len() < text.len();
    text.len() <= 253
        && before.iter().all(|part| is_part(part, false))
        && (is_part(last, star) || (star && last.is_empty()))
}

fn version(kernel: &str) -> (u32, u32) {
    let mut numbers = kernel.split(|letter: char| !letter.is_ascii_digit()).map(|text| text.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(list: &Allowlist, names: &[&str], shared: &str) -> Result<(), String> {
        let sysctls: Vec<_> = names.iter().map(|name| serde_json::json!({"name": name, "value": "1"})).collect();
        let mut spec = serde_json::json!({"containers": [], "securityContext": {"sysctls": sysctls}});
        if !shared.is_empty() {
            spec[shared] = true.into();
        }
        list.check(&serde_json::from_value(serde_json::json!({"metadata": {"name": "p"}, "spec": spec})).unwrap())
    }

    fn list(unsafe_ones: &[&str]) -> Result<Allowlist, Error> {
        Allowlist::new("6.1.0-13-amd64", &unsafe_ones.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn only_safe_sysctls_are_taken_unless_the_administrator_allows_more() {
        let safe = list(&[]).unwrap();
        for (name, _) in SAFE {
            assert_eq!(check(&safe, &[name], ""), Ok(()), "{name}");
            assert_eq!(check(&safe, &[&name.replace('.', "/")], ""), Ok(()), "{name}");
        }
        let all = list(&["kernel.msg*", "net.core.*", "kernel.sem", "net/ipv4/tcp_abort_on_overflow"]).unwrap();
        for name in ["kernel.msgmax", "net.core.somaxconn", "kernel.sem", "net.ipv4.tcp_abort_on_overflow"] {
            assert_eq!(check(&all, &[name], ""), Ok(()), "{name}");
            assert_eq!(
                check(&safe, &["net.ipv4.tcp_syncookies", name], ""),
                Err(format!("forbidden sysctl: {name:?} not allowlisted"))
            );
        }
    }

    #[test]
    fn sysctls_of_the_node_and_ways_around_the_list_are_forbidden() {
        let all = list(&["kernel.shm*", "kernel.msg*", "fs.mqueue.*", "net.*"]).unwrap();
        let tries = [
            "kernel.core_pattern",
            "kernel/core_pattern",
            "net/../kernel/core_pattern",
            "net.//.kernel.core_pattern",
            "net./../kernel",
            "../net/x",
            "vm.swappiness",
            "fs.file-max",
            "",
            "/net/x",
            "Net.core.somaxconn",
            "kernel.sem_next_id",
        ];
        let taken = tries.iter().filter(|name| check(&all, &[name], "").is_ok()).count();
        faults::Attack::new("kubelet: sysctls of the node and ways around the allow-list")
            .tried(tries.len() as u64, taken as u64)
            .record();
    }

    #[test]
    fn what_is_shared_with_the_node_cannot_be_set() {
        let safe = list(&[]).unwrap();
        let forbidden = |name: &str, namespace| {
            Err(format!("forbidden sysctl: {name:?} not allowed with host {namespace} enabled"))
        };
        let (net, ipc) = ("net.ipv4.tcp_syncookies", "kernel.shm_rmid_forced");
        assert_eq!(check(&safe, &[net], "hostNetwork"), forbidden(net, "Net"));
        assert_eq!(check(&safe, &[ipc], "hostIPC"), forbidden(ipc, "IPC"));
        assert_eq!(check(&safe, &[ipc], "hostNetwork"), Ok(()));
    }

    #[test]
    fn old_kernels_have_fewer_safe_ones() {
        let old = Allowlist::new("4.4.0", &[]).unwrap();
        assert!(check(&old, &["net.ipv4.tcp_keepalive_time"], "").is_err());
        assert!(check(&old, &["net.ipv4.ip_local_reserved_ports"], "").is_ok());
        assert_eq!([version("6.18.44-x"), version("5.4"), version("")], [(6, 18), (5, 4), (0, 0)]);
    }

    #[test]
    fn patterns_that_would_reach_the_node_are_refused() {
        for name in ["kernel.*", "vm.swappiness", "*", "net*", "kernel.core_pattern", "fs.*"] {
            assert!(list(&[name]).is_err(), "{name}");
        }
        for name in ["net..core", "net.*.x", "net.Core", "net.core.*x", ".net.x"] {
            assert_eq!(list(&[name]), Err(Error::Form(name.to_owned())), "{name}");
        }
    }
}
