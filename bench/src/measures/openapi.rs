//! OpenAPI documents with many CustomResourceDefinitions: how long clients wait for them, and what they cost in memory.

use std::time::{Duration, Instant};

use crate::client::{Call, Lane};
use crate::definitions::definition;
use crate::drive::{Limits, drive};
use crate::idle::{MEBIBYTE, Sample};
use crate::measures::Context;
use crate::{Error, budget};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const V2_MESSAGE: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
/// The seed of the definitions: every run has the same.
const SEED: u64 = 1;
/// Definitions that are not served by then never will be.
const ESTABLISHED: Duration = Duration::from_secs(300);
/// How long a server has to make what it makes on its own.
const SETTLED: Duration = Duration::from_secs(30);

/// Makes the definitions, reads all documents twice in every form, and tells by how much the processes have grown.
pub(super) async fn documents(context: &Context<'_>) -> Result<(), Error> {
    let (options, client) = (context.options, &context.cluster.client);
    let resident = || -> Result<u64, Error> {
        options.pid.iter().map(|pid| Sample::take(*pid).map(|sample| sample.resident)).sum()
    };
    let before = resident()?;
    context.cluster.expect_definitions();
    let bodies: Vec<_> = (0..options.crds).map(|number| definition(SEED, number, &context.cluster.id).1).collect();
    let written: usize = bodies.iter().map(|body| body.len()).sum();
    let start = Instant::now();
    let limits = Limits { time: ESTABLISHED, ..Limits::exactly(4, options.crds) };
    drive(client, limits, move |number| Call::post(DEFINITIONS, bodies[number].clone())).await?;
    wait_until_served(context, start).await?;
    let served = start.elapsed().as_secs_f64();
    tokio::time::sleep(SETTLED).await;
    let after = resident()?;
    {
        let mut table = context.table();
        table.add("one definition, on average", written as f64 / options.crds as f64 / 1024.0, "KiB JSON", None);
        table.add(format!("{} definitions served", options.crds), served, "s", None);
    }
    let mut reading = Reading { context, lane: client.lane().await? };
    reading.all().await?;
    let read = resident()?;
    if options.pid.is_empty() {
        context.skip("memory for definitions skipped: give --pid of the server");
        return Ok(());
    }
    let each = |now: u64| now.saturating_sub(before) as f64 / MEBIBYTE / options.crds as f64;
    let mut table = context.table();
    table.add("memory for one definition", each(after), "MiB RSS", budget::DEFINITION_MEMORY);
    table.add("the same after all documents were read", each(read), "MiB RSS", None);
    Ok(())
}

async fn wait_until_served(context: &Context<'_>, start: Instant) -> Result<(), Error> {
    loop {
        let index = context.cluster.client.json(&Call::get("/openapi/v3")).await?;
        let groups = index["paths"].as_object().into_iter().flatten();
        let ours = groups.filter(|(place, _)| place.contains(crate::definitions::GROUP)).count();
        // Two definitions share a group, and may share its versions.
        if ours >= context.options.crds.div_ceil(2) {
            return Ok(());
        }
        if start.elapsed() > ESTABLISHED {
            let what = "all definitions are served".to_owned();
            return Err(Error::TimedOut { what, seconds: ESTABLISHED.as_secs() });
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

struct Reading<'a> {
    context: &'a Context<'a>,
    lane: Lane,
}

impl Reading<'_> {
    async fn all(&mut self) -> Result<(), Error> {
        for (when, is_warm) in [("first", false), ("again", true)] {
            let expected = |budget| if is_warm { budget } else { None };
            let index = self.timed(&[Call::get("/openapi/v3")]).await?;
            self.add(format!("index, {when}"), index.0 * 1000.0, "ms", expected(budget::OPENAPI_INDEX));
            let places = self.places().await?;
            let (seconds, bytes) = self.timed(&places).await?;
            let what = format!("{} documents of v3, {when}", places.len());
            self.add(what, seconds, "s", expected(budget::OPENAPI_V3));
            self.add("their size".to_owned(), bytes as f64 / MEBIBYTE, "MiB", None);
            let places: Vec<Call> = places.into_iter().map(Call::compressed).collect();
            let (seconds, bytes) = self.timed(&places).await?;
            self.add(format!("the same, compressed, {when}"), seconds, "s", None);
            self.add("their size".to_owned(), bytes as f64 / MEBIBYTE, "MiB", None);
            let v2 = Call::get("/openapi/v2");
            let forms = [
                ("v2", v2.clone()),
                ("v2, compressed", v2.clone().compressed()),
                ("v2 as a message", v2.accepting(V2_MESSAGE)),
            ];
            for (name, call) in forms {
                let (seconds, bytes) = self.timed(&[call]).await?;
                let budget = if name == "v2" { expected(budget::OPENAPI_V2) } else { None };
                self.add(format!("{name}, {when}"), seconds, "s", budget);
                self.add("its size".to_owned(), bytes as f64 / MEBIBYTE, "MiB", None);
            }
        }
        Ok(())
    }

    fn add(&self, what: String, value: f64, unit: &'static str, expected: Option<budget::Expectation>) {
        self.context.table().add(what, value, unit, expected);
    }

    /// Reads one after another; answers the seconds that takes, and how many bytes come.
    async fn timed(&mut self, calls: &[Call]) -> Result<(f64, u64), Error> {
        let (start, mut bytes) = (Instant::now(), 0);
        for call in calls {
            let late = |_| Error::TimedOut { what: format!("GET {}", call.path), seconds: ESTABLISHED.as_secs() };
            bytes += tokio::time::timeout(ESTABLISHED, self.lane.count(call)).await.map_err(late)??;
        }
        Ok((start.elapsed().as_secs_f64(), bytes))
    }

    /// Where all documents are.
    async fn places(&mut self) -> Result<Vec<Call>, Error> {
        let index = self.context.cluster.client.json(&Call::get("/openapi/v3")).await?;
        let places = index["paths"].as_object().into_iter().flatten();
        Ok(places.filter_map(|(_, place)| place["serverRelativeURL"].as_str()).map(Call::get).collect())
    }
}
