//! Runs the controllers that are wanted together (upstream: `cmd/kube-controller-manager/app`).

use client::{Informers, QueueMeters, Recorder};
use daemon::{Process, Supervisor};
use tokio_util::sync::CancellationToken;

use crate::all::choose;
use crate::context::Context;
use crate::descriptor::Start;
use crate::{Config, Error};

/// Runs the enabled controllers until shutdown; with leader election, only while this process leads.
pub async fn run(config: Config, client: kube::Client, process: Process) -> Result<(), Error> {
    for name in choose(&config.controllers)?.missing {
        tracing::warn!("--controllers names {name:?}, which is not there");
    }
    let shutdown = process.shutdown.clone();
    match config.leader_election.clone() {
        None => lead(config, client, process, shutdown).await,
        Some(election) => {
            // A process that stands by does its job: it is ready.
            process.ready.set();
            let candidate = election.stand(client);
            let client = candidate.client();
            candidate.run(shutdown, |stop| lead(config, client, process, stop)).await?.unwrap_or(Ok(()))
        }
    }
}

async fn lead(config: Config, client: kube::Client, process: Process, stop: CancellationToken) -> Result<(), Error> {
    let informers = Informers::new(client.clone());
    let recorder = Recorder::new(client.clone(), "controller-manager");
    let metrics = process.metrics.clone();
    let queues = QueueMeters::new(&metrics);
    let context = Context { client, informers: informers.clone(), recorder: recorder.clone(), metrics, queues };
    let mut tasks = Supervisor::new(stop);
    let mut start = Start { config: &config, context: &context, tasks: &mut tasks };
    for controller in choose(&config.controllers)?.controllers {
        (controller.start)(&mut start)?;
    }
    let driven = informers.clone();
    tasks.add("informers", move |shutdown| async move { driven.run(shutdown).await });
    tasks.add("events", move |shutdown| async move {
        recorder.run(shutdown).await;
        Ok::<(), Error>(())
    });
    let ready = process.ready.clone();
    tasks.add("readiness", move |shutdown| async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = informers.synced() => {
                ready.set();
                shutdown.cancelled().await;
            }
        }
        Ok::<(), Error>(())
    });
    tasks.run().await.map_err(|err| Error::Stopped(err.into()))
}
