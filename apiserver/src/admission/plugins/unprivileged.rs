//! `--allow-privileged=false`: no container is privileged, neither of a pod nor of a template. A rule of the whole server
//! (upstream's capabilities), so it cannot be disabled like a plugin.

use api::field::{FieldError, Path};
use api::{ApiError, Object};
use async_trait::async_trait;
use serde_json::Value;

use super::pods::template_path;
use super::{Phases, Plugin};
use crate::admission::{Attributes, Operation, Outcome, ValidatingAdmission, Warnings};

pub(super) const PLUGIN: Plugin = Plugin::always("Unprivileged", |server| {
    if server.config.allow_privileged { None } else { Phases::validating(Unprivileged) }
});

struct Unprivileged;

#[async_trait]
impl ValidatingAdmission for Unprivileged {
    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Object>, _: &mut Warnings) -> Outcome {
        let Some(object) = object else { return Ok(()) };
        let is_pod = attributes.resource.group.is_empty() && attributes.resource.plural == "pods";
        let path: &[&str] = match (attributes.operation, attributes.subresource) {
            // What runs already is not asked again.
            (Operation::Create, "") | (_, "ephemeralcontainers") if is_pod => &["spec"],
            (Operation::Create | Operation::Update, "") => match template_path(attributes.resource) {
                Some(path) => path,
                None => return Ok(()),
            },
            _ => return Ok(()),
        };
        let errors = privileged(object, path);
        if errors.is_empty() {
            return Ok(());
        }
        Err(ApiError::invalid(attributes.resource.qualified_kind(), object.name(), &errors))
    }
}

/// The containers of a pod's spec that ask for it.
fn privileged(object: &Object, path: &[&str]) -> Vec<FieldError> {
    let Some(spec) = object.get(path) else { return Vec::new() };
    let (first, rest) = path.split_first().expect("no path is empty");
    let at = rest.iter().fold(Path::new(first), |at, step| at.child(step));
    let mut errors = Vec::new();
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        let containers = spec.get(list).and_then(Value::as_array).into_iter().flatten();
        for (index, container) in containers.enumerate() {
            if container.pointer("/securityContext/privileged") == Some(&Value::Bool(true)) {
                let field = at.child(list).index(index).child("securityContext").child("privileged");
                errors.push(FieldError::forbidden(&field, "disallowed by cluster policy"));
            }
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_privileged_container_is_named() {
        let privileged_one = json!({"securityContext": {"privileged": true}});
        let spec = json!({"containers": [{}, privileged_one], "initContainers": [privileged_one]});
        let object = Object::from_value(json!({"spec": {"template": {"spec": spec}}})).unwrap();
        let errors: Vec<String> =
            privileged(&object, &["spec", "template", "spec"]).iter().map(ToString::to_string).collect();
        let want = |at: &str| {
            format!("spec.template.spec.{at}.securityContext.privileged: Forbidden: disallowed by cluster policy")
        };
        assert_eq!(errors, [want("initContainers[0]"), want("containers[1]")]);
    }
}
