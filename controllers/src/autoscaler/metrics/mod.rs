//! What the three APIs of metrics say (upstream: `MetricsClient`): `metrics.k8s.io`, `custom.metrics.k8s.io` and
//! `external.metrics.k8s.io`, each served by somebody's server behind the API server.

mod answer;
mod request;

use api::selector::LabelSelector;
use k8s_openapi::api::autoscaling::v2::{CrossVersionObjectReference, MetricIdentifier, MetricSpec};

use self::answer::{CustomMetrics, ExternalMetrics, PodMetricsList};
use self::request::Query;
use super::calculate::Samples;
use super::target::Targets;

/// What a metric says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reading {
    /// Of pods, each.
    Pods(Samples),
    /// Of an object, or of something outside the cluster; in thousandths.
    Value(i64),
}

/// The newest first. Older adapters serve the other.
const CUSTOM: [&str; 2] = ["v1beta2", "v1beta1"];

/// Asks for metrics.
#[derive(Clone)]
pub(super) struct Source {
    client: kube::Client,
    targets: Targets,
}

impl Source {
    pub(super) fn new(client: kube::Client, targets: Targets) -> Self {
        Self { client, targets }
    }

    /// Reads what a metric of an autoscaler asks for, of the pods that `pods` chooses if it is of pods. Fails with the words
    /// for the user.
    pub(super) async fn read(
        &self,
        namespace: &str,
        metric: &MetricSpec,
        pods: &LabelSelector,
    ) -> Result<Reading, String> {
        if let Some(resource) = &metric.resource {
            return self.resource(namespace, pods, &resource.name, None).await;
        }
        if let Some(resource) = &metric.container_resource {
            return self.resource(namespace, pods, &resource.name, Some(&resource.container)).await;
        }
        if let Some(metric) = &metric.pods {
            return self.of_pods(namespace, pods, &metric.metric).await;
        }
        if let Some(metric) = &metric.object {
            return self.of_object(namespace, &metric.described_object, &metric.metric).await;
        }
        if let Some(metric) = &metric.external {
            return self.external(namespace, &metric.metric).await;
        }
        Err(format!("unknown metric source type {:?}", metric.type_))
    }

    async fn resource(
        &self,
        namespace: &str,
        pods: &LabelSelector,
        resource: &str,
        container: Option<&str>,
    ) -> Result<Reading, String> {
        let query = Query::of("metrics.k8s.io", "v1beta1").namespaced(namespace, "pods").labels(pods);
        let said = query.ask::<PodMetricsList>(&self.client).await.and_then(|list| list.samples(resource, container));
        let samples = said.map_err(|why| format!("unable to get metrics for resource {resource}: {why}"))?;
        Ok(Reading::Pods(samples))
    }

    async fn of_pods(
        &self,
        namespace: &str,
        pods: &LabelSelector,
        metric: &MetricIdentifier,
    ) -> Result<Reading, String> {
        let name = &metric.name;
        let read = async {
            let query = Query::of("custom.metrics.k8s.io", self.custom_version().await?);
            let query =
                query.namespaced(namespace, "pods").named("*").part(name).labels(pods).metric(&selector(metric)?);
            query.ask::<CustomMetrics>(&self.client).await?.samples()
        };
        read.await.map(Reading::Pods).map_err(|why| format!("unable to get metric {name}: {why}"))
    }

    /// A metric of an object of the autoscaler's namespace, or of that namespace itself.
    async fn of_object(
        &self,
        namespace: &str,
        object: &CrossVersionObjectReference,
        metric: &MetricIdentifier,
    ) -> Result<Reading, String> {
        let group =
            object.api_version.as_deref().and_then(|version| version.split_once('/')).map_or("", |(group, _)| group);
        let read = async {
            let query = Query::of("custom.metrics.k8s.io", self.custom_version().await?);
            let query = if (group, object.kind.as_str()) == ("", "Namespace") {
                query.namespaced(namespace, "metrics")
            } else {
                let resource = self.targets.resource(group, &object.kind).await.map_err(answer::custom_failure)?;
                query.namespaced(namespace, &resource.name()).named(&object.name)
            };
            query.part(&metric.name).metric(&selector(metric)?).ask::<CustomMetrics>(&self.client).await?.one()
        };
        let (metric, kind, name) = (&metric.name, &object.kind, &object.name);
        let value: Result<i64, String> = read.await;
        value
            .map(Reading::Value)
            .map_err(|why| format!("unable to get metric {metric} on {kind} {namespace}/{name}: {why}"))
    }

    async fn external(&self, namespace: &str, metric: &MetricIdentifier) -> Result<Reading, String> {
        let query = Query::of("external.metrics.k8s.io", "v1beta1").namespaced(namespace, &metric.name);
        let query = query.labels(&selector(metric)?);
        let total = query.ask::<ExternalMetrics>(&self.client).await.and_then(ExternalMetrics::total);
        let words = super::words::selector(metric.selector.as_ref());
        let failed = |why| format!("unable to get external metric {namespace}/{}/{words}: {why}", metric.name);
        total.map(Reading::Value).map_err(failed)
    }

    /// The version in which custom metrics are served.
    async fn custom_version(&self) -> Result<&'static str, String> {
        let served = self.targets.versions("custom.metrics.k8s.io").await.map_err(answer::custom_failure)?;
        let version = CUSTOM.into_iter().find(|version| served.iter().any(|known| known == version));
        version.ok_or_else(|| {
            answer::custom_failure("no custom metrics API (custom.metrics.k8s.io) registered".to_owned())
        })
    }
}

/// Which series of a metric are meant; no selector means all.
fn selector(metric: &MetricIdentifier) -> Result<LabelSelector, String> {
    let Some(selector) = &metric.selector else { return Ok(LabelSelector::everything()) };
    let selector = serde_json::to_value(selector).map_err(|err| err.to_string())?;
    LabelSelector::of_value(Some(&selector)).map_err(|err| err.to_string())
}
