//! Whether the server of an APIService can be reached, and the condition that says so (upstream's
//! `AvailableConditionController`). Pure.

use api::Object;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::service::Place;
use crate::outbound::services::port_name;
use crate::stamps::timestamp;

/// What the condition `Available` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) is_available: bool,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Verdict {
    fn unavailable(reason: &'static str, message: String) -> Self {
        Self { is_available: false, reason, message }
    }

    /// Of a version that this server serves.
    pub(super) fn local() -> Self {
        let message = "Local APIServices are always available".to_owned();
        Self { is_available: true, reason: "Local", message }
    }

    /// Of a server that has answered.
    pub(super) fn passed() -> Self {
        Self { is_available: true, reason: "Passed", message: "all checks passed".to_owned() }
    }

    /// Of a server that has not.
    pub(super) fn silent(why: String) -> Self {
        Self::unavailable("FailedDiscoveryCheck", why)
    }

    /// Writes the condition. Its time is that of the last change of its status.
    pub(super) fn write(&self, object: &mut Object, now: Timestamp) {
        let status = if self.is_available { "True" } else { "False" };
        let mut all = object.get(&["status", "conditions"]).and_then(Value::as_array).cloned().unwrap_or_default();
        let known = all.iter_mut().find(|condition| condition["type"] == "Available");
        match known {
            Some(known) => {
                if known["status"] != status {
                    known["status"] = status.into();
                    known["lastTransitionTime"] = timestamp(now).into();
                }
                known["reason"] = self.reason.into();
                known["message"] = self.message.as_str().into();
            }
            None => all.push(json!({
                "type": "Available", "status": status, "lastTransitionTime": timestamp(now), "reason": self.reason,
                "message": self.message,
            })),
        }
        object.set(&["status", "conditions"], all);
    }
}

/// What is wrong with the Service and its endpoints; `None` if its server may answer. Only Services with a cluster address
/// tell enough.
pub(super) fn obstacle(place: &Place, service: Option<&Object>, slices: &[Object]) -> Option<Verdict> {
    let Place { namespace, name, port, .. } = place;
    let of = format!("service/{name} in {namespace:?}");
    let Some(service) = service else {
        return Some(Verdict::unavailable("ServiceNotFound", format!("{of} is not present")));
    };
    if !matches!(service.text(&["spec", "type"]), "ClusterIP" | "") {
        return None;
    }
    let Some(port_name) = port_name(service, *port) else {
        return Some(Verdict::unavailable("ServicePortError", format!("{of} is not listening on port {port}")));
    };
    if slices.is_empty() {
        return Some(Verdict::unavailable("EndpointsNotFound", format!("cannot find endpointslices for {of}")));
    }
    if !slices.iter().any(|slice| has_ready(slice, &port_name)) {
        let why = format!("endpointslices for {of} have no addresses with port name {port_name:?}");
        return Some(Verdict::unavailable("MissingEndpoints", why));
    }
    None
}

/// Whether a slice has a ready endpoint, and the port.
fn has_ready(slice: &Object, port_name: &str) -> bool {
    let list = |field: &str| slice.get(&[field]).and_then(Value::as_array).into_iter().flatten();
    list("endpoints").any(|endpoint| endpoint["conditions"]["ready"] != Value::Bool(false))
        && list("ports").any(|port| port["name"].as_str().unwrap_or("") == port_name && port["port"].is_u64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregator::service::Trust;

    fn object(tree: Value) -> Object {
        Object::from_value(tree).unwrap()
    }

    fn place() -> Place {
        Place { namespace: "n".into(), name: "s".into(), port: 443, trust: Trust::Anybody }
    }

    fn service(kind: &str, port: u16) -> Object {
        object(json!({"spec": {"type": kind, "ports": [{"name": "https", "port": port}]}}))
    }

    fn slice(ready: &Value, port: &str) -> Object {
        object(
            json!({"endpoints": [{"addresses": ["10.0.0.1"], "conditions": ready}], "ports": [{"name": port, "port": 8443}]}),
        )
    }

    #[test]
    fn what_is_in_the_way_is_said_in_the_words_of_the_reference() {
        let check = |service: Option<Object>, slices: &[Object], expected: Option<(&str, &str)>| {
            let found = obstacle(&place(), service.as_ref(), slices);
            let said = found.as_ref().map(|verdict| (verdict.reason, verdict.message.as_str()));
            assert_eq!(said, expected);
        };
        let cluster = || Some(service("ClusterIP", 443));
        check(None, &[], Some(("ServiceNotFound", "service/s in \"n\" is not present")));
        check(
            Some(service("ClusterIP", 80)),
            &[],
            Some(("ServicePortError", "service/s in \"n\" is not listening on port 443")),
        );
        check(cluster(), &[], Some(("EndpointsNotFound", "cannot find endpointslices for service/s in \"n\"")));
        let missing = "endpointslices for service/s in \"n\" have no addresses with port name \"https\"";
        check(cluster(), &[slice(&json!({"ready": false}), "https")], Some(("MissingEndpoints", missing)));
        check(cluster(), &[slice(&json!({}), "http")], Some(("MissingEndpoints", missing)));
        check(cluster(), &[slice(&json!({}), "https")], None);
        check(Some(service("ExternalName", 1)), &[], None);
    }

    #[test]
    fn a_condition_keeps_its_time_until_its_status_changes() {
        let (early, late) = (Timestamp::UNIX_EPOCH, Timestamp::from_second(60).unwrap());
        let mut stored = object(json!({"status": {"conditions": [{"type": "Other"}]}}));
        Verdict::silent("a".into()).write(&mut stored, early);
        Verdict::silent("b".into()).write(&mut stored, late);
        let condition = |stored: &Object| stored.get(&["status", "conditions"]).unwrap()[1].clone();
        let mut expected = json!({"type": "Available", "status": "False", "lastTransitionTime": "1970-01-01T00:00:00Z",
            "reason": "FailedDiscoveryCheck", "message": "b"});
        assert_eq!(condition(&stored), expected);
        Verdict::passed().write(&mut stored, late);
        expected["status"] = "True".into();
        expected["lastTransitionTime"] = "1970-01-01T00:01:00Z".into();
        expected["reason"] = "Passed".into();
        expected["message"] = "all checks passed".into();
        assert_eq!(condition(&stored), expected);
    }
}
