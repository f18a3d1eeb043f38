//! Reads answers of servers of metrics. What they say is anybody's: a number that is none, or a list of the wrong shape, is an
//! answer that cannot be used, never a crash.

use std::collections::BTreeMap;

use facts::quantity::Quantity;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer, de};

use crate::autoscaler::calculate::{Sample, Samples};

/// What an adapter samples over where it does not say (upstream: `metricServerDefaultMetricWindow`).
const WINDOW: SignedDuration = SignedDuration::from_secs(60);

/// An answer of one of the APIs.
pub(super) trait Answer: for<'de> Deserialize<'de> {
    /// What users call the API.
    const API: &'static str;
}

/// The failure to read a metric by an API.
pub(super) fn failure<A: Answer>(why: impl std::fmt::Display) -> String {
    format!("unable to fetch metrics from {} metrics API: {why}", A::API)
}

/// The same for custom metrics.
pub(super) fn custom_failure(why: String) -> String {
    failure::<CustomMetrics>(why)
}

/// `PodMetricsList` of `metrics.k8s.io/v1beta1`.
#[derive(Debug, Deserialize)]
pub(super) struct PodMetricsList {
    #[serde(deserialize_with = "list")]
    items: Vec<PodMetrics>,
}

impl Answer for PodMetricsList {
    const API: &'static str = "resource";
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodMetrics {
    metadata: Named,
    timestamp: Option<Timestamp>,
    #[serde(default, deserialize_with = "go_duration")]
    window: SignedDuration,
    #[serde(default, deserialize_with = "list")]
    containers: Vec<ContainerMetrics>,
}

#[derive(Debug, Default, Deserialize)]
struct Named {
    #[serde(default)]
    name: String,
    #[serde(default)]
    namespace: String,
}

#[derive(Debug, Deserialize)]
struct ContainerMetrics {
    name: String,
    #[serde(default)]
    usage: BTreeMap<String, Number>,
}

impl PodMetricsList {
    /// What each pod, or one container of each, uses of a resource. A pod of which a container's usage is not known has none.
    pub(super) fn samples(self, resource: &str, container: Option<&str>) -> Result<Samples, String> {
        if self.items.is_empty() {
            return Err("no metrics returned from resource metrics API".to_owned());
        }
        let mut samples = Samples::new();
        for pod in self.items {
            let value = match container {
                Some(container) => pod.of_container(container, resource)?,
                None => pod.total(resource),
            };
            if let Some(value) = value {
                samples.insert(pod.metadata.name, Sample { value, at: taken(pod.timestamp), window: pod.window });
            }
        }
        Ok(samples)
    }
}

impl PodMetrics {
    fn total(&self, resource: &str) -> Option<i64> {
        let amounts = self.containers.iter().map(|container| container.usage.get(resource));
        let sum = |sum: i64, amount: Option<&Number>| Some(sum.saturating_add(amount?.0));
        let mut amounts = amounts.peekable();
        amounts.peek()?;
        amounts.try_fold(0_i64, sum)
    }

    fn of_container(&self, container: &str, resource: &str) -> Result<Option<i64>, String> {
        let Some(found) = self.containers.iter().find(|known| known.name == container) else {
            let Named { name, namespace } = &self.metadata;
            let why = format!("container {container} not present in metrics for pod {namespace}/{name}");
            return Err(format!("failed to get container metrics: {why}"));
        };
        Ok(found.usage.get(resource).map(|amount| amount.0))
    }
}

/// `MetricValueList` of `custom.metrics.k8s.io`, `v1beta1` or `v1beta2`.
#[derive(Debug, Deserialize)]
pub(super) struct CustomMetrics {
    #[serde(deserialize_with = "list")]
    items: Vec<CustomMetric>,
}

impl Answer for CustomMetrics {
    const API: &'static str = "custom";
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CustomMetric {
    described_object: Named,
    timestamp: Option<Timestamp>,
    /// `v1beta1` calls it `window`.
    #[serde(alias = "window")]
    window_seconds: Option<i64>,
    value: Number,
}

impl CustomMetrics {
    pub(super) fn samples(self) -> Result<Samples, String> {
        if self.items.is_empty() {
            return Err("no metrics returned from custom metrics API".to_owned());
        }
        let sample = |metric: CustomMetric| {
            let window = metric.window_seconds.map_or(WINDOW, SignedDuration::from_secs);
            (metric.described_object.name, Sample { value: metric.value.0, at: taken(metric.timestamp), window })
        };
        Ok(self.items.into_iter().map(sample).collect())
    }

    /// The value of the one object that was asked for.
    pub(super) fn one(self) -> Result<i64, String> {
        match self.items.as_slice() {
            [metric] => Ok(metric.value.0),
            many => {
                let why = format!(
                    "the custom metrics API server returned {} results when we asked for exactly one",
                    many.len()
                );
                Err(custom_failure(why))
            }
        }
    }
}

/// `ExternalMetricValueList` of `external.metrics.k8s.io/v1beta1`.
#[derive(Debug, Deserialize)]
pub(super) struct ExternalMetrics {
    #[serde(deserialize_with = "list")]
    items: Vec<ExternalMetric>,
}

impl Answer for ExternalMetrics {
    const API: &'static str = "external";
}

#[derive(Debug, Deserialize)]
struct ExternalMetric {
    value: Number,
}

impl ExternalMetrics {
    /// The sum of all series.
    pub(super) fn total(self) -> Result<i64, String> {
        if self.items.is_empty() {
            return Err("no metrics returned from external metrics API".to_owned());
        }
        Ok(self.items.iter().fold(0, |sum, metric| metric.value.0.saturating_add(sum)))
    }
}

/// Go's zero time is before everything.
fn taken(at: Option<Timestamp>) -> Timestamp {
    at.unwrap_or(Timestamp::MIN)
}

/// A quantity in thousandths.
#[derive(Clone, Copy, Debug)]
struct Number(i64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(from)?;
        let quantity = Quantity::of_value(&value).filter(|_| value.is_string() || value.is_number());
        quantity.map(|quantity| Self(quantity.milli_value())).ok_or_else(|| de::Error::custom("not a quantity"))
    }
}

/// A list, which Go writes as `null` when it is empty.
fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// A duration as Go writes it: `30s`, `1m0s`.
fn go_duration<'de, D: Deserializer<'de>>(from: D) -> Result<SignedDuration, D::Error> {
    let text = String::deserialize(from)?;
    let duration = daemon::pflag::duration(&text).map_err(de::Error::custom)?;
    SignedDuration::try_from(duration).map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    fn pods(containers: Value) -> Value {
        json!({"items": [{"metadata": {"name": "p", "namespace": "n"}, "timestamp": "2026-01-01T00:00:00Z",
            "window": "1m0.5s", "containers": containers}]})
    }

    #[test]
    fn a_pod_uses_what_its_containers_use() {
        let check = |containers: Value, container: Option<&str>, want: Result<Option<i64>, &str>| {
            let list: PodMetricsList = from_value(pods(containers.clone())).unwrap();
            let got = list.samples("cpu", container).map(|samples| samples.get("p").map(|sample| sample.value));
            assert_eq!(got.as_ref().map_err(String::as_str), want.as_ref().map_err(|why| *why), "{containers}");
        };
        let two = || json!([{"name": "a", "usage": {"cpu": "100m"}}, {"name": "b", "usage": {"cpu": "1"}}]);
        check(two(), None, Ok(Some(1100)));
        check(two(), Some("b"), Ok(Some(1000)));
        let absent = "failed to get container metrics: container c not present in metrics for pod n/p";
        check(two(), Some("c"), Err(absent));
        check(json!([{"name": "a", "usage": {"cpu": "1"}}, {"name": "b", "usage": {}}]), None, Ok(None));
        check(json!([{"name": "a", "usage": {}}]), Some("a"), Ok(None));
        check(json!([]), None, Ok(None));
        check(Value::Null, None, Ok(None));
        let huge = "9999999999999999999999999999999999999999";
        check(
            json!([{"name": "a", "usage": {"cpu": huge}}, {"name": "b", "usage": {"cpu": huge}}]),
            None,
            Ok(Some(i64::MAX)),
        );
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for odd in [
            pods(json!([{"name": "a", "usage": {"cpu": "NaN"}}])),
            pods(json!([{"name": "a", "usage": {"cpu": true}}])),
            pods(json!([{"name": "a", "usage": {"cpu": {"a": 1}}}])),
            pods(json!({"name": "a"})),
            json!({"items": [{"metadata": {"name": "p"}, "timestamp": "yesterday", "window": "1s", "containers": []}]}),
            json!({"items": [{"metadata": {"name": "p"}, "timestamp": "2026-01-01T00:00:00Z", "window": "soon"}]}),
            json!({"items": 1}),
            json!({}),
            json!(null),
        ] {
            assert!(from_value::<PodMetricsList>(odd.clone()).is_err(), "{odd}");
        }
        let none: PodMetricsList = from_value(json!({"items": null})).unwrap();
        assert!(none.samples("cpu", None).unwrap_err().starts_with("no metrics returned"));
    }

    #[test]
    fn custom_metrics_are_read_in_both_versions() {
        let metric = |window: &str, value: Value| {
            let object = json!({"kind": "Pod", "name": "p"});
            json!({"items": [{"describedObject": object, "timestamp": null, window: 30, "value": value}]})
        };
        for window in ["window", "windowSeconds"] {
            let samples = from_value::<CustomMetrics>(metric(window, json!("1500m"))).unwrap().samples().unwrap();
            assert_eq!((samples["p"].value, samples["p"].window), (1500, SignedDuration::from_secs(30)), "{window}");
        }
        assert_eq!(from_value::<CustomMetrics>(metric("window", json!(-2))).unwrap().one(), Ok(-2000));
        let none: CustomMetrics = from_value(json!({"items": []})).unwrap();
        assert!(none.one().unwrap_err().ends_with("returned 0 results when we asked for exactly one"));
    }

    #[test]
    fn series_of_an_external_metric_add_up_and_no_further_than_numbers_go() {
        let check = |values: &[&str], want: i64| {
            let items: Vec<Value> = values.iter().map(|value| json!({"metricName": "m", "value": value})).collect();
            let total = from_value::<ExternalMetrics>(json!({"items": items})).unwrap().total();
            assert_eq!(total, Ok(want), "{values:?}");
        };
        check(&["1", "250m"], 1250);
        check(&["5", "-7"], -2000);
        check(&["9223372036854775807", "9223372036854775807", "1e30"], i64::MAX);
    }
}
