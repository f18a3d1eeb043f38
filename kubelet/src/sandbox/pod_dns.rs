//! Names inside a pod: its hostname, `/etc/resolv.conf` and `/etc/hosts` (upstream: pkg/kubelet/network/dns and
//! ensureHostsFile of pkg/kubelet).
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Pod;
use runtime::DnsConfig;

use crate::pod;

/// The cluster's name service, as pods are told of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClusterDns {
    /// Its addresses.
    pub(crate) servers: Vec<IpAddr>,
    /// Such as `cluster.local`.
    pub(crate) domain: String,
    /// The contents of the node's own `resolv.conf`.
    pub(crate) host: DnsConfig,
}

const MAX_HOSTNAME: usize = 63;
const MAX_SERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;

/// The pod's hostname and, with a subdomain, its fully qualified name.
pub(crate) fn hostname(pod: &Pod, domain: &str, node_name: &str) -> (String, Option<String>) {
    let spec = pod::spec(pod);
    if let Some(name) = &spec.hostname_override {
        return (name.clone(), None);
    }
    if pod::is_host_network(pod) {
        return (node_name.to_owned(), None);
    }
    let wanted = spec.hostname.as_deref().filter(|name| !name.is_empty()).unwrap_or(pod::name(pod));
    let short = wanted.get(..MAX_HOSTNAME).unwrap_or(wanted).trim_end_matches(['-', '.']).to_owned();
    let subdomain = spec.subdomain.as_deref().filter(|name| !name.is_empty());
    let qualified = subdomain.map(|subdomain| format!("{short}.{subdomain}.{}.svc.{domain}", pod::namespace(pod)));
    match &qualified {
        Some(name) if spec.set_hostname_as_fqdn == Some(true) => (name.clone(), qualified),
        _ => (short, qualified),
    }
}

/// The pod's `resolv.conf`, by its DNS policy; `None` is the node's own.
pub(crate) fn resolv_conf(pod: &Pod, cluster: &ClusterDns) -> Option<DnsConfig> {
    let spec = pod::spec(pod);
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let use_cluster = match policy {
        "ClusterFirstWithHostNet" => true,
        "ClusterFirst" => !pod::is_host_network(pod),
        _ => false,
    } && !cluster.servers.is_empty();
    let mut config = match policy {
        "None" => DnsConfig::default(),
        _ if use_cluster => cluster_first(pod::namespace(pod), cluster),
        _ => cluster.host.clone(),
    };
    if let Some(own) = &spec.dns_config {
        append(&mut config.servers, own.nameservers.as_deref());
        append(&mut config.searches, own.searches.as_deref());
        for option in own.options.iter().flatten() {
            let name = option.name.clone().unwrap_or_default();
            config.options.retain(|known| known.split(':').next() != Some(name.as_str()));
            config.options.push(match &option.value {
                Some(value) => format!("{name}:{value}"),
                None => name,
            });
        }
    }
    config.servers.truncate(MAX_SERVERS);
    config.searches.truncate(MAX_SEARCHES);
    Some(config)
}

fn cluster_first(namespace: &str, cluster: &ClusterDns) -> DnsConfig {
    let domain = &cluster.domain;
    let mut searches = Vec::new();
    if !domain.is_empty() {
        searches = vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()];
    }
    append(&mut searches, Some(&cluster.host.searches));
    DnsConfig {
        servers: cluster.servers.iter().map(ToString::to_string).collect(),
        searches,
        options: vec!["ndots:5".to_owned()],
    }
}

fn append(list: &mut Vec<String>, more: Option<&[String]>) {
    for entry in more.into_iter().flatten() {
        if !list.contains(entry) {
            list.push(entry.clone());
        }
    }
}

/// Reads a `resolv.conf`.
pub(crate) fn parse_resolv_conf(text: &str) -> DnsConfig {
    let mut config = DnsConfig::default();
    for line in text.lines() {
        let mut words = line.split_whitespace().map(str::to_owned);
        match words.next().as_deref() {
            Some("nameserver") => config.servers.extend(words.next()),
            Some("search" | "domain") => config.searches = words.collect(),
            Some("options") => config.options = words.collect(),
            _ => {}
        }
    }
    config.searches.retain(|search| search != ".");
    config
}

/// The contents of the pod's `/etc/hosts`.
pub(crate) fn hosts_file(
    pod: &Pod,
    ips: &[IpAddr],
    hostname: &str,
    qualified: Option<&str>,
    node_hosts: &str,
) -> String {
    let mut text = if pod::is_host_network(pod) {
        format!("# Kubernetes-managed hosts file (host network).\n{}", node_hosts.trim_end_matches('\n')) + "\n"
    } else {
        let mut text = String::from(
            "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
             fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
        );
        for ip in ips {
            match qualified {
                Some(qualified) => {
                    let short = qualified.split('.').next().unwrap_or(hostname);
                    text.push_str(&format!("{ip}\t{qualified}\t{short}\n"));
                }
                None => text.push_str(&format!("{ip}\t{hostname}\n")),
            }
        }
        text
    };
    let aliases = pod::spec(pod).host_aliases.as_deref().unwrap_or_default();
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
    }
    for alias in aliases {
        let names = alias.hostnames.as_deref().unwrap_or_default().join("\t");
        text.push_str(&format!("{}\t{names}\n", alias.ip));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        let mut spec = spec;
        spec["containers"] = serde_json::json!([]);
        serde_json::from_value(serde_json::json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": spec}))
            .unwrap()
    }

    fn cluster() -> ClusterDns {
        ClusterDns {
            servers: vec![[10, 96, 0, 10].into()],
            domain: "cluster.local".into(),
            host: parse_resolv_conf("nameserver 1.1.1.1\nsearch corp\noptions edns0\n"),
        }
    }

    #[test]
    fn cluster_first_searches_the_pods_namespace() {
        let config = resolv_conf(&pod(serde_json::json!({})), &cluster()).unwrap();
        assert_eq!(config.servers, ["10.96.0.10"]);
        assert_eq!(config.searches, ["shop.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp"]);
        assert_eq!(config.options, ["ndots:5"]);
    }

    #[test]
    fn other_policies_take_the_node_or_nothing() {
        let check = |spec: serde_json::Value| resolv_conf(&pod(spec), &cluster()).unwrap().servers;
        assert_eq!(check(serde_json::json!({"dnsPolicy": "Default"})), ["1.1.1.1"]);
        assert_eq!(check(serde_json::json!({"hostNetwork": true})), ["1.1.1.1"]);
        let own = serde_json::json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["9.9.9.9"]}});
        assert_eq!(check(own), ["9.9.9.9"]);
    }

    #[test]
    fn a_subdomain_makes_a_qualified_name() {
        let check = |spec| hostname(&pod(spec), "cluster.local", "node");
        assert_eq!(check(serde_json::json!({})), ("web".into(), None));
        let full = "web.db.shop.svc.cluster.local".to_owned();
        assert_eq!(check(serde_json::json!({"subdomain": "db"})), ("web".into(), Some(full.clone())));
        let as_fqdn = serde_json::json!({"subdomain": "db", "setHostnameAsFQDN": true});
        assert_eq!(check(as_fqdn), (full.clone(), Some(full)));
        assert_eq!(check(serde_json::json!({"hostNetwork": true})).0, "node");
    }

    #[test]
    fn host_aliases_are_appended() {
        let pod = pod(serde_json::json!({"hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]}));
        let text = hosts_file(&pod, &[[10, 0, 0, 9].into()], "web", None, "");
        assert!(text.contains("10.0.0.9\tweb\n") && text.ends_with("HostAliases.\n1.2.3.4\ta\tb\n"), "{text}");
    }
}
