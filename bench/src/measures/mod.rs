//! The measures that need the API server, in the order in which one leaves what the next needs.

mod lost;
mod openapi;
mod pods;
mod requests;
mod scale;
mod scheduling;
mod services;
mod stalled;
mod timeline;
mod watching;
mod web;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::client::Call;
use crate::cluster::Cluster;
use crate::drive::{Limits, drive};
use crate::objects::idle_pod;
use crate::options::Measure;
use crate::table::Table;
use crate::{Error, Options};

/// What the measures share. The table is behind a lock so that what was measured before an interruption is printed.
#[derive(Debug)]
pub struct Context<'a> {
    pub cluster: &'a Cluster,
    pub options: &'a Options,
    pub table: &'a Mutex<Table>,
}

impl Context<'_> {
    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn skip(&self, note: impl Into<String>) {
        self.table().notes.push(note.into());
    }

    fn wants_one_of(&self, measures: &[Measure]) -> bool {
        measures.iter().any(|measure| self.options.wants(*measure))
    }

    /// Makes idle pods, without measuring.
    async fn fill(&self, namespace: &str, count: usize) -> Result<(), Error> {
        let path = format!("/api/v1/namespaces/{namespace}/pods");
        // 150,000 pods take their time.
        let limits = Limits { time: Duration::from_secs(600), ..Limits::exactly(self.options.in_flight, count) };
        drive(&self.cluster.client, limits, move |number| Call::post(path.clone(), idle_pod(number))).await.map(drop)
    }
}

/// Runs everything that was asked for.
pub async fn run(context: &Context<'_>) -> Result<(), Error> {
    let written = if context.wants_one_of(&[Measure::Creates, Measure::Deletes]) {
        Some(requests::creates(context).await?)
    } else {
        None
    };
    if context.wants_one_of(&[Measure::Gets, Measure::Lists, Measure::Selectors, Measure::Patches, Measure::Watch]) {
        let namespace = context.cluster.namespace("reads").await?;
        context.fill(&namespace, context.options.pods).await?;
        requests::reads(context, &namespace).await?;
        if context.options.wants(Measure::Watch) {
            watching::fan_out(context, &namespace).await?;
        }
    }
    if let Some(written) = written
        && context.options.wants(Measure::Deletes)
    {
        requests::deletes(context, &written).await?;
    }
    if context.options.wants(Measure::Scheduling) {
        scheduling::scheduled(context).await?;
    }
    // Too long for a run that did not ask for it.
    if context.options.only.contains(&Measure::StalledReaders) {
        stalled::readers(context).await?;
    }
    if context.options.only.contains(&Measure::Openapi) {
        openapi::documents(context).await?;
    }
    if context.options.only.contains(&Measure::Services) {
        services::cost(context).await?;
    }
    if context.options.only.contains(&Measure::Rollout) {
        services::rollout(context).await?;
    }
    if context.options.only.contains(&Measure::Scale) {
        scale::grown(context).await?;
    }
    if context.options.wants(Measure::Pods) {
        pods::started(context).await?;
    }
    Ok(())
}
