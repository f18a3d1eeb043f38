//! Conversations by chance: an object is made, read, changed in every way that there is, by two managers, rightly and
//! wrongly, for real and as a trial, and deleted.

use std::collections::BTreeMap;

use api::Resource;
use api::catalog::Catalog;
use api::codec::yaml;
use api::resource::Verb;
use serde_json::{Map, Value, json};

use super::conversation::{Conversation, Step};
use super::play::{remove, set};
use super::random::Random;
use super::values::{Change, Values};

/// A small valid object of every resource.
const OBJECTS: &str = include_str!("../../../apiserver/tests/api/minimal_objects.yaml");
/// Kinds that act on the requests of others, or whose objects a server changes when it sees fit.
const LEFT_OUT: [&str; 16] = [
    "APIService",
    "CertificateSigningRequest",
    "CustomResourceDefinition",
    "Event",
    "FlowSchema",
    "IPAddress",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding",
    "MutatingWebhookConfiguration",
    "Namespace",
    "PriorityLevelConfiguration",
    "ServiceCIDR",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "ValidatingWebhookConfiguration",
    "VolumeAttachment",
];
/// Fields that would change what others get.
const LEFT_ALONE: [&str; 2] = ["/globalDefault", "/metadata/finalizers"];
const JSON: &str = "application/json";
const JSON_PATCH: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";
/// The label of everything that a conversation makes.
const LABEL: &str = "differ";

/// Resources that conversations can be about, with a valid object of each.
pub fn subjects(only: &[String]) -> Vec<Subject> {
    // YAML would take the braces of a variable for its own.
    let documents = OBJECTS.replace("$NAME", "x-named-here").replace("$NUMBER", "7");
    let named = |object: Value| serde_json::from_str(&object.to_string().replace("x-named-here", "x-${run}")).ok();
    let objects: Vec<Value> = documents
        .split("\n---\n")
        .filter_map(|document| named(yaml::parse(document.as_bytes()).ok()?.0.into_value()))
        .collect();
    let verbs = [Verb::Create, Verb::Get, Verb::List, Verb::Update, Verb::Patch, Verb::Delete];
    let catalog = Catalog::builtin();
    let rows =
        catalog.iter().filter(|row| verbs.iter().all(|verb| row.allows(*verb)) && !LEFT_OUT.contains(&&*row.kind));
    rows.filter(|row| only.is_empty() || only.iter().any(|plural| *plural == *row.plural))
        .filter_map(|row| {
            let own = |object: &&Value| object["apiVersion"] == row.api_version() && object["kind"] == *row.kind;
            let mut object = objects.iter().find(own)?.clone();
            object.as_object_mut()?.remove("status");
            object["metadata"]["labels"] = json!({LABEL: "${run}", "app": "x"});
            Some(Subject { row: (**row).clone(), object })
        })
        .collect()
}

/// What a conversation is about.
#[derive(Clone, Debug)]
pub struct Subject {
    row: Resource,
    /// A valid object, without a namespace.
    object: Value,
}

impl Subject {
    /// The resource, in the plural.
    pub fn name(&self) -> &str {
        &self.row.plural
    }

    /// A conversation of so many steps after the first.
    pub fn conversation(&self, seed: u64, steps: usize) -> Conversation {
        let mut random = Random::new(seed);
        let mut making = Making { subject: self, random: &mut random, base: self.object.clone() };
        let mut all = vec![making.create()];
        for _ in 0..steps {
            all.push(making.step());
        }
        let namespace = |name: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
        let setup = vec![
            Step::new("", "POST", "/api/v1/namespaces").with(JSON, namespace("${ns}")),
            Step::new("", "POST", "/api/v1/namespaces/${ns}/serviceaccounts").with(JSON, account),
        ];
        let cleanup = vec![Step::new("", "DELETE", self.path("")), Step::new("", "DELETE", "/api/v1/namespaces/${ns}")];
        Conversation {
            name: format!("{}-{seed}", self.row.plural),
            vars: BTreeMap::from([("ns".to_owned(), "differ-${run}".to_owned())]),
            setup,
            steps: all,
            cleanup,
        }
    }

    fn collection(&self) -> String {
        let root = if self.row.group.is_empty() { "api".to_owned() } else { format!("apis/{}", self.row.group) };
        let namespace = if self.row.namespaced { "/namespaces/${ns}" } else { "" };
        format!("/{root}/{}{namespace}/{}", self.row.version, self.row.plural)
    }

    fn path(&self, subresource: &str) -> String {
        format!("{}/x-${{run}}{subresource}", self.collection())
    }
}

struct Making<'a> {
    subject: &'a Subject,
    random: &'a mut Random,
    /// What the object looks like, as far as that can be known without a server.
    base: Value,
}

impl Making<'_> {
    fn create(&mut self) -> Step {
        let step = Step::new("create", "POST", self.subject.collection()).with(JSON, self.base.clone());
        capturing(step)
    }

    fn step(&mut self) -> Step {
        match self.random.below(14) {
            0 => Step::new("get", "GET", self.subject.path("")),
            1 => self.list(),
            2 => self.create_changed(),
            3 | 4 => self.put(),
            5 | 6 => self.merge_patch(),
            7 => self.json_patch(),
            8 => self.strategic_patch(),
            9..=11 => self.apply(),
            12 => self.status(),
            _ => self.delete(),
        }
    }

    /// Two or fewer changes of the object.
    fn changes(&mut self) -> Vec<Change> {
        let count = 1 + self.random.below(2);
        let mut object = self.base.clone();
        let mut changes = Vec::new();
        for _ in 0..count {
            let change = Values { random: self.random }.change(&object, self.subject.row.schema());
            if LEFT_ALONE.iter().any(|field| change.pointer.ends_with(field)) {
                continue;
            }
            make(&mut object, &change);
            changes.push(change);
        }
        changes
    }

    fn changed(&mut self) -> Value {
        let mut object = self.base.clone();
        self.changes().iter().for_each(|change| make(&mut object, change));
        object
    }

    /// Parameters of a write.
    fn query(&mut self) -> String {
        let mut words = Vec::new();
        if self.random.chance(20) {
            words.push((*self.random.pick(&["dryRun=All", "dryRun=All", "dryRun=Some"])).to_owned());
        }
        if self.random.chance(40) {
            words.push(format!("fieldManager={}", self.random.pick(&["alice", "bob"])));
        }
        if self.random.chance(40) {
            words.push(format!("fieldValidation={}", self.random.pick(&["Strict", "Warn", "Ignore", "Strict"])));
        }
        if words.is_empty() { String::new() } else { format!("?{}", words.join("&")) }
    }

    fn list(&mut self) -> Step {
        let selector = *self.random.pick(&[
            ",app=x",
            ",app%20in%20(y)",
            ",!app",
            ",app!=x&limit=1",
            ",app=(",
            "&fieldSelector=metadata.name=x-${run}",
            "&fieldSelector=metadata.name!=x-${run}",
            "&fieldSelector=spec.nothing=1",
            "&resourceVersion=0",
            "&resourceVersionMatch=Exact",
            "&limit=-1",
            "&timeoutSeconds=x",
        ]);
        Step::new("list", "GET", format!("{}?labelSelector={LABEL}=${{run}}{selector}", self.subject.collection()))
    }

    fn create_changed(&mut self) -> Step {
        let mut object = self.changed();
        if self.random.chance(50) {
            object["metadata"]["name"] = "y-${run}".into();
        }
        // Whatever it makes is not kept: nobody would remove it.
        let query = self.query().replace("dryRun=Some", "dryRun=All");
        let separator = if query.is_empty() { "?" } else { "&" };
        let query = if query.contains("dryRun") { query } else { format!("{query}{separator}dryRun=All") };
        Step::new("create another", "POST", format!("{}{query}", self.subject.collection())).with(JSON, object)
    }

    fn put(&mut self) -> Step {
        let mut sets = Map::new();
        let mut unset = Vec::new();
        for change in self.changes() {
            match change.value {
                Some(value) => drop(sets.insert(change.pointer, value)),
                None => unset.push(Value::from(change.pointer)),
            }
        }
        match self.random.below(8) {
            0 => drop(sets.insert("/metadata/resourceVersion".into(), "1".into())),
            1 => drop(sets.insert("/metadata/uid".into(), "0a0a0a0a-0b0b-0c0c-0d0d-0e0e0e0e0e0e".into())),
            2 => unset.push("/metadata/resourceVersion".into()),
            3 => drop(sets.insert("/unknown".into(), json!({"a": 1}))),
            _ => {}
        }
        let body = json!({"$use": "obj", "$set": sets, "$unset": unset});
        let path = format!("{}{}", self.subject.path(""), self.query());
        capturing(Step::new("put", "PUT", path).with(JSON, body))
    }

    fn merge_patch(&mut self) -> Step {
        let mut patch = json!({});
        for change in self.changes() {
            set(&mut patch, &without_positions(&change.pointer), change.value.unwrap_or_default());
        }
        let path = format!("{}{}", self.subject.path(""), self.query());
        capturing(Step::new("merge patch", "PATCH", path).with(MERGE, patch))
    }

    fn strategic_patch(&mut self) -> Step {
        let target = self.changed();
        let mut patch = difference(&self.base, &target);
        if self.random.chance(10) {
            patch["metadata"]["$patch"] = "replace".into();
        }
        let path = format!("{}{}", self.subject.path(""), self.query());
        capturing(Step::new("strategic patch", "PATCH", path).with(STRATEGIC, patch))
    }

    fn json_patch(&mut self) -> Step {
        let mut operations = Vec::new();
        for change in self.changes() {
            operations.push(match change.value {
                Some(value) if self.random.chance(70) => json!({"op": "add", "path": change.pointer, "value": value}),
                Some(value) => json!({"op": "replace", "path": change.pointer, "value": value}),
                None => json!({"op": "remove", "path": change.pointer}),
            });
        }
        if self.random.chance(20) {
            let kind = if self.random.chance(50) { self.base["kind"].clone() } else { "Other".into() };
            operations.insert(0, json!({"op": "test", "path": "/kind", "value": kind}));
        }
        let path = format!("{}{}", self.subject.path(""), self.query());
        capturing(Step::new("json patch", "PATCH", path).with(JSON_PATCH, operations.into()))
    }

    fn apply(&mut self) -> Step {
        let mut object = self.changed();
        if self.random.chance(30) {
            object["metadata"]["labels"] = json!({LABEL: "${run}", "of": self.random.pick(&["alice", "bob"])});
        }
        let manager = *self.random.pick(&["alice", "bob"]);
        let force = if self.random.chance(40) { "&force=true" } else { "" };
        let trial = if self.random.chance(15) { "&dryRun=All" } else { "" };
        let path = format!("{}?fieldManager={manager}{force}{trial}", self.subject.path(""));
        capturing(Step::new(format!("apply as {manager}"), "PATCH", path).with(APPLY, object))
    }

    fn status(&mut self) -> Step {
        let has_status = self.subject.row.subresources.iter().any(|sub| sub.name == "status");
        let Some(schema) = self.subject.row.schema().field("status").filter(|_| has_status) else {
            return Step::new("get", "GET", self.subject.path("/status"));
        };
        let change = Values { random: self.random }.change(&json!({}), schema);
        let mut patch = json!({});
        let pointer = without_positions(&change.pointer);
        let pointer = if pointer.starts_with("/metadata") { pointer } else { format!("/status{pointer}") };
        set(&mut patch, &pointer, change.value.unwrap_or_default());
        capturing(Step::new("patch the status", "PATCH", self.subject.path("/status")).with(MERGE, patch))
    }

    fn delete(&mut self) -> Step {
        let mut options = json!({"apiVersion": "v1", "kind": "DeleteOptions"});
        match self.random.below(6) {
            0 => options["preconditions"] = json!({"uid": "0a0a0a0a-0b0b-0c0c-0d0d-0e0e0e0e0e0e"}),
            1 => options["preconditions"] = json!({"uid": "${uid}", "resourceVersion": "1"}),
            2 => options["preconditions"] = json!({"uid": "${uid}"}),
            3 => options["propagationPolicy"] = (*self.random.pick(&["Orphan", "Foreground", "Wrong"])).into(),
            4 => options["dryRun"] = json!(["All"]),
            _ => options["gracePeriodSeconds"] = 0.into(),
        }
        Step::new("delete", "DELETE", self.subject.path("")).with(JSON, options)
    }
}

/// Keeps what was answered for the steps that follow.
fn capturing(mut step: Step) -> Step {
    for (name, pointer) in [("obj", ""), ("uid", "/metadata/uid")] {
        step.capture.insert(name.to_owned(), pointer.to_owned());
    }
    step
}

fn make(object: &mut Value, change: &Change) {
    match &change.value {
        Some(value) => set(object, &change.pointer, value.clone()),
        None => remove(object, &change.pointer),
    }
}

/// A pointer up to the first position in a list: a merge patch replaces lists.
fn without_positions(pointer: &str) -> String {
    let parts = pointer.split('/').take_while(|part| part.is_empty() || part.parse::<usize>().is_err());
    parts.collect::<Vec<_>>().join("/")
}

/// The merge patch that makes one object another.
fn difference(from: &Value, to: &Value) -> Value {
    let (Value::Object(from), Value::Object(to)) = (from, to) else { return to.clone() };
    let mut patch = Map::new();
    for (name, value) in to {
        match from.get(name) {
            Some(known) if known == value => {}
            Some(known) => drop(patch.insert(name.clone(), difference(known, value))),
            None => drop(patch.insert(name.clone(), value.clone())),
        }
    }
    for name in from.keys().filter(|name| !to.contains_key(*name)) {
        patch.insert(name.clone(), Value::Null);
    }
    patch.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_makes_one_conversation() {
        let subjects = subjects(&["deployments".to_owned()]);
        let [deployments] = subjects.as_slice() else { panic!("one resource: {subjects:?}") };
        let conversation = deployments.conversation(7, 20);
        assert_eq!(conversation, deployments.conversation(7, 20));
        assert_ne!(conversation.steps, deployments.conversation(8, 20).steps);
        assert_eq!(conversation.steps.len(), 21);
        let methods: std::collections::BTreeSet<&str> =
            conversation.steps.iter().map(|step| step.method.as_str()).collect();
        assert!(methods.len() >= 4, "{methods:?}");
    }

    #[test]
    fn most_resources_can_be_talked_about() {
        let subjects = subjects(&[]);
        assert!(subjects.len() > 35, "{:?}", subjects.iter().map(Subject::name).collect::<Vec<_>>());
        assert!(subjects.iter().all(|subject| !LEFT_OUT.contains(&&*subject.row.kind)));
    }

    #[test]
    fn a_difference_is_a_merge_patch() {
        let (from, to) = (json!({"a": {"b": 1, "c": 2}, "d": 1}), json!({"a": {"b": 1, "c": 3}, "e": []}));
        assert_eq!(difference(&from, &to), json!({"a": {"c": 3}, "d": null, "e": []}));
        assert_eq!(without_positions("/spec/list/0/name"), "/spec/list");
    }
}
