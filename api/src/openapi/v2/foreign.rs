//! Documents of other servers, made part of this one's. What they define under a name that means something else here gets
//! another name. Upstream: kube-openapi's `MergeSpecsIgnorePathConflictRenamingDefinitionsAndParameters`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{Places, components, definition_of};
use crate::openapi::custom::{self, Language};

const DEFINITIONS: &str = "#/definitions/";
const PARAMETERS: &str = "#/parameters/";
const KINDS: &str = "x-kubernetes-group-version-kind";

/// What belongs to one group and version of another server's document.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Foreign {
    paths: Map<String, Value>,
    definitions: Map<String, Value>,
    parameters: Map<String, Value>,
}

impl Foreign {
    /// Reads a document that may say anything: only paths of the version and its group count, and what these lead to.
    /// `None` if there are no such paths.
    pub fn read(mut document: Value, group: &str, version: &str) -> Option<Self> {
        let of_group = format!("/apis/{group}/");
        let of_version = format!("{of_group}{version}/");
        let mut paths = taken(&mut document, "paths");
        paths.retain(|path, _| *path == of_group || path.starts_with(&of_version));
        if paths.is_empty() {
            return None;
        }
        let mut foreign = Self {
            paths,
            definitions: taken(&mut document, "definitions"),
            parameters: taken(&mut document, "parameters"),
        };
        foreign.forget_what_nothing_leads_to();
        Some(foreign)
    }

    /// As a document that [`Self::read`] reads.
    pub fn to_value(&self) -> Value {
        json!({"paths": self.paths, "definitions": self.definitions, "parameters": self.parameters})
    }

    fn forget_what_nothing_leads_to(&mut self) {
        let mut used = Used::default();
        self.paths.values().for_each(|value| used.look_at(value));
        while let Some((is_parameter, name)) = used.next.pop() {
            let named = if is_parameter { self.parameters.get(&name) } else { self.definitions.get(&name) };
            if let Some(value) = named {
                used.look_at(value);
            }
        }
        self.parameters.retain(|name, _| used.seen.contains(&(true, name.clone())));
        self.definitions.retain(|name, _| used.seen.contains(&(false, name.clone())));
    }

    fn rename(&mut self, new_names: &BTreeMap<String, String>) {
        for part in [&mut self.paths, &mut self.definitions, &mut self.parameters] {
            part.values_mut().for_each(|value| redirect(value, new_names));
        }
        let definitions = std::mem::take(&mut self.definitions).into_iter();
        self.definitions =
            definitions.map(|(name, value)| (new_names.get(&name).cloned().unwrap_or(name), value)).collect();
    }
}

fn taken(document: &mut Value, part: &str) -> Map<String, Value> {
    match document.get_mut(part).map(Value::take) {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

/// References that were found; whether it is one to a parameter, and its name.
#[derive(Default)]
struct Used {
    seen: BTreeSet<(bool, String)>,
    next: Vec<(bool, String)>,
}

impl Used {
    fn look_at(&mut self, value: &Value) {
        match value {
            Value::Array(list) => list.iter().for_each(|inner| self.look_at(inner)),
            Value::Object(map) => {
                let target = map.get("$ref").and_then(Value::as_str);
                let found = target.and_then(|target| {
                    let definition = target.strip_prefix(DEFINITIONS).map(|name| (false, name.to_owned()));
                    definition.or_else(|| target.strip_prefix(PARAMETERS).map(|name| (true, name.to_owned())))
                });
                if let Some(found) = found.filter(|found| !self.seen.contains(found)) {
                    self.seen.insert(found.clone());
                    self.next.push(found);
                }
                map.values().for_each(|inner| self.look_at(inner));
            }
            _ => {}
        }
    }
}

/// Lets references to definitions lead to the new names of these.
fn redirect(value: &mut Value, new_names: &BTreeMap<String, String>) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(|inner| redirect(inner, new_names)),
        Value::Object(map) => {
            if let Some(Value::String(target)) = map.get_mut("$ref")
                && let Some(name) = target.strip_prefix(DEFINITIONS).and_then(|name| new_names.get(name))
            {
                *target = format!("{DEFINITIONS}{name}");
            }
            map.values_mut().for_each(|inner| redirect(inner, new_names));
        }
        _ => {}
    }
}

/// What is written beside what this server says of itself.
#[derive(Clone, Debug, Default)]
pub struct Merged {
    pub(super) paths: Map<String, Value>,
    pub(super) definitions: Map<String, Value>,
    pub(super) parameters: Map<String, Value>,
    /// Definitions that both have, and the kinds that the others know of them besides.
    pub(super) shared: BTreeMap<String, Vec<Value>>,
}

impl Merged {
    /// Puts documents together, one after the other.
    pub fn of(places: &Places, documents: impl IntoIterator<Item = Foreign>) -> Self {
        let mut merged = Self::default();
        for document in documents {
            let own = own_definitions(places, document.definitions.keys());
            merged.add(document, &own);
        }
        // What this server says of a version or group of its own is what counts.
        let place = |path: &str| path.split('/').filter(|step| !step.is_empty()).take(3).collect::<Vec<_>>().join("/");
        merged.paths.retain(|path, _| places.hash(&place(path)).is_none());
        merged
    }

    fn add(&mut self, mut document: Foreign, own: &Map<String, Value>) {
        let mut new_names = BTreeMap::new();
        let mut known = Vec::new();
        for (name, definition) in &document.definitions {
            let Some(other) = own.get(name).or_else(|| self.definitions.get(name)) else { continue };
            if is_same(other, definition) {
                known.push(name.clone());
                self.share(name, other.clone(), definition);
                continue;
            }
            let (new, is_known) = self.name_for(name, definition, (own, &document.definitions));
            if is_known {
                known.push(name.clone());
            }
            new_names.insert(name.clone(), new);
        }
        for name in known {
            document.definitions.remove(&name);
        }
        document.rename(&new_names);
        for (whole, part) in [
            (&mut self.paths, document.paths),
            (&mut self.definitions, document.definitions),
            (&mut self.parameters, document.parameters),
        ] {
            for (name, value) in part {
                whole.entry(name).or_insert(value);
            }
        }
    }

    /// A name that is free, or under which another document has brought the same, and whether that is so.
    fn name_for(
        &self,
        name: &str,
        definition: &Value,
        (own, others): (&Map<String, Value>, &Map<String, Value>),
    ) -> (String, bool) {
        let mut number = 2_u32;
        loop {
            let new = format!("{name}_v{number}");
            match self.definitions.get(&new) {
                Some(known) if is_same(known, definition) => return (new, true),
                None if !own.contains_key(&new) && !others.contains_key(&new) => return (new, false),
                _ => number += 1,
            }
        }
    }

    /// Both mean the same by a name; what one of them knows more of is kept.
    fn share(&mut self, name: &str, own: Value, other: &Value) {
        let known = kinds(&own).chain(self.shared.get(name).into_iter().flatten());
        let known: Vec<Value> = known.cloned().collect();
        let more: Vec<Value> = kinds(other).filter(|kind| !known.contains(kind)).cloned().collect();
        match self.definitions.get_mut(name).and_then(Value::as_object_mut) {
            Some(definition) => add_kinds(definition, &more),
            None => self.shared.entry(name.to_owned()).or_default().extend(more),
        }
    }
}

/// Adds kinds to those of a definition.
pub(super) fn add_kinds(definition: &mut Map<String, Value>, more: &[Value]) {
    if more.is_empty() {
        return;
    }
    if let Some(list) = definition.entry(KINDS).or_insert_with(|| json!([])).as_array_mut() {
        list.extend_from_slice(more);
    }
}

fn kinds(definition: &Value) -> impl Iterator<Item = &Value> {
    definition.get(KINDS).and_then(Value::as_array).into_iter().flatten()
}

/// Whether definitions are the same but for the kinds that they name.
fn is_same(one: &Value, other: &Value) -> bool {
    let (Value::Object(one), Value::Object(other)) = (one, other) else { return one == other };
    let parts = |map: &Map<String, Value>| map.iter().filter(|(name, _)| *name != KINDS).count();
    parts(one) == parts(other)
        && one.iter().filter(|(name, _)| *name != KINDS).all(|(name, value)| other.get(name) == Some(value))
}

/// What this server says under these names.
fn own_definitions<'a>(places: &Places, names: impl Iterator<Item = &'a String>) -> Map<String, Value> {
    let names: BTreeSet<String> = names.cloned().collect();
    let mut own = Map::new();
    for row in places.by_name.values().flat_map(|place| &place.rows).filter(|row| row.is_custom()) {
        let name = definition_of(row);
        let list = format!("{name}List");
        if names.contains(&list) {
            own.insert(list, custom::list(row, Language::V2));
        }
        if names.contains(&name) {
            own.insert(name, custom::schema(row, Language::V2));
        }
    }
    own.extend(components::of(&[], names, &super::everywhere(places), Language::V2));
    own
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;

    const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

    fn wardle(definitions: Value) -> Value {
        let answer = json!({"200": {"schema": {"$ref": "#/definitions/wardle.Flunder"}}});
        let path = "/apis/wardle.example.com/v1alpha1/flunders";
        let get = json!({"responses": answer, "parameters": [{"$ref": "#/parameters/pretty-x"}]});
        json!({
            "paths": {path: {"get": get}, "/apis/apps/v1/deployments": {"get": {}}, "/evil": {}},
            "parameters": {"pretty-x": {"name": "pretty", "in": "query"}, "unused-y": {}},
            "definitions": definitions,
        })
    }

    fn read(definitions: Value) -> Foreign {
        Foreign::read(wardle(definitions), "wardle.example.com", "v1alpha1").expect("there are paths")
    }

    fn reference(name: &str) -> Value {
        json!({"$ref": format!("{DEFINITIONS}{name}")})
    }

    #[test]
    fn only_what_belongs_to_the_version_is_read() {
        let flunder = json!({"properties": {"next": reference("wardle.Flunder"), "other": reference("wardle.Other")}});
        let read = read(json!({"wardle.Flunder": flunder, "wardle.Other": {}, "wardle.Unused": {}}));
        let names = |map: &Map<String, Value>| map.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&read.paths), ["/apis/wardle.example.com/v1alpha1/flunders"]);
        assert_eq!(names(&read.definitions), ["wardle.Flunder", "wardle.Other"]);
        assert_eq!(names(&read.parameters), ["pretty-x"]);
        assert_eq!(Foreign::read(read.to_value(), "wardle.example.com", "v1alpha1"), Some(read));
        for odd in [json!(7), json!({"paths": []}), json!({"paths": {"/apis/wardle.example.com/v1": {}}})] {
            assert_eq!(Foreign::read(odd, "wardle.example.com", "v1alpha1"), None);
        }
    }

    #[test]
    fn what_means_something_else_here_gets_another_name() {
        let places = Places::of(&Catalog::builtin());
        let meta = format!("{META}.ObjectMeta");
        let flunder = json!({"properties": {"metadata": reference(&meta)}});
        let document = || read(json!({"wardle.Flunder": flunder, &meta: {"description": "of old"}}));
        let merged = Merged::of(&places, [document(), document()]);
        assert_eq!(merged.definitions[&format!("{meta}_v2")], json!({"description": "of old"}));
        let target = &merged.definitions["wardle.Flunder"]["properties"]["metadata"];
        assert_eq!(*target, reference(&format!("{meta}_v2")));
        assert!(!merged.definitions.contains_key(&meta));
    }

    #[test]
    fn what_means_the_same_is_said_once_with_the_kinds_of_both() {
        let places = Places::of(&Catalog::builtin());
        let name = format!("{META}.Status");
        let mut status = own_definitions(&places, [name.clone()].iter())[&name].clone();
        let kind = json!({"group": "wardle.example.com", "version": "v1alpha1", "kind": "Status"});
        status[KINDS] = json!([kind]);
        let flunder = json!({"properties": {"status": reference(&name)}});
        let merged = Merged::of(&places, [read(json!({"wardle.Flunder": flunder, &name: status}))]);
        assert_eq!(merged.shared, BTreeMap::from([(name, vec![kind])]));
        assert_eq!(merged.definitions.len(), 1);
    }
}
