//! Claims of volumes.

use serde_json::Value;

use super::{Amounts, Measure, Scopes, one};
use crate::Object;
use crate::quantity::Quantity;

const COUNT: &str = "count/persistentvolumeclaims";
const CLAIMS: &str = "persistentvolumeclaims";
const STORAGE: &str = "requests.storage";
/// What follows the name of a storage class in the names of quotas.
const OF_CLASS: &str = ".storageclass.storage.k8s.io/";
/// Where claims said their class before there was a field.
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

pub(super) fn counts(name: &str) -> bool {
    let of_class = |what: &str| name.strip_suffix(what).is_some_and(|rest| rest.ends_with(OF_CLASS));
    matches!(name, COUNT | CLAIMS | STORAGE) || of_class(CLAIMS) || of_class(STORAGE)
}

pub(super) fn measure(claim: &Object) -> Measure {
    Measure { scopes: Scopes::VolumeClaim(attribute_classes(claim)), ..Measure::of(usage(claim)) }
}

fn usage(claim: &Object) -> Amounts {
    let mut usage = Amounts::from([(COUNT.to_owned(), one()), (CLAIMS.to_owned(), one())]);
    let class = claim.annotation(CLASS_ANNOTATION).unwrap_or_else(|| claim.text(&["spec", "storageClassName"]));
    let storage = storage(claim);
    if let Some(storage) = storage {
        usage.insert(STORAGE.to_owned(), storage);
    }
    if !class.is_empty() {
        usage.insert(format!("{class}{OF_CLASS}{CLAIMS}"), one());
        if let Some(storage) = storage {
            usage.insert(format!("{class}{OF_CLASS}{STORAGE}"), storage);
        }
    }
    usage
}

/// What is asked for, or what was allocated if that is more, in whole bytes.
fn storage(claim: &Object) -> Option<Quantity> {
    let read = |path: &[&str]| claim.get(path).and_then(Quantity::of_value);
    let asked = read(&["spec", "resources", "requests", "storage"])?;
    let most = read(&["status", "allocatedResources", "storage"]).filter(|allocated| *allocated > asked);
    let most = most.unwrap_or(asked);
    let whole = Quantity::new(most.value(), most.format());
    Some(if whole > most { whole } else { most })
}

fn attribute_classes(claim: &Object) -> Vec<String> {
    const FIELDS: [&[&str]; 3] = [
        &["spec", "volumeAttributesClassName"],
        &["status", "currentVolumeAttributesClassName"],
        &["status", "modifyVolumeStatus", "targetVolumeAttributesClassName"],
    ];
    let names = FIELDS.iter().filter_map(|path| claim.get(path).and_then(Value::as_str));
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}
