//! `coracle store`, `coracle backup` and `coracle restore`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use apiserver::EtcdArgs;
use daemon::LogArgs;
use store::backup::{self, Contents, State};
use store::etcd::EtcdStore;

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
    /// How far the revision is moved on, so that none is given out again that clients have seen since the backup. Not for
    /// etcd, which counts its own.
    #[arg(long, default_value_t = 1_000_000_000, conflicts_with = "etcd_servers")]
    bump_revision: u64,
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
            let contents = match &self.place.data_dir {
                Some(directory) => backup::to_directory(&self.from, directory, self.bump_revision)?,
                None => backup::to_etcd(&self.from, &self.place.connect().await?).await?,
            };
            println!("restored {}", self.from.display());
            print_contents(&contents);
            Ok(())
        })
    }
}

impl Place {
    /// Connects to etcd, and leaves its history alone.
    async fn connect(&self) -> anyhow::Result<EtcdStore> {
        let options = store::etcd::Options { compact_every: None, ..self.etcd.options()? };
        let connected = EtcdStore::connect(options).await;
        connected.with_context(|| format!("connect to etcd at {}", self.etcd.etcd_servers.join(", ")))
    }
}

fn print_contents(contents: &Contents) {
    let Contents { store, revision, oldest, entries, bytes } = contents;
    println!("store {store}: revision {revision} (history from {oldest}), {entries} keys, {bytes} bytes read");
}

fn task(work: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    let quiet = LogArgs { filter: Some("warn".to_owned()), ..LogArgs::default() };
    daemon::task("coracle", &quiet, work)
}
