//! Words that users know from upstream, where Go prints a type.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// A selector as Go prints it.
pub(super) fn selector(selector: Option<&LabelSelector>) -> String {
    let Some(selector) = selector else { return "nil".to_owned() };
    let labels = selector.match_labels.iter().flatten().map(|(key, value)| format!("{key}: {value},"));
    let expression = |key: &str, operator: &str, values: &[String]| {
        format!("LabelSelectorRequirement{{Key:{key},Operator:{operator},Values:[{}],}},", values.join(" "))
    };
    let expressions = selector.match_expressions.iter().flatten();
    let expressions = expressions.map(|it| expression(&it.key, &it.operator, it.values.as_deref().unwrap_or_default()));
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{}}},MatchExpressions:[]LabelSelectorRequirement{{{}}},}}",
        labels.collect::<String>(),
        expressions.collect::<String>(),
    )
}

#[cfg(test)]
mod tests {
    use k8s_openapi::serde_json::{from_value, json};

    use super::*;

    #[test]
    fn a_selector_reads_as_go_prints_it() {
        assert_eq!(selector(None), "nil");
        let of = json!({"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "k", "operator": "In", "values": ["x", "y"]}]});
        let words = "&LabelSelector{MatchLabels:map[string]string{a: b,},MatchExpressions:[]LabelSelectorRequirement{\
                     LabelSelectorRequirement{Key:k,Operator:In,Values:[x y],},},}";
        assert_eq!(selector(Some(&from_value(of).unwrap())), words);
    }
}
