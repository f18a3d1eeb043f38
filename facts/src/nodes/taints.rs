//! Taints and what tolerates them (upstream: `Toleration.ToleratesTaint` of k8s.io/api/core/v1, and
//! k8s.io/component-helpers/scheduling/corev1).

use k8s_openapi::api::core::v1::{Taint, Toleration};

/// Whether one of the tolerations covers a taint.
pub fn tolerates(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|toleration| covers(toleration, taint))
}

/// Whether a toleration covers a taint. Keys and effects that are empty cover all; an operator that is not known covers
/// nothing, comparisons of numbers (KEP-5471, off by default) among them.
pub fn covers(toleration: &Toleration, taint: &Taint) -> bool {
    let fits = |own: &Option<String>, theirs: &str| own.as_deref().is_none_or(|own| own.is_empty() || own == theirs);
    fits(&toleration.effect, &taint.effect)
        && fits(&toleration.key, &taint.key)
        && match toleration.operator.as_deref().unwrap_or_default() {
            "Exists" => true,
            "" | "Equal" => {
                toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default()
            }
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(toleration: Value, taint: Value, want: bool) {
        let read = |tree: &Value| serde_json::from_value(tree.clone()).unwrap();
        assert_eq!(covers(&read(&toleration), &serde_json::from_value(taint).unwrap()), want, "{toleration}");
    }

    #[test]
    fn tolerations_cover_taints_as_the_api_says() {
        let taint = || json!({"key": "a", "value": "b", "effect": "NoSchedule"});
        check(json!({"operator": "Exists"}), taint(), true);
        check(json!({"key": "a", "operator": "Exists", "effect": "NoExecute"}), taint(), false);
        check(json!({"key": "a", "value": "b"}), taint(), true);
        check(json!({"key": "a", "value": "c", "operator": "Equal"}), taint(), false);
        check(json!({"key": "c", "operator": "Exists"}), taint(), false);
        check(json!({"value": "b"}), taint(), true);
    }

    #[test]
    fn operators_that_are_not_known_cover_nothing() {
        let taint = || json!({"key": "a", "value": "7", "effect": "NoSchedule"});
        check(json!({"key": "a", "operator": "Gt", "value": "5"}), taint(), false);
        check(json!({"key": "a", "operator": "Near", "value": "7"}), taint(), false);
    }
}
