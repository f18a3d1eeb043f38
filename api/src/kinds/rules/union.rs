//! Objects of which exactly one field is set (upstream: `apimachinery/pkg/api/validate/union.go`).

use super::tree::{Errors, Node};

/// Refuses an object with none of these fields, or with several of them.
pub(crate) fn exactly_one(at: &Node<'_, '_>, members: &[&str], errors: &mut Errors) {
    let quoted = |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let set: Vec<&str> = members.iter().copied().filter(|member| at.field(member).is_set()).collect();
    match set.len() {
        1 => {}
        0 => errors.invalid_value(at, "", &format!("must specify one of: {}", quoted(members))),
        _ => {
            let why = format!("exactly one of {} is required, but multiple fields are set", quoted(members));
            errors.invalid_value(at, format!("{{{}}}", quoted(&set)), &why);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::rules::checks::check_rule;

    #[test]
    fn one_of_several_is_set() {
        let rule = |at: &Node<'_, '_>, errors: &mut Errors| exactly_one(&at.field("x"), &["a", "b"], errors);
        check_rule(rule, json!({"x": {"a": {}}}), &[]);
        check_rule(rule, json!({"x": {"a": null}}), &["x: Invalid value: \"\": must specify one of: `a`, `b`"]);
        check_rule(
            rule,
            json!({"x": {"a": {}, "b": {}}}),
            &["x: Invalid value: \"{`a`, `b`}\": exactly one of `a`, `b` is required, but multiple fields are set"],
        );
    }
}
