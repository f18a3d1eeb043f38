//! The hooks of a custom resource: everything follows from the schema of its version.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Scale, Version, values};
use crate::field::{FieldError, Kind, NO_PATH, Path};
use crate::kinds::rules::naming;
use crate::object::Object;
use crate::strategy::{MetadataRechecks, Strategy, WriteContext, content_changed};
use crate::validate;

pub(super) struct CustomStrategy {
    pub(super) version: Version,
    pub(super) has_status: bool,
    pub(super) scale: Option<Scale>,
}

impl CustomStrategy {
    fn validate(&self, new: &Object, old: Option<&Object>) -> Vec<FieldError> {
        let (schema, path) = (self.version.schema(), Path::default());
        let mut errors = match old {
            Some(old) => validate::structural_change(new.as_value(), old.as_value(), schema, &path),
            None => validate::structural(new.as_value(), schema, &path),
        };
        if let Some(scale) = &self.scale {
            errors.extend(scale.validate_spec(new));
            errors.extend(scale.validate_status(new));
        }
        self.validate_rules(new.as_value(), old.map(Object::as_value), &mut errors);
        errors
    }

    /// The author's rules hold for objects of the right shape only, and are not tried on others.
    fn validate_rules(&self, new: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
        let rules = self.version.rules();
        if rules.is_empty() {
            return;
        }
        let misshapen = |error: &FieldError| {
            matches!(
                error.kind,
                Kind::NotSupported | Kind::Required | Kind::TooLong | Kind::TooMany | Kind::TypeInvalid
            )
        };
        if errors.iter().any(misshapen) {
            let why = "some validation rules were not checked because the object was invalid; \
                       correct the existing errors to complete validation";
            errors.push(FieldError::invalid(&Path::new(NO_PATH), Value::Null, why));
            return;
        }
        errors.extend(rules.validate(new, old, &Path::default()).errors);
    }
}

/// What is said of finalizers that are new and have no path.
fn new_finalizers(new: &Object, old: Option<&Object>) -> Vec<String> {
    const STANDARD: [&str; 2] = ["orphan", "foregroundDeletion"];
    let known = old.map(Object::finalizers).unwrap_or_default();
    let news: BTreeSet<&str> = new.finalizers().into_iter().filter(|finalizer| !known.contains(finalizer)).collect();
    let bare = news.into_iter().filter(|finalizer| !finalizer.contains('/') && !STANDARD.contains(finalizer));
    let why = "prefer a domain-qualified finalizer name including a path (/) to avoid accidental conflicts with other \
               finalizer writers";
    bare.map(|finalizer| format!("metadata.finalizers: {finalizer:?}: {why}")).collect()
}

impl Strategy for CustomStrategy {
    fn default(&self, object: &mut Object) {
        self.version.default(object);
        self.version.drop_nulls(object);
    }

    fn default_merged(&self, object: &mut Object) {
        self.version.default(object);
    }

    fn validate_create(&self, _ctx: &WriteContext<'_>, new: &Object) -> Vec<FieldError> {
        self.validate(new, None)
    }

    fn validate_update(&self, _ctx: &WriteContext<'_>, new: &Object, old: &Object) -> Vec<FieldError> {
        self.validate(new, Some(old))
    }

    /// Paths in the texts begin at the status here, as the reference validates nothing else by the schema.
    fn validate_status_update(&self, _ctx: &WriteContext<'_>, new: &Object, old: &Object) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if let (Some(status), Some(schema)) = (new.root().get("status"), self.version.schema().field("status")) {
            let before = old.root().get("status").unwrap_or(&Value::Null);
            let found = validate::structural_change(status, before, schema, &Path::default());
            errors.extend(found.into_iter().map(|error| error.below(&Path::new("status"))));
        }
        errors.extend(self.scale.iter().flat_map(|scale| scale.validate_status(new)));
        self.validate_rules(new.as_value(), Some(old.as_value()), &mut errors);
        errors
    }

    /// The rules are compiled when they are first needed.
    fn validation_may_take_long(&self) -> bool {
        self.version.rules.get().is_none()
    }

    /// Finalizers that others may use, too, and rules that an object broke before and still breaks in the same way.
    fn warnings(&self, new: &Object, old: Option<&Object>) -> Vec<String> {
        let mut texts = new_finalizers(new, old);
        let rules = self.version.rules();
        if let Some(old) = old.filter(|_| !rules.is_empty()) {
            let found = rules.validate(new.as_value(), Some(old.as_value()), &Path::default());
            texts.extend(found.tolerated.iter().map(ToString::to_string));
        }
        texts
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        naming::subdomain_name(name, prefix)
    }

    fn status_metadata(&self) -> &'static [&'static str] {
        &[]
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
    /// Fills in defaults, and brings numbers into the form in which they are kept; answers whether anything changed.
    pub(super) fn default(&self, object: &mut Object) -> bool {
        let mut changed = false;
        for (name, value) in object.root_mut().iter_mut() {
            if !matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
                changed |= values::whole_numbers(value);
            }
        }
        values::default_fields(object.root_mut(), self.schema()) || changed
    }

    /// Drops nulls that mean nothing; answers whether there were any.
    pub(super) fn drop_nulls(&self, object: &mut Object) -> bool {
        values::drop_null_fields(object.root_mut(), self.schema())
    }
}
