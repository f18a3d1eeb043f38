//! Services lead to the pods that are ready, in EndpointSlices and in Endpoints, and budgets know the pods they guard.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::objects::{self, Objects, is_over, is_true, matches, number, of, text};

pub(super) fn complaints(objects: &Objects) -> Vec<String> {
    let services = of(objects, "services/specs").filter_map(|(key, service)| {
        let wrong = service_leads(service, objects).err()?;
        Some(format!("{key} {wrong}"))
    });
    let budgets = of(objects, "poddisruptionbudgets").filter_map(|(key, budget)| {
        let wrong = budget_knows(budget, objects).err()?;
        Some(format!("{key} {wrong}"))
    });
    services.chain(budgets).collect()
}

fn pods_in<'a>(namespace: &'a str, selector: &'a Value, all: &'a Objects) -> impl Iterator<Item = &'a Value> {
    let pods = of(all, "pods").map(|(_, pod)| pod).filter(move |pod| objects::namespace(pod) == namespace);
    pods.filter(move |pod| !is_over(pod) && matches(selector, pod.pointer("/metadata/labels")))
}

fn service_leads(service: &Value, all: &Objects) -> Result<(), String> {
    let Some(selector) = service.pointer("/spec/selector") else { return Ok(()) };
    let always = service.pointer("/spec/publishNotReadyAddresses") == Some(&Value::Bool(true));
    let is_shown = |pod: &&Value| always || is_true(pod, "Ready");
    let namespace = objects::namespace(service);
    let wanted: BTreeSet<&str> =
        pods_in(namespace, selector, all).filter(is_shown).map(|pod| text(pod, "/status/podIP")).collect();
    let sliced = sliced(service, all);
    if sliced != wanted {
        return Err(format!("has slices to {sliced:?}, not {wanted:?}"));
    }
    let endpoints = all.get(&format!("services/endpoints/{namespace}/{}", objects::name(service)));
    let listed: BTreeSet<&str> = endpoints.into_iter().flat_map(addresses).collect();
    if listed == wanted { Ok(()) } else { Err(format!("has endpoints {listed:?}, not {wanted:?}")) }
}

/// The ready addresses in the slices of a Service.
fn sliced<'a>(service: &Value, all: &'a Objects) -> BTreeSet<&'a str> {
    let is_mine = |slice: &&Value| {
        let of = slice.pointer("/metadata/labels").and_then(|labels| labels.get("kubernetes.io/service-name"));
        of.and_then(Value::as_str) == Some(objects::name(service))
            && objects::namespace(slice) == objects::namespace(service)
    };
    let slices = of(all, "endpointslices").map(|(_, slice)| slice).filter(is_mine);
    let endpoints = slices.flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
    let ready = endpoints.filter(|endpoint| endpoint.pointer("/conditions/ready") == Some(&Value::Bool(true)));
    ready
        .flat_map(|endpoint| endpoint["addresses"].as_array().into_iter().flatten())
        .filter_map(Value::as_str)
        .collect()
}

fn addresses(endpoints: &Value) -> Vec<&str> {
    let subsets = endpoints["subsets"].as_array().into_iter().flatten();
    subsets
        .flat_map(|subset| subset["addresses"].as_array().into_iter().flatten())
        .map(|one| text(one, "/ip"))
        .collect()
}

fn budget_knows(budget: &Value, all: &Objects) -> Result<(), String> {
    let Some(selector) = budget.pointer("/spec/selector/matchLabels") else { return Ok(()) };
    let healthy = pods_in(objects::namespace(budget), selector, all).filter(|pod| is_true(pod, "Ready")).count() as i64;
    let known = number(budget, "/status/currentHealthy").unwrap_or(0);
    if known == healthy { Ok(()) } else { Err(format!("counts {known} healthy pods, not {healthy}")) }
}
