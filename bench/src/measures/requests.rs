//! Requests a second: creates, gets, lists, selector lists, patches, deletes.

use crate::Error;
use crate::budget;
use crate::client::Call;
use crate::drive::{Limits, Outcome, drive};
use crate::measures::Context;
use crate::objects::{GROUP, idle_pod, number_patch, pod_name};
use crate::options::Measure;
use crate::statistics::per_second;

/// A create measure ends here even if time is left, so that memory and cleaning up stay bounded.
const MOST_CREATES: usize = 100_000;

/// Pods that were created and not deleted yet.
pub(super) struct Written {
    namespace: String,
    count: usize,
}

/// Durable creates of 1 KB pods.
pub(super) async fn creates(context: &Context<'_>) -> Result<Written, Error> {
    let namespace = context.cluster.namespace("writes").await?;
    let path = format!("/api/v1/namespaces/{namespace}/pods");
    let limits = Limits { count: MOST_CREATES, ..Limits::for_time(context.options.in_flight, context.options.time()) };
    let outcome =
        drive(&context.cluster.client, limits, move |number| Call::post(path.clone(), idle_pod(number))).await?;
    let count = outcome.answered.len();
    if context.options.wants(Measure::Creates) {
        let mut table = context.table();
        table.add(
            format!("durable creates of 1 KB pods, {} in flight", context.options.in_flight),
            outcome.rate(),
            "/s",
            budget::CREATES,
        );
        for (name, part) in [("p50", 0.5), ("p99", 0.99)] {
            if let Some(value) = outcome.latencies().milliseconds(part) {
                table.add(format!("create latency {name}"), value, "ms", None);
            }
        }
    }
    Ok(Written { namespace, count })
}

/// Gets, lists, selector lists and patches in a namespace that holds `options.pods` pods.
pub(super) async fn reads(context: &Context<'_>, namespace: &str) -> Result<(), Error> {
    let (options, client) = (context.options, &context.cluster.client);
    let path = format!("/api/v1/namespaces/{namespace}/pods");
    let pods = options.pods;
    let many = Limits::for_time(options.in_flight, options.time());
    if options.wants(Measure::Gets) {
        let path = path.clone();
        // A step that is prime spreads the reads over all pods.
        let outcome =
            drive(client, many, move |number| Call::get(format!("{path}/{}", pod_name(number * 7919 % pods)))).await?;
        add(context, "gets", &outcome, budget::GETS);
    }
    if options.wants(Measure::Lists) {
        let path = path.clone();
        let few = Limits { in_flight: options.list_in_flight, ..many };
        let outcome = drive(client, few, move |_| Call::get(path.clone())).await?;
        let megabytes = per_second(outcome.bytes as f64 / 1e6, outcome.elapsed);
        context.table().add(
            format!("lists of {pods} pods, {} in flight", options.list_in_flight),
            megabytes,
            "MB/s",
            budget::LISTS,
        );
    }
    if options.wants(Measure::Selectors) {
        let path = path.clone();
        let outcome =
            drive(client, many, move |number| Call::get(format!("{path}?labelSelector={GROUP}%3D{}", number % 100)))
                .await?;
        add(context, "selector lists (1 % match)", &outcome, budget::SELECTOR_LISTS);
    }
    if options.wants(Measure::Patches) {
        let outcome = drive(client, many, move |number| {
            Call::merge_patch(format!("{path}/{}", pod_name(number * 7919 % pods)), number_patch("patches", number))
        })
        .await?;
        add(context, "merge patches", &outcome, None);
    }
    Ok(())
}

/// Deletes, without grace, of the pods that [`creates`] left.
pub(super) async fn deletes(context: &Context<'_>, written: &Written) -> Result<(), Error> {
    let path = format!("/api/v1/namespaces/{}/pods", written.namespace);
    let limits = Limits { count: written.count, ..Limits::for_time(context.options.in_flight, context.options.time()) };
    let outcome =
        drive(&context.cluster.client, limits, move |number| Call::delete(format!("{path}/{}", pod_name(number))))
            .await?;
    add(context, "deletes", &outcome, None);
    Ok(())
}

fn add(context: &Context<'_>, measure: &str, outcome: &Outcome, expected: Option<budget::Expectation>) {
    let mut table = context.table();
    table.add(measure, outcome.rate(), "/s", expected);
    if let Some(value) = outcome.latencies().milliseconds(0.99) {
        table.add(format!("{measure}, latency p99"), value, "ms", None);
    }
}
