//! The objects of flow control that are always there (upstream: `pkg/apis/flowcontrol/bootstrap`).

use serde_json::{Value, json};

/// The spec that the object of this kind and name always has, if it is one of those that the server cannot do without.
pub fn mandatory_spec(kind: &str, name: &str) -> Option<Value> {
    let resources = json!([{
        "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"],
    }]);
    let paths = json!([{"verbs": ["*"], "nonResourceURLs": ["*"]}]);
    let group = |name: &str| json!({"kind": "Group", "group": {"name": name}});
    Some(match (kind, name) {
        ("FlowSchema", "exempt") => json!({
            "priorityLevelConfiguration": {"name": "exempt"}, "matchingPrecedence": 1,
            "rules": [{
                "subjects": [group("system:masters")], "resourceRules": resources, "nonResourceRules": paths,
            }],
        }),
        ("FlowSchema", "catch-all") => json!({
            "priorityLevelConfiguration": {"name": "catch-all"}, "matchingPrecedence": 10_000,
            "distinguisherMethod": {"type": "ByUser"},
            "rules": [{
                "subjects": [group("system:unauthenticated"), group("system:authenticated")],
                "resourceRules": resources, "nonResourceRules": paths,
            }],
        }),
        ("PriorityLevelConfiguration", "exempt") => {
            json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}})
        }
        ("PriorityLevelConfiguration", "catch-all") => json!({
            "type": "Limited",
            "limited": {"nominalConcurrencyShares": 5, "limitResponse": {"type": "Reject"}, "lendablePercent": 0},
        }),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::{flow_schema, priority_level};
    use super::*;
    use crate::kinds::rules::checks::check_named_spec;

    #[test]
    fn what_the_server_cannot_do_without_keeps_its_spec() {
        for name in ["exempt", "catch-all"] {
            check_named_spec(flow_schema::validate, name, mandatory_spec("FlowSchema", name).unwrap(), &[]);
            check_named_spec(
                priority_level::validate,
                name,
                mandatory_spec("PriorityLevelConfiguration", name).unwrap(),
                &[],
            );
        }
        let mut spec = mandatory_spec("PriorityLevelConfiguration", "exempt").unwrap();
        spec["exempt"]["lendablePercent"] = 10.into();
        check_named_spec(priority_level::validate, "exempt", spec, &[]);
        let mut spec = mandatory_spec("PriorityLevelConfiguration", "catch-all").unwrap();
        spec["limited"]["lendablePercent"] = 10.into();
        check_named_spec(
            priority_level::validate,
            "catch-all",
            spec,
            &[
                "spec: Invalid value: {\"Type\":\"Limited\",\"Limited\":{\"NominalConcurrencyShares\":5,\"LimitResponse\":{\"Type\":\"Reject\",\"Queuing\":null},\"LendablePercent\":10,\"BorrowingLimitPercent\":null},\"Exempt\":null}: spec of 'catch-all' must equal the fixed value",
            ],
        );
    }
}
