use super::*;
use serde_json::{Value, json};

/// A cluster of one ClusterIP, one headless and one ExternalName Service in namespace `d`.
pub(crate) struct Fixed {
    services: Vec<Arc<Service>>,
    slices: Vec<Arc<EndpointSlice>>,
}

impl Fixed {
    pub(crate) fn new() -> Self {
        let service = |name: &str, spec: Value| -> Arc<Service> {
            Arc::new(
                serde_json::from_value(json!({"metadata": {"name": name, "namespace": "d"}, "spec": spec})).unwrap(),
            )
        };
        let slice = json!({
            "metadata": {"name": "db-1", "namespace": "d", "labels": {"kubernetes.io/service-name": "db"}}, "addressType": "IPv4",
            "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}],
            "endpoints": [
                {"addresses": ["10.244.0.5"], "hostname": "db-0", "conditions": {"ready": true}},
                {"addresses": ["10.244.0.6"], "conditions": {"ready": true}},
                {"addresses": ["10.244.0.7"], "conditions": {"ready": false}},
            ],
        });
        let ports = json!([{"name": "http", "port": 80, "protocol": "TCP"}]);
        Self {
            services: vec![
                service("web", json!({"clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"], "ports": ports})),
                service("db", json!({"clusterIP": "None", "ports": [{"name": "sql", "port": 5432}]})),
                service("far", json!({"type": "ExternalName", "externalName": "example.org"})),
            ],
            slices: vec![Arc::new(serde_json::from_value(slice).unwrap())],
        }
    }
}

impl Cluster for Fixed {
    fn has_namespace(&self, name: &str) -> bool {
        name == "d"
    }
    fn service(&self, namespace: &str, name: &str) -> Option<Arc<Service>> {
        self.services.iter().find(|service| namespace == "d" && service.metadata.name.as_deref() == Some(name)).cloned()
    }
    fn slices(&self, namespace: &str, service: &str) -> Vec<Arc<EndpointSlice>> {
        if namespace == "d" && service == "db" { self.slices.clone() } else { Vec::new() }
    }
    fn services_at(&self, address: IpAddr) -> Vec<Arc<Service>> {
        self.services.iter().filter(|service| cluster_addresses(service).contains(&address)).cloned().collect()
    }
    fn slices_at(&self, address: IpAddr) -> Vec<Arc<EndpointSlice>> {
        let has = |slice: &&Arc<EndpointSlice>| {
            slice.endpoints.iter().flatten().filter_map(super::address).any(|ip| ip == address)
        };
        self.slices.iter().filter(has).cloned().collect()
    }
}

fn ask(name: &str, kind: RecordType) -> Answer {
    let zone = Zone::new(Name::from_ascii("cluster.local.").unwrap(), Fixed::new());
    zone.answer(&Name::from_ascii(name).unwrap(), kind)
}

fn check(name: &str, kind: RecordType, want: &[&str]) {
    match ask(name, kind) {
        Answer::Records { records, .. } => {
            let texts: Vec<String> = records.iter().map(|record| record.data.to_string()).collect();
            assert_eq!(texts, want, "{name}");
        }
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn services_answer_with_their_cluster_address() {
    check("web.d.svc.cluster.local.", RecordType::A, &["10.96.0.9"]);
    check("WEB.D.svc.Cluster.Local.", RecordType::A, &["10.96.0.9"]);
    assert_eq!(ask("web.d.svc.cluster.local.", RecordType::AAAA), Answer::NoData);
}

#[test]
fn headless_services_answer_with_ready_endpoints() {
    check("db.d.svc.cluster.local.", RecordType::A, &["10.244.0.5", "10.244.0.6"]);
    check("db-0.db.d.svc.cluster.local.", RecordType::A, &["10.244.0.5"]);
    check("10-244-0-6.db.d.svc.cluster.local.", RecordType::A, &["10.244.0.6"]);
    assert_eq!(ask("db-9.db.d.svc.cluster.local.", RecordType::A), Answer::NxDomain);
}

#[test]
fn named_ports_have_srv_records() {
    check("_http._tcp.web.d.svc.cluster.local.", RecordType::SRV, &["0 100 80 web.d.svc.cluster.local."]);
    check(
        "_sql._tcp.db.d.svc.cluster.local.",
        RecordType::SRV,
        &["0 100 5432 db-0.db.d.svc.cluster.local.", "0 100 5432 10-244-0-6.db.d.svc.cluster.local."],
    );
    assert_eq!(ask("_none._tcp.web.d.svc.cluster.local.", RecordType::SRV), Answer::NxDomain);
    assert_eq!(ask("_http._udp.web.d.svc.cluster.local.", RecordType::SRV), Answer::NxDomain);
}

#[test]
fn what_is_not_there_does_not_exist_and_branches_have_no_data() {
    assert_eq!(ask("none.d.svc.cluster.local.", RecordType::A), Answer::NxDomain);
    assert_eq!(ask("d.svc.cluster.local.", RecordType::A), Answer::NoData);
    assert_eq!(ask("x.svc.cluster.local.", RecordType::A), Answer::NxDomain);
    assert_eq!(ask("example.org.", RecordType::A), Answer::NotOurs);
}

#[test]
fn external_names_are_aliases() {
    let Answer::Alias { target, .. } = ask("far.d.svc.cluster.local.", RecordType::A) else { panic!("an alias") };
    assert_eq!(target.to_string(), "example.org.");
}

#[test]
fn addresses_lead_back_to_names() {
    check("9.0.96.10.in-addr.arpa.", RecordType::PTR, &["web.d.svc.cluster.local."]);
    check("5.0.244.10.in-addr.arpa.", RecordType::PTR, &["db-0.db.d.svc.cluster.local."]);
    assert_eq!(ask("9.9.9.9.in-addr.arpa.", RecordType::PTR), Answer::NotOurs);
}

#[test]
fn pods_answer_by_address_in_namespaces_that_exist() {
    check("10-244-0-5.d.pod.cluster.local.", RecordType::A, &["10.244.0.5"]);
    assert_eq!(ask("10-244-0-5.x.pod.cluster.local.", RecordType::A), Answer::NxDomain);
}
