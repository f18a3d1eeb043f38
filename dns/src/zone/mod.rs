//! The answers of the cluster's zone, computed from the caches at the moment of the question.

use std::net::IpAddr;
use std::sync::Arc;

use facts::endpoints::is_ready;
use hickory_proto::rr::rdata::{CNAME, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

use crate::schema::{self, Asked};

/// Seconds for which an answer may be kept: as short as CoreDNS's, since endpoints come and go.
const TTL: u32 = 5;

/// What the zone must know of the cluster.
pub(crate) trait Cluster: Send + Sync + 'static {
    fn has_namespace(&self, name: &str) -> bool;
    fn service(&self, namespace: &str, name: &str) -> Option<Arc<Service>>;
    /// The slices of a Service.
    fn slices(&self, namespace: &str, service: &str) -> Vec<Arc<EndpointSlice>>;
    /// The Services that have this cluster address.
    fn services_at(&self, address: IpAddr) -> Vec<Arc<Service>>;
    /// The slices that have an endpoint with this address.
    fn slices_at(&self, address: IpAddr) -> Vec<Arc<EndpointSlice>>;
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    /// Records; `additional` holds the addresses of what `records` point to.
    Records {
        records: Vec<Record>,
        additional: Vec<Record>,
    },
    /// The name leads elsewhere: the record, and where its target must be looked up.
    Alias {
        record: Box<Record>,
        target: Name,
    },
    /// The name exists and has no record of this type.
    NoData,
    NxDomain,
    /// Not a name of this zone.
    NotOurs,
}

/// The zone of one cluster.
pub(crate) struct Zone<C> {
    /// `cluster.local.`
    domain: Name,
    cluster: C,
}

impl<C: Cluster> Zone<C> {
    /// A zone that answers from `cluster`.
    pub(crate) fn new(domain: Name, cluster: C) -> Self {
        Self { domain, cluster }
    }

    /// The record that says who is in charge; it accompanies negative answers.
    pub(crate) fn soa(&self) -> Record {
        let server = self
            .domain
            .prepend_label("dns")
            .and_then(|name| name.prepend_label("ns"))
            .unwrap_or_else(|_| self.domain.clone());
        let mailbox = self.domain.prepend_label("hostmaster").unwrap_or_else(|_| self.domain.clone());
        // The serial never matters: there are no zone transfers.
        Record::from_rdata(self.domain.clone(), TTL, RData::SOA(SOA::new(server, mailbox, 1, 7200, 1800, 86400, TTL)))
    }

    /// Answers a question.
    pub(crate) fn answer(&self, name: &Name, kind: RecordType) -> Answer {
        let labels = labels(name);
        if !self.domain.zone_of(name) {
            return self.reverse(name, &labels, kind);
        }
        let own = labels.len().saturating_sub(self.domain.iter().count());
        match schema::parse(&labels[..own]) {
            Asked::Nothing => Answer::NxDomain,
            Asked::Branch if kind == RecordType::SOA && own == 0 => records(vec![self.soa()]),
            Asked::Branch => Answer::NoData,
            Asked::Version if kind == RecordType::TXT => {
                records(vec![record(name, RData::TXT(TXT::new(vec!["1.1.0".to_owned()])))])
            }
            Asked::Version => Answer::NoData,
            Asked::Namespace { namespace } if self.cluster.has_namespace(&namespace) => Answer::NoData,
            Asked::Namespace { .. } => Answer::NxDomain,
            Asked::Pod { namespace, address } if self.cluster.has_namespace(&namespace) => {
                found(name, kind, vec![address])
            }
            Asked::Pod { .. } => Answer::NxDomain,
            Asked::Service { namespace, service } => self.service(name, kind, &namespace, &service),
            Asked::Port { namespace, service, port, protocol } => {
                self.port(name, kind, &namespace, &service, &port, &protocol)
            }
            Asked::Endpoint { namespace, service, host } => self.endpoint(name, kind, &namespace, &service, &host),
        }
    }

    fn service(&self, name: &Name, kind: RecordType, namespace: &str, service: &str) -> Answer {
        let Some(object) = self.cluster.service(namespace, service) else { return Answer::NxDomain };
        if let Some(target) = external_name(&object) {
            return alias(name, target);
        }
        if kind == RecordType::SRV {
            return self.srv(name, &object, namespace, service, None);
        }
        let addresses = if is_headless(&object) {
            let slices = self.cluster.slices(namespace, service);
            slices
                .iter()
                .flat_map(|slice| {
                    slice.endpoints.iter().flatten().filter(|endpoint| is_ready(endpoint)).filter_map(address)
                })
                .collect()
        } else {
            cluster_addresses(&object)
        };
        // A headless Service without ready endpoints is still a name (dns specification, 2.4.1: NODATA or NXDOMAIN; CoreDNS
        // and resolvers that cache negative answers fare better with NXDOMAIN only for names that are not there).
        found(name, kind, addresses)
    }

    fn port(
        &self,
        name: &Name,
        kind: RecordType,
        namespace: &str,
        service: &str,
        port: &str,
        protocol: &str,
    ) -> Answer {
        let Some(object) = self.cluster.service(namespace, service) else { return Answer::NxDomain };
        match self.srv(name, &object, namespace, service, Some((port, protocol))) {
            Answer::NoData => Answer::NxDomain,
            _ if kind != RecordType::SRV => Answer::NoData,
            answer => answer,
        }
    }

    /// One SRV record for each port and target; `wanted` is a port's name and protocol.
    fn srv(
        &self,
        name: &Name,
        object: &Service,
        namespace: &str,
        service: &str,
        wanted: Option<(&str, &str)>,
    ) -> Answer {
        let is_wanted = |port: Option<&str>, protocol: Option<&str>| match wanted {
            None => true,
            Some((name, kind)) => port == Some(name) && protocol.unwrap_or("TCP").eq_ignore_ascii_case(kind),
        };
        let Some(own) = self.service_name(namespace, service) else { return Answer::NoData };
        let (mut answers, mut additional) = (Vec::new(), Vec::new());
        if is_headless(object) {
            for slice in self.cluster.slices(namespace, service) {
                let ports: Vec<u16> = slice
                    .ports
                    .iter()
                    .flatten()
                    .filter(|port| {
                        is_wanted(port.name.as_deref().filter(|name| !name.is_empty()), port.protocol.as_deref())
                    })
                    .filter_map(|port| port.port.and_then(|port| u16::try_from(port).ok()))
                    .collect();
                for endpoint in slice.endpoints.iter().flatten().filter(|endpoint| is_ready(endpoint)) {
                    let Some((host, ip)) = host_of(endpoint) else { continue };
                    let Ok(target) = own.prepend_label(host.as_str()) else { continue };
                    answers.extend(
                        ports.iter().map(|port| record(name, RData::SRV(SRV::new(0, 100, *port, target.clone())))),
                    );
                    additional.push(address_record(&target, ip));
                }
            }
        } else {
            let ports = object
                .spec
                .iter()
                .flat_map(|spec| spec.ports.iter().flatten())
                .filter(|port| is_wanted(port.name.as_deref(), port.protocol.as_deref()));
            answers.extend(
                ports
                    .filter_map(|port| u16::try_from(port.port).ok())
                    .map(|port| record(name, RData::SRV(SRV::new(0, 100, port, own.clone())))),
            );
            additional.extend(cluster_addresses(object).into_iter().map(|ip| address_record(&own, ip)));
        }
        if answers.is_empty() { Answer::NoData } else { Answer::Records { records: answers, additional } }
    }

    fn endpoint(&self, name: &Name, kind: RecordType, namespace: &str, service: &str, host: &str) -> Answer {
        let slices = self.cluster.slices(namespace, service);
        let headless = self.cluster.service(namespace, service).is_some_and(|object| is_headless(&object));
        let endpoints = slices
            .iter()
            .filter(|_| headless)
            .flat_map(|slice| slice.endpoints.iter().flatten())
            .filter(|endpoint| is_ready(endpoint));
        let addresses: Vec<IpAddr> =
            endpoints.filter_map(host_of).filter(|(own, _)| own == host).map(|(_, ip)| ip).collect();
        if addresses.is_empty() { Answer::NxDomain } else { found(name, kind, addresses) }
    }

    fn reverse(&self, name: &Name, labels: &[String], kind: RecordType) -> Answer {
        let Some(address) = schema::reverse_address(labels) else { return Answer::NotOurs };
        let mut targets = Vec::new();
        for service in self.cluster.services_at(address) {
            let (namespace, name) = (service.metadata.namespace.as_deref(), service.metadata.name.as_deref());
            targets.extend(namespace.zip(name).and_then(|(namespace, name)| self.service_name(namespace, name)));
        }
        for slice in self.cluster.slices_at(address) {
            let owner = slice.metadata.labels.as_ref().and_then(|labels| labels.get("kubernetes.io/service-name"));
            let Some((namespace, service)) = slice.metadata.namespace.as_deref().zip(owner) else { continue };
            if !self.cluster.service(namespace, service).is_some_and(|object| is_headless(&object)) {
                continue;
            }
            let hosts = slice.endpoints.iter().flatten().filter_map(host_of).filter(|(_, ip)| *ip == address);
            targets
                .extend(hosts.filter_map(|(host, _)| self.service_name(namespace, service)?.prepend_label(host).ok()));
        }
        match (targets.is_empty(), kind) {
            (true, _) => Answer::NotOurs,
            (false, RecordType::PTR) => {
                records(targets.into_iter().map(|target| record(name, RData::PTR(PTR(target)))).collect())
            }
            (false, _) => Answer::NoData,
        }
    }

    fn service_name(&self, namespace: &str, service: &str) -> Option<Name> {
        self.domain.prepend_label("svc").ok()?.prepend_label(namespace).ok()?.prepend_label(service).ok()
    }
}

fn labels(name: &Name) -> Vec<String> {
    name.iter().map(|label| String::from_utf8_lossy(label).to_ascii_lowercase()).collect()
}

fn record(name: &Name, data: RData) -> Record {
    Record::from_rdata(name.clone(), TTL, data)
}

fn records(records: Vec<Record>) -> Answer {
    Answer::Records { records, additional: Vec::new() }
}

fn address_record(name: &Name, address: IpAddr) -> Record {
    record(
        name,
        match address {
            IpAddr::V4(ip) => RData::A(ip.into()),
            IpAddr::V6(ip) => RData::AAAA(ip.into()),
        },
    )
}

/// The addresses of the family asked for.
fn found(name: &Name, kind: RecordType, addresses: Vec<IpAddr>) -> Answer {
    let of_kind = addresses.into_iter().filter(|ip| match kind {
        RecordType::A => ip.is_ipv4(),
        RecordType::AAAA => ip.is_ipv6(),
        _ => kind == RecordType::ANY,
    });
    let answers: Vec<Record> = of_kind.map(|ip| address_record(name, ip)).collect();
    if answers.is_empty() { Answer::NoData } else { records(answers) }
}

fn alias(name: &Name, target: &str) -> Answer {
    match Name::from_utf8(target) {
        Ok(mut target) => {
            target.set_fqdn(true);
            Answer::Alias { record: Box::new(record(name, RData::CNAME(CNAME(target.clone())))), target }
        }
        Err(_) => Answer::NoData,
    }
}

fn external_name(service: &Service) -> Option<&str> {
    let spec = service.spec.as_ref()?;
    spec.external_name.as_deref().filter(|_| spec.type_.as_deref() == Some("ExternalName"))
}

fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| spec.cluster_ip.as_deref() == Some("None"))
}

fn cluster_addresses(service: &Service) -> Vec<IpAddr> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let mut addresses: Vec<IpAddr> =
        spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip).filter_map(|ip| ip.parse().ok()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

fn address(endpoint: &Endpoint) -> Option<IpAddr> {
    endpoint.addresses.first()?.parse().ok()
}

/// The label and address of an endpoint: its hostname, or its address with dashes.
fn host_of(endpoint: &Endpoint) -> Option<(String, IpAddr)> {
    let ip = address(endpoint)?;
    let host =
        endpoint.hostname.as_ref().filter(|host| !host.is_empty()).cloned().unwrap_or_else(|| schema::dashed(ip));
    Some((host, ip))
}

#[cfg(test)]
pub(crate) mod tests;
