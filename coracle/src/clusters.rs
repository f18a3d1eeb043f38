//! `coracle ls`, `coracle stop` and `coracle delete`.

use std::path::PathBuf;
use std::process::ExitCode;

use api::table::human_duration;
use cluster::{ClusterName, Listed, RECORDS, State};
use daemon::LogArgs;

/// Show the clusters of this machine.
#[derive(clap::Args)]
pub(crate) struct Ls {
    #[command(flatten)]
    records: Records,
}

/// Stop a cluster of this machine, and wait until it has ended.
#[derive(clap::Args)]
pub(crate) struct Stop {
    /// Its name, as `coracle ls` shows it.
    name: ClusterName,
    #[command(flatten)]
    records: Records,
}

/// Remove a cluster of this machine with all that it keeps.
#[derive(clap::Args)]
pub(crate) struct Delete {
    /// Its name, as `coracle ls` shows it.
    name: ClusterName,
    /// Stop it first, if it runs.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    records: Records,
}

#[derive(clap::Args)]
struct Records {
    /// Where records of this machine's clusters are.
    #[arg(long, hide = true, default_value = RECORDS)]
    records: PathBuf,
}

impl Ls {
    pub(crate) fn run(self) -> ExitCode {
        task(async move {
            let listed = cluster::list(&self.records.records)?;
            print!("{}", table(&listed));
            Ok(())
        })
    }
}

impl Stop {
    pub(crate) fn run(self) -> ExitCode {
        task(async move { cluster::stop(&self.records.records, &self.name).await })
    }
}

impl Delete {
    pub(crate) fn run(self) -> ExitCode {
        task(
            async move { cluster::delete(&self.records.records, &self.name, self.force, |line| println!("{line}")).await },
        )
    }
}

/// In columns as kubectl has them.
fn table(listed: &[Listed]) -> String {
    if listed.is_empty() {
        return "no clusters: `coracle up` makes one\n".to_owned();
    }
    let heads = ["NAME", "STATE", "SERVER", "NODE", "AGE", "DATA"].map(str::to_owned);
    let rows: Vec<[String; 6]> = std::iter::once(heads).chain(listed.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..6).map(width).collect();
    let line = |row: &[String; 6]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("   ").trim_end())
    };
    rows.iter().map(line).collect()
}

fn row(listed: &Listed) -> [String; 6] {
    let name = listed.name.to_string();
    match &listed.about {
        Err(err) => [name, "Unknown".into(), "-".into(), "-".into(), "-".into(), err.clone()],
        Ok(about) => {
            let state = match about.state {
                State::Running => "Running",
                State::Stopped => "Stopped",
                State::Lost => "Lost",
            };
            let age = human_duration(i64::try_from(about.age.as_secs()).unwrap_or(i64::MAX));
            let data = about.data_directory.display().to_string();
            [name, state.to_owned(), about.server.clone(), about.node_address.clone(), age, data]
        }
    }
}

fn task(work: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    daemon::task("coracle", &LogArgs { filter: Some("warn".to_owned()), ..LogArgs::default() }, work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let damaged = Listed { name: "torn".parse().unwrap(), about: Err("read /x: EOF".into()) };
        assert_eq!(
            table(&[damaged]),
            "NAME   STATE     SERVER   NODE   AGE   DATA\ntorn   Unknown   -        -      -     read /x: EOF\n"
        );
        assert!(table(&[]).contains("coracle up"));
    }
}
