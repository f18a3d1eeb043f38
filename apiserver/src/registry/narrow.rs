//! What a write to a subresource changes: its own part of the object, and nothing else (upstream's strategies of status,
//! and `GetResetFields`).

use api::strategy::STATUS_METADATA;
use api::{Object, Resource};
use serde_json::{Map, Value};

/// Whether it is decided what a write to a subresource changes before it is recorded who owns that. The subresources of a
/// pod's spec are the exception: whoever sends more than they take owns it all the same, as in the reference.
pub(super) fn narrows_first(subresource: &str) -> bool {
    !matches!(subresource, "ephemeralcontainers" | "resize")
}

/// Takes back what a write to a subresource does not change: everything but its own part.
pub(super) fn narrow(row: &Resource, subresource: &str, new: &mut Object, old: &Object) {
    match subresource {
        "status" => restore_all_but(new, old, &["status"], row.strategy.status_metadata()),
        "approval" => restore_all_but(new, old, &["status"], &STATUS_METADATA),
        "finalize" => restore_all_but(new, old, &["spec", "finalizers"], &[]),
        "ephemeralcontainers" => restore_all_but(new, old, &["spec", "ephemeralContainers"], &[]),
        "resize" => restore_resources(new, old),
        _ => {}
    }
}

/// A resize changes the resources of the pod and of containers and how they are resized, and nothing else of the spec.
/// Containers that are not those of before stay, for validation to refuse them.
fn restore_resources(new: &mut Object, old: &Object) {
    const LISTS: [&str; 2] = ["containers", "initContainers"];
    let list = |object: &Object, list: &str| -> Vec<Value> {
        object.get(&["spec", list]).and_then(Value::as_array).cloned().unwrap_or_default()
    };
    let wanted = LISTS.map(|name| list(new, name));
    restore_all_but(new, old, &["spec", "resources"], &[]);
    let had = LISTS.map(|name| list(old, name));
    let others = wanted.iter().zip(&had).any(|(wanted, had)| wanted.len() != had.len());
    for ((name, wanted), had) in LISTS.into_iter().zip(wanted).zip(had) {
        if wanted.is_empty() && had.is_empty() {
            continue;
        }
        let renamed = wanted.iter().zip(&had).any(|(wanted, had)| wanted["name"] != had["name"]);
        let kept = if others || renamed { wanted } else { with_resources(had, &wanted) };
        new.set(&["spec", name], kept);
    }
}

/// The containers of before, with the resources that are wanted.
fn with_resources(mut had: Vec<Value>, wanted: &[Value]) -> Vec<Value> {
    for (container, wanted) in had.iter_mut().zip(wanted) {
        let Some(container) = container.as_object_mut() else { continue };
        for key in ["resources", "resizePolicy"] {
            match wanted.get(key) {
                Some(value) => drop(container.insert(key.to_owned(), value.clone())),
                None => drop(container.remove(key)),
            }
        }
    }
    had
}

/// A subresource changes its own part, and in the metadata who owns what and the fields of `kept`.
fn restore_all_but(new: &mut Object, old: &Object, part: &[&str], kept: &[&'static str]) {
    let own = new.remove(part);
    let always = ["managedFields", "resourceVersion", "uid"];
    let metadata: Vec<(&str, Option<Value>)> =
        always.iter().chain(kept).map(|name| (*name, new.metadata_mut().remove(*name))).collect();
    replace_differing(new.root_mut(), old.root());
    match own {
        Some(own) => new.set(part, own),
        None => {
            new.remove(part);
        }
    }
    for (name, value) in metadata {
        match value {
            Some(value) => new.set_metadata(name, value),
            None => {
                new.metadata_mut().remove(name);
            }
        }
    }
}

/// Makes `new` what `old` is. Mostly little differs, and only that is copied.
fn replace_differing(new: &mut Map<String, Value>, old: &Map<String, Value>) {
    new.retain(|name, _| old.contains_key(name));
    for (name, value) in old {
        match new.get_mut(name) {
            Some(Value::Object(mine)) if value.is_object() => {
                value.as_object().into_iter().for_each(|theirs| replace_differing(mine, theirs));
            }
            Some(mine) if mine == value => {}
            _ => {
                new.insert(name.clone(), value.clone());
            }
        }
    }
}

/// Makes a field what it was.
pub(super) fn restore(new: &mut Object, old: &Object, field: &str) {
    match old.root().get(field) {
        Some(value) => {
            new.root_mut().insert(field.to_owned(), value.clone());
        }
        None => {
            new.root_mut().remove(field);
        }
    }
}
