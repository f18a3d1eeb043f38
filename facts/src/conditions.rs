//! Conditions in the trees of objects: one of each type (upstream: `metav1.Condition` and its older siblings).

use serde_json::Value;

/// The condition of this type in a status.
pub fn find<'a>(status: Option<&'a Value>, kind: &str) -> Option<&'a Value> {
    let mut all = status?.get("conditions")?.as_array()?.iter();
    all.find(|condition| condition.get("type").and_then(Value::as_str) == Some(kind))
}

/// Whether there is a condition of this type, and it holds.
pub fn is_true(status: Option<&Value>, kind: &str) -> bool {
    find(status, kind).is_some_and(|condition| condition.get("status").and_then(Value::as_str) == Some("True"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_condition_holds_when_its_status_says_true() {
        let status =
            json!({"conditions": [{"type": "Ready", "status": "False"}, {"type": "Established", "status": "True"}]});
        let check = |kind: &str, holds| assert_eq!(is_true(Some(&status), kind), holds, "{kind}");
        check("Established", true);
        check("Ready", false);
        check("Other", false);
        assert_eq!(find(Some(&status), "Ready").unwrap()["status"], "False");
        assert!(!is_true(None, "Ready"));
    }
}
