//! Puts right what somebody damaged of a bootstrap object, as upstream's controllers do: what they look after is put
//! right, all else is left to whoever changed it. Pure.

use api::Object;
use serde_json::{Map, Value, json};

use super::{objects, trust};
use crate::aggregator;
use crate::authz::{Rule, covers};

const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
const AUTOUPDATE_SPEC: &str = "apf.kubernetes.io/autoupdate-spec";
const SKIP_MIRROR: &str = "endpointslice.kubernetes.io/skip-mirror";
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Whether [`complete`] would change the stored object.
pub(super) fn is_damaged(stored: &Object, wanted: &Object) -> bool {
    let mut completed = stored.clone();
    complete(&mut completed, wanted);
    completed != *stored
}

/// Puts right what is looked after. Of all other kinds that is only that the object is there.
pub(super) fn complete(stored: &mut Object, wanted: &Object) {
    match wanted.kind() {
        "ClusterRole" | "ClusterRoleBinding" | "Role" | "RoleBinding" => policy(stored, wanted),
        "FlowSchema" | "PriorityLevelConfiguration" => flow(stored, wanted),
        "Endpoints" => endpoints(stored, wanted),
        "EndpointSlice" => slice(stored, wanted),
        "APIService" => aggregator::complete(stored, wanted),
        "ConfigMap" if wanted.name() == objects::LEGACY_TOKEN_TRACKING => objects::complete_tracking(stored, wanted),
        "ConfigMap" => trust::complete(stored, wanted),
        _ => {}
    }
}

/// Whether an object is wrong in what cannot be changed: a binding to another role gives other rights, and nothing that is
/// added puts that right.
pub(super) fn must_be_made_anew(stored: &Object, wanted: &Object) -> bool {
    let role = |object: &Object| ["kind", "name"].map(|field| object.text(&["roleRef", field]).to_owned());
    let is_binding = matches!(wanted.kind(), "ClusterRoleBinding" | "RoleBinding");
    is_binding && stored.annotation(AUTOUPDATE) != Some("false") && role(stored) != role(wanted)
}

/// Adds the wanted labels, annotations, rules, selectors and subjects that are missing. Nothing is taken away. The rules
/// of a role that gathers those of others are the aggregation controller's.
fn policy(stored: &mut Object, wanted: &Object) {
    if stored.annotation(AUTOUPDATE) == Some("false") {
        return;
    }
    for map in ["labels", "annotations"] {
        let mut missing = wanted.get(&["metadata", map]).and_then(Value::as_object).cloned().unwrap_or_else(Map::new);
        missing.retain(|key, _| stored.get(&["metadata", map, key]).is_none());
        missing.into_iter().for_each(|(key, value)| stored.set(&["metadata", map, &key], value));
    }
    if wanted.get(&["aggregationRule"]).is_some() {
        let selectors = items(stored, &["aggregationRule", "clusterRoleSelectors"]);
        add(stored, wanted, &["aggregationRule", "clusterRoleSelectors"], |one| !selectors.contains(one));
    } else {
        let owned = Rule::read_all(stored.get(&["rules"]));
        add(stored, wanted, &["rules"], |rule| !covers(&owned, &Rule::read(rule)));
    }
    let subjects = items(stored, &["subjects"]);
    add(stored, wanted, &["subjects"], |subject| !subjects.contains(subject));
}

fn items(object: &Object, list: &[&str]) -> Vec<Value> {
    object.get(list).and_then(Value::as_array).cloned().unwrap_or_default()
}

fn add(stored: &mut Object, wanted: &Object, list: &[&str], is_missing: impl Fn(&Value) -> bool) {
    let missing: Vec<Value> = items(wanted, list).into_iter().filter(is_missing).collect();
    if missing.is_empty() {
        return;
    }
    let mut all = items(stored, list);
    all.extend(missing);
    stored.set(list, all);
}

/// The spec follows ours if the annotation says so, or says nothing and nobody has changed the spec; that of mandatory
/// objects always does (`pkg/registry/flowcontrol/ensurer`). The annotation says which it is.
fn flow(stored: &mut Object, wanted: &Object) {
    let is_mandatory = api::kinds::mandatory_spec(wanted.kind(), wanted.name()).is_some();
    let annotated = stored.annotation(AUTOUPDATE_SPEC).and_then(truth);
    let follows = is_mandatory || annotated.unwrap_or_else(|| stored.generation() == 1);
    if annotated != Some(follows) {
        stored.set(&["metadata", "annotations", AUTOUPDATE_SPEC], follows.to_string());
    }
    if !follows {
        return;
    }
    let mut spec = wanted.get(&["spec"]).cloned().unwrap_or_default();
    // What the exempt level lends and is entitled to is the administrator's.
    if wanted.get(&["spec", "exempt"]).is_some()
        && let Some(exempt) = stored.get(&["spec", "exempt"])
    {
        spec["exempt"] = exempt.clone();
    }
    if stored.get(&["spec"]) != Some(&spec) {
        stored.set(&["spec"], spec);
    }
}

/// A boolean as Go's `strconv.ParseBool` reads it.
fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Addresses and ports are those of the servers that there are.
fn endpoints(stored: &mut Object, wanted: &Object) {
    if stored.label(SKIP_MIRROR) != Some("true") {
        stored.set(&["metadata", "labels", SKIP_MIRROR], "true");
    }
    follow(stored, wanted, "subsets");
}

/// The same of an EndpointSlice.
fn slice(stored: &mut Object, wanted: &Object) {
    // That cannot be changed: another one has to be made.
    if stored.text(&["addressType"]) != wanted.text(&["addressType"]) {
        return;
    }
    let service = wanted.label(SERVICE_NAME).unwrap_or_default().to_owned();
    if stored.label(SERVICE_NAME) != Some(&service) {
        stored.set(&["metadata", "labels", SERVICE_NAME], service);
    }
    follow(stored, wanted, "endpoints");
    follow(stored, wanted, "ports");
}

fn follow(stored: &mut Object, wanted: &Object, list: &str) {
    let items = items(wanted, &[list]);
    if stored.get(&[list]) != Some(&json!(items)) {
        stored.set(&[list], items);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(tree: Value) -> Object {
        Object::from_value(tree).unwrap()
    }

    /// What comes of `stored`; asking again changes nothing.
    fn completed(stored: &Object, wanted: &Object) -> Object {
        let mut done = stored.clone();
        complete(&mut done, wanted);
        assert_eq!(is_damaged(stored, wanted), done != *stored);
        assert!(!is_damaged(&done, wanted), "{done:?}");
        done
    }

    fn role(autoupdate: &str, rules: &Value) -> Object {
        let annotations = json!({AUTOUPDATE: autoupdate});
        object(json!({"kind": "ClusterRole", "metadata": {"name": "a", "annotations": annotations}, "rules": rules}))
    }

    #[test]
    fn missing_rules_come_back_and_others_stay() {
        let get = json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]});
        let list = json!({"verbs": ["list"], "apiGroups": [""], "resources": ["pods"]});
        let stored = completed(&role("true", &json!([list])), &role("true", &json!([get])));
        assert_eq!(stored.get(&["rules"]), Some(&json!([list, get])));
    }

    #[test]
    fn who_asks_to_be_left_alone_is() {
        let wanted = role("true", &json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]));
        assert!(!is_damaged(&role("false", &json!([])), &wanted));
    }

    #[test]
    fn the_rules_of_a_gathering_role_are_its_controllers() {
        let selectors = json!([{"matchLabels": {"to": "edit"}}]);
        let mut wanted = role("true", &json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]));
        wanted.set(&["aggregationRule", "clusterRoleSelectors"], selectors.clone());
        let stored = completed(&role("true", &json!([])), &wanted);
        assert_eq!(stored.get(&["rules"]), Some(&json!([])));
        assert_eq!(stored.get(&["aggregationRule", "clusterRoleSelectors"]), Some(&selectors));
    }

    fn schema(name: &str, generation: i64, annotation: Option<&str>, precedence: i64) -> Object {
        let mut schema = object(json!({"kind": "FlowSchema", "metadata": {"name": name, "generation": generation},
            "spec": {"matchingPrecedence": precedence}}));
        if let Some(text) = annotation {
            schema.set(&["metadata", "annotations", AUTOUPDATE_SPEC], text);
        }
        schema
    }

    #[test]
    fn the_spec_of_a_flow_is_ours_until_its_annotation_or_generation_says_otherwise() {
        let wanted = schema("s", 1, Some("true"), 100);
        let check = |name: &str, generation, annotation: Option<&str>, follows: bool| {
            let wanted = Object::from_value(json!({"kind": "FlowSchema", "metadata": {"name": name},
                "spec": wanted.get(&["spec"])}));
            let done = completed(&schema(name, generation, annotation, 7), &wanted.unwrap());
            let precedence = done.integer(&["spec", "matchingPrecedence"]);
            assert_eq!(precedence, Some(if follows { 100 } else { 7 }), "{name} {generation} {annotation:?}");
            assert_eq!(done.annotation(AUTOUPDATE_SPEC).and_then(truth), Some(follows));
        };
        check("s", 5, Some("true"), true);
        check("s", 5, Some("1"), true);
        check("s", 1, Some("false"), false);
        check("s", 1, None, true);
        check("s", 2, None, false);
        check("s", 2, Some("perhaps"), false);
        check("exempt", 2, Some("false"), true);
        check("catch-all", 2, None, true);
    }

    #[test]
    fn the_shares_of_the_exempt_level_are_the_administrators() {
        let level = |shares: i64| {
            object(json!({"kind": "PriorityLevelConfiguration", "metadata": {"name": "exempt", "annotations":
                {AUTOUPDATE_SPEC: "true"}}, "spec": {"type": "Exempt", "exempt": {"nominalConcurrencyShares": shares}}}))
        };
        assert!(!is_damaged(&level(30), &level(0)));
    }

    fn of_service(ips: &[&str], port: i64) -> Object {
        let addresses: Vec<Value> = ips.iter().map(|ip| json!({"ip": ip})).collect();
        object(json!({"kind": "Endpoints", "metadata": {"name": "kubernetes", "labels": {SKIP_MIRROR: "true"}},
            "subsets": [{"addresses": addresses, "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}]}))
    }

    #[test]
    fn endpoints_are_those_that_are_wanted() {
        let wanted = of_service(&["10.0.0.1", "10.0.0.2"], 6443);
        for stored in [of_service(&["10.0.0.9"], 6443), of_service(&["10.0.0.1", "10.0.0.2"], 1), of_service(&[], 6443)]
        {
            assert_eq!(completed(&stored, &wanted), wanted);
        }
        let mut bare = wanted.clone();
        bare.remove(&["subsets"]);
        bare.remove(&["metadata", "labels"]);
        assert_eq!(completed(&bare, &wanted), wanted);
    }

    fn slice_of(ips: &[&str], port: i64, ready: bool) -> Object {
        let endpoints: Vec<Value> =
            ips.iter().map(|ip| json!({"addresses": [ip], "conditions": {"ready": ready}})).collect();
        object(json!({"kind": "EndpointSlice", "addressType": "IPv4", "endpoints": endpoints,
            "metadata": {"name": "kubernetes", "labels": {SERVICE_NAME: "kubernetes"}},
            "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}))
    }

    #[test]
    fn a_slice_is_the_one_that_is_wanted() {
        let wanted = slice_of(&["10.0.0.1", "10.0.0.2"], 6443, true);
        let damaged = [
            slice_of(&["10.0.0.9"], 6443, true),
            slice_of(&["10.0.0.1", "10.0.0.2"], 6443, false),
            slice_of(&["10.0.0.1", "10.0.0.2"], 1, true),
        ];
        for stored in damaged {
            assert_eq!(completed(&stored, &wanted), wanted);
        }
    }

    #[test]
    fn a_binding_to_another_role_is_made_anew_unless_it_is_to_be_left_alone() {
        let binding = |role: &str, autoupdate: &str| {
            object(
                json!({"kind": "ClusterRoleBinding", "metadata": {"name": "b", "annotations": {AUTOUPDATE: autoupdate}},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}}),
            )
        };
        let wanted = binding("view", "true");
        assert!(!must_be_made_anew(&binding("view", "true"), &wanted));
        assert!(must_be_made_anew(&binding("cluster-admin", "true"), &wanted));
        assert!(!must_be_made_anew(&binding("cluster-admin", "false"), &wanted));
    }

    #[test]
    fn the_beginning_of_tracking_stays_if_it_is_a_date() {
        let tracking = |since: &str| {
            let metadata = json!({"name": objects::LEGACY_TOKEN_TRACKING, "namespace": "kube-system"});
            object(json!({"kind": "ConfigMap", "metadata": metadata, "data": {"since": since}}))
        };
        let wanted = tracking("2026-11-30");
        assert!(!is_damaged(&tracking("2024-01-31"), &wanted));
        for damaged in ["", "yesterday", "2024-13-01"] {
            assert_eq!(completed(&tracking(damaged), &wanted), wanted);
        }
    }
}
