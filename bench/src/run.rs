//! One run: measures, then removes what it made, whatever happened.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::client::Client;
use crate::cluster::Cluster;
use crate::measures::{self, Context};
use crate::options::{Measure, Protocol};
use crate::table::Table;
use crate::target::Target;
use crate::{Error, Options, cold_start, idle};

/// Runs what was asked for. The table holds what was measured, also when the run failed or was interrupted.
pub async fn run(options: &Options, interrupted: &CancellationToken) -> (Table, Result<(), Error>) {
    let table = Mutex::new(Table::default());
    let result = measure(options, interrupted, &table).await;
    (table.into_inner().unwrap_or_else(PoisonError::into_inner), result)
}

async fn measure(options: &Options, interrupted: &CancellationToken, table: &Mutex<Table>) -> Result<(), Error> {
    let idle_wanted = options.wants(Measure::Idle) && !options.pid.is_empty();
    let window = Duration::from_secs(options.idle_seconds);
    if options.only.contains(&Measure::Idle) && options.pid.is_empty() {
        note(table, "idle skipped: give --pid");
    }
    if options.wants(Measure::ColdStart) {
        match &options.cold_start {
            Some(command) => until(interrupted, cold_start::measure(table, options, command)).await?,
            None if options.only.contains(&Measure::ColdStart) => {
                note(table, "cold start skipped: give --cold-start COMMAND")
            }
            None => {}
        }
    }
    if !options.wants_server() {
        return if idle_wanted {
            until(interrupted, idle::watch(table, &options.pid, window, "now")).await
        } else {
            Ok(())
        };
    }
    let cluster = connect(options, table).await?;
    if idle_wanted {
        until(interrupted, idle::watch(table, &options.pid, window, "before load")).await?;
    }
    let context = Context { cluster: &cluster, options, table };
    let result = until(interrupted, measures::run(&context)).await;
    for left in cluster.clean_up().await {
        note(table, &left);
    }
    result?;
    if idle_wanted {
        until(interrupted, idle::watch(table, &options.pid, window, "after load")).await?;
    }
    Ok(())
}

async fn connect(options: &Options, table: &Mutex<Table>) -> Result<Cluster, Error> {
    let path = options.kubeconfig.as_deref();
    let path = path.ok_or_else(|| Error::NoKubeconfig("which server is to be loaded is never guessed".to_owned()))?;
    let target = Target::from_kubeconfig(path, options.context.as_deref()).await?;
    if !target.is_local() && !options.allow_remote {
        return Err(Error::Remote { host: target.host });
    }
    let address = target.address();
    let cluster = Cluster::new(Client::connect(target, options.http, options.connections).await?);
    let protocol = match options.http {
        Protocol::Http1 => "HTTP/1.1".to_owned(),
        Protocol::Http2 => format!("HTTP/2 over {} connections", options.connections),
    };
    let about = format!("{address}, {}, {protocol}, {} s a measure", cluster.version().await?, options.seconds);
    table.lock().unwrap_or_else(PoisonError::into_inner).about.push(about);
    Ok(cluster)
}

fn note(table: &Mutex<Table>, note: &str) {
    table.lock().unwrap_or_else(PoisonError::into_inner).notes.push(note.to_owned());
}

async fn until<T>(interrupted: &CancellationToken, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::select! {
        done = work => done,
        () = interrupted.cancelled() => Err(Error::Interrupted),
    }
}
