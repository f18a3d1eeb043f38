//! Rules for the subresources that change a pod's spec.

use serde_json::Value;

use super::pod_update::restore;
use super::tree::{Errors, Fields, Node};
use super::{dump, pod_annotations, pod_spec, resources};

/// A change through a subresource; answers whether it is one of these.
pub(crate) fn change(name: &str, new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) -> bool {
    match name {
        "ephemeralcontainers" => ephemeral_containers(new, old, errors),
        "resize" => resize(new, old, errors),
        // Who binds sets nothing but the node.
        "binding" => {}
        _ => return false,
    }
    true
}

/// Refuses the whole object, without a field; upstream says so alone.
fn refuse(errors: &mut Errors, why: &str) {
    errors.0.clear();
    errors.push(crate::FieldError::forbidden(&crate::Path::default().key(""), why));
}

/// Ephemeral containers can be added, and stay as they are.
fn ephemeral_containers(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    pod_spec::pod(new, errors);
    if pod_annotations::is_mirror(old) {
        return refuse(errors, "static pods do not support ephemeral containers");
    }
    let (spec, before) = (new.field("spec"), old.field("spec"));
    let (now, then) = (spec.field("ephemeralContainers"), before.field("ephemeralContainers"));
    for had in then.items() {
        let name = had.field("name").text();
        match now.items().find(|container| container.field("name").text() == name) {
            None => errors.forbidden(&now, &format!("existing ephemeral containers {name:?} may not be removed\n")),
            Some(container) if !container.is_same(&had) => {
                let text = dump::difference(&dump::ephemeral_container(&had), &dump::ephemeral_container(&container));
                let why = format!("existing ephemeral containers {name:?} may not be changed\n{text}");
                errors.forbidden(&now, &why);
            }
            Some(_) => {}
        }
    }
}

/// A pod's containers may get more or less of CPU and memory, and nothing else may change.
fn resize(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    pod_spec::pod(new, errors);
    let (spec, before) = (new.field("spec"), old.field("spec"));
    let as_one = |spec: &Node<'_, '_>| {
        let own = spec.field("resources");
        ["requests", "limits"].iter().any(|list| !own.field(list).is_empty())
    };
    if as_one(&spec) || as_one(&before) {
        return refuse(errors, "pods with pod-level resources cannot be resized");
    }
    if pod_annotations::is_mirror(old) {
        return refuse(errors, "static pods cannot be resized");
    }
    if before.field("os").field("name").text() == "windows" {
        return refuse(errors, "windows pods cannot be resized");
    }
    class_stays(&spec, old, errors);
    node_can_resize(old, &spec, errors);
    for list in ["initContainers", "containers"] {
        let (now, then) = (spec.field(list), before.field(list));
        for (container, had) in now.items().zip(then.items()) {
            if list == "containers" || had.field("restartPolicy").text() == "Always" {
                nothing_removed(&container.field("resources"), &had.field("resources"), errors);
                resizable(&container, &had, &spec, list, errors);
            } else if !container.is_same(&had) {
                errors.forbidden(&spec, "resources for non-sidecar init containers are immutable");
            }
        }
    }
}

fn class_stays(spec: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let status = old.field("status");
    let class = status.field("qosClass").text();
    let computed = resources::qos_class(spec.map().unwrap_or(&Fields::new()));
    if !class.is_empty() && class != computed {
        errors.invalid_value(spec, class, "Pod QOS Class may not change as a result of resizing");
    }
}

/// A node that can resize tells what running containers have.
fn node_can_resize(old: &Node<'_, '_>, spec: &Node<'_, '_>, errors: &mut Errors) {
    let status = old.field("status");
    let statuses = status.field("containerStatuses");
    let running = statuses.items().find(|one| one.field("state").field("running").is_set());
    if running.is_some_and(|one| one.field("resources").is_unset()) {
        errors.forbidden(spec, "Pod running on node without support for resize");
    }
}

fn nothing_removed(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    for (list, what) in [("requests", "requests"), ("limits", "limits")] {
        let (now, then) = (new.field(list), old.field(list));
        if then.entries().any(|(name, _)| now.map().is_none_or(|map| !map.contains_key(name))) {
            errors.forbidden(&now, &format!("resource {what} cannot be removed"));
        }
    }
}

fn resizable(container: &Node<'_, '_>, had: &Node<'_, '_>, spec: &Node<'_, '_>, list: &str, errors: &mut Errors) {
    let (Some(now), Some(then)) = (container.value(), had.value()) else { return };
    let mut compared = now.clone();
    // How a container is resized may change with its resources.
    restore(&mut compared, "resizePolicy", then.get("resizePolicy"));
    restore_compute(&mut compared, then);
    if &compared != then {
        let whose = if list == "containers" { "" } else { " for sidecar containers" };
        errors.forbidden(spec, &format!("only cpu and memory resources{whose} are mutable"));
    }
}

fn restore_compute(container: &mut Value, had: &Value) {
    for kind in ["limits", "requests"] {
        let old = had.pointer(&format!("/resources/{kind}"));
        for name in ["cpu", "memory"] {
            if let Some(quantities) = container.pointer_mut(&format!("/resources/{kind}")) {
                restore(quantities, name, old.and_then(|quantities| quantities.get(name)));
            }
        }
        let emptied = container.pointer(&format!("/resources/{kind}")).and_then(Value::as_object);
        if old.is_none()
            && emptied.is_some_and(Fields::is_empty)
            && let Some(resources) = container.get_mut("resources")
        {
            restore(resources, kind, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(resources: &Value) -> Value {
        json!({"metadata": {"name": "p"}, "spec": {
            "restartPolicy": "Always", "dnsPolicy": "ClusterFirst",
            "containers": [{
                "name": "c", "image": "i", "imagePullPolicy": "Always", "terminationMessagePolicy": "File",
                "resources": resources,
            }],
        }, "status": {"qosClass": "Burstable"}})
    }

    fn check(new: &Value, want: &[&str]) {
        let (new, old) =
            (pod(new), pod(&json!({"requests": {"cpu": "1", "example.com/x": "1"}, "limits": {"example.com/x": "1"}})));
        let mut errors = Errors::default();
        let (new, old) = (new.as_object().expect("an object"), old.as_object().expect("an object"));
        assert!(change("resize", &Node::root(new), &Node::root(old), &mut errors));
        assert_eq!(errors.0.iter().map(ToString::to_string).collect::<Vec<_>>(), want);
    }

    #[test]
    fn only_compute_is_resized() {
        check(
            &json!({"requests": {"cpu": "2", "memory": "1Gi", "example.com/x": "1"}, "limits": {"cpu": "3", "example.com/x": "1"}}),
            &[],
        );
        check(
            &json!({"requests": {"cpu": "1", "example.com/x": "2"}, "limits": {"example.com/x": "2"}}),
            &["spec: Forbidden: only cpu and memory resources are mutable"],
        );
        check(
            &json!({"requests": {"example.com/x": "1"}, "limits": {"example.com/x": "1"}}),
            &[
                "spec: Invalid value: \"Burstable\": Pod QOS Class may not change as a result of resizing",
                "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed",
            ],
        );
    }
}
