//! From Service ports to chains and map elements.
//!
//! ```text
//! service-ips[ip.proto.port] -> service-<id>  -> cluster-<id> | local-<id>      traffic to the ClusterIP
//! service-ips / -nodeports   -> external-<id> -> cluster-<id> | local-<id>      traffic from outside
//! cluster-<id>, local-<id>: dnat to one of the endpoints at random
//!                           (with affinity: -> endpoint-<id>-<n>, remembered in a set per endpoint)
//! ```
//!
//! A transaction replaces chains at once, but not for a packet that is in one of them on another CPU: it goes on with the
//! old rules, whose anonymous maps have lost their elements already. Where a map is to choose, it may so find nothing, and
//! the packet would leave for the Service's address untranslated, and with it all of its connection. Therefore the rule
//! that chooses is followed by one that takes the first endpoint without asking a map.

use std::net::SocketAddr;

use sha2::{Digest as _, Sha256};

use crate::ruleset::{Family, Ruleset};
use crate::services::ServicePort;

/// The longest chain name that the kernel takes is 128 bytes with its end; ours keep clear of it.
const NAME_LIMIT: usize = 120;

/// The ruleset for these ports. `cluster_cidr` is the range of pod addresses in this family: traffic to a ClusterIP from
/// outside it gets the node's address as its source, so that replies come back through this node.
pub(crate) fn ruleset(family: Family, cluster_cidr: Option<&str>, ports: &[ServicePort]) -> Ruleset {
    let mut rules = Ruleset::default();
    for port in ports {
        PortRules { family, cluster_cidr, port, rules: &mut rules }.add();
    }
    rules
}

struct PortRules<'a> {
    family: Family,
    cluster_cidr: Option<&'a str>,
    port: &'a ServicePort,
    rules: &'a mut Ruleset,
}

impl PortRules<'_> {
    fn add(&mut self) {
        let port = self.port;
        for endpoint in port.endpoints.iter().chain(&port.local_endpoints) {
            self.rules.hairpins.insert(format!("{0} . {0}", endpoint.ip()));
        }
        self.add_balancer("cluster", &port.endpoints);
        if port.internal_local || port.external_local {
            self.add_balancer("local", &port.local_endpoints);
        }
        self.add_cluster_ip();
        self.add_external();
    }

    fn name(&self, role: &str) -> String {
        let hash = Sha256::digest(self.port.id.as_bytes());
        let short: String = hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        let mut name = format!("{role}-{short}-{}", self.port.id);
        name.truncate(NAME_LIMIT);
        name.trim_end_matches('/').to_owned()
    }

    /// A chain that sends a packet to one of the endpoints; a chain that drops when there is none.
    fn add_balancer(&mut self, role: &str, endpoints: &[SocketAddr]) {
        let chain = self.name(role);
        let protocol = self.port.protocol;
        let rules = match (endpoints, self.port.affinity) {
            ([], _) => vec!["drop".to_owned()],
            (_, Some(seconds)) => self.sticky(role, endpoints, seconds),
            ([one], None) => vec![format!("meta l4proto {protocol} dnat to {one}")],
            (many, None) => {
                let (ip, _) = self.family.words();
                let choices: Vec<String> =
                    many.iter().enumerate().map(|(n, at)| format!("{n} : {} . {}", at.ip(), at.port())).collect();
                let count = many.len();
                vec![
                    format!(
                        "meta l4proto {protocol} dnat {ip} to numgen random mod {count} map {{ {} }}",
                        choices.join(", ")
                    ),
                    // For who is between this chain and its map while both are replaced: see the head of this file.
                    format!("meta l4proto {protocol} dnat to {}", many[0]),
                ]
            }
        };
        self.rules.chains.insert(chain, rules);
    }

    fn sticky(&mut self, role: &str, endpoints: &[SocketAddr], seconds: u32) -> Vec<String> {
        let (ip, _) = self.family.words();
        let protocol = self.port.protocol;
        let mut known = Vec::new();
        let mut choices = Vec::new();
        let mut last = None;
        for (n, endpoint) in endpoints.iter().enumerate() {
            let tag = format!("{}-{endpoint}", self.port.id);
            let hash = Sha256::digest(tag.as_bytes());
            let short: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
            let set = format!("affinity-{short}-{seconds}");
            let chain = format!("endpoint-{role}-{short}");
            self.rules.chains.insert(
                chain.clone(),
                vec![format!("update @{set} {{ {ip} saddr }}"), format!("meta l4proto {protocol} dnat to {endpoint}")],
            );
            self.rules.affinities.insert(set.clone(), seconds);
            known.push(format!("{ip} saddr @{set} goto {chain}"));
            choices.push(format!("{n} : goto {chain}"));
            last = last.or(Some(format!("goto {chain}")));
        }
        known.push(format!("numgen random mod {} vmap {{ {} }}", endpoints.len(), choices.join(", ")));
        // As above.
        known.extend(last);
        known
    }

    fn add_cluster_ip(&mut self) {
        let port = self.port;
        let (ip, _) = self.family.words();
        let (role, endpoints) =
            if port.internal_local { ("local", &port.local_endpoints) } else { ("cluster", &port.endpoints) };
        // Nobody to answer anywhere: tell the client at once. Nobody on this node: the policy says drop.
        let reject = port.endpoints.is_empty();
        for address in &port.cluster_ips {
            let key = format!("{address} . {} . {}", port.protocol, port.port);
            if reject {
                self.rules.verdicts.insert(("no-endpoint-services", key), "goto reject-it".to_owned());
            } else {
                let goto = format!("goto {}", self.name("service"));
                self.rules.verdicts.insert(("service-ips", key), goto);
            }
        }
        if reject {
            return;
        }
        let mut rules = Vec::new();
        if let Some(cidr) = self.cluster_cidr.filter(|_| !endpoints.is_empty()) {
            rules.push(format!("{ip} saddr != {cidr} jump mark-for-masquerade"));
        }
        rules.push(format!("goto {}", self.name(role)));
        self.rules.chains.insert(self.name("service"), rules);
    }

    fn add_external(&mut self) {
        let port = self.port;
        if port.external_ips.is_empty() && port.node_port.is_none() {
            return;
        }
        let reject = port.endpoints.is_empty();
        let (services, nodeports, verdict) = if reject {
            ("no-endpoint-services", "no-endpoint-nodeports", "goto reject-it".to_owned())
        } else {
            ("service-ips", "service-nodeports", format!("goto {}", self.name("external")))
        };
        for address in &port.external_ips {
            self.rules
                .verdicts
                .insert((services, format!("{address} . {} . {}", port.protocol, port.port)), verdict.clone());
        }
        if let Some(node_port) = port.node_port {
            self.rules.verdicts.insert((nodeports, format!("{} . {node_port}", port.protocol)), verdict);
        }
        if !reject {
            let rules = self.external_rules();
            self.rules.chains.insert(self.name("external"), rules);
        }
    }

    fn external_rules(&self) -> Vec<String> {
        let port = self.port;
        let (ip, _) = self.family.words();
        let mut rules = Vec::new();
        if let Some(ranges) = port.source_ranges.as_ref().filter(|_| !port.balancer_ips.is_empty()) {
            let addresses: Vec<String> = port.balancer_ips.iter().map(ToString::to_string).collect();
            let ranges: Vec<String> = ranges.iter().map(ToString::to_string).collect();
            let others =
                if ranges.is_empty() { String::new() } else { format!("{ip} saddr != {{ {} }} ", ranges.join(", ")) };
            rules.push(format!("{ip} daddr {{ {} }} {others}drop", addresses.join(", ")));
        }
        let cluster = self.name("cluster");
        if port.external_local {
            // Pods and this node reach every endpoint; traffic from outside stays here and keeps its source.
            if let Some(cidr) = self.cluster_cidr {
                rules.push(format!("{ip} saddr {cidr} goto {cluster}"));
            }
            rules.push("fib saddr type local jump mark-for-masquerade".to_owned());
            rules.push(format!("fib saddr type local goto {cluster}"));
            rules.push(format!("goto {}", self.name("local")));
        } else {
            rules.push("jump mark-for-masquerade".to_owned());
            rules.push(format!("goto {cluster}"));
        }
        rules
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn port() -> ServicePort {
        ServicePort {
            id: "default/web/tcp/http".into(),
            protocol: "tcp",
            port: 80,
            cluster_ips: vec!["10.96.0.9".parse().unwrap()],
            external_ips: vec!["192.0.2.1".parse().unwrap()],
            node_port: Some(30080),
            health_port: None,
            balancer_ips: vec!["192.0.2.1".parse().unwrap()],
            source_ranges: Some(facts::ranges::of_blocks(
                [("192.0.2.0/24", &[][..]), ("192.0.2.0/28", &[])].into_iter(),
            )),
            affinity: None,
            internal_local: false,
            external_local: false,
            endpoints: vec!["10.244.0.2:8080".parse().unwrap(), "10.244.0.3:8080".parse().unwrap()],
            local_endpoints: vec!["10.244.0.2:8080".parse().unwrap()],
            serving: Default::default(),
        }
    }

    /// Every shape of Service that makes rules of its own.
    fn shapes() -> Vec<ServicePort> {
        let named = |name: &str, node_port: u16, change: &dyn Fn(&mut ServicePort)| {
            let mut port = ServicePort { id: format!("default/{name}/tcp/http"), node_port: Some(node_port), ..port() };
            port.cluster_ips = vec![format!("10.96.1.{}", node_port - 30000).parse().unwrap()];
            port.external_ips = Vec::new();
            port.balancer_ips = Vec::new();
            change(&mut port);
            port
        };
        vec![
            port(),
            named("none", 30001, &|port| port.endpoints = Vec::new()),
            named("sticky", 30002, &|port| port.affinity = Some(60)),
            named("internal", 30003, &|port| port.internal_local = true),
            named("external", 30004, &|port| port.external_local = true),
            named(&"x".repeat(63), 30005, &|port| port.local_endpoints = Vec::new()),
            named("udp", 30006, &|port| port.protocol = "udp"),
            named("shut", 30007, &|port| {
                port.external_ips = vec!["192.0.2.2".parse().unwrap(), "192.0.2.3".parse().unwrap()];
                port.balancer_ips = vec!["192.0.2.2".parse().unwrap()];
                port.source_ranges = Some(Vec::new());
            }),
        ]
    }

    #[test]
    fn the_cluster_ip_leads_to_every_endpoint() {
        let rules = ruleset(Family::V4, Some("10.244.0.0/16"), &[port()]);
        let balancer = rules.chains.iter().find(|(name, _)| name.starts_with("cluster-")).unwrap().1;
        assert_eq!(
            balancer,
            &[
                "meta l4proto tcp dnat ip to numgen random mod 2 map { 0 : 10.244.0.2 . 8080, 1 : 10.244.0.3 . 8080 }",
                "meta l4proto tcp dnat to 10.244.0.2:8080",
            ]
        );
    }

    #[test]
    fn who_finds_nothing_in_a_map_that_is_being_replaced_still_comes_to_an_endpoint() {
        let mut choosing = 0;
        for (name, rules) in ruleset(Family::V4, Some("10.244.0.0/16"), &shapes()).chains {
            let Some(at) = rules.iter().position(|rule| rule.contains("numgen")) else { continue };
            choosing += 1;
            assert_eq!(at + 2, rules.len(), "{name}: {rules:?}");
            let last = &rules[at + 1];
            assert!(last.contains("dnat to 10.244.0.2:8080") || last.starts_with("goto endpoint-"), "{name}: {last}");
            assert!(!last.contains('{') && !last.contains('@'), "{name} asks a set: {last}");
        }
        assert!(choosing > 5, "{choosing}");
    }

    #[test]
    fn a_service_without_endpoints_rejects() {
        let none = ServicePort { endpoints: Vec::new(), local_endpoints: Vec::new(), ..port() };
        let rules = ruleset(Family::V4, None, &[none]);
        assert_eq!(rules.verdicts[&("no-endpoint-services", "10.96.0.9 . tcp . 80".to_owned())], "goto reject-it");
        assert_eq!(rules.verdicts[&("no-endpoint-nodeports", "tcp . 30080".to_owned())], "goto reject-it");
    }

    #[test]
    fn nft_accepts_every_shape_of_rule_and_every_change_between_them() {
        if !can_check() {
            return;
        }
        let all = ruleset(Family::V4, Some("10.244.0.0/16"), &shapes());
        let none = Ruleset::default();
        let base = crate::ruleset::base("coracle-test", Family::V4);
        let difference =
            |old: &Ruleset, new: &Ruleset| crate::ruleset::difference("coracle-test", Family::V4, old, new);
        accepts(&format!("{base}{}", difference(&none, &all)));
        accepts(&format!("{base}{}{}", difference(&none, &all), difference(&all, &none)));
        for skip in 0..shapes().len() {
            let mut fewer = shapes();
            fewer.remove(skip);
            let fewer = ruleset(Family::V4, None, &fewer);
            accepts(&format!(
                "{base}{}{}{}",
                difference(&none, &all),
                difference(&all, &fewer),
                difference(&fewer, &all)
            ));
        }
    }

    /// nft needs root even to check.
    fn can_check() -> bool {
        let run =
            Command::new("nft").args(["-c", "list", "tables"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        let can = run.is_ok_and(|status| status.success());
        assert!(can || std::env::var_os("E2E_REQUIRED").is_none(), "nft cannot be run");
        if !can {
            eprintln!("SKIP: nft cannot be run here (needs the nft binary and root)");
        }
        can
    }

    fn accepts(text: &str) {
        use std::io::Write as _;
        let mut nft =
            Command::new("nft").args(["-c", "-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        nft.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = nft.wait_with_output().unwrap();
        assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
    }
}
