//! ResourceQuota: what a namespace has used may not grow beyond what it is given.
//!
//! A new object's cost is added to `status.used` with a compare-and-swap before it is stored, so that two requests never
//! share the last bit of a quota. The quota controller counts anew from what exists.

use std::sync::Arc;

use api::quantity::Quantity;
use api::{ApiError, Object};
use async_trait::async_trait;
use serde_json::{Map, Value};
use store::Store;

use super::{Attributes, Operation, ValidatingAdmission, Warnings, quantity};
use crate::managed;
use crate::watch_cache::{ResourceCache, WatchCache};

/// Core resources that quotas count by their plain plural, too.
const COUNTED: [&str; 7] =
    ["configmaps", "persistentvolumeclaims", "replicationcontrollers", "resourcequotas", "secrets", "services", "pods"];
/// Attempts to book a cost while others book theirs.
const ATTEMPTS: usize = 16;

type Amounts = std::collections::BTreeMap<String, Quantity>;

/// The plugin.
pub struct ResourceQuota {
    quotas: Arc<ResourceCache>,
    store: Arc<dyn Store>,
}

impl ResourceQuota {
    /// Finds quotas in the cache, and books in the store.
    pub fn new(cache: &WatchCache, store: Arc<dyn Store>) -> Option<Self> {
        Some(Self { quotas: cache.resource("resourcequotas")?, store })
    }

    fn quotas(&self, namespace: &str) -> Vec<Object> {
        let prefix = format!("{}{namespace}/", self.quotas.prefix());
        let snapshot = self.quotas.snapshot();
        let from = Arc::<str>::from(prefix.as_str());
        let found = snapshot
            .objects
            .range(from..)
            .map(|(_, cached)| cached)
            .take_while(|cached| cached.key.starts_with(&prefix));
        found.map(|cached| cached.object()).collect()
    }

    /// Checks one quota and books the cost; repeated when somebody else was faster.
    async fn book(
        &self,
        attributes: &Attributes<'_>,
        object: &Object,
        quota: &Object,
        cost: &Amounts,
    ) -> Result<(), ApiError> {
        let key = self.quotas.key(attributes.namespace, quota.name());
        let mut current = quota.clone();
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                let entry = self.store.get(&key).await.map_err(|err| crate::registry::unavailable(&err))?;
                let Some(entry) = entry else { return Ok(()) };
                current =
                    crate::watch_cache::read(&self.quotas, &entry).map(|cached| cached.object()).unwrap_or(current);
            }
            let Some(used) = check(attributes, object, &current, cost)? else { return Ok(()) };
            if attributes.dry_run {
                return Ok(());
            }
            let revision: u64 = current.resource_version().parse().map_err(ApiError::internal)?;
            let before = current.clone();
            current.set(&["status", "used"], used);
            managed::track_own(self.quotas.row(), "status", &before, &mut current);
            if crate::registry::swap(&self.store, &key, &current, revision).await? {
                return Ok(());
            }
        }
        let why = format!("quota {} is changed too often at this moment", quota.name());
        Err(ApiError::too_many_requests(why, 1))
    }
}

/// What a quota would have used with this object; `None` if it does not concern it.
fn check(
    attributes: &Attributes<'_>,
    object: &Object,
    quota: &Object,
    cost: &Amounts,
) -> Result<Option<Map<String, Value>>, ApiError> {
    let refuse = |why: String| Err(ApiError::forbidden(attributes.resource.qualified(), object.name(), &why));
    let map = |field: &str| quota.get(&["status", field]).and_then(Value::as_object).cloned().unwrap_or_default();
    let (hard, mut used) = (map("hard"), map("used"));
    let concerned: Vec<(&String, Quantity, Quantity)> = hard
        .iter()
        .filter_map(|(resource, limit)| Some((resource, quantity(limit)?, *cost.get(resource.as_str())?)))
        .filter(|(_, _, cost)| !cost.is_zero())
        .collect();
    let mut over: [Vec<String>; 3] = Default::default();
    for (resource, limit, cost) in &concerned {
        let Some(known) = used.get(*resource).and_then(quantity) else {
            return refuse(format!("status unknown for quota: {}, resources: {resource}", quota.name()));
        };
        if known + *cost > *limit {
            for (list, amount) in over.iter_mut().zip([cost, &known, limit]) {
                list.push(format!("{resource}={amount}"));
            }
        }
        used.insert((*resource).clone(), (known + *cost).to_string().into());
    }
    if over[0].is_empty() {
        return Ok((!concerned.is_empty()).then_some(used));
    }
    let [requested, known, limited] = over.map(|list| list.join(","));
    refuse(format!("exceeded quota: {}, requested: {requested}, used: {known}, limited: {limited}", quota.name()))
}

/// What a new object costs, by the names that quotas use.
fn cost_of(attributes: &Attributes<'_>, object: &Object) -> Amounts {
    let (group, plural) = (attributes.resource.group.as_ref(), attributes.resource.plural.as_ref());
    let one = Quantity::new(1, api::quantity::Format::DecimalSi);
    let mut cost = Amounts::new();
    let dotted = if group.is_empty() { String::new() } else { format!(".{group}") };
    cost.insert(format!("count/{plural}{dotted}"), one);
    if group.is_empty() && COUNTED.contains(&plural) {
        cost.insert(plural.to_owned(), one);
    }
    match (group, plural) {
        ("", "pods") => cost.extend(cost_of_pod(object)),
        ("", "services") => cost.extend(cost_of_service(object)),
        ("", "persistentvolumeclaims") => {
            let asked = object.get(&["spec", "resources", "requests", "storage"]).and_then(quantity);
            let class = object.text(&["spec", "storageClassName"]);
            if let Some(asked) = asked {
                cost.insert("requests.storage".into(), asked);
                if !class.is_empty() {
                    cost.insert(format!("{class}.storageclass.storage.k8s.io/requests.storage"), asked);
                }
            }
            if !class.is_empty() {
                cost.insert(format!("{class}.storageclass.storage.k8s.io/persistentvolumeclaims"), one);
            }
        }
        _ => {}
    }
    cost
}

/// The node ports and load balancers of a service.
fn cost_of_service(service: &Object) -> Amounts {
    let amount = |value: i64| Quantity::new(value, api::quantity::Format::DecimalSi);
    let kind = service.text(&["spec", "type"]);
    let balances = kind == "LoadBalancer";
    let ports = service.get(&["spec", "ports"]).and_then(Value::as_array).map_or(0, Vec::len);
    let has_ports = kind == "NodePort"
        || (balances && service.get(&["spec", "allocateLoadBalancerNodePorts"]) != Some(&Value::Bool(false)));
    let mut cost = Amounts::new();
    if has_ports {
        cost.insert("services.nodeports".into(), amount(i64::try_from(ports).unwrap_or(i64::MAX)));
    }
    if balances {
        cost.insert("services.loadbalancers".into(), amount(1));
    }
    cost
}

/// Containers of a list with their names.
fn containers<'a>(pod: &'a Object, list: &str) -> impl Iterator<Item = &'a Value> {
    pod.get(&["spec", list]).and_then(Value::as_array).into_iter().flatten()
}

/// The sum over containers or the most of any init container, and the overhead.
fn cost_of_pod(pod: &Object) -> Amounts {
    let mut cost = Amounts::new();
    for (field, bare) in [("requests", true), ("limits", false)] {
        let of = |container: &Value| -> Vec<(String, Quantity)> {
            let map = container.pointer(&format!("/resources/{field}")).and_then(Value::as_object);
            map.into_iter()
                .flatten()
                .filter_map(|(resource, amount)| Some((resource.clone(), quantity(amount)?)))
                .collect()
        };
        let add = |total: &mut Amounts, resource: String, amount: Quantity| {
            let sum = total.get(&resource).map_or(amount, |known| *known + amount);
            total.insert(resource, sum);
        };
        let (mut total, mut started) = (Amounts::new(), Amounts::new());
        containers(pod, "containers").flat_map(of).for_each(|(resource, amount)| add(&mut total, resource, amount));
        let mut peak = Amounts::new();
        for container in containers(pod, "initContainers") {
            let stays = container.get("restartPolicy").and_then(Value::as_str) == Some("Always");
            for (resource, amount) in of(container) {
                let needed = started.get(&resource).map_or(amount, |before| *before + amount);
                if peak.get(&resource).is_none_or(|known| needed > *known) {
                    peak.insert(resource.clone(), needed);
                }
                if stays {
                    add(&mut started, resource.clone(), amount);
                    add(&mut total, resource, amount);
                }
            }
        }
        for (resource, amount) in peak {
            if total.get(&resource).is_none_or(|known| amount > *known) {
                total.insert(resource, amount);
            }
        }
        for (resource, amount) in pod.get(&["spec", "overhead"]).and_then(Value::as_object).into_iter().flatten() {
            if let Some(amount) = quantity(amount).filter(|_| bare || total.contains_key(resource)) {
                add(&mut total, resource.clone(), amount);
            }
        }
        for (resource, amount) in total {
            if bare && matches!(resource.as_str(), "cpu" | "memory" | "ephemeral-storage") {
                cost.insert(resource.clone(), amount);
            }
            cost.insert(format!("{field}.{resource}"), amount);
        }
    }
    cost
}

/// Compute resources that a quota limits must be said by every container.
fn unsaid(pod: &Object, quota: &Object) -> Option<String> {
    let hard = quota.get(&["status", "hard"]).and_then(Value::as_object)?;
    let mut missing: std::collections::BTreeMap<String, Vec<&str>> = std::collections::BTreeMap::new();
    for resource in hard.keys() {
        let (field, bare) = match resource.split_once('.') {
            Some(("requests", rest)) if matches!(rest, "cpu" | "memory") => ("requests", rest),
            Some(("limits", rest)) if matches!(rest, "cpu" | "memory") => ("limits", rest),
            None if matches!(resource.as_str(), "cpu" | "memory") => ("requests", resource.as_str()),
            _ => continue,
        };
        for container in containers(pod, "containers").chain(containers(pod, "initContainers")) {
            if container.pointer(&format!("/resources/{field}/{bare}")).is_none() {
                let name = container.get("name").and_then(Value::as_str).unwrap_or("");
                missing.entry(resource.clone()).or_default().push(name);
            }
        }
    }
    if missing.is_empty() {
        return None;
    }
    let texts: Vec<String> =
        missing.iter().map(|(resource, names)| format!("{resource} for: {}", names.join(","))).collect();
    Some(format!("failed quota: {}: must specify {}", quota.name(), texts.join("; ")))
}

/// Whether a quota with scopes counts this object.
fn in_scope(attributes: &Attributes<'_>, object: &Object, quota: &Object) -> bool {
    let is_pod = attributes.is("", "pods");
    let says = |field: &str| {
        containers(object, "containers").any(|container| {
            container
                .pointer(&format!("/resources/{field}"))
                .and_then(Value::as_object)
                .is_some_and(|map| !map.is_empty())
        })
    };
    let best_effort = || !says("requests") && !says("limits");
    let terminating = || object.integer(&["spec", "activeDeadlineSeconds"]).is_some_and(|seconds| seconds >= 0);
    let class = object.text(&["spec", "priorityClassName"]);
    let plain =
        quota.get(&["spec", "scopes"]).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let holds = |scope: &str, operator: &str, values: &[&str]| match scope {
        "BestEffort" => best_effort(),
        "NotBestEffort" => !best_effort(),
        "Terminating" => terminating(),
        "NotTerminating" => !terminating(),
        "PriorityClass" => match operator {
            "In" => values.contains(&class),
            "NotIn" => !values.contains(&class),
            "DoesNotExist" => class.is_empty(),
            _ => !class.is_empty(),
        },
        _ => false,
    };
    let mut scopes = plain.map(|scope| (scope, "Exists", Vec::new())).collect::<Vec<_>>();
    for expression in
        quota.get(&["spec", "scopeSelector", "matchExpressions"]).and_then(Value::as_array).into_iter().flatten()
    {
        let text = |field: &str| expression.get(field).and_then(Value::as_str).unwrap_or("");
        let values = expression
            .get("values")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        scopes.push((text("scopeName"), text("operator"), values));
    }
    scopes.is_empty() || (is_pod && scopes.iter().all(|(scope, operator, values)| holds(scope, operator, values)))
}

#[async_trait]
impl ValidatingAdmission for ResourceQuota {
    fn name(&self) -> &'static str {
        "ResourceQuota"
    }

    async fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&Object>,
        _warnings: &mut Warnings,
    ) -> Result<(), ApiError> {
        let is_new = attributes.operation == Operation::Create
            && attributes.subresource.is_empty()
            && attributes.resource.namespaced;
        let Some(object) = object.filter(|_| is_new) else { return Ok(()) };
        let quotas: Vec<Object> =
            self.quotas(attributes.namespace).into_iter().filter(|quota| in_scope(attributes, object, quota)).collect();
        if quotas.is_empty() {
            return Ok(());
        }
        if attributes.is("", "pods")
            && let Some(why) = quotas.iter().find_map(|quota| unsaid(object, quota))
        {
            return Err(ApiError::forbidden(attributes.resource.qualified(), object.name(), &why));
        }
        let cost = cost_of(attributes, object);
        // All are checked before any is booked.
        for quota in &quotas {
            check(attributes, object, quota, &cost)?;
        }
        for quota in &quotas {
            self.book(attributes, object, quota, &cost).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_costs_its_containers_or_its_largest_init_container() {
        let pod = json!({"spec": {
            "containers": [{"resources": {"requests": {"cpu": "100m"}}}, {"resources": {"requests": {"cpu": "200m"}, "limits": {"memory": "1Gi"}}}],
            "initContainers": [{"resources": {"requests": {"cpu": "1"}}}],
        }});
        let cost = cost_of_pod(&Object::from_value(pod).unwrap());
        assert_eq!(cost["requests.cpu"], "1".parse().unwrap());
        assert_eq!(cost["limits.memory"], "1Gi".parse().unwrap());
        assert!(!cost.contains_key("memory"));
    }
}
