//! Rules for the subresources that change a pod's spec.

use serde_json::Value;

use crate::kinds::core::pod;
use crate::kinds::pods::{self, annotations, resources};
use crate::kinds::rules::shown;
use crate::kinds::rules::tree::{Errors, Fields, Node, is_same, restore};

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
    pod::validate(new, errors);
    if annotations::is_mirror(old) {
        return refuse(errors, "static pods do not support ephemeral containers");
    }
    let (spec, before) = (new.field("spec"), old.field("spec"));
    let (now, then) = (spec.field("ephemeralContainers"), before.field("ephemeralContainers"));
    for had in then.items() {
        let name = had.field("name").text();
        match now.items().find(|container| container.field("name").text() == name) {
            None => errors.forbidden(&now, &format!("existing ephemeral containers {name:?} may not be removed\n")),
            Some(container) if !container.is_same(&had) => {
                let text = shown::difference(
                    &pods::shown::ephemeral_container(&had),
                    &pods::shown::ephemeral_container(&container),
                );
                let why = format!("existing ephemeral containers {name:?} may not be changed\n{text}");
                errors.forbidden(&now, &why);
            }
            Some(_) => {}
        }
    }
}

/// A pod and its containers may get more or less of CPU and memory, and nothing else may change.
fn resize(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    pod::validate(new, errors);
    let (spec, before, status) = (new.field("spec"), old.field("spec"), old.field("status"));
    if annotations::is_mirror(old) {
        return refuse(errors, "static pods cannot be resized");
    }
    if before.field("os").field("name").text() == "windows" {
        return refuse(errors, "windows pods cannot be resized");
    }
    class_stays(&spec, &before, &status, errors);
    node_can_resize(&status, &spec, errors);
    whole(&spec, &before, errors);
    if !status.field("nodeAllocatableResourceClaimStatuses").is_empty() {
        errors.forbidden(&spec, "pods with node allocatable resource claims cannot be resized");
    }
    if !same_containers(&spec, &before, errors) {
        return;
    }
    for list in ["initContainers", "containers"] {
        for (container, had) in spec.field(list).items().zip(before.field(list).items()) {
            nothing_removed(&container.field("resources"), &had.field("resources"), "resource", errors);
        }
    }
    for (container, had) in spec.field("containers").items().zip(before.field("containers").items()) {
        if !only_compute_differs(&container, &had) {
            errors.forbidden(&spec, "only cpu and memory resources are mutable");
        }
    }
    for (container, had) in spec.field("initContainers").items().zip(before.field("initContainers").items()) {
        if !only_compute_differs(&container, &had) {
            errors.forbidden(&container, "only cpu and memory resources for init or sidecar containers are mutable");
        }
        let policies = container.field("resizePolicy");
        if !container.is_same(&had)
            && container.field("restartPolicy").text() != "Always"
            && policies.items().any(|policy| policy.field("restartPolicy").text() == "RestartContainer")
        {
            let why = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
            errors.forbidden(&container, why);
        }
    }
}

fn class_stays(spec: &Node<'_, '_>, before: &Node<'_, '_>, status: &Node<'_, '_>, errors: &mut Errors) {
    let computed = |spec: &Node<'_, '_>| resources::qos_class(spec.map().unwrap_or(&Fields::new()));
    let class = status.field("qosClass").text();
    let had = if class.is_empty() { computed(before) } else { class };
    if had != computed(spec) {
        errors.invalid_value(spec, class, "Pod QOS Class may not change as a result of resizing");
    }
}

/// A node that can resize tells what running containers have.
fn node_can_resize(status: &Node<'_, '_>, spec: &Node<'_, '_>, errors: &mut Errors) {
    let statuses = status.field("containerStatuses");
    let running = statuses.items().find(|one| one.field("state").field("running").is_set());
    if running.is_some_and(|one| one.field("resources").is_unset()) {
        errors.forbidden(spec, "Pod running on node without support for resize");
    }
}

/// What a pod has as a whole, which can be given to one that had nothing.
fn whole(spec: &Node<'_, '_>, before: &Node<'_, '_>, errors: &mut Errors) {
    let (now, then) = (spec.field("resources"), before.field("resources"));
    let has_quantities =
        |resources: &Node<'_, '_>| ["requests", "limits"].iter().any(|list| !resources.field(list).is_empty());
    if !has_quantities(&now) && !has_quantities(&then) {
        return;
    }
    if then.is_set() && now.is_unset() {
        return errors.forbidden(&now, "pod-level resources cannot be removed");
    }
    nothing_removed(&now, &then, "pod-level resource", errors);
    let mut compared = now.shown();
    restore_compute(&mut compared, then.value());
    if !is_same(Some(&compared), then.value()) {
        let emptied = compared.as_object().is_none_or(|lists| lists.values().all(|list| is_same(Some(list), None)));
        if then.is_set() || !emptied {
            errors.forbidden(spec, "only cpu and memory resources are mutable at pod-level");
        }
    }
}

/// Whether the containers are those of before, in the order of before.
fn same_containers(spec: &Node<'_, '_>, before: &Node<'_, '_>, errors: &mut Errors) -> bool {
    let had = errors.0.len();
    for list in ["containers", "initContainers"] {
        let (now, then) = (spec.field(list), before.field(list));
        if now.items().count() != then.items().count() {
            errors.forbidden(&now, &format!("{list} may not be added or removed on resize"));
            continue;
        }
        for (container, had) in now.items().zip(then.items()) {
            let name = container.field("name");
            if name.text() != had.field("name").text() {
                errors.forbidden(&name, &format!("{list} may not be renamed or reordered on resize"));
            }
        }
    }
    errors.0.len() == had
}

fn nothing_removed(new: &Node<'_, '_>, old: &Node<'_, '_>, what: &str, errors: &mut Errors) {
    for list in ["requests", "limits"] {
        let (now, then) = (new.field(list), old.field(list));
        if then.entries().any(|(name, _)| now.map().is_none_or(|map| !map.contains_key(name))) {
            errors.forbidden(&now, &format!("{what} {list} cannot be removed"));
        }
    }
}

/// Whether a container is the one of before but for CPU and memory. One with claims never is: upstream forgets them in
/// what it compares.
fn only_compute_differs(container: &Node<'_, '_>, had: &Node<'_, '_>) -> bool {
    let mut compared = container.shown();
    let mut resources = container.field("resources").shown();
    restore_compute(&mut resources, had.field("resources").value());
    restore(&mut resources, "claims", None);
    restore(&mut compared, "resources", Some(&resources));
    is_same(Some(&compared), had.value())
}

/// Gives resources the CPU and memory of others.
fn restore_compute(resources: &mut Value, had: Option<&Value>) {
    if resources.is_null() {
        *resources = Value::Object(Fields::new());
    }
    for list in ["limits", "requests"] {
        let old = had.and_then(|had| had.get(list)).and_then(Value::as_object);
        let mut quantities = resources.get(list).and_then(Value::as_object).cloned().unwrap_or_default();
        for name in ["cpu", "memory"] {
            quantities.remove(name);
            if let Some(quantity) = old.and_then(|old| old.get(name)) {
                quantities.insert(name.to_owned(), quantity.clone());
            }
        }
        restore(resources, list, Some(&Value::Object(quantities)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

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
    fn containers_stay_and_pods_are_resized_as_a_whole() {
        let small = json!({"requests": {"cpu": "1"}});
        let container = |name: &str, resources: &Value| {
            json!({"name": name, "image": "i", "imagePullPolicy": "Always", "terminationMessagePolicy": "File",
                "resources": resources})
        };
        let pod = |parts: &Value| {
            let mut pod = pod(&small);
            for (key, value) in parts.as_object().expect("an object") {
                pod["spec"][key] = value.clone();
            }
            pod
        };
        let plain = json!({});
        let two = json!({"containers": [container("a", &small), container("b", &small)]});
        let swapped = json!({"containers": [container("b", &small), container("a", &small)]});
        let whole = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let init = |resources: &Value, policy: &str| {
            let mut one = container("init", resources);
            one["resizePolicy"] = json!([{"resourceName": "cpu", "restartPolicy": policy}]);
            json!({"initContainers": [one]})
        };
        let huge = json!({"requests": {"cpu": "2"}});
        let claims = json!({"requests": {"cpu": "1"}, "claims": [{"name": "gpu"}]});
        let with_claims = json!({
            "containers": [container("c", &claims)], "resourceClaims": [{"name": "gpu", "resourceClaimName": "gpu"}],
        });
        let cases: &[(&Value, &Value, &[&str])] = &[
            (&two, &two, &[]),
            (&plain, &two, &["spec.containers: Forbidden: containers may not be added or removed on resize"]),
            (
                &two,
                &swapped,
                &[
                    "spec.containers[0].name: Forbidden: containers may not be renamed or reordered on resize",
                    "spec.containers[1].name: Forbidden: containers may not be renamed or reordered on resize",
                ],
            ),
            (&whole("1"), &whole("2"), &[]),
            (&plain, &whole("2"), &[]),
            (&whole("1"), &plain, &["spec.resources: Forbidden: pod-level resources cannot be removed"]),
            (
                &whole("1"),
                &json!({"resources": {"requests": {"memory": "1Gi"}}}),
                &[
                    "spec.resources.requests[cpu]: Invalid value: \"0\": must be greater than or equal to aggregate container requests of 1",
                    "spec.resources.requests: Forbidden: pod-level resource requests cannot be removed",
                ],
            ),
            (&init(&small, "NotRequired"), &init(&huge, "NotRequired"), &[]),
            (
                &init(&small, "RestartContainer"),
                &init(&huge, "RestartContainer"),
                &[
                    "spec.initContainers[0]: Forbidden: non-sidecar init containers with a resize policy of RestartContainer cannot be resized",
                ],
            ),
            (
                &init(&small, "NotRequired"),
                &init(&small, "RestartContainer"),
                &[
                    "spec.initContainers[0]: Forbidden: only cpu and memory resources for init or sidecar containers are mutable",
                    "spec.initContainers[0]: Forbidden: non-sidecar init containers with a resize policy of RestartContainer cannot be resized",
                ],
            ),
            (&with_claims, &with_claims, &["spec: Forbidden: only cpu and memory resources are mutable"]),
        ];
        for (old, new, want) in cases {
            let (new, old) = (pod(new), pod(old));
            let mut errors = Errors::default();
            let roots = [&new, &old].map(|pod| Node::root(pod.as_object().expect("an object")));
            assert!(change("resize", &roots[0], &roots[1], &mut errors));
            assert_eq!(errors.0.iter().map(ToString::to_string).collect::<Vec<_>>(), *want, "{new}");
        }
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
