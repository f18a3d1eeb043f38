//! PodTemplates (upstream: `pkg/registry/core/podtemplate`).

use jiff::Timestamp;
use serde_json::Value;

use crate::kinds::kind::Kind;
use crate::kinds::pods::{defaults, gates, spec, warn};
use crate::kinds::rules::tree::{Errors, Node};
use crate::object::Object;
use crate::table::cell::{containers, labels};

pub(crate) const KIND: Kind = Kind {
    has_generation: true,
    cells: Some(cells),
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

fn cells(template: &Object, _now: Timestamp) -> Vec<Value> {
    let [names, images] = containers(template, &["template", "spec"]);
    vec![template.name().into(), names, images, labels(template.get(&["template", "metadata", "labels"])).into()]
}
