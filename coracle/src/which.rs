//! Which cluster of this machine is meant.

use std::path::PathBuf;

use cluster::{ClusterName, RECORDS};

/// A cluster by its name or its directory; the one without a name where neither is given.
#[derive(clap::Args)]
pub(crate) struct Which {
    /// Name of the cluster, as `coracle ls` shows it.
    #[arg(long, conflicts_with = "data_dir")]
    name: Option<ClusterName>,
    /// Where the cluster keeps everything [default: /var/lib/coracle].
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Where records of this machine's clusters are.
    #[arg(long, hide = true, default_value = RECORDS)]
    records: PathBuf,
}

impl Which {
    /// Where it keeps everything.
    pub(crate) fn data_dir(&self) -> anyhow::Result<PathBuf> {
        match (&self.data_dir, &self.name) {
            (Some(directory), _) => Ok(directory.clone()),
            (None, Some(name)) => cluster::data_dir_of(&self.records, name),
            (None, None) => Ok(ClusterName::default().data_dir()),
        }
    }
}
