//! How Services are printed (upstream: `printService`).

use jiff::Timestamp;
use serde_json::Value;

use crate::kinds::rules::load_balancer;
use crate::object::Object;
use crate::table::cell::{NONE, UNKNOWN, age, labels, list, or, text};

pub(crate) fn service(service: &Object, now: Timestamp) -> Vec<Value> {
    let ports: Vec<String> = list(service, &["spec", "ports"]).iter().map(service_port).collect();
    let cluster_ip = list(service, &["spec", "clusterIPs"]).first().and_then(Value::as_str).unwrap_or("");
    vec![
        service.name().into(),
        service.text(&["spec", "type"]).into(),
        or(cluster_ip, NONE).into(),
        external_ip(service).into(),
        or(&ports.join(","), NONE).into(),
        age(service, now).into(),
        labels(service.get(&["spec", "selector"])).into(),
    ]
}

fn service_port(port: &Value) -> String {
    let number = |field: &str| port.get(field).and_then(Value::as_i64).unwrap_or(0);
    match number("nodePort") {
        0 => format!("{}/{}", number("port"), text(port, "protocol")),
        node_port => format!("{}:{node_port}/{}", number("port"), text(port, "protocol")),
    }
}

fn external_ip(service: &Object) -> String {
    let mut external: Vec<&str> = list(service, &["spec", "externalIPs"]).iter().filter_map(Value::as_str).collect();
    match service.text(&["spec", "type"]) {
        "ClusterIP" | "NodePort" => or(&external.join(","), NONE).to_owned(),
        "LoadBalancer" => {
            let mut all = load_balancer::addresses(service);
            all.append(&mut external);
            or(&all.join(","), "<pending>").to_owned()
        }
        "ExternalName" => service.text(&["spec", "externalName"]).to_owned(),
        _ => UNKNOWN.to_owned(),
    }
}
