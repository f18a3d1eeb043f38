//! `nodes` and `pods` of `metrics.k8s.io`: what they use, asked of kubelets (upstream: `pkg/api` of the metrics-server).

use std::collections::{BTreeMap, Bound};
use std::sync::Arc;

use api::codec::time::{print_duration, print_seconds};
use api::selector::{FieldSelector, LabelSelector};
use api::status::Qualified;
use api::{ApiError, Object, Resource};
use facts::quantity::{Format, Quantity};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::call::{Call, method_not_allowed};
use crate::core::Core;
use crate::handler::{made, made_list};
use crate::outbound::kubelets::Backend;
use crate::request::info::Deed;
use crate::response::Answer;
use crate::usage::{ByNode, Used};
use crate::watch_cache::{Cached, ResourceCache, Selection};

/// Answers a request for one or several.
pub(super) async fn answer(call: &Call<'_>, row: &Arc<Resource>) -> Result<Answer, ApiError> {
    let source = Source::of(call, row)?;
    // Who has just made a pod finds it.
    source.cache.settle().await?;
    match (&call.info.deed, call.info.is_item) {
        (Deed::Get, true) => {
            let metrics = source.one(call).await?;
            made(call, row, &metrics)
        }
        (Deed::List, false) => made_list(call, row, source.all(call, row).await?),
        _ => Err(method_not_allowed()),
    }
}

/// The nodes or pods that metrics are of.
struct Source {
    cache: Arc<ResourceCache>,
    /// Of pods: where the node and the phase stand among the selectable fields.
    of_pods: Option<(usize, usize)>,
}

impl Source {
    fn of(call: &Call<'_>, row: &Resource) -> Result<Self, ApiError> {
        let cache = call.core.registry.named("", &row.plural)?;
        let at = |name: &str| cache.row().selectable_fields.iter().position(|field| field.name == name);
        let of_pods = at("spec.nodeName").zip(at("status.phase"));
        Ok(Self { cache, of_pods })
    }

    /// The node that something uses resources of; none if it does not run.
    fn node<'a>(&self, object: &'a Cached) -> Option<&'a str> {
        let Some((node, phase)) = self.of_pods else { return Some(object.name()) };
        let field = |at: usize| object.fields.get(at).map(AsRef::as_ref);
        field(node).filter(|node| !node.is_empty() && field(phase) == Some("Running"))
    }

    async fn one(&self, call: &Call<'_>) -> Result<Object, ApiError> {
        let info = call.info;
        let (plural, kind) = match self.of_pods {
            Some(_) => ("pods", "podmetrics"),
            None => ("nodes", "nodemetrics"),
        };
        let found = self.cache.get(&self.cache.key(&info.namespace, &info.name));
        let missing = || ApiError::not_found(Qualified { group: "", resource: plural }, &info.name);
        let object = found.ok_or_else(missing)?;
        let known = measure(call.core, self.node(&object).map(str::to_owned).into_iter().collect()).await?;
        let full =
            if info.namespace.is_empty() { info.name.clone() } else { format!("{}/{}", info.namespace, info.name) };
        let unknown = || ApiError::not_found(Qualified { group: &info.group, resource: kind }, &full);
        self.metrics(&object, &known).ok_or_else(unknown)
    }

    async fn all(&self, call: &Call<'_>, row: &Resource) -> Result<Vec<Object>, ApiError> {
        let selection = selection(call, row)?;
        let snapshot = self.cache.snapshot();
        let prefix = selection.prefix(&self.cache);
        let from = (Bound::Included(prefix.as_str()), Bound::Unbounded);
        let within = snapshot.objects.range::<str, _>(from).map(|(_, object)| object);
        let within = within.take_while(|object| object.key.starts_with(&prefix));
        let found: Vec<_> = within.filter(|object| selection.matches(&self.cache, object)).collect();
        let mut nodes: Vec<&str> = found.iter().filter_map(|object| self.node(object)).collect();
        nodes.sort_unstable();
        nodes.dedup();
        let known = measure(call.core, nodes.into_iter().map(str::to_owned).collect()).await?;
        Ok(found.into_iter().filter_map(|object| self.metrics(object, &known)).collect())
    }

    /// The metrics of a node or pod, if its kubelet told enough.
    fn metrics(&self, object: &Cached, known: &ByNode) -> Option<Object> {
        let rates = known.get(self.node(object)?)?;
        let (kind, mut tree, used) = if self.of_pods.is_some() {
            let containers = rates.pod(object.namespace(), object.name())?;
            // The window of all is that of the one that was looked at first.
            let first = containers.values().min_by_key(|used| used.at)?;
            let containers = containers.iter().map(|(name, used)| json!({"name": name, "usage": usage(used)}));
            ("PodMetrics", json!({"containers": containers.collect::<Vec<_>>()}), first)
        } else {
            let used = rates.node.as_ref()?;
            ("NodeMetrics", json!({"usage": usage(used)}), used)
        };
        let labels: BTreeMap<&str, &str> = object.labels.iter().collect();
        tree["kind"] = kind.into();
        tree["apiVersion"] = "metrics.k8s.io/v1beta1".into();
        tree["metadata"] = json!({"name": object.name(), "creationTimestamp": print_seconds(Timestamp::now())});
        if !object.namespace().is_empty() {
            tree["metadata"]["namespace"] = object.namespace().into();
        }
        if !labels.is_empty() {
            tree["metadata"]["labels"] = json!(labels);
        }
        tree["timestamp"] = print_seconds(Timestamp::from_millisecond(used.at).ok()?).into();
        tree["window"] = print_duration(used.window).into();
        Object::from_value(tree)
    }
}

/// What a request selects: by labels, and by the names that metrics have.
fn selection(call: &Call<'_>, row: &Resource) -> Result<Selection, ApiError> {
    let info = call.info;
    Ok(Selection {
        namespace: Some(info.namespace.clone()).filter(|namespace| !namespace.is_empty()),
        name: Some(info.name.clone()).filter(|name| !name.is_empty()),
        labels: LabelSelector::parse(call.query.get("labelSelector").unwrap_or(""))?,
        fields: FieldSelector::parse(call.query.get("fieldSelector").unwrap_or(""), row)?,
    })
}

fn usage(used: &Used) -> Value {
    let cpu = Quantity::from_nano(used.cpu, Format::DecimalSi);
    let memory = Quantity::new(used.memory, Format::BinarySi);
    json!({"cpu": cpu.to_string(), "memory": memory.to_string()})
}

/// Asks about nodes that there are.
async fn measure(core: &Arc<Core>, nodes: Vec<String>) -> Result<ByNode, ApiError> {
    let cache = core.registry.named("", "nodes")?;
    cache.settle().await?;
    let find = |name: &str| {
        let node = cache.get(&cache.key("", name))?.object();
        Backend::of_node(&node, &core.config.kubelet_address_types).ok()
    };
    Ok(core.usage.of(nodes, find).await)
}
