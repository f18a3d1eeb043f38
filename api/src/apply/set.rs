//! Sets of fields, as `managedFields` stores them (`FieldsV1`).

use std::cmp::Ordering;
use std::fmt;

use serde_json::{Map, Value};

use crate::resource::Text;

/// One step of a path into an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// A field of a struct or an entry of a map.
    Field(Text),
    /// The element of a list that has these values (as JSON) under these keys, sorted by key.
    Key(Vec<(String, String)>),
    /// The element of a set that is this value (as JSON).
    Value(String),
    /// The element at this position.
    Index(usize),
}

impl Step {
    /// The step to the element with these values under these keys.
    pub(super) fn key(mut keys: Vec<(String, String)>) -> Self {
        keys.sort();
        Self::Key(keys)
    }

    /// The step as a key of `FieldsV1`: `f:spec`, `k:{"name":"a"}`, `v:"x"`, `i:0`.
    fn encode(&self) -> String {
        match self {
            Self::Field(name) => ["f:", name].concat(),
            Self::Value(value) => ["v:", value].concat(),
            Self::Index(index) => format!("i:{index}"),
            Self::Key(keys) => {
                let entries: Vec<String> =
                    keys.iter().map(|(name, value)| format!("{}:{value}", Value::from(name.as_str()))).collect();
                format!("k:{{{}}}", entries.join(","))
            }
        }
    }

    fn decode(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        match kind {
            "f" => Some(Self::Field(rest.to_owned().into())),
            "v" => Some(Self::Value(scalar(&serde_json::from_str(rest).ok()?))),
            "i" => Some(Self::Index(rest.parse().ok()?)),
            "k" => {
                let keys: Map<String, Value> = serde_json::from_str(rest).ok()?;
                Some(Self::key(keys.iter().map(|(name, value)| (name.clone(), scalar(value))).collect()))
            }
            _ => None,
        }
    }
}

/// A value as text that is the same for equal values.
pub(super) fn scalar(value: &Value) -> String {
    match value.as_f64() {
        // 80.0 and 80 are one key.
        Some(float) if value.is_f64() && float.fract() == 0.0 && float.abs() < 1e15 => format!("{float:.0}"),
        _ => value.to_string(),
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Value(value) => write!(f, "[={value}]"),
            Self::Index(index) => write!(f, "[{index}]"),
            Self::Key(keys) => {
                let entries: Vec<String> = keys.iter().map(|(name, value)| format!("{name}={value}")).collect();
                write!(f, "[{}]", entries.join(","))
            }
        }
    }
}

/// A path as error texts show it: `.spec.containers[name="a"].image`.
pub(super) fn show_path(path: &[Step]) -> String {
    path.iter().map(ToString::to_string).collect()
}

/// A set of paths: its first steps, sorted, and what it holds below each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FieldSet(Vec<(Step, Node)>);

/// What a set holds at and below one step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Node {
    /// Whether the path that ends here is in the set.
    pub(super) member: bool,
    pub(super) below: FieldSet,
}

impl Node {
    /// Whether nothing is in the set, here or below.
    pub(super) fn is_empty(&self) -> bool {
        !self.member && self.below.is_empty()
    }

    /// Adds what another node holds.
    fn absorb(&mut self, other: Self) {
        self.member |= other.member;
        self.below.absorb(other.below);
    }
}

/// Nodes of the same step are united; those that hold nothing are left out.
impl FromIterator<(Step, Node)> for FieldSet {
    fn from_iter<I: IntoIterator<Item = (Step, Node)>>(nodes: I) -> Self {
        let mut nodes: Vec<(Step, Node)> = nodes.into_iter().filter(|(_, node)| !node.is_empty()).collect();
        nodes.sort_by(|(one, _), (other, _)| one.cmp(other));
        nodes.dedup_by(|(later, theirs), (step, ours)| {
            later == step && {
                ours.absorb(std::mem::take(theirs));
                true
            }
        });
        Self(nodes)
    }
}

impl FieldSet {
    /// Whether the set holds no path.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds what is at and below a step that comes after all others here; nothing, when that is nothing.
    pub(super) fn push(&mut self, step: Step, node: Node) {
        debug_assert!(self.0.last().is_none_or(|(last, _)| *last < step), "steps are pushed in order");
        if !node.is_empty() {
            self.0.push((step, node));
        }
    }

    /// Adds a path; the empty path is not kept.
    pub(super) fn insert(&mut self, path: &[Step]) {
        let Some((first, rest)) = path.split_first() else { return };
        let at = self.position(first).unwrap_or_else(|at| {
            self.0.insert(at, (first.clone(), Node::default()));
            at
        });
        let node = &mut self.0[at].1;
        if rest.is_empty() {
            node.member = true;
        } else {
            node.below.insert(rest);
        }
    }

    fn position(&self, step: &Step) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| known.cmp(step))
    }

    /// What the set holds at and below `step`.
    pub(super) fn node(&self, step: &Step) -> Option<&Node> {
        self.position(step).ok().map(|at| &self.0[at].1)
    }

    /// All first steps.
    pub(super) fn nodes_mut(&mut self) -> impl Iterator<Item = (&Step, &mut Node)> {
        self.0.iter_mut().map(|(step, node)| (&*step, node))
    }

    /// Adds the paths of another set.
    pub(super) fn absorb(&mut self, other: Self) {
        if self.is_empty() {
            *self = other;
            return;
        }
        let ours = std::mem::take(&mut self.0);
        self.0.reserve(ours.len().max(other.0.len()));
        let (mut ours, mut theirs) = (ours.into_iter().peekable(), other.0.into_iter().peekable());
        while let (Some((our_step, _)), Some((their_step, _))) = (ours.peek(), theirs.peek()) {
            let order = our_step.cmp(their_step);
            let ours = if order == Ordering::Greater { None } else { ours.next() };
            let theirs = if order == Ordering::Less { None } else { theirs.next() };
            self.0.extend(match (ours, theirs) {
                (Some((step, mut node)), Some((_, other))) => {
                    node.absorb(other);
                    Some((step, node))
                }
                (one, other) => one.or(other),
            });
        }
        self.0.extend(ours);
        self.0.extend(theirs);
    }

    /// Takes the paths of another set out of this one.
    pub(super) fn subtract(&mut self, other: &Self) {
        if other.is_empty() {
            return;
        }
        self.0.retain_mut(|(step, node)| {
            if let Some(theirs) = other.node(step) {
                node.member &= !theirs.member;
                node.below.subtract(&theirs.below);
            }
            !node.is_empty()
        });
    }

    /// Takes out one path of fields, not what is below it.
    pub(super) fn remove(&mut self, path: &[&str]) {
        let Some((first, rest)) = path.split_first() else { return };
        let found = self.0.binary_search_by(|(step, _)| match step {
            Step::Field(name) => name.as_ref().cmp(first),
            // Fields come before all others.
            _ => Ordering::Greater,
        });
        let Ok(at) = found else { return };
        let node = &mut self.0[at].1;
        if rest.is_empty() {
            node.member = false;
        } else {
            node.below.remove(rest);
        }
        if node.is_empty() {
            self.0.remove(at);
        }
    }

    /// Paths that are in this set and not in the other one.
    #[must_use]
    pub(super) fn difference(mut self, other: &Self) -> Self {
        self.subtract(other);
        self
    }

    /// Paths that are in both sets.
    #[must_use]
    pub(super) fn intersection(&self, other: &Self) -> Self {
        let shared = |(step, ours): &(Step, Node)| {
            let theirs = other.node(step)?;
            let node = Node { member: ours.member && theirs.member, below: ours.below.intersection(&theirs.below) };
            Some((step.clone(), node))
        };
        self.0.iter().filter_map(shared).collect()
    }

    /// Removes the fields of the root that `keep` does not accept, and everything below them.
    pub(super) fn retain_fields(&mut self, keep: impl Fn(&str) -> bool) {
        self.0.retain(|(step, _)| if let Step::Field(name) = step { keep(name) } else { true });
    }

    /// All paths: at each level those that end there, then those that go on.
    pub(super) fn paths(&self) -> Vec<Vec<Step>> {
        let mut paths = Vec::new();
        self.collect_paths(&mut Vec::new(), &mut paths);
        paths
    }

    fn collect_paths(&self, prefix: &mut Vec<Step>, paths: &mut Vec<Vec<Step>>) {
        for (step, _) in self.0.iter().filter(|(_, node)| node.member) {
            prefix.push(step.clone());
            paths.push(prefix.clone());
            prefix.pop();
        }
        for (step, node) in &self.0 {
            prefix.push(step.clone());
            node.below.collect_paths(prefix, paths);
            prefix.pop();
        }
    }

    /// The set as `FieldsV1`: a member without anything below is `{}`, one with something below has `".": {}`.
    pub(super) fn encode(&self) -> Value {
        let mut map = Map::new();
        for (step, node) in &self.0 {
            let mut below = node.below.encode();
            if let (true, false, Value::Object(below)) = (node.member, node.below.is_empty(), &mut below) {
                below.insert(".".to_owned(), Value::Object(Map::new()));
            }
            map.insert(step.encode(), below);
        }
        Value::Object(map)
    }

    /// Reads `FieldsV1`; `None` when it is malformed.
    pub(super) fn decode(fields: &Value) -> Option<Self> {
        let node = |(key, below): (&String, &Value)| {
            let empty = below.as_object()?.is_empty();
            let node = Node { member: empty || below.get(".").is_some(), below: Self::decode(below)? };
            Some((Step::decode(key)?, node))
        };
        fields.as_object()?.iter().filter(|(key, _)| *key != ".").map(node).collect()
    }
}

/// A path of fields.
#[cfg(test)]
pub(super) fn fields(names: &[&str]) -> Vec<Step> {
    names.iter().map(|name| Step::Field((*name).to_owned().into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            "[a-c]".prop_map(|name| Step::Field(name.into())),
            (0_usize..2).prop_map(Step::Index),
            "[a-c]".prop_map(|text| Step::Value(format!("\"{text}\""))),
            ("[a-b]", 0_u8..2).prop_map(|(name, value)| Step::Key([(name, value.to_string())].into())),
        ]
    }

    fn any_set() -> impl Strategy<Value = FieldSet> {
        prop::collection::vec(prop::collection::vec(any_step(), 1..4), 0..6).prop_map(|paths| {
            let mut set = FieldSet::default();
            paths.iter().for_each(|path| set.insert(path));
            set
        })
    }

    fn union(mut one: FieldSet, other: &FieldSet) -> FieldSet {
        one.absorb(other.clone());
        one
    }

    #[test]
    fn a_path_of_fields_can_be_taken_out_alone() {
        let mut set = FieldSet::decode(&json!({"f:a": {".": {}, "f:b": {}}, "v:\"a\"": {}})).unwrap();
        set.remove(&["a"]);
        set.remove(&["x", "y"]);
        assert_eq!(set.encode(), json!({"f:a": {"f:b": {}}, "v:\"a\"": {}}));
        set.remove(&["a", "b"]);
        assert_eq!(set.encode(), json!({"v:\"a\"": {}}));
    }

    #[test]
    fn two_spellings_of_a_step_are_one() {
        let set = FieldSet::decode(&json!({"v:80": {}, "v:80.0": {}})).unwrap();
        assert_eq!(set.paths().len(), 1);
    }

    #[test]
    fn encodes_as_fields_v1() {
        let encoded = json!({
            "f:spec": {"f:containers": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:image": {}}}, "f:replicas": {}},
            "f:metadata": {"f:finalizers": {".": {}, "v:\"x\"": {}}}
        });
        let set = FieldSet::decode(&encoded).unwrap();
        assert_eq!(set.encode(), encoded);
        let shown: Vec<String> = set.paths().iter().map(|path| show_path(path)).collect();
        assert_eq!(
            shown,
            [
                ".metadata.finalizers",
                r#".metadata.finalizers[="x"]"#,
                ".spec.replicas",
                r#".spec.containers[containerPort=80,protocol="TCP"]"#,
                r#".spec.containers[containerPort=80,protocol="TCP"].image"#,
            ]
        );
    }

    #[test]
    fn malformed_sets_are_refused() {
        for bad in
            [json!(1), json!({"x:a": {}}), json!({"f:a": 1}), json!({"k:[]": {}}), json!({"i:x": {}}), json!({"a": {}})]
        {
            assert_eq!(FieldSet::decode(&bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn encoding_loses_nothing(set in any_set()) {
            prop_assert_eq!(FieldSet::decode(&set.encode()), Some(set));
        }

        #[test]
        fn set_algebra_holds(a in any_set(), b in any_set()) {
            let both = a.intersection(&b);
            prop_assert_eq!(union(a.clone().difference(&b), &both), a.clone());
            prop_assert!(a.clone().difference(&b).intersection(&b).is_empty());
            prop_assert_eq!(union(a.clone(), &b), union(b.clone(), &a));
        }
    }
}
