//! The hooks of a custom resource: everything follows from the schema of its version.

use serde_json::Value;

use super::{Scale, Version, values};
use crate::field::{FieldError, Path};
use crate::kinds::rules;
use crate::object::Object;
use crate::strategy::{MetadataRechecks, Strategy, WriteContext, content_changed};
use crate::validate;

pub(super) struct CustomStrategy {
    pub(super) version: Version,
    pub(super) has_status: bool,
    pub(super) scale: Option<Scale>,
}

impl CustomStrategy {
    fn unsupported(&self) -> Option<FieldError> {
        let why = "x-kubernetes-validations are not supported yet";
        self.version.has_rules.then(|| FieldError::internal(&Path::new(""), why))
    }

    fn validate_scale(&self, new: &Object) -> Vec<FieldError> {
        let Some(scale) = &self.scale else { return Vec::new() };
        scale.validate_spec(new).into_iter().chain(scale.validate_status(new)).collect()
    }
}

impl Strategy for CustomStrategy {
    fn default(&self, object: &mut Object) {
        self.version.default(object);
    }

    fn validate_create(&self, _ctx: &WriteContext<'_>, new: &Object) -> Vec<FieldError> {
        let mut errors = validate::structural(&new.to_value(), self.version.schema(), &Path::default());
        errors.extend(self.validate_scale(new));
        errors.extend(self.unsupported());
        errors
    }

    fn validate_update(&self, _ctx: &WriteContext<'_>, new: &Object, old: &Object) -> Vec<FieldError> {
        let schema = self.version.schema();
        let mut errors = validate::structural_change(&new.to_value(), &old.to_value(), schema, &Path::default());
        errors.extend(self.validate_scale(new));
        errors.extend(self.unsupported());
        errors
    }

    /// Paths in the texts begin at the status here, as the reference validates nothing else.
    fn validate_status_update(&self, _ctx: &WriteContext<'_>, new: &Object, old: &Object) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if let (Some(status), Some(schema)) = (new.root().get("status"), self.version.schema().field("status")) {
            let before = old.root().get("status").unwrap_or(&Value::Null);
            let found = validate::structural_change(status, before, schema, &Path::default());
            errors.extend(found.into_iter().map(|error| error.below(&Path::new("status"))));
        }
        errors.extend(self.scale.iter().flat_map(|scale| scale.validate_status(new)));
        errors.extend(self.unsupported());
        errors
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        rules::subdomain_name(name, prefix)
    }

    fn status_changes_metadata(&self) -> bool {
        false
    }

    /// Without `/status`, the status is a field like any other.
    fn is_new_generation(&self, new: &Object, old: &Object) -> bool {
        content_changed(new, old) || (!self.has_status && new.root().get("status") != old.root().get("status"))
    }

    fn metadata_rechecks(&self) -> MetadataRechecks {
        MetadataRechecks { whole: 0, change: 1 }
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }
}

impl Version {
    /// Fills in defaults, and brings values into the form in which they are kept.
    pub(super) fn default(&self, object: &mut Object) {
        let schema = self.schema();
        for (name, value) in object.root_mut().iter_mut() {
            if !matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
                values::whole_numbers(value);
            }
        }
        values::default_fields(object.root_mut(), schema);
        values::drop_null_fields(object.root_mut(), schema);
    }
}
