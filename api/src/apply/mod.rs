//! Field ownership: `metadata.managedFields` for every write, and server-side apply.
//!
//! ```text
//!  create, update, patch: decoded, defaulted object --> track_update --> object with managedFields --> prepare, commit
//!  apply:   configuration --> apply (merge, prune, conflicts) --> object with managedFields --> default, prepare, commit
//! ```
//!
//! Tracking runs on the decoded and defaulted object, before mutating admission and before the registry prepares it:
//! what the server itself decides (`generation`, a Service's `clusterIP`, the volumes that admission adds to a Pod) has
//! no owner. What a path cannot write (`status` beside `/status`) must already be as in the live object.

mod configuration;
mod error;
mod managers;
mod merge;
mod prune;
mod scale;
mod set;
mod shape;
mod validate;
mod walk;
mod writer;

pub use configuration::merge_configuration;
pub use error::{ApplyError, Conflict};
pub use scale::{ScalePaths, scale_from_parent, scale_to_parent};
pub use writer::Writer;

use serde_json::Value;

use crate::codec::{canonicalize, settle};
use crate::object::Object;
use crate::schema::SchemaRef;
use managers::{ManagerId, Managers, Operation, Owner, cap, decode, encode, show_time};
use set::{FieldSet, Step, show_path};
use walk::{compare, field_set};

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// An object after an apply.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// The merged object with its `managedFields`, in canonical form, not yet defaulted; the live object when nothing has
    /// changed.
    pub object: Object,
    /// Whether anything differs from the live object (times in `managedFields` aside). When not, nothing is written.
    pub changed: bool,
}

/// Brings `new` into canonical form and records in it who owns what after a create (`live` is `None`), update or patch.
/// `live` must be in canonical form, as all that is stored is.
///
/// `managedFields` that the client sent replace the recorded ones when they are well formed; one empty entry resets
/// them, and an object without them stays so.
pub fn track_update(live: Option<&Object>, new: &mut Object, schema: SchemaRef<'_>, writer: &Writer<'_>) {
    let mut managers = base_managers(live, new, writer);
    new.metadata_mut().remove("managedFields");
    if managers.is_empty() && live.is_some() {
        return;
    }
    canonicalize(new, schema);
    let id = writer.id(Operation::Update);
    match live {
        Some(live) => record(&mut managers, live, new, id, schema, writer),
        None => record(&mut managers, &writer.empty_object(schema), new, id, schema, writer),
    }
    set_managed_fields(new, &managers);
}

/// The managers before this update.
fn base_managers(live: Option<&Object>, new: &Object, writer: &Writer<'_>) -> Managers {
    let recorded = || {
        let entries = live.and_then(|live| live.get(&["metadata", "managedFields"]));
        // What cannot be read is forgotten, as in the reference.
        decode(entries).unwrap_or_default()
    };
    if !writer.subresource.is_empty() {
        return recorded();
    }
    let sent = new.get(&["metadata", "managedFields"]);
    if is_reset(sent) {
        return Managers::new();
    }
    match decode(sent) {
        Ok(sent) if !sent.is_empty() => sent,
        _ => recorded(),
    }
}

/// A list of one empty entry asks to forget all owners.
fn is_reset(entries: Option<&Value>) -> bool {
    matches!(entries.and_then(Value::as_array).map(Vec::as_slice), Some([Value::Object(entry)]) if entry.is_empty())
}

/// Gives the fields that differ between `old` and `new` to `id`, and takes them from all others.
fn record(
    managers: &mut Managers,
    old: &Object,
    new: &Object,
    id: ManagerId,
    schema: SchemaRef<'_>,
    writer: &Writer<'_>,
) {
    let comparison = compare(Some(old.root()), Some(new.root()), schema);
    let written = writer.owned(comparison.written);
    let removed = writer.owned(comparison.removed);
    for owner in managers.values_mut() {
        owner.set.subtract(&written);
        owner.set.subtract(&removed);
    }
    if !written.is_empty() {
        let owner = managers.entry(id).or_insert_with(|| writer.owner(FieldSet::default()));
        owner.set.absorb(written);
        owner.time = Some(show_time(writer.now));
    }
    managers.retain(|_, owner| !owner.set.is_empty());
    cap(managers);
}

/// Applies a configuration to the live object, or makes the object when there is none.
pub fn apply(
    live: Option<&Object>,
    patch: &Object,
    schema: SchemaRef<'_>,
    writer: &Writer<'_>,
    force: bool,
) -> Result<Applied, ApplyError> {
    check_configuration(patch, schema, writer)?;
    let entries = live.and_then(|live| live.get(&["metadata", "managedFields"]));
    let former = decode(entries).map_err(ApplyError::BadManagedFields)?;
    let mut managers = former.clone();
    let empty = writer.empty_object(schema);
    let old = live.map_or_else(|| empty.clone(), |live| canonical(plain(live), schema));
    if let (true, true) = (managers.is_empty(), live.is_some()) {
        let id = ManagerId::new("before-first-apply", Operation::Update, writer.api_version, writer.subresource);
        record(&mut managers, &empty, &old, id, schema, writer);
    }
    let old = old.into_value();
    let applied = writer.configuration(patch);
    let merged = match merge_applied(&old, &applied, managers.clone(), schema, writer, force) {
        Err(ApplyError::Conflicts(conflicts)) if writer.manager == "kubectl" => {
            let allowed = live.map(|live| last_applied(live, schema)).unwrap_or_default();
            let refused: Vec<Conflict> =
                conflicts.into_iter().filter(|conflict| !allowed.contains(&conflict.path)).collect();
            if !refused.is_empty() {
                return Err(ApplyError::Conflicts(refused));
            }
            merge_applied(&old, &applied, managers, schema, writer, true)?
        }
        outcome => outcome?,
    };
    let (mut object, managers) = merged;
    if writer.manager == "kubectl" {
        refresh_last_applied(&mut object, patch);
    }
    if let Some(live) = live
        && same_owners(&former, &managers)
        && *object.as_value() == old
    {
        return Ok(Applied { object: live.clone(), changed: false });
    }
    set_managed_fields(&mut object, &managers);
    Ok(Applied { object, changed: true })
}

fn check_configuration(patch: &Object, schema: SchemaRef<'_>, writer: &Writer<'_>) -> Result<(), ApplyError> {
    let kind = show_kind(patch.api_version(), patch.kind());
    if patch.api_version() != writer.api_version || patch.kind() != writer.kind {
        return Err(ApplyError::WrongKind(kind));
    }
    if patch.get(&["metadata", "managedFields"]).is_some_and(|fields| !fields.is_null()) {
        return Err(ApplyError::ManagedFieldsGiven);
    }
    let named = || format!("{}/{}; {kind}", patch.namespace(), patch.name());
    validate::check(patch.as_value(), schema).map_or(Ok(()), |why| Err(ApplyError::Untyped(named(), why)))
}

/// Group, version and kind as Go prints them: `apps/v1, Kind=Deployment`, `/v1, Kind=Pod`.
fn show_kind(api_version: &str, kind: &str) -> String {
    let slash = if api_version.contains('/') { "" } else { "/" };
    format!("{slash}{api_version}, Kind={kind}")
}

/// Merges, prunes, brings what came of it into canonical form, and settles who owns what.
///
/// What a configuration says in another form than the live object (`0.5` for `500m`, an empty list for none) is no
/// change, and in nobody's way.
fn merge_applied(
    old: &Value,
    applied: &Value,
    mut managers: Managers,
    schema: SchemaRef<'_>,
    writer: &Writer<'_>,
    force: bool,
) -> Result<(Object, Managers), ApplyError> {
    let id = writer.id(Operation::Apply);
    let last = managers.remove(&id);
    let named = field_set(applied, schema);
    let last_time = last.as_ref().and_then(|last| last.time.clone());
    let merged = merge::merge(old, applied, schema);
    let last = last.map(|last| last.set).unwrap_or_default();
    // What a configuration names keeps the structs around it, also where nobody can own it: the name, above all.
    managers.insert(id.clone(), writer.owner(writer.writable(named.clone())));
    let merged = prune::prune(merged, &managers, &last, schema);
    let mut owner = writer.owner(writer.owned(named));
    owner.time = last_time;
    managers.insert(id.clone(), owner);

    let comparison = compare(old.as_object(), merged.as_object(), schema);
    let written = writer.owned(comparison.written);
    let removed = writer.owned(comparison.removed);
    let new = settled(merged.clone(), schema, writer)?;
    let comparison = compare(old.as_object(), Some(new.root()), schema);
    let mut changed = comparison.written;
    changed.absorb(comparison.removed);
    let written = written.intersection(&changed);

    let mut conflicts = Vec::new();
    for (other, owner) in managers.iter_mut().filter(|(other, _)| **other != id) {
        let disputed = owner.set.intersection(&written);
        let conflict = |path: Vec<Step>| Conflict { manager: other.to_string(), path: show_path(&path) };
        conflicts.extend(disputed.paths().into_iter().map(conflict));
        owner.set.subtract(&disputed);
        owner.set.subtract(&removed);
    }
    if !force && !conflicts.is_empty() {
        return Err(ApplyError::Conflicts(conflicts));
    }
    if let (true, Some(owner)) = (*old != merged, managers.get_mut(&id)) {
        owner.time = Some(show_time(writer.now));
    }
    managers.retain(|_, owner| !owner.set.is_empty());
    Ok((new, managers))
}

/// What has been merged, as the typed object that upstream makes of it would print it: nulls and empty values of optional
/// fields vanish, quantities and times are in canonical form. Custom objects have no typed form, and stay as they are.
fn settled(merged: Value, schema: SchemaRef<'_>, writer: &Writer<'_>) -> Result<Object, ApplyError> {
    settle(merged, schema).map_err(|why| ApplyError::Unconvertible {
        kind: show_kind(writer.api_version, writer.kind),
        why: why.to_string(),
    })
}

/// The paths that client-side apply set last: kubectl may take them over without force.
fn last_applied(live: &Object, schema: SchemaRef<'_>) -> Vec<String> {
    let annotation = live.annotation(LAST_APPLIED).unwrap_or_default();
    let Ok(configuration) = serde_json::from_str::<Value>(annotation) else { return Vec::new() };
    field_set(&configuration, schema).paths().iter().map(|path| show_path(path)).collect()
}

/// Keeps the annotation of client-side apply in step, where there is one.
fn refresh_last_applied(object: &mut Object, patch: &Object) {
    if object.annotation(LAST_APPLIED).is_none_or(str::is_empty) {
        return;
    }
    let mut configuration = patch.clone();
    configuration.remove(&["metadata", "annotations", LAST_APPLIED]);
    object.set(&["metadata", "annotations", LAST_APPLIED], format!("{}\n", configuration.into_value()));
}

fn same_owners(a: &Managers, b: &Managers) -> bool {
    let same = |(id, owner): (&ManagerId, &Owner)| {
        b.get(id).is_some_and(|other| other.set == owner.set && other.api_version == owner.api_version)
    };
    a.len() == b.len() && a.iter().all(same)
}

fn set_managed_fields(object: &mut Object, managers: &Managers) {
    if managers.is_empty() {
        object.metadata_mut().remove("managedFields");
    } else {
        object.set_metadata("managedFields", encode(managers));
    }
}

/// The object without its `managedFields`.
fn plain(object: &Object) -> Object {
    let mut object = object.clone();
    object.remove(&["metadata", "managedFields"]);
    object
}

/// The object in the form in which objects compare: as their typed form would print them. In it "absent" and "empty" are
/// what they are in the reference, where an empty object already has its plain structs, and these are never "added".
/// Values of CRDs stay as they are.
fn canonical(mut object: Object, schema: SchemaRef<'_>) -> Object {
    canonicalize(&mut object, schema);
    object
}

#[cfg(test)]
mod tests;
