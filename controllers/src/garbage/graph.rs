//! Who owns whom, by uid (upstream: `GraphBuilder`). Pure: fed with metadata, answers what to look at.

use std::collections::{BTreeSet, HashMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::core::ApiResource;

/// The finalizers by which a deletion says what becomes of the dependents.
pub(super) const FOREGROUND: &str = "foregroundDeletion";
pub(super) const ORPHAN: &str = "orphan";

/// An object as the collector knows it.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) resource: ApiResource,
    pub(super) namespace: Option<String>,
    pub(super) name: String,
    pub(super) owners: Vec<OwnerReference>,
    pub(super) is_deleted: bool,
    finalizers: Vec<String>,
}

impl Node {
    pub(super) fn new(resource: ApiResource, meta: ObjectMeta) -> Self {
        Self {
            resource,
            namespace: meta.namespace,
            name: meta.name.unwrap_or_default(),
            owners: meta.owner_references.unwrap_or_default(),
            is_deleted: meta.deletion_timestamp.is_some(),
            finalizers: meta.finalizers.unwrap_or_default(),
        }
    }

    /// Its deletion waits for its dependents.
    pub(super) fn deletes_dependents(&self) -> bool {
        self.is_deleted && self.has(FOREGROUND)
    }

    /// Its deletion waits for its dependents to be let go.
    pub(super) fn orphans_dependents(&self) -> bool {
        self.is_deleted && self.has(ORPHAN)
    }

    pub(super) fn has(&self, finalizer: &str) -> bool {
        self.finalizers.iter().any(|known| known == finalizer)
    }

    /// Holds up the deletion of the owner with this uid.
    pub(super) fn blocks(&self, owner: &str) -> bool {
        self.owners.iter().any(|reference| reference.uid == owner && reference.block_owner_deletion == Some(true))
    }

    /// A namespaced object owns only what lies in its namespace.
    fn is_out_of_reach_for(&self, dependent: &Self) -> bool {
        self.namespace.is_some() && self.namespace != dependent.namespace
    }
}

/// Something to look at, named by uid.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Task {
    /// Does the object still have an owner? Can its foreground deletion finish?
    Collect(String),
    /// Let its dependents go.
    Orphan(String),
    /// Tell people that the dependent names an owner of another namespace.
    Tell { dependent: String, owner: String },
}

impl std::fmt::Display for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Collect(uid) => write!(f, "collect {uid}"),
            Self::Orphan(uid) => write!(f, "orphan {uid}"),
            Self::Tell { dependent, owner } => write!(f, "tell that {dependent} cannot be owned by {owner}"),
        }
    }
}

/// All objects with owners or dependents, and those that might get some.
#[derive(Default)]
pub(super) struct Graph {
    nodes: HashMap<String, Node>,
    /// By the owner's uid; the owner itself may be unknown or gone.
    dependents: HashMap<String, BTreeSet<String>>,
}

impl Graph {
    pub(super) fn get(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    /// The uids of what names `uid` as an owner.
    pub(super) fn dependents(&self, uid: &str) -> Vec<String> {
        self.dependents.get(uid).into_iter().flatten().cloned().collect()
    }

    /// Whether the object with this uid is known under the coordinates that the reference (seen from `namespace`) claims.
    pub(super) fn knows(&self, reference: &OwnerReference, namespace: Option<&str>) -> bool {
        self.nodes.get(&reference.uid).is_some_and(|node| {
            let is_visible = node.namespace.is_none() || node.namespace.as_deref() == namespace;
            let group = reference.api_version.split_once('/').map_or("", |(group, _)| group);
            let resource = &node.resource;
            is_visible && node.name == reference.name && resource.kind == reference.kind && resource.group == group
        })
    }

    /// Takes a new or changed object; says what to look at.
    pub(super) fn apply(&mut self, uid: &str, node: Node) -> Vec<Task> {
        let mut tasks = Vec::new();
        let collect = |uid: &String| Task::Collect(uid.clone());
        let old = self.nodes.remove(uid);
        let former: Vec<OwnerReference> = old.as_ref().map(|old| old.owners.clone()).unwrap_or_default();
        for reference in former.iter().filter(|reference| !node.owners.contains(reference)) {
            let is_still = node.owners.iter().any(|known| known.uid == reference.uid);
            if !is_still {
                self.unlink(&reference.uid, uid);
            }
            // An owner that waits for this dependent may go on.
            if self.nodes.get(&reference.uid).is_some_and(Node::deletes_dependents) {
                tasks.push(collect(&reference.uid));
            }
        }
        for reference in &node.owners {
            self.dependents.entry(reference.uid.clone()).or_default().insert(uid.to_owned());
        }
        let is_lost = node.owners.iter().any(|reference| !self.knows(reference, node.namespace.as_deref()));
        let owner_waits =
            node.owners.iter().any(|owner| self.nodes.get(&owner.uid).is_some_and(Node::deletes_dependents));
        if old.as_ref().is_none_or(|old| old.owners != node.owners) {
            // Told first: what is collected can no longer be told of.
            tasks.extend(self.owners_elsewhere(uid, &node));
            if is_lost || owner_waits {
                tasks.push(Task::Collect(uid.to_owned()));
            }
        }
        if old.is_none() {
            tasks.extend(self.dependents_elsewhere(uid, &node));
        }
        if node.deletes_dependents() && !old.as_ref().is_some_and(Node::deletes_dependents) {
            tasks.extend(self.dependents(uid).iter().map(collect));
            tasks.push(Task::Collect(uid.to_owned()));
        }
        if node.orphans_dependents() && !old.as_ref().is_some_and(Node::orphans_dependents) {
            tasks.push(Task::Orphan(uid.to_owned()));
        }
        self.nodes.insert(uid.to_owned(), node);
        tasks
    }

    /// The owners that a dependent names though they are known to live in another namespace.
    fn owners_elsewhere(&self, uid: &str, node: &Node) -> Vec<Task> {
        let is_elsewhere =
            |owner: &&OwnerReference| self.nodes.get(&owner.uid).is_some_and(|known| known.is_out_of_reach_for(node));
        let tell = |owner: &OwnerReference| Task::Tell { dependent: uid.to_owned(), owner: owner.uid.clone() };
        node.owners.iter().filter(is_elsewhere).map(tell).collect()
    }

    /// The dependents in other namespaces that named an owner before it was seen.
    fn dependents_elsewhere(&self, uid: &str, node: &Node) -> Vec<Task> {
        let dependents = self.dependents(uid).into_iter();
        let elsewhere = dependents
            .filter(|dependent| self.nodes.get(dependent).is_some_and(|dependent| node.is_out_of_reach_for(dependent)));
        elsewhere.map(|dependent| Task::Tell { dependent, owner: uid.to_owned() }).collect()
    }

    /// The object is gone; says what to look at.
    pub(super) fn remove(&mut self, uid: &str) -> Vec<Task> {
        let mut tasks = Vec::new();
        if let Some(node) = self.nodes.remove(uid) {
            for reference in &node.owners {
                self.unlink(&reference.uid, uid);
                if self.nodes.get(&reference.uid).is_some_and(Node::deletes_dependents) {
                    tasks.push(Task::Collect(reference.uid.clone()));
                }
            }
        }
        tasks.extend(self.dependents(uid).into_iter().map(Task::Collect));
        tasks
    }

    /// The uids of the known objects of one kind, to find those that a new list no longer has.
    pub(super) fn of_kind(&self, resource: &ApiResource) -> Vec<String> {
        self.nodes.iter().filter(|(_, node)| node.resource == *resource).map(|(uid, _)| uid.clone()).collect()
    }

    fn unlink(&mut self, owner: &str, dependent: &str) {
        if let Some(dependents) = self.dependents.get_mut(owner) {
            dependents.remove(dependent);
            if dependents.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }
}

/// What an owner reference is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// It keeps the dependent.
    Solid,
    /// It is gone.
    Dangling,
    /// It is being deleted and waits for its dependents to go first.
    Waiting,
    /// It cannot be looked for: a cluster-scoped object names an owner of a namespaced kind, and no namespace.
    Unresolvable,
}

/// What to do with an object, given its references.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    Keep,
    /// Remove the references to these uids: other owners keep it.
    Detach(Vec<String>),
    /// Delete it; its own dependents go first if `waits`.
    Delete {
        foreground: bool,
    },
}

/// Decides. An object with at least one solid owner stays, and so does one of whose owners one cannot be looked for:
/// nobody knows whether that one is gone.
pub(super) fn judge(owners: &[(String, Owner)], has_dependents: bool) -> Verdict {
    let of = |wanted: Owner| owners.iter().filter(move |(_, owner)| *owner == wanted);
    if owners.is_empty() || of(Owner::Unresolvable).next().is_some() {
        return Verdict::Keep;
    }
    if of(Owner::Solid).next().is_some() {
        let loose: Vec<String> =
            owners.iter().filter(|(_, owner)| *owner != Owner::Solid).map(|(uid, _)| uid.clone()).collect();
        return if loose.is_empty() { Verdict::Keep } else { Verdict::Detach(loose) };
    }
    Verdict::Delete { foreground: of(Owner::Waiting).next().is_some() && has_dependents }
}

#[cfg(test)]
mod tests {
    use kube::core::GroupVersionKind;

    use super::*;

    fn node(name: &str, owners: &[&str], deletion: Option<&str>) -> Node {
        let reference = |uid: &&str| OwnerReference {
            uid: (*uid).to_owned(),
            name: (*uid).to_owned(),
            kind: "Pod".to_owned(),
            api_version: "v1".to_owned(),
            block_owner_deletion: Some(true),
            controller: None,
        };
        Node {
            resource: ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Pod")),
            namespace: Some("default".to_owned()),
            name: name.to_owned(),
            owners: owners.iter().map(reference).collect(),
            is_deleted: deletion.is_some(),
            finalizers: deletion.into_iter().map(str::to_owned).collect(),
        }
    }

    fn collect(uids: &[&str]) -> Vec<Task> {
        uids.iter().map(|uid| Task::Collect((*uid).to_owned())).collect()
    }

    #[test]
    fn a_dependent_is_looked_at_when_its_owner_is_unknown_or_goes() {
        let mut graph = Graph::default();
        assert_eq!(graph.apply("child", node("child", &["parent"], None)), collect(&["child"]));
        assert_eq!(graph.apply("parent", node("parent", &[], None)), []);
        assert_eq!(graph.apply("child", node("child", &["parent"], None)), [], "nothing changed");
        assert_eq!(graph.remove("parent"), collect(&["child"]));
        assert_eq!(graph.remove("child"), []);
        assert!(graph.dependents.is_empty() && graph.nodes.is_empty());
    }

    #[test]
    fn a_reference_with_the_wrong_name_or_namespace_does_not_hold() {
        let mut graph = Graph::default();
        graph.apply("parent", node("other", &[], None));
        assert_eq!(graph.apply("child", node("child", &["parent"], None)), collect(&["child"]));
    }

    #[test]
    fn an_owner_of_another_namespace_is_told_of_whoever_is_seen_first() {
        let tell = Task::Tell { dependent: "child".into(), owner: "parent".into() };
        let nobody = Task::Collect("child".into());
        for namespace in [None, Some("other".to_owned())] {
            let child = Node { namespace, ..node("child", &["parent"], None) };
            let mut graph = Graph::default();
            assert_eq!(graph.apply("child", child.clone()), std::slice::from_ref(&nobody));
            assert_eq!(graph.apply("parent", node("parent", &[], None)), std::slice::from_ref(&tell));
            assert_eq!(graph.apply("parent", node("parent", &[], None)), [], "once");
            let mut graph = Graph::default();
            graph.apply("parent", node("parent", &[], None));
            assert_eq!(graph.apply("child", child.clone()), [tell.clone(), nobody.clone()]);
            assert_eq!(graph.apply("child", child), [], "once");
        }
    }

    #[test]
    fn a_cluster_scoped_owner_reaches_every_namespace() {
        let mut graph = Graph::default();
        graph.apply("parent", Node { namespace: None, ..node("parent", &[], None) });
        assert_eq!(graph.apply("child", node("child", &["parent"], None)), []);
    }

    #[test]
    fn foreground_deletion_looks_at_dependents_and_goes_on_when_they_are_gone() {
        let mut graph = Graph::default();
        graph.apply("parent", node("parent", &[], None));
        graph.apply("child", node("child", &["parent"], None));
        assert_eq!(graph.apply("parent", node("parent", &[], Some(FOREGROUND))), collect(&["child", "parent"]));
        assert!(graph.get("child").unwrap().blocks("parent"));
        assert_eq!(graph.remove("child"), collect(&["parent"]));
    }

    #[test]
    fn an_orphaning_deletion_is_a_task_of_its_own() {
        let mut graph = Graph::default();
        graph.apply("parent", node("parent", &[], None));
        assert_eq!(graph.apply("parent", node("parent", &[], Some(ORPHAN))), [Task::Orphan("parent".into())]);
    }

    #[test]
    fn verdicts_follow_the_owners() {
        use Owner::{Dangling, Solid, Unresolvable, Waiting};
        let check = |owners: &[Owner], has_dependents, expected: Verdict| {
            let named: Vec<_> = owners.iter().enumerate().map(|(at, owner)| (at.to_string(), *owner)).collect();
            assert_eq!(judge(&named, has_dependents), expected, "{owners:?}");
        };
        check(&[], false, Verdict::Keep);
        check(&[Solid], true, Verdict::Keep);
        check(&[Solid, Dangling, Waiting], true, Verdict::Detach(vec!["1".into(), "2".into()]));
        check(&[Dangling], true, Verdict::Delete { foreground: false });
        check(&[Waiting], false, Verdict::Delete { foreground: false });
        check(&[Waiting], true, Verdict::Delete { foreground: true });
        check(&[Unresolvable], false, Verdict::Keep);
        check(&[Dangling, Unresolvable], false, Verdict::Keep);
        check(&[Solid, Dangling, Unresolvable], false, Verdict::Keep);
    }
}
