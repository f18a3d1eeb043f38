//! The fan-out of writes to many watchers.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::Error;
use crate::budget;
use crate::client::{Call, PATIENCE};
use crate::drive::{Answered, Limits, drive};
use crate::measures::Context;
use crate::objects::{number_patch, pod_name};
use crate::statistics::{Latencies, per_second};
use crate::watch;

/// One watcher in ten looks into the events and notes when each came; the others only count.
const NOTING: usize = 10;
/// Of a calm stream of writes.
const PACE: Duration = Duration::from_millis(10);
const CALM_WRITES: usize = 200;

/// Writes as fast as the server takes them, then calmly: the first shows the rate, the second the delay by itself.
pub(super) async fn fan_out(context: &Context<'_>, namespace: &str) -> Result<(), Error> {
    let options = context.options;
    let fast = Limits::exactly(options.watch_writers, options.watch_writes);
    let loaded = round(context, namespace, "fast", fast).await?;
    let calm = Limits { pace: Some(PACE), ..Limits::exactly(4, CALM_WRITES) };
    let idle = round(context, namespace, "calm", calm).await?;
    let mut table = context.table();
    let events = (options.watchers * options.watch_writes) as f64;
    table.add(
        format!("watch fan-out, {} watchers", options.watchers),
        per_second(events, loaded.elapsed),
        "events/s",
        budget::FAN_OUT,
    );
    for (name, delays, expected) in [
        ("at full speed, from the write's answer, p99", &loaded.after_answer, budget::FAN_OUT_P99),
        ("at full speed, from the write's sending, p99", &loaded.after_sending, None),
        ("at 100 writes/s, from the write's answer, p99", &idle.after_answer, budget::FAN_OUT_P99),
        ("at 100 writes/s, from the write's sending, p99", &idle.after_sending, None),
    ] {
        if let Some(value) = delays.milliseconds(0.99) {
            table.add(format!("watch delay {name}"), value, "ms", expected);
        }
    }
    Ok(())
}

struct Round {
    elapsed: Duration,
    after_answer: Latencies,
    after_sending: Latencies,
}

async fn round(context: &Context<'_>, namespace: &str, name: &'static str, limits: Limits) -> Result<Round, Error> {
    let client = &context.cluster.client;
    let call = watch::pods_call(client, namespace).await?;
    let lanes = client.long_lanes(context.options.watchers).await?;
    let (mut counting, mut noting, mut opened) = (JoinSet::new(), JoinSet::new(), Vec::new());
    for (at, lane) in lanes.into_iter().enumerate() {
        let (open, is_open) = oneshot::channel();
        opened.push(is_open);
        if at % NOTING == 0 {
            noting.spawn(watch::note(lane, call.clone(), limits.count, open));
        } else {
            counting.spawn(watch::count(lane, call.clone(), limits.count, open));
        }
    }
    let whole = async {
        for is_open in opened {
            // A watcher that failed says why when it is joined.
            let _failed = is_open.await;
        }
        let (path, pods) = (format!("/api/v1/namespaces/{namespace}/pods"), context.options.pods);
        let start = Instant::now();
        let make =
            move |number| Call::merge_patch(format!("{path}/{}", pod_name(number % pods)), number_patch(name, number));
        let written = drive(client, limits, make).await?;
        let (mut last, mut noted) = (start, Vec::new());
        while let Some(watcher) = noting.join_next().await {
            let events = watcher??;
            last = events.last().map_or(last, |(_, at)| last.max(*at));
            noted.extend(events);
        }
        while let Some(watcher) = counting.join_next().await {
            last = last.max(watcher??);
        }
        Ok(delays(&written.answered, &noted, last - start))
    };
    let bound = limits.time + PATIENCE;
    tokio::time::timeout(bound, whole)
        .await
        .map_err(|_| Error::TimedOut { what: "the watch fan-out".to_owned(), seconds: bound.as_secs() })?
}

/// An event may overtake its write's answer: that is no delay.
fn delays(written: &[Answered], noted: &[(usize, Instant)], elapsed: Duration) -> Round {
    let by_number: HashMap<usize, &Answered> = written.iter().map(|write| (write.number, write)).collect();
    let pairs = || noted.iter().filter_map(|(number, at)| Some((by_number.get(number)?, *at)));
    Round {
        elapsed,
        after_answer: pairs().map(|(write, at)| at.saturating_duration_since(write.done)).collect(),
        after_sending: pairs().map(|(write, at)| at.saturating_duration_since(write.sent)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_count_from_the_answer_and_from_the_sending() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let written =
            [Answered { number: 0, sent: at(0), done: at(4) }, Answered { number: 1, sent: at(5), done: at(9) }];
        let round = delays(&written, &[(0, at(3)), (1, at(11)), (99, at(50))], Duration::from_secs(1));
        assert_eq!([0.5, 1.0].map(|part| round.after_answer.milliseconds(part)), [Some(0.0), Some(2.0)]);
        assert_eq!([0.5, 1.0].map(|part| round.after_sending.milliseconds(part)), [Some(3.0), Some(6.0)]);
    }
}
