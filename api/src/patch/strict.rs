//! What strict field validation finds in the text of a patch itself, before it is applied: duplicate fields, and unknown
//! fields of JSON patch operations. What it finds in the patched object is the codec's business.

use std::collections::HashSet;

use crate::codec::{MAX_FINDINGS, Node, json};

/// The findings in a patch, as warnings and errors name them: `duplicate field "metadata.labels.a"`,
/// `json patch duplicate field "[0].op"`. None for a text that is no JSON, which applying it refuses.
pub fn strict_findings(patch: &[u8]) -> Vec<String> {
    let mut findings = Vec::new();
    match json::parse(patch) {
        Ok(Node::Array(operations)) => {
            for (index, operation) in operations.iter().enumerate() {
                check_operation(operation, index, &mut findings);
            }
        }
        Ok(document) => check(&document, "", &mut findings),
        Err(_) => {}
    }
    findings.truncate(MAX_FINDINGS);
    findings
}

fn check_operation(operation: &Node<'_>, index: usize, findings: &mut Vec<String>) {
    if findings.len() >= MAX_FINDINGS {
        return;
    }
    let Node::Object(fields) = operation else { return };
    let mut seen = HashSet::new();
    for (name, value) in fields {
        let path = format!("[{index}].{name}");
        if !seen.insert(name.as_ref()) {
            findings.push(format!("json patch duplicate field {path:?}"));
        }
        match name.as_ref() {
            "value" => {
                let mut inside = Vec::new();
                check(value, &path, &mut inside);
                findings.extend(inside.into_iter().map(|finding| format!("json patch {finding}")));
            }
            "op" | "path" | "from" => {}
            _ => findings.push(format!("json patch unknown field {path:?}")),
        }
    }
}

fn check(node: &Node<'_>, path: &str, findings: &mut Vec<String>) {
    if findings.len() >= MAX_FINDINGS {
        return;
    }
    match node {
        Node::Object(fields) => {
            let mut seen = HashSet::new();
            for (name, value) in fields {
                let path = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
                if !seen.insert(name.as_ref()) && findings.len() < MAX_FINDINGS {
                    findings.push(format!("duplicate field {path:?}"));
                }
                check(value, &path, findings);
            }
        }
        Node::Array(list) => {
            for (index, item) in list.iter().enumerate() {
                check(item, &format!("{path}[{index}]"), findings);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_and_unknown_fields_are_named_as_in_the_reference() {
        let cases: [(&str, &[&str]); 5] = [
            (r#"{"metadata":{"labels":{"a":"1","a":"2"}}}"#, &[r#"duplicate field "metadata.labels.a""#]),
            (r#"{"l":[{"a":1,"a":2}]}"#, &[r#"duplicate field "l[0].a""#]),
            (r#"[{"op":"add","op":"add","path":"/a","value":{"q":"1"}}]"#, &[r#"json patch duplicate field "[0].op""#]),
            (r#"[{"op":"add","path":"/a","vaule":1}]"#, &[r#"json patch unknown field "[0].vaule""#]),
            ("{", &[]),
        ];
        for (patch, want) in cases {
            assert_eq!(strict_findings(patch.as_bytes()), want, "{patch}");
        }
    }
}
