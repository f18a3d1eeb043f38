//! Parameters that many operations have stand once in a v2 document, and operations refer to them (kube-openapi's
//! `deduplicateParameters`).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use serde_json::{Map, Value, json};

/// Names that are never shared: one is another for each kind, and clients of old look for the others where they are.
const OWN: [(&str, &str); 4] = [("query", "name"), ("path", "name"), ("query", "fieldValidation"), ("query", "dryRun")];
/// The parts of a parameter, in the order in which upstream writes them before it makes a name of them.
const ORDER: [&str; 7] = ["uniqueItems", "type", "description", "name", "in", "required", "schema"];
const GENERAL: &str = "#/definitions/io.k8s.apimachinery";

/// Replaces the parameters of these paths that can be shared by references, and returns what those lead to.
pub(super) fn take(paths: &mut Map<String, Value>) -> Map<String, Value> {
    let mut shared = Shared::default();
    for item in paths.values_mut().filter_map(Value::as_object_mut) {
        for (name, value) in item {
            match name.as_str() {
                "parameters" => shared.replace(value),
                _ => value.get_mut("parameters").into_iter().for_each(|list| shared.replace(list)),
            }
        }
    }
    shared.named.into_iter().collect()
}

#[derive(Default)]
struct Shared {
    named: BTreeMap<String, Value>,
}

impl Shared {
    fn replace(&mut self, parameters: &mut Value) {
        for parameter in parameters.as_array_mut().into_iter().flatten().filter(|one| can_be_shared(one)) {
            let name = format!("{}-{}", parameter["name"].as_str().unwrap_or("param"), hash(&written(parameter)));
            let reference = json!({"$ref": format!("#/parameters/{name}")});
            self.named.insert(name, std::mem::replace(parameter, reference));
        }
    }
}

fn can_be_shared(parameter: &Value) -> bool {
    let part = |name: &str| parameter[name].as_str().unwrap_or("");
    let of_kind = part("in") == "body" && !parameter["schema"]["$ref"].as_str().unwrap_or("").starts_with(GENERAL);
    !of_kind && !OWN.contains(&(part("in"), part("name")))
}

/// A parameter as upstream writes it.
fn written(parameter: &Value) -> String {
    let parts = ORDER.iter().filter_map(|name| Some(format!("\"{name}\":{}", parameter.get(*name)?)));
    format!("{{{}}}", parts.collect::<Vec<_>>().join(","))
}

/// The first six bytes of FNV-1 in 64 bits.
fn hash(text: &str) -> String {
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| hash.wrapping_mul(0x0100_0000_01b3) ^ u64::from(byte));
    URL_SAFE.encode(&hash.to_be_bytes()[..6])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_parameters_have_the_names_that_upstream_gives_them() {
        let namespace = json!({
            "name": "namespace", "in": "path", "required": true, "type": "string", "uniqueItems": true,
            "description": "object name and auth scope, such as for teams and projects",
        });
        let name = json!({"name": "name", "in": "path", "required": true, "type": "string"});
        let of_kind = json!({"name": "body", "in": "body", "schema": {"$ref": "#/definitions/io.k8s.api.core.v1.Pod"}});
        let patch = format!("{GENERAL}.pkg.apis.meta.v1.Patch");
        let patch = json!({"name": "body", "in": "body", "required": true, "schema": {"$ref": patch}});
        let Value::Object(mut paths) = json!({"/a": {
            "get": {"parameters": [name, of_kind]}, "patch": {"parameters": [patch]}, "parameters": [namespace],
        }}) else {
            panic!("an object")
        };
        let shared = take(&mut paths);
        assert_eq!(paths["/a"]["parameters"], json!([{"$ref": "#/parameters/namespace-vgWSWtn3"}]));
        assert_eq!(paths["/a"]["get"]["parameters"], json!([name, of_kind]));
        assert_eq!(paths["/a"]["patch"]["parameters"], json!([{"$ref": "#/parameters/body-78PwaGsr"}]));
        assert_eq!(shared.keys().collect::<Vec<_>>(), ["body-78PwaGsr", "namespace-vgWSWtn3"]);
        assert_eq!(shared["namespace-vgWSWtn3"], namespace);
    }
}
