//! Clients that ask for a long list and do not read it: what that costs the server.

use std::time::Duration;

use crate::client::{Call, Lane};
use crate::idle::{MEBIBYTE, Sample};
use crate::measures::Context;
use crate::options::Measure;
use crate::{Error, budget};

/// The server has had time to send as much as it sends to a client that does not read.
const SETTLED: Duration = Duration::from_secs(3);

/// Fills a namespace, opens lists of it without reading them, and tells by how much the processes have grown.
pub(super) async fn readers(context: &Context<'_>) -> Result<(), Error> {
    let options = context.options;
    if options.pid.is_empty() {
        context.skip("stalled readers skipped: give --pid of the server");
        return Ok(());
    }
    debug_assert!(options.wants(Measure::StalledReaders));
    let namespace = context.cluster.namespace("stalled").await?;
    context.fill(&namespace, options.stalled_objects).await?;
    let resident = || -> Result<u64, Error> {
        options.pid.iter().map(|pid| Sample::take(*pid).map(|sample| sample.resident)).sum()
    };
    let call = Call::get(format!("/api/v1/namespaces/{namespace}/pods?resourceVersion=0"));
    let whole = context.cluster.client.lane().await?.count(&call).await?;
    let before = resident()?;
    let mut held = Vec::new();
    for _ in 0..options.stalled_readers {
        // Each has a connection of its own: what waits for one is not bounded by what waits for others.
        let mut lane: Lane = context.cluster.client.own_lane().await?;
        let answer = lane.open(&call).await?;
        held.push((lane, answer));
    }
    tokio::time::sleep(SETTLED).await;
    let grown = resident()?.saturating_sub(before);
    drop(held);
    let what = format!("{} readers that do not read {} pods", options.stalled_readers, options.stalled_objects);
    let mut table = context.table();
    table.add("one such list", whole as f64 / MEBIBYTE, "MiB", None);
    table.add(format!("memory before {what}"), before as f64 / MEBIBYTE, "MiB RSS", None);
    table.add(format!("memory for {what}"), grown as f64 / MEBIBYTE, "MiB RSS", budget::STALLED_READERS);
    Ok(())
}
