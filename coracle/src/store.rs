//! `coracle store`, `coracle backup` and `coracle restore`.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use apiserver::EtcdArgs;
use daemon::LogArgs;
use store::backup::{self, Contents, EMPTY_WRITES, Raise, State};
use store::etcd::{EtcdStore, Options};

/// How far a revision is moved on where that costs nothing, and where it takes a write each.
const BUMP: u64 = 1_000_000_000;
const BUMP_IN_ETCD: u64 = 10_000;

/// Work with the files of an embedded store.
#[derive(clap::Subcommand)]
pub(crate) enum Store {
    /// Read all of a store and compare it with its checksums; changes nothing.
    Check {
        /// The store's directory: the API server's --data-dir, or the folder `store` in that of `coracle up`.
        directory: PathBuf,
    },
}

/// Write all that a cluster stores to one new file, while it runs or not.
#[derive(clap::Args)]
pub(crate) struct Backup {
    /// The file; it must not exist. It has the cluster's secrets, and only its owner may read it.
    #[arg(long)]
    to: PathBuf,
    /// Of a damaged embedded store, write what comes before the damage, and say what does not: a last resort. Changes
    /// after it are lost.
    #[arg(long, conflicts_with = "etcd_servers")]
    until_damage: bool,
    #[command(flatten)]
    place: Place,
}

/// Make the store of a cluster that does not run of a backup.
#[derive(clap::Args)]
pub(crate) struct Restore {
    /// A file that `coracle backup` wrote, of either kind of store.
    #[arg(long)]
    from: PathBuf,
    /// How far beyond the backup's the revision is moved on, so that none is given out again that clients have seen since
    /// [default: 1000000000; in etcd, where each takes an empty write, 10000].
    #[arg(long)]
    bump_revision: Option<u64>,
    /// How many empty writes may be made to bring etcd's revision there, a thousand or more a second.
    #[arg(long, default_value_t = EMPTY_WRITES, conflicts_with = "data_dir")]
    empty_writes: u64,
    /// Leave etcd's revision as it is: for whoever starts every client of the cluster anew. One that goes on waits for what
    /// comes after the revisions that it has seen, and misses all changes until then.
    #[arg(long, conflicts_with_all = ["data_dir", "empty_writes", "bump_revision"])]
    revisions_may_go_back: bool,
    #[command(flatten)]
    place: Place,
}

/// Which store.
#[derive(clap::Args)]
#[group(required = true, multiple = true, args = ["data_dir", "etcd_servers"])]
pub(crate) struct Place {
    /// Directory of the embedded store: the API server's --data-dir, or the folder `store` in that of `coracle up`.
    #[arg(long, conflicts_with = "etcd_servers")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    etcd: EtcdArgs,
}

impl Store {
    pub(crate) fn run(self) -> ExitCode {
        let Self::Check { directory } = self;
        task(async move {
            expect_store(&directory)?;
            let report = backup::check(&directory)?;
            print_contents(&report.contents);
            match report.state {
                State::Closed => println!("closed: this is all there is"),
                State::InUse => println!("in use: checked what was acknowledged when this began"),
                State::Unclosed { torn: 0 } => {
                    println!("not closed: it was killed or lost power; nothing is broken off")
                }
                State::Unclosed { torn } => println!(
                    "not closed: it was killed or lost power; the next start takes away {torn} bytes of a write that was \
                     broken off"
                ),
            }
            Ok(())
        })
    }
}

impl Backup {
    pub(crate) fn run(self) -> ExitCode {
        task(async move {
            self.place.data_dir.as_deref().map_or(Ok(()), expect_store)?;
            let contents = match &self.place.data_dir {
                Some(directory) if self.until_damage => {
                    let (contents, damage) = backup::of_damaged_directory(directory, &self.to)?;
                    let damage = damage.map_or("nothing is damaged".to_owned(), |damage| format!("left out: {damage}"));
                    eprintln!("coracle: {damage}");
                    contents
                }
                Some(directory) => backup::of_directory(directory, &self.to)?,
                None => backup::of_etcd(&self.place.connect().await?, &self.to).await?,
            };
            println!("wrote {}", self.to.display());
            print_contents(&contents);
            Ok(())
        })
    }
}

impl Restore {
    pub(crate) fn run(self) -> ExitCode {
        task(async move {
            self.place.data_dir.as_deref().map_or(Ok(()), expect_no_cluster)?;
            let contents = match &self.place.data_dir {
                Some(directory) => backup::to_directory(&self.from, directory, self.bump_revision.unwrap_or(BUMP))?,
                None => {
                    let (bump, empty_writes) = (self.bump_revision.unwrap_or(BUMP_IN_ETCD), self.empty_writes);
                    let raise =
                        if self.revisions_may_go_back { Raise::Not } else { Raise::Beyond { bump, empty_writes } };
                    backup::to_etcd(&self.from, &self.place.connect().await?, raise, tell_raising).await?
                }
            };
            println!("restored {}", self.from.display());
            print_contents(&contents);
            Ok(())
        })
    }
}

impl Place {
    /// Connects to etcd, unless a migration says that it has not all, or not the newest.
    async fn connect(&self) -> anyhow::Result<EtcdStore> {
        connect(&self.etcd, EtcdStore::open).await
    }
}

/// Says how far etcd's revision has been brought up.
pub(crate) fn tell_raising(from: u64, to: u64) {
    println!("raising etcd's revision: {from} of {to}");
}

/// The folder of a whole cluster's directory that has its store.
const FOLDER: &str = "store";
const WHICH: &str = "it is the API server's --data-dir, or the folder `store` in that of `coracle up`";

/// Refuses a directory without a store, and says where one is.
pub(crate) fn expect_store(directory: &Path) -> anyhow::Result<()> {
    let at = directory.display();
    let inner = directory.join(FOLDER);
    match backup::has_store(directory) {
        Ok(true) => Ok(()),
        Err(err) if err.kind() == ErrorKind::PermissionDenied => bail!("{at} is another user's: run this with sudo"),
        Err(err) => Err(err).with_context(|| format!("look into {at}")),
        Ok(false) => {
            ensure!(directory.exists(), "there is no directory {at} ({WHICH})");
            ensure!(
                !backup::has_store(&inner).unwrap_or(false),
                "{at} is the directory of a whole cluster: its store is in {}",
                inner.display()
            );
            // What else may be wrong, and what may be done about it, the store knows.
            ensure!(backup::check(directory).is_err_and(|err| !err.is_absent()), "{at} has no store ({WHICH})");
            Ok(())
        }
    }
}

/// Refuses the directory of a whole cluster as one for a store.
pub(crate) fn expect_no_cluster(directory: &Path) -> anyhow::Result<()> {
    let inner = directory.join(FOLDER);
    ensure!(
        !(inner.exists() || directory.join("pki").exists()),
        "{} is the directory of a whole cluster: its store belongs in {}",
        directory.display(),
        inner.display()
    );
    Ok(())
}

/// Connects to etcd in some way, and leaves its history alone.
pub(crate) async fn connect<F>(etcd: &EtcdArgs, connect: impl Fn(Options) -> F) -> anyhow::Result<EtcdStore>
where
    F: Future<Output = Result<EtcdStore, store::Error>>,
{
    let options = Options { compact_every: None, ..etcd.options()? };
    let connected = connect(options).await;
    connected.with_context(|| format!("connect to etcd at {}", etcd.etcd_servers.join(", ")))
}

fn print_contents(contents: &Contents) {
    let Contents { store, revision, oldest, entries, bytes } = contents;
    println!("store {store}: revision {revision} (history from {oldest}), {entries} keys, {bytes} bytes read");
}

/// Runs work on stores, of which only what goes wrong is logged.
pub(crate) fn task(work: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    let quiet = LogArgs { filter: Some("warn".to_owned()), ..LogArgs::default() };
    daemon::task("coracle", &quiet, work)
}

#[cfg(test)]
mod tests {
    use store::embedded::EmbeddedStore;

    use super::*;

    #[test]
    fn a_wrong_directory_is_said_with_the_right_one() {
        let place = tempfile::tempdir().unwrap();
        let whole = place.path().join("cluster");
        let said = |outcome: anyhow::Result<()>| format!("{:#}", outcome.unwrap_err());
        assert!(said(expect_store(&whole)).contains("there is no directory"));
        std::fs::create_dir_all(&whole).unwrap();
        let empty = said(expect_store(&whole));
        assert!(empty.contains("has no store (it is the API server's --data-dir"), "{empty}");
        expect_no_cluster(&whole).unwrap();
        let inner = whole.join(FOLDER);
        drop(EmbeddedStore::open(store::embedded::Options::at(&inner)).unwrap());
        expect_store(&inner).unwrap();
        for outcome in [expect_store(&whole), expect_no_cluster(&whole)] {
            let words = said(outcome);
            assert!(words.contains("whole cluster") && words.contains(inner.to_str().unwrap()), "{words}");
        }
        // The store says this better.
        std::fs::remove_file(inner.join("store.mark")).unwrap();
        expect_store(&inner).unwrap();
    }
}
