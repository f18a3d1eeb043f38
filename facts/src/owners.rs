//! Who owns an object (upstream: `metav1.GetControllerOf`).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

/// The owner that controls the object.
pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// Whether the owner with this uid controls the object.
pub fn is_controlled_by(meta: &ObjectMeta, uid: Option<&str>) -> bool {
    controller_of(meta).is_some_and(|owner| Some(&*owner.uid) == uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_owner_controls() {
        let owner =
            |uid: &str, controller| OwnerReference { uid: uid.to_owned(), controller, ..OwnerReference::default() };
        let owned = |owners| ObjectMeta { owner_references: Some(owners), ..ObjectMeta::default() };
        let meta = owned(vec![owner("other", None), owner("u", Some(true))]);
        assert_eq!(controller_of(&meta).map(|owner| &*owner.uid), Some("u"));
        assert!(is_controlled_by(&meta, Some("u")) && !is_controlled_by(&meta, Some("other")));
        let orphan = owned(vec![owner("other", Some(false))]);
        assert!(controller_of(&orphan).is_none() && !is_controlled_by(&orphan, None));
    }
}
