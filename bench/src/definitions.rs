//! CustomResourceDefinitions of realistic size, the same for the same seed: shapes of Gateway API (lists with keys, rules,
//! conditions), Istio (alternatives, open objects) and Karpenter (patterns, quantities), with schemas of some hundred to
//! some thousand lines of YAML.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::objects::RUN;

/// The group of them all.
pub const GROUP: &str = "load.coracle.dev";
const WORDS: [&str; 24] = [
    "the",
    "desired",
    "state",
    "of",
    "a",
    "resource",
    "that",
    "is",
    "reconciled",
    "by",
    "its",
    "controller",
    "may",
    "be",
    "changed",
    "when",
    "traffic",
    "matches",
    "rule",
    "which",
    "defaults",
    "to",
    "value",
    "listener",
];
/// Fields of a schema: the least, and how many times as many the largest has.
const LEAST_FIELDS: u64 = 12;
const MOST_DOUBLINGS: u64 = 6;

/// The name of a definition, and its body. `run` goes into the label that the definitions of one run have.
pub fn definition(seed: u64, number: usize, run: &str) -> (String, Bytes) {
    let mut making = Making { chance: seed.wrapping_add(number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15), fields: 0 };
    let versions = if making.below(4) == 0 { 2 } else { 1 };
    let (kind, plural) = (format!("Kind{number}"), format!("kind{number}s"));
    // Projects have a group each, and some kinds in it.
    let group = format!("g{}.{GROUP}", number / 2);
    let name = format!("{plural}.{group}");
    let versions: Vec<Value> = (1..=versions).map(|at| making.version(at, at == versions)).collect();
    let body = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": name, "labels": {RUN: run}},
        "spec": {
            "group": group, "scope": "Namespaced", "versions": versions,
            "names": {"kind": kind, "listKind": format!("{kind}List"), "plural": plural, "singular": kind.to_lowercase()},
        },
    });
    (name, body.to_string().into())
}

struct Making {
    chance: u64,
    /// How many fields may still be made.
    fields: u64,
}

impl Making {
    fn below(&mut self, end: u64) -> u64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.chance;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    fn version(&mut self, at: u64, is_stored: bool) -> Value {
        // Most are small, and a few very large.
        self.fields = LEAST_FIELDS << self.below(MOST_DOUBLINGS + 1);
        let mut spec = self.object(0);
        while self.fields > 0 {
            let name = format!("section{}", self.fields);
            let section = self.object(1);
            spec["properties"][name] = section;
        }
        json!({
            "name": format!("v{at}"), "served": true, "storage": is_stored, "subresources": {"status": {}},
            "additionalPrinterColumns": [{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}],
            "schema": {"openAPIV3Schema": {
                "type": "object", "description": self.text(30), "required": ["spec"],
                "properties": {
                    "apiVersion": {"type": "string", "description": self.text(30)},
                    "kind": {"type": "string", "description": self.text(30)},
                    "metadata": {"type": "object"}, "spec": spec, "status": self.status(),
                },
            }},
        })
    }

    fn text(&mut self, words: u64) -> String {
        let count = 4 + self.below(words);
        (0..count).map(|_| WORDS[self.below(WORDS.len() as u64) as usize]).collect::<Vec<_>>().join(" ")
    }

    fn object(&mut self, depth: u64) -> Value {
        let count = 2 + self.below(8);
        let mut properties = Map::new();
        for at in 0..count {
            if self.fields == 0 {
                break;
            }
            self.fields -= 1;
            let mut field = self.field(depth);
            field["description"] = self.text(40).into();
            properties.insert(format!("{}{at}", WORDS[self.below(WORDS.len() as u64) as usize]), field);
        }
        let mut object = json!({"type": "object", "properties": properties});
        if let Some(first) = object["properties"].as_object().and_then(|fields| fields.keys().next().cloned()) {
            match self.below(8) {
                0 => object["oneOf"] = json!([{"required": [first]}, {"maxProperties": 1}]),
                // Deep in lists a rule would cost more than is allowed.
                1 if depth < 2 => {
                    object["x-kubernetes-validations"] =
                        json!([{"rule": format!("has(self.{first})"), "message": "needed"}])
                }
                2 => object["required"] = json!([first]),
                _ => {}
            }
        }
        object
    }

    fn field(&mut self, depth: u64) -> Value {
        match self.below(if depth > 6 { 8 } else { 13 }) {
            0 => json!({"type": "string", "enum": ["Exact", "Prefix", "RegularExpression"], "default": "Exact"}),
            1 => {
                json!({"type": "string", "maxLength": 253, "minLength": 1, "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"})
            }
            2 => json!({"type": "integer", "format": "int32", "maximum": 65535, "minimum": 1}),
            3 => json!({
                "x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}],
                "pattern": r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE])?$",
            }),
            4 => json!({"type": "boolean", "nullable": true}),
            5 => {
                json!({"type": "object", "additionalProperties": {"type": "string", "maxLength": 63}, "maxProperties": 16})
            }
            6 => json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
            7 => json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set", "maxItems": 64}),
            8 => self.keyed_list(depth),
            _ => self.object(depth + 1),
        }
    }

    fn keyed_list(&mut self, depth: u64) -> Value {
        let mut items = self.object(depth + 1);
        items["properties"]["name"] = json!({"type": "string", "maxLength": 63, "description": self.text(20)});
        items["required"] = json!(["name"]);
        json!({
            "type": "array", "items": items, "maxItems": 16,
            "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
        })
    }

    fn status(&mut self) -> Value {
        let text = |making: &mut Self| json!({"type": "string", "maxLength": 32768, "description": making.text(40)});
        json!({"type": "object", "properties": {"conditions": {
            "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
            "items": {"type": "object", "required": ["type", "status"], "properties": {
                "type": text(self), "reason": text(self), "message": text(self),
                "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
                "lastTransitionTime": {"type": "string", "format": "date-time"},
                "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0},
            }},
        }}})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_makes_one_definition_and_sizes_differ_widely() {
        assert_eq!(definition(1, 5, "r"), definition(1, 5, "r"));
        assert_ne!(definition(1, 5, "r"), definition(2, 5, "r"));
        let sizes: Vec<usize> = (0..100).map(|number| definition(1, number, "r").1.len()).collect();
        let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
        assert!(*least < 10_000 && *most > 150_000, "{least} to {most}");
    }
}
