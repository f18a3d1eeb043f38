//! Answers without what differs from run to run: in its place stand the placeholders of the recorded conversations
//! (`<<uid:1>>`, `<<rv:2>>`, `<<time>>`, ...). The same number stands for the same value wherever it is; versions of objects
//! grow with their numbers.

use std::collections::{BTreeMap, BTreeSet};

use regex::{Captures, Regex};
use serde_json::{Map, Value, json};

use super::play::{Answer, Played};

const UID: &str = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";
/// A version in a message.
const VERSION: &str =
    r"(esourceVersion(?: in (?:the )?precondition| in object meta| in record)?[^0-9A-Za-z]{1,6})(\d+)";
/// What a name that the server makes ends with.
const GENERATED: &str = "(kube-api-access-)([a-z0-9]{5})";
const FIRST_NODE_PORT: i64 = 30_000;
const LAST_NODE_PORT: i64 = 32_767;

/// What is expected of whoever gets the same requests.
pub fn expected(played: &Played) -> Vec<Value> {
    let mut versions = BTreeSet::new();
    played.answers.iter().for_each(|answer| collect_versions(&answer.body, &mut versions));
    let mut normal = Normal {
        run: played.vars.get("run").and_then(Value::as_str).unwrap_or("").to_owned(),
        versions: versions.into_iter().zip(1..).collect(),
        seen: BTreeMap::new(),
        uid: Regex::new(UID).expect("a valid pattern"),
        version: Regex::new(VERSION).expect("a valid pattern"),
        generated: Regex::new(GENERATED).expect("a valid pattern"),
        time: Regex::new(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ").expect("a valid pattern"),
        micro_time: Regex::new(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z").expect("a valid pattern"),
    };
    played.answers.iter().map(|answer| normal.answer(answer)).collect()
}

/// Whether an object is a list of others.
fn is_list(object: &Map<String, Value>) -> bool {
    object.contains_key("items") || object.contains_key("rows")
}

fn collect_versions(value: &Value, found: &mut BTreeSet<u64>) {
    match value {
        Value::Array(list) => list.iter().for_each(|inner| collect_versions(inner, found)),
        Value::Object(map) => {
            for (name, inner) in map {
                if name == "metadata" && is_list(map) {
                    continue;
                }
                match (name.as_str(), inner.as_str().and_then(|text| text.parse().ok())) {
                    ("resourceVersion", Some(version)) => {
                        found.insert(version);
                    }
                    _ => collect_versions(inner, found),
                }
            }
        }
        _ => {}
    }
}

struct Normal {
    run: String,
    /// Versions of objects with their numbers.
    versions: BTreeMap<u64, usize>,
    /// Other values with their placeholders.
    seen: BTreeMap<(&'static str, String), usize>,
    uid: Regex,
    version: Regex,
    generated: Regex,
    time: Regex,
    micro_time: Regex,
}

impl Normal {
    fn answer(&mut self, answer: &Answer) -> Value {
        let headers: Map<String, Value> =
            answer.headers.iter().map(|(name, value)| (name.clone(), self.value(name, value, false))).collect();
        let body = self.value("", &answer.body, false);
        json!({"status": answer.status, "headers": headers, "body": body})
    }

    fn value(&mut self, name: &str, value: &Value, of_list: bool) -> Value {
        match value {
            Value::Array(list) => list.iter().map(|inner| self.value(name, inner, false)).collect(),
            Value::Object(map) => {
                let lists = is_list(map);
                let entry = |(inner_name, inner): (&String, &Value)| {
                    let version = of_list && inner_name == "resourceVersion";
                    let normal = match version {
                        true => "<<listrv>>".into(),
                        false => self.value(inner_name, inner, lists && inner_name == "metadata"),
                    };
                    (self.text("", inner_name), normal)
                };
                map.iter().map(entry).collect::<Map<_, _>>().into()
            }
            Value::String(text) => self.text(name, text).into(),
            Value::Number(number) => match number.as_i64() {
                Some(port @ FIRST_NODE_PORT..=LAST_NODE_PORT) if name.to_lowercase().ends_with("nodeport") => {
                    self.numbered("nodePort", &port.to_string()).into()
                }
                _ => value.clone(),
            },
            other => other.clone(),
        }
    }

    fn text(&mut self, name: &str, text: &str) -> String {
        match name {
            "continue" if !text.is_empty() => return "<<continue>>".to_owned(),
            "clusterIP" | "clusterIPs" if text.parse::<std::net::IpAddr>().is_ok() => return self.numbered("ip", text),
            "resourceVersion" => {
                if let Some(number) = text.parse().ok().and_then(|version: u64| self.versions.get(&version)) {
                    return format!("<<rv:{number}>>");
                }
            }
            _ => {}
        }
        let mut text = text.to_owned();
        if !self.run.is_empty() {
            text = text.replace(&self.run, "${run}");
        }
        text = self.micro_time.replace_all(&text, "<<microtime>>").into_owned();
        text = self.time.replace_all(&text, "<<time>>").into_owned();
        let pattern = self.uid.clone();
        text = pattern.replace_all(&text, |found: &Captures<'_>| self.numbered("uid", &found[0])).into_owned();
        let pattern = self.generated.clone();
        let name = |found: &Captures<'_>| format!("{}{}", &found[1], self.numbered("gen", &found[2]));
        text = pattern.replace_all(&text, name).into_owned();
        let mut addresses: Vec<_> = self.seen.iter().filter(|((kind, _), _)| *kind == "ip").collect();
        // One may be the beginning of another.
        addresses.sort_by_key(|((_, address), _)| std::cmp::Reverse(address.len()));
        for ((_, address), number) in addresses {
            text = text.replace(address, &format!("<<ip:{number}>>"));
        }
        let version = |found: &Captures<'_>| match found[2].parse().ok().and_then(|one: u64| self.versions.get(&one)) {
            Some(number) => format!("{}<<rv:{number}>>", &found[1]),
            None => found[0].to_owned(),
        };
        text = self.version.replace_all(&text, version).into_owned();
        text
    }

    fn numbered(&mut self, kind: &'static str, value: &str) -> String {
        let next = 1 + self.seen.keys().filter(|(known, _)| *known == kind).count();
        let number = *self.seen.entry((kind, value.to_owned())).or_insert(next);
        format!("<<{kind}:{number}>>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn played(bodies: Vec<Value>) -> Played {
        let answer = |body| Answer { status: 200, headers: BTreeMap::new(), body };
        let vars = BTreeMap::from([("run".to_owned(), json!("abcdef"))]);
        Played { answers: bodies.into_iter().map(answer).collect(), vars }
    }

    #[test]
    fn what_differs_between_runs_is_replaced_by_what_it_is() {
        let uid = "0a0a0a0a-0b0b-0c0c-0d0d-0e0e0e0e0e0e";
        let object = |version: &str| {
            json!({"metadata": {"uid": uid, "resourceVersion": version, "name": "x-abcdef",
                "creationTimestamp": "2026-01-02T03:04:05Z"}, "spec": {"clusterIP": "10.96.3.4", "nodePort": 30123}})
        };
        let list = json!({"metadata": {"resourceVersion": "99"}, "items": [object("12")]});
        let bodies = vec![object("7"), list, json!({"message": format!("resourceVersion 7, uid {uid}")})];
        let normal: Vec<Value> = expected(&played(bodies)).into_iter().map(|answer| answer["body"].clone()).collect();
        let metadata = &normal[0]["metadata"];
        assert_eq!(metadata["uid"], "<<uid:1>>");
        assert_eq!(metadata["name"], "x-${run}");
        assert_eq!(metadata["creationTimestamp"], "<<time>>");
        assert_eq!(normal[0]["spec"], json!({"clusterIP": "<<ip:1>>", "nodePort": "<<nodePort:1>>"}));
        let versions = [&metadata["resourceVersion"], &normal[1]["items"][0]["metadata"]["resourceVersion"]];
        assert_eq!(versions, ["<<rv:1>>", "<<rv:2>>"]);
        assert_eq!(normal[1]["metadata"]["resourceVersion"], "<<listrv>>");
        assert_eq!(normal[2]["message"], "resourceVersion <<rv:1>>, uid <<uid:1>>");
    }

    #[test]
    fn messages_that_hold_objects_are_normal_too() {
        let object = json!({"metadata": {"resourceVersion": "7"}, "spec": {"clusterIP": "10.96.3.4"}});
        let message = r#"{"resourceVersion":"7","clusterIP":"10.96.3.4","port":7} kube-api-access-x1y2z"#;
        let normal = expected(&played(vec![object, json!({"message": message})]));
        let wanted = r#"{"resourceVersion":"<<rv:1>>","clusterIP":"<<ip:1>>","port":7} kube-api-access-<<gen:1>>"#;
        assert_eq!(normal[1]["body"]["message"], wanted);
    }
}
