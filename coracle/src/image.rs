//! `coracle image`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use cluster::ImageRequest;
use daemon::LogArgs;

/// Work with the images on this machine.
#[derive(clap::Subcommand)]
pub(crate) enum Image {
    /// Import images from an archive, as `docker save` or as an OCI layout.
    Load {
        /// The archive.
        archive: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// List images.
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Remove an image and all its names.
    Remove {
        /// A name, a digest or an id.
        image: String,
        /// Remove it although containers use it: they go on, and need it again when they start anew.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(clap::Args)]
pub(crate) struct Place {
    /// Where the cluster keeps everything.
    #[arg(long, default_value = "/var/lib/coracle")]
    data_dir: PathBuf,
}

impl Image {
    pub(crate) fn run(self) -> ExitCode {
        let quiet = LogArgs { filter: Some("warn".to_owned()), ..LogArgs::default() };
        daemon::task("coracle", &quiet, async {
            let (request, place) = match self {
                Self::Load { archive, place } => {
                    let path = std::path::absolute(&archive).with_context(|| format!("find {}", archive.display()))?;
                    (ImageRequest::Load(path), place)
                }
                Self::List { place } => (ImageRequest::List, place),
                Self::Remove { image, force, place } => (ImageRequest::Remove { image, force }, place),
            };
            for image in cluster::images(&place.data_dir, request).await? {
                let names = image.tags.iter().chain(&image.digests).cloned().collect::<Vec<_>>().join(" ");
                println!("{}  {:>6.1} MB  {names}", image.id, image.size as f64 / 1e6);
            }
            Ok(())
        })
    }
}
