//! Conversion between the versions of built-in resources. Where shapes do not differ, only `apiVersion` is rewritten.

pub(crate) mod autoscaling;
mod devices;
mod events;

use crate::object::Object;
use crate::resource::Resource;
use crate::status::ApiError;

/// See [`super::Catalog::convert`].
pub(super) fn convert(from: &Resource, to: &Resource, mut object: Object) -> Result<Object, ApiError> {
    if let Some(custom) = &to.custom {
        let api_version = to.api_version();
        if custom.is_converted_elsewhere() && object.api_version() != api_version {
            let text = format!("{} must be converted to {api_version} by their webhook", to.qualified());
            return Err(ApiError::not_implemented(text));
        }
        return Ok(custom.renamed(object, &api_version));
    }
    match (from.group.as_ref(), from.version.as_ref(), to.group.as_ref(), to.version.as_ref()) {
        ("", _, "events.k8s.io", _) => events::core_to_new(&mut object),
        ("events.k8s.io", _, "", _) => events::new_to_core(&mut object),
        ("autoscaling", "v1", _, "v2") => autoscaling::v1_to_v2(&mut object),
        ("autoscaling", "v2", _, "v1") => autoscaling::v2_to_v1(&mut object),
        ("resource.k8s.io", old, _, new) if old != new => devices::convert(old, new, &from.kind, &mut object),
        _ => {}
    }
    object.set(&["apiVersion"], to.api_version());
    object.set(&["kind"], to.kind.as_ref());
    Ok(object)
}

/// Moves the value of a field to another name.
fn rename(map: &mut serde_json::Map<String, serde_json::Value>, old: &str, new: &str) {
    if let Some(value) = map.remove(old) {
        map.insert(new.to_owned(), value);
    }
}
