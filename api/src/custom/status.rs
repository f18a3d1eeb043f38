//! The status of a CustomResourceDefinition: which names it got, and its conditions.

use std::collections::HashSet;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::definition::{text, texts};
use crate::kinds::rules::naming;
use crate::object::Object;

/// Keeps a definition until its objects are gone.
pub const CLEANUP_FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";
/// Says that a group of Kubernetes' own may be used.
pub(crate) const APPROVAL_ANNOTATION: &str = "api-approved.kubernetes.io";

/// The names that definitions of a group have got. A definition may meet its own names here.
#[derive(Clone, Debug, Default)]
pub struct UsedNames {
    /// Plurals, singulars and short names.
    resources: HashSet<String>,
    /// Kinds and kinds of lists.
    kinds: HashSet<String>,
}

impl UsedNames {
    /// The names of the definitions of `group`.
    pub fn of<'a>(group: &str, definitions: impl IntoIterator<Item = &'a Object>) -> Self {
        let mut used = Self::default();
        for definition in definitions.into_iter().filter(|definition| definition.text(&["spec", "group"]) == group) {
            let Some(names) = definition.get(&["status", "acceptedNames"]) else { continue };
            used.resources.extend(["plural", "singular"].map(|key| text(names, key).to_owned()));
            used.resources.extend(texts(names, "shortNames").map(str::to_owned));
            used.kinds.extend(["kind", "listKind"].map(|key| text(names, key).to_owned()));
        }
        used
    }
}

/// A condition's status, reason and message.
struct Outcome {
    holds: bool,
    reason: &'static str,
    message: String,
}

impl Outcome {
    fn new(holds: bool, reason: &'static str, message: impl Into<String>) -> Self {
        Self { holds, reason, message: message.into() }
    }
}

/// Whether clients can use the resource.
pub fn is_established(definition: &Object) -> bool {
    definition.has_condition("Established")
}

/// Brings the status of a definition up to date: names, `NamesAccepted`, `Established` and the approval.
pub fn refresh(definition: &mut Object, used: &UsedNames, now: Timestamp) {
    let (names, accepted) = accept(definition, used);
    definition.set(&["status", "acceptedNames"], names);
    let all_accepted = accepted.holds;
    set_condition(definition, "NamesAccepted", accepted, now);
    if !is_established(definition) {
        let established = if all_accepted {
            Outcome::new(true, "InitialNamesAccepted", "the initial names have been accepted")
        } else {
            Outcome::new(false, "NotAccepted", "not all names are accepted")
        };
        set_condition(definition, "Established", established, now);
    }
    let approval = approval(definition);
    match approval {
        Some(approval) => set_condition(definition, "KubernetesAPIApprovalPolicyConformant", approval, now),
        None => drop_condition(definition, "KubernetesAPIApprovalPolicyConformant"),
    }
}

/// The names that the definition gets: those that it asks for, as far as nobody else has them.
fn accept(definition: &Object, used: &UsedNames) -> (Value, Outcome) {
    let none = Value::Null;
    let asked = definition.get(&["spec", "names"]).unwrap_or(&none);
    let had = definition.get(&["status", "acceptedNames"]).unwrap_or(&none);
    let mut got = had.as_object().cloned().unwrap_or_else(Map::new);
    let mut conflict = None;
    let places = [
        ("plural", &used.resources, "PluralConflict"),
        ("singular", &used.resources, "SingularConflict"),
        ("shortNames", &used.resources, "ShortNamesConflict"),
        ("kind", &used.kinds, "KindConflict"),
        ("listKind", &used.kinds, "ListKindConflict"),
    ];
    for (key, taken, reason) in places {
        match taken_names(asked, had, key, taken).as_slice() {
            [] => put(&mut got, key, asked),
            [one] => conflict = Some((reason, in_use(one))),
            several => {
                let texts: Vec<String> = several.iter().map(|name| in_use(name)).collect();
                conflict = Some((reason, format!("[{}]", texts.join(", "))));
            }
        }
    }
    put(&mut got, "categories", asked);
    let outcome = match conflict {
        None => Outcome::new(true, "NoConflicts", "no conflicts found"),
        Some((reason, message)) => Outcome::new(false, reason, message),
    };
    (Value::Object(got), outcome)
}

/// The names under `key` that somebody else has.
fn taken_names<'a>(asked: &'a Value, had: &Value, key: &str, taken: &HashSet<String>) -> Vec<&'a str> {
    if key == "shortNames" {
        let own: Vec<&str> = texts(had, key).collect();
        return texts(asked, key).filter(|name| !own.contains(name) && taken.contains(*name)).collect();
    }
    let name = text(asked, key);
    if name != text(had, key) && taken.contains(name) { vec![name] } else { Vec::new() }
}

fn in_use(name: &str) -> String {
    format!("{name:?} is already in use")
}

fn put(got: &mut Map<String, Value>, key: &str, asked: &Value) {
    match asked.get(key) {
        Some(value) => {
            got.insert(key.to_owned(), value.clone());
        }
        None => {
            got.remove(key);
        }
    }
}

/// Whether a definition in a group of Kubernetes' own has been approved; `None` in other groups.
fn approval(definition: &Object) -> Option<Outcome> {
    if !is_protected(definition.text(&["spec", "group"])) {
        return None;
    }
    let annotation = definition.annotation(APPROVAL_ANNOTATION).unwrap_or("");
    let see = "see https://github.com/kubernetes/enhancements/pull/1111";
    Some(match Approval::of(annotation) {
        Approval::Missing => {
            let why = format!("protected groups must have approval annotation {APPROVAL_ANNOTATION:?}, {see}");
            Outcome::new(false, "MissingAnnotation", why)
        }
        Approval::Unapproved => Outcome::new(false, "UnapprovedAnnotation", format!("not approved: {annotation:?}")),
        Approval::Approved => Outcome::new(true, "ApprovedAnnotation", format!("approved in {annotation}")),
        Approval::Invalid => Outcome::new(false, "InvalidAnnotation", invalid_approval()),
    })
}

/// What the approval annotation says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Approval {
    Missing,
    Unapproved,
    Approved,
    Invalid,
}

impl Approval {
    pub(crate) fn of(annotation: &str) -> Self {
        let is_url = annotation.split_once("://").is_some_and(|(scheme, rest)| {
            scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && !rest.is_empty() && !rest.starts_with('/')
        });
        match annotation {
            "" => Self::Missing,
            _ if annotation.starts_with("unapproved") => Self::Unapproved,
            _ if is_url => Self::Approved,
            _ => Self::Invalid,
        }
    }
}

/// Why an approval cannot be read.
pub(crate) fn invalid_approval() -> String {
    format!(
        "protected groups must have approval annotation {APPROVAL_ANNOTATION:?} with either a URL or a reason starting \
         with \"unapproved\", see https://github.com/kubernetes/enhancements/pull/1111"
    )
}

/// Whether a group is one of Kubernetes' own.
pub(crate) fn is_protected(group: &str) -> bool {
    ["k8s.io", "kubernetes.io"].iter().any(|own| group == *own || group.ends_with(&format!(".{own}")))
}

/// Says that the deletion of the objects waits to begin, goes on, or is over.
pub fn set_terminating(definition: &mut Object, phase: &Terminating, now: Timestamp) {
    let outcome = match phase {
        Terminating::Pending => Outcome::new(
            true,
            "InstanceDeletionPending",
            "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
        ),
        Terminating::InProgress => {
            Outcome::new(true, "InstanceDeletionInProgress", "CustomResource deletion is in progress")
        }
        Terminating::Failed(why) => Outcome::new(true, "InstanceDeletionFailed", why.as_str()),
        Terminating::Completed => Outcome::new(false, "InstanceDeletionCompleted", "removed all instances"),
    };
    set_condition(definition, "Terminating", outcome, now);
}

/// How far the deletion of the objects of a definition has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Terminating {
    Pending,
    InProgress,
    Failed(String),
    Completed,
}

fn set_condition(definition: &mut Object, kind: &str, outcome: Outcome, now: Timestamp) {
    let status = if outcome.holds { "True" } else { "False" };
    let old = definition.condition(kind).filter(|old| text(old, "status") == status);
    let since = old.map(|old| text(old, "lastTransitionTime")).filter(|since| !since.is_empty());
    let since = since.map_or_else(|| naming::time(now), str::to_owned);
    let new = json!({
        "type": kind, "status": status, "lastTransitionTime": since, "reason": outcome.reason, "message": outcome.message,
    });
    let mut conditions = conditions(definition);
    match conditions.iter_mut().find(|condition| text(condition, "type") == kind) {
        Some(place) => *place = new,
        None => conditions.push(new),
    }
    definition.set(&["status", "conditions"], conditions);
}

fn drop_condition(definition: &mut Object, kind: &str) {
    if definition.condition(kind).is_some() {
        let mut conditions = conditions(definition);
        conditions.retain(|condition| text(condition, "type") != kind);
        definition.set(&["status", "conditions"], conditions);
    }
}

fn conditions(definition: &Object) -> Vec<Value> {
    definition.get(&["status", "conditions"]).and_then(Value::as_array).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(plural: &str, names: &Value) -> Object {
        let mut object = Object::from_value(json!({
            "metadata": {"name": format!("{plural}.example.com")},
            "spec": {"group": "example.com", "names": names},
            "status": {"acceptedNames": {"plural": "", "kind": ""}, "conditions": null},
        }))
        .unwrap();
        object.set(&["spec", "names", "plural"], plural);
        object
    }

    fn refreshed(plural: &str, names: &Value, others: &[&Object]) -> Object {
        let mut object = definition(plural, names);
        refresh(&mut object, &UsedNames::of("example.com", others.iter().copied()), Timestamp::UNIX_EPOCH);
        object
    }

    #[test]
    fn the_first_definition_gets_its_names() {
        let names = json!({"singular": "one", "kind": "One", "listKind": "OneList", "shortNames": ["o"]});
        let first = refreshed("ones", &names, &[]);
        assert!(is_established(&first));
        assert_eq!(first.get(&["status", "acceptedNames", "shortNames"]), Some(&json!(["o"])));
        let mut again = first.clone();
        refresh(&mut again, &UsedNames::of("example.com", [&first]), Timestamp::MAX);
        assert_eq!(again, first, "its own names are no conflict, and nothing changed");
    }

    #[test]
    fn names_that_are_taken_are_not_accepted() {
        let names = json!({"singular": "one", "kind": "One", "listKind": "OneList", "shortNames": ["o"]});
        let first = refreshed("ones", &names, &[]);
        let second = refreshed("twos", &json!({"singular": "two", "kind": "One", "listKind": "TwoList"}), &[&first]);
        assert!(!is_established(&second));
        let accepted = second.condition("NamesAccepted").unwrap();
        assert_eq!(
            (text(accepted, "reason"), text(accepted, "message")),
            ("KindConflict", "\"One\" is already in use")
        );
        let short = json!({"singular": "three", "kind": "Three", "listKind": "ThreeList", "shortNames": ["o"]});
        let third = refreshed("threes", &short, &[&first, &second]);
        assert_eq!(text(third.condition("NamesAccepted").unwrap(), "reason"), "ShortNamesConflict");
        assert_eq!(text(third.condition("Established").unwrap(), "reason"), "NotAccepted");
    }

    #[test]
    fn groups_of_kubernetes_tell_whether_they_are_approved() {
        let outcome = |annotation: &str| {
            let mut object = definition("ones", &json!({"kind": "One"}));
            object.set(&["spec", "group"], "x.k8s.io");
            object.set(&["metadata", "annotations", APPROVAL_ANNOTATION], annotation);
            refresh(&mut object, &UsedNames::default(), Timestamp::UNIX_EPOCH);
            let found = object.condition("KubernetesAPIApprovalPolicyConformant").unwrap();
            (text(found, "status").to_owned(), text(found, "reason").to_owned())
        };
        assert_eq!(outcome("https://github.com/x"), ("True".to_owned(), "ApprovedAnnotation".to_owned()));
        assert_eq!(outcome("unapproved, try"), ("False".to_owned(), "UnapprovedAnnotation".to_owned()));
        assert_eq!(outcome(""), ("False".to_owned(), "MissingAnnotation".to_owned()));
        assert_eq!(outcome("nobody"), ("False".to_owned(), "InvalidAnnotation".to_owned()));
    }
}
