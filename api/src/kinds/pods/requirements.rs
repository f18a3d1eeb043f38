//! Rules for what containers and pods request and may use.

use std::collections::{BTreeSet, HashSet};

use facts::pods::demand::{Demand, is_pod_level};

use super::resources::{self, value};
use crate::FieldError;
use crate::field::Kind;
use crate::kinds::rules::naming;
use crate::kinds::rules::quantities::parse;
use crate::kinds::rules::tree::{Errors, Node};
use crate::quantity::Quantity;

type NameRule = fn(&str, &Node<'_, '_>, &mut Errors);

/// The `resources` of a container.
pub(crate) fn of_container(at: &Node<'_, '_>, claims: &HashSet<&str>, errors: &mut Errors) {
    quantities(at, &at.field("limits"), &at.field("requests"), container_name, errors);
    claim_names(&at.field("claims"), claims, errors);
}

/// The `resources` of a pod as a whole: not less than what its containers request together, and not less than any one
/// of them may use.
pub(crate) fn of_pod(spec: &Node<'_, '_>, errors: &mut Errors) {
    let at = spec.field("resources");
    if at.is_unset() {
        return;
    }
    let claims = at.field("claims");
    if claims.is_set() {
        errors.forbidden(&claims, "claims cannot be set for Resources at pod-level");
    }
    let (limits, requests) = (at.field("limits"), at.field("requests"));
    quantities(&at, &limits, &requests, pod_name, errors);
    let sums = spec.map().map(|spec| Demand::of_tree(spec, None).requests_of_containers());
    for (name, sum) in sums.into_iter().flatten() {
        let given = requests.map().and_then(|map| map.get(name)).and_then(|q| q.as_str()?.parse::<Quantity>().ok());
        let given = given.unwrap_or_else(Quantity::zero);
        if sum > given {
            let why = format!("must be greater than or equal to aggregate container requests of {sum}");
            errors.push(FieldError::invalid(&requests.path().key(name), given.to_string(), &why));
        }
    }
    for (index, container) in spec.field("containers").items().enumerate() {
        let resources = container.field("resources");
        for (name, limit) in resources.field("limits").entries() {
            let most = limits.key(name);
            let (Some(limit), Some(most)) = (parse(&limit), parse(&most)) else { continue };
            if limit > most {
                let path = at.path().child("containers").index(index).key(name).child("limits");
                let why = format!("must be less than or equal to pod limits of {most}");
                errors.push(FieldError::invalid(&path, limit.to_string(), &why));
            }
        }
    }
}

/// What running a pod costs beside its containers. Upstream reports it as if it were limits.
pub(crate) fn overhead(at: &Node<'_, '_>, errors: &mut Errors) {
    overhead_of(at, at, errors);
}

/// As [`overhead`], of quantities that lie elsewhere than where they are reported.
pub(crate) fn overhead_of(at: &Node<'_, '_>, given: &Node<'_, '_>, errors: &mut Errors) {
    let limits = at.path().child("limits");
    quantities(at, &Node::at(&limits, given.value()), &Node::at(&limits, None), container_name, errors);
}

/// `limits`, and `requests`, which may not exceed them.
fn quantities(
    at: &Node<'_, '_>,
    limits: &Node<'_, '_>,
    requests: &Node<'_, '_>,
    name_rule: NameRule,
    errors: &mut Errors,
) {
    for (name, quantity) in limits.entries() {
        name_rule(name, &quantity, errors);
        value(name, &quantity, errors);
        whole_pages(name, &quantity, errors);
    }
    for (name, quantity) in requests.entries() {
        name_rule(name, &quantity, errors);
        value(name, &quantity, errors);
        against_limit(name, &quantity, requests, limits, errors);
        whole_pages(name, &quantity, errors);
    }
    let names: BTreeSet<&str> = limits.entries().chain(requests.entries()).map(|(name, _)| name).collect();
    let huge = names.iter().any(|name| name.starts_with("hugepages-"));
    if huge && !names.contains("cpu") && !names.contains("memory") {
        errors.forbidden(at, "HugePages require cpu or memory");
    }
}

/// The name of any resource: qualified, or one that Kubernetes knows. Answers whether it is.
pub(crate) fn name(name: &str, at: &Node<'_, '_>, errors: &mut Errors) -> bool {
    let wrong = naming::qualified_name(name);
    let qualified = wrong.is_empty();
    for why in wrong {
        errors.invalid_value(at, name, &why);
    }
    let known = name.contains('/') || resources::is_standard(name);
    if qualified && !known {
        errors.invalid_value(at, name, "must be a standard resource type or fully qualified");
    }
    qualified && known
}

/// The name of a resource that containers may ask for.
pub(crate) fn container_name(name: &str, at: &Node<'_, '_>, errors: &mut Errors) {
    self::name(name, at, errors);
    if !name.contains('/') {
        if !resources::is_standard_for_containers(name) {
            errors.invalid_value(at, name, "must be a standard resource for containers");
        }
    } else if !resources::is_native(name) && !resources::is_extended(name) {
        errors.invalid_value(at, name, "doesn't follow extended resource name standard");
    }
}

fn pod_name(name: &str, at: &Node<'_, '_>, errors: &mut Errors) {
    if self::name(name, at, errors) && !is_pod_level(name) {
        errors.push(FieldError::not_supported(&at.path(), name, &["cpu", "hugepages-", "memory"]));
    }
}

fn against_limit(
    name: &str,
    request: &Node<'_, '_>,
    requests: &Node<'_, '_>,
    limits: &Node<'_, '_>,
    errors: &mut Errors,
) {
    let overcommit = resources::is_native(name) && !name.starts_with("hugepages-");
    let Some((_, limit)) = limits.entries().find(|(known, _)| *known == name) else {
        if !overcommit {
            errors.required(limits, "Limit must be set for non overcommitable resources");
        }
        return;
    };
    let (Some(asked), Some(most)) = (parse(request), parse(&limit)) else { return };
    let how = if asked != most && !overcommit {
        "equal to"
    } else if asked > most {
        "less than or equal to"
    } else {
        return;
    };
    errors.invalid_value(requests, asked.to_string(), &format!("must be {how} {name} limit of {most}"));
}

/// Huge pages come whole.
fn whole_pages(name: &str, quantity: &Node<'_, '_>, errors: &mut Errors) {
    let Some(size) = name.strip_prefix("hugepages-") else { return };
    let size = size.parse::<Quantity>().ok().filter(|size| size.value() > 0 && size.milli_value() % 1000 == 0);
    let Some(asked) = parse(quantity) else { return };
    if size.is_none_or(|size| asked.value() % size.value() != 0) {
        let why = format!("{asked} is not positive integer multiple of {name}");
        errors.invalid_value(quantity, asked.to_string(), &why);
    }
}

/// The claims that a container uses, each whole or by single requests.
fn claim_names(at: &Node<'_, '_>, known: &HashSet<&str>, errors: &mut Errors) {
    let mut taken: HashSet<(&str, &str)> = HashSet::new();
    for claim in at.items() {
        let (name, request) = (claim.field("name").text(), claim.field("request"));
        if name.is_empty() {
            errors.required(&claim, "");
            continue;
        }
        if taken.contains(&(name, "")) {
            errors.duplicate_value(&claim, name);
        } else {
            if !request.text().is_empty() {
                errors.invalid_all(&request, naming::label(request.text()));
                if taken.contains(&(name, request.text())) {
                    errors.duplicate_value(&claim, format!("{name}/{}", request.text()));
                }
            } else {
                for _ in taken.iter().filter(|(claim, _)| *claim == name) {
                    errors.duplicate_value(&claim, name);
                }
            }
            taken.insert((name, request.text()));
        }
        if !known.contains(name) {
            errors.push(unknown_claim(&claim, name, known));
        }
    }
}

fn unknown_claim(at: &Node<'_, '_>, name: &str, known: &HashSet<&str>) -> FieldError {
    let known: BTreeSet<&str> = known.iter().copied().collect();
    let list = if known.is_empty() {
        " which is empty".to_owned()
    } else {
        format!(": {}", known.into_iter().collect::<Vec<_>>().join(", "))
    };
    let message = format!("Not found: {name:?}: must be one of the names in pod.spec.resourceClaims{list}");
    FieldError { path: at.path(), kind: Kind::NotFound, message }
}

/// The unit in which a file or variable shows a resource. Upstream shows the resource instead of the unit.
pub(crate) fn divisor(reference: &Node<'_, '_>, errors: &mut Errors) {
    const BYTES: [&str; 13] = ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
    let (resource, at) = (reference.field("resource").text(), reference.field("divisor"));
    let text = at.text();
    let (what, allowed): (_, &[&str]) = match resource.split_once('.') {
        Some(("limits" | "requests", "cpu")) => ("cpu", &["1m", "1"]),
        Some(("limits" | "requests", "memory")) => ("memory", &BYTES),
        Some(("limits" | "requests", "ephemeral-storage")) => ("local ephemeral storage", &BYTES),
        Some(("limits" | "requests", huge)) if huge.starts_with("hugepages-") => ("hugepages", &BYTES),
        _ => return,
    };
    if text.is_empty() || parse(&at).is_some_and(|divisor| divisor == Quantity::zero()) || allowed.contains(&text) {
        return;
    }
    let values = if what == "cpu" { "1m and 1".to_owned() } else { BYTES.join(", ") };
    errors.invalid_value(
        &at,
        resource,
        &format!("only divisor's values {values} are supported with the {what} resource"),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(resources: Value, want: &[&str]) {
        let resources = json!({"resources": resources});
        let root = Node::root(resources.as_object().expect("an object"));
        let mut errors = Errors::default();
        of_container(&root.field("resources"), &HashSet::from(["gpu", "net"]), &mut errors);
        assert_eq!(errors.0.iter().map(ToString::to_string).collect::<Vec<_>>(), want);
    }

    #[test]
    fn huge_pages_come_whole_and_not_alone() {
        check(json!({"limits": {"cpu": "1", "hugepages-2Mi": "4Mi"}}), &[]);
        check(
            json!({"limits": {"hugepages-2Mi": "3Mi"}}),
            &[
                "resources.limits[hugepages-2Mi]: Invalid value: \"3Mi\": 3Mi is not positive integer multiple of hugepages-2Mi",
                "resources: Forbidden: HugePages require cpu or memory",
            ],
        );
    }

    #[test]
    fn a_claim_is_named_once_or_by_its_requests() {
        check(json!({"claims": [{"name": "gpu", "request": "a"}, {"name": "gpu", "request": "b"}]}), &[]);
        check(
            json!({"claims": [{"name": "gpu", "request": "a"}, {"name": "gpu"}, {"name": ""}, {"name": "disk"}]}),
            &[
                "resources.claims[1]: Duplicate value: \"gpu\"",
                "resources.claims[2]: Required value",
                "resources.claims[3]: Not found: \"disk\": must be one of the names in pod.spec.resourceClaims: gpu, net",
            ],
        );
    }
}
