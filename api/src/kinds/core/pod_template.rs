//! PodTemplates (upstream: `pkg/registry/core/podtemplate`).

use crate::kinds::pods::{defaults, spec, warn};
use crate::kinds::rules::tree::{Errors, Node};
use crate::object::Object;

/// Defaults of a `PodTemplate`.
pub(crate) fn default(object: &mut Object) {
    defaults::template(object.root_mut(), "template");
}

/// A `PodTemplate`.
pub(crate) fn validate(object: &Node<'_, '_>, errors: &mut Errors) {
    spec::template(&object.field("template"), errors);
}

/// A `PodTemplate`.
pub(crate) fn warn(new: &Node<'_, '_>, old: Option<&Node<'_, '_>>, texts: &mut Vec<String>) {
    if warn::is_news(new, old) {
        warn::all(&new.field("template"), true, texts);
    }
}
