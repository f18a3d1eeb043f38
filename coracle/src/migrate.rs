//! `coracle migrate`.

use std::path::PathBuf;
use std::process::ExitCode;

use apiserver::EtcdArgs;
use store::backup::EMPTY_WRITES;
use store::etcd::EtcdStore;
use store::migration::{self, Moved, PATIENCE, Step};

use crate::store::{connect, expect_no_cluster, expect_store, task, tell_raising};

/// Move all that a cluster stores from an embedded store to etcd, or back, once no API server uses either.
///
/// Clients see it as one reconnection: resource versions only grow, and watches from before begin anew. The source stays as
/// it was, and is not served any more. What is broken off begins anew when it is run again.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Migrate {
    /// Directory of the embedded store that everything is moved from: the API server's --data-dir, or the folder `store` in
    /// that of `coracle up`.
    #[arg(long, required_unless_present = "from_etcd_servers", requires = "to_etcd_servers")]
    from: Option<PathBuf>,
    /// etcd endpoints that everything is moved from, separated by commas.
    #[arg(long, value_delimiter = ',', conflicts_with_all = ["from", "to_etcd_servers"], requires = "to")]
    from_etcd_servers: Vec<String>,
    /// Directory of the embedded store that everything is moved to; it must have none.
    #[arg(long, conflicts_with_all = ["from", "to_etcd_servers"])]
    to: Option<PathBuf>,
    /// etcd endpoints that everything is moved to, separated by commas; nothing may be below /registry there.
    #[arg(long, value_delimiter = ',')]
    to_etcd_servers: Vec<String>,
    /// CA of the etcd endpoints.
    #[arg(long)]
    etcd_cafile: Option<PathBuf>,
    /// Client certificate for etcd.
    #[arg(long)]
    etcd_certfile: Option<PathBuf>,
    /// Key of the client certificate for etcd.
    #[arg(long)]
    etcd_keyfile: Option<PathBuf>,
    /// How many empty writes may be made to bring etcd's revision to the embedded store's, a thousand or more a second.
    #[arg(long, default_value_t = EMPTY_WRITES, conflicts_with = "from_etcd_servers")]
    empty_writes: u64,
}

impl Migrate {
    pub(crate) fn run(self) -> ExitCode {
        task(async move {
            self.from.as_deref().map_or(Ok(()), expect_store)?;
            self.to.as_deref().map_or(Ok(()), expect_no_cluster)?;
            let etcd = self.etcd();
            let name = etcd.etcd_servers.join(",");
            let store = connect(&etcd, EtcdStore::connect).await?;
            let place = migration::Place { store: &store, name: &name, patience: PATIENCE };
            let moved = match (&self.from, &self.to) {
                (Some(from), _) => migration::to_etcd(from, &place, self.empty_writes, tell).await?,
                (None, Some(to)) => migration::to_directory(&place, to, tell).await?,
                (None, None) => anyhow::bail!("give --to"),
            };
            let Moved { entries, bytes, checksum, revisions: (from, to) } = moved;
            println!("moved {entries} keys, {bytes} bytes, checksum {checksum:08x} on both sides");
            println!("the source was at revision {from}, and it goes on at {to}");
            match &self.to {
                Some(to) => println!("start on {}, without --etcd-servers", to.display()),
                None => {
                    println!("start with --etcd-servers {name}, and the keys and certificates that the cluster had")
                }
            }
            Ok(())
        })
    }

    fn etcd(&self) -> EtcdArgs {
        EtcdArgs {
            etcd_servers: [self.from_etcd_servers.as_slice(), &self.to_etcd_servers].concat(),
            etcd_cafile: self.etcd_cafile.clone(),
            etcd_certfile: self.etcd_certfile.clone(),
            etcd_keyfile: self.etcd_keyfile.clone(),
        }
    }
}

fn tell(step: Step) {
    match step {
        Step::WaitingForServers => println!("waiting until no API server is in etcd any more"),
        Step::BeginningAnew => println!("removing what a migration that was broken off has left"),
        Step::Raising { from, to } => tell_raising(from, to),
        Step::Writing { entries } => println!("writing {entries} keys"),
        Step::Comparing => println!("comparing both sides"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        migrate: Migrate,
    }

    #[test]
    fn one_side_is_a_directory_and_the_other_etcd() {
        let parse = |flags: &[&str]| Line::try_parse_from(["migrate"].iter().chain(flags)).map(|line| line.migrate);
        let out = parse(&["--from=d", "--to-etcd-servers=http://a,http://b"]).unwrap();
        assert_eq!((out.etcd().etcd_servers.len(), out.empty_writes), (2, EMPTY_WRITES));
        let back = parse(&["--from-etcd-servers=http://a", "--to=d"]).unwrap();
        assert_eq!(back.etcd().etcd_servers, ["http://a"]);
        for wrong in [
            &[][..],
            &["--from=d"],
            &["--to=d"],
            &["--from=d", "--to=e"],
            &["--from-etcd-servers=http://a"],
            &["--to-etcd-servers=http://a"],
            &["--from-etcd-servers=http://a", "--to-etcd-servers=http://b"],
            &["--from=d", "--from-etcd-servers=http://a", "--to=e"],
            &["--from=d", "--to=e", "--to-etcd-servers=http://a"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
