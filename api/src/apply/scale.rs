//! Ownership through `/scale`: a `Scale` is written with an owner of its one field, which is the owner of the parent's
//! replicas.

use super::managers::{ManagerId, Managers, Owner, decode, encode};
use super::set::{FieldSet, Step};
use crate::object::Object;

const SCALE_VERSION: &str = "autoscaling/v1";

/// Where a kind keeps what its `Scale` shows.
#[derive(Clone, Copy, Debug)]
pub struct ScalePaths<'a> {
    /// The version of the parent in this request: `apps/v1`.
    pub api_version: &'a str,
    /// The path of the replicas in the parent: `["spec", "replicas"]`.
    pub replicas: &'a [&'a str],
}

impl ScalePaths<'_> {
    fn in_parent(&self) -> FieldSet {
        path_set(self.replicas)
    }
}

fn path_set(names: &[&str]) -> FieldSet {
    let mut set = FieldSet::default();
    set.insert(&names.iter().map(|name| Step::Field((*name).to_owned().into())).collect::<Vec<_>>());
    set
}

fn read(object: &Object) -> Managers {
    decode(object.get(&["metadata", "managedFields"])).unwrap_or_default()
}

fn write(object: &mut Object, managers: &Managers) {
    if managers.is_empty() {
        object.metadata_mut().remove("managedFields");
    } else {
        object.set_metadata("managedFields", encode(managers));
    }
}

/// Gives `scale` the `managedFields` that follow from the parent's, before the scale is updated or applied.
pub fn scale_from_parent(parent: &Object, scale: &mut Object, paths: &ScalePaths<'_>) {
    let replicas = paths.in_parent();
    let owners = read(parent).into_iter().filter(|(_, owner)| !owner.set.intersection(&replicas).is_empty());
    let owners = owners.map(|(id, owner)| {
        let id = ManagerId::new(&id.manager, id.operation, SCALE_VERSION, &id.subresource);
        (id, Owner { set: path_set(&["spec", "replicas"]), api_version: SCALE_VERSION.to_owned(), time: owner.time })
    });
    write(scale, &owners.collect());
}

/// Carries the owners of a written scale over to the parent. Managers that own the replicas of the parent and not of
/// the scale lose them.
///
/// Upstream records no owner when the scale of a built-in kind is *updated* (only when it is applied): pass a scale
/// without `managedFields` then.
pub fn scale_to_parent(parent: &mut Object, scale: &Object, paths: &ScalePaths<'_>) {
    let replicas = paths.in_parent();
    let owns_scale = |owner: &Owner| !owner.set.intersection(&path_set(&["spec", "replicas"])).is_empty();
    let mut scale_owners: Managers = read(scale).into_iter().filter(|(_, owner)| owns_scale(owner)).collect();
    let mut owners = read(parent);
    for (id, owner) in &mut owners {
        let in_scale = ManagerId::new(&id.manager, id.operation, SCALE_VERSION, &id.subresource);
        let owns = !owner.set.intersection(&replicas).is_empty();
        if owns && scale_owners.remove(&in_scale).is_none() {
            owner.set.subtract(&replicas);
        }
    }
    for (id, _) in scale_owners {
        let id = ManagerId::new(&id.manager, id.operation, paths.api_version, &id.subresource);
        let new = Owner { set: FieldSet::default(), api_version: paths.api_version.to_owned(), time: None };
        let owner = owners.entry(id).or_insert(new);
        owner.set.absorb(replicas.clone());
    }
    owners.retain(|_, owner| !owner.set.is_empty());
    write(parent, &owners);
}

#[cfg(test)]
mod tests {
    use super::super::managers::Operation;
    use super::super::{Writer, apply};
    use super::*;
    use serde_json::{Value, json};

    const PATHS: ScalePaths<'_> = ScalePaths { api_version: "apps/v1", replicas: &["spec", "replicas"] };

    fn entry(manager: &str, operation: Operation, version: &str, subresource: &str, fields: Value) -> Value {
        let operation = if operation == Operation::Apply { "Apply" } else { "Update" };
        let mut entry = json!({"manager": manager, "operation": operation, "apiVersion": version, "fieldsType": "FieldsV1", "fieldsV1": fields});
        if !subresource.is_empty() {
            entry["subresource"] = subresource.into();
        }
        entry
    }

    fn object(entries: Value) -> Object {
        Object::from_value(json!({"metadata": {"managedFields": entries}})).unwrap()
    }

    #[test]
    fn an_untracked_update_takes_the_replicas_from_their_owner() {
        let fields = json!({"f:spec": {"f:replicas": {}, "f:selector": {}}});
        let mut parent = object(json!([entry("a", Operation::Update, "apps/v1", "", fields)]));
        scale_to_parent(&mut parent, &Object::default(), &PATHS);
        let left = json!([entry("a", Operation::Update, "apps/v1", "", json!({"f:spec": {"f:selector": {}}}))]);
        assert_eq!(parent.get(&["metadata", "managedFields"]), Some(&left));
    }

    #[test]
    fn the_owner_of_a_scale_owns_the_replicas_of_its_parent() {
        let fields = json!({"f:spec": {"f:replicas": {}}});
        let mut parent = object(json!([entry("a", Operation::Update, "apps/v1", "", fields.clone())]));
        let mut scale = Object::default();
        scale_from_parent(&parent, &mut scale, &PATHS);
        assert_eq!(scale.get(&["metadata", "managedFields",]).unwrap()[0]["apiVersion"], SCALE_VERSION);
        let scale = object(json!([entry("b", Operation::Apply, SCALE_VERSION, "scale", fields.clone())]));
        scale_to_parent(&mut parent, &scale, &PATHS);
        let want = json!([entry("b", Operation::Apply, "apps/v1", "scale", fields)]);
        assert_eq!(parent.get(&["metadata", "managedFields"]), Some(&want));
    }

    #[test]
    fn a_scale_that_nobody_owns_conflicts_until_it_is_applied_by_force() {
        let schema = crate::schema::builtin::builtin().kind("autoscaling", "v1", "Scale").unwrap();
        let writer = Writer {
            manager: "scaler",
            api_version: SCALE_VERSION,
            kind: "Scale",
            subresource: "scale",
            status_apart: false,
            spec_apart: false,
            now: jiff::Timestamp::UNIX_EPOCH,
        };
        let scale = |replicas: u32| json!({"apiVersion": SCALE_VERSION, "kind": "Scale", "metadata": {"name": "o"}, "spec": {"replicas": replicas}});
        let live = Object::from_value(scale(7)).unwrap();
        let patch = Object::from_value(scale(9)).unwrap();
        let refused = apply(Some(&live), &patch, schema, &writer, false).unwrap_err();
        assert_eq!(
            refused.to_string(),
            r#"Apply failed with 1 conflict: conflict with "before-first-apply" with subresource "scale" using autoscaling/v1: .spec.replicas"#
        );
        let forced = apply(Some(&live), &patch, schema, &writer, true).unwrap().object;
        let mut parent =
            object(json!([entry("a", Operation::Update, "apps/v1", "", json!({"f:spec": {"f:selector": {}}}))]));
        scale_to_parent(&mut parent, &forced, &PATHS);
        let owners = parent.get(&["metadata", "managedFields"]).unwrap();
        assert_eq!(
            owners[0],
            entry("scaler", Operation::Apply, "apps/v1", "scale", json!({"f:spec": {"f:replicas": {}}}))
        );
        assert_eq!(owners[1]["manager"], "a");
        assert_eq!(owners.as_array().map(Vec::len), Some(2));
    }
}
