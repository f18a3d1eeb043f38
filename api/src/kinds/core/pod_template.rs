//! PodTemplates (upstream: `pkg/registry/core/podtemplate`).

use crate::kinds::kind::Kind;
use crate::kinds::pods::{defaults, gates, spec, warn};
use crate::kinds::rules::tree::{Errors, Node};
use crate::object::Object;
use crate::table::cell::Cell::{Containers, Labels, Name};

pub(crate) const KIND: Kind = Kind {
    has_generation: true,
    cells: &[Name, Containers(&["template", "spec"]), Labels(&["template", "metadata", "labels"])],
    default,
    gated: gates::POD_TEMPLATE,
    validate,
    warn,
    delete_returns_object: true,
    ..Kind::namespaced("podtemplates", "PodTemplate")
};

fn default(object: &mut Object) {
    defaults::template(object.root_mut(), "template");
}

fn validate(object: &Node<'_, '_>, errors: &mut Errors) {
    spec::template(&object.field("template"), errors);
}

fn warn(new: &Node<'_, '_>, old: Option<&Node<'_, '_>>, texts: &mut Vec<String>) {
    if warn::is_news(new, old) {
        warn::all(&new.field("template"), true, texts);
    }
}
